//! The probe: starts a command in a container, waits for it and writes the kernel's counters to a file.
//!
//! ```text
//! probe RESULT [TIMEOUT_MS KILL_AFTER_MS] -- COMMAND [ARGUMENT …]
//! probe --step SOCKET
//! probe --nothing
//! probe --copy FILE
//! ```
//!
//! A separate program, built by build.rs and linked statically, because it runs in images that contain nothing. It has
//! to fit into a ConfigMap of Kubernetes (1 MiB), so it uses the C library alone: the machinery of the standard library
//! for panics would not fit. As the first process it forwards every signal, reaps orphans and ends like the command:
//! with its status, or 128 + n after signal n. After TIMEOUT_MS it sends SIGTERM to the command, and KILL_AFTER_MS later
//! SIGKILL.
//!
//! With --step it takes the command from highwater, over an abstract socket of that name (see step.rs).
//!
//! The limits come with the first line of the result: where the kernel kills all processes of a container together, that
//! is all that remains.

#![no_std]
#![no_main]

extern crate alloc;

#[path = "program/step.rs"]
mod step;

use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{CStr, c_char, c_int, c_void};
use core::fmt::Write as _;
use core::ptr::{null, null_mut};

/// The same size as the C library's.
#[repr(C)]
struct SignalSet([u64; 16]);

/// The same as the C library's on 64-bit machines.
#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: i64,
}

// libgcc_eh unwinds, which only the C library could ask for.
#[cfg_attr(target_env = "gnu", link(name = "gcc_eh"))]
#[link(name = "c")]
unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
    fn fork() -> c_int;
    fn execvp(file: *const c_char, argv: *const *const c_char) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn getpid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn sigfillset(set: *mut SignalSet) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn sigtimedwait(set: *const SignalSet, info: *mut c_void, most: *const TimeSpec) -> c_int;
    fn clock_gettime(clock: c_int, time: *mut TimeSpec) -> c_int;
    fn nanosleep(time: *const TimeSpec, left: *mut TimeSpec) -> c_int;
    fn _exit(status: c_int) -> !;
    fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int;
    fn read(file: c_int, bytes: *mut u8, length: usize) -> isize;
    fn write(file: c_int, bytes: *const u8, length: usize) -> isize;
    fn close(file: c_int) -> c_int;
    fn sysconf(name: c_int) -> core::ffi::c_long;
    fn getenv(name: *const c_char) -> *const c_char;
    fn strerror(error: c_int) -> *const c_char;
    fn __errno_location() -> *mut c_int;
}

const CLOCK_REALTIME: c_int = 0;
const CLOCK_MONOTONIC: c_int = 1;
const ENOENT: c_int = 2;
const EINTR: c_int = 4;
const EAGAIN: c_int = 11;
const ENOTDIR: c_int = 20;
const O_WRONLY: c_int = 0o1;
const O_CREAT: c_int = 0o100;
const O_TRUNC: c_int = 0o1000;
const O_CLOEXEC: c_int = 0o200_0000;
const SC_NPROCESSORS_ONLN: c_int = 84;
const SIG_BLOCK: c_int = 0;
const SIG_SETMASK: c_int = 2;
const SIGKILL: c_int = 9;
const SIGTERM: c_int = 15;
const SIGCHLD: c_int = 17;
const STDERR: c_int = 2;
const WNOHANG: c_int = 1;

/// The longest wait at a time, in microseconds.
const HOUR: u64 = 3_600_000_000;

/// Longer than any of the files that are read here.
const LONGEST_FILE: usize = 1 << 20;

struct CLibrary;

// SAFETY: malloc(3) aligns for every basic type, and nothing here asks for more.
unsafe impl GlobalAlloc for CLibrary {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { malloc(layout.size()).cast() }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        unsafe { free(memory.cast()) }
    }
}

#[global_allocator]
static ALLOCATOR: CLibrary = CLibrary;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    fail(125, "internal error")
}

/// What `alloc` names for unwinding, which does not happen: a panic ends the program.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the C library passes `count` strings, each of them terminated.
    let words = (1..count).map(|index| unsafe { CStr::from_ptr(*words.add(index)) });
    let words: Vec<&CStr> = words.collect();
    if words.first().is_some_and(|word| word.to_bytes() == b"--nothing") {
        return 0;
    }
    if let [option, name] = words[..]
        && option.to_bytes() == b"--step"
    {
        return step::run(name);
    }
    if let [option, file] = &words[..]
        && option.to_bytes() == b"--copy"
    {
        return copy_to(file);
    }
    let Some(separator) = words.iter().position(|word| word.to_bytes() == b"--") else { usage() };
    let (options, command) = (&words[..separator], &words[separator + 1..]);
    let (result, times) = match options {
        [result] => (result, None),
        [result, timeout, kill_after] => (result, microseconds(timeout).zip(microseconds(kill_after))),
        _ => usage(),
    };
    if command.is_empty() {
        fail(125, "no command given");
    }
    // Each task of a step of several has a report of its own.
    let tasks = variable(c"SLURM_STEP_NUM_TASKS").filter(|tasks| tasks != "1").and(variable(c"SLURM_PROCID"));
    let result = match tasks {
        Some(task) => CString::new([result.to_bytes(), b".", task.as_bytes()].concat()).unwrap_or_default(),
        None => (*result).to_owned(),
    };
    // SAFETY: the path is terminated.
    let file = unsafe { open(result.as_ptr(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666) };
    if file < 0 {
        fail(125, &format!("{}: {}", result.to_string_lossy(), last_error()));
    }
    let cgroup = Cgroup::own();
    // Written at once, before the command starts.
    let mut text = "highwater-probe 1\n".to_owned();
    cgroup.write_limits(&mut text);
    write_origin(&mut text, &cgroup, command);
    put(file, &text);
    let own = own_memory();
    let started = now();
    let (text, status) = describe_end(&cgroup, own, started, run(command, times));
    put(file, &text);
    status
}

/// How a command ended, whether it was ended because of its time, and the number of processes that it had left.
type End = (Ended, bool, u64);

/// The result of a command, and the status that passes it on.
fn describe_end(cgroup: &Cgroup, own: u64, started: u64, (ended, timed_out, leftover): End) -> (String, c_int) {
    let mut text = String::new();
    let _ = write!(text, "wall_us {}\nown {own}\nleftover {leftover}\n", now() - started);
    // SAFETY: takes a number.
    let _ = writeln!(text, "cpus {}", unsafe { sysconf(SC_NPROCESSORS_ONLN) });
    if let Some(release) = read_file("/proc/sys/kernel/osrelease") {
        let _ = writeln!(text, "kernel {}", release.trim());
    }
    cgroup.write_counters(&mut text);
    if timed_out {
        text.push_str("timed_out 1\n");
    }
    let status = match ended {
        Ended::Exited(status) => {
            let _ = writeln!(text, "exited {status}");
            status
        }
        Ended::Signalled(number) => {
            let _ = writeln!(text, "signalled {number}");
            128 + number
        }
    };
    (text, status)
}

/// Copies this program, for an image that contains nothing else.
fn copy_to(path: &CStr) -> c_int {
    // SAFETY: the paths are terminated.
    let (from, to) = unsafe {
        (
            open(c"/proc/self/exe".as_ptr(), O_CLOEXEC, 0),
            open(path.as_ptr(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o755),
        )
    };
    let mut part = [0; 4096];
    loop {
        // SAFETY: the pointers are valid for the given lengths.
        let length = unsafe { read(from, part.as_mut_ptr(), part.len()) };
        let is_written = length > 0 && unsafe { write(to, part.as_ptr(), length.unsigned_abs()) } == length;
        match length {
            0 => return 0,
            _ if is_written => {}
            _ => fail(125, &format!("{}: {}", path.to_string_lossy(), last_error())),
        }
    }
}

fn usage() -> ! {
    fail(125, "usage: probe RESULT [TIMEOUT_MS KILL_AFTER_MS] -- COMMAND")
}

fn fail(status: c_int, reason: &str) -> ! {
    put(STDERR, &format!("highwater's probe: {reason}\n"));
    // SAFETY: takes a number.
    unsafe { _exit(status) }
}

fn last_error() -> String {
    // SAFETY: both point to memory of the C library; the message is terminated.
    unsafe { CStr::from_ptr(strerror(*__errno_location())) }.to_string_lossy().into_owned()
}

/// Microseconds of a number of milliseconds.
fn microseconds(word: &CStr) -> Option<u64> {
    Some(word.to_str().ok()?.parse::<u64>().ok()?.saturating_mul(1000))
}

/// The most bytes of the words of a command, and of a variable, that are written: a termination message of Kubernetes has
/// 4096 bytes.
const LONGEST_TEXT: usize = 1024;

/// Identifies the run: for a production run, the report may be the only record of it.
fn write_origin(text: &mut String, cgroup: &Cgroup, command: &[&CStr]) {
    if let Some(annotations) = variable(c"HIGHWATER_ANNOTATIONS") {
        let _ = writeln!(text, "annotations {}", one_line(&annotations, LONGEST_TEXT));
    }
    let Some(job) = variable(c"SLURM_ARRAY_JOB_ID").or_else(|| variable(c"SLURM_JOB_ID")) else { return };
    let _ = writeln!(text, "slurm_job {}", one_line(&job, LONGEST_TEXT));
    for (name, value) in [
        ("slurm_array_task", c"SLURM_ARRAY_TASK_ID"),
        ("slurm_restarts", c"SLURM_RESTART_COUNT"),
        ("slurm_node", c"SLURMD_NODENAME"),
        ("slurm_step", c"SLURM_STEP_ID"),
    ] {
        if let Some(value) = variable(value) {
            let _ = writeln!(text, "{name} {}", one_line(&value, LONGEST_TEXT));
        }
    }
    let _ = writeln!(text, "started {}", time(CLOCK_REALTIME).seconds);
    if let Some(peak) = cgroup.peak() {
        let _ = writeln!(text, "peak_before {peak}");
    }
    let mut left = LONGEST_TEXT;
    for word in command {
        let word = one_line(&word.to_string_lossy(), left);
        left -= word.len();
        let _ = writeln!(text, "word {word}");
        if left == 0 {
            break;
        }
    }
}

/// A variable of the environment that is not empty.
fn variable(name: &CStr) -> Option<String> {
    // SAFETY: the name is terminated, and so is the value, which nothing here changes.
    let value = unsafe {
        let value = getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
    };
    value.filter(|value| !value.is_empty())
}

/// The beginning of a text, in one line.
fn one_line(text: &str, most: usize) -> String {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn time(clock: c_int) -> TimeSpec {
    let mut time = TimeSpec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the pointer is valid for the call.
    unsafe { clock_gettime(clock, &mut time) };
    time
}

/// Microseconds since some moment before this process started.
fn now() -> u64 {
    let time = time(CLOCK_MONOTONIC);
    u64::try_from(time.seconds * 1_000_000 + time.nanoseconds / 1000).unwrap_or(0)
}

fn put(file: c_int, text: &str) {
    // SAFETY: the pointer is valid for the given length. A text this short is written at once.
    unsafe { write(file, text.as_ptr(), text.len()) };
}

/// The content of a file; `None` if it cannot be read.
fn read_file(path: &str) -> Option<String> {
    let path = CString::new(path).ok()?;
    // SAFETY: the path is terminated; the pointer is valid for the given length.
    unsafe {
        let file = open(path.as_ptr(), O_CLOEXEC, 0);
        if file < 0 {
            return None;
        }
        let (mut content, mut part) = (Vec::new(), [0; 4096]);
        while content.len() < LONGEST_FILE {
            match usize::try_from(read(file, part.as_mut_ptr(), part.len())) {
                Ok(length @ 1..) => content.extend_from_slice(&part[..length]),
                Ok(0) | Err(_) => break,
            }
        }
        close(file);
        String::from_utf8(content).ok()
    }
}

#[derive(Clone, Copy)]
enum Ended {
    Exited(c_int),
    Signalled(c_int),
}

/// Starts the command and waits for it; then kills the processes it has left, as the kernel does when the first process
/// of a container ends.
fn run(command: &[&CStr], times: Option<(u64, u64)>) -> End {
    let mut argv: Vec<*const c_char> = command.iter().map(|word| word.as_ptr()).collect();
    argv.push(null());
    let (mut all, mut old) = (SignalSet([0; 16]), SignalSet([0; 16]));
    // SAFETY: the sets are as large as the C library's; the pointers outlive the calls.
    let child = unsafe {
        sigfillset(&mut all);
        sigprocmask(SIG_BLOCK, &all, &mut old);
        fork()
    };
    match child {
        -1 => fail(125, &format!("fork: {}", last_error())),
        0 => become_command(command, &argv, &old),
        child => wait(child, &all, times, None),
    }
}

fn become_command(command: &[&CStr], argv: &[*const c_char], old: &SignalSet) -> ! {
    // SAFETY: the command and its words are terminated as execvp(3) requires.
    let error = unsafe {
        sigprocmask(SIG_SETMASK, old, null_mut());
        execvp(argv[0], argv.as_ptr());
        *__errno_location()
    };
    let reason = format!("{}: {}", command[0].to_string_lossy(), last_error());
    fail(if matches!(error, ENOENT | ENOTDIR) { 127 } else { 126 }, &reason)
}

fn wait(child: c_int, all: &SignalSet, times: Option<(u64, u64)>, line: Option<&step::Line<'_>>) -> End {
    let started = now();
    // When to send which signal.
    let stops = times.map(|(timeout, kill_after)| [(timeout, SIGTERM), (timeout.saturating_add(kill_after), SIGKILL)]);
    let mut stops = stops.iter().flatten().peekable();
    let mut timed_out = false;
    let ended = 'ended: loop {
        let elapsed = now() - started;
        if let Some((_, signal)) = stops.next_if(|(at, _)| *at <= elapsed) {
            timed_out = true;
            // SAFETY: takes two numbers.
            unsafe { kill(child, *signal) };
        }
        let pause = stops.peek().map_or(HOUR, |(at, _)| at.saturating_sub(elapsed).min(HOUR));
        let pause = i64::try_from(pause).unwrap_or(0);
        let pause = TimeSpec { seconds: pause / 1_000_000, nanoseconds: pause % 1_000_000 * 1000 };
        // SAFETY: the pointers are valid for the call.
        let number = unsafe { sigtimedwait(all, null_mut(), &pause) };
        match line {
            Some(line) if number == step::SIGIO => line.take_signals(),
            // highwater has the signal as well, and decides.
            Some(_) if number == SIGTERM => {}
            _ if number > 0 && number != SIGCHLD => {
                // SAFETY: takes two numbers.
                unsafe { kill(child, number) };
            }
            _ => {}
        }
        while let Some((pid, ended)) = reap(WNOHANG) {
            if pid == child {
                break 'ended ended;
            }
        }
    };
    if let Some(line) = line {
        return (ended, timed_out, line.kill_rest());
    }
    let mut leftover = 0;
    // SAFETY: as the first process of its namespace the caller is exempt from -1. Only if all visible processes belong
    // to the container.
    if unsafe { getpid() } == 1 {
        unsafe { kill(-1, SIGKILL) };
        while reap(0).is_some() {
            leftover += 1;
        }
    }
    (ended, timed_out, leftover)
}

/// Waits for so many microseconds.
fn pause(time: u64) {
    let time = TimeSpec { seconds: 0, nanoseconds: i64::try_from(time * 1000).unwrap_or(0) };
    // SAFETY: the pointers are valid for the call.
    unsafe { nanosleep(&time, null_mut()) };
}

fn reap(options: c_int) -> Option<(c_int, Ended)> {
    let mut status = 0;
    // SAFETY: the pointer is valid for the call.
    let pid = unsafe { waitpid(-1, &mut status, options) };
    // wait(2): the signal is in the lower seven bits, the status in the next eight.
    let ended = if status & 0x7f == 0 { Ended::Exited((status >> 8) & 0xff) } else { Ended::Signalled(status & 0x7f) };
    (pid > 0).then_some((pid, ended))
}

/// The memory of this process that is charged to the container: its private memory, page tables and kernel stack. The
/// engine copied its program into the container, so that is charged there.
fn own_memory() -> u64 {
    let status = read_file("/proc/self/status").unwrap_or_default();
    let kib: u64 = status
        .lines()
        .filter_map(|line| line.strip_prefix("RssAnon:").or_else(|| line.strip_prefix("VmPTE:")))
        .filter_map(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .sum();
    (kib + 16) * 1024
}

/// The cgroup of this process.
enum Cgroup {
    V1 { memory: String, cpu: Option<String> },
    V2(String),
    Unknown,
}

const MOUNT: &str = "/sys/fs/cgroup";

impl Cgroup {
    fn own() -> Self {
        let cgroups = read_file("/proc/self/cgroup").unwrap_or_default();
        let path_of = |controller: &str| {
            cgroups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':');
                let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
                controllers.split(',').any(|name| name == controller).then_some(path)
            })
        };
        if let Some(memory) = path_of("memory").and_then(|path| directory(&format!("{MOUNT}/memory"), path)) {
            let mounts = [format!("{MOUNT}/cpuacct"), format!("{MOUNT}/cpu,cpuacct")];
            let cpu = path_of("cpuacct").and_then(|path| mounts.iter().find_map(|mount| directory(mount, path)));
            Self::V1 { memory, cpu }
        } else {
            path_of("").and_then(|path| directory(MOUNT, path)).map_or(Self::Unknown, Self::V2)
        }
    }

    /// Writes the lowest limit of this cgroup and all above it that can be seen, and that of this cgroup.
    fn write_limits(&self, text: &mut String) {
        let (lowest, own) = match self {
            Self::V1 { memory, .. } => {
                let own = number(memory, "memory.limit_in_bytes").unwrap_or(u64::MAX);
                // Includes the cgroups above, also those that are not mounted here.
                let stat = read_file(&format!("{memory}/memory.stat")).unwrap_or_default();
                (field(&stat, "hierarchical_memory_limit ").unwrap_or(own).min(own), own)
            }
            Self::V2(directory) => {
                let limit = |directory: &str| number(directory, "memory.max").unwrap_or(u64::MAX);
                // From the cgroup up to the mount.
                let ends = directory.match_indices('/').map(|(end, _)| end).filter(|end| *end >= MOUNT.len());
                let above = ends.map(|end| limit(&directory[..end])).min().unwrap_or(u64::MAX);
                let own = limit(directory);
                (above.min(own), own)
            }
            Self::Unknown => return,
        };
        for (name, limit) in [("limit", lowest), ("own_limit", own)] {
            // v1 reports the largest number of whole pages for no limit.
            let _ = if limit >= 1 << 62 { writeln!(text, "{name} max") } else { writeln!(text, "{name} {limit}") };
        }
    }

    /// The high-water mark so far.
    fn peak(&self) -> Option<u64> {
        match self {
            Self::V1 { memory, .. } => number(memory, "memory.max_usage_in_bytes"),
            Self::V2(directory) => number(directory, "memory.peak"),
            Self::Unknown => None,
        }
    }

    /// Writes the kernel's counters.
    fn write_counters(&self, text: &mut String) {
        match self {
            Self::V1 { memory, cpu } => {
                counter(text, "peak", memory, "memory.max_usage_in_bytes");
                if let Some(hits) = limit_hits_of_v1(memory) {
                    let _ = writeln!(text, "limit_hits {hits}");
                }
                keyed(text, memory, "memory.oom_control", &[("oom_kill", "oom_kills")]);
                let _ = writeln!(text, "file {memory}/memory.max_usage_in_bytes");
                let time = |name: &str| Some(number(cpu.as_ref()?, name)? / 1000);
                write_cpu(text, time("cpuacct.usage_user").zip(time("cpuacct.usage_sys")));
            }
            Self::V2(directory) => {
                counter(text, "peak", directory, "memory.peak");
                counter(text, "pids_peak", directory, "pids.peak");
                let events = [("max", "limit_hits"), ("oom", "ooms"), ("oom_kill", "oom_kills")];
                keyed(text, directory, "memory.events", &events);
                let _ = writeln!(text, "file {directory}/memory.peak");
                let stat = read_file(&format!("{directory}/cpu.stat")).unwrap_or_default();
                write_cpu(text, field(&stat, "user_usec ").zip(field(&stat, "system_usec ")));
            }
            Self::Unknown => {}
        }
    }
}

fn write_cpu(text: &mut String, times: Option<(u64, u64)>) {
    if let Some((user, system)) = times {
        let _ = writeln!(text, "cpu {user} {system}");
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// How often the limit was reached. Engines set the same limit for memory and for memory and swap together; the
/// combined one is reached first then. Since Linux 6.15 its counter does not count failures, so that 0 means unknown.
fn limit_hits_of_v1(directory: &str) -> Option<u64> {
    let hits =
        number(directory, "memory.failcnt")?.saturating_add(number(directory, "memory.memsw.failcnt").unwrap_or(0));
    let limit = number(directory, "memory.limit_in_bytes")?;
    let is_felt_first = number(directory, "memory.memsw.limit_in_bytes").is_some_and(|together| together <= limit);
    (hits > 0 || !is_felt_first || limit >= 1 << 62).then_some(hits)
}

/// The directory of our own cgroup: below the mount, or the mount itself if an engine shows the container nothing else.
/// Accepted only if it lists this process.
fn directory(mount: &str, path: &str) -> Option<String> {
    // SAFETY: takes nothing.
    let own = format!("{}", unsafe { getpid() });
    [format!("{mount}{}", path.trim_end_matches('/')), mount.to_owned()].into_iter().find(|directory| {
        read_file(&format!("{directory}/cgroup.procs")).is_some_and(|list| list.lines().any(|line| line == own))
    })
}

fn number(directory: &str, file: &str) -> Option<u64> {
    read_file(&format!("{directory}/{file}"))?.trim().parse().ok()
}

fn counter(text: &mut String, name: &str, directory: &str, file: &str) {
    if let Some(value) = number(directory, file) {
        let _ = writeln!(text, "{name} {value}");
    }
}

fn keyed(text: &mut String, directory: &str, file: &str, names: &[(&str, &str)]) {
    let lines = read_file(&format!("{directory}/{file}")).unwrap_or_default();
    for (key, value) in lines.lines().filter_map(|line| line.split_once(' ')) {
        if let Some((_, name)) = names.iter().find(|(known, _)| *known == key) {
            let _ = writeln!(text, "{name} {}", value.trim());
        }
    }
}
