//! The record of a run, for each verdict: every run here is scripted.

use std::time::Duration;

use super::super::monitor::Request;
use super::super::scripted::{ERROR_BOUND, Ends, Once, Requests, Script, events, finished, mib, sample};
use super::*;
use crate::host::processes::LargestProcesses;
use crate::model::observation::{Container, Engine, Limits, PeakSource, ProcessSize, Series, Survivor};
use crate::model::signal::Signal;
use crate::runner::{Contained, Sample};

fn host() -> Host {
    Host {
        name: None,
        kernel: "6.1.0".to_owned(),
        architecture: "x86_64".to_owned(),
        cpus: 2,
        page_bytes: Bytes(4096),
        memory_bytes: Reading::Unsupported,
        swap_bytes: Reading::Unsupported,
        cgroup: None,
    }
}

const BRISK: WatchOptions =
    WatchOptions { timeout: None, kill_after: Duration::from_millis(5), interval: None, skip_status: None };

/// The observation of a script.
fn observed(script: Script) -> Observation {
    measure(&mut Once(Some(script)), RunContext::default(), host(), &BRISK, None, &mut ()).unwrap()
}

/// The observation of a run without samples that finishes like this.
fn record(finished: Finished) -> Observation {
    observed(Script::new(&[], finished))
}

fn limited(limit: Bytes) -> Limits {
    let limit = Reading::Value(Some(limit));
    Limits { own: limit, effective: limit, copied_from: None }
}

fn peak_of(bytes: Bytes, exactness: Exactness) -> Reading<Peak> {
    Reading::Value(Peak { bytes, source: PeakSource::OwnCgroup, file: None, exactness, upper_bound: None })
}

fn exact(bytes: Bytes) -> Reading<Peak> {
    peak_of(bytes, Exactness::Exact { error_bound_bytes: ERROR_BOUND })
}

fn lower_bound(bytes: Bytes) -> Reading<Peak> {
    peak_of(bytes, Exactness::LowerBound { reason: "it was sampled".to_owned(), remedy: "a cgroup".to_owned() })
}

fn container(oom_killed: bool) -> Contained {
    let engine =
        Engine { name: "An Engine".to_owned(), version: None, cgroup_driver: None, cgroup: None, kernel: None };
    let container = Container {
        image: "image".to_owned(),
        image_id: None,
        image_digests: Vec::new(),
        engine,
        idle_peak: None,
        options: Vec::new(),
        unanswered: Vec::new(),
    };
    Contained { container, logs: None, wall: None, oom_killed, timed_out: None, pod: None }
}

#[test]
fn a_run_that_ends_by_itself_has_the_outcome_of_its_first_process() {
    let exited = |status| Outcome::Exited { status };
    let signalled = |signal| Outcome::Signalled { signal };
    let cases = [
        (End::Exited(0), 0, exited(0)),
        (End::Exited(3), 0, exited(3)),
        (End::Exited(137), 0, exited(137)),
        (End::Signalled(9), 0, signalled(9)),
        (End::Signalled(11), 0, signalled(11)),
        (End::Lost, 0, Outcome::EngineLost),
        // With a counted kill, SIGKILL and a shell's status for it are that kill; other ends are not.
        (End::Signalled(9), 1, Outcome::OomKilled),
        (End::Exited(137), 1, Outcome::OomKilled),
        (End::Exited(0), 1, exited(0)),
        (End::Exited(1), 1, exited(1)),
        (End::Signalled(15), 1, signalled(15)),
    ];
    for (end, kills, expected) in cases {
        let run = record(Finished { end, events: Reading::Value(events(0, kills)), ..finished() });
        assert_eq!(run.outcome, expected, "{end:?} with {kills} kills");
        assert_eq!(run.censored, kills > 0, "{end:?} with {kills} kills");
    }
}

#[test]
fn a_kill_that_only_the_engine_reports_counts_as_one() {
    let killed = record(Finished { end: End::Exited(137), contained: Some(container(true)), ..finished() });
    assert_eq!((killed.outcome, killed.censored), (Outcome::OomKilled, true));
    assert_eq!(killed.warnings, []);

    let survived = record(Finished { contained: Some(container(true)), ..finished() });
    assert_eq!((survived.outcome, survived.censored), (Outcome::Exited { status: 0 }, true));
    assert_eq!(survived.events.value().unwrap().oom_kills, Reading::Value(1));
    assert_eq!(survived.warnings, [Warning::OomKillReported]);

    let unscathed = record(Finished { contained: Some(container(false)), ..finished() });
    assert!(!unscathed.censored && unscathed.warnings.is_empty(), "{unscathed:?}");
}

#[test]
fn a_task_that_had_ended_before_it_was_asked_to_has_not_timed_out() {
    let timeout = Duration::from_millis(50);
    let how = WatchOptions { timeout: Some(timeout), ..BRISK };
    let measured = |finished| {
        let script = Script { ends: Ends::On(Signal::SIGKILL), ..Script::new(&[], finished) };
        measure(&mut Once(Some(script)), RunContext::default(), host(), &how, None, &mut ()).unwrap().outcome
    };
    let ended_after = |wall, end| {
        let contained = Contained { wall: Some(wall), ..container(false) };
        measured(Finished { end, contained: Some(contained), ..finished() })
    };
    // An engine that hangs has not reported the end.
    assert_eq!(ended_after(timeout / 2, End::Exited(3)), Outcome::Exited { status: 3 });
    assert_eq!(ended_after(timeout * 2, End::Exited(137)), Outcome::TimedOut { after_us: micros(timeout) });
    let mut unanswered = container(false);
    unanswered.container.unanswered.push("report the end of the container".to_owned());
    let lost = measured(Finished { end: End::Lost, contained: Some(unanswered), ..finished() });
    assert_eq!(lost, Outcome::EngineLost);
}

#[test]
fn a_run_is_censored_where_a_limit_may_have_kept_it_from_more() {
    let hits = |hits| Reading::Value(events(hits, 0));
    let uncounted = Reading::Value(Events { limit_hits: Reading::Unsupported, ..events(0, 0) });
    let almost = Bytes(mib(100).0 + ERROR_BOUND.0);
    // The peak is 100 MiB, exact within 512 KiB, unless a line says otherwise.
    let cases = [
        ("no limit, though one was counted as hit", Finished { events: hits(3), ..finished() }, false),
        ("a limit out of reach", Finished { limit: limited(mib(200)), ..finished() }, false),
        ("a limit that was hit", Finished { limit: limited(mib(200)), events: hits(1), ..finished() }, true),
        (
            "a limit that was hit, and no peak to be read",
            Finished { limit: limited(mib(200)), events: hits(1), peak: Reading::Gone, ..finished() },
            true,
        ),
        ("a peak at the limit, which no counter shows", Finished { limit: limited(mib(100)), ..finished() }, true),
        (
            "a peak within the noise of a limit that counts hits, and has none",
            Finished { limit: limited(almost), ..finished() },
            false,
        ),
        (
            "a peak within the noise of a limit that counts no hits",
            Finished { limit: limited(almost), events: uncounted, ..finished() },
            true,
        ),
        (
            "a peak further from a limit that counts no hits",
            Finished { limit: limited(mib(101)), events: uncounted, ..finished() },
            false,
        ),
        (
            "a lower bound has no noise to be within",
            Finished { limit: limited(almost), events: uncounted, peak: lower_bound(mib(100)), ..finished() },
            false,
        ),
        (
            "a limit, and nothing else that could be read",
            Finished { limit: limited(mib(100)), events: Reading::Gone, peak: Reading::Gone, ..finished() },
            false,
        ),
        ("a limit above that was felt", Finished { held_back_from_above: true, ..finished() }, true),
        ("a limit that nobody can read", Finished { limit: Limits::UNSUPPORTED, events: hits(1), ..finished() }, false),
    ];
    for (case, finished, expected) in cases {
        assert_eq!(record(finished).censored, expected, "{case}");
    }
}

#[test]
fn what_highwater_ended_has_its_reason_as_outcome_however_the_process_ended() {
    let ends = [
        (Ends::On(Signal::SIGTERM), vec![Signal::SIGTERM]),
        (Ends::On(Signal::SIGKILL), vec![Signal::SIGTERM, Signal::SIGKILL]),
    ];
    for (ends, expected) in ends {
        let timeout = Some(Duration::from_millis(3));
        let script = Script { ends, ..Script::new(&[], Finished { end: End::Signalled(9), ..finished() }) };
        let signals = script.signals.clone();
        let how = WatchOptions { timeout, ..BRISK };
        let run = measure(&mut Once(Some(script)), RunContext::default(), host(), &how, None, &mut ()).unwrap();
        assert_eq!(run.outcome, Outcome::TimedOut { after_us: 3000 });
        assert_eq!(*signals.borrow(), expected);
        assert!(!run.censored, "{run:?}");
    }
    let mut asked = Requests::new([Request { signal: Signal::SIGINT, task_knows: false }]);
    let script = Script { ends: Ends::On(Signal::SIGINT), ..Script::new(&[], finished()) };
    let run =
        measure(&mut Once(Some(script)), RunContext::default(), host(), &BRISK, Some(&mut asked), &mut ()).unwrap();
    assert_eq!(run.outcome, Outcome::Interrupted { signal: 2 });
}

#[test]
fn what_survives_sigkill_is_named_and_makes_the_peak_a_lower_bound() {
    let survivor = |pid, name: Option<&str>, state| Survivor { pid, name: name.map(str::to_owned), state };
    let survivors =
        vec![survivor(7, Some("cat"), Some('D')), survivor(8, Some("sudo"), Some('S')), survivor(9, None, None)];
    let script = Script {
        ends: Ends::Never,
        ..Script::new(&[], Finished { end: End::StillRunning, survivors: survivors.clone(), ..finished() })
    };
    let how = WatchOptions { timeout: Some(Duration::from_millis(3)), ..BRISK };
    let run = measure(&mut Once(Some(script)), RunContext::default(), host(), &how, None, &mut ()).unwrap();
    assert_eq!(run.outcome, Outcome::TimedOut { after_us: 3000 });
    assert_eq!(run.survivors, survivors);
    assert!(run.warnings.iter().cloned().eq(survivors.into_iter().map(Warning::SurvivedKill)), "{run:?}");
    let peak = run.peak.value().unwrap();
    assert_eq!(peak.bytes, mib(100));
    assert!(matches!(peak.exactness, Exactness::LowerBound { reason, .. } if reason.starts_with("process 7 (cat)")));
}

#[test]
fn a_kill_for_memory_censors_a_run_that_timed_out_too() {
    let script = Script {
        ends: Ends::On(Signal::SIGTERM),
        ..Script::new(&[], Finished { events: Reading::Value(events(5, 2)), ..finished() })
    };
    let how = WatchOptions { timeout: Some(Duration::from_millis(3)), ..BRISK };
    let run = measure(&mut Once(Some(script)), RunContext::default(), host(), &how, None, &mut ()).unwrap();
    assert_eq!((run.outcome, run.censored), (Outcome::TimedOut { after_us: 3000 }, true));
    assert_eq!(run.warnings, [Warning::OomKills { kills: 2, shared_cgroup: false }]);
}

#[test]
fn the_peak_of_the_runner_is_the_peak_of_the_record_word_for_word() {
    for peak in [exact(mib(7)), lower_bound(mib(7)), Reading::Unsupported, Reading::Gone] {
        assert_eq!(record(Finished { peak: peak.clone(), ..finished() }).peak, peak);
    }
}

#[test]
fn the_breakdown_is_of_the_fullest_moment_that_was_seen() {
    let last = |bytes| Reading::Value(sample(bytes));
    let cases: [(&[u64], Reading<Sample>, Option<u64>); 5] = [
        (&[20, 99, 60], Reading::Gone, Some(99)),
        (&[20, 99, 60], last(mib(60)), Some(99)),
        (&[20, 60], last(mib(99)), Some(99)),
        (&[], last(mib(99)), Some(99)),
        (&[], Reading::Gone, None),
    ];
    for (samples, last, expected) in cases {
        let samples: Vec<Bytes> = samples.iter().copied().map(mib).collect();
        let run = observed(Script::new(&samples, Finished { last, ..finished() }));
        let breakdown = run.breakdown.value();
        assert_eq!(breakdown.map(|breakdown| breakdown.current), expected.map(mib), "{run:?}");
        assert_eq!(breakdown.and_then(|breakdown| breakdown.anon.value()), expected.map(mib), "{run:?}");
        assert_eq!(run.series.taken, samples.len() as u64);
    }
}

#[test]
fn the_warnings_say_what_the_numbers_do_not() {
    let cases = [
        (Finished { leftover_processes: Reading::Value(2), ..finished() }, Warning::LeftoverProcesses { processes: 2 }),
        (Finished { swap_peak: Reading::Value(mib(3)), ..finished() }, Warning::SwappedOut { bytes: mib(3) }),
        (
            Finished { events: Reading::Value(events(0, 1)), ..finished() },
            Warning::OomKills { kills: 1, shared_cgroup: false },
        ),
        (Finished { problems: vec![Warning::ProbeKilled], ..finished() }, Warning::ProbeKilled),
    ];
    for (finished, expected) in cases {
        assert_eq!(record(finished).warnings, [expected]);
    }
    assert_eq!(record(finished()).warnings, []);
}

#[test]
fn what_lies_between_samples_is_no_part_of_the_breakdown_and_said_where_it_matters() {
    // The peak is 100 MiB, at most 512 KiB too high.
    let cases =
        [(100, None, false), (99, Some(1), false), (95, Some(5), false), (94, Some(6), true), (70, Some(30), true)];
    for (sampled, between, warned) in cases {
        let run = observed(Script::new(&[mib(sampled)], finished()));
        assert_eq!(run.between_samples(), between.map(mib), "{sampled} MiB sampled");
        assert_eq!(!run.warnings.is_empty(), warned, "{sampled} MiB sampled: {:?}", run.warnings);
    }
    let run = observed(Script::new(&[mib(70)], finished()));
    let expected = Warning::PeakBetweenSamples { missing_bytes: mib(30), peak_bytes: mib(100) };
    assert_eq!(run.warnings, [expected]);
    let lower = observed(Script::new(&[mib(70)], Finished { peak: lower_bound(mib(70)), ..finished() }));
    assert_eq!((lower.between_samples(), lower.warnings.len()), (None, 0));
    assert_eq!(record(finished()).between_samples(), None);
}

fn process(name: &str) -> ProcessSize {
    ProcessSize { pid: 7, name: name.to_owned(), anon: mib(60) }
}

#[test]
fn the_largest_processes_belong_to_the_fullest_moment_or_are_left_out() {
    let largest = LargestProcesses { largest: vec![process("large")], hugetlb: None };
    let script = |usages: &[Bytes], finished| Script { largest: largest.clone(), ..Script::new(usages, finished) };
    assert_eq!(observed(script(&[mib(99)], finished())).largest_processes, [process("large")]);
    let fuller = Finished { last: Reading::Value(sample(mib(100))), ..finished() };
    assert_eq!(observed(script(&[mib(98)], fuller.clone())).largest_processes, [process("large")]);
    assert_eq!(observed(script(&[mib(50)], fuller)).largest_processes, []);
}

#[test]
fn huge_pages_that_no_cgroup_counts_are_a_warning() {
    let largest = LargestProcesses { largest: Vec::new(), hugetlb: Some((mib(4), "database".to_owned())) };
    let run = observed(Script { largest, ..Script::new(&[mib(99)], finished()) });
    assert_eq!(run.warnings, [Warning::HugePages { bytes: mib(4), process: "database".to_owned() }]);
}

#[test]
fn an_interval_that_was_asked_for_and_could_not_be_kept_is_a_warning() {
    let busy = |attempts| Watched {
        wall: Duration::from_millis(100),
        stop: None,
        asked_at: None,
        series: Series::default(),
        attempts,
        highest: None,
        largest_processes: Vec::new(),
        processes_at: Bytes::ZERO,
        hugetlb: None,
        swap: None,
        unread: None,
    };
    let asked = |interval| WatchOptions { interval: Some(Duration::from_millis(interval)), ..BRISK };
    let missed = Warning::MissedSamples { mean_us: 25_000, requested_us: 5_000 };
    assert_eq!(missed_samples(&busy(4), &asked(5)), Some(missed));
    assert!(missed_samples(&busy(0), &asked(5)).is_some());
    assert_eq!(missed_samples(&busy(10), &asked(5)), None);
    assert_eq!(missed_samples(&busy(1), &asked(50)), None, "a run this short proves nothing");
    assert_eq!(missed_samples(&busy(1), &BRISK), None);
}

#[test]
fn a_sample_that_could_not_be_read_is_a_warning_and_does_not_end_the_run() {
    let mut script = Script::new(&[mib(99)], finished());
    script.samples.insert(0, Err(crate::host::HostError::Removed { cgroup: "x".to_owned() }));
    let run = observed(script);
    assert_eq!((run.series.taken, run.outcome), (1, Outcome::Exited { status: 0 }));
    assert!(matches!(&run.warnings[..], [Warning::UnreadSamples { reason }] if reason.starts_with("failed to reach")));
}

#[test]
fn swap_that_only_samples_show_is_kept() {
    let mut swapped = sample(mib(99));
    swapped.split = swapped.split.map(|split| crate::host::memory::Split { swap: Reading::Value(mib(4)), ..split });
    let mut script = Script::new(&[mib(99)], finished());
    script.samples.insert(0, Ok(Reading::Value(swapped)));
    let run = observed(script);
    assert_eq!(run.swap, Swap { peak: Reading::Unsupported, highest_sampled: Reading::Value(mib(4)) });
    assert_eq!(run.warnings, [Warning::SwappedOut { bytes: mib(4) }]);
}
