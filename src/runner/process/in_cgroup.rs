//! A run in a cgroup of its own: the kernel keeps its peak.

use std::time::{Duration, Instant};

use super::Ended;
use crate::host::cgroup::{Cgroup, memory_cgroup_in};
use crate::host::memory::MemoryReader;
use crate::host::{HostError, HostRoots};
use crate::model::observation::{CgroupVersion, Exactness, Limits, Peak, PeakSource};
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::guardian::Guardian;
use crate::runner::own_cgroup::OwnCgroup;
use crate::runner::placement::Entered;
use crate::runner::{FinishError, Finished, Sample};

/// Where the task is, is looked at when it turns out to last, again with every so many samples,
const SAMPLES_BETWEEN_LOOKS: u32 = 4;
/// and with the first one after so long.
const TIME_BETWEEN_LOOKS: Duration = Duration::from_millis(400);

#[derive(Debug)]
pub(super) struct InCgroup {
    roots: HostRoots,
    /// `None` once it has been removed.
    own: Option<OwnCgroup>,
    reader: MemoryReader,
    keeps_peak: bool,
    noise: Bytes,
    above: Above,
    guardian: Option<Guardian>,
    /// The highest value that the counter of the peak was seen at.
    highest_counter: Option<Bytes>,
    samples: u32,
    looked_at: Instant,
    /// The cgroup that the first process was seen in, where that is not ours.
    escaped_to: Option<String>,
}

impl InCgroup {
    pub(super) fn new(entered: Entered, above: Above, roots: &HostRoots, noise: Bytes) -> Self {
        let Entered { own, reader, keeps_peak } = entered;
        Self {
            roots: roots.clone(),
            reader,
            above,
            own: Some(own),
            keeps_peak,
            noise,
            guardian: None,
            highest_counter: None,
            samples: 0,
            looked_at: Instant::now(),
            escaped_to: None,
        }
    }

    /// Has the cgroup cleaned up, should highwater be killed.
    pub(super) fn settle(&mut self, pid: i32) {
        self.look_for(pid);
        let (None, Some(own)) = (&self.guardian, &self.own) else { return };
        match Guardian::post(own.cgroup()) {
            Ok(guardian) => self.guardian = Some(guardian),
            Err(error) => tracing::debug!("no guardian could be posted: {error}"),
        }
    }

    pub(super) fn sample(&mut self, pid: i32) -> Result<Reading<Sample>, HostError> {
        self.samples += 1;
        if self.samples.is_multiple_of(SAMPLES_BETWEEN_LOOKS) || self.looked_at.elapsed() >= TIME_BETWEEN_LOOKS {
            self.look_for(pid);
        }
        self.read()
    }

    fn read(&mut self) -> Result<Reading<Sample>, HostError> {
        let current = self.reader.current()?;
        if self.keeps_peak {
            self.highest_counter = self.highest_counter.max(self.reader.peak()?.value());
        }
        let split = self.reader.split()?;
        Ok(current.map(|current| Sample { current, split }))
    }

    /// Looks for a task that has ended: v2 remembers where it was, on v1 it seems to be in the root.
    pub(super) fn look_for_ended(&mut self, pid: i32) {
        if self.own.as_ref().is_some_and(|own| own.cgroup().version() == CgroupVersion::V2) {
            self.look_for(pid);
        }
    }

    /// A task may leave the cgroup, as `systemd-run --scope`, `cgexec` or a container runtime do.
    fn look_for(&mut self, pid: i32) {
        self.looked_at = Instant::now();
        let (None, Some(own)) = (&self.escaped_to, &self.own) else { return };
        let own = own.cgroup();
        // On v1 it may just have ended.
        let can_tell =
            || own.version() == CgroupVersion::V2 || std::fs::read_link(self.roots.process_file(pid, "exe")).is_ok();
        if let Ok(now) = memory_cgroup_in(&self.roots, own.hierarchy.clone(), &pid.to_string())
            && !now.path.starts_with(&own.path)
            && can_tell()
        {
            self.escaped_to = Some(now.path.display().to_string());
        }
    }

    /// Kills what is left, reads everything and removes the cgroup. Only a peak that cannot be read is an error: the
    /// other numbers are no reason to lose it.
    pub(super) fn finish(&mut self, ended: Ended) -> Result<Finished, FinishError> {
        let mut problems = Problems::default();
        let leftover = match self.own.as_ref().map(OwnCgroup::kill_all) {
            Some(Ok(killed)) => Reading::Value(killed),
            Some(Err(error)) => {
                problems.0.push(one_line(&error));
                Reading::Unsupported
            }
            None => Reading::Gone,
        };
        let last = problems.read(self.read());
        let peak = self.peak(ended.highest, last)?;
        let own_limit = problems.read(self.reader.limit());
        let finished = Finished {
            end: ended.end,
            peak,
            last,
            swap_peak: problems.read(self.reader.swap_peak()),
            limit: Limits { own: own_limit, effective: self.above.lowest_with(own_limit), copied_from: None },
            held_back_from_above: self.above.held_back(),
            events: problems.read(self.reader.events()),
            cpu: problems.read(self.reader.cpu()).or(Reading::Value(ended.rusage)),
            io: problems.read(self.reader.io()),
            pids_peak: problems.read(self.reader.pids_peak()),
            pressure: problems.read(self.reader.pressure()),
            leftover_processes: leftover,
            survivors: Vec::new(),
            problems: Vec::new(),
            contained: None,
        };
        if let Some(Err(error)) = self.own.take().map(OwnCgroup::remove) {
            problems.0.push(one_line(&error));
        }
        self.guardian = None;
        Ok(Finished { problems: problems.0, ..finished })
    }

    fn peak(&mut self, highest: Option<Bytes>, last: Reading<Sample>) -> Result<Reading<Peak>, HostError> {
        if self.keeps_peak {
            let file = Some(self.reader.peak_file().to_owned());
            let exactness = match &self.escaped_to {
                None => Exactness::Exact { noise_bytes: self.noise },
                Some(elsewhere) => Exactness::LowerBound {
                    reason: format!("the task moved itself into another cgroup, {elsewhere}"),
                    remedy: "run it without what moves it, such as systemd-run, cgexec or a container engine"
                        .to_owned(),
                },
            };
            let seen = self.highest_counter.max(highest);
            return Ok(self.reader.peak()?.map(|counter| {
                let (bytes, exactness) = unless_reset(counter, seen, self.noise, exactness);
                Peak { bytes, source: PeakSource::OwnCgroup, file, exactness, upper_bound: None }
            }));
        }
        let highest = highest.max(last.value().map(|sample| sample.current));
        Ok(highest.map_or(Reading::Unsupported, |bytes| {
            Reading::Value(Peak {
                bytes,
                source: PeakSource::PolledCgroup,
                file: Some(self.reader.current_file().to_owned()),
                exactness: Exactness::LowerBound {
                    reason: "this kernel keeps no peak for cgroup v2 (memory.peak came with Linux 5.19)".to_owned(),
                    remedy: "use Linux 5.19 or newer, or a distribution's kernel that has it back-ported".to_owned(),
                },
                upper_bound: None,
            })
        }))
    }
}

/// The peak according to the kernel's counter, and how exact it is. A counter below what was seen during the run has been
/// reset, as anybody who may write to `memory.max_usage_in_bytes` can (v1): what was seen is a lower bound then.
pub(in crate::runner) fn unless_reset(
    counter: Bytes,
    seen: Option<Bytes>,
    noise: Bytes,
    exactness: Exactness,
) -> (Bytes, Exactness) {
    match seen {
        Some(seen) if seen > counter.saturating_add(noise) => {
            let reason = "the kernel's counter was reset during the run".to_owned();
            let remedy = "run it without what writes to the counters of its cgroup".to_owned();
            (seen, Exactness::LowerBound { reason, remedy })
        }
        _ => (counter, exactness),
    }
}

/// What went wrong on the way to the numbers.
#[derive(Debug, Default)]
pub(in crate::runner) struct Problems(pub(in crate::runner) Vec<String>);

impl Problems {
    /// The reading; where there was none, the reason is kept.
    pub(in crate::runner) fn read<T>(&mut self, reading: Result<Reading<T>, HostError>) -> Reading<T> {
        reading.unwrap_or_else(|error| {
            self.0.push(one_line(&error));
            Reading::Unsupported
        })
    }
}

/// The cgroups above that have a limit or slow down, and how often each had been felt before the run.
#[derive(Debug)]
pub(in crate::runner) struct Above {
    lowest: Option<Bytes>,
    limited: Vec<(MemoryReader, u64)>,
}

impl Above {
    /// To be read before the task is started.
    pub(in crate::runner) fn of(own: &Cgroup, reader: &mut MemoryReader) -> Self {
        let mut above = Self { lowest: None, limited: Vec::new() };
        if reader.is_unlimited() {
            return above;
        }
        for cgroup in own.ancestry().skip(1) {
            let mut reader = MemoryReader::new(&cgroup);
            // Where its limit cannot be read, neither can how often it was felt.
            let limit = reader.limit().ok().and_then(Reading::value).flatten();
            above.lowest = [above.lowest, limit].into_iter().flatten().min();
            let throttled_above = reader.throttled_above().ok().and_then(Reading::value).flatten();
            if limit.or(throttled_above).is_some() {
                let before = reader.times_held_back().ok().and_then(Reading::value).unwrap_or(u64::MAX);
                above.limited.push((reader, before));
            }
        }
        above
    }

    /// The lowest limit of those above and this one.
    pub(in crate::runner) fn lowest_with(&self, own: Reading<Option<Bytes>>) -> Reading<Option<Bytes>> {
        own.map(|own| [own, self.lowest].into_iter().flatten().min())
    }

    /// Whether a limit above was felt since.
    pub(in crate::runner) fn held_back(&mut self) -> bool {
        self.limited.iter_mut().any(|(reader, before)| {
            reader.times_held_back().ok().and_then(Reading::value).is_some_and(|now| now > *before)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_below_what_was_seen_was_reset() {
        let noise = Bytes::mib(1);
        let peak = |counter, seen| {
            let exact = Exactness::Exact { noise_bytes: noise };
            let (bytes, exactness) = unless_reset(Bytes::mib(counter), seen, noise, exact);
            (bytes, matches!(exactness, Exactness::Exact { .. }))
        };
        assert_eq!(peak(50, None), (Bytes::mib(50), true));
        assert_eq!(peak(50, Some(Bytes::mib(51))), (Bytes::mib(50), true));
        assert_eq!(peak(50, Some(Bytes::mib(52))), (Bytes::mib(52), false));
    }
}
