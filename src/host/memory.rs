//! The memory of a cgroup, read repeatedly from files that stay open.
//!
//! The files are those of the kernel's `admin-guide/cgroup-v2.rst` and `admin-guide/cgroup-v1/memory.rst`.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::HostError;
use super::cgroup::{Cgroup, V1Companions};
use super::files::{KernelFile, keyed, number, number_or_max};
use crate::model::observation::{CgroupVersion, Cpu, CpuSource, Events, Io, Pressure};
use crate::model::reading::Reading;
use crate::model::units::Bytes;

type Read<T> = Result<Reading<T>, HostError>;

/// v1 writes "no limit" as the largest multiple of the page size below 2⁶³.
const V1_UNLIMITED: u64 = (i64::MAX as u64) - 65_536;

/// The composition of a cgroup's memory, in parts that do not overlap, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Anonymous memory.
    pub anon: Reading<Bytes>,
    /// Page cache of files, without shared memory and tmpfs.
    pub file: Reading<Bytes>,
    /// Shared memory and tmpfs.
    pub shmem: Reading<Bytes>,
    /// Kernel memory.
    pub kernel: Reading<Bytes>,
    /// Swapped out; not included in the others.
    pub swap: Reading<Bytes>,
}

/// Reads a cgroup. One method per kernel file; a file this kernel does not have is `Unsupported`, a removed cgroup
/// `Gone`, and a value that could not be read is never 0.
#[derive(Debug)]
pub struct MemoryReader {
    version: CgroupVersion,
    peak: KernelFile,
    current: KernelFile,
    stat: KernelFile,
    limit: KernelFile,
    high: KernelFile,
    events: KernelFile,
    own_events: KernelFile,
    swap_events: KernelFile,
    oom_control: KernelFile,
    kernel: KernelFile,
    swap_peak: KernelFile,
    swap_current: KernelFile,
    swap_limit: KernelFile,
    cpu: KernelFile,
    cpu_user: KernelFile,
    cpu_system: KernelFile,
    io: KernelFile,
    io_of_itself: KernelFile,
    pids_peak: KernelFile,
    pressure: KernelFile,
}

impl MemoryReader {
    /// Creates a reader of this cgroup. Nothing is opened yet.
    pub fn new(cgroup: &Cgroup) -> Self {
        let version = cgroup.version();
        let file = |v1: &str, v2: &str| {
            KernelFile::new(cgroup.path.join(match version {
                CgroupVersion::V1 => v1,
                CgroupVersion::V2 => v2,
            }))
        };
        let only_v2 = |name: &str| match version {
            CgroupVersion::V1 => KernelFile::none(),
            CgroupVersion::V2 => KernelFile::new(cgroup.path.join(name)),
        };
        let only_v1 = |name: &str| match version {
            CgroupVersion::V1 => KernelFile::new(cgroup.path.join(name)),
            CgroupVersion::V2 => KernelFile::none(),
        };
        Self {
            version,
            peak: file("memory.max_usage_in_bytes", "memory.peak"),
            current: file("memory.usage_in_bytes", "memory.current"),
            stat: KernelFile::new(cgroup.path.join("memory.stat")),
            limit: file("memory.limit_in_bytes", "memory.max"),
            events: file("memory.failcnt", "memory.events"),
            high: only_v2("memory.high"),
            own_events: only_v2("memory.events.local"),
            swap_events: only_v1("memory.memsw.failcnt"),
            oom_control: only_v1("memory.oom_control"),
            kernel: only_v1("memory.kmem.usage_in_bytes"),
            swap_peak: only_v2("memory.swap.peak"),
            swap_current: only_v2("memory.swap.current"),
            swap_limit: file("memory.memsw.limit_in_bytes", "memory.swap.max"),
            cpu: only_v2("cpu.stat"),
            cpu_user: KernelFile::none(),
            cpu_system: KernelFile::none(),
            io: only_v2("io.stat"),
            io_of_itself: KernelFile::none(),
            pids_peak: only_v2("pids.peak"),
            pressure: only_v2("memory.pressure"),
        }
    }

    /// Also reads CPU time, I/O and processes, which v1 has in other hierarchies.
    #[must_use]
    pub fn with_companions(self, companions: &V1Companions) -> Self {
        let file = |directory: &Option<PathBuf>, name: &str| {
            directory.as_ref().map_or_else(KernelFile::none, |directory| KernelFile::new(directory.join(name)))
        };
        match self.version {
            CgroupVersion::V1 => Self {
                cpu: file(&companions.cpuacct, "cpuacct.stat"),
                cpu_user: file(&companions.cpuacct, "cpuacct.usage_user"),
                cpu_system: file(&companions.cpuacct, "cpuacct.usage_sys"),
                io: file(&companions.blkio, "blkio.throttle.io_service_bytes_recursive"),
                io_of_itself: file(&companions.blkio, "blkio.throttle.io_service_bytes"),
                pids_peak: file(&companions.pids, "pids.peak"),
                ..self
            },
            CgroupVersion::V2 => self,
        }
    }

    /// The peak, in bytes: `memory.peak` (Linux 5.19+), on v1 `memory.max_usage_in_bytes`. It does not include swap.
    pub fn peak(&mut self) -> Read<Bytes> {
        Ok(self.peak.read(number)?.map(Bytes))
    }

    /// The file that [`Self::peak`] reads.
    pub fn peak_file(&self) -> &Path {
        self.peak.path()
    }

    /// The memory charged now, in bytes: `memory.current`, on v1 `memory.usage_in_bytes`.
    pub fn current(&mut self) -> Read<Bytes> {
        Ok(self.current.read(number)?.map(Bytes))
    }

    /// A file that becomes readable when the memory charged exceeds `usage`, which saves polling: a threshold of v1,
    /// written to `cgroup.event_control`. `None` on v2, which has none, or if this process may not set one.
    pub fn notify_above(&self, usage: Bytes) -> Option<OwnedFd> {
        if self.version == CgroupVersion::V2 {
            return None;
        }
        let counter = File::open(self.current.path()).ok()?;
        let control = self.current.path().with_file_name("cgroup.event_control");
        let mut control = File::options().write(true).open(control).ok()?;
        let notice = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok()?;
        let threshold = format!("{} {} {}", notice.as_raw_fd(), counter.as_raw_fd(), usage.0);
        control.write_all(threshold.as_bytes()).ok()?;
        Some(notice.into())
    }

    /// The file that [`Self::current`] reads.
    pub fn current_file(&self) -> &Path {
        self.current.path()
    }

    /// The current composition of the memory: `memory.stat`, including all cgroups below.
    ///
    /// In both versions the page cache includes shared memory and tmpfs; here they are separate.
    pub fn split(&mut self) -> Read<Split> {
        match self.version {
            CgroupVersion::V1 => self.split_v1(),
            CgroupVersion::V2 => self.split_v2(),
        }
    }

    fn split_v1(&mut self) -> Read<Split> {
        let keys = ["total_rss", "total_cache", "total_shmem", "total_swap"];
        let stat = self.stat.read(|path, text| keyed(path, text, keys))?;
        let kernel = self.kernel.read(number)?.map(Bytes);
        Ok(stat.map(|[rss, cache, shmem, swap]| Split {
            anon: bytes(rss),
            file: bytes(cache.zip(shmem).map(|(cache, shmem)| cache.saturating_sub(shmem))),
            shmem: bytes(shmem),
            kernel,
            swap: bytes(swap),
        }))
    }

    fn split_v2(&mut self) -> Read<Split> {
        // `kernel` is available since Linux 5.18; before that the sum of its parts is used.
        let keys = ["anon", "file", "shmem", "kernel", "kernel_stack", "pagetables", "percpu", "sock", "slab"];
        let stat = self.stat.read(|path, text| keyed(path, text, keys))?;
        let swap = self.swap()?;
        Ok(stat.map(|[anon, file, shmem, kernel, parts @ ..]| {
            // `kernel` does not include socket buffers.
            let [.., sock, _] = parts;
            let kernel = kernel.map(|kernel| kernel.saturating_add(sock.unwrap_or_default()));
            let parts = parts.iter().flatten().copied().reduce(u64::saturating_add);
            Split {
                anon: bytes(anon),
                file: bytes(file.zip(shmem).map(|(file, shmem)| file.saturating_sub(shmem))),
                shmem: bytes(shmem),
                kernel: bytes(kernel.or(parts)),
                swap,
            }
        }))
    }

    /// The limit in bytes, `None` for no limit: `memory.max`, on v1 `memory.limit_in_bytes`.
    pub fn limit(&mut self) -> Read<Option<Bytes>> {
        Ok(match self.version {
            CgroupVersion::V1 => self.limit.read(number)?.map(|limit| (limit < V1_UNLIMITED).then_some(Bytes(limit))),
            CgroupVersion::V2 => self.limit.read(number_or_max)?.map(|limit| limit.map(Bytes)),
        })
    }

    /// Whether neither it nor a cgroup above has a limit, if a single file shows that: `hierarchical_memory_limit` in
    /// the `memory.stat` of v1.
    pub fn is_unlimited(&mut self) -> bool {
        let stat = match self.version {
            CgroupVersion::V1 => self.stat.read(|path, text| keyed(path, text, ["hierarchical_memory_limit"])),
            CgroupVersion::V2 => return false,
        };
        matches!(stat, Ok(Reading::Value([Some(limit)])) if limit >= V1_UNLIMITED)
    }

    /// The usage above which its processes are throttled, in bytes, `None` for never: `memory.high` (v2).
    pub fn throttled_above(&mut self) -> Read<Option<Bytes>> {
        Ok(self.high.read(number_or_max)?.map(|limit| limit.map(Bytes)))
    }

    /// How often the limit was reached: `memory.events`, on v1 `memory.failcnt` and `memory.oom_control`.
    pub fn events(&mut self) -> Read<Events> {
        let counted = |count: Option<u64>| count.map_or(Reading::Unsupported, Reading::Value);
        Ok(match self.version {
            CgroupVersion::V1 => {
                let kills = self.oom_control.read(|path, text| keyed(path, text, ["oom_kill"]))?;
                let hits = self.times_held_back()?;
                let hits =
                    if hits == Reading::Value(0) && self.counts_no_hits()? { Reading::Unsupported } else { hits };
                self.events.read(number)?.map(|_| Events {
                    limit_hits: hits,
                    ooms: Reading::Unsupported,
                    oom_kills: kills.value().map_or(Reading::Unsupported, |[kills]| counted(kills)),
                })
            }
            CgroupVersion::V2 => {
                let events = self.events.read(|path, text| keyed(path, text, ["max", "oom", "oom_kill"]))?;
                events.map(|[max, oom, oom_kill]| Events {
                    limit_hits: counted(max),
                    ooms: counted(oom),
                    oom_kills: counted(oom_kill),
                })
            }
        })
    }

    /// Whether a v1 cgroup can reach its limit without any counter showing it. If the combined limit of memory and swap
    /// equals that of memory, it is reached first, and since Linux 6.15 its counter does not count failures.
    fn counts_no_hits(&mut self) -> Result<bool, HostError> {
        let Some(memory) = self.limit()?.value().flatten() else { return Ok(false) };
        let together = self.swap_limit.read(number)?.value();
        Ok(together.is_some_and(|together| together <= memory.0))
    }

    /// How often the cgroup was held back by its own limit, or its own throttling, since its creation (`max` and `high`
    /// of `memory.events.local`, before Linux 5.2 of `memory.events`, which includes those below; `memory.failcnt` on
    /// v1).
    pub fn times_held_back(&mut self) -> Read<u64> {
        match self.version {
            CgroupVersion::V1 => {
                // With equal limits, the combined one of memory and swap is reached first.
                let together = self.swap_events.read(number)?.value().unwrap_or_default();
                Ok(self.events.read(number)?.map(|hits| hits.saturating_add(together)))
            }
            CgroupVersion::V2 => {
                let keys = ["max", "high"];
                let own = self.own_events.read(|path, text| keyed(path, text, keys))?;
                let counts = own.or(self.events.read(|path, text| keyed(path, text, keys))?);
                Ok(counts.map(|counts| counts.iter().flatten().sum()))
            }
        }
    }

    /// The peak of swap, in bytes: `memory.swap.peak` (Linux 6.5+). v1 only counts memory and swap together, which does
    /// not show the peak of swap alone.
    pub fn swap_peak(&mut self) -> Read<Bytes> {
        Ok(self.swap_peak.read(number)?.map(Bytes))
    }

    /// The current swap usage, in bytes: `memory.swap.current`, on v1 `total_swap` of `memory.stat`.
    pub fn swap(&mut self) -> Read<Bytes> {
        Ok(match self.version {
            CgroupVersion::V1 => {
                let stat = self.stat.read(|path, text| keyed(path, text, ["total_swap"]))?;
                stat.value().map_or(Reading::Unsupported, |[swap]| bytes(swap))
            }
            CgroupVersion::V2 => self.swap_current.read(number)?.map(Bytes),
        })
    }

    /// The limit of swap (v2) or of memory and swap together (v1), in bytes, `None` for no limit.
    pub fn swap_limit(&mut self) -> Read<Option<Bytes>> {
        Ok(match self.version {
            CgroupVersion::V1 => {
                self.swap_limit.read(number)?.map(|limit| (limit < V1_UNLIMITED).then_some(Bytes(limit)))
            }
            CgroupVersion::V2 => self.swap_limit.read(number_or_max)?.map(|limit| limit.map(Bytes)),
        })
    }

    /// The page faults of all processes of the cgroup and of those below it, since its creation: `pgfault` of
    /// `memory.stat`, on v1 `total_pgfault`. The kernel flushes the counters of its CPUs only from time to time: the
    /// number may lag behind by up to 128 for each CPU.
    pub fn page_faults(&mut self) -> Read<u64> {
        let key = match self.version {
            CgroupVersion::V1 => "total_pgfault",
            CgroupVersion::V2 => "pgfault",
        };
        let faults = self.stat.read(|path, text| keyed(path, text, [key]))?;
        Ok(match faults {
            Reading::Value([Some(faults)]) => Reading::Value(faults),
            Reading::Value([None]) | Reading::Unsupported => Reading::Unsupported,
            Reading::Gone => Reading::Gone,
        })
    }

    /// The CPU time of all processes of the cgroup: `cpu.stat`; on v1 that of a companion, `cpuacct.usage_user` and
    /// `cpuacct.usage_sys` in nanoseconds, or `cpuacct.stat` in hundredths of a second.
    pub fn cpu(&mut self) -> Read<Cpu> {
        let times = match self.version {
            CgroupVersion::V1 => self.cpu_v1()?,
            CgroupVersion::V2 => self.cpu.read(|path, text| keyed(path, text, ["user_usec", "system_usec"]))?,
        };
        Ok(match times.value() {
            Some([Some(user_us), Some(system_us)]) => {
                Reading::Value(Cpu { user_us, system_us, source: CpuSource::Cgroup })
            }
            _ => Reading::Unsupported,
        })
    }

    fn cpu_v1(&mut self) -> Read<[Option<u64>; 2]> {
        let user = self.cpu_user.read(number)?.value();
        let system = self.cpu_system.read(number)?.value();
        if user.is_some() && system.is_some() {
            return Ok(Reading::Value([user, system].map(|nanos| nanos.map(|nanos| nanos / 1000))));
        }
        let ticks = self.cpu.read(|path, text| keyed(path, text, ["user", "system"]))?;
        Ok(ticks.map(|times| times.map(|ticks| ticks.map(|ticks| ticks.saturating_mul(10_000)))))
    }

    /// The bytes read from and written to all block devices: `io.stat`; on v1 that of a companion,
    /// `blkio.throttle.io_service_bytes_recursive`, or without the cgroups below `blkio.throttle.io_service_bytes`.
    pub fn io(&mut self) -> Read<Io> {
        match self.version {
            CgroupVersion::V1 => Ok(self.io.read(blkio_bytes)?.or(self.io_of_itself.read(blkio_bytes)?)),
            CgroupVersion::V2 => self.io.read(io_stat),
        }
    }

    /// The most processes and threads at one time: `pids.peak` (Linux 6.1+, with the `pids` controller).
    pub fn pids_peak(&mut self) -> Read<u64> {
        self.pids_peak.read(number)
    }

    /// The time spent waiting for memory: `memory.pressure` (v2, Linux 4.20+ unless switched off).
    pub fn pressure(&mut self) -> Read<Pressure> {
        let lines = self.pressure.read(pressure_lines)?;
        Ok(match lines {
            Reading::Value((Some(some_us), Some(full_us))) => Reading::Value(Pressure { some_us, full_us }),
            Reading::Value(_) | Reading::Unsupported => Reading::Unsupported,
            Reading::Gone => Reading::Gone,
        })
    }
}

fn bytes(amount: Option<u64>) -> Reading<Bytes> {
    amount.map_or(Reading::Unsupported, |amount| Reading::Value(Bytes(amount)))
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 …`; a device without counts is listed by its number only.
fn io_stat(path: &Path, text: &str) -> Result<Io, HostError> {
    let mut total = Io { read: Bytes::ZERO, written: Bytes::ZERO };
    for (index, line) in text.lines().enumerate() {
        for (key, value) in line.split_whitespace().skip(1).filter_map(|pair| pair.split_once('=')) {
            let into = match key {
                "rbytes" => &mut total.read,
                "wbytes" => &mut total.written,
                _ => continue,
            };
            let count = value.parse().map_err(|_| HostError::Parse {
                path: path.to_owned(),
                line: index + 1,
                found: line.to_owned(),
                expected: "`rbytes=` and `wbytes=` with integers",
            })?;
            *into = into.saturating_add(Bytes(count));
        }
    }
    Ok(total)
}

/// Lines such as `8:0 Read 4096`, one for each device and operation, and a line for their total.
fn blkio_bytes(path: &Path, text: &str) -> Result<Io, HostError> {
    let mut total = Io { read: Bytes::ZERO, written: Bytes::ZERO };
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace().skip(1);
        let into = match words.next() {
            Some("Read") => &mut total.read,
            Some("Write") => &mut total.written,
            _ => continue,
        };
        let count = words.next().and_then(|count| count.parse().ok()).ok_or_else(|| HostError::Parse {
            path: path.to_owned(),
            line: index + 1,
            found: line.to_owned(),
            expected: "a device, `Read` or `Write`, and an integer",
        })?;
        *into = into.saturating_add(Bytes(count));
    }
    Ok(total)
}

/// Lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, in microseconds.
fn pressure_lines(path: &Path, text: &str) -> Result<(Option<u64>, Option<u64>), HostError> {
    let mut totals = (None, None);
    for (index, line) in text.lines().enumerate() {
        let total = line.rsplit_once("total=").and_then(|(_, total)| total.trim().parse().ok());
        let total = total.ok_or_else(|| HostError::Parse {
            path: path.to_owned(),
            line: index + 1,
            found: line.to_owned(),
            expected: "`total=` and an integer",
        })?;
        match line.split(' ').next() {
            Some("some") => totals.0 = Some(total),
            Some("full") => totals.1 = Some(total),
            _ => {}
        }
    }
    Ok(totals)
}
