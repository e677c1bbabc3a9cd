//! Tasks with a limit.

use std::fs;

use highwater::model::observation::Outcome;

use super::trial::{Host, MIB, OWN_NEEDS, Ran, assert_peak, workload};

/// Without a cgroup no limit can be kept, and none is pretended.
#[track_caller]
fn assert_refused(ran: &Ran) {
    assert_eq!(ran.status(), 125, "{ran:?}");
    assert!(!ran.has_observation(), "{ran:?}");
    assert!(ran.stderr.contains("limit"), "{ran:?}");
}

#[test]
fn a_task_beyond_its_limit_is_oom_killed_and_censored() {
    let ran = workload("touch 40 1000").with(["--limit", "20Mi"]).run();
    if !Host::here().has_cgroups() {
        return assert_refused(&ran);
    }
    assert_eq!(ran.status(), 137, "{ran:?}");
    let observation = ran.observation();
    assert_eq!(observation.outcome, Outcome::OomKilled);
    assert!(observation.censored);
    assert_eq!(observation.limit.own.value().flatten().map(|bytes| bytes.0), Some(20 * MIB));
    let peak = observation.peak.as_ref().value().unwrap().bytes.0;
    assert!(peak <= 20 * MIB, "{peak} is beyond the limit");
    ran.traces().assert_gone();
}

#[test]
fn a_task_below_its_limit_is_not_censored() {
    let ran = workload("touch 20 1").with(["--limit", "100Mi"]).run();
    if !Host::here().has_cgroups() {
        return assert_refused(&ran);
    }
    assert_eq!(ran.status(), 0, "{ran:?}");
    let observation = ran.observation();
    assert!(!observation.censored, "{observation:?}");
    assert_peak(&observation, 20 * MIB, OWN_NEEDS);
}

#[test]
fn page_cache_that_reaches_the_limit_makes_the_peak_censored_though_the_task_succeeds() {
    let folder = super::peak::folder_on_a_disk();
    let file = folder.path().join("cold");
    fs::write(&file, vec![7_u8; 64 << 20]).unwrap();
    let ran = workload(&format!("read {}", file.display())).with(["--limit", "20Mi"]).run();
    if !Host::here().has_cgroups() {
        return assert_refused(&ran);
    }
    assert_eq!(ran.status(), 0, "{ran:?}");
    let observation = ran.observation();
    assert_eq!(observation.outcome, Outcome::Exited { status: 0 });
    assert!(observation.censored, "{observation:?}");
}
