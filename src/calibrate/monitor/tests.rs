use std::time::Instant;

use super::*;
use crate::calibrate::scripted::{Ends, Requests, Script, finished, mib};

fn request(signal: Signal) -> Request {
    Request { signal, task_knows: false }
}

/// Watches a run that ends like this, with these requests; returns the observations, the signals sent, and the time
/// taken.
fn watched(ends: Ends, options: &WatchOptions, requests: &[Request]) -> (Watched, Vec<Signal>, Duration) {
    let script = Script { ends, ..Script::new(&[], finished()) };
    let signals = script.signals.clone();
    let mut cancel = Requests::new(requests.iter().copied());
    let started = Instant::now();
    let watched = watch(&mut script.start(), options, &mut Patience::new(Some(&mut cancel)), &mut ()).unwrap();
    (watched, signals.take(), started.elapsed())
}

const BRISK: WatchOptions = WatchOptions {
    timeout: Some(Duration::from_millis(5)),
    kill_after: Duration::from_millis(5),
    interval: None,
    skip_status: None,
};

/// Slack for a busy machine beside the second that a killed process has.
const BOUND: Duration = Duration::from_secs(3);

#[test]
fn a_run_that_survives_sigkill_is_given_up() {
    let (seen, signals, took) = watched(Ends::Never, &BRISK, &[]);
    assert_eq!(seen.stop, Some(Stop::TimedOut(Duration::from_millis(5))));
    assert_eq!(signals, [Signal::SIGTERM, Signal::SIGKILL]);
    assert!(took < BOUND, "{took:?}");
}

#[test]
fn every_request_after_the_first_kills_and_none_puts_the_end_off() {
    let patient =
        WatchOptions { timeout: None, kill_after: Duration::from_secs(3600), interval: None, skip_status: None };
    let requests = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGINT, Signal::SIGTERM].map(request);
    let (seen, signals, took) = watched(Ends::Never, &patient, &requests);
    assert_eq!(seen.stop, Some(Stop::Interrupted(Signal::SIGTERM)));
    assert_eq!(signals, [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGKILL, Signal::SIGKILL]);
    assert!(took < BOUND, "{took:?}");
}

#[test]
fn ctrl_c_on_the_terminal_of_the_task_is_not_sent_twice() {
    let asked = Request { signal: Signal::SIGINT, task_knows: true };
    let (seen, signals, _) = watched(Ends::On(Signal::SIGKILL), &WatchOptions { timeout: None, ..BRISK }, &[asked]);
    assert_eq!(seen.stop, Some(Stop::Interrupted(Signal::SIGINT)));
    assert_eq!(signals, [Signal::SIGKILL]);
}

#[test]
fn a_request_that_comes_with_the_end_of_the_run_counts() {
    let (seen, signals, _) = watched(Ends::AfterSamples, &BRISK, &[request(Signal::SIGINT)]);
    assert_eq!((seen.stop, signals), (Some(Stop::Interrupted(Signal::SIGINT)), Vec::new()));
}

#[test]
fn the_fullest_moment_is_sampled_though_no_sample_is_due() {
    let mut usages = vec![mib(10); 20];
    usages.extend([mib(100), mib(10), mib(10)]);
    let mut run = Script::new(&usages, finished()).start();
    let seen = watch(&mut run, &WatchOptions { timeout: None, ..BRISK }, &mut Patience::new(None), &mut ()).unwrap();
    assert_eq!(seen.highest.unwrap().current, mib(100));
    assert!(seen.series.taken < 20, "{}", seen.series.taken);
}
