//! Whatever happens, no process and no cgroup is left behind, and the observation is recorded.

use std::thread;
use std::time::Duration;

use highwater::model::observation::{Exactness, Outcome};
use highwater::model::reading::Reading;
use nix::sys::signal::Signal;

use super::around::Around;
use super::trial::{Host, MIB, OWN_NEEDS, assert_peak, command, workload};
use crate::harness::skip;

#[test]
fn processes_that_the_task_leaves_behind_are_counted_and_killed() {
    let ran = workload("leave 30").run();
    assert_eq!(ran.status(), 0, "{ran:?}");
    let observation = ran.observation();
    assert_eq!(observation.leftover_processes, Reading::Value(1));
    assert_peak(&observation, 30 * MIB, OWN_NEEDS);
    ran.traces().assert_gone();
}

#[test]
fn a_task_has_a_cgroup_of_its_own_where_one_can_be_had() {
    let run = workload("wait 1 100").start().wait_until_ready();
    let cgroups = run.traces().cgroups();
    assert_eq!(cgroups > 0, Host::here().has_cgroups(), "{:?}", run.traces());
    run.signal(Signal::SIGTERM).finish().traces().assert_gone();
}

#[test]
fn sigterm_in_mid_run_keeps_the_observation_and_leaves_nothing() {
    let ran = workload("wait 60 100").start().wait_until_ready().signal(Signal::SIGTERM).finish();
    assert_eq!(ran.status(), 128 + 15, "{ran:?}");
    let observation = ran.observation();
    assert_eq!(observation.outcome, Outcome::Interrupted { signal: 15 });
    assert_peak(&observation, 60 * MIB, OWN_NEEDS);
    ran.traces().assert_gone();
}

#[test]
fn ctrl_c_in_mid_run_keeps_the_observation_and_leaves_nothing() {
    let run = workload("wait 60 100").with(["--quiet"]).start_on_a_terminal().wait_until_ready();
    let ran = run.press_ctrl_c().finish();
    assert_eq!(ran.status(), 130, "{ran:?}");
    let observation = ran.observation();
    assert_eq!(observation.outcome, Outcome::Interrupted { signal: 2 });
    assert_peak(&observation, 60 * MIB, OWN_NEEDS);
    ran.traces().assert_gone();
}

#[test]
fn a_signal_that_reaches_the_task_first_is_an_interruption_all_the_same() {
    let ran = workload("wait 20 100").start().wait_until_ready().signal_group(Signal::SIGINT).finish();
    assert_eq!(ran.status(), 130, "{ran:?}");
    assert_eq!(ran.observation().outcome, Outcome::Interrupted { signal: 2 });
    ran.traces().assert_gone();
}

#[test]
fn a_request_while_the_task_starts_is_an_interruption() {
    for delay in (0..60).map(|step| Duration::from_micros(step * 250)) {
        // One short run after the other.
        let runs = command(["echo", "ready"]).with(["-r", "1000", "--quiet"]).start().wait_until_ready();
        thread::sleep(delay);
        let ran = runs.signal(Signal::SIGTERM).finish();
        assert_eq!(ran.status(), 128 + 15, "{delay:?}: {}", ran.stderr);
    }
}

#[test]
fn a_task_that_ignores_sigterm_is_killed_when_its_grace_is_over() {
    let stubborn = workload("stubborn 20 100").with(["--kill-after", "200ms"]).start().wait_until_ready();
    let ran = stubborn.signal(Signal::SIGTERM).finish();
    assert_eq!(ran.status(), 128 + 15, "{ran:?}");
    assert_peak(&ran.observation(), 20 * MIB, OWN_NEEDS);
    ran.traces().assert_gone();
}

#[test]
fn a_second_request_to_end_needs_no_patience() {
    let stubborn = workload("stubborn 20 100").start().wait_until_ready();
    let ran = stubborn.signal(Signal::SIGTERM).signal(Signal::SIGINT).finish();
    // If both signals are pending, the kernel delivers the one with the lower number first.
    assert!([128 + 15, 128 + 2].contains(&ran.status()), "{ran:?}");
    assert!(matches!(ran.observation().outcome, Outcome::Interrupted { .. }), "{ran:?}");
    assert!(ran.observation().wall_us < 8_000_000, "{ran:?}");
    ran.traces().assert_gone();
}

#[test]
fn a_task_that_takes_too_long_is_timed_out() {
    let ran = workload("wait 20 100").with(["--timeout", "1s"]).run();
    assert_eq!(ran.status(), 124, "{ran:?}");
    assert_eq!(ran.observation().outcome, Outcome::TimedOut { after_us: 1_000_000 });
    ran.traces().assert_gone();
}

#[test]
fn a_highwater_that_is_killed_leaves_nothing_after_a_moment() {
    let run = workload("wait 20 100").start().wait_until_ready();
    let traces = run.traces();
    run.signal(Signal::SIGKILL);
    traces.assert_gone_after_a_moment();
}

#[test]
fn a_task_that_kills_its_parent_is_ended_and_claims_nothing() {
    // The remaining process has a session of its own, so that no signal to the group reaches it.
    let script = "setsid sleep 60 & echo task $!; sleep 0.2; kill -KILL $PPID; sleep 60";
    for cgroup in ["auto", "never"] {
        let ran = command(["sh", "-c", script]).with(["--cgroup", cgroup]).run();
        assert_ne!(ran.status(), 0, "{ran:?}");
        let exactness = ran.observation().peak.value().map(|peak| peak.exactness);
        assert!(!matches!(exactness, Some(Exactness::Exact { .. })), "{exactness:?}");
        ran.traces().assert_gone();
    }
}

#[test]
fn the_next_run_removes_an_empty_cgroup_that_a_killed_highwater_has_left() {
    let Some(around) = Around::new("abandoned") else {
        return skip("no cgroup can be made");
    };
    // No process has such a high pid.
    let names = [around.inner(), around.path.clone()].map(|folder| folder.join("highwater-4194304-0"));
    for name in &names {
        std::fs::create_dir(name).unwrap();
    }
    let ran = command(["true"]).start_in(&around.inner()).finish();
    let left = names.iter().filter(|name| std::fs::remove_dir(name).is_ok()).count();
    // The cgroup in the place where the run had its own.
    assert_eq!((ran.status(), left), (0, 1), "{ran:?}");
}
