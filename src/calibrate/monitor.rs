//! Watches a run until it ends, and ends it when it must.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::host::HostError;
use crate::model::observation::{Breakdown, Series, micros};
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::{Running, Sample};

/// Samples that are kept at most; a longer series is thinned to half of it.
const KEPT: usize = 240;
/// How long sampling is dense, for tasks that end soon.
const DENSE_FOR: Duration = Duration::from_millis(100);
/// The first sample: the program has been loaded by then, and what does next to nothing has ended.
const FIRST_AFTER: Duration = Duration::from_millis(2);
const DENSE_INTERVAL: Duration = Duration::from_millis(10);
const USUAL_INTERVAL: Duration = Duration::from_millis(100);
/// A run that lasts longer is made safe against our own sudden end; before, it is not worth its cost.
const SETTLED_AFTER: Duration = Duration::from_millis(10);
const SPARSE_FROM: Duration = Duration::from_secs(1);
/// Waking up and reading takes about 0.1 ms of CPU time: 0.05 % of a core.
const SPARSE_INTERVAL: Duration = Duration::from_millis(200);

/// How to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// How long the run may last.
    pub timeout: Option<Duration>,
    /// How long it may take to end after a SIGTERM, before it is killed.
    pub kill_after: Duration,
    /// The time between two samples; dense for 100 ms, then 100 ms, after a second 200 ms, where there is none.
    pub interval: Option<Duration>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { timeout: None, kill_after: Duration::from_secs(10), interval: None }
    }
}

impl Watch {
    fn next_sample(&self, elapsed: Duration) -> Duration {
        elapsed
            + match self.interval {
                Some(interval) => interval.max(Duration::from_micros(100)),
                None if elapsed < DENSE_FOR => DENSE_INTERVAL,
                None if elapsed < SPARSE_FROM => USUAL_INTERVAL,
                None => SPARSE_INTERVAL,
            }
    }
}

/// Tells that the run is to be ended before its time.
pub trait Cancel {
    /// Readable when there is something to take.
    fn requested(&self) -> BorrowedFd<'_>;

    /// The request, if there is one.
    fn take(&mut self) -> Option<Request>;
}

/// That highwater was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The signal it was told with.
    pub signal: Signal,
    /// Whether the task was sent the same, as by Ctrl-C on a terminal.
    pub task_knows: bool,
}

/// Is shown how the run is getting on.
pub trait Observer {
    /// One sample was taken.
    fn sampled(&mut self, elapsed: Duration, current: Bytes, highest: Bytes);
}

/// Looks away.
impl Observer for () {
    fn sampled(&mut self, _: Duration, _: Bytes, _: Bytes) {}
}

/// Why a run was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its time was over.
    TimedOut(Duration),
    /// Highwater was told to end.
    Interrupted(Signal),
}

/// What was seen of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// From the start to the end of the first process.
    pub wall: Duration,
    /// Why it was ended, where it did not end by itself.
    pub stop: Option<Stop>,
    /// The samples.
    pub series: Series,
    /// The one with the most memory in use.
    pub highest: Option<Breakdown>,
    /// The most swap that a sample showed.
    pub swap: Option<Bytes>,
    /// Why samples are missing, where some could not be read.
    pub unread: Option<String>,
}

/// Watches until the first process has ended. Sampling that fails does not end the run.
///
/// # Errors
/// Where the machine cannot wait or send signals; the run is still under way then.
pub fn watch(
    run: &mut dyn Running,
    how: &Watch,
    mut cancel: Option<&mut dyn Cancel>,
    observer: &mut dyn Observer,
) -> Result<Watched, std::io::Error> {
    let started = run.started();
    let mut samples = Samples::default();
    let mut ending = Ending::default();
    let mut sample_at = how.interval.unwrap_or(FIRST_AFTER).min(FIRST_AFTER);
    let mut settle_at = Some(SETTLED_AFTER);
    loop {
        let elapsed = started.elapsed();
        let next = [Some(sample_at), settle_at, ending.next(how)].into_iter().flatten().min();
        let pause = next.map(|next| next.saturating_sub(elapsed));
        let (ended, requested) = wait(run.ended(), cancel.as_deref().map(Cancel::requested), pause)?;
        let elapsed = started.elapsed();
        let request = if requested { cancel.as_deref_mut().and_then(Cancel::take) } else { None };
        if ended {
            // Ctrl-C reaches the task and us at the same time, and the task may be the first to act on it.
            if let Some(request) = request {
                ending.stop.get_or_insert(Stop::Interrupted(request.signal));
            }
            let Samples { series, highest, swap, unread } = samples;
            return Ok(Watched { wall: elapsed, stop: ending.stop, series, highest, swap, unread });
        }
        if let Some(request) = request {
            ending.request(run, request, elapsed)?;
        }
        ending.keep_time(run, how, elapsed)?;
        if settle_at.is_some_and(|settle_at| elapsed >= settle_at) {
            run.settle();
            settle_at = None;
        }
        if elapsed >= sample_at {
            samples.take(run.sample(), elapsed, observer);
            // A sample that took long (a large tree of processes) must not become the run's main work.
            let cost = started.elapsed() - elapsed;
            sample_at = how.next_sample(elapsed).max(elapsed + cost * 20);
        }
    }
}

/// Waits for the end, a request or the time of the next deed.
fn wait(
    ended: BorrowedFd<'_>,
    requested: Option<BorrowedFd<'_>>,
    pause: Option<Duration>,
) -> Result<(bool, bool), std::io::Error> {
    let mut files: Vec<PollFd<'_>> =
        [Some(ended), requested].into_iter().flatten().map(|file| PollFd::new(file, PollFlags::POLLIN)).collect();
    // Rounded up: a pause of less than a millisecond must not become a busy loop.
    let timeout = pause.map_or(PollTimeout::NONE, |pause| {
        let millis = pause.as_micros().div_ceil(1000);
        PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut files, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = files.iter().map(|file| file.any().unwrap_or(false));
    Ok((ready.next().unwrap_or(false), ready.next().unwrap_or(false)))
}

/// The end of a run that does not end by itself: first asked, then killed.
#[derive(Debug, Default)]
struct Ending {
    stop: Option<Stop>,
    asked_at: Option<Duration>,
    killed: bool,
}

impl Ending {
    /// When there is something to do.
    fn next(&self, how: &Watch) -> Option<Duration> {
        match self.asked_at {
            None => how.timeout,
            Some(_) if self.killed => None,
            Some(asked_at) => Some(asked_at + how.kill_after),
        }
    }

    fn request(&mut self, run: &mut dyn Running, request: Request, elapsed: Duration) -> Result<(), std::io::Error> {
        if self.asked_at.is_some() {
            // Asked twice: no more patience.
            return self.kill(run);
        }
        self.stop = Some(Stop::Interrupted(request.signal));
        self.asked_at = Some(elapsed);
        if request.task_knows && run.shares_terminal() { Ok(()) } else { run.signal(request.signal) }
    }

    fn keep_time(&mut self, run: &mut dyn Running, how: &Watch, elapsed: Duration) -> Result<(), std::io::Error> {
        match (self.asked_at, how.timeout) {
            (None, Some(timeout)) if elapsed >= timeout => {
                self.stop = Some(Stop::TimedOut(timeout));
                self.asked_at = Some(elapsed);
                run.signal(Signal::SIGTERM)
            }
            (Some(asked_at), _) if !self.killed && elapsed >= asked_at + how.kill_after => self.kill(run),
            _ => Ok(()),
        }
    }

    fn kill(&mut self, run: &mut dyn Running) -> Result<(), std::io::Error> {
        self.killed = true;
        run.signal(Signal::SIGKILL)
    }
}

/// What was sampled so far.
#[derive(Debug, Default)]
struct Samples {
    series: Series,
    highest: Option<Breakdown>,
    swap: Option<Bytes>,
    unread: Option<String>,
}

impl Samples {
    fn take(&mut self, sample: Result<Reading<Sample>, HostError>, elapsed: Duration, observer: &mut dyn Observer) {
        let sample = match sample {
            Ok(Reading::Value(sample)) => sample,
            // Between the end of the last process and our noticing it there is nothing to read.
            Ok(Reading::Gone | Reading::Unsupported) => return,
            Err(error) => {
                self.unread.get_or_insert_with(|| one_line(&error));
                return;
            }
        };
        let sample = breakdown(&sample, elapsed);
        if self.highest.is_none_or(|highest| sample.current >= highest.current) {
            self.highest = Some(sample);
        }
        self.swap = self.swap.max(sample.swap.value());
        observer.sampled(elapsed, sample.current, self.highest.map_or(sample.current, |highest| highest.current));
        self.series.taken += 1;
        self.series.samples.push(sample);
        if self.series.samples.len() >= KEPT {
            thin(&mut self.series.samples);
        }
    }
}

/// A sample with its time.
pub(crate) fn breakdown(sample: &Sample, elapsed: Duration) -> Breakdown {
    let part = |of: fn(&crate::host::memory::Split) -> Reading<Bytes>| match &sample.split {
        Reading::Value(split) => of(split),
        Reading::Unsupported => Reading::Unsupported,
        Reading::Gone => Reading::Gone,
    };
    Breakdown {
        at_us: micros(elapsed),
        current: sample.current,
        anon: part(|split| split.anon),
        file: part(|split| split.file),
        shmem: part(|split| split.shmem),
        kernel: part(|split| split.kernel),
        swap: part(|split| split.swap),
    }
}

/// Keeps the higher one of every two neighbours.
fn thin(samples: &mut Vec<Breakdown>) {
    *samples = samples
        .chunks(2)
        .filter_map(|pair| {
            pair.iter().copied().reduce(|first, second| if second.current > first.current { second } else { first })
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u64, current: u64) -> Breakdown {
        let none = Reading::Unsupported;
        Breakdown {
            at_us: time,
            current: Bytes(current),
            anon: none,
            file: none,
            shmem: none,
            kernel: none,
            swap: none,
        }
    }

    #[test]
    fn thinning_keeps_the_order_and_the_highest() {
        let mut samples = vec![at(1, 5), at(2, 9), at(3, 7), at(4, 1), at(5, 2)];
        thin(&mut samples);
        assert_eq!(samples, [at(2, 9), at(3, 7), at(5, 2)]);
    }

    #[test]
    fn sampling_is_dense_first_and_sparse_then() {
        let watch = Watch::default();
        let step = |elapsed| watch.next_sample(elapsed) - elapsed;
        assert_eq!(step(Duration::from_millis(50)), DENSE_INTERVAL);
        assert_eq!(step(Duration::from_millis(500)), USUAL_INTERVAL);
        assert_eq!(step(Duration::from_secs(1)), SPARSE_INTERVAL);
        let fixed = Watch { interval: Some(Duration::from_secs(1)), ..watch };
        assert_eq!(fixed.next_sample(Duration::ZERO), Duration::from_secs(1));
    }
}
