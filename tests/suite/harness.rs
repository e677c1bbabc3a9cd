//! What holds for the whole suite: how tests are skipped, and the signals that children start with.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, Once, PoisonError};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use serde::de::DeserializeOwned;

/// The skipped tests by reason.
static SKIPPED: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

/// Reports why a test is skipped, bypassing the harness, which captures the output of passing tests. The last line of
/// the suite says how many were skipped, and why.
pub(crate) fn skip(why: &str) {
    static SUMMARY: Once = Once::new();
    // SAFETY: the function takes no arguments and does not unwind.
    SUMMARY.call_once(|| assert_eq!(unsafe { libc::atexit(print_summary) }, 0));
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    std::io::stderr().write_all(format!("skipped {name}: {why}\n").as_bytes()).unwrap();
    let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let names = skipped.entry(why.to_owned()).or_default();
    // A test may skip several of its cases.
    if !names.contains(&name) {
        names.push(name);
    }
}

/// The Python environment of `tests/run`, if it has these modules. CI must have them.
pub(crate) fn python(modules: &str) -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/python");
    let import = format!("import {modules}");
    if Command::new(&python).args(["-c", &import]).output().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "{} lacks what tests/run installs", python.display());
    skip(&format!("target/tools has no Python with {modules}"));
    None
}

/// Runs when the program exits, after the last line of the harness.
extern "C" fn print_summary() {
    let skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut reasons: Vec<(usize, &str)> = skipped.iter().map(|(why, names)| (names.len(), why.as_str())).collect();
    reasons.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let total: usize = reasons.iter().map(|(count, _)| count).sum();
    let reasons: Vec<String> = reasons.iter().map(|(count, why)| format!("{count} because {why}")).collect();
    let tests = if total == 1 { "test" } else { "tests" };
    let _ = writeln!(std::io::stderr(), "{total} {tests} skipped: {}", reasons.join("; "));
}

/// The only element of an array of JSON: `run` and `fit` write one with an element for each run or task.
#[track_caller]
pub(crate) fn only_element<T: DeserializeOwned>(json: impl AsRef<[u8]>) -> T {
    let text = String::from_utf8_lossy(json.as_ref());
    let [only]: [T; 1] = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
    only
}

/// Signals that a shell, `nohup` or a CI runner may have the suite ignore.
const SIGNALS: [Signal; 5] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGCHLD];

/// Lets children start with the default action of every signal: what is ignored stays ignored across exec. The suite
/// itself goes on when it receives them, as whoever started it wants: a handler that does nothing is reset by exec.
extern "C" fn reset_signals() {
    extern "C" fn nothing(_: libc::c_int) {}
    for signal in SIGNALS {
        let handler = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing.
        let Ok(old) = (unsafe { sigaction(signal, &handler) }) else { continue };
        if !matches!(old.handler(), SigHandler::SigIgn) {
            // SAFETY: this is what was there before.
            let _ = unsafe { sigaction(signal, &old) };
        }
    }
}

/// Called before `main`, and so before the harness starts a test.
#[used]
// SAFETY: the section holds pointers to functions of this type.
#[unsafe(link_section = ".init_array")]
static RESET_SIGNALS: extern "C" fn() = reset_signals;

#[test]
fn children_start_with_the_default_action_of_every_signal() {
    // The suite again, with these signals ignored, and of it a test that reports what its children ignore.
    let program = std::env::current_exe().unwrap();
    let test = "harness::no_signal_is_ignored_here";
    let script = "trap '' HUP INT QUIT TERM; exec \"$0\" --exact \"$1\"";
    let output = Command::new("sh").args(["-c", script]).arg(program).arg(test).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
}

#[test]
fn no_signal_is_ignored_here() {
    let status = Command::new("grep").args(["SigIgn", "/proc/self/status"]).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    let mask = u64::from_str_radix(status.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    let ignored: Vec<Signal> = SIGNALS.into_iter().filter(|signal| mask & (1 << (*signal as i32 - 1)) != 0).collect();
    assert_eq!(ignored, []);
}

#[test]
fn the_last_line_of_the_suite_counts_the_skipped_tests() {
    let program = std::env::current_exe().unwrap();
    let mut suite = Command::new(program);
    suite.args(["harness::is_skipped"]).env(SKIP_FOR_TEST, "1");
    let output = suite.output().unwrap();
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().last(), Some("1 test skipped: 1 because a test counts it"), "{stderr}");
}

/// Set for a suite whose output is tested.
const SKIP_FOR_TEST: &str = "HIGHWATER_TEST_SKIP";

#[test]
fn is_skipped() {
    if std::env::var_os(SKIP_FOR_TEST).is_some() {
        skip("a test counts it");
        skip("a test counts it");
    }
}
