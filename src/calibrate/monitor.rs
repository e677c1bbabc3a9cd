//! Watches a run until it ends, and stops it if necessary.

mod ending;
mod pace;
mod samples;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::model::signal::Signal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use self::ending::Ending;
pub use self::pace::LEAST_INTERVAL;
use self::pace::Pace;
use self::samples::Samples;
pub(crate) use self::samples::breakdown;
use crate::model::observation::{Breakdown, ProcessSize, Series};
use crate::model::units::Bytes;
use crate::runner::Running;
use crate::runner::patience::Patience;
pub use crate::runner::patience::{Cancel, Never, Request};

/// Options for watching a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchOptions {
    /// How long the run may take.
    pub timeout: Option<Duration>,
    /// How long it may take to end after SIGTERM before it is killed.
    pub kill_after: Duration,
    /// The sampling interval, kept whatever it costs. Without it, samples are taken when usage reaches a new maximum,
    /// and at intervals that grow from 10 ms to 2 s.
    pub interval: Option<Duration>,
    /// The exit status by which the task says that there was nothing to do.
    pub skip_status: Option<i32>,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { timeout: None, kill_after: Duration::from_secs(10), interval: None, skip_status: None }
    }
}

/// Receives the progress of a run.
pub trait Observer {
    /// A sample was taken.
    fn sampled(&mut self, elapsed: Duration, current: Bytes, highest: Bytes);
}

/// Ignores the progress.
impl Observer for () {
    fn sampled(&mut self, _: Duration, _: Bytes, _: Bytes) {}
}

/// Why a run was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It timed out.
    TimedOut(Duration),
    /// Highwater was asked to stop.
    Interrupted(Signal),
}

/// The observations of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watched {
    /// From the start to the end of the first process, or until it was abandoned.
    pub wall: Duration,
    /// Why it was stopped, if it did not end by itself.
    pub stop: Option<Stop>,
    /// When it was asked to stop.
    pub asked_at: Option<Duration>,
    /// The samples.
    pub series: Series,
    /// Number of attempted samples.
    pub attempts: u32,
    /// The sample with the highest usage.
    pub highest: Option<Breakdown>,
    /// The largest processes, largest first, as read at the highest usage at which they were read,
    pub largest_processes: Vec<ProcessSize>,
    /// and that usage.
    pub processes_at: Bytes,
    /// The largest use of hugetlbfs huge pages seen, and the name of a process that used some.
    pub hugetlb: Option<(Bytes, String)>,
    /// The largest use of swap in a sample.
    pub swap: Option<Bytes>,
    /// Why samples are missing, if some could not be read.
    pub unread: Option<String>,
}

/// Watches until the first process has ended, or has survived SIGKILL for too long. Failing to sample does not end the
/// run.
///
/// # Errors
/// If waiting or sending a signal fails; the run is still going then.
pub fn watch(
    run: &mut dyn Running,
    options: &WatchOptions,
    patience: &mut Patience<'_>,
    observer: &mut dyn Observer,
) -> Result<Watched, std::io::Error> {
    let started = run.started();
    let mut samples = Samples::default();
    let mut ending = Ending::default();
    let mut pace = Pace::new(options.interval);
    loop {
        let elapsed = started.elapsed();
        let next = [Some(pace.next()), ending.next(options)].into_iter().flatten().min();
        let pause = next.map(|next| next.saturating_sub(elapsed));
        let [ended, requested, grown] = wait([Some(run.ended()), patience.requested(), pace.notice()], pause)?;
        let elapsed = started.elapsed();
        let request = if requested || patience.has_kept() { patience.take() } else { None };
        if ended || ending.is_given_up(elapsed) {
            // Ctrl-C reaches the task and us at the same time, and the task may react first.
            if let Some(request) = request {
                ending.stop.get_or_insert(Stop::Interrupted(request.signal));
            }
            return Ok(samples.into_watched(elapsed, ending));
        }
        if let Some(request) = request {
            ending.request(run, request, elapsed)?;
        }
        ending.keep_time(run, options, elapsed)?;
        if grown {
            pace.poll_from(elapsed);
        }
        if elapsed >= pace.next() {
            pace.look(run, elapsed, &mut samples, observer);
        }
    }
}

/// Waits until one of the files is readable or the pause is over; returns which are readable.
fn wait<const N: usize>(
    files: [Option<BorrowedFd<'_>>; N],
    pause: Option<Duration>,
) -> Result<[bool; N], std::io::Error> {
    let mut waiting: Vec<PollFd<'_>> =
        files.into_iter().flatten().map(|file| PollFd::new(file, PollFlags::POLLIN)).collect();
    match ppoll(&mut waiting, pause.map(TimeSpec::from_duration), None) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = waiting.iter().map(|file| file.any().unwrap_or(false));
    Ok(files.map(|file| file.is_some() && ready.next().unwrap_or(false)))
}

#[cfg(test)]
mod tests;
