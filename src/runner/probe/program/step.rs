//! The probe as the first process of a step of a batch job.
//!
//! It connects to highwater on the same machine, which sends the files of the task and its command, so that the task has
//! the very input, output, directory and environment that it would have as a child of highwater. The connection then
//! takes signals for the task, a byte each, and the result. When it is closed, the step is over: at the end because
//! highwater has read the counters, before that because highwater was killed.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::fmt::Write as _;
use core::mem::{size_of, zeroed};
use core::ptr::{null, null_mut};

use super::{
    Cgroup, EAGAIN, EINTR, ENOENT, ENOTDIR, O_CLOEXEC, O_WRONLY, SIG_BLOCK, SIG_SETMASK, SIGKILL, SignalSet, __errno_location, _exit,
    close, describe_end, fail, fork, getpid, kill, last_error, now, number, open, own_memory, put, read, read_file,
    sigfillset, sigprocmask, wait, write,
};

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(socket: c_int, address: *const Address, length: u32) -> c_int;
    fn getsockopt(socket: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut u32) -> c_int;
    fn recvmsg(socket: c_int, message: *mut Message, flags: c_int) -> isize;
    fn fcntl(file: c_int, command: c_int, ...) -> c_int;
    fn pipe2(ends: *mut c_int, flags: c_int) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn dup2(from: c_int, to: c_int) -> c_int;
    fn fchdir(directory: c_int) -> c_int;
    fn chdir(path: *const c_char) -> c_int;
    fn setns(namespace: c_int, kind: c_int) -> c_int;
    fn execve(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int;
    fn getuid() -> u32;
}

const AF_UNIX: c_int = 1;
const SOCK_STREAM: c_int = 1;
const SOL_SOCKET: c_int = 1;
const SO_PEERCRED: c_int = 17;
const MSG_CMSG_CLOEXEC: c_int = 0x4000_0000;
const F_SETFL: c_int = 4;
const F_SETOWN: c_int = 8;
const O_NONBLOCK: c_int = 0o4000;
const O_ASYNC: c_int = 0o20000;
const PR_SET_PDEATHSIG: c_int = 1;
const PR_SET_CHILD_SUBREAPER: c_int = 36;
const CLONE_NEWNS: c_int = 0x0002_0000;
const CLONE_NEWUSER: c_int = 0x1000_0000;
const ENODEV: c_int = 19;
const ENOEXEC: c_int = 8;
const EACCES: c_int = 13;
const ETIMEDOUT: c_int = 110;
const ESTALE: c_int = 116;
pub(super) const SIGIO: c_int = 29;

/// `struct sockaddr_un`.
#[repr(C)]
struct Address {
    family: u16,
    path: [u8; 108],
}

/// `struct msghdr`. A C library with shorter lengths has padding behind them; both are little-endian or zero.
#[repr(C)]
struct Message {
    name: *mut c_void,
    name_length: u32,
    parts: *mut Part,
    part_count: usize,
    control: *mut c_void,
    control_length: usize,
    flags: c_int,
}

/// `struct iovec`.
#[repr(C)]
struct Part {
    bytes: *mut u8,
    length: usize,
}

/// The most files in a message: stdin, stdout, stderr, working directory, words, mount and user namespace.
const MOST_FILES: usize = 7;
const LEAST_FILES: usize = 5;

/// A control message with files.
#[repr(C)]
struct Control {
    length: usize,
    level: c_int,
    kind: c_int,
    files: [c_int; MOST_FILES + 1],
}

/// Runs the command that is sent over the abstract socket of this name.
pub(super) fn run(name: &CStr) -> c_int {
    let line = dial(name.to_bytes());
    let cgroup = Cgroup::own();
    let mut text = String::from("highwater-probe 1\n");
    cgroup.write_limits(&mut text);
    let Some(files) = receive(line) else { return 0 };
    let task = Task::read(files[4]);
    let own = own_memory();
    let mut all = SignalSet([0; 16]);
    let mut ends = [0; 2];
    // SAFETY: the pointers are valid for the calls, the set is as large as the C library's, the others take numbers.
    let child = unsafe {
        sigfillset(&mut all);
        sigprocmask(SIG_BLOCK, &all, null_mut());
        // What the task leaves behind becomes a child of this process.
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        if pipe2(ends.as_mut_ptr(), O_CLOEXEC) < 0 {
            fail(125, &format!("pipe: {}", last_error()));
        }
        fork()
    };
    let started = now();
    match child {
        -1 => fail(125, &format!("fork: {}", last_error())),
        0 => {
            let (step, error) = task.become_program(&files);
            let [a, b, c, d] = error.to_ne_bytes();
            // SAFETY: the pointer is valid for the given length.
            unsafe {
                write(ends[1], [step, a, b, c, d].as_ptr(), 5);
                _exit(127)
            }
        }
        _ => {}
    }
    let mut failure = [0; 5];
    // SAFETY: the pointer is valid for the given length; the others take numbers.
    let has_failed = unsafe {
        close(ends[1]);
        let has_failed = read(ends[0], failure.as_mut_ptr(), failure.len()) == 5;
        files.iter().for_each(|file| {
            close(*file);
        });
        has_failed
    };
    if has_failed {
        let [step, error @ ..] = failure;
        let _ = writeln!(text, "failed {step} {}", i32::from_ne_bytes(error));
        put(line, &text);
        return 0;
    }
    text.push_str("started 1\n");
    put(line, &text);
    // SAFETY: takes numbers. A signal comes from now on when there is something to read.
    unsafe {
        fcntl(line, F_SETOWN, getpid());
        fcntl(line, F_SETFL, O_NONBLOCK | O_ASYNC);
    }
    let line_of_task = Line { file: line, child, cgroup: &cgroup };
    line_of_task.take_signals();
    let ended = wait(child, &all, None, Some(&line_of_task));
    let (text, _) = describe_end(&cgroup, own, started, ended);
    // SAFETY: takes numbers; the pointer is valid for the given length.
    unsafe {
        fcntl(line, F_SETFL, 0);
        put(line, &text);
        // The cgroup goes with this process, and highwater still reads its counters.
        while read(line, [0].as_mut_ptr(), 1) > 0 {}
    }
    0
}

/// The connection to highwater while the task runs.
pub(super) struct Line<'a> {
    file: c_int,
    child: c_int,
    cgroup: &'a Cgroup,
}

impl Line<'_> {
    /// Passes on the signals that have come. Ends everything if highwater has gone.
    pub(super) fn take_signals(&self) {
        loop {
            let mut signal = 0;
            // SAFETY: the pointer is valid for one byte; the other takes numbers.
            unsafe {
                match read(self.file, &mut signal, 1) {
                    1 => {
                        kill(self.child, c_int::from(signal));
                    }
                    -1 if matches!(*__errno_location(), EAGAIN | EINTR) => return,
                    // It is closed, or reset with what was not read.
                    _ => {
                        self.kill_rest();
                        _exit(1)
                    }
                }
            }
        }
    }

    /// Kills everything else in the cgroup of the step, for two seconds at most; returns the number of those processes.
    pub(super) fn kill_rest(&self) -> u64 {
        let (Cgroup::V1 { memory: directory, .. } | Cgroup::V2(directory)) = self.cgroup else { return 0 };
        // SAFETY: takes nothing.
        let own = unsafe { getpid() };
        let mut killed: Vec<c_int> = Vec::new();
        let started = now();
        loop {
            let list = read_file(&format!("{directory}/cgroup.procs")).unwrap_or_default();
            let others = list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0 && *pid != own);
            let others: Vec<c_int> = others.collect();
            while super::reap(super::WNOHANG).is_some() {}
            if others.is_empty() || now() - started > 2_000_000 {
                return killed.len() as u64;
            }
            for pid in others {
                // SAFETY: takes two numbers.
                unsafe { kill(pid, SIGKILL) };
                if !killed.contains(&pid) {
                    killed.push(pid);
                }
            }
            super::pause(1000);
        }
    }
}

/// Connects to highwater, which has to belong to the same user.
fn dial(name: &[u8]) -> c_int {
    let mut address = Address { family: AF_UNIX as u16, path: [0; 108] };
    // The first byte of an abstract name is zero.
    let Some(room) = address.path.get_mut(1..=name.len()) else { fail(125, "the name of the socket is too long") };
    room.copy_from_slice(name);
    let length = u32::try_from(size_of::<u16>() + 1 + name.len()).unwrap_or(0);
    let mut peer = [0_u32; 3];
    let mut peer_length = 12;
    // SAFETY: the pointers are valid for the given lengths.
    unsafe {
        let line = socket(AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0);
        if line < 0 || connect(line, &address, length) < 0 {
            fail(125, &format!("failed to connect to highwater: {}", last_error()));
        }
        getsockopt(line, SOL_SOCKET, SO_PEERCRED, peer.as_mut_ptr().cast(), &mut peer_length);
        if peer[1] != getuid() {
            fail(125, "the socket belongs to another user");
        }
        line
    }
}

/// The files of the task; `None` if highwater does not want the step.
fn receive(line: c_int) -> Option<Vec<c_int>> {
    let mut byte = 0;
    let mut part = Part { bytes: &mut byte, length: 1 };
    // SAFETY: all of their fields may be zero, and the pointers are valid for the given lengths.
    let (control, received) = unsafe {
        let mut control: Control = zeroed();
        let mut message: Message = zeroed();
        (message.parts, message.part_count) = (&mut part, 1);
        message.control = (&raw mut control).cast();
        message.control_length = size_of::<Control>();
        let received = recvmsg(line, &mut message, MSG_CMSG_CLOEXEC);
        (control, received)
    };
    let count = control.length.saturating_sub(16) / size_of::<c_int>();
    let files = control.files.get(..count)?;
    (received == 1 && (LEAST_FILES..=MOST_FILES).contains(&count)).then(|| files.to_vec())
}

/// The command, as spawn.rs lays it out.
struct Task {
    candidates: Vec<*const c_char>,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    working_directory: Option<*const c_char>,
    /// The OOM score of the task, if it is not that of this process.
    oom_score: Option<String>,
    /// What the pointers refer to.
    _bytes: Vec<u8>,
}

impl Task {
    /// Reads five numbers, the counts of the strings and what to add to the OOM score, then the strings.
    fn read(file: c_int) -> Self {
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        // SAFETY: the pointer is valid for the given length.
        while let Ok(length @ 1..) = usize::try_from(unsafe { read(file, part.as_mut_ptr(), part.len()) }) {
            bytes.extend_from_slice(&part[..length]);
        }
        let mut numbers = bytes.chunks_exact(4).map(|number| u32::from_ne_bytes([number[0], number[1], number[2], number[3]]));
        let mut next = || numbers.next().unwrap_or(0);
        let counts = [next(), next(), next(), next()];
        let more = next();
        let mut strings = bytes.get(20..).unwrap_or_default().split_inclusive(|byte| *byte == 0);
        let [candidates, mut arguments, mut environment, directory] = counts.map(|count| {
            (0..count).map_while(|_| Some(strings.next()?.as_ptr().cast())).collect::<Vec<*const c_char>>()
        });
        arguments.push(null());
        environment.push(null());
        let score = number("/proc/self", "oom_score_adj").unwrap_or(0).saturating_add(more.into()).min(1000);
        let oom_score = (more > 0).then(|| format!("{score}"));
        Self { candidates, arguments, environment, working_directory: directory.first().copied(), oom_score, _bytes: bytes }
    }

    /// Returns the step that has failed, in the numbering of spawn.rs, and why.
    fn become_program(&self, files: &[c_int]) -> (u8, c_int) {
        const VIEW: u8 = 2;
        const SYSTEM: u8 = 3;
        const WORKING_DIRECTORY: u8 = 4;
        const EXEC: u8 = 5;
        // SAFETY: the strings are terminated, the lists of pointers end with null, the others take numbers.
        unsafe {
            let error = || *__errno_location();
            // A view starts at its root; the working directory is absolute then.
            if fchdir(files[3]) < 0 {
                return (SYSTEM, error());
            }
            // The user namespace first: it gives the privilege to enter the other one.
            for (index, kind) in [(6, CLONE_NEWUSER), (5, CLONE_NEWNS)] {
                if let Some(file) = files.get(index)
                    && setns(*file, kind) < 0
                {
                    return (VIEW, error());
                }
            }
            prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
            if let Some(score) = &self.oom_score {
                let file = open(c"/proc/self/oom_score_adj".as_ptr(), O_WRONLY | O_CLOEXEC, 0);
                put(file, score);
            }
            for (target, file) in (0..).zip(&files[..3]) {
                if dup2(*file, target) < 0 {
                    return (SYSTEM, error());
                }
            }
            sigprocmask(SIG_SETMASK, &SignalSet([0; 16]), null_mut());
            if let Some(path) = self.working_directory
                && chdir(path) < 0
            {
                return (WORKING_DIRECTORY, error());
            }
            (EXEC, self.exec())
        }
    }

    /// Tries the candidates as spawn.rs does.
    fn exec(&self) -> c_int {
        let mut refused = ENOENT;
        for candidate in &self.candidates {
            // SAFETY: as execve(2) requires.
            let error = unsafe {
                execve(*candidate, self.arguments.as_ptr(), self.environment.as_ptr());
                *__errno_location()
            };
            match error {
                ENOEXEC => {
                    let mut script = Vec::from([c"/bin/sh".as_ptr(), *candidate]);
                    script.extend(self.arguments.iter().skip(1));
                    // SAFETY: as above.
                    unsafe { execve(script[0], script.as_ptr(), self.environment.as_ptr()) };
                    return ENOEXEC;
                }
                ENOENT | ENOTDIR | ESTALE | ENODEV | ETIMEDOUT => {}
                EACCES => refused = EACCES,
                error => return error,
            }
        }
        refused
    }
}
