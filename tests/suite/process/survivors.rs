//! Tasks that survive SIGKILL: highwater ends in time nevertheless, and names what is left.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use highwater::model::observation::{Exactness, Observation, Outcome, Warning};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use super::trial::{Ran, Trial, command};
use crate::harness::skip;

/// How long highwater may take beyond `--kill-after`.
const BOUND: Duration = Duration::from_secs(5);

/// A FUSE file system whose server reads every request and answers none: a process that accesses a file waits for ever,
/// in state `D` once it is killed. Dropping it releases all processes.
struct Unanswering {
    folder: tempfile::TempDir,
    device: File,
    /// Receives a message for each request that was read.
    requests: Receiver<()>,
}

impl Unanswering {
    /// `None`, with a message, if it cannot be mounted.
    fn mount() -> Option<Self> {
        let device = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => {
                skip(&format!("/dev/fuse cannot be opened: {error}"));
                return None;
            }
        };
        let folder = tempfile::tempdir().unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if let Err(error) = mount(Some("unanswering"), folder.path(), Some("fuse"), flags, Some(options.as_str())) {
            skip(&format!("a FUSE file system cannot be mounted: {error}"));
            return None;
        }
        let (asked, requests) = channel();
        let mut server = device.try_clone().unwrap();
        thread::spawn(move || {
            let mut request = vec![0; 1 << 17];
            // The first request is FUSE_INIT, which must be answered; `linux/fuse.h` has both structures.
            let _length = server.read(&mut request).unwrap();
            let mut answer = Vec::from(80_u32.to_ne_bytes());
            answer.extend(0_i32.to_ne_bytes());
            answer.extend(&request[8..16]);
            answer.extend([7_u32, 26, 0, 0, 0, 4096].map(u32::to_ne_bytes).concat());
            answer.resize(80, 0);
            server.write_all(&answer).unwrap();
            while server.read(&mut request).is_ok() && asked.send(()).is_ok() {}
        });
        Some(Self { folder, device, requests })
    }

    /// Waits until a process waits for an answer.
    fn wait_until_asked(&self) {
        self.requests.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    fn file(&self) -> String {
        self.folder.path().join("file").into_os_string().into_string().unwrap()
    }
}

impl Drop for Unanswering {
    fn drop(&mut self) {
        // Aborts the connection, and with it every request.
        let _ = umount2(self.folder.path(), MntFlags::MNT_FORCE);
        let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
        let _ = self.device.flush();
    }
}

/// A cgroup of the freezer of cgroup v1. Dropping it thaws it.
struct Freezer(PathBuf);

impl Freezer {
    fn create() -> Option<Self> {
        let folder = PathBuf::from(format!("/sys/fs/cgroup/freezer/highwater-test-{}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => Some(Self(folder)),
            Err(error) => {
                skip(&format!("no cgroup of the v1 freezer can be made: {error}"));
                None
            }
        }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        fs::write(self.0.join("freezer.state"), "THAWED").unwrap();
        let started = Instant::now();
        while fs::remove_dir(&self.0).is_err() && started.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[track_caller]
fn assert_named(observation: &Observation, name: &str) {
    let survivors = &observation.survivors;
    assert!(survivors.iter().any(|survivor| survivor.name.as_deref() == Some(name)), "{observation:?}");
    for survivor in survivors {
        assert_eq!((survivor.state, state(survivor.pid)), (Some('D'), Some('D')), "{observation:?}");
        let named = Warning::SurvivedKill(survivor.clone());
        assert!(observation.warnings.contains(&named), "{:?}", observation.warnings);
    }
    if let Some(peak) = observation.peak.as_ref().value() {
        assert!(matches!(peak.exactness, Exactness::LowerBound { .. }), "{peak:?}");
    }
}

/// Nothing is left once the survivors are released.
#[track_caller]
fn assert_gone_after_a_moment(observation: &Observation) {
    let started = Instant::now();
    let mut left = observation.survivors.clone();
    let file = observation.peak.as_ref().value().and_then(|peak| peak.file.clone());
    let cgroup = file.as_deref().and_then(Path::parent);
    while !left.is_empty() || cgroup.is_some_and(Path::exists) {
        left.retain(|survivor| state(survivor.pid).is_some_and(|state| state != 'Z'));
        assert!(started.elapsed() < Duration::from_secs(20), "left: {left:?}, {cgroup:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn timed(run: impl FnOnce() -> Ran) -> (Ran, Duration) {
    let started = Instant::now();
    (run(), started.elapsed())
}

/// Survivors must not hold the pipes that the tests read until their end.
const APART: &str = "exec >/dev/null 2>&1; ";

/// A shell command with `$0`.
fn shell(script: &str, word: &str) -> Trial {
    command(["sh", "-c", script, word])
}

const TIMEOUT: Duration = Duration::from_secs(1);
/// Enough time to get into the state under test, even on a busy machine.
const LIMITS: [&str; 4] = ["--timeout", "1s", "--kill-after", "200ms"];

#[test]
fn a_task_that_waits_for_a_file_server_in_state_d_is_given_up() {
    let Some(server) = Unanswering::mount() else { return };
    let (ran, took) = timed(|| shell(&format!("{APART} exec cat \"$0\""), &server.file()).with(LIMITS).run());
    assert!(took < TIMEOUT + BOUND, "{took:?}: {ran:?}");
    assert_eq!(ran.status(), 124, "{ran:?}");
    let observation = ran.observation();
    assert_eq!(observation.outcome, Outcome::TimedOut { after_us: 1_000_000 });
    assert_named(&observation, "cat");
    drop(server);
    assert_gone_after_a_moment(&observation);
}

#[test]
fn two_requests_end_highwater_whatever_state_the_task_is_in() {
    for signals in [[Signal::SIGTERM; 2], [Signal::SIGINT; 2]] {
        let Some(server) = Unanswering::mount() else { return };
        let script = format!("trap '' INT TERM HUP; {APART} exec cat \"$0\"");
        let run = shell(&script, &server.file()).start();
        server.wait_until_asked();
        // The task runs, but highwater has to hear so from its reaper: two requests before that end the start.
        thread::sleep(Duration::from_millis(500));
        let (ran, took) = timed(|| run.signal(signals[0]).wait_until_taken().signal(signals[1]).finish());
        assert!(took < BOUND, "{took:?}: {ran:?}");
        let observation = ran.observation();
        assert!(matches!(observation.outcome, Outcome::Interrupted { .. }), "{observation:?}");
        assert_named(&observation, "cat");
        drop(server);
        assert_gone_after_a_moment(&observation);
    }
}

#[test]
fn a_leftover_that_survives_sigkill_is_named() {
    let Some(server) = Unanswering::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    let may_end = folder.path().join("may-end");
    let script = format!("{APART} cat \"$0\" & while ! test -e {}; do sleep 0.01; done", may_end.display());
    let run = shell(&script, &server.file()).start();
    server.wait_until_asked();
    fs::write(&may_end, "").unwrap();
    let (ran, took) = timed(|| run.finish());
    assert!(took < BOUND, "{took:?}: {ran:?}");
    assert_eq!(ran.status(), 0, "{ran:?}");
    let observation = ran.observation();
    assert_named(&observation, "cat");
    drop(server);
    assert_gone_after_a_moment(&observation);
}

#[test]
fn a_frozen_task_is_given_up_and_ends_when_it_is_thawed() {
    let Some(freezer) = Freezer::create() else { return };
    let freeze = format!("{APART} echo $$ > \"$0\"/tasks; echo FROZEN > \"$0\"/freezer.state; sleep 100");
    let (ran, took) = timed(|| shell(&freeze, freezer.0.to_str().unwrap()).with(LIMITS).run());
    assert!(took < TIMEOUT + BOUND, "{took:?}: {ran:?}");
    assert_eq!(ran.status(), 124, "{ran:?}");
    let observation = ran.observation();
    assert_named(&observation, "sh");
    drop(freezer);
    assert_gone_after_a_moment(&observation);
}
