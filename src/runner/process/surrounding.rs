//! The cgroup of a run without one of its own, which it shares with highwater and perhaps others.
//!
//! Its counters do not measure the run, but they bound it, and they count OOM kills.

use std::fs::OpenOptions;

use super::in_cgroup::{Above, Problems};
use crate::host::cgroup::{Cgroup, memory_cgroup, memory_cgroup_in};
use crate::host::memory::MemoryReader;
use crate::host::{HostError, HostRoots};
use crate::model::observation::{CgroupVersion, Events, Limits, UpperBound};
use crate::model::reading::Reading;
use crate::model::units::Bytes;

#[derive(Debug)]
pub(super) struct Surrounding {
    cgroup: Cgroup,
    reader: MemoryReader,
    /// The limits of this cgroup and of those above it, all of which apply to the run.
    limits: Above,
    error_bound: Bytes,
    peak_before: Reading<Bytes>,
    events_before: Reading<Events>,
    /// Whether all memory of the run is charged here: no process of it could leave or was seen elsewhere.
    holds_everything: bool,
}

impl Surrounding {
    /// Finds it; call before the task is started. `None` if no cgroup of this process counts its memory.
    pub(super) fn find(roots: &HostRoots, error_bound: Bytes) -> Option<Self> {
        let own = memory_cgroup(roots, "self").ok()?;
        // A v2 cgroup without a memory controller of its own is charged to the nearest one above that has it. The root
        // does not have these files.
        let (cgroup, mut reader) = own.ancestry().find_map(|cgroup| {
            let mut reader = MemoryReader::new(&cgroup);
            matches!(reader.current(), Ok(Reading::Value(_))).then_some((cgroup, reader))
        })?;
        // The v1 root has them, but they do not include its own processes.
        if cgroup.version() == CgroupVersion::V1 && cgroup.path.join("release_agent").exists() {
            return None;
        }
        let limits = Above::read(&cgroup.child("run"), &mut reader);
        let peak_before = reader.peak().unwrap_or(Reading::Unsupported);
        let events_before = reader.events().unwrap_or(Reading::Unsupported);
        let holds_everything = !own.ancestry().any(|cgroup| may_write(&cgroup));
        Some(Self { cgroup, reader, limits, error_bound, peak_before, events_before, holds_everything })
    }

    /// See [`Above::oom_score`].
    pub(super) fn oom_score(&self) -> u32 {
        self.limits.oom_score()
    }

    /// Checks that this process of the run is still here.
    pub(super) fn look_for(&mut self, roots: &HostRoots, pid: i32) {
        if !self.holds_everything {
            return;
        }
        let found = memory_cgroup_in(roots, self.cgroup.hierarchy.clone(), &pid.to_string());
        let is_here = found.is_ok_and(|now| now.path.starts_with(&self.cgroup.path));
        // A process that has just ended has no list; a v1 zombie seems to be in the root.
        if !is_here && std::fs::read_link(roots.process_file(pid, "exe")).is_ok() {
            self.holds_everything = false;
        }
    }

    /// An upper bound of the run's peak.
    ///
    /// The counter covers the run and others: at any moment it was at least what the run used, so its highest value is
    /// an upper bound, whether the run raised it or not. The usage of others before the run cannot be subtracted: they
    /// may have freed memory by the time of the run's peak. Batched charges only make the counter read too high.
    pub(super) fn upper_bound(&mut self, problems: &mut Problems) -> Option<UpperBound> {
        let peak = problems.read(self.reader.peak()).value()?;
        let before = self.peak_before.value()?;
        // A counter falls only if it was reset.
        (self.holds_everything && peak >= before)
            .then(|| UpperBound { bytes: peak, file: self.reader.peak_file().to_owned() })
    }

    /// The limits that applied to the run although it had none of its own.
    pub(super) fn limits(&mut self) -> Limits {
        let unlimited = self.reader.limit().unwrap_or(Reading::Unsupported).map(|_| None);
        Limits { own: Reading::Unsupported, effective: self.limits.lowest_with(unlimited), copied_from: None }
    }

    /// Whether a limit was reached during the run, by the run or by others that share it.
    pub(super) fn held_back(&mut self) -> bool {
        self.limits.held_back() || self.is_full_without_count()
    }

    /// Whether the limit was reached although no counter shows it (v1 with the same limit for memory and swap together,
    /// as Kubernetes sets it).
    fn is_full_without_count(&mut self) -> bool {
        let Ok(Reading::Value(Events { limit_hits: Reading::Unsupported, .. })) = self.reader.events() else {
            return false;
        };
        let Some(limit) = self.reader.limit().ok().and_then(|limit| limit.value()?) else { return false };
        let is_full = |used: Bytes| used.saturating_add(self.error_bound) >= limit;
        let value = |reading: Result<Reading<Bytes>, HostError>| reading.ok().and_then(Reading::value);
        let peak = value(self.reader.peak()).filter(|peak| Some(*peak) > self.peak_before.value());
        value(self.reader.current()).max(peak).is_some_and(is_full)
    }

    /// The memory events during the run, of the run or of others in the cgroup.
    pub(super) fn events(&mut self, problems: &mut Problems) -> Reading<Events> {
        let (Reading::Value(before), Reading::Value(now)) = (self.events_before, problems.read(self.reader.events()))
        else {
            return Reading::Unsupported;
        };
        Reading::Value(Events {
            limit_hits: growth(before.limit_hits, now.limit_hits),
            ooms: growth(before.ooms, now.ooms),
            oom_kills: growth(before.oom_kills, now.oom_kills),
        })
    }
}

/// A counter that was reset means nothing.
fn growth(before: Reading<u64>, now: Reading<u64>) -> Reading<u64> {
    match (before, now) {
        (Reading::Value(before), Reading::Value(now)) => {
            now.checked_sub(before).map_or(Reading::Unsupported, Reading::Value)
        }
        _ => Reading::Unsupported,
    }
}

/// Whether we, and so the task, may move processes between this cgroup and those below it.
fn may_write(cgroup: &Cgroup) -> bool {
    !cgroup.hierarchy.read_only && OpenOptions::new().write(true).open(cgroup.path.join("cgroup.procs")).is_ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A container whose cgroup file system is mounted read-only, as engines do.
    struct Recorded {
        tree: tempfile::TempDir,
        cgroup: &'static str,
    }

    impl Recorded {
        fn new(mount: &str, line: &str, cgroup: &'static str, files: &[(&str, &str)]) -> Self {
            let recorded = Self { tree: tempfile::tempdir().unwrap(), cgroup };
            let own = recorded.tree.path().join("proc/self");
            std::fs::create_dir_all(&own).unwrap();
            std::fs::write(own.join("mountinfo"), mount).unwrap();
            std::fs::write(own.join("cgroup"), line).unwrap();
            recorded.write(files);
            recorded
        }

        fn v2(files: &[(&str, &str)]) -> Self {
            let mount = "30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
            Self::new(mount, "0::/\n", "", files)
        }

        fn v1(files: &[(&str, &str)]) -> Self {
            let mount = "35 31 0:32 /docker/7 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
            Self::new(mount, "4:memory:/docker/7\n", "memory", files)
        }

        fn write(&self, files: &[(&str, &str)]) {
            let directory = self.tree.path().join("sys/fs/cgroup").join(self.cgroup);
            std::fs::create_dir_all(&directory).unwrap();
            for (name, text) in files {
                std::fs::write(directory.join(name), format!("{text}\n")).unwrap();
            }
        }

        fn roots(&self) -> HostRoots {
            HostRoots::recorded(self.tree.path())
        }

        fn find(&self) -> Option<Surrounding> {
            Surrounding::find(&self.roots(), Bytes(10))
        }
    }

    fn bound(surrounding: &mut Surrounding) -> Option<u64> {
        surrounding.upper_bound(&mut Problems::default()).map(|bound| bound.bytes.0)
    }

    const V2: [(&str, &str); 4] = [
        ("memory.current", "1000"),
        ("memory.peak", "5000"),
        ("memory.max", "9000"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1"),
    ];

    const V1: [(&str, &str); 5] = [
        ("memory.usage_in_bytes", "1000"),
        ("memory.max_usage_in_bytes", "5000"),
        ("memory.limit_in_bytes", "9000"),
        ("memory.failcnt", "3"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1"),
    ];

    #[test]
    fn what_a_container_felt_during_the_run_is_told_and_what_it_had_felt_before_is_not() {
        let unknown = Reading::Unsupported;
        let after = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2";
        let cases = [
            (Recorded::v2(&V2), vec![("memory.events", after), ("memory.peak", "9000")], Reading::Value(1)),
            (
                Recorded::v1(&V1),
                vec![
                    ("memory.failcnt", "7"),
                    ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2"),
                    ("memory.max_usage_in_bytes", "9000"),
                ],
                unknown,
            ),
        ];
        for (recorded, after, ooms) in cases {
            let mut quiet = recorded.find().unwrap();
            let none = |reading: Reading<u64>| reading.map(|_| 0);
            let events = Events { limit_hits: Reading::Value(0), ooms: none(ooms), oom_kills: Reading::Value(0) };
            assert_eq!(quiet.events(&mut Problems::default()), Reading::Value(events));
            assert!(!quiet.held_back());
            recorded.write(&after);
            assert_eq!(
                quiet.events(&mut Problems::default()),
                Reading::Value(Events { limit_hits: Reading::Value(4), ooms, oom_kills: Reading::Value(1) })
            );
            assert!(quiet.held_back());
            let limits = quiet.limits();
            assert_eq!((limits.own, limits.effective), (unknown_limit(), Reading::Value(Some(Bytes(9000)))));
            assert_eq!(bound(&mut quiet), Some(9000));
        }
    }

    fn unknown_limit() -> Reading<Option<Bytes>> {
        Reading::Unsupported
    }

    #[test]
    fn a_counter_that_did_not_rise_is_an_upper_bound_and_one_that_was_reset_is_none() {
        let recorded = Recorded::v1(&V1);
        let mut surrounding = recorded.find().unwrap();
        assert_eq!(bound(&mut surrounding), Some(5000));
        recorded.write(&[("memory.max_usage_in_bytes", "4000"), ("memory.failcnt", "0")]);
        assert_eq!(bound(&mut surrounding), None);
        let Reading::Value(events) = surrounding.events(&mut Problems::default()) else { panic!() };
        assert_eq!(events.limit_hits, Reading::Unsupported);
    }

    #[test]
    fn a_limit_that_nobody_counts_was_felt_where_the_cgroup_is_full() {
        let recorded = Recorded::v1(&V1);
        recorded.write(&[("memory.memsw.limit_in_bytes", "9000"), ("memory.failcnt", "0")]);
        let mut surrounding = recorded.find().unwrap();
        assert!(!surrounding.held_back());
        recorded.write(&[("memory.max_usage_in_bytes", "8990")]);
        assert!(surrounding.held_back());
        // The counter existed before the next run, which leaves the cgroup half empty.
        let mut surrounding = recorded.find().unwrap();
        assert!(!surrounding.held_back());
        recorded.write(&[("memory.usage_in_bytes", "8995")]);
        assert!(surrounding.held_back());
    }

    #[test]
    fn without_a_peak_there_is_no_upper_bound_but_the_limit_and_its_events() {
        let recorded = Recorded::v2(&[V2[0], V2[2], V2[3]]);
        let mut surrounding = recorded.find().unwrap();
        assert_eq!(bound(&mut surrounding), None);
        assert_eq!(surrounding.limits().effective, Reading::Value(Some(Bytes(9000))));
        assert!(matches!(surrounding.events(&mut Problems::default()), Reading::Value(_)));
    }

    #[test]
    fn the_root_of_a_hierarchy_says_nothing_of_its_processes() {
        let v1 = Recorded::v1(&V1);
        v1.write(&[("release_agent", "")]);
        assert!(v1.find().is_none());
        // The v2 root has no such files.
        assert!(Recorded::v2(&[("cgroup.procs", "1")]).find().is_none());
    }

    #[test]
    fn a_task_that_may_leave_has_no_upper_bound_and_one_that_was_seen_elsewhere_neither() {
        let writable = Recorded::v2(&V2);
        let mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw\n";
        std::fs::write(writable.tree.path().join("proc/self/mountinfo"), mount).unwrap();
        assert_eq!(bound(&mut writable.find().unwrap()), Some(5000));
        writable.write(&[("cgroup.procs", "1")]);
        assert_eq!(bound(&mut writable.find().unwrap()), None);

        let left = Recorded::v2(&V2);
        let process = left.tree.path().join("proc/7");
        std::fs::create_dir_all(&process).unwrap();
        let mut surrounding = left.find().unwrap();
        std::fs::write(process.join("cgroup"), "0::/below\n").unwrap();
        std::os::unix::fs::symlink(Path::new("/bin/true"), process.join("exe")).unwrap();
        surrounding.look_for(&left.roots(), 7);
        assert_eq!(bound(&mut surrounding), Some(5000));
        std::fs::write(process.join("cgroup"), "0::/../elsewhere\n").unwrap();
        surrounding.look_for(&left.roots(), 7);
        assert_eq!(bound(&mut surrounding), None);
    }
}
