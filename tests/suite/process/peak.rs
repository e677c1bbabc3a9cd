//! Peaks, and the composition of memory.

use std::fs;
use std::path::PathBuf;

use highwater::model::observation::{Breakdown, Exactness};
use highwater::model::reading::Reading;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};

use super::trial::{Host, MIB, OWN_NEEDS, assert_peak, command, workload};
use crate::harness::skip;

#[test]
fn a_python_program_is_measured_with_its_interpreter() {
    let python = ["/usr/bin/python3", "python3"].into_iter().find(|path| fs::exists(path).unwrap_or(false));
    let ran = command([python.unwrap_or("python3"), "-c", "b = bytearray(200 << 20)"]).run();
    assert_eq!(ran.status(), 0, "{ran:?}");
    assert_peak(&ran.observation(), 200 * MIB, 48 * MIB);
}

#[test]
fn a_grandchild_in_a_session_of_its_own_counts_even_for_a_millisecond() {
    let ran = workload("grandchild 200 1").run();
    assert_eq!(ran.status(), 0, "{ran:?}");
    assert_peak(&ran.observation(), 200 * MIB, OWN_NEEDS);
}

#[test]
fn a_task_that_lives_a_few_milliseconds_is_measured() {
    let ran = workload("touch 8 0").run();
    assert_eq!(ran.status(), 0, "{ran:?}");
    assert_peak(&ran.observation(), 8 * MIB, OWN_NEEDS);
}

#[test]
fn memory_that_ten_forked_copies_share_counts_once() {
    // Each copy has page tables of its own, 0.2 % of the memory it shares.
    let ran = workload("share 10 100 300").run();
    assert_eq!(ran.status(), 0, "{ran:?}");
    assert_peak(&ran.observation(), 100 * MIB, OWN_NEEDS + 8 * MIB);
}

#[test]
fn samples_taken_while_processes_come_and_go_add_up_to_no_more_than_there_is() {
    for _ in 0..10 {
        let ran = workload("share 10 100 20").with(["--cgroup", "never", "--sample-interval", "1ms"]).run();
        let peak = ran.observation().peak.value().unwrap().bytes.0;
        assert!(peak <= 100 * MIB + OWN_NEEDS, "{peak} is more than there was");
    }
}

#[test]
fn memory_that_a_process_lends_to_those_it_starts_counts_once() {
    let program = "import os\nb = bytearray(100 << 20)\n\
                   for _ in range(200): os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)";
    let ran = command(["python3", "-c", program]).with(["--cgroup", "never", "--sample-interval", "1ms"]).run();
    let peak = ran.observation().peak.value().unwrap().bytes.0;
    assert!((100 * MIB..=100 * MIB + 2 * OWN_NEEDS).contains(&peak), "{peak}");
}

#[test]
fn what_a_process_had_between_two_samples_counts() {
    let program = "import time; b = bytearray(100 << 20); del b; time.sleep(2)";
    let ran = command(["python3", "-c", program]).with(["--cgroup", "never", "--sample-interval", "300ms"]).run();
    let peak = ran.observation().peak.value().unwrap().bytes.0;
    assert!((95 * MIB..=100 * MIB + 2 * OWN_NEEDS).contains(&peak), "{peak}");
}

#[test]
fn mapped_files_are_not_in_a_lower_bound() {
    let folder = folder_on_a_disk();
    let file = folder.path().join("mapped");
    fs::write(&file, vec![7_u8; 64 << 20]).unwrap();
    let program = "import mmap, sys, time
m = mmap.mmap(open(sys.argv[1], 'rb').fileno(), 0, access=mmap.ACCESS_READ)
s = sum(m[::4096]); time.sleep(0.5)";
    let ran = command(["python3", "-c", program, file.to_str().unwrap()]).with(["--cgroup", "never"]).run();
    let peak = ran.observation().peak.value().unwrap().bytes.0;
    assert!(peak < 32 * MIB, "{peak}");
}

#[test]
fn processes_that_come_and_go_all_the_time_have_a_lower_bound_too() {
    let restless = "i=0; while [ $i -lt 200 ]; do true & /bin/true; i=$((i+1)); done";
    let ran = command(["sh", "-c", restless]).with(["--cgroup", "never", "--sample-interval", "1ms"]).run();
    let observation = ran.observation();
    assert!(observation.peak.as_ref().value().is_some_and(|peak| peak.bytes.0 > 0), "{observation:?}");
}

#[test]
fn a_cold_file_shows_as_page_cache_apart_from_anonymous_memory() {
    let folder = folder_on_a_disk();
    let file = folder.path().join("cold");
    fs::write(&file, vec![7_u8; 64 << 20]).unwrap();
    let ran = workload(&format!("read {}", file.display())).run();
    assert_eq!(ran.status(), 0, "{ran:?}");
    let observation = ran.observation();
    let Reading::Value(Breakdown { anon, file, .. }) = observation.breakdown else {
        panic!("there is no breakdown: {observation:?}")
    };
    match Host::here() {
        Host::Exact | Host::Polled => {
            assert_peak(&observation, 64 * MIB, OWN_NEEDS);
            // The parts are counted in separate batches, and lag behind by megabytes on some kernels.
            assert!(file.value().unwrap().0 >= 48 * MIB, "{observation:?}");
            assert!(anon.value().unwrap().0 < OWN_NEEDS, "{observation:?}");
        }
        // The sum over the processes only includes pages that they have mapped.
        Host::Sampled => assert_peak(&observation, 0, OWN_NEEDS),
    }
}

/// Files of tmpfs are shared memory, not page cache, so this needs a file system on a disk.
pub(crate) fn folder_on_a_disk() -> tempfile::TempDir {
    let places = [std::env::temp_dir(), PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from("/var/tmp")];
    let on_disk = |place: &&PathBuf| {
        statfs(place.as_path())
            .is_ok_and(|found| ![TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC].contains(&found.filesystem_type()))
    };
    let place = places.iter().find(on_disk).unwrap_or_else(|| {
        panic!(
            "set TMPDIR to a folder on a disk: {places:?} are in memory, where files have no page cache of their own"
        )
    });
    tempfile::tempdir_in(place).unwrap()
}

#[test]
fn several_runs_do_not_see_each_other() {
    let ran = workload("touch 30 1").with(["-r", "3"]).run();
    assert_eq!(ran.status(), 0, "{ran:?}");
    let observations = ran.observations();
    assert_eq!(observations.len(), 3);
    for observation in &observations {
        assert_peak(observation, 30 * MIB, OWN_NEEDS);
    }
}

#[test]
fn a_note_that_differs_only_in_its_amounts_is_shown_once_and_in_the_table() {
    if !Host::here().is_exact() {
        return skip("no peak is exact here");
    }
    let workload = std::path::Path::new(env!("CARGO_BIN_EXE_highwater")).with_file_name("examples").join("workload");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args(["run", "-r", "3", "--sample-interval", "10s", "--"]).arg(workload).args(["touch", "30", "0"]);
    let shown = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert_eq!(shown.matches("between two samples").count(), 2, "{shown}");
}

#[test]
fn two_tasks_at_the_same_time_do_not_see_each_other() {
    let large = workload("wait 150 100").start().wait_until_ready();
    let small = workload("touch 20 50").run();
    assert_peak(&small.observation(), 20 * MIB, OWN_NEEDS);
    let large = large.signal(nix::sys::signal::Signal::SIGTERM).finish();
    assert_peak(&large.observation(), 150 * MIB, OWN_NEEDS);
}

#[test]
fn a_counter_that_was_reset_is_a_lower_bound() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_highwater")).with_file_name("examples").join("workload");
    // Status 9 if the counter cannot be reset: v2, or no cgroup.
    let script = "own=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
        [ -w \"$own/memory.max_usage_in_bytes\" ] || exit 9
        \"$0\" touch 100 300 && echo 0 > \"$own/memory.max_usage_in_bytes\"";
    let ran = command(["sh", "-c", script, program.to_str().unwrap()]).run();
    if ran.status() == 9 {
        return skip("the counter of a cgroup cannot be reset");
    }
    let peak = ran.observation().peak.value().unwrap();
    assert!(peak.bytes.0 >= 100 * MIB, "{peak:?}");
    let Exactness::LowerBound { reason, .. } = peak.exactness else { panic!("{peak:?}") };
    assert!(reason.contains("was reset"), "{reason}");
}

#[test]
fn a_lower_bound_says_so_on_screen_too() {
    let ran = workload("touch 50 400").with(["--cgroup", "never"]).run();
    let observation = ran.observation();
    let json = serde_json::to_value(&observation).unwrap();
    assert_eq!(json["peak"]["exactness"]["kind"], "lower-bound", "{json}");

    let highwater = assert_cmd::Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["run", "--cgroup", "never", "--", "sleep", "0.3"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(highwater.stderr).unwrap();
    assert!(stderr.contains("lower bound"), "{stderr}");
    assert!(!stderr.contains("exact,"), "{stderr}");
}
