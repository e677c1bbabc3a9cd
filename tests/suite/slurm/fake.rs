//! A fake Slurm: shell scripts that run the tasks of an array on this machine, and do what a cluster does at its worst.

use std::fs;
use std::path::Path;

use highwater::model::observation::Outcome;

use super::{Bench, Ran, wait_until};

/// Runs the tasks in the background, unless `$FAKE/vanish` exists: then they are never heard of again. While `$FAKE/mute`
/// exists, it does not say which job they are.
const SBATCH: &str = r#"#!/bin/bash
[ -e "$FAKE/refuse" ] && { echo "sbatch: error: invalid partition specified: nowhere" >&2; exit 1; }
job=$(( $(cat "$FAKE/last" 2> /dev/null || echo 0) + 1 ))
echo $job > "$FAKE/last"
echo "$@" > "$FAKE/submitted.$job"
for word; do
  case $word in
    --array=0-*) last=${word#--array=0-} ;;
    --output=*) logs=$(dirname "${word#--output=}") ;;
  esac
done
last=${last%%\%*}
while [ "${1##*/}" != job.sh ]; do shift; done
if [ ! -e "$FAKE/vanish" ]; then
  for task in $(seq 0 "$last"); do
    touch "$FAKE/running.$job.$task"
    (
      SLURM_ARRAY_JOB_ID=$job SLURM_ARRAY_TASK_ID=$task sh "$@" > "$logs/${job}_$task.log" 2>&1
      rm "$FAKE/running.$job.$task"
    ) > /dev/null 2>&1 < /dev/null &
  done
fi
while [ -e "$FAKE/mute" ]; do sleep 0.05; done
echo $job
"#;

const SQUEUE: &str = r#"#!/bin/bash
if [ -e "$FAKE/down" ]; then
  rm "$FAKE/down"
  echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
  exit 1
fi
if [ -e "$FAKE/late" ]; then rm "$FAKE/late"; exit; fi
for task in "$FAKE"/running.*; do
  [ -e "$task" ] || continue
  IFS=. read -r _ job index <<< "${task##*/}"
  echo "$job|$index|RUNNING|None|node07"
done
"#;

const SCONTROL: &str = "#!/bin/sh\necho \"MaxArraySize            = 3\"\n";

fn bench() -> Bench {
    let mut bench = Bench::below(&std::env::temp_dir());
    let commands = bench.path("fake");
    fs::create_dir(&commands).unwrap();
    for (name, text) in [("sbatch", SBATCH), ("squeue", SQUEUE), ("scontrol", SCONTROL), ("scancel", "#!/bin/sh\n")] {
        bench.write(&format!("fake/{name}"), text);
    }
    bench.commands = Some(commands);
    bench
}

fn submitted(bench: &Bench) -> usize {
    (1..100).take_while(|job| bench.path(&format!("fake/submitted.{job}")).exists()).count()
}

const SWEEP: [&str; 6] = ["-P", "N=1,2,3,4", "--on", "slurm", "--", "true"];

fn words(more: &[&'static str]) -> Vec<&'static str> {
    [&SWEEP[..4], more, &SWEEP[4..], &["{N}"]].concat()
}

#[test]
fn arrays_are_as_large_as_the_cluster_allows() {
    let bench = bench();
    let ran = bench.sweep(&words(&["--jobs", "2", "--cgroup", "never"]));
    assert_eq!((ran.status, bench.successes().len()), (Some(0), 4), "{}", ran.stderr);
    assert_eq!(submitted(&bench), 2);
    let first = fs::read_to_string(bench.path("fake/submitted.1")).unwrap();
    assert!(first.contains("--array=0-2%2 "), "{first}");
}

#[test]
fn jobs_that_vanish_are_lost_and_made_again() {
    let bench = bench();
    bench.write("fake/vanish", "");
    let ran = bench.sweep(&words(&[]));
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
    assert!(
        ran.says("the job 1_0 ended without a record of this run: it is not in the queue any more"),
        "{}",
        ran.stderr
    );
    assert!(bench.records().iter().all(|run| run.outcome == Outcome::Lost));
    assert_eq!(bench.records().len(), 4);
    fs::remove_file(bench.path("fake/vanish")).unwrap();
    let again = bench.sweep(&[]);
    assert_eq!((again.status, bench.successes().len()), (Some(0), 4), "{}", again.stderr);
    assert_eq!(submitted(&bench), 4);
}

#[test]
fn a_sweep_that_began_here_goes_on_there_and_back() {
    let bench = bench();
    let runs = |more: &[&str]| {
        let words = ["-P", "N=1,2", "--cgroup", "never"];
        let ran = bench.sweep(&[&words[..], more, &["--", "sh", "-c", "echo {N} >> made"]].concat());
        assert_eq!(ran.status, Some(0), "{more:?}: {}", ran.stderr);
        assert!(bench.successes().values().all(|count| *count == 1), "{more:?}: {}", ran.stderr);
        fs::read_to_string(bench.path("made")).unwrap().lines().count()
    };
    assert_eq!(runs(&["-r", "1"]), 2);
    assert_eq!(runs(&["-r", "2", "--on", "slurm"]), 4);
    assert_eq!(runs(&["-r", "3", "--on", "local"]), 6);
    assert_eq!(runs(&["-r", "4"]), 8);
    // Cells that are expected to need different amounts of memory have arrays of their own.
    assert!((2..=4).contains(&submitted(&bench)));
    assert_eq!(bench.records().len(), 8);
}

#[test]
fn a_controller_that_does_not_answer_is_waited_for() {
    let bench = bench();
    bench.write("fake/down", "");
    let ran = bench.sweep(&words(&[]));
    assert_eq!((ran.status, bench.successes().len()), (Some(0), 4), "{}", ran.stderr);
    assert!(!bench.path("fake/down").exists());
}

#[test]
fn an_array_that_comes_late_is_found_and_its_runs_are_not_made_twice() {
    let bench = bench();
    bench.write("fake/mute", "");
    let mut killed = bench.start(&[
        "-P",
        "N=1,2",
        "--cgroup",
        "never",
        "--on",
        "slurm",
        "--",
        "sh",
        "-c",
        "echo {N} >> made; sleep 2",
    ]);
    wait_until("both tasks run", || fs::read_to_string(bench.path("made")).is_ok_and(|made| made.lines().count() == 2));
    killed.kill().unwrap();
    killed.wait().unwrap();
    fs::remove_file(bench.path("fake/mute")).unwrap();
    // The first look finds nothing.
    bench.write("fake/late", "");
    let ran = bench.sweep(&[]);
    assert_eq!((ran.status, bench.successes().len()), (Some(0), 2), "{}", ran.stderr);
    assert!(!bench.path("fake/late").exists());
    assert_eq!(fs::read_to_string(bench.path("made")).unwrap().lines().count(), 2);
    assert_eq!(submitted(&bench), 1);
}

#[test]
fn what_sbatch_refuses_is_told_and_can_be_corrected() {
    let bench = bench();
    bench.write("fake/refuse", "");
    let ran = bench.sweep(&words(&["--slurm", "--partition=nowhere"]));
    assert_eq!(ran.status, Some(2), "{}", ran.stderr);
    assert!(ran.says("sbatch failed: invalid partition specified: nowhere"), "{}", ran.stderr);
    assert!(ran.says("correct the options in --slurm"), "{}", ran.stderr);
    fs::remove_file(bench.path("fake/refuse")).unwrap();
    let again = bench.sweep(&["--slurm", "--partition=main"]);
    assert_eq!((again.status, bench.successes().len()), (Some(0), 4), "{}", again.stderr);
    assert!(fs::read_to_string(bench.path("fake/submitted.1")).unwrap().contains("--partition=main"));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let bench = bench();
    for (more, expected) in [
        (&["--slurm", "--array=0-3"][..], "`--array=0-3` is not an option to pass to sbatch"),
        (&["--slurm", "-Jname"], "`-Jname` is not an option to pass to sbatch"),
        (&["--slurm", "-M other"], "`-M` is not an option to pass to sbatch"),
        (&["--env", "A=1", "--slurm", "--export=NONE"], "`--export=NONE` in --slurm keeps variables of --env"),
        (&["--slurm", "main"], "`main` is not an option to pass to sbatch"),
        (&["--slurm", "--mem=much"], "invalid value 'much' for `--mem` in --slurm"),
        (&["--slurm", "--comment='x"], "--partition=main --time=2:00:00\", with every quote closed"),
        (&["--until", "10%"], "--until does not work on Slurm"),
        (&["--cancel"], "has no jobs to cancel"),
    ] {
        let ran = bench.sweep(&words(more));
        assert_eq!(ran.status, Some(2), "{more:?}: {}", ran.stderr);
        assert!(ran.says(expected), "{more:?}: {}", ran.stderr);
    }
    let ran = bench.sweep(&["--detach", "--", "true"]);
    assert!(ran.says("--detach has no effect on a sweep on this machine"), "{}", ran.stderr);
    assert_eq!(submitted(&bench), 0);
}

#[test]
fn a_machine_without_slurm_is_told_where_to_go() {
    let mut bench = bench();
    let without = bench.path("nothing");
    fs::create_dir(&without).unwrap();
    bench.commands = None;
    let program = Path::new(env!("CARGO_BIN_EXE_highwater"));
    let words = [&["sweep", "--into", "lungs"], &words(&[])[..]].concat();
    let output = bench.command(program, &words).env("PATH", &without).output().unwrap();
    let ran = Ran::of(&output);
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
    assert!(ran.says("run this on a machine of the cluster that submits jobs"), "{}", ran.stderr);
}

#[test]
fn only_one_highwater_watches_a_sweep() {
    let bench = bench();
    let mut first =
        bench.start(&["-P", "N=1", "--on", "slurm", "--", "sh", "-c", "while [ ! -e go ]; do sleep 0.1; done", "{N}"]);
    bench.wait_for("fake/running.1.0");
    let second = bench.sweep(&[]);
    assert_eq!(second.status, Some(3), "{}", second.stderr);
    assert!(second.says("another highwater watches the jobs"), "{}", second.stderr);
    bench.write("go", "");
    assert!(first.wait().unwrap().success());
}

#[test]
fn the_value_of_a_variable_reaches_the_jobs_but_no_file() {
    let bench = bench();
    let ran = bench.sweep(&words(&["-e", "SECRET=xyzzy"]));
    assert_eq!((ran.status, bench.successes().len()), (Some(0), 4), "{}", ran.stderr);
    let grep =
        std::process::Command::new("grep").args(["-r", "xyzzy"]).current_dir(bench.path("lungs")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
}
