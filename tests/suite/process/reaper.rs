//! The process between highwater and its tasks.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::around::Around;
use super::trial::{MIB, command};
use crate::harness::skip;

/// The output of a shell script in which `$0` is highwater.
fn shell(script: &str, arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_highwater");
    let output = Command::new("sh").args(["-c", script, program]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_signal_to_the_process_group_ends_highwater_and_then_all_of_the_task() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let ran =
        command(["sh", "-c", "setsid sleep 9 & echo $! > \"$0\"; kill -s USR1 0; sleep 9", file.to_str().unwrap()])
            .run();
    assert!(!ran.has_observation(), "{ran:?}");
    let apart = format!("/proc/{}", fs::read_to_string(file).unwrap().trim());
    let started = Instant::now();
    while Path::new(&apart).exists() {
        assert!(started.elapsed() < Duration::from_secs(5), "a process of the task goes on without highwater");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_task_that_ends_beside_a_stopped_process_hangs_nobody_up() {
    let script = "sleep 9 & kill -s STOP $!; \"$0\" run --quiet -- true; kill -s KILL $!; echo survived";
    let program = env!("CARGO_BIN_EXE_highwater");
    let output = Command::new("setsid").args(["--wait", "sh", "-c", script, program]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "survived\n", "{output:?}");
}

#[test]
fn the_runs_of_one_highwater_have_one_parent_after_the_other() {
    let ran = command(["sh", "-c", "echo $PPID"]).with(["-r", "3", "--quiet"]).run();
    let parents: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(parents.len(), 3, "{ran:?}");
    assert!(parents.iter().all(|parent| *parent == parents[0]), "{parents:?}");
}

#[test]
fn a_parent_that_was_killed_between_two_runs_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("sweep");
    let kill = "pkill -KILL -P $PPID -x hw-reaper";
    let script = "\"$0\" sweep --into \"$1\" -r 3 --conclude \"$2\" -- sh -c 'echo $PPID >> \"$0\"' \"$3\"";
    let parents = folder.path().join("parents");
    shell(script, &[into.to_str().unwrap(), kill, parents.to_str().unwrap()]);
    let parents = fs::read_to_string(parents).unwrap();
    let parents: std::collections::HashSet<&str> = parents.lines().collect();
    assert_eq!(parents.len(), 3, "{parents:?}");
}

#[test]
fn files_that_are_open_for_the_task_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "handed on").unwrap();
    let script = "\"$0\" run --quiet -r 2 -- sh -c 'cat /dev/fd/7' 7< \"$1\"";
    assert_eq!(shell(script, &[file.to_str().unwrap()]), "handed onhanded on");
}

#[test]
fn a_reader_of_what_highwater_writes_does_not_wait_for_anybody_else() {
    // `cat` ends when no process holds the pipe open any more.
    let script = "{ \"$0\" run --quiet -- sh -c 'kill -s KILL $(ps -o ppid= $PPID)' & wait; } | timeout 20 cat";
    shell(script, &[]);
}

#[test]
fn a_task_that_shares_a_limit_with_highwater_is_killed_before_it() {
    let Some(around) = Around::new("oom-score") else {
        return skip("no cgroup can be made");
    };
    let task = || command(["cat", "/proc/self/oom_score_adj"]);
    let without: i32 = task().start_in(&around.inner()).finish().stdout.trim().parse().unwrap();
    around.limit(640 * MIB);
    let with: i32 = task().start_in(&around.inner()).finish().stdout.trim().parse().unwrap();
    assert_eq!(with, (without + 100).min(1000));
}
