//! Runs in steps of a job in which highwater can create no cgroup.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use highwater::model::observation::{Exactness, Observation, Outcome, Peak};
use highwater::store;

use super::Bench;

const MIB: u64 = 1 << 20;

/// Makes the cgroups of the job read-only: on cgroup v1 they are the user's, who could create others below them.
const BEFORE: &str = r#"#!/bin/bash
cgroup=/sys/fs/cgroup/memory$(sed -n 's/.*:memory://p' /proc/self/cgroup)
while [ -O "$cgroup" ]; do chmod a-w "$cgroup"; cgroup=${cgroup%/*}; done
trap 'touch over' EXIT
"#;

/// Runs a script in a job, and waits for its end.
fn in_job(bench: &Bench, options: &[&str], script: &str) {
    submit(bench, options, script);
    wait_for(bench, "over");
    fs::remove_file(bench.path("over")).unwrap();
}

/// Waits for a file that the job makes.
fn wait_for(bench: &Bench, name: &str) {
    let since = Instant::now();
    while !bench.path(name).exists() {
        assert!(since.elapsed() < Duration::from_secs(300), "the job does not make {name}: {}", bench.read("log"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Submits a script as a job, and returns its ID.
fn submit(bench: &Bench, options: &[&str], script: &str) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_highwater")).parent().unwrap().display();
    bench.write("job", &format!("{BEFORE}PATH={programs}:$PATH\n{script}"));
    let words = [options, &["--parsable", "--output=log", "job"]].concat();
    let output = bench.command(Path::new("sbatch"), &words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Bench {
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The records of the job in `runs.jsonl`.
    fn runs(&self) -> Vec<Observation> {
        store::read(&self.path("runs.jsonl"))
            .unwrap_or_else(|error| panic!("{error}: {}", self.read("log")))
            .observations
    }
}

fn peak(run: &Observation) -> &Peak {
    run.peak.as_ref().value().unwrap_or_else(|| panic!("{run:?}"))
}

#[track_caller]
fn assert_exact_in_a_step(run: &Observation, mib: u64) {
    let peak = peak(run);
    let file = peak.file.as_ref().unwrap().to_str().unwrap();
    assert!(matches!(peak.exactness, Exactness::Exact { .. }), "{peak:?}");
    assert!(file.contains(&format!("/job_{}/step_", run.batch.as_ref().unwrap().job)), "{file}");
    assert!(!file.contains("batch") && !file.contains("highwater"), "{file}");
    assert!((mib * MIB..(mib + 20) * MIB).contains(&peak.bytes.0), "{peak:?}");
}

/// This test and the next also run on cgroup v2, with and without systemd. With it, the user has a running manager, which
/// must not be asked for a cgroup outside of the job.
#[test]
fn a_run_is_exact_and_its_input_output_environment_and_status_are_its_own() {
    let bench = cluster_or_skip!();
    let script = r#"
export XDG_RUNTIME_DIR=/run/user/$(id -u) GREETING='good morning'
mkdir below
printf 'from stdin' | highwater run --record runs.jsonl -q -- sh -c '
  cat; echo "; $GREETING; ${SLURM_STEP_ID-no step}; $(basename $(pwd))"; echo oops >&2
  python3 -c "bytearray(100 << 20)"; sleep 100 & exit 7' > out 2> err
echo $? > status
"#;
    in_job(&bench, &["--mem=400M"], script);
    let run = &bench.runs()[0];
    assert_exact_in_a_step(run, 100);
    let directory = bench.path("").file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(bench.read("out"), format!("from stdin; good morning; no step; {directory}\n"));
    assert_eq!((bench.read("err").as_str(), bench.read("status").trim()), ("oops\n", "7"));
    assert_eq!(run.leftover_processes.value(), Some(1));
    assert_eq!(run.limit.effective.value().flatten().map(|limit| limit.0), Some(400 * MIB));
}

#[test]
fn a_run_is_held_to_the_memory_of_its_job_and_ended_by_scancel() {
    let bench = cluster_or_skip!();
    let script = r#"
export XDG_RUNTIME_DIR=/run/user/$(id -u)
highwater run --record runs.jsonl -q -- python3 -c 'bytearray(600 << 20)'
exec highwater run --record runs.jsonl -q -- sh -c 'touch begun; sleep 4713 & wait'
"#;
    let job = submit(&bench, &["--mem=300M"], script);
    wait_for(&bench, "begun");
    let output = bench.command(Path::new("scancel"), &[&job]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left = |program: &str, words: &[&str]| bench.command(Path::new(program), words).output().unwrap().stdout;
    let since = Instant::now();
    loop {
        let left = [left("squeue", &["--noheader", "--jobs", &job]), left("pgrep", &["-f", "^sleep 4713"])].concat();
        if left.is_empty() {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(100), "left: {}", String::from_utf8_lossy(&left));
        std::thread::sleep(Duration::from_millis(50));
    }
    let runs = bench.runs();
    let outcomes: Vec<_> = runs.iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, [Outcome::OomKilled, Outcome::Interrupted { signal: 15 }], "{}", bench.read("log"));
    assert!(runs[0].censored, "{:?}", runs[0]);
    assert!((250 * MIB..=300 * MIB).contains(&peak(&runs[0]).bytes.0), "{:?}", runs[0]);
}

#[test]
fn runs_at_once_have_steps_of_their_own_and_one_that_exceeds_the_memory_of_the_job_is_killed_alone() {
    let bench = cluster_or_skip!();
    let script = r#"
highwater sweep --into lungs --jobs 2 -P MIB=50,100,600 -- python3 -c 'bytearray({MIB} << 20)'
echo $? > status
"#;
    in_job(&bench, &["--mem=300M"], script);
    let mut runs = bench.records();
    runs.sort_by_key(|run| run.sweep.as_ref().unwrap().parameters["MIB"].parse::<u64>().unwrap());
    assert_eq!(runs.len(), 3, "{}", bench.read("log"));
    assert_exact_in_a_step(&runs[0], 50);
    assert_exact_in_a_step(&runs[1], 100);
    assert_ne!(peak(&runs[0]).file, peak(&runs[1]).file);
    assert_eq!((runs[2].outcome, runs[2].censored), (Outcome::OomKilled, true), "{:?}", runs[2]);
}

#[test]
fn a_step_is_ended_by_a_time_out_and_with_highwater() {
    let bench = cluster_or_skip!();
    let script = r#"
highwater run --record runs.jsonl --timeout 1s --kill-after 200ms -- sh -c 'trap "echo term" TERM; sleep 4711 & wait; wait' > out
highwater run -- sleep 4712 &
until pgrep -f '^sleep 4712' > /dev/null; do sleep 0.05; done
kill -9 $!
for i in $(seq 100); do
  { pgrep -f '^sleep 471'; squeue --steps --noheader --job $SLURM_JOB_ID | grep -v batch; } > left || break
  sleep 0.1
done
"#;
    in_job(&bench, &[], script);
    let outcomes: Vec<_> = bench.runs().iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, [Outcome::TimedOut { after_us: 1_000_000 }], "{}", bench.read("log"));
    assert_eq!((bench.read("out").as_str(), bench.read("left").as_str()), ("term\n", ""));
}

#[test]
fn without_a_step_the_record_has_bounds_and_the_reason() {
    let bench = cluster_or_skip!();
    bench.write("srun", "#!/bin/sh\necho 'srun: error: Unable to create step for job 7: no steps today' >&2\nexit 1\n");
    let script = "PATH=.:$PATH highwater run --record runs.jsonl -- sleep 0.5\nhighwater run -q -- ./missing 2> err";
    in_job(&bench, &[], script);
    let Exactness::LowerBound { reason, remedy } = peak(&bench.runs()[0]).exactness.clone() else {
        panic!("{:?}", bench.runs())
    };
    let expected = "no step of the job can be started: srun failed: Unable to create step for job 7: no steps today";
    assert!(reason.contains(expected) && remedy.contains("srun --overlap true"), "{reason}; {remedy}");
    assert!(bench.read("err").contains("failed to start `./missing`: no such program"), "{}", bench.read("err"));
}

#[test]
fn doctor_says_that_runs_are_steps() {
    let bench = cluster_or_skip!();
    in_job(
        &bench,
        &[],
        "highwater doctor > out; echo $? > status; squeue --steps --noheader --job $SLURM_JOB_ID > steps",
    );
    assert!(bench.read("out").contains("a step of the Slurm job per run"), "{}", bench.read("out"));
    assert_eq!((bench.read("status").trim(), bench.read("steps").lines().count()), ("0", 1), "{}", bench.read("steps"));
}
