//! Sweeps that are ended early.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use highwater::model::observation::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Bench, runs};

/// How long something may take that happens "after a moment".
const A_MOMENT: Duration = Duration::from_secs(20);

/// Processes whose command line contains the directory.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(folder)).collect()
}

#[test]
fn killed_at_any_moment_every_run_is_recorded_once_in_the_end() {
    let bench = Bench::with_items(4, 1000);
    let marker = format!("sleep 0.02; : {}", bench.path().display());
    let words = [
        "--input", "scans", "--items", "1,2,3,4", "-r", "10", "--into", "r", "--quiet", "--", "sh", "-c", &marker,
        "{input}",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    let mut made = Vec::new();
    let mut longest = 160;
    for _ in 0..20 {
        let mut sweep = bench.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The moment of the kill is what varies.
        std::thread::sleep(Duration::from_millis(random.u64(10..longest)));
        sweep.kill().unwrap();
        sweep.wait().unwrap();
        made.push(fs::read_to_string(bench.path().join("r/observations.jsonl")).map_or(0, |text| text.lines().count()));
        // A busy machine takes longer to start the first run.
        if made.last() == Some(&0) {
            longest += 40;
        }
    }
    assert!(made.last() > Some(&0), "nothing was ever recorded: {made:?}");
    assert!(made.windows(2).all(|pair| pair[0] <= pair[1] + 1), "records were lost: {made:?}");
    bench.done(&words);
    let records = bench.records("r");
    assert_eq!((records.len(), runs(&records).len()), (40, 40), "{made:?}");
    assert!(records.iter().all(|run| run.outcome.succeeded()));
    assert!(!bench.path().join("r/staging").exists());
    let started = Instant::now();
    while !processes_of(bench.path()).is_empty() && started.elapsed() < A_MOMENT {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(processes_of(bench.path()), Vec::<String>::new());
    // Killed sweeps leave no more behind than one that ends cleanly.
    assert_eq!(fs::read_to_string(bench.path().join("scans/p01/ct.raw")).unwrap().len(), 1000);
}

/// A sweep whose task has created the file `ready`.
fn started(bench: &Bench, words: &[&str]) -> Child {
    let sweep = bench.command(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !bench.path().join("ready").exists() {
        assert!(started.elapsed() < A_MOMENT, "the task did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    sweep
}

/// The output of a sweep that is interrupted by Ctrl-C while its task runs.
fn interrupted(bench: &Bench, words: &[&str]) -> String {
    let sweep = started(bench, words);
    kill(Pid::from_raw(i32::try_from(sweep.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = sweep.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    said
}

#[test]
fn an_interrupted_run_is_recorded_and_made_again() {
    let bench = Bench::new();
    let script = "if [ -e go ]; then exit 0; fi; touch ready; sleep 60";
    let words = ["-r", "3", "--into", "r", "--", "sh", "-c", script];
    let said = interrupted(&bench, &words);
    assert!(said.contains("3 runs are left"), "{said}");
    let records = bench.records("r");
    assert_eq!(records.len(), 1);
    assert!(matches!(records[0].outcome, Outcome::Interrupted { signal: 2 }), "{:?}", records[0].outcome);
    fs::write(bench.path().join("go"), "").unwrap();
    bench.done(&["--into", "r"]);
    let records = bench.records("r");
    assert_eq!((records.len(), runs(&records).len()), (4, 3), "the interrupted one was made again");
}

#[test]
fn an_interrupted_sweep_still_says_that_the_input_changed() {
    let bench = Bench::with_items(1, 1000);
    let script = "echo >> $0/p01/ct.raw; touch ready; sleep 60";
    let words = ["--input", "scans", "--input-access", "watched", "--into", "r", "--", "sh", "-c", script, "{input}"];
    let said = interrupted(&bench, &words);
    assert!(said.contains("the input changed during the run"), "{said}");
}

#[test]
fn a_folder_is_written_by_one_process_at_a_time() {
    let bench = Bench::new();
    let words = ["--into", "r", "--", "sh", "-c", "touch ready; while [ ! -e go ]; do sleep 0.01; done"];
    let first = started(&bench, &words);
    let second = bench.sweep(&words);
    fs::write(bench.path().join("go"), "").unwrap();
    assert_eq!(second.status, Some(3));
    assert!(second.stderr.contains(&format!("in use by process {}", first.id())), "{}", second.stderr);
    assert!(first.wait_with_output().unwrap().status.success());
}

#[test]
fn what_failed_is_made_again_when_that_is_asked_for() {
    let bench = Bench::new();
    let words = ["-r", "2", "--into", "r", "--", "sh", "-c", "test -e fine"];
    assert_eq!(bench.sweep(&words).status, Some(4));
    fs::write(bench.path().join("fine"), "").unwrap();
    assert_eq!(bench.sweep(&words).status, Some(0), "a failure is a record too");
    assert_eq!(bench.records("r").len(), 2);
    bench.done(&["--into", "r", "--retry", "failed"]);
    let records = bench.records("r");
    assert_eq!(records.iter().filter(|run| run.outcome.succeeded()).count(), 2);
    let logs: Vec<_> = fs::read_dir(bench.path().join("r/runs")).unwrap().collect();
    assert!(logs.is_empty(), "there was no output to be kept");
}

#[test]
fn nothing_of_the_task_goes_to_stdout_and_its_output_is_kept() {
    let bench = Bench::new();
    let ran = bench.done(&["--into", "r", "--format", "jsonl", "--", "sh", "-c", "echo out; echo err >&2"]);
    let record: highwater::model::observation::Observation = serde_json::from_str(ran.stdout.trim_end()).unwrap();
    assert!(record.sweep.is_some());
    let logs = bench.records("r").remove(0).logs.unwrap();
    let read = |path: &Path| fs::read_to_string(bench.path().join("r").join(path)).unwrap();
    assert!(logs.stdout.is_relative(), "{logs:?}");
    assert_eq!((read(&logs.stdout).as_str(), read(&logs.stderr).as_str()), ("out\n", "err\n"));
}
