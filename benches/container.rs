//! What measuring a container costs: `highwater run` beside the engine's own create, start, wait and remove by raw
//! calls, and beside `docker run --rm`. The three take turns, so that a machine whose speed changes treats them alike.
//!
//! To be run with an engine: `tests/engine/run cargo bench --bench container`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run says why and ends")]
#![expect(clippy::print_stdout, reason = "the result of a benchmark goes to stdout")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptions, StartContainerOptions, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 60;
const IMAGE: &str = "tiny";
const COMMAND: [&str; 3] = ["/task", "exit", "0"];

fn main() {
    if std::env::var_os("HIGHWATER_TEST_ENGINE").is_none() {
        println!("skipped: no engine (use tests/engine/run)");
        return;
    }
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let docker = runtime.block_on(async {
        let docker = Docker::connect_with_defaults().expect("an engine");
        docker.negotiate_version().await.expect("an engine that answers")
    });
    let program =
        std::env::var("HIGHWATER_TEST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_highwater").to_owned());
    let own = ["run", "--quiet", "--network", "none", "--image", IMAGE, "--"];
    let theirs = ["run", "--rm", "--network", "none", IMAGE];
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..=ROUNDS {
        let taken =
            [timed(|| raw(&runtime, &docker)), timed(|| quiet(&program, &own)), timed(|| quiet("docker", &theirs))];
        // The first round fills the caches.
        if round > 0 {
            times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
        }
    }
    let names = ["raw calls", "highwater run", "docker run --rm"];
    let medians = times.map(median);
    for (name, median) in names.iter().zip(medians) {
        let relative = median.as_secs_f64() / medians[0].as_secs_f64();
        println!("{name:<16} median of {ROUNDS}: {:>6.1} ms   {relative:.3} of raw calls", median.as_secs_f64() * 1e3);
    }
}

fn timed(run: impl FnOnce()) -> Duration {
    let started = Instant::now();
    run();
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn quiet(program: &str, words: &[&str]) {
    let status = Command::new(program)
        .args(words)
        .args(COMMAND)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the program starts");
    assert!(status.success(), "{program}: {status}");
}

fn raw(runtime: &Runtime, docker: &Docker) {
    runtime.block_on(async {
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            cmd: Some(COMMAND.map(str::to_owned).to_vec()),
            host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let id = docker.create_container(None::<CreateContainerOptions>, body).await.expect("created").id;
        docker.start_container(&id, None::<StartContainerOptions>).await.expect("started");
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        docker.wait_container(&id, Some(options)).next().await.expect("an answer").expect("ended well");
        docker.remove_container(&id, None::<RemoveContainerOptions>).await.expect("removed");
    });
}
