//! The CPUs of the machine: those that this process may use, how they belong together, and how busy they are.
//!
//! See `sched_setaffinity(2)`, and `admin-guide/cputopology.rst` and `admin-guide/pm/cpufreq.rst` of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use procfs::LoadAverage;

use super::HostRoots;
use super::cgroup::{memory_cgroup, read, v1_companions};
use super::files::keyed;
use crate::model::observation::Throttling;
use crate::model::reading::Reading;

/// A set of CPUs by their numbers; written as the kernel lists them, such as `0-3,8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(BTreeSet<usize>);

impl CpuList {
    /// The CPUs that this process may use, which its cpuset limits as well. `None` if the kernel does not tell, as with
    /// more than 1024 CPUs.
    pub fn allowed() -> Option<Self> {
        let set = sched_getaffinity(Pid::from_raw(0)).ok()?;
        Some((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
    }

    /// The number of CPUs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it contains none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their numbers, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }

    /// The set as system calls take it; `None` if a number is too large.
    pub(crate) fn to_set(&self) -> Option<CpuSet> {
        let mut set = CpuSet::new();
        self.iter().try_for_each(|cpu| set.set(cpu)).ok()?;
        Some(set)
    }
}

impl FromIterator<usize> for CpuList {
    fn from_iter<T: IntoIterator<Item = usize>>(cpus: T) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = |range: &str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
            (first <= last && last < 1 << 16).then_some(first..=last)
        };
        let ranges = text.trim().split(',').map(range).collect::<Option<Vec<_>>>();
        let ranges = ranges.ok_or("expected numbers and ranges of CPUs, such as 0-3,8")?;
        Ok(ranges.into_iter().flatten().collect())
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            if last == first {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

/// The CPUs of one of several runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its CPUs: the first of each core before the second ones.
    order: Vec<usize>,
    /// Their NUMA node, if all are in one.
    pub numa_node: Option<u32>,
    /// Whether another share has a CPU of the same core (an SMT sibling).
    pub shares_core: bool,
}

impl Share {
    /// All of its CPUs.
    pub fn cpus(&self) -> CpuList {
        self.order.iter().copied().collect()
    }

    /// As many of its CPUs, on as many cores as possible; `None` if it has fewer.
    pub fn first(&self, count: usize) -> Option<CpuList> {
        self.order.get(..count).map(|cpus| cpus.iter().copied().collect())
    }
}

/// Divides CPUs among this many runs: each gets the same number of cores, in one NUMA node unless there are fewer runs than
/// nodes, or of single CPUs if there are fewer cores than runs. What is left over stays unused. `None` if there are fewer
/// CPUs than runs.
///
/// What `/sys` does not tell is ignored: every CPU is a core then, and all are in one node.
pub fn divide(roots: &HostRoots, cpus: &CpuList, runs: usize) -> Option<Vec<Share>> {
    if runs == 0 || cpus.len() < runs {
        return None;
    }
    let mut nodes = cores_by_node(roots, cpus);
    let cores: usize = nodes.values().map(Vec::len).sum();
    let shares_core = cores < runs;
    if shares_core {
        for cores in nodes.values_mut() {
            *cores = cores.iter().flatten().map(|cpu| vec![*cpu]).collect();
        }
    }
    let units: usize = nodes.values().map(Vec::len).sum();
    let fits = |each: &usize| nodes.values().map(|units| units.len() / each).sum::<usize>() >= runs;
    let share = |node: Option<u32>, cores: &[Vec<usize>]| {
        let most = cores.iter().map(Vec::len).max().unwrap_or_default();
        let order = (0..most).flat_map(|thread| cores.iter().filter_map(move |core| core.get(thread).copied()));
        Share { order: order.collect(), numa_node: node, shares_core }
    };
    if runs < nodes.len() {
        let all: Vec<Vec<usize>> = nodes.into_values().flatten().collect();
        return Some(all.chunks(units / runs).take(runs).map(|cores| share(None, cores)).collect());
    }
    let each = (1..=units / runs).rev().find(fits)?;
    let of_node = |(node, units): (Option<u32>, Vec<Vec<usize>>)| {
        units.chunks_exact(each).map(|cores| share(node, cores)).collect::<Vec<_>>()
    };
    Some(nodes.into_iter().flat_map(of_node).take(runs).collect())
}

/// The cores of each NUMA node, each as its allowed CPUs.
fn cores_by_node(roots: &HostRoots, cpus: &CpuList) -> BTreeMap<Option<u32>, Vec<Vec<usize>>> {
    let list = |path: &Path| fs::read_to_string(path).ok()?.parse::<CpuList>().ok();
    let devices = roots.devices();
    let mut node_of = BTreeMap::new();
    for entry in fs::read_dir(devices.join("node")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(node) = name.strip_prefix("node").and_then(|number| number.parse::<u32>().ok()) else { continue };
        for cpu in list(&entry.path().join("cpulist")).unwrap_or_default().iter() {
            node_of.insert(cpu, node);
        }
    }
    let mut nodes: BTreeMap<Option<u32>, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
    for cpu in cpus.iter() {
        let topology = devices.join(format!("cpu/cpu{cpu}/topology"));
        // `thread_siblings_list` is the name before Linux 5.2.
        let siblings = list(&topology.join("core_cpus_list")).or_else(|| list(&topology.join("thread_siblings_list")));
        let core = siblings.and_then(|siblings| siblings.iter().next()).unwrap_or(cpu);
        nodes.entry(node_of.get(&cpu).copied()).or_default().entry(core).or_default().push(cpu);
    }
    nodes.into_iter().map(|(node, cores)| (node, cores.into_values().collect())).collect()
}

/// What decides on the clock frequency of these CPUs (`scaling_governor`), such as `performance`; several with commas.
/// `None` if the kernel does not tell, as in most virtual machines.
pub fn governor(roots: &HostRoots, cpus: &CpuList) -> Option<String> {
    let governor = |cpu| {
        let path = roots.devices().join(format!("cpu/cpu{cpu}/cpufreq/scaling_governor"));
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let found: BTreeSet<String> = cpus.iter().filter_map(governor).collect();
    (!found.is_empty()).then(|| found.into_iter().collect::<Vec<_>>().join(","))
}

/// How much the CPU limit of the cgroup in this directory has held back what is in it and below: `cpu.stat`, which counts
/// nothing of the limits below or above. `None` if the cgroup has no `cpu` controller, or is gone.
pub fn throttling_in(directory: &Path) -> Option<Throttling> {
    let path = directory.join("cpu.stat");
    let text = fs::read_to_string(&path).ok()?;
    // In nanoseconds on v1.
    let keys = ["nr_throttled", "throttled_usec", "throttled_time"];
    let [periods, micros, nanos] = keyed(&path, &text, keys).ok()?;
    Some(Throttling { periods: periods?, time_us: micros.or(nanos.map(|nanos| nanos / 1000))? })
}

/// The same for the cgroups of this process and all above it, which hold back what it starts as well.
pub fn throttling(roots: &HostRoots) -> Option<Throttling> {
    let v1 = v1_companions(roots, "self").ok().and_then(|companions| companions.cpu);
    let own = v1.or_else(|| memory_cgroup(roots, "self").ok().map(|cgroup| cgroup.path))?;
    let with_counter = own.ancestors().take_while(|directory| directory.join("cpu.stat").exists());
    with_counter.filter_map(throttling_in).reduce(Throttling::plus)
}

/// The number of processes that ran or waited for a CPU or a disk, on average over the last minute (`/proc/loadavg`).
pub fn load(roots: &HostRoots) -> Reading<f64> {
    match read::<LoadAverage>(&roots.proc.join("loadavg")) {
        // The kernel writes two decimals.
        Ok(load) => Reading::Value((f64::from(load.one) * 100.0).round() / 100.0),
        Err(_) => Reading::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_written_as_the_kernel_does() {
        for (text, written) in [("0", "0"), ("0-3,8\n", "0-3,8"), ("1,0,2", "0-2"), ("4,6", "4,6")] {
            assert_eq!(text.parse::<CpuList>().unwrap().to_string(), written);
        }
        for text in ["", "a", "3-1", "0-", "1,,2", "0-999999"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
        assert!(CpuList::allowed().is_some_and(|cpus| !cpus.is_empty()));
    }

    /// A machine with these NUMA nodes, and with cores of these CPUs.
    fn machine(nodes: &[&str], cores: &[&str]) -> (tempfile::TempDir, HostRoots) {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: String, text: &str| {
            let path = tree.path().join("sys/devices/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        };
        for (node, cpus) in nodes.iter().enumerate() {
            write(format!("node/node{node}/cpulist"), cpus);
        }
        for core in cores {
            for cpu in core.parse::<CpuList>().unwrap().iter() {
                write(format!("cpu/cpu{cpu}/topology/core_cpus_list"), core);
                write(format!("cpu/cpu{cpu}/cpufreq/scaling_governor"), "powersave");
            }
        }
        let roots = HostRoots::recorded(tree.path());
        (tree, roots)
    }

    fn divided(roots: &HostRoots, cpus: &str, runs: usize) -> Vec<String> {
        let shares = divide(roots, &cpus.parse().unwrap(), runs).unwrap_or_default();
        shares.iter().map(|share| share.cpus().to_string()).collect()
    }

    #[test]
    fn runs_get_whole_cores_of_one_node() {
        // Two nodes of three cores with two CPUs each.
        let (_tree, roots) = machine(&["0-2,6-8", "3-5,9-11"], &["0,6", "1,7", "2,8", "3,9", "4,10", "5,11"]);
        assert_eq!(divided(&roots, "0-11", 2), ["0-2,6-8", "3-5,9-11"]);
        // Two cores each would need three nodes.
        assert_eq!(divided(&roots, "0-11", 3), ["0,6", "1,7", "2,8"]);
        assert_eq!(divided(&roots, "0-11", 1), ["0-11"]);
        assert_eq!(divided(&roots, "0-1,6-7", 2), ["0,6", "1,7"]);
        // More runs than cores: they share them.
        let shares = divide(&roots, &"0-11".parse().unwrap(), 8).unwrap();
        assert!(shares.iter().all(|share| share.shares_core && share.cpus().len() == 1));
        assert_eq!(divided(&roots, "0-11", 13), [""; 0]);
        assert_eq!(governor(&roots, &"0-3".parse().unwrap()).as_deref(), Some("powersave"));
    }

    #[test]
    fn fewer_cpus_are_on_as_many_cores_as_possible() {
        let (_tree, roots) = machine(&["0-7"], &["0-1", "2-3", "4-5", "6-7"]);
        let shares = divide(&roots, &"0-7".parse().unwrap(), 2).unwrap();
        let first = |count| shares[1].first(count).map(|cpus| cpus.to_string());
        assert_eq!([1, 2, 3, 5].map(first), [Some("4".into()), Some("4,6".into()), Some("4-6".into()), None]);
        assert_eq!(shares[1].numa_node, Some(0));
    }

    #[test]
    fn throttling_is_that_of_all_cgroups_above_and_never_0_unread() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let roots = HostRoots::recorded(tree.path());
        assert_eq!(throttling(&roots), None);
        write("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
        write("proc/self/cgroup", "0::/pod/job\n");
        // Without the controller, the file has times only.
        write("sys/fs/cgroup/pod/job/cpu.stat", "usage_usec 5\nuser_usec 4\nsystem_usec 1\n");
        assert_eq!(throttling(&roots), None);
        write("sys/fs/cgroup/pod/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 70\n");
        assert_eq!(throttling(&roots), Some(Throttling { periods: 3, time_us: 70 }));
        write("v1/cpu.stat", "nr_periods 9\nnr_throttled 2\nthrottled_time 5000\n");
        assert_eq!(throttling_in(&tree.path().join("v1")), Some(Throttling { periods: 2, time_us: 5 }));
    }

    #[test]
    fn a_machine_that_tells_nothing_has_cores_of_one_cpu() {
        let (_tree, roots) = machine(&[], &[]);
        assert_eq!(divided(&roots, "1,3,5,7", 2), ["1,3", "5,7"]);
        assert_eq!(governor(&roots, &"1".parse().unwrap()), None);
        assert_eq!(load(&roots), Reading::Unsupported);
    }
}
