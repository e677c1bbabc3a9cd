//! Watches a run until it ends, and ends it when it must.

mod ending;
mod pace;
mod samples;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::Signal;
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
pub use crate::runner::patience::{Cancel, Request};

/// How to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// How long the run may last.
    pub timeout: Option<Duration>,
    /// How long it may take to end after a SIGTERM, before it is killed.
    pub kill_after: Duration,
    /// The time between two samples, kept whatever they cost. Without it, samples are taken when usage reaches a new
    /// maximum, and at intervals that grow from 10 ms to 2 s.
    pub interval: Option<Duration>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { timeout: None, kill_after: Duration::from_secs(10), interval: None }
    }
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
    /// From the start to the end of the first process, or until it was given up.
    pub wall: Duration,
    /// Why it was ended, where it did not end by itself.
    pub stop: Option<Stop>,
    /// When it was asked to end.
    pub asked_at: Option<Duration>,
    /// The samples.
    pub series: Series,
    /// How many samples were tried.
    pub attempts: u32,
    /// The one with the most memory in use.
    pub highest: Option<Breakdown>,
    /// The largest processes when they were read with the most in use, largest first,
    pub largest_processes: Vec<ProcessSize>,
    /// and how much was in use then.
    pub processes_at: Bytes,
    /// The most memory in huge pages of hugetlbfs that was seen, and the name of a process that had some.
    pub hugetlb: Option<(Bytes, String)>,
    /// The most swap that a sample showed.
    pub swap: Option<Bytes>,
    /// Why samples are missing, where some could not be read.
    pub unread: Option<String>,
}

/// Watches until the first process has ended, or has survived SIGKILL for too long. Sampling that fails does not end
/// the run.
///
/// # Errors
/// Where the machine cannot wait or send signals; the run is still under way then.
pub fn watch(
    run: &mut dyn Running,
    how: &Watch,
    patience: &mut Patience<'_>,
    observer: &mut dyn Observer,
) -> Result<Watched, std::io::Error> {
    let started = run.started();
    let mut samples = Samples::default();
    let mut ending = Ending::default();
    let mut pace = Pace::new(how.interval);
    loop {
        let elapsed = started.elapsed();
        let next = [Some(pace.next()), ending.next(how)].into_iter().flatten().min();
        let pause = next.map(|next| next.saturating_sub(elapsed));
        let [ended, requested, grown] = wait([Some(run.ended()), patience.requested(), pace.notice()], pause)?;
        let elapsed = started.elapsed();
        let request = if requested || patience.has_kept() { patience.take() } else { None };
        if ended || ending.is_given_up(elapsed) {
            // Ctrl-C reaches the task and us at the same time, and the task may be the first to act on it.
            if let Some(request) = request {
                ending.stop.get_or_insert(Stop::Interrupted(request.signal));
            }
            return Ok(samples.into_watched(elapsed, ending));
        }
        if let Some(request) = request {
            ending.request(run, request, elapsed)?;
        }
        ending.keep_time(run, how, elapsed)?;
        if grown {
            pace.poll_from(elapsed);
        }
        if elapsed >= pace.next() {
            pace.look(run, elapsed, &mut samples, observer);
        }
    }
}

/// Waits until one of the files is readable or the pause is over; says which are.
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
