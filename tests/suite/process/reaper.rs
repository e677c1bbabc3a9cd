//! The process between highwater and its tasks.

use std::fs;
use std::process::Command;

use super::around::Around;
use super::trial::{MIB, command, skip};

/// The output of a shell script that finds highwater as `$0`.
fn shell(script: &str, arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_highwater");
    let output = Command::new("sh").args(["-c", script, program]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_task_is_in_the_process_group_of_highwater_and_its_parent_in_another() {
    let ran = command(["sh", "-c", "cut -d ' ' -f 5 /proc/$$/stat /proc/$PPID/stat"]).run();
    let groups: Vec<&str> = ran.stdout.lines().collect();
    let ran = command(["sh", "-c", "kill -s USR1 0; sleep 9"]).run();
    // USR1 ends highwater too: the group is that of both.
    assert!(!ran.has_observation(), "{ran:?}");
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert_ne!(groups[0], groups[1]);
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
    // `cat` ends when nobody has the pipe open any more.
    let script = "{ \"$0\" run --quiet -- sh -c 'kill -s KILL $(ps -o ppid= $PPID)' & wait; } | timeout 20 cat";
    shell(script, &[]);
}

#[test]
fn a_task_that_shares_a_limit_with_highwater_is_killed_before_it() {
    let Some(around) = Around::new("oom-score") else {
        return skip("only root can make a cgroup around highwater here");
    };
    let task = || command(["cat", "/proc/self/oom_score_adj"]);
    let without: i32 = task().start_in(&around.inner()).finish().stdout.trim().parse().unwrap();
    around.limit(640 * MIB);
    let with: i32 = task().start_in(&around.inner()).finish().stdout.trim().parse().unwrap();
    assert_eq!(with, (without + 100).min(1000));
}
