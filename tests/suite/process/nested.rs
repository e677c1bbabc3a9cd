//! A highwater inside of something that limits or measures it: another highwater, or a cgroup with limits.

use highwater::model::observation::{CgroupVersion, Outcome};
use highwater::model::reading::Reading;

use super::around::Around;
use super::trial::{Host, MIB, OWN_NEEDS, assert_peak, command, workload};
use crate::harness::skip;

/// A command that runs the workload under a highwater of its own.
fn inner(options: &str, words: &str) -> String {
    let program = env!("CARGO_BIN_EXE_highwater");
    let task = std::path::Path::new(program).with_file_name("examples").join("workload");
    format!("{program} run --quiet {options} -- {} {words}", task.display())
}

/// The inner highwater, a debug build, needs some memory itself.
const INSIDE: u64 = 32 * MIB;

#[test]
fn a_run_inside_of_a_run_counts_for_both() {
    let ran = command(["sh", "-c", &format!("{}; {}", inner("", "touch 50 100"), inner("", "touch 60 100"))]).run();
    assert_eq!(ran.status(), 0, "{ran:?}");
    assert_peak(&ran.observation(), 60 * MIB, INSIDE);
    assert_eq!(ran.observation().leftover_processes, Reading::Value(0), "{ran:?}");
    ran.traces().assert_gone();
}

#[test]
fn a_run_inside_of_two_runs_counts_for_all() {
    let between = format!("{} run --quiet -- {}", env!("CARGO_BIN_EXE_highwater"), inner("", "touch 50 100"));
    let ran = command(["sh", "-c", &between]).run();
    assert_eq!(ran.status(), 0, "{ran:?}");
    assert_peak(&ran.observation(), 50 * MIB, 2 * INSIDE);
    ran.traces().assert_gone();
}

#[test]
fn the_limit_of_the_outer_run_holds_inside() {
    if !Host::here().has_cgroups() {
        return skip("no cgroup can be made");
    }
    let ran =
        command(["sh", "-c", &format!("{}; exit 0", inner("", "touch 150 1000"))]).with(["--limit", "100MiB"]).run();
    let observation = ran.observation();
    assert!(observation.censored, "{ran:?}");
    assert!(observation.peak.as_ref().value().unwrap().bytes.0 <= 100 * MIB, "{ran:?}");
    ran.traces().assert_gone();
}

#[test]
fn the_limits_that_highwater_lives_under_hold_for_the_task() {
    let Some(around) = Around::new("highwater-test-limited") else { return skip("no cgroup can be made") };
    around.limit(60 * MIB);
    let ran = workload("touch 150 1000").start_in(&around.inner()).finish();
    assert_eq!(ran.status(), 137, "{ran:?}");
    let observation = ran.observation();
    assert_eq!(observation.outcome, Outcome::OomKilled, "{ran:?}");
    assert!(observation.censored, "{ran:?}");
    assert_eq!(observation.limit.effective.value().flatten().map(|bytes| bytes.0), Some(60 * MIB), "{ran:?}");
}

#[test]
fn limits_of_the_cgroup_that_highwater_is_in_are_copied_where_it_has_processes() {
    let Some(around) = Around::new("highwater-test-copied") else { return skip("no cgroup can be made") };
    if around.version == CgroupVersion::V1 {
        return skip("on v1 a run's cgroup can always be made below");
    }
    std::fs::write(around.inner().join("memory.max"), (60 * MIB).to_string()).unwrap();
    let fits = workload("touch 20 1").start_in(&around.inner()).finish();
    assert_peak(&fits.observation(), 20 * MIB, OWN_NEEDS);
    assert_eq!(fits.observation().limit.copied_from, Some(around.inner()), "{fits:?}");
    assert_eq!(fits.observation().limit.own.value().flatten().map(|bytes| bytes.0), Some(60 * MIB), "{fits:?}");
    // The lower one of a copied and a requested limit applies.
    let asked = workload("touch 20 1").with(["--limit", "1GiB"]).start_in(&around.inner()).finish();
    assert_eq!(asked.observation().limit.effective.value().flatten().map(|bytes| bytes.0), Some(60 * MIB), "{asked:?}");
    let killed = workload("touch 150 1000").start_in(&around.inner()).finish();
    assert_eq!(killed.observation().outcome, Outcome::OomKilled, "{killed:?}");
}
