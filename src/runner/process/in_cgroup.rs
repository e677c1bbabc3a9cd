//! A run in a cgroup of its own, whose peak the kernel records.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::lookout::Lookout;
use super::{Rest, WaitResult};
use crate::host::HostError;
use crate::host::cgroup::Cgroup;
use crate::host::cpus::throttling_in;
use crate::host::memory::MemoryReader;
use crate::model::observation::{Exactness, Limits, Peak, PeakSource, Warning};
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::placement::PlacedCgroup;
use crate::runner::run_cgroup::RunCgroup;
use crate::runner::{FinishError, Finished, Sample};

/// Page faults outside of the run's cgroup that prove nothing: the kernel causes a few while it loads the first
/// program. At most 6 have been observed.
const FAULTS_ALLOWED: u64 = 10;
/// Since this version, reading the counters flushes what each CPU has counted; before, each CPU held some back.
const ADDS_UP_SINCE: (u32, u32) = (5, 13);
/// How often to trigger the flush: the kernel skips it while another one is under way.
const ATTEMPTS: usize = 4;
/// Using and freeing a page makes about five updates, so this exceeds what the kernel holds back per CPU. Each further
/// attempt uses four times as many.
const PAGES_FOR_EACH_CPU: u64 = 16;
/// Updates that a CPU collects before they count (`MEMCG_CHARGE_BATCH`).
const BATCH: u64 = 64;

/// An upper bound for the memory of highwater and its reaper, including mapped files.
const OWN_MEMORY: Bytes = Bytes::mib(64);
/// The OOM score of a process that uses all allowed memory (`proc_pid_oom_score_adj(5)`).
const OOM_SCORE_MAX: u64 = 1000;

#[derive(Debug)]
pub(super) struct InCgroup {
    /// `None` once removed.
    own: Option<RunCgroup>,
    reader: MemoryReader,
    keeps_peak: bool,
    error_bound: Bytes,
    above: Above,
    faults_allowed: u64,
    /// Online CPUs.
    cpus: u64,
    /// The cgroup whose limits were copied to the run's own.
    copied_from: Option<PathBuf>,
    copied_limit: Option<Bytes>,
    /// The highest value seen of the peak counter.
    highest_counter: Option<Bytes>,
}

impl InCgroup {
    pub(super) fn new(entered: PlacedCgroup, above: Above, error_bound: Bytes, kernel: &str, cpus: u32) -> Self {
        let PlacedCgroup { own, reader, keeps_peak, copied_from, copied_limit } = entered;
        let own = Some(own);
        let cpus = u64::from(cpus);
        let faults_allowed = FAULTS_ALLOWED + if adds_up(kernel) { 0 } else { BATCH * cpus };
        Self {
            faults_allowed,
            cpus,
            reader,
            above,
            own,
            keeps_peak,
            error_bound,
            copied_from,
            copied_limit,
            highest_counter: None,
        }
    }

    /// The run's cgroup, until it is removed.
    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        self.own.as_ref().map(RunCgroup::cgroup)
    }

    pub(super) fn usage(&mut self) -> Result<Reading<Bytes>, HostError> {
        self.reader.current()
    }

    pub(super) fn notify_above(&self, usage: Bytes) -> Option<OwnedFd> {
        self.reader.notify_above(usage)
    }

    pub(super) fn sample(&mut self) -> Result<Reading<Sample>, HostError> {
        self.read()
    }

    /// Kills what is left in the cgroup; an error is a problem to report, if there is a message.
    pub(super) fn kill_all(&self) -> Result<u64, Option<Warning>> {
        let own = self.own.as_ref().ok_or(None)?;
        own.kill_all().map_err(|error| Some(Warning::CgroupNotRemoved { reason: one_line(&error) }))
    }

    fn read(&mut self) -> Result<Reading<Sample>, HostError> {
        let current = self.reader.current()?;
        if self.keeps_peak {
            self.highest_counter = self.highest_counter.max(self.reader.peak()?.value());
        }
        let split = self.reader.split()?;
        Ok(current.map(|current| Sample { current, split }))
    }

    /// Reads all values and removes the cgroup. Only an unreadable peak is an error: the other values are not worth
    /// losing it.
    pub(super) fn finish(
        &mut self,
        ended: WaitResult,
        rest: &Rest,
        lookout: &Lookout,
    ) -> Result<Finished, FinishError> {
        let mut problems = Problems::default();
        let faults_outside =
            rest.reaped.as_ref().and_then(|reaped| problems.read(self.faults_outside(reaped.faults)).value());
        let last = problems.read(self.read());
        let left = Departure::find(rest, lookout, faults_outside);
        let peak = self.peak(ended.highest, last, left)?;
        let own_limit = problems.read(self.reader.limit());
        let finished = Finished {
            writable_layer: Reading::Unsupported,
            end: ended.end,
            peak,
            last,
            swap_peak: problems.read(self.reader.swap_peak()),
            limit: Limits {
                own: own_limit,
                effective: self.above.lowest_with(own_limit),
                copied_from: self.copied_from.clone(),
            },
            held_back_from_above: self.above.held_back(),
            events: problems.read(self.reader.events()),
            cpu: problems.read(self.reader.cpu()).or(ended.rusage),
            throttling: self.cgroup().map_or(Reading::Unsupported, |own| throttling_in(&own.path).into()),
            io: problems.read(self.reader.io()),
            pids_peak: problems.read(self.reader.pids_peak()),
            pressure: problems.read(self.reader.pressure()),
            leftover_processes: Reading::Unsupported,
            survivors: Vec::new(),
            problems: Vec::new(),
            contained: None,
        };
        // The usual process limit of a session is not worth a note.
        if let (Some(from), Some(_)) = (&self.copied_from, self.copied_limit) {
            problems.0.push(Warning::LimitsCopied { cgroup: from.display().to_string() });
        }
        // Survivors of SIGKILL keep the cgroup busy: the reaper stays and removes it later.
        let remove = if rest.survivors.is_empty() { RunCgroup::remove } else { RunCgroup::leave };
        if let Some(Err(error)) = self.own.take().map(remove) {
            problems.0.push(Warning::CgroupNotRemoved { reason: one_line(&error) });
        }
        Ok(Finished { problems: problems.0, ..finished })
    }

    /// The number of the task's page faults that the cgroup has not counted; `Unsupported` if it has counted all.
    fn faults_outside(&mut self, reaped: u64) -> Result<Reading<u64>, HostError> {
        let Some(parent) = self.cgroup().and_then(Cgroup::parent) else { return Ok(Reading::Unsupported) };
        let mut around = MemoryReader::new(&parent);
        // The first time, what runs around the cgroup has often caused enough.
        let mut pages = 0;
        for attempt in 0..=ATTEMPTS {
            let Reading::Value(counted) = self.reader.page_faults()? else { return Ok(Reading::Unsupported) };
            let outside = reaped.saturating_sub(counted);
            tracing::debug!("{reaped} page faults, {outside} of them not counted by the cgroup");
            if outside <= self.faults_allowed {
                return Ok(Reading::Unsupported);
            }
            if attempt == ATTEMPTS {
                return Ok(Reading::Value(outside));
            }
            // The counter lags behind. Reading it makes the kernel flush it if enough updates are pending, so cause
            // some: in the enclosing cgroup, which is above highwater's own as well.
            touch_pages(pages);
            pages = (pages * 4).max(PAGES_FOR_EACH_CPU * (self.cpus + 2));
            around.page_faults()?;
        }
        Ok(Reading::Unsupported)
    }

    fn peak(
        &mut self,
        highest: Option<Bytes>,
        last: Reading<Sample>,
        left: Option<Departure>,
    ) -> Result<Reading<Peak>, HostError> {
        if self.keeps_peak {
            let file = Some(self.reader.peak_file().to_owned());
            let exactness = match left {
                None => Exactness::Exact { error_bound_bytes: self.error_bound },
                Some(Departure { reason, remedy }) => Exactness::LowerBound { reason, remedy },
            };
            let seen = self.highest_counter.max(highest);
            return Ok(self.reader.peak()?.map(|counter| {
                let (bytes, exactness) = unless_reset(counter, seen, self.error_bound, exactness);
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
                    reason: "this kernel does not record peaks for cgroup v2 (memory.peak needs Linux 5.19)".to_owned(),
                    remedy: "use Linux 5.19 or newer, or a distribution kernel with a backport".to_owned(),
                },
                upper_bound: None,
            })
        }))
    }
}

/// Why the cgroup did not count all of the task.
pub(super) struct Departure {
    pub(super) reason: String,
    pub(super) remedy: String,
}

impl Departure {
    const REMEDY: &str = "run the task without programs that move its processes to other cgroups, such as systemd-run, \
                          cgexec or a container engine; measure a container with `highwater run --image`";

    /// What the lookout has seen.
    pub(super) fn seen(lookout: &Lookout) -> Option<Self> {
        if let Some(handoff) = lookout.daemon() {
            return Some(Self { reason: handoff.reason(), remedy: handoff.remedy().to_owned() });
        }
        lookout.outside.as_ref().map(|outside| {
            let who = outside
                .name
                .as_ref()
                .map_or("a process of the task".to_owned(), |name| format!("a process of the task, {name},"));
            let reason = format!("{who} was in another cgroup, {}", outside.cgroup);
            Self { reason, remedy: Self::REMEDY.to_owned() }
        })
    }

    fn find(rest: &Rest, lookout: &Lookout, faults: Option<u64>) -> Option<Self> {
        let seen = Self::seen(lookout);
        if seen.is_some() {
            return seen;
        }
        let ended_in = || {
            let cgroup = rest.reaped.as_ref()?.ended_in.as_ref()?;
            Some(format!("a process of the task ended in another cgroup, {cgroup}"))
        };
        let faulted = || {
            faults
                .map(|faults| format!("processes of the task caused {faults} page faults outside of the run's cgroup"))
        };
        if rest.reaped.is_none() {
            let reason = "the process that supervises the task was killed or stopped".to_owned();
            return Some(Self {
                reason,
                remedy: "run the task again, and do not kill or stop highwater's processes".to_owned(),
            });
        }
        ended_in().or_else(faulted).map(|reason| Self { reason, remedy: Self::REMEDY.to_owned() })
    }
}

/// Whether a kernel of this release counts page faults exactly when read.
fn adds_up(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version| version >= ADDS_UP_SINCE)
}

/// Uses this many pages of memory, 256 KiB at a time, and frees them.
fn touch_pages(pages: u64) {
    const AT_A_TIME: NonZeroUsize = NonZeroUsize::MIN.saturating_add((256 << 10) - 1);
    for _ in 0..(pages * 4096).div_ceil(256 << 10) {
        // SAFETY: a new anonymous mapping at an arbitrary address, which nothing else refers to and which is removed.
        unsafe {
            let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
            if let Ok(pages) = mmap_anonymous(None, AT_A_TIME, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) {
                let _ = munmap(pages, AT_A_TIME.get());
            }
        }
    }
}

/// The peak from the kernel's counter, and its exactness. A counter below a value seen during the run has been reset,
/// which any process that may write to `memory.max_usage_in_bytes` can do (v1): the value seen is a lower bound then.
pub(in crate::runner) fn unless_reset(
    counter: Bytes,
    seen: Option<Bytes>,
    error_bound: Bytes,
    exactness: Exactness,
) -> (Bytes, Exactness) {
    match seen {
        // A counter only falls if reset, but what a CPU has charged in advance may be included in one reading and not
        // in another.
        Some(seen) if seen > counter.saturating_add(error_bound.min(Bytes::mib(1))) => {
            let reason = "the kernel's counter was reset during the run".to_owned();
            let remedy = "run the task without programs that write to the counters of its cgroup".to_owned();
            (seen, Exactness::LowerBound { reason, remedy })
        }
        _ => (seen.map_or(counter, |seen| seen.max(counter)), exactness),
    }
}

/// Problems met while reading the values.
#[derive(Debug, Default)]
pub(in crate::runner) struct Problems(pub(in crate::runner) Vec<Warning>);

impl Problems {
    /// Returns the reading; records the error if it failed.
    pub(in crate::runner) fn read<T>(&mut self, reading: Result<Reading<T>, HostError>) -> Reading<T> {
        reading.unwrap_or_else(|error| {
            self.0.push(Warning::Unreadable { reason: one_line(&error) });
            Reading::Unsupported
        })
    }
}

/// The enclosing cgroups that have a limit or throttle, and how often each limit had been reached before the run.
#[derive(Debug)]
pub(in crate::runner) struct Above {
    lowest: Option<Bytes>,
    limited: Vec<(MemoryReader, u64)>,
}

impl Above {
    /// Reads them; call before the task is started.
    pub(in crate::runner) fn read(own: &Cgroup, reader: &mut MemoryReader) -> Self {
        let mut above = Self { lowest: None, limited: Vec::new() };
        if reader.is_unlimited() {
            return above;
        }
        for cgroup in own.ancestry().skip(1) {
            let mut reader = MemoryReader::new(&cgroup);
            // If its limit cannot be read, neither can its counter.
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

    /// The lowest limit of these and this one.
    pub(in crate::runner) fn lowest_with(&self, own: Reading<Option<Bytes>>) -> Reading<Option<Bytes>> {
        own.map(|own| [own, self.lowest].into_iter().flatten().min())
    }

    /// What to add to the OOM score of a task that shares a limit with highwater, so that the kernel kills the task
    /// first: enough to outweigh highwater's own memory. 0 without such a limit.
    pub(super) fn oom_score(&self) -> u32 {
        let score = |limit: Bytes| OOM_SCORE_MAX * OWN_MEMORY.0 / limit.0.max(OWN_MEMORY.0);
        self.lowest.map_or(0, |limit| u32::try_from(score(limit)).unwrap_or(0))
    }

    /// Whether a limit above has been reached since.
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
    fn the_tighter_a_shared_limit_the_sooner_the_task_is_killed_in_place_of_highwater() {
        let score = |lowest| Above { lowest, limited: Vec::new() }.oom_score();
        assert_eq!(
            [None, Some(40), Some(640), Some(1 << 20)].map(|limit| score(limit.map(Bytes::mib))),
            [0, 1000, 100, 0]
        );
    }

    #[test]
    fn a_counter_below_what_was_seen_was_reset() {
        let error_bound = Bytes::mib(16);
        let peak = |counter, seen| {
            let exact = Exactness::Exact { error_bound_bytes: error_bound };
            let (bytes, exactness) = unless_reset(Bytes::mib(counter), seen, error_bound, exact);
            (bytes, matches!(exactness, Exactness::Exact { .. }))
        };
        assert_eq!(peak(50, None), (Bytes::mib(50), true));
        assert_eq!(peak(50, Some(Bytes::mib(51))), (Bytes::mib(51), true));
        assert_eq!(peak(50, Some(Bytes::mib(52))), (Bytes::mib(52), false));
    }

    #[test]
    fn kernels_that_keep_counts_back_are_told_by_their_release() {
        for release in ["6.18.44-fc", "5.13.0", "5.14.0-427.el9.x86_64", "6.1.0-13-amd64"] {
            assert!(adds_up(release), "{release}");
        }
        for release in ["5.10.0-30-amd64", "4.18.0-553.el8", "unknown", ""] {
            assert!(!adds_up(release), "{release}");
        }
    }
}
