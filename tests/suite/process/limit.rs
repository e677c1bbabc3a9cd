//! Tasks with a limit.

use std::fs;

use highwater::model::observation::{CgroupVersion, Outcome};
use nix::sys::signal::Signal;

use super::around::Around;
use super::trial::{Host, MIB, OWN_NEEDS, Ran, assert_peak, command, workload};
use crate::harness::skip;

/// Without a cgroup a limit cannot be enforced, and highwater must not pretend.
#[track_caller]
fn assert_refused(ran: &Ran) {
    assert_eq!(ran.status(), 125, "{ran:?}");
    assert!(!ran.has_observation(), "{ran:?}");
    assert!(ran.stderr.contains("limit"), "{ran:?}");
}

/// A directory on a disk with a file of 64 MiB.
fn large_file() -> tempfile::TempDir {
    let folder = super::peak::folder_on_a_disk();
    fs::write(folder.path().join("cold"), vec![7_u8; 64 << 20]).unwrap();
    folder
}

fn reading(folder: &tempfile::TempDir) -> String {
    format!("read {}", folder.path().join("cold").display())
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

/// Like a JVM that sizes its heap: through `/proc/self/cgroup` to the file of its own cgroup.
#[test]
fn a_task_reads_the_limit_that_it_has() {
    if !Host::here().has_cgroups() {
        return skip("no cgroup can be made");
    }
    let v2 = "f=$(sed -n 's/^0:://p' /proc/self/cgroup); cat /sys/fs/cgroup$f/memory.max 2> /dev/null";
    let v1 = "f=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup); cat /sys/fs/cgroup/memory$f/memory.limit_in_bytes";
    let ran = command(["sh", "-c", &format!("{{ {v2}; }} || {{ {v1}; }}")]).with(["--limit", "512MiB"]).run();
    assert_eq!(ran.stdout.trim(), (512 * MIB).to_string(), "{ran:?}");
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
    let folder = large_file();
    let ran = workload(&reading(&folder)).with(["--limit", "20Mi"]).run();
    if !Host::here().has_cgroups() {
        return assert_refused(&ran);
    }
    assert_eq!(ran.status(), 0, "{ran:?}");
    let observation = ran.observation();
    assert_eq!(observation.outcome, Outcome::Exited { status: 0 });
    assert!(observation.censored, "{observation:?}");
}

#[test]
fn a_task_that_is_held_back_from_above_is_censored() {
    let Some(around) = Around::new("highwater-test-above") else { return skip("no cgroup can be made") };
    match around.version {
        CgroupVersion::V1 => around.write("memory.limit_in_bytes", "30M"),
        // Not even a limit: it only throttles.
        CgroupVersion::V2 => around.write("memory.high", "30M"),
    }
    let folder = large_file();
    let ran = workload(&reading(&folder)).start_in(&around.inner()).finish();
    assert_eq!(ran.status(), 0, "{ran:?}");
    assert!(ran.observation().censored, "{ran:?}");
}

#[test]
fn what_a_neighbour_feels_of_its_own_limit_makes_no_peak_censored() {
    let Some(around) = Around::new("highwater-test-beside") else { return skip("no cgroup can be made") };
    around.write(if around.version == CgroupVersion::V1 { "memory.limit_in_bytes" } else { "memory.max" }, "1G");
    let run = workload("wait 20 600").start_in(&around.inner()).wait_until_ready();
    let folder = large_file();
    let neighbour = workload(&reading(&folder)).with(["--limit", "20Mi"]).start_in(&around.inner()).finish();
    let ran = run.signal(Signal::SIGTERM).finish();
    assert!(neighbour.observation().censored, "{neighbour:?}");
    assert!(!ran.observation().censored, "{ran:?}");
}
