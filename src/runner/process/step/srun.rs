//! Starts a step with `srun`, and hands the task over to the probe in it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt::PeerCredentials};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, Pid, access, getuid};

use crate::runner::patience::{Patience, wait_for_child};
use crate::runner::probe;
use crate::runner::spawn::{Image, Stdio};
use crate::runner::unblock_signals_in;

/// How long a step may take to start. It shares the resources of the job, so it waits for nothing but Slurm itself.
const START: Duration = Duration::from_secs(30);
/// The interval at which to check whether `srun` has failed.
const PAUSE: Duration = Duration::from_millis(20);
/// How long `srun` may take to end once the first process of the step has.
const END: Duration = Duration::from_secs(10);
/// The most that is read of its messages.
const MOST_MESSAGES: u64 = 1 << 16;

/// Variables that would change the step, or what `srun` writes. Options on the command line take precedence over others.
const UNWANTED: [&str; 14] = [
    "SLURM_DEBUG",
    "SLURM_DISTRIBUTION",
    "SLURM_EXACT",
    "SLURM_HOSTFILE",
    "SLURM_LABELIO",
    "SLURM_MULTI_PROG",
    "SLURM_RELATIVE",
    "SLURM_STEP_GRES",
    "SLURM_TASK_EPILOG",
    "SLURM_TASK_PROLOG",
    "SLURM_TIMELIMIT",
    "SLURM_UNBUFFEREDIO",
    "SLURM_WAIT",
    "SRUN_CPUS_PER_TASK",
];

/// How long no step is tried after one has not started in time: runs in between would wait as long.
const RECOVERY: Duration = Duration::from_secs(300);

/// When a step last did not start in time, and why.
static TIMED_OUT: Mutex<Option<(Instant, String)>> = Mutex::new(None);
/// The probe, as a file in memory that other processes of this user can execute.
static PROBE: OnceLock<File> = OnceLock::new();
/// The number of sockets of this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Whether steps can be tried.
pub(super) fn available() -> Result<(), String> {
    probe::program()?;
    match &*TIMED_OUT.lock().unwrap_or_else(PoisonError::into_inner) {
        Some((at, reason)) if at.elapsed() < RECOVERY => Err(reason.clone()),
        _ => Ok(()),
    }
}

/// `srun` along `PATH`.
pub(super) fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join("srun"));
    candidates.find(|path| path.is_file() && access(path, AccessFlags::X_OK).is_ok())
}

/// A running `srun`.
#[derive(Debug)]
pub(super) struct Srun {
    child: Child,
    /// Where it writes its messages, which are not those of the task.
    messages: File,
}

impl Srun {
    /// Starts a step, and waits until the probe in it has connected. Returns the connection and the pid of the probe.
    pub(super) fn start(program: &Path, patience: &mut Patience<'_>) -> Result<(Self, UnixStream, i32), String> {
        let failed = |action: &'static str| move |error: io::Error| format!("failed to {action}: {error}");
        let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(failed("read random numbers"))?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("highwater-{}-{number}-{}", std::process::id(), random.trim());
        // No file that could be left behind, in no directory that a step may see differently.
        let listener = SocketAddr::from_abstract_name(&name).and_then(|address| UnixListener::bind_addr(&address));
        let listener = listener.map_err(failed("create a socket"))?;
        listener.set_nonblocking(true).map_err(failed("create a socket"))?;
        let mut srun = Self::spawn(program, &name).map_err(failed("start srun"))?;
        let until = Instant::now() + START;
        loop {
            match listener.accept() {
                Ok((line, _)) => {
                    // Others may find the name of the socket.
                    let peer = getsockopt(&line, PeerCredentials)
                        .map_err(|errno| failed("identify the step")(errno.into()))?;
                    if peer.uid() == getuid().as_raw() {
                        line.set_nonblocking(true).map_err(failed("create a socket"))?;
                        return Ok((srun, line, peer.pid()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed("wait for the step")(error)),
            }
            if let Some(status) = srun.child.try_wait().map_err(failed("wait for srun"))? {
                let messages = srun.messages();
                return Err(format!(
                    "srun failed: {}",
                    if messages.is_empty() { status.to_string() } else { messages }
                ));
            }
            if Instant::now() > until {
                let reason = format!("srun started no step within {} s: {}", START.as_secs(), srun.messages());
                let timed_out = (Instant::now(), reason.clone());
                *TIMED_OUT.lock().unwrap_or_else(PoisonError::into_inner) = Some(timed_out);
                return Err(reason);
            }
            if patience.left(Duration::MAX).is_zero() {
                return Err("interrupted before the step had started".to_owned());
            }
            wait_for(listener.as_fd(), PAUSE, patience);
        }
    }

    fn spawn(program: &Path, socket: &str) -> io::Result<Self> {
        let probe = match PROBE.get() {
            Some(probe) => probe,
            None => {
                let probe = executable_in_memory(probe::program().map_err(io::Error::other)?)?;
                PROBE.get_or_init(|| probe)
            }
        };
        let messages = tempfile::tempfile()?;
        let mut command = Command::new(program);
        command.args([
            "--ntasks=1",
            "--nodes=1",
            "--job-name=highwater",
            // The resources of the whole job, which highwater itself and other runs use as well.
            "--overlap",
            "--whole",
            "--mem=0",
            "--cpu-bind=none",
            "--mpi=none",
            "--export=ALL",
            "--chdir=/",
            "--input=none",
            "--output=none",
            "--kill-on-bad-exit=0",
            "--quiet",
        ]);
        if let Some(node) = std::env::var_os("SLURMD_NODENAME") {
            let mut option = OsString::from("--nodelist=");
            option.push(node);
            command.arg(option);
        }
        command.arg(format!("/proc/{}/fd/{}", std::process::id(), probe.as_raw_fd())).args(["--step", socket]);
        for name in UNWANTED {
            command.env_remove(name);
        }
        // In a group of its own it gets no Ctrl-C, which ends the step before the counters are read.
        command
            .stdin(File::open("/dev/null")?)
            .stdout(messages.try_clone()?)
            .stderr(messages.try_clone()?)
            .process_group(0);
        unblock_signals_in(&mut command);
        // SAFETY: between fork and exec there is only one system call.
        unsafe {
            command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
        }
        Ok(Self { child: command.spawn()?, messages })
    }

    /// What it has written, on one line.
    fn messages(&mut self) -> String {
        let mut text = Vec::new();
        // What cannot be read is missing in the message.
        let _ = self.messages.rewind().and_then(|()| (&self.messages).take(MOST_MESSAGES).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().map(|line| line.trim_start_matches("srun: ").trim_start_matches("error: "));
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// Waits for it, and kills it if it takes long.
    pub(super) fn wait(&mut self) {
        match wait_for_child(&mut self.child, END) {
            Ok(Some(_)) => tracing::debug!("srun has ended: {}", self.messages()),
            Ok(None) => tracing::warn!("srun did not end within {} s after the step", END.as_secs()),
            Err(error) => tracing::warn!("failed to wait for srun: {error}"),
        }
    }
}

impl Drop for Srun {
    fn drop(&mut self) {
        // Usually it has ended; otherwise there is no task in the step.
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = i32::try_from(self.child.id()).map(Pid::from_raw);
            let _ = pid.map(|pid| kill(pid, Signal::SIGTERM));
            self.wait();
        }
    }
}

/// Sends the probe what it needs to start the task.
pub(super) fn send(line: &UnixStream, image: &Image, stdio: &Stdio, oom_score: u32) -> io::Result<()> {
    let words = image.words();
    // The probe is on the CPUs of the task already.
    let [candidates, arguments, environment, directory, _cpus] = words.counts();
    let numbers = [candidates, arguments, environment, directory, oom_score];
    let numbers: Vec<u8> = numbers.into_iter().flat_map(u32::to_ne_bytes).collect();
    let mut command = in_memory(MFdFlags::empty())?;
    command.write_all(&numbers)?;
    command.write_all(words.bytes())?;
    command.rewind()?;
    let directory = open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut files: Vec<RawFd> =
        (0..).zip(stdio.files()).map(|(own, file)| file.map_or(own, |file| file.as_raw_fd())).collect();
    files.extend([directory.as_raw_fd(), command.as_raw_fd()]);
    files.extend(image.namespaces().into_iter().flatten().map(|namespace| namespace.as_raw_fd()));
    let rights = [ControlMessage::ScmRights(&files)];
    sendmsg::<()>(line.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// A file in memory with the probe, sealed against changes.
fn executable_in_memory(content: &[u8]) -> io::Result<File> {
    // Linux 6.3 can be configured to ask for the flag; older versions do not know it.
    const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);
    let flags = MFdFlags::MFD_ALLOW_SEALING;
    let mut file = in_memory(flags | MFD_EXEC).or_else(|_| in_memory(flags))?;
    file.write_all(content)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

fn in_memory(flags: MFdFlags) -> io::Result<File> {
    Ok(memfd_create("highwater", flags | MFdFlags::MFD_CLOEXEC)?.into())
}

/// Waits until there is something to read, or a request to stop, which it notes.
pub(super) fn wait_for(file: BorrowedFd<'_>, most: Duration, patience: &mut Patience<'_>) {
    let mut files = vec![PollFd::new(file, PollFlags::POLLIN)];
    files.extend(patience.requested().map(|requested| PollFd::new(requested, PollFlags::POLLIN)));
    // An error comes back when reading.
    let _ = poll(&mut files, PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX));
    if files.get(1).is_some_and(|requested| requested.any().unwrap_or(false)) {
        patience.note();
    }
}
