//! The descendants of a process, and the memory they use together.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use nix::libc;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use procfs::FromRead;
use procfs::process::{SmapsRollup, Stat, Status};

use super::memory::Split;
use super::{HostError, HostRoots};
use crate::model::observation::ProcessSize;
use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// A process, distinguished from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its pid.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub started: u64,
}

/// Finds the processes of a run while it goes on, from any thread.
pub trait FindProcesses: fmt::Debug + Send {
    /// Most of their pids, at little cost.
    fn quick(&self) -> Vec<i32>;

    /// All of their pids.
    fn all(&self) -> Vec<i32>;
}

/// A descendant of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its identity.
    pub identity: Identity,
    /// The pid of its parent.
    pub parent: i32,
    /// Its name (`comm`, at most 15 bytes).
    pub name: String,
    /// `R`, `S`, `D`, … (`proc_pid_stat(5)`).
    pub state: char,
    /// Whether it is a zombie, which uses no memory any more.
    pub is_zombie: bool,
    /// Whether it is exiting; it may have left its cgroup already.
    pub is_exiting: bool,
    /// Where its memory lies.
    pub addresses: Addresses,
}

/// Where the memory of a process lies: other addresses, as a rule, for each program that it executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The beginning of its code; 0 if this user may not know.
    pub code: u64,
    /// The beginning of its stack.
    pub stack: u64,
    /// The size of all mappings in bytes.
    pub size: u64,
}

/// How long a new process that seems to have the memory of its parent may not have executed its program yet.
const FROM_VFORK_TO_EXEC: Duration = Duration::from_millis(100);

/// Whether a process uses the memory of its parent. That of `vfork(2)` and `posix_spawn(3)` does until it executes its program,
/// while its parent waits. A child of `fork(2)` has a copy at the same addresses, and is taken for one that uses its parent's
/// for 100 ms.
pub fn uses_memory_of(roots: &HostRoots, parent: &Process, child: &Process) -> bool {
    if parent.addresses != child.addresses {
        return false;
    }
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
    let started = Duration::from_millis(child.identity.started.saturating_mul(1000) / ticks.max(1));
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from);
    now.saturating_sub(started) < FROM_VFORK_TO_EXEC || waits_uninterruptibly(roots, parent.identity.pid)
}

/// Whether a thread of the process is in state D, as one that waits for its child of `vfork(2)` is.
fn waits_uninterruptibly(roots: &HostRoots, pid: i32) -> bool {
    let threads = std::fs::read_dir(roots.process_file(pid, "task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| Stat::from_file(thread.path().join("stat")).ok()).any(|stat| stat.state == 'D')
}

/// `PF_EXITING` of the kernel's `linux/sched.h`, in the flags of `/proc/PID/stat`.
const EXITING: u32 = 0x4;

/// The living descendants of a process, by owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// The processes of the task.
    pub task: Vec<Process>,
    /// Container monitors that the task has started without a daemon (`conmon` of Podman). They and their descendants
    /// belong to the container engine.
    pub monitors: Vec<Process>,
}

impl Family {
    /// Sorts the descendants of a process; parents precede their children.
    pub fn new(descendants: Vec<Process>) -> Self {
        let mut family = Self::default();
        let mut of_engines = HashSet::new();
        for process in descendants {
            if of_engines.contains(&process.parent) {
                of_engines.insert(process.identity.pid);
            } else if process.name == "conmon" && !process.is_zombie {
                of_engines.insert(process.identity.pid);
                family.monitors.push(process);
            } else if !process.is_zombie {
                family.task.push(process);
            }
        }
        family
    }
}

/// The pids of the descendants of `ancestor`, from the kernel's lists of children (`/proc/PID/task/TID/children`, with
/// CONFIG_PROC_CHILDREN): far less work than [`descendants`] if there are many other processes, but a process that
/// starts or ends meanwhile can hide another one. `None` if this kernel has no such lists.
pub fn offspring(roots: &HostRoots, ancestor: i32) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    let mut unvisited = vec![ancestor];
    while let Some(parent) = unvisited.pop() {
        let Ok(threads) = std::fs::read_dir(roots.process_file(parent, "task")) else { continue };
        for thread in threads.flatten() {
            match std::fs::read_to_string(thread.path().join("children")) {
                Ok(list) => unvisited.extend(list.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
                Err(error) if error.kind() == ErrorKind::NotFound && parent == ancestor => return None,
                Err(_) => {}
            }
        }
        if parent != ancestor {
            found.push(parent);
        }
    }
    Some(found)
}

/// The command line of a process, empty for one that has ended.
pub fn command_line(roots: &HostRoots, pid: i32) -> Vec<String> {
    let text = std::fs::read(roots.process_file(pid, "cmdline")).unwrap_or_default();
    let words = text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut words: Vec<String> = words.collect();
    words.pop();
    words
}

/// Parses `/proc/PID/stat`; `None` if the process is gone.
fn process(roots: &HostRoots, pid: i32) -> Option<Process> {
    let stat = Stat::from_file(roots.process_file(pid, "stat")).ok()?;
    Some(Process {
        identity: Identity { pid, started: stat.starttime },
        parent: stat.ppid,
        name: stat.comm,
        state: stat.state,
        is_zombie: matches!(stat.state, 'Z' | 'X'),
        is_exiting: stat.flags & EXITING != 0,
        addresses: Addresses { code: stat.startcode, stack: stat.startstack, size: stat.vsize },
    })
}

/// The same processes as [`descendants`], from the lists of children if the kernel has them ([`offspring`]): for
/// samples, which may miss a process that is just being started.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn quick_descendants(roots: &HostRoots, ancestor: i32) -> Result<Vec<Process>, HostError> {
    match offspring(roots, ancestor) {
        Some(pids) => Ok(pids.into_iter().filter_map(|pid| process(roots, pid)).collect()),
        None => descendants(roots, ancestor),
    }
}

/// The processes whose parent, grandparent, … is `ancestor`, without itself.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn descendants(roots: &HostRoots, ancestor: i32) -> Result<Vec<Process>, HostError> {
    let failed = |source| HostError::Read { path: roots.proc.clone(), source };
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for entry in std::fs::read_dir(&roots.proc).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process that has ended since the directory was read does not count any more.
        if let Some(process) = process(roots, pid) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut unvisited = vec![ancestor];
    let mut found = Vec::new();
    while let Some(parent) = unvisited.pop() {
        // Removed, so that pids reused while the directory was read cannot lead to a cycle.
        for process in children.remove(&parent).unwrap_or_default() {
            unvisited.push(process.identity.pid);
            found.push(process);
        }
    }
    Ok(found)
}

/// Whether a process that was sent SIGKILL is ending: one of its threads runs or waits for a CPU. It is not if it is in
/// an uninterruptible wait or frozen (`D`), or if it may not be killed.
pub fn is_ending(roots: &HostRoots, pid: i32) -> bool {
    let is_running =
        |thread: std::fs::DirEntry| Stat::from_file(thread.path().join("stat")).is_ok_and(|stat| stat.state == 'R');
    let threads = std::fs::read_dir(roots.process_file(pid, "task"));
    let may_be_killed = || nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok();
    threads.is_ok_and(|threads| threads.flatten().any(is_running)) && may_be_killed()
}

/// The total memory of these processes: the sum of their proportional set sizes, in which a page shared by n processes
/// counts 1/n for each (`smaps_rollup`, Linux 4.14+; `proc_pid_smaps(5)`).
///
/// It excludes kernel memory and unmapped page cache. `Gone` if none of the processes could be read.
pub fn proportional_sizes(roots: &HostRoots, pids: &[i32]) -> Reading<(Bytes, Split)> {
    let mut total: Option<[Option<Bytes>; 4]> = None;
    for &pid in pids {
        let path = roots.process_file(pid, "smaps_rollup");
        let Ok(rollup) = SmapsRollup::from_file(&path) else { continue };
        let Some(sizes) = rollup.memory_map_rollup.iter().next().map(|map| &map.extension.map) else { continue };
        let found = ["Pss", "Pss_Anon", "Pss_File", "Pss_Shmem"].map(|key| sizes.get(key).copied().map(Bytes));
        total = Some(match total {
            None => found,
            Some(sums) => std::array::from_fn(|at| sums[at].zip(found[at]).map(|(sum, size)| sum.saturating_add(size))),
        });
    }
    let part = |size: Option<Bytes>| size.map_or(Reading::Unsupported, Reading::Value);
    match total {
        None => Reading::Gone,
        Some([None, ..]) => Reading::Unsupported,
        Some([Some(sum), anon, file, shmem]) => Reading::Value((
            sum,
            Split {
                anon: part(anon),
                file: part(file),
                shmem: part(shmem),
                kernel: Reading::Unsupported,
                swap: Reading::Unsupported,
            },
        )),
    }
}

/// The resident memory of a process (`proc_pid_status(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// The peak since the process was forked, or has executed its program (`VmHWM`). It does not include that of its
    /// parent, unlike `ru_maxrss`, which is kept across exec.
    pub highest: Bytes,
    /// An upper bound of the mapped files and shared memory in it now, from the extents of the mappings: `VmSize`
    /// without `VmData` and `VmStk`.
    pub mapped: Bytes,
}

/// The resident memory of a process. `Gone` if it has ended.
pub fn resident(roots: &HostRoots, pid: i32) -> Reading<Resident> {
    let Ok(status) = Status::from_file(roots.process_file(pid, "status")) else { return Reading::Gone };
    let kib = |size: Option<u64>| size.map(|size| Bytes(size.saturating_mul(1024)));
    let (Some(highest), Some(size), Some(data), Some(stack)) =
        (kib(status.vmhwm), kib(status.vmsize), kib(status.vmdata), kib(status.vmstk))
    else {
        return Reading::Gone;
    };
    // Unmodified pages of a private writable mapping belong to the file, too.
    let file = kib(status.rssfile).unwrap_or(Bytes::ZERO);
    Reading::Value(Resident { highest, mapped: size.saturating_sub(data).saturating_sub(stack).max(file) })
}

/// The largest of several processes, and the huge pages that they have mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LargestProcesses {
    /// Largest first.
    pub largest: Vec<ProcessSize>,
    /// The hugetlbfs huge pages that all of them have mapped (`HugetlbPages`), and the name of one that has some.
    pub hugetlb: Option<(Bytes, String)>,
}

/// Reads `/proc/PID/status` of each process and returns the `most` largest by `RssAnon` (Linux 4.5+). Ended processes
/// are skipped, as are all if the kernel does not report it, and one that still has the memory of its parent, between
/// `vfork` and `exec`.
pub fn largest_processes(roots: &HostRoots, pids: &[i32], most: usize) -> LargestProcesses {
    let processes: Vec<Sizes> = pids.iter().filter_map(|&pid| Sizes::read(roots, pid)).collect();
    let borrows = |child: &Sizes| {
        let same = |it: &&Sizes| it.size.pid == child.parent && it.mapped == child.mapped;
        processes.iter().find(same).is_some_and(|parent| share_memory(parent.size.pid, child.size.pid))
    };
    let mut found = LargestProcesses::default();
    for process in processes.iter().filter(|process| !borrows(process)) {
        if let pages @ Bytes(1..) = process.hugetlb {
            let (sum, _) = found.hugetlb.get_or_insert_with(|| (Bytes::ZERO, process.size.name.clone()));
            *sum = sum.saturating_add(pages);
        }
        found.largest.push(process.size.clone());
    }
    found.largest.sort_by_key(|process| (std::cmp::Reverse(process.anon), process.pid));
    found.largest.truncate(most);
    found
}

/// A process and what tells whether its memory is its own.
struct Sizes {
    size: ProcessSize,
    parent: i32,
    /// The size of its address space (`VmSize`).
    mapped: Option<Bytes>,
    hugetlb: Bytes,
}

impl Sizes {
    /// `None` if it has ended, or the kernel does not report `RssAnon`.
    fn read(roots: &HostRoots, pid: i32) -> Option<Self> {
        let status = std::fs::read(roots.process_file(pid, "status")).ok()?;
        let status = String::from_utf8_lossy(&status);
        let field =
            |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
        let size = |key: &str| Some(Bytes(field(key)?.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)?));
        let name = field("Name").unwrap_or_default().to_owned();
        Some(Self {
            size: ProcessSize { pid, name, anon: size("RssAnon")? },
            parent: field("PPid").and_then(|pid| pid.parse().ok()).unwrap_or_default(),
            mapped: size("VmSize"),
            hugetlb: size("HugetlbPages").unwrap_or_default(),
        })
    }
}

/// Whether two processes have the same address space; `false` if the kernel does not say so (`kcmp(2)` may be disabled
/// or not permitted).
fn share_memory(a: i32, b: i32) -> bool {
    /// `KCMP_VM` of `linux/kcmp.h`.
    const MEMORY: libc::c_int = 1;
    // SAFETY: kcmp only compares; it gets no pointer.
    unsafe { libc::syscall(libc::SYS_kcmp, a, b, MEMORY, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_processes_come_first_and_huge_pages_are_added_up() {
        let directory = tempfile::tempdir().unwrap();
        let roots = HostRoots::recorded(directory.path());
        let status = |pid: i32, text: &str| {
            std::fs::create_dir_all(roots.process_file(pid, "")).unwrap();
            std::fs::write(roots.process_file(pid, "status"), text).unwrap();
        };
        status(1, "Name:\tsmall one\nVmRSS:\t  900 kB\nRssAnon:\t      8 kB\nHugetlbPages:\t       0 kB\n");
        status(2, "Name:\tlarge\nRssAnon:\t 4096 kB\nHugetlbPages:\t 2048 kB\n");
        status(3, "Name:\tlarger\nRssAnon:\t 8192 kB\nHugetlbPages:\t 4096 kB\n");
        status(4, "Name:\tzombie\nState:\tZ (zombie)\n");
        let found = largest_processes(&roots, &[1, 2, 3, 4, 5], 2);
        let size = |pid, name: &str, kib: u64| ProcessSize { pid, name: name.to_owned(), anon: Bytes(kib << 10) };
        assert_eq!(found.largest, [size(3, "larger", 8192), size(2, "large", 4096)]);
        assert_eq!(found.hugetlb, Some((Bytes(6 << 20), "large".to_owned())));
    }

    #[test]
    fn a_process_that_still_has_the_memory_of_its_parent_is_not_listed() {
        use nix::sched::{CloneFlags, clone};
        use nix::unistd::{getpid, pipe, read, write};
        use std::sync::Arc;
        use std::sync::atomic::{AtomicI32, Ordering};
        let own = getpid().as_raw();
        if !share_memory(own, own) {
            return; // The kernel compares no processes here.
        }
        let (end, ends) = pipe().unwrap();
        let child = Arc::new(AtomicI32::new(0));
        let parent = std::thread::spawn({
            let child = Arc::clone(&child);
            move || {
                let mut stack = vec![0; 64 << 10];
                let wait = Box::new(|| {
                    child.store(getpid().as_raw(), Ordering::SeqCst);
                    isize::from(read(&end, &mut [0]).is_err())
                });
                let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
                // SAFETY: as after vfork, this thread waits until the child has ended, and the child only stores and reads.
                let child = unsafe { clone(wait, &mut stack, flags, Some(libc::SIGCHLD)) };
                nix::sys::wait::waitpid(child.unwrap(), None).unwrap()
            }
        });
        while child.load(Ordering::SeqCst) == 0 && !parent.is_finished() {
            std::thread::yield_now();
        }
        let child = child.load(Ordering::SeqCst);
        let found = largest_processes(&HostRoots::default(), &[child, own], 5);
        write(&ends, &[0]).unwrap();
        parent.join().unwrap();
        assert_eq!(found.largest.iter().map(|process| process.pid).collect::<Vec<_>>(), [own], "without {child}");
    }

    #[test]
    fn a_started_process_is_a_descendant_and_has_a_size() {
        let roots = HostRoots::default();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let found = descendants(&roots, own).unwrap();
        let size = proportional_sizes(&roots, &[pid]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|process| process.identity.pid == pid), "{found:?}");
        assert!(size.value().unwrap().0 > Bytes::ZERO);
    }

    #[test]
    fn what_the_parent_of_a_process_has_had_resident_is_not_in_its_own() {
        let large = vec![1_u8; 64 << 20];
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let size = |pid| resident(&HostRoots::default(), i32::try_from(pid).unwrap()).value().unwrap();
        let parent = size(std::process::id());
        // A process that has just executed its program has mapped nothing yet.
        let child_size = std::iter::repeat_with(|| size(child.id())).find(|size| size.mapped > Bytes::ZERO).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(parent.highest.0 >= std::hint::black_box(large).len() as u64, "{parent:?}");
        assert!(child_size.highest > Bytes::ZERO && child_size.highest < Bytes::mib(32), "{child_size:?}");
    }

    #[test]
    fn what_runs_is_ending_once_it_was_killed_and_what_waits_is_not() {
        let roots = HostRoots::default();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(is_ending(&roots, own), "this thread runs");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGSTOP).unwrap();
        let stops = nix::sys::wait::WaitPidFlag::WUNTRACED;
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), Some(stops)).unwrap();
        let stopped = is_ending(&roots, pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!stopped && !is_ending(&roots, pid));
    }

    #[test]
    fn processes_that_are_no_more_have_no_size() {
        assert_eq!(proportional_sizes(&HostRoots::default(), &[i32::MAX]), Reading::Gone);
        assert_eq!(resident(&HostRoots::default(), i32::MAX), Reading::Gone);
    }
}
