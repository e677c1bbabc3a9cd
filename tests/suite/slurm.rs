//! Sweeps on Slurm: on the cluster started by `tests/slurm/run`, and on a fake one for what a cluster of one node does not
//! show. Without the cluster, tests that need it are skipped with a message.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::observation::{CgroupVersion, Exactness, Observation, Outcome};
use highwater::store;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sweep::Ran;

mod fake;

/// A directory on the cluster; skips the test if there is none.
macro_rules! cluster_or_skip {
    () => {
        match std::env::var_os("HIGHWATER_TEST_SLURM") {
            Some(folder) => Bench::below(Path::new(&folder)),
            None => return crate::harness::skip("there is no Slurm (use tests/slurm/run)"),
        }
    };
}

mod production;
mod step;

/// A directory to sweep in, with four items in `scans`.
struct Bench {
    folder: tempfile::TempDir,
    /// A directory with commands of Slurm that come first.
    commands: Option<PathBuf>,
}

impl Bench {
    fn below(folder: &Path) -> Self {
        let folder = tempfile::tempdir_in(folder).unwrap();
        for item in 1..=4 {
            let path = folder.path().join(format!("scans/p{item}"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("ct.raw"), vec![7; 100_000]).unwrap();
        }
        Self { folder, commands: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).args(words).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(commands) = &self.commands {
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", commands.display())).env("FAKE", commands);
        }
        command
    }

    fn start(&self, words: &[&str]) -> Child {
        let words = [&["sweep", "--into", "lungs", "--patience", "2s"], words].concat();
        self.command(Path::new(env!("CARGO_BIN_EXE_highwater")), &words).spawn().unwrap()
    }

    fn sweep(&self, words: &[&str]) -> Ran {
        Ran::of(&self.start(words).wait_with_output().unwrap())
    }

    fn records(&self) -> Vec<Observation> {
        let records = store::read(&self.path("lungs")).unwrap();
        assert_eq!(records.unusable, []);
        records.observations
    }

    /// How often each run of each cell was recorded as a success.
    fn successes(&self) -> BTreeMap<(String, u32), usize> {
        let mut successes = BTreeMap::new();
        for run in self.records().iter().filter(|run| run.outcome.succeeded()) {
            let sweep = run.sweep.as_ref().unwrap();
            *successes.entry((sweep.cell.clone(), sweep.run)).or_default() += 1;
        }
        successes
    }

    /// Waits until this file exists.
    fn wait_for(&self, name: &str) {
        wait_until(name, || self.path(name).exists());
    }

    /// The ID of the last submitted array.
    fn job(&self) -> String {
        let read = || {
            let text = fs::read_to_string(self.path("lungs/slurm/jobs.json")).ok()?;
            let jobs: serde_json::Value = serde_json::from_str(&text).ok()?;
            Some(jobs["arrays"].as_array()?.last()?["job"].as_str()?.to_owned())
        };
        wait_until("a job", || read().is_some());
        read().unwrap()
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(60), "no {what} after a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn scontrol(words: &[&str]) {
    let output = Command::new("scontrol").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A program that needs 20 MiB for each file of its input.
const WORK: &str = "#!/usr/bin/env python3
import os, sys
files = sum(len(files) for _, _, files in os.walk(sys.argv[1]))
bytearray(files * (20 << 20))
";

#[test]
fn the_command_of_the_readme_measures_every_run_exactly() {
    let bench = cluster_or_skip!();
    bench.write("segment", WORK);
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let is_command = |line: &&str| line.starts_with("    highwater sweep ") && line.contains("--on slurm");
    let line = readme.lines().find(is_command).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_highwater"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = bench.command(Path::new("sh"), &["-c", line]).env("PATH", path).output().unwrap();
    let ran = Ran::of(&output);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let records = bench.records();
    assert_eq!(records.len(), 8, "{}", ran.stderr);
    assert!(bench.successes().values().all(|count| *count == 1));
    let job = bench.job();
    for run in &records {
        let batch = run.batch.as_ref().unwrap();
        assert_eq!((batch.job.as_str(), batch.array_task.is_some()), (job.as_str(), true));
        assert!(run.host.as_ref().value().unwrap().name.is_some());
        let peak = run.peak.as_ref().value().unwrap();
        let items = run.inputs[0].all.items;
        assert!(peak.bytes.0 >= items * (20 << 20), "{items} items: {}", peak.bytes);
        // On v2 an ordinary user has no cgroup in a job.
        if Machine::read(HostRoots::default()).unwrap().facts.cgroup == Some(CgroupVersion::V1) {
            assert!(matches!(peak.exactness, Exactness::Exact { .. }), "{:?}", peak.exactness);
        }
    }
    assert!(ran.says("8/8 "), "{}", ran.stderr);
    // Everything is there.
    let again = bench.sweep(&[]);
    assert_eq!((again.status, bench.records().len()), (Some(0), 8), "{}", again.stderr);
}

#[test]
fn a_cell_that_runs_out_of_memory_gets_twice_as_much() {
    let bench = cluster_or_skip!();
    let words = ["-P", "MIB=20,200", "--on", "slurm", "--slurm", "--mem=128M", "--"];
    let ran = bench.sweep(&[&words[..], &["python3", "-c", "bytearray({MIB} << 20)"]].concat());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.says("MIB=200 ran out of memory; it is submitted again with 256 MiB"), "{}", ran.stderr);
    let of_large = |run: &&Observation| run.sweep.as_ref().unwrap().parameters["MIB"] == "200";
    let outcomes: Vec<Outcome> = bench.records().iter().filter(of_large).map(|run| run.outcome).collect();
    assert_eq!(outcomes, [Outcome::OomKilled, Outcome::Exited { status: 0 }]);
    assert!(ran.says("1 cell with 256 MiB each"), "{}", ran.stderr);
    assert_eq!(bench.records().len(), 3);
}

#[test]
fn memory_is_doubled_up_to_the_maximum_only() {
    let bench = cluster_or_skip!();
    let words = ["-P", "MIB=400", "--on", "slurm", "--slurm", "--mem=128M", "--max-mem", "200Mi", "--"];
    let ran = bench.sweep(&[&words[..], &["python3", "-c", "bytearray({MIB} << 20)"]].concat());
    assert_eq!(ran.status, Some(4), "{}", ran.stderr);
    assert!(ran.says("it is submitted again with 200 MiB"), "{}", ran.stderr);
    assert_eq!(bench.records().iter().map(|run| run.outcome).collect::<Vec<_>>(), [Outcome::OomKilled; 2]);
    // With a higher maximum, the further attempt is made.
    let again = bench.sweep(&["--max-mem", "1Gi"]);
    assert_eq!((again.status, bench.successes().len()), (Some(0), 1), "{}", again.stderr);
}

#[test]
fn a_cell_for_which_the_cluster_has_too_little_memory_is_given_up_until_it_has_more() {
    let bench = cluster_or_skip!();
    let words = ["-P", "MIB=20,200", "--on", "slurm", "--slurm", "--mem=128M --partition=small", "--"];
    let ran = bench.sweep(&[&words[..], &["python3", "-c", "bytearray({MIB} << 20)"]].concat());
    assert_eq!((ran.status, bench.successes().len()), (Some(4), 1), "{}", ran.stderr);
    assert!(ran.says("1 cell not submitted again with 256 MiB: sbatch failed"), "{}", ran.stderr);
    let again = bench.sweep(&["--slurm", "--mem=128M --partition=main"]);
    assert_eq!((again.status, bench.successes().len()), (Some(0), 2), "{}", again.stderr);
}

#[test]
fn a_cancelled_job_is_recorded_and_made_again() {
    let bench = cluster_or_skip!();
    let words = ["-P", "N=1", "--on", "slurm", "--", "sh", "-c", "touch begun-{N}; [ -e go ] || sleep 100"];
    let child = bench.start(&words);
    bench.wait_for("begun-1");
    let output = Command::new("scancel").arg(bench.job()).output().unwrap();
    assert!(output.status.success());
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
    assert!(ran.says("1 run is left: jobs were cancelled, reached their time limit or were lost"), "{}", ran.stderr);
    assert_eq!(bench.records()[0].outcome, Outcome::Interrupted { signal: 15 });
    bench.write("go", "");
    let again = bench.sweep(&[]);
    assert_eq!((again.status, bench.successes().len()), (Some(0), 1), "{}", again.stderr);
}

#[test]
fn a_requeued_job_goes_on_where_it_was() {
    let bench = cluster_or_skip!();
    let script = "touch begun-$$; [ $(ls begun-* | wc -l) != 2 ] || [ -e go ] || sleep 100";
    let child = bench.start(&["-P", "N=1", "-r", "3", "--on", "slurm", "--", "sh", "-c", script, "{N}"]);
    wait_until("second run", || fs::read_dir(bench.folder.path()).unwrap().count() >= 4);
    let job = bench.job();
    bench.write("go", "");
    scontrol(&["requeue", &job]);
    start_again(&job);
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_eq!(bench.successes().into_values().collect::<Vec<_>>(), [1, 1, 1], "{}", ran.stderr);
    let restarts: Vec<_> = bench.records().iter().map(|run| run.batch.as_ref().unwrap().restarts).collect();
    assert_eq!(restarts.last(), Some(&Some(1)), "{restarts:?}");
}

/// Waits until a job is requeued, and starts it: it would wait for two minutes, and has to wait for a second, because the
/// node does not start a job again at once.
fn start_again(job: &str) {
    wait_until("requeued job", || {
        let output = Command::new("squeue").args(["-h", "-r", "-j", job, "-o", "%T"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim() == "PENDING"
    });
    std::thread::sleep(Duration::from_secs(2));
    scontrol(&["update", &format!("JobId={job}"), "StartTime=now"]);
}

#[test]
fn a_preempted_job_goes_on_where_it_was() {
    let bench = cluster_or_skip!();
    let script = "touch begun-$$; [ $(ls begun-* | wc -l) != 2 ] || [ -e go ] || sleep 100";
    let options = ["-P", "N=1", "-r", "3", "--on", "slurm", "--slurm", "--cpus-per-task=3", "--"];
    let child = bench.start(&[&options[..], &["sh", "-c", script, "{N}"]].concat());
    wait_until("second run", || fs::read_dir(bench.folder.path()).unwrap().count() >= 4);
    let job = bench.job();
    bench.write("go", "");
    // Slurm kills the job at once.
    let words = ["--partition=urgent", "--cpus-per-task=4", "--mem=100M", "--output=/dev/null", "--wrap", "sleep 0.1"];
    let output = bench.command(Path::new("sbatch"), &words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    start_again(&job);
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_eq!(bench.successes().into_values().collect::<Vec<_>>(), [1, 1, 1], "{}", ran.stderr);
}

#[test]
fn a_job_that_cannot_start_highwater_is_lost_and_made_again() {
    let bench = cluster_or_skip!();
    fs::copy(env!("CARGO_BIN_EXE_highwater"), bench.path("copy")).unwrap();
    let words = ["sweep", "--into", "lungs", "--patience", "1s", "-P", "N=1", "--on", "slurm", "--slurm", "--hold"];
    let child = bench.command(&bench.path("copy"), &[&words[..], &["--", "true", "{N}"]].concat()).spawn().unwrap();
    let job = bench.job();
    fs::remove_file(bench.path("copy")).unwrap();
    scontrol(&["release", &job]);
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
    assert!(ran.says(&format!("the job {job}_0 ended without a record of this run: it is FAILED")), "{}", ran.stderr);
    assert!(ran.says("copy: not found"), "{}", ran.stderr);
    assert_eq!(bench.records()[0].outcome, Outcome::Lost);
    let again = bench.sweep(&["--slurm", "--time=10"]);
    assert_eq!((again.status, bench.successes().len()), (Some(0), 1), "{}", again.stderr);
}

#[test]
fn a_job_whose_log_cannot_be_written_is_lost() {
    let bench = cluster_or_skip!();
    let child = bench.start(&["-P", "N=1", "--on", "slurm", "--slurm", "--hold", "--", "true", "{N}"]);
    let job = bench.job();
    fs::remove_dir_all(bench.path("lungs/slurm/logs")).unwrap();
    scontrol(&["release", &job]);
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!((ran.status, bench.records()[0].outcome), (Some(3), Outcome::Lost), "{}", ran.stderr);
}

#[test]
fn ctrl_c_leaves_the_jobs_running_until_they_are_cancelled() {
    let bench = cluster_or_skip!();
    let words = ["-P", "N=1,2", "--on", "slurm", "--", "sh", "-c", "touch begun-{N}; sleep 100"];
    let child = bench.start(&words);
    bench.wait_for("begun-1");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(130), "{}", ran.stderr);
    assert!(ran.says("`highwater sweep --into lungs` watches them, with --cancel it ends them"), "{}", ran.stderr);
    bench.wait_for("begun-2");
    let watching = bench.sweep(&["--detach"]);
    assert_eq!(watching.status, Some(0), "{}", watching.stderr);
    assert!(!watching.says("submitted"), "{}", watching.stderr);
    let cancelled = bench.sweep(&["--cancel"]);
    assert_eq!(cancelled.status, Some(0), "{}", cancelled.stderr);
    assert!(cancelled.says("2 runs are left"), "{}", cancelled.stderr);
    let outcomes: Vec<_> = bench.records().iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, [Outcome::Interrupted { signal: 15 }; 2]);
}

#[test]
fn a_watching_highwater_that_is_killed_loses_and_doubles_nothing() {
    let bench = cluster_or_skip!();
    let words = ["-P", "N=1,2,3,4", "-r", "2", "--on", "slurm", "--", "sh", "-c", "echo {N} >> made; sleep 0.3"];
    for kills in 0..8 {
        let mut child = bench.start(if kills == 0 || !bench.path("lungs/plan.json").exists() { &words } else { &[] });
        std::thread::sleep(Duration::from_millis(fastrand::u64(5..600)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let ran = bench.sweep(&words);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_eq!(bench.successes().into_values().collect::<Vec<_>>(), [1; 8], "{}", ran.stderr);
    let outcomes: Vec<_> = bench.records().into_iter().map(|run| (run.outcome, run.batch)).collect();
    assert_eq!(outcomes.len(), 8, "{outcomes:?}");
    assert_eq!(fs::read_to_string(bench.path("made")).unwrap().lines().count(), 8);
}

#[test]
fn a_dry_run_prints_what_can_be_copied() {
    let bench = cluster_or_skip!();
    let words =
        ["-n", "--input", "scans", "--items", "1,2,3,4", "-r", "2", "--on", "slurm", "--slurm", "-p main -t 10"];
    let ran = bench.sweep(&[&words[..], &["--", "true", "{input}"]].concat());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    for expected in ["8 runs to do", "exec ", "sbatch --parsable '--array=0-3'", "--requeue -p main -t 10"] {
        assert!(ran.stdout.contains(expected), "{expected}: {}", ran.stdout);
    }
    assert!(!bench.path("lungs").exists());
}
