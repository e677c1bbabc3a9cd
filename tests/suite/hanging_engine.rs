//! A run can be stopped while its engine hangs, whatever the request, and the record shows how far it got.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_engine::{Behaviour, Call, FakeEngine, ID, Task};

/// What ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    Timeout,
    Terminate,
    InterruptTwice,
}

const TRIGGERS: [Trigger; 3] = [Trigger::Timeout, Trigger::Terminate, Trigger::InterruptTwice];

/// The longest time of a run on a machine that is busy with other tests. Removing a container may take a minute,
/// everything else a fraction of it.
const BOUND: Duration = Duration::from_secs(100);

/// A running run.
struct Run {
    engine: FakeEngine,
    folder: TempDir,
    child: Child,
    begun: Instant,
}

/// How it ended.
struct Ran {
    status: Option<i32>,
    stderr: String,
    record: Value,
    took: Duration,
}

fn highwater(engine: &FakeEngine, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.current_dir(folder).env("DOCKER_HOST", engine.url()).env("XDG_CACHE_HOME", folder);
    command.env("DOCKER_CONFIG", folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(behaviour: Behaviour, words: &[&str]) -> Run {
    let engine = FakeEngine::new(behaviour);
    let folder = tempfile::tempdir().unwrap();
    let mut command = highwater(&engine, folder.path());
    command.args(["run", "--quiet", "--record", "runs.jsonl", "--image", "tiny"]).args(words);
    let child = command.spawn().unwrap();
    Run { engine, folder, child, begun: Instant::now() }
}

impl Run {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Lets the trigger take effect once the engine was asked for `call`.
    fn trigger(&self, trigger: Trigger, call: Call) {
        self.engine.wait_for(call);
        match trigger {
            Trigger::Timeout => {}
            Trigger::Terminate => self.signal(Signal::SIGTERM),
            Trigger::InterruptTwice => {
                self.signal(Signal::SIGINT);
                // A second signal is lost if the first has not been handled yet.
                thread::sleep(Duration::from_secs(1));
                self.signal(Signal::SIGINT);
            }
        }
    }

    fn finish(mut self) -> Ran {
        while self.child.try_wait().unwrap().is_none() && self.begun.elapsed() < BOUND {
            thread::sleep(Duration::from_millis(20));
        }
        let took = self.begun.elapsed();
        let _ = self.child.kill();
        let output = self.child.wait_with_output().unwrap();
        let text = std::fs::read_to_string(self.folder.path().join("runs.jsonl")).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        Ran { status: output.status.code(), stderr, record: serde_json::from_str(&text).unwrap_or_default(), took }
    }
}

/// Runs with each trigger while the engine hangs in `call`, at the same time; the trigger takes effect after the
/// request `after`.
fn each(call: Call, after: Call, task: Task, check: impl Fn(Trigger, Ran) + Sync) {
    thread::scope(|scope| {
        for trigger in TRIGGERS {
            let check = &check;
            scope.spawn(move || {
                let probe = if matches!(call, Call::Upload | Call::Download) { "always" } else { "never" };
                let mut words = vec!["--kill-after", "1s", "--probe", probe];
                if trigger == Trigger::Timeout {
                    words.extend(["--timeout", "1s"]);
                }
                let run = run(Behaviour { hangs: Some(call), task, ..Behaviour::default() }, &words);
                run.trigger(trigger, after);
                let ran = run.finish();
                assert!(ran.took < BOUND, "{call:?}, {trigger:?}: {}", ran.stderr);
                check(trigger, ran);
            });
        }
    });
}

fn assert_unanswered(ran: &Ran, outcome: &Value, action: &str, status: i32) {
    let Ran { record, stderr, .. } = ran;
    assert_eq!((&record["outcome"], ran.status), (outcome, Some(status)), "{record:#} {stderr}");
    let unanswered = record["container"]["unanswered"].as_array().unwrap_or_else(|| panic!("{record:#} {stderr}"));
    assert!(unanswered.contains(&action.into()), "{record:#}");
    assert!(stderr.contains("does not respond"), "{stderr}");
}

#[test]
fn an_engine_that_hangs_on_the_way_to_a_running_task_is_left() {
    let cases = [
        (Call::Create, "create the container"),
        (Call::Upload, "copy the probe into the container"),
        (Call::Attach, "attach to the container"),
        (Call::Start, "start the container"),
    ];
    thread::scope(|scope| {
        for (call, action) in cases {
            scope.spawn(move || {
                each(call, call, Task::Stays, |_, ran| {
                    assert_unanswered(&ran, &json!({"kind": "engine-lost"}), action, 3);
                    assert_eq!(ran.record["peak"], if call == Call::Start { "unsupported" } else { "gone" });
                });
            });
        }
    });
}

#[test]
fn an_engine_that_does_not_kill_is_left() {
    each(Call::Kill, Call::Wait, Task::Stays, |_, ran| {
        assert_unanswered(&ran, &json!({"kind": "engine-lost"}), "report the end of the container", 3);
    });
}

#[test]
fn a_task_that_had_ended_by_itself_keeps_its_outcome_whatever_the_engine_hangs_in() {
    let cases = [(Call::Wait, "report the end of the container"), (Call::Inspect, "inspect the container")];
    thread::scope(|scope| {
        for (call, action) in cases {
            for (status, expected) in [(0, 3), (7, 7)] {
                scope.spawn(move || {
                    each(call, call, Task::Ends(status), |_, ran| {
                        assert_unanswered(&ran, &json!({"kind": "exited", "status": status}), action, expected);
                    });
                });
            }
        }
    });
}

#[test]
fn an_engine_that_hangs_after_the_task_is_left() {
    let cases = [(Call::Download, "read /.highwater/result of the container"), (Call::Delete, "remove the container")];
    thread::scope(|scope| {
        for (call, action) in cases {
            scope.spawn(move || {
                each(call, call, Task::Ends(0), |_, ran| {
                    assert_unanswered(&ran, &json!({"kind": "exited", "status": 0}), action, 3);
                });
            });
        }
    });
}

#[test]
fn a_request_to_end_before_the_task_has_started_leaves_no_container() {
    let run = run(Behaviour { slow: Some(Call::Create), ..Behaviour::default() }, &["--probe", "never"]);
    run.trigger(Trigger::Terminate, Call::Create);
    run.engine.wait_for(Call::Delete);
    assert_eq!(run.engine.paths(Call::Start), Vec::<String>::new());
    let ran = run.finish();
    assert_eq!((ran.status, &ran.record["outcome"]["kind"]), (Some(143), &json!("interrupted")), "{:#}", ran.record);
    assert!(ran.record["container"]["unanswered"].is_null(), "{:#}", ran.record);
}

fn output(behaviour: Behaviour, words: &[&str]) -> (Output, FakeEngine, Duration) {
    let engine = FakeEngine::new(behaviour);
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let output = highwater(&engine, folder.path()).args(words).output().unwrap();
    (output, engine, begun.elapsed())
}

/// Text without its line breaks.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn a_sweep_stops_at_an_engine_that_hangs() {
    let engine = FakeEngine::new(Behaviour { hangs: Some(Call::Delete), task: Task::Ends(1), ..Behaviour::default() });
    let folder = tempfile::tempdir().unwrap();
    let mut command = highwater(&engine, folder.path());
    command.args(["sweep", "--into", "records", "--image", "tiny", "--probe", "never", "-r", "3", "--", "/task"]);
    let child = command.spawn().unwrap();
    engine.wait_for(Call::Delete);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let records = std::fs::read_to_string(folder.path().join("records/observations.jsonl")).unwrap();
    assert_eq!((records.lines().count(), engine.paths(Call::Create).len()), (1, 1), "{records}");
}

#[test]
fn doctor_and_clean_leave_an_engine_that_hangs() {
    let hanging = || Behaviour { hangs: Some(Call::Version), ..Behaviour::default() };
    let (doctor, _engine, took) = output(hanging(), &["doctor"]);
    assert!(text(&doctor.stdout).contains("no response within 3 s"), "{}", text(&doctor.stdout));
    assert!(took < Duration::from_secs(30), "{took:?}");
    let (clean, _engine, took) = output(hanging(), &["clean", "--dry-run"]);
    assert_eq!(clean.status.code(), Some(3), "{}", text(&clean.stderr));
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_pull_that_hangs_can_be_interrupted() {
    let mut run = run(Behaviour { hangs: Some(Call::Pull), has_image: false, ..Behaviour::default() }, &[]);
    run.trigger(Trigger::Terminate, Call::Pull);
    assert!(!run.child.wait().unwrap().success());
    assert!(run.begun.elapsed() < BOUND);
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    for call in [Call::Version, Call::Image, Call::Create] {
        let behaviour = Behaviour { endless: Some(call), ..Behaviour::default() };
        let words = ["run", "--quiet", "--image", "tiny", "--probe", "never"];
        let (run, _engine, _) = output(behaviour, &words);
        let told = text(&run.stderr);
        assert!(told.contains("larger than the limit of 8388608 bytes"), "{call:?}: {told}");
    }
}

#[test]
fn an_id_that_leads_elsewhere_is_refused() {
    for id in ["", "../../images/prune", "a?force=1", &"a".repeat(1000)] {
        let behaviour = Behaviour { id: id.to_owned(), ..Behaviour::default() };
        let (run, engine, _) = output(behaviour, &["run", "--quiet", "--image", "tiny", "--probe", "never"]);
        assert_eq!(run.status.code(), Some(3), "{}", text(&run.stderr));
        assert!(text(&run.stderr).contains("expected an ID of letters and digits"), "{}", text(&run.stderr));
        let removed = engine.paths(Call::Delete);
        assert!(removed.iter().all(|path| path.contains("/containers/highwater-")), "{removed:?}");
    }
    let (run, engine, _) = output(Behaviour::default(), &["run", "--quiet", "--image", "tiny", "--probe", "never"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert!(engine.paths(Call::Delete)[0].contains(ID));
}
