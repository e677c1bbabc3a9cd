//! Processes that leave the run's cgroup: no peak without them is exact, and none of them outlives the run.

use highwater::host::HostRoots;
use highwater::host::cgroup::memory_hierarchy;
use highwater::model::observation::{Exactness, Observation};
use highwater::model::reading::Reading;

use super::around::Around;
use super::trial::{Host, command, workload};
use crate::harness::skip;

/// `HIGHWATER_TEST_RUNS` is the number of tries of each.
fn runs() -> usize {
    std::env::var("HIGHWATER_TEST_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(2)
}

/// Why the peak is a lower bound; `None` if it is exact.
#[track_caller]
fn lower_bound(observation: &Observation) -> Option<String> {
    match &observation.peak.as_ref().value().unwrap_or_else(|| panic!("no peak: {observation:?}")).exactness {
        Exactness::Exact { .. } => None,
        Exactness::LowerBound { reason, remedy } => {
            assert!(!remedy.is_empty(), "{observation:?}");
            Some(reason.clone())
        }
    }
}

#[test]
fn whoever_leaves_the_cgroup_makes_the_peak_a_lower_bound() {
    let Some(around) = Around::new("highwater-test-elsewhere") else { return skip("no cgroup can be made") };
    let root = memory_hierarchy(&HostRoots::default(), "self").unwrap().mount_point;
    for (who, ms, exec) in [
        ("child", 1, ""),
        ("child", 10, " exec"),
        ("child", 50, ""),
        ("grandchild", 1, " exec"),
        ("grandchild", 50, ""),
        ("grandchild", 200, " exec"),
        ("late", 5000, ""),
        ("late", 50, " exec"),
    ] {
        for target in [&around.inner(), &root] {
            let procs = target.join("cgroup.procs");
            for _ in 0..runs() {
                let ran = workload(&format!("escape {who} {} {ms}{exec}", procs.display())).run();
                assert_eq!(ran.status(), 0, "{who} for {ms} ms{exec}: {ran:?}");
                let reason = lower_bound(&ran.observation());
                let expected = ["in another cgroup", "page faults outside of the run's cgroup"];
                assert!(
                    reason.as_ref().is_some_and(|reason| expected.iter().any(|words| reason.contains(words))),
                    "{who} for {ms} ms{exec} in {}: {reason:?}",
                    procs.display()
                );
                let left = std::fs::read_to_string(around.inner().join("cgroup.procs")).unwrap();
                assert_eq!(left, "", "{who} for {ms} ms{exec} goes on");
            }
        }
    }
}

#[test]
fn runs_at_the_same_time_are_told_apart() {
    let Some(around) = Around::new("highwater-test-jobs") else { return skip("no cgroup can be made") };
    let procs = around.inner().join("cgroup.procs");
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_highwater");
    let task = std::path::Path::new(program).with_file_name("examples").join("workload");
    // Only the runs with an even number leave.
    let script = format!(
        "if [ $(({{n}} % 2)) = 0 ]; then exec {task} escape grandchild {procs} 20; else exec {task} touch 1 20; fi; : {{input}}",
        task = task.display(),
        procs = procs.display()
    );
    let output = assert_cmd::Command::new(program)
        .args(["sweep", "--size", "1KiB", "--scan", "n=1:8:1", "--jobs", "4", "-r", "1", "--into"])
        .arg(folder.path().join("sweep"))
        .args(["--", "sh", "-c", &script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let records = std::fs::read_to_string(folder.path().join("sweep/observations.jsonl")).unwrap();
    let observations: Vec<Observation> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(observations.len(), 8);
    for observation in observations {
        let n: u32 = observation.sweep.as_ref().unwrap().parameters["n"].parse().unwrap();
        assert_eq!(lower_bound(&observation).is_some(), n.is_multiple_of(2), "{observation:?}");
    }
}

/// Tasks with all kinds of processes, but none in another cgroup.
const PLAIN: [(&str, &[&str]); 8] = [
    ("one process", &["true"]),
    ("a shell with children and pipes", &["sh", "-c", "for i in 1 2 3; do (true); /bin/true | cat; done"]),
    ("a daemon in a session of its own", &["sh", "-c", "setsid sleep 60 & true"]),
    (
        "children that nobody waits for",
        &["sh", "-c", "(sleep 0.02; ls / > /dev/null) & (ls / > /dev/null) & sleep 0.05"],
    ),
    (
        "a parent that ignores SIGCHLD",
        &[
            "python3",
            "-c",
            "import signal, subprocess\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nsubprocess.call(['ls', '/'], stdout=subprocess.DEVNULL)",
        ],
    ),
    (
        "threads",
        &[
            "python3",
            "-c",
            "import threading\nts = [threading.Thread(target=bytearray, args=(2 << 20,)) for _ in range(20)]\nfor t in ts: t.start()\nfor t in ts: t.join()",
        ],
    ),
    (
        "forks that write",
        &[
            "python3",
            "-c",
            "import os\nm = bytearray(8 << 20)\nfor i in range(8):\n    if os.fork() == 0:\n        m[:] = bytes(len(m)); os._exit(0)\nfor i in range(8): os.wait()",
        ],
    ),
    (
        "spawned programs",
        &[
            "python3",
            "-c",
            "import os\nfor i in range(20): os.waitpid(os.posix_spawn('/bin/true', ['true'], os.environ), 0)",
        ],
    ),
];

#[test]
fn nobody_is_suspected_of_leaving_who_has_not() {
    if !Host::here().is_exact() {
        return skip("no peak is exact here");
    }
    for (what, task) in PLAIN {
        for _ in 0..runs() * 2 {
            let ran = command(task.iter().copied()).run();
            assert_eq!(lower_bound(&ran.observation()), None, "{what}: {ran:?}");
        }
    }
}

#[test]
fn a_cgroup_below_the_run_s_own_is_no_other_one() {
    let Some(around) = Around::new("highwater-test-below") else { return skip("no cgroup can be made") };
    let below = "below=$(sed -n 's/^[0-9]*:memory://p; s/^0::/\\/../p' /proc/self/cgroup | head -n 1)/below";
    let top = memory_hierarchy(&HostRoots::default(), "self").unwrap().mount_point;
    let script = format!(
        "{below}; below={}/${{below#/../}}; mkdir $below; sh -c 'echo $$ > $0/cgroup.procs; ls -R /etc > /dev/null' $below; rmdir $below",
        top.display()
    );
    let ran = command(["sh", "-c", &script]).start_in(&around.inner()).finish();
    assert_eq!(ran.status(), 0, "{ran:?}");
    assert_eq!(lower_bound(&ran.observation()), None, "{ran:?}");
}

#[test]
fn work_that_a_daemon_does_is_not_taken_for_the_task_s_own() {
    if !Host::here().is_exact() {
        return skip("no peak is exact here");
    }
    // No such program has to exist: only the command line matters.
    for (task, client) in [
        (["sh", "-c", "docker run --rm tiny true || true"], "docker run"),
        (["sh", "-c", "systemd-run --scope true; true"], "systemd-run"),
        (["sh", "-c", "sbatch job.sh; true"], "sbatch"),
    ] {
        let ran = command(task).run();
        let reason = lower_bound(&ran.observation()).unwrap_or_default();
        assert!(reason.contains(&format!("`{client}`")), "{reason}: {ran:?}");
    }
    // In a script file only a check of the processes shows it.
    let folder = tempfile::tempdir().unwrap();
    let docker = folder.path().join("docker");
    std::os::unix::fs::symlink("/bin/sh", &docker).unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, format!("cd {}; ./docker run 3; true\n", folder.path().display())).unwrap();
    std::fs::write(folder.path().join("run"), "sleep $1\n").unwrap();
    for options in [&[][..], &["--sample-interval", "20ms"]] {
        let ran = command(["sh", script.to_str().unwrap()]).with(options).run();
        let reason = lower_bound(&ran.observation()).unwrap_or_default();
        assert!(reason.contains("`docker run`"), "{options:?}: {reason}: {ran:?}");
    }
    let ran = command(["sh", "-c", "docker ps > /dev/null 2>&1; true"]).run();
    assert_eq!(lower_bound(&ran.observation()), None, "{ran:?}");
}

#[test]
fn who_has_left_is_ended_with_the_rest() {
    let Some(around) = Around::new("highwater-test-left") else { return skip("no cgroup can be made") };
    let procs = around.inner().join("cgroup.procs");
    let left = "until grep -qx $! $0; do sleep 0.02; done; sleep 0.5";
    let script = format!("sh -c 'echo $$ > {}; exec sleep 60' & {left}; echo task $!", procs.display());
    let ran = command(["sh", "-c", &script, procs.to_str().unwrap()]).with(["--timeout", "20s"]).run();
    let observation = ran.observation();
    assert_eq!(observation.leftover_processes, Reading::Value(1), "{ran:?}");
    // It may have been seen before it became `sleep`.
    let reason = lower_bound(&observation).unwrap();
    assert!(reason.contains("the task, sleep,") || reason.contains("the task, sh,"), "{ran:?}");
    ran.traces().assert_gone();
}
