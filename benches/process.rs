//! What measuring costs: a run in a cgroup of its own beside a bare spawn, the whole program beside `time -v`, and
//! the CPU time of watching.
//!
//! Runs are 50 ms apart: in a tight loop the kernel's grace periods, which a single run pays for, are hidden.
//! Compare within one run of this benchmark only: `just bench-process`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run says why and ends")]

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use highwater::calibrate::monitor::{WatchOptions, watch};
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::runner::Runner;
use highwater::runner::patience::Patience;
use highwater::runner::process::{Launch, Output, ProcessRunner, Stdin};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const APART: Duration = Duration::from_millis(50);

/// The time of `run` alone, with a pause before each.
fn apart(count: u64, mut run: impl FnMut()) -> Duration {
    (0..count)
        .map(|_| {
            sleep(APART);
            let started = Instant::now();
            run();
            started.elapsed()
        })
        .sum()
}

fn runner(command: &[&str]) -> ProcessRunner {
    let machine = Machine::read(HostRoots::default()).expect("this machine can be read");
    let mut launch = Launch::new(command.iter().copied());
    launch.stdin = Stdin::Null;
    launch.stdout = Output::Null;
    launch.stderr = Output::Null;
    ProcessRunner::new(&machine, launch).only_in_cgroup()
}

fn measured(runner: &mut ProcessRunner) {
    let mut patience = Patience::new(None);
    let mut run = runner.start(&mut patience).expect("the task starts");
    watch(&mut *run, &WatchOptions::default(), &mut patience, &mut ()).expect("the task is watched");
    black_box(run.finish(&mut patience).expect("the task is finished"));
}

/// The program: the one that `HIGHWATER` names, such as the static one that `just release` makes, or that of this build.
fn program() -> String {
    std::env::var("HIGHWATER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_highwater").to_owned())
}

fn quiet(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the program starts");
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// A run in a cgroup, its exact peak and the removal, beside a bare spawn.
fn one_run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one run of true");
    group.bench_function("bare spawn", |bencher| {
        bencher.iter_custom(|count| apart(count, || quiet("true", &[])));
    });
    let mut alone = runner(&["true"]);
    group.bench_function("own cgroup and exact peak", |bencher| {
        bencher.iter_custom(|count| apart(count, || measured(&mut alone)));
    });
    // One after the other, so that both meet the same machine.
    group.bench_function("own cgroup and exact peak, less a bare spawn", |bencher| {
        bencher.iter_custom(|count| {
            let spawned = || quiet("true", &[]);
            (0..count).fold(Duration::ZERO, |sum, _| {
                let bare = apart(1, spawned);
                (sum + apart(1, || measured(&mut alone))).saturating_sub(bare)
            })
        });
    });
    // As under `--jobs 2`: the other run does nothing, but is there.
    let mut other = runner(&["sleep", "600"]);
    let beside = other.start(&mut Patience::new(None)).expect("the task starts");
    group.bench_function("the same beside another run", |bencher| {
        bencher.iter_custom(|count| apart(count, || measured(&mut alone)));
    });
    drop(beside);
    group.finish();
}

/// The whole program beside the one people use today.
fn whole_program(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("whole program with true");
    let highwater = program();
    group.bench_function("highwater run", |bencher| {
        bencher.iter_custom(|count| apart(count, || quiet(&highwater, &["run", "--", "true"])));
    });
    group.bench_function("time -v", |bencher| {
        bencher.iter_custom(|count| apart(count, || quiet("/usr/bin/time", &["-v", "true"])));
    });
    group.finish();
}

/// CPU time of ours for each second of a run: 1 ms is 0.1 % of a core.
fn watching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("CPU time of watching 1 s");
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("usage is known");
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    // The least that anything costs which wakes up 25 times a second and reads one number.
    group.bench_function("bare polling at 25 Hz", |bencher| {
        let file = std::fs::File::open("/proc/self/stat").expect("there is a file to read");
        bencher.iter_custom(|count| {
            let before = used();
            for _ in 0..count * 25 {
                sleep(Duration::from_millis(40));
                black_box(file.read_at(&mut [0; 64], 0).expect("it can be read"));
            }
            used() - before
        });
    });
    let mut runner = runner(&["sleep", "10"]);
    group.bench_function("default interval, in a run of 10 s", |bencher| {
        bencher.iter_custom(|count| {
            let before = used();
            for _ in 0..count {
                measured(&mut runner);
            }
            (used() - before) / 10
        });
    });
    group.finish();
}

/// The CPU time and wall time of a child that does nothing but compute, alone and watched on the same CPU.
fn watched_child(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("busy child on the same CPU");
    let highwater = program();
    let busy = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
    group.bench_function("alone", |bencher| {
        bencher.iter_custom(|count| apart(count, || quiet("taskset", &["-c", "0", "sh", "-c", busy])));
    });
    group.bench_function("watched", |bencher| {
        bencher.iter_custom(|count| {
            apart(count, || quiet("taskset", &["-c", "0", &highwater, "run", "-q", "--", "sh", "-c", busy]))
        });
    });
    group.finish();
}

criterion_group! {
    name = short;
    config = Criterion::default().sample_size(40).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    targets = one_run, whole_program
}
criterion_group! {
    name = long;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(10));
    targets = watching, watched_child
}
criterion_main!(short, long);
