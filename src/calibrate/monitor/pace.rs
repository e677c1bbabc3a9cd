//! Decides when to sample a run, and what: its usage often, its composition after growth or from time to time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::Observer;
use super::samples::Samples;
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::Running;

/// How long sampling is dense, for short tasks.
const DENSE_FOR: Duration = Duration::from_millis(100);
/// The first sample: by then the program is loaded, and trivial ones have ended.
const FIRST_AFTER: Duration = Duration::from_millis(2);
const DENSE_INTERVAL: Duration = Duration::from_millis(10);
const USUAL_INTERVAL: Duration = Duration::from_millis(100);
const SPARSE_FROM: Duration = Duration::from_secs(1);
const SPARSE_INTERVAL: Duration = Duration::from_millis(200);
/// The same if new maxima show in the usage, so that samples only fill the time between them: less densely the longer a
/// run lasts,
const FILLING_INTERVAL: Duration = Duration::from_millis(400);
/// up to this.
const LONGEST_FILLING_INTERVAL: Duration = Duration::from_secs(2);
/// The interval of reading the usage only, which detects what is held for 50 ms. Its main cost is the wake-up.
const USAGE_INTERVAL: Duration = Duration::from_millis(45);
/// After this time without a new maximum the kernel is asked to notify us of the next one, if it can, and usage is not
/// polled.
const STEADY_AFTER: Duration = Duration::from_millis(500);
/// If the usage has not grown, processes are searched for huge pages, not more often than this,
const PROCESSES_INTERVAL: Duration = Duration::from_millis(100);
/// and not for more than 1/10000 of a core.
const PROCESSES_COST: u32 = 10_000;
/// Sampling at the default interval takes at most 1/20 of a core.
const COST: u32 = 20;
/// The shortest interval that can be configured.
pub const LEAST_INTERVAL: Duration = Duration::from_micros(100);

/// The times of the next actions, from the start of the run.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Option<Duration>,
    usage_at: Duration,
    sample_at: Duration,
    /// When the processes may be read again if memory has grown, and when if it has not.
    processes_at: (Duration, Duration),
    /// Whether the runner can read the usage alone.
    knows_usage: bool,
    /// When usage last reached a new maximum.
    grown_at: Duration,
    /// Readable when usage reaches the next one, while it is not polled.
    notice: Option<OwnedFd>,
    /// Whether the runner can notify us.
    notifies: bool,
}

impl Pace {
    pub(super) fn new(interval: Option<Duration>) -> Self {
        let interval = interval.map(|interval| interval.max(LEAST_INTERVAL));
        let first = interval.unwrap_or(FIRST_AFTER).min(FIRST_AFTER);
        let processes_at = (Duration::ZERO, Duration::ZERO);
        Self {
            interval,
            usage_at: first,
            sample_at: first,
            processes_at,
            knows_usage: interval.is_none(),
            grown_at: Duration::ZERO,
            notice: None,
            notifies: true,
        }
    }

    /// Readable when usage has reached a new maximum, while it is not polled.
    pub(super) fn notice(&self) -> Option<BorrowedFd<'_>> {
        self.notice.as_ref().map(AsFd::as_fd)
    }

    /// Polls usage again, from now on.
    pub(super) fn poll_from(&mut self, elapsed: Duration) {
        self.notice = None;
        self.grown_at = elapsed;
        self.usage_at = elapsed;
    }

    /// The time of the next action.
    pub(super) fn next(&self) -> Duration {
        let polls = self.knows_usage && self.notice.is_none();
        if polls { self.usage_at.min(self.sample_at) } else { self.sample_at }
    }

    /// Reads the usage; takes a sample as well if it has grown or the time has come.
    pub(super) fn look(
        &mut self,
        run: &mut dyn Running,
        elapsed: Duration,
        samples: &mut Samples,
        observer: &mut dyn Observer,
    ) {
        let (dense, sample_interval) = match elapsed {
            _ if elapsed < DENSE_FOR => (true, DENSE_INTERVAL),
            _ if elapsed < SPARSE_FROM => (false, USUAL_INTERVAL),
            _ if self.knows_usage => (false, (elapsed / 8).clamp(FILLING_INTERVAL, LONGEST_FILLING_INTERVAL)),
            _ => (false, SPARSE_INTERVAL),
        };
        self.usage_at = elapsed + if dense { DENSE_INTERVAL } else { USAGE_INTERVAL };
        if elapsed < self.sample_at {
            match run.usage() {
                Ok(Reading::Value(usage)) if samples.is_more(usage) => self.grown_at = elapsed,
                Ok(Reading::Value(_)) => return self.pause_polling(run, elapsed, samples),
                Ok(Reading::Gone) => return,
                Ok(Reading::Unsupported) => return self.knows_usage = false,
                Err(error) => return samples.note(&error),
            }
        }
        let before = cpu_time();
        let current = samples.take(run.sample(), elapsed, observer);
        let cost = cpu_time().saturating_sub(before);
        self.sample_at = match self.interval {
            // On a grid from the first sample, so that a late one does not delay all following ones.
            Some(interval) if self.sample_at + interval > elapsed => self.sample_at + interval,
            Some(interval) => elapsed + interval,
            None => elapsed + sample_interval.max(cost * COST),
        };
        if let Some(current) = current {
            self.look_at_processes(run, elapsed, current, samples);
        }
    }

    /// Has the kernel notify us of the next maximum, once usage has been steady for a while.
    fn pause_polling(&mut self, run: &mut dyn Running, elapsed: Duration, samples: &Samples) {
        let Some(enough) = samples.enough().filter(|_| self.notifies && elapsed >= self.grown_at + STEADY_AFTER) else {
            return;
        };
        self.notice = run.notify_above(enough);
        self.notifies = self.notice.is_some();
        // It may have been exceeded just before.
        if self.notifies && matches!(run.usage(), Ok(Reading::Value(usage)) if usage > enough) {
            self.notice = None;
        }
    }

    fn look_at_processes(&mut self, run: &mut dyn Running, elapsed: Duration, current: Bytes, samples: &mut Samples) {
        let (growing, steady) = self.processes_at;
        if elapsed < if samples.is_more_than_processes(current) { growing } else { steady } {
            return;
        }
        let before = cpu_time();
        samples.take_processes(run, current);
        let cost = cpu_time().saturating_sub(before);
        self.processes_at = (elapsed + cost * COST, elapsed + PROCESSES_INTERVAL.max(cost * PROCESSES_COST));
    }
}

/// The CPU time of this thread: the cost of sampling, however busy the machine is.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::super::ending::Ending;
    use super::*;
    use crate::calibrate::scripted::{Script, finished, mib};

    /// Replays the usages of a run at the times chosen by the pace; returns these times and the samples.
    fn looked(pace: &mut Pace, usages: &[u64]) -> (Vec<Duration>, Vec<u64>) {
        let usages: Vec<Bytes> = usages.iter().copied().map(mib).collect();
        let mut run = Script::new(&usages, finished()).start();
        let mut samples = Samples::default();
        let times = usages.iter().map(|_| {
            let now = pace.next();
            pace.look(&mut run, now, &mut samples, &mut ());
            now
        });
        let times = times.collect();
        let watched = samples.into_watched(Duration::ZERO, Ending::default());
        (times, watched.series.samples.iter().map(|sample| sample.current.0 >> 20).collect())
    }

    #[test]
    fn usage_is_looked_at_often_to_the_end_and_its_parts_when_it_has_grown() {
        let mut pace = Pace::new(None);
        pace.sample_at = Duration::from_secs(5);
        pace.usage_at = Duration::from_secs(4);
        let (times, sampled) = looked(&mut pace, &[100, 50, 100, 110, 110, 108]);
        let step = |pair: &[Duration]| pair[1] - pair[0];
        assert!(times.windows(2).map(step).all(|step| step == USAGE_INTERVAL), "{times:?}");
        assert_eq!(sampled, [100, 110]);
    }

    #[test]
    fn steady_usage_is_not_polled_where_the_kernel_notifies_of_more() {
        let steady = [100; 30].map(mib);
        for notifies in [true, false] {
            let mut run = Script { notifies, ..Script::new(&steady, finished()) }.start();
            let (mut samples, mut pace) = (Samples::default(), Pace::new(None));
            pace.look(&mut run, Duration::from_secs(8), &mut samples, &mut ());
            pace.look(&mut run, Duration::from_secs(8) + USAGE_INTERVAL, &mut samples, &mut ());
            assert_eq!(pace.notice().is_some(), notifies);
            assert_eq!(pace.next() == pace.sample_at, notifies);
            pace.poll_from(Duration::from_millis(8500));
            pace.look(&mut run, Duration::from_millis(8500), &mut samples, &mut ());
            assert_eq!((pace.notice().is_some(), pace.next()), (false, Duration::from_millis(8500) + USAGE_INTERVAL));
        }
    }

    #[test]
    fn what_the_kernel_could_not_notify_of_is_polled() {
        let mut run = Script { notifies: true, ..Script::new(&[100, 100, 150].map(mib), finished()) }.start();
        let (mut samples, mut pace) = (Samples::default(), Pace::new(None));
        for at in [8000, 8045] {
            pace.look(&mut run, Duration::from_millis(at), &mut samples, &mut ());
        }
        assert!(pace.notice().is_none(), "150 MiB were in use before the kernel was asked");
    }

    #[test]
    fn sampling_is_dense_first_and_sparse_then() {
        let cases = [
            (50, true, DENSE_INTERVAL),
            (500, true, USUAL_INTERVAL),
            (1000, true, FILLING_INTERVAL),
            (8000, true, Duration::from_secs(1)),
            (60_000, true, LONGEST_FILLING_INTERVAL),
            (1000, false, SPARSE_INTERVAL),
        ];
        for (at, knows_usage, expected) in cases {
            let mut pace = Pace { knows_usage, ..Pace::new(None) };
            let at = Duration::from_millis(at);
            (pace.usage_at, pace.sample_at) = (at, at);
            looked(&mut pace, &[1]);
            assert_eq!(pace.sample_at - at, expected);
        }
    }

    #[test]
    fn an_interval_that_was_asked_for_is_kept_on_its_grid() {
        let interval = Duration::from_millis(7);
        let mut pace = Pace::new(Some(interval));
        let (times, sampled) = looked(&mut pace, &[5, 4, 3, 2]);
        assert_eq!(times, [0, 1, 2, 3].map(|step| FIRST_AFTER + interval * step));
        assert_eq!(sampled, [5, 4, 3, 2]);
        let mut run = Script::new(&[mib(1), mib(1)], finished()).start();
        let late = pace.next() + interval / 2;
        pace.look(&mut run, late, &mut Samples::default(), &mut ());
        assert_eq!(pace.next(), late + interval / 2);
        let too_late = pace.next() + interval * 2;
        pace.look(&mut run, too_late, &mut Samples::default(), &mut ());
        assert_eq!(pace.next(), too_late + interval);
    }
}
