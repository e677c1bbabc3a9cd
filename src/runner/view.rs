//! Mount namespaces in which tasks see files and directories at other paths than on the host.
//!
//! A view is built once, by a short-lived child process outside of any task's cgroup, and kept open by its descriptors.
//! A task enters it with `setns(2)` before it executes its program, so neither its memory nor its cgroups change.
//! Without privileges the child first creates a user namespace, in which the user id is the same and may mount.
//! Everything disappears with the last process in it and the last descriptor: nothing is left on the host.

mod layout;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, mknod, umask};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, chdir, fork, getppid, mkdir, pipe2, pivot_root, symlinkat};

use self::layout::{Operation, lay_out};

/// A file or directory of the host that a task also sees at another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its path on the host.
    pub source: PathBuf,
    /// Its path for the task, absolute, whether it exists on the host or not.
    pub target: PathBuf,
    /// Whether it is read-only for the task, with Linux 5.12+.
    pub read_only: bool,
}

/// A writable directory that shows another one and stores changes separately (overlayfs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The directory that is shown but never written to. Mounts below it are not shown.
    pub lower: PathBuf,
    /// Where changes are stored.
    pub upper: PathBuf,
    /// An empty directory beside `upper`, on the same file system.
    pub work: PathBuf,
    /// Where it is mounted: an existing directory.
    pub target: PathBuf,
}

/// A mount namespace with additions to the host's file tree. It lasts as long as this value, or a process in it.
#[derive(Debug)]
pub struct View {
    mounts: OwnedFd,
    /// The user namespace, if mounting required one.
    user: Option<OwnedFd>,
    /// Directories whose new entries are stored in memory.
    in_memory: Vec<PathBuf>,
}

/// Why a view could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// An invalid mount.
    #[error("failed to mount at {target}: {reason}")]
    Target {
        /// Its target.
        target: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Something on the host could not be read.
    #[error("failed to {action} {path}")]
    Host {
        /// The operation that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// An operation in the new namespace failed.
    #[error("failed to {action}")]
    Namespace {
        /// The operation, and its object.
        action: String,
        /// The system error.
        #[source]
        source: io::Error,
    },
}

impl View {
    /// Builds a view of what this thread sees, with these overlays and then these mounts added.
    ///
    /// # Errors
    /// If this process may not create a mount namespace, or a source cannot be mounted.
    pub fn open(mounts: &[Mount], overlays: &[Overlay]) -> Result<Self, ViewError> {
        let layout = lay_out(mounts, overlays)?;
        let builder = Builder::new(&layout.operations);
        let failed = |action: &str| {
            let action = action.to_owned();
            move |source: io::Error| ViewError::Namespace { action, source }
        };
        let (report, reporter) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("create a pipe")(errno.into()))?;
        let parent = Pid::this();
        // SAFETY: the child makes system calls on values that were prepared before, allocates nothing, takes no lock,
        // and does not return.
        let child = match unsafe { fork() }.map_err(|errno| failed("create a process")(errno.into()))? {
            ForkResult::Parent { child } => Child(child),
            ForkResult::Child => builder.run(parent, reporter.as_fd()),
        };
        drop(reporter);
        let mut message = [0; Message::LENGTH];
        File::from(report).read_exact(&mut message).map_err(failed("communicate with the mounting process"))?;
        let has_user_namespace = match Message::decode(message) {
            Message::Built { has_user_namespace } => has_user_namespace,
            Message::Failed { step, errno } => return Err(failed(&builder.describe(step))(errno.into())),
        };
        let namespace = |name: &str| {
            let path = PathBuf::from(format!("/proc/{}/ns/{name}", child.0));
            match File::open(&path) {
                Ok(file) => Ok(file.into()),
                Err(source) => Err(ViewError::Host { action: "open", path, source }),
            }
        };
        let mounts = namespace("mnt")?;
        let user = if has_user_namespace { Some(namespace("user")?) } else { None };
        Ok(Self { mounts, user, in_memory: layout.in_memory })
    }

    /// Whether tasks in it run in a user namespace, where set-user-ID programs have no effect.
    pub fn has_user_namespace(&self) -> bool {
        self.user.is_some()
    }

    /// Directories of the host that are replaced by a writable one in memory: what a task creates in them counts as its
    /// memory, but not what it creates in their subdirectories.
    pub fn in_memory(&self) -> &[PathBuf] {
        &self.in_memory
    }

    /// Makes a command start in the view, in the current directory.
    ///
    /// # Errors
    /// If the current directory is unknown.
    pub fn start_in(self: &Arc<Self>, command: &mut Command) -> io::Result<()> {
        let view = Arc::clone(self);
        let here = CString::new(std::env::current_dir()?.into_os_string().into_vec())?;
        // SAFETY: between fork and exec only system calls are made, on values that were prepared before.
        unsafe {
            command.pre_exec(move || {
                enter_namespaces(view.namespaces())?;
                Ok(chdir(here.as_c_str())?)
            });
        }
        Ok(())
    }

    /// Its namespaces: mount, then user.
    pub(super) fn namespaces(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.mounts.as_fd()), self.user.as_ref().map(AsFd::as_fd)]
    }
}

/// Moves the calling process, which must have a single thread, into a view; its working directory becomes `/`. Makes
/// only system calls.
pub(super) fn enter_namespaces([mounts, user]: [Option<BorrowedFd<'_>>; 2]) -> Result<(), Errno> {
    // The user namespace first: it gives the privilege to enter the other one.
    for (namespace, kind) in [(user, libc::CLONE_NEWUSER), (mounts, libc::CLONE_NEWNS)] {
        if let Some(namespace) = namespace {
            // SAFETY: takes a number and a descriptor that is open while borrowed.
            Errno::result(unsafe { libc::setns(namespace.as_raw_fd(), kind) })?;
        }
    }
    Ok(())
}

/// The process that builds the view; killed and waited for when this is dropped.
struct Child(Pid);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Where the tmpfs with the old and the new root is mounted temporarily: a directory that every host has. Only the new
/// namespace sees it.
const BASE: &std::ffi::CStr = c"/proc";

/// A step before or after the operations of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Unshare,
    MapUser,
    Isolate,
    Base,
    Operation(u32),
    EnterRoot,
}

/// Everything that the child needs, prepared before it exists.
struct Builder<'a> {
    operations: &'a [Operation],
    user_map: CString,
    group_map: CString,
}

const NOTHING: Option<&std::ffi::CStr> = None;

impl<'a> Builder<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        let map = |id: u32| CString::new(format!("{id} {id} 1")).unwrap_or_default();
        let (user_map, group_map) = (map(Uid::effective().as_raw()), map(Gid::effective().as_raw()));
        Self { operations, user_map, group_map }
    }

    /// Builds the view, reports the result and waits to be killed.
    fn run(&self, parent: Pid, reporter: BorrowedFd<'_>) -> ! {
        let message = match self.build(parent) {
            Ok(has_user_namespace) => Message::Built { has_user_namespace },
            Err((step, errno)) => Message::Failed { step, errno },
        };
        let _ = nix::unistd::write(reporter, &message.encode());
        // Entering a user namespace may have revoked it.
        let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
        // A parent that is gone already does not kill this process.
        while matches!(message, Message::Built { .. }) && getppid() == parent {
            nix::unistd::pause();
        }
        // SAFETY: ends this process, which owns nothing that needs to be dropped.
        unsafe { libc::_exit(0) }
    }

    fn build(&self, parent: Pid) -> Result<bool, (Step, Errno)> {
        let at = |step| move |errno| (step, errno);
        // Is killed with the thread that waits for it.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(at(Step::Unshare))?;
        if getppid() != parent {
            return Err((Step::Unshare, Errno::ESRCH));
        }
        umask(Mode::empty());
        let has_user_namespace = match unshare(CloneFlags::CLONE_NEWNS) {
            Err(Errno::EPERM) => {
                unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(at(Step::Unshare))?;
                self.map_user().map_err(at(Step::MapUser))?;
                true
            }
            result => result.map(|()| false).map_err(at(Step::Unshare))?,
        };
        // Mounts made here do not propagate to the host; those of the host propagate here.
        mount(NOTHING, c"/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING).map_err(at(Step::Isolate))?;
        enter_base().map_err(at(Step::Base))?;
        for (number, operation) in (0..).zip(self.operations) {
            operation.perform().map_err(at(Step::Operation(number)))?;
        }
        enter_root().map_err(at(Step::EnterRoot))?;
        Ok(has_user_namespace)
    }

    /// Maps user and group ids to themselves (user_namespaces(7)).
    fn map_user(&self) -> Result<(), Errno> {
        for (file, text) in [
            (c"/proc/self/setgroups", c"deny"),
            (c"/proc/self/uid_map", self.user_map.as_c_str()),
            (c"/proc/self/gid_map", self.group_map.as_c_str()),
        ] {
            let file = open(file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            nix::unistd::write(&file, text.to_bytes())?;
        }
        Ok(())
    }

    fn describe(&self, step: Step) -> String {
        match step {
            Step::Unshare => "create a mount namespace".to_owned(),
            Step::MapUser => "map the user into a user namespace".to_owned(),
            Step::Isolate => "make mounts private to a mount namespace".to_owned(),
            Step::Base => "mount a new root".to_owned(),
            Step::Operation(number) => {
                let operation = usize::try_from(number).ok().and_then(|number| self.operations.get(number));
                operation.map_or_else(|| "mount".to_owned(), Operation::describe)
            }
            Step::EnterRoot => "enter the new root".to_owned(),
        }
    }
}

/// Makes a tmpfs the root, with the old root below `/old` and a mount point for the new one at `/new`.
fn enter_base() -> Result<(), Errno> {
    mount(Some(c"tmpfs"), BASE, Some(c"tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(c"mode=755"))?;
    chdir(BASE)?;
    mkdir(c"old", Mode::S_IRWXU)?;
    mkdir(c"new", Mode::S_IRWXU)?;
    pivot_root(c".", c"old")?;
    chdir(c"/")
}

/// Switches from the tmpfs to the new root, as pivot_root(2) describes.
fn enter_root() -> Result<(), Errno> {
    chdir(c"/new")?;
    pivot_root(c".", c".")?;
    umount2(c".", MntFlags::MNT_DETACH)?;
    chdir(c"/")
}

impl Operation {
    /// Makes only system calls.
    fn perform(&self) -> Result<(), Errno> {
        match self {
            Self::Directory { at } => mkdir(at.as_c_str(), Mode::from_bits_truncate(0o755)),
            Self::File { at } => mknod(at.as_c_str(), SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0),
            Self::Link { at, to } => symlinkat(to.as_c_str(), nix::fcntl::AT_FDCWD, at.as_c_str()),
            Self::Memory { at, options } => {
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                mount(Some(c"tmpfs"), at.as_c_str(), Some(c"tmpfs"), flags, Some(options.as_c_str()))
            }
            Self::Close { at } => {
                let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
                let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                mount(NOTHING, at.as_c_str(), NOTHING, flags, NOTHING)
            }
            Self::Overlay { at, options } => {
                mount(Some(c"overlay"), at.as_c_str(), Some(c"overlay"), MsFlags::empty(), Some(options.as_c_str()))
            }
            Self::Bind { source, at, read_only, may_be_gone } => {
                let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                match mount(Some(source.as_c_str()), at.as_c_str(), NOTHING, flags, NOTHING) {
                    Err(Errno::ENOENT) if *may_be_gone => return Ok(()),
                    result => result?,
                }
                if *read_only { make_read_only(at) } else { Ok(()) }
            }
        }
    }

    fn describe(&self) -> String {
        let name = |path: &CString| {
            let text = path.to_string_lossy();
            let text = text.strip_prefix(layout::NEW).or(text.strip_prefix(layout::OLD)).unwrap_or(&text);
            if text.is_empty() { "/".to_owned() } else { text.to_owned() }
        };
        match self {
            Self::Directory { at } | Self::File { at } | Self::Link { at, .. } => format!("make {}", name(at)),
            Self::Memory { at, .. } => format!("mount a directory over {}", name(at)),
            Self::Overlay { at, .. } => format!("mount an overlay at {}", name(at)),
            Self::Close { at } => format!("make {} read-only", name(at)),
            Self::Bind { source, at, .. } => format!("mount {} at {}", name(source), name(at)),
        }
    }
}

/// Makes a mount and all mounts below it read-only; before Linux 5.12 only the mount itself.
fn make_read_only(at: &std::ffi::CStr) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is zero-terminated and the structure has the size given; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            at.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        Err(Errno::ENOSYS) => remount_read_only(at),
        Err(errno) => Err(errno),
    }
}

/// A remount must repeat `nodev` and `nosuid` if the mount has them.
fn remount_read_only(at: &std::ffi::CStr) -> Result<(), Errno> {
    let now = statvfs(at)?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (set, flag) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        if now.contains(set) {
            flags |= flag;
        }
    }
    mount(NOTHING, at, NOTHING, flags, NOTHING)
}

/// A report of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Built { has_user_namespace: bool },
    Failed { step: Step, errno: Errno },
}

impl Message {
    const LENGTH: usize = 12;

    fn encode(self) -> [u8; Self::LENGTH] {
        let [kind, number, errno] = match self {
            Self::Built { has_user_namespace } => [0, u32::from(has_user_namespace), 0],
            Self::Failed { step, errno } => {
                let (kind, number) = match step {
                    Step::Unshare => (1, 0),
                    Step::MapUser => (2, 0),
                    Step::Isolate => (3, 0),
                    Step::Base => (4, 0),
                    Step::Operation(number) => (5, number),
                    Step::EnterRoot => (6, 0),
                };
                [kind, number, errno as u32]
            }
        };
        let mut bytes = [0; Self::LENGTH];
        for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip([kind, number, errno]) {
            *place = word.to_ne_bytes();
        }
        bytes
    }

    fn decode(bytes: [u8; Self::LENGTH]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let number = u32::from_ne_bytes([e, f, g, h]);
        let step = match u32::from_ne_bytes([a, b, c, d]) {
            0 => return Self::Built { has_user_namespace: number != 0 },
            1 => Step::Unshare,
            2 => Step::MapUser,
            3 => Step::Isolate,
            4 => Step::Base,
            5 => Step::Operation(number),
            _ => Step::EnterRoot,
        };
        Self::Failed { step, errno: Errno::from_raw(i32::from_ne_bytes([i, j, k, l])) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_tells_is_understood() {
        let steps = [Step::Unshare, Step::MapUser, Step::Isolate, Step::Base, Step::Operation(7), Step::EnterRoot];
        let failures = steps.map(|step| Message::Failed { step, errno: Errno::EACCES });
        let built = [true, false].map(|has_user_namespace| Message::Built { has_user_namespace });
        for message in failures.into_iter().chain(built) {
            assert_eq!(Message::decode(message.encode()), message);
        }
    }

    #[test]
    fn the_child_ends_if_its_parent_is_gone_before_it_starts() {
        let (_reader, reporter) = nix::unistd::pipe().unwrap();
        let builder = Builder::new(&[]);
        let gone = Pid::from_raw(i32::MAX);
        // SAFETY: the child makes only system calls.
        let child = match unsafe { fork() }.unwrap() {
            ForkResult::Child => builder.run(gone, reporter.as_fd()),
            ForkResult::Parent { child } => child,
        };
        let started = std::time::Instant::now();
        let has_ended = || waitpid(child, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).unwrap().pid().is_some();
        while !has_ended() {
            if started.elapsed() > std::time::Duration::from_secs(10) {
                drop(Child(child));
                panic!("the child stays");
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// The output of a shell script in a view with an input and an output at paths that do not exist on the host;
    /// `None` if views are not available.
    fn seen(directory: &std::path::Path, script: &str) -> Option<String> {
        for name in ["in", "out"] {
            std::fs::create_dir_all(directory.join(name)).unwrap();
        }
        std::fs::write(directory.join("in/scan"), "data").unwrap();
        let mount = |name: &str, read_only| {
            let target = PathBuf::from(format!("/highwater-test/{name}"));
            Mount { source: directory.join(name), target, read_only }
        };
        let view = match View::open(&[mount("in", true), mount("out", false)], &[]) {
            Err(ViewError::Namespace { action, source }) if action == "create a mount namespace" => {
                eprintln!("skipped: {source}");
                return None;
            }
            view => view.unwrap(),
        };
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Arc::new(view).start_in(&mut command).unwrap();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn a_task_sees_its_channels_at_their_paths_and_the_host_beside_them() {
        let directory = tempfile::tempdir().unwrap();
        let script = "cat /highwater-test/in/scan; touch /highwater-test/in/x 2>/dev/null && exit 3; echo; echo made > /highwater-test/out/mask; \
                      pwd; id -u; test -d /proc/self && test -e /dev/null && test -x /bin/sh && test -d /sys && echo all";
        let Some(seen) = seen(directory.path(), script) else { return };
        let here = std::env::current_dir().unwrap();
        assert_eq!(seen, format!("data\n{}\n{}\nall\n", here.display(), Uid::effective()));
        assert_eq!(std::fs::read_to_string(directory.path().join("out/mask")).unwrap(), "made\n");
        assert!(!std::path::Path::new("/highwater-test").exists());
    }

    #[test]
    fn the_control_groups_of_a_task_are_those_outside() {
        let directory = tempfile::tempdir().unwrap();
        let lines = |text: &str| -> Vec<String> {
            let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let cgroups = fields.filter(|fields| fields.contains(&"cgroup") || fields.contains(&"cgroup2"));
            // Root and mount point.
            cgroups.map(|fields| format!("{} {}", fields[3], fields[4])).collect()
        };
        let Some(seen) = seen(directory.path(), "cat /proc/self/mountinfo") else { return };
        assert_eq!(lines(&seen), lines(&std::fs::read_to_string("/proc/self/mountinfo").unwrap()));
    }

    #[test]
    fn a_mount_that_fails_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let operations = [Operation::Bind {
            source: c"/old/in".to_owned(),
            at: c"/new/data".to_owned(),
            read_only: true,
            may_be_gone: false,
        }];
        let builder = Builder::new(&operations);
        assert_eq!(builder.describe(Step::Operation(0)), "mount /in at /data");
        assert_eq!(builder.describe(Step::Operation(1)), "mount");
        let missing = Mount { source: directory.path().join("none"), target: "/x".into(), read_only: true };
        assert!(matches!(View::open(&[missing], &[]), Err(ViewError::Host { action: "find", .. })));
    }
}
