//! The probe: starts a command in a container, waits for it and writes the kernel's counters to a file.
//!
//! ```text
//! probe RESULT -- COMMAND [ARGUMENT …]
//! probe --nothing
//! ```
//!
//! A separate program, built by build.rs with the standard library alone and linked statically, because it runs in
//! images that contain nothing. As the first process it forwards every signal, reaps orphans and ends like the command:
//! with its status, or 128 + n after signal n.

use std::ffi::{CString, OsString, c_char, c_int};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::process::exit;

/// The same size as the C library's.
#[repr(C)]
struct SignalSet([u64; 16]);

unsafe extern "C" {
    fn fork() -> c_int;
    fn execvp(file: *const c_char, argv: *const *const c_char) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn sigfillset(set: *mut SignalSet) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn sigwait(set: *const SignalSet, signal: *mut c_int) -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
    fn _exit(status: c_int) -> !;
    fn write(file: c_int, bytes: *const u8, length: usize) -> isize;
}

const SIG_BLOCK: c_int = 0;
const SIG_SETMASK: c_int = 2;
const SIGKILL: c_int = 9;
const SIGPIPE: c_int = 13;
const SIGCHLD: c_int = 17;
const WNOHANG: c_int = 1;
const ENOENT: i32 = 2;
const ENOTDIR: i32 = 20;

fn main() {
    let mut words = std::env::args_os().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "--nothing") {
        return;
    }
    let (Some(result), Some(_separator)) = (words.next(), words.next()) else { fail(125, "usage: probe RESULT -- COMMAND") };
    let command: Vec<CString> = words.filter_map(|word| CString::new(OsString::into_vec(word)).ok()).collect();
    if command.is_empty() {
        fail(125, "no command given");
    }
    let mut file = match OpenOptions::new().write(true).create(true).truncate(true).open(&result) {
        Ok(file) => file,
        Err(error) => fail(125, &format!("{}: {error}", result.to_string_lossy())),
    };
    // If the kernel kills the probe, this line is all there is.
    let _ = file.write_all(b"highwater-probe 1\n");
    let own = own_memory();
    let (ended, leftover) = run(&command);
    let mut text = String::new();
    let _ = writeln!(text, "own {own}\nleftover {leftover}");
    counters(&mut text);
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
    let _ = file.write_all(text.as_bytes());
    exit(status)
}

fn fail(status: i32, reason: &str) -> ! {
    eprintln!("highwater's probe: {reason}");
    exit(status)
}

enum Ended {
    Exited(i32),
    Signalled(i32),
}

/// Starts the command and waits for it; then kills the processes it has left, as the kernel does when the first process
/// of a container ends.
fn run(command: &[CString]) -> (Ended, u64) {
    let mut argv: Vec<*const c_char> = command.iter().map(|word| word.as_ptr()).collect();
    argv.push(std::ptr::null());
    let (mut all, mut old) = (SignalSet([0; 16]), SignalSet([0; 16]));
    // SAFETY: the sets are as large as the C library's; the pointers outlive the calls.
    let child = unsafe {
        sigfillset(&mut all);
        sigprocmask(SIG_BLOCK, &all, &mut old);
        fork()
    };
    match child {
        -1 => fail(125, &format!("fork: {}", std::io::Error::last_os_error())),
        0 => become_command(command, &argv, &old),
        child => wait(child, &all),
    }
}

fn become_command(command: &[CString], argv: &[*const c_char], old: &SignalSet) -> ! {
    // SAFETY: the command and its words are terminated as execvp(3) requires.
    unsafe {
        // Rust ignores it; a container starts with the default.
        signal(SIGPIPE, 0);
        sigprocmask(SIG_SETMASK, old, std::ptr::null_mut());
        execvp(argv[0], argv.as_ptr());
    }
    let error = std::io::Error::last_os_error();
    let text = format!("highwater's probe: {}: {error}\n", command[0].to_string_lossy());
    let missing = matches!(error.raw_os_error(), Some(ENOENT | ENOTDIR));
    // SAFETY: the pointer is valid for the given length.
    unsafe {
        write(std::io::stderr().as_raw_fd(), text.as_ptr(), text.len());
        _exit(if missing { 127 } else { 126 })
    }
}

fn wait(child: c_int, all: &SignalSet) -> (Ended, u64) {
    let ended = 'ended: loop {
        let mut number = 0;
        // SAFETY: both pointers are valid for the call.
        if unsafe { sigwait(all, &mut number) } != 0 {
            continue;
        }
        if number != SIGCHLD {
            // SAFETY: takes two numbers.
            unsafe { kill(child, number) };
            continue;
        }
        while let Some((pid, ended)) = reap(WNOHANG) {
            if pid == child {
                break 'ended ended;
            }
        }
    };
    let mut leftover = 0;
    // Only if all visible processes belong to the container.
    if std::process::id() == 1 {
        // SAFETY: takes two numbers; as the first process of its namespace the caller is exempt from -1.
        unsafe { kill(-1, SIGKILL) };
        while reap(0).is_some() {
            leftover += 1;
        }
    }
    (ended, leftover)
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
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib: u64 = status
        .lines()
        .filter_map(|line| line.strip_prefix("RssAnon:").or_else(|| line.strip_prefix("VmPTE:")))
        .filter_map(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .sum();
    (kib + 16) * 1024
}

/// Writes the kernel's counters for the cgroup of this process.
fn counters(text: &mut String) {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path_of = |controller: &str| {
        cgroups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            controllers.split(',').any(|name| name == controller).then(|| path.to_owned())
        })
    };
    if let Some(directory) = path_of("memory").and_then(|path| directory("/sys/fs/cgroup/memory", &path)) {
        counter(text, "peak", &directory, "memory.max_usage_in_bytes");
        if let Some(hits) = limit_hits_of_v1(&directory) {
            let _ = writeln!(text, "limit_hits {hits}");
        }
        keyed(text, &directory, "memory.oom_control", &[("oom_kill", "oom_kills")]);
        if let Some(limit) = number(&directory, "memory.limit_in_bytes") {
            // The kernel reports the largest number of whole pages for no limit.
            let _ = if limit >= 1 << 62 { writeln!(text, "limit max") } else { writeln!(text, "limit {limit}") };
        }
        let _ = writeln!(text, "file {directory}/memory.max_usage_in_bytes");
        cpu_of_v1(text, path_of("cpuacct").and_then(|path| directory_of_v1("cpuacct", &path)));
    } else if let Some(directory) = path_of("").and_then(|path| directory("/sys/fs/cgroup", &path)) {
        counter(text, "peak", &directory, "memory.peak");
        counter(text, "pids_peak", &directory, "pids.peak");
        let events = [("max", "limit_hits"), ("oom", "ooms"), ("oom_kill", "oom_kills")];
        keyed(text, &directory, "memory.events", &events);
        if let Ok(limit) = fs::read_to_string(format!("{directory}/memory.max")) {
            let _ = writeln!(text, "limit {}", limit.trim());
        }
        let _ = writeln!(text, "file {directory}/memory.peak");
        let stat = fs::read_to_string(format!("{directory}/cpu.stat")).unwrap_or_default();
        let part = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        if let (Some(user), Some(system)) = (part("user_usec "), part("system_usec ")) {
            let _ = writeln!(text, "cpu {user} {system}");
        }
    }
}

/// How often the limit was reached. Engines set the same limit for memory and for memory and swap together; the
/// combined one is reached first then. Since Linux 6.15 its counter does not count failures, so that 0 means unknown.
fn limit_hits_of_v1(directory: &str) -> Option<u64> {
    let hits = number(directory, "memory.failcnt")?.saturating_add(number(directory, "memory.memsw.failcnt").unwrap_or(0));
    let limit = number(directory, "memory.limit_in_bytes")?;
    let is_felt_first = number(directory, "memory.memsw.limit_in_bytes").is_some_and(|together| together <= limit);
    (hits > 0 || !is_felt_first || limit >= 1 << 62).then_some(hits)
}

/// The directory of our own cgroup: below the mount, or the mount itself if an engine shows the container nothing else.
/// Accepted only if it lists this process.
fn directory(mount: &str, path: &str) -> Option<String> {
    let own = std::process::id().to_string();
    [format!("{mount}{}", path.trim_end_matches('/')), mount.to_owned()].into_iter().find(|directory| {
        fs::read_to_string(format!("{directory}/cgroup.procs")).is_ok_and(|list| list.lines().any(|line| line == own))
    })
}

fn directory_of_v1(controller: &str, path: &str) -> Option<String> {
    [format!("/sys/fs/cgroup/{controller}"), "/sys/fs/cgroup/cpu,cpuacct".to_owned()]
        .iter()
        .find_map(|mount| directory(mount, path))
}

fn cpu_of_v1(text: &mut String, directory: Option<String>) {
    let time = |name: &str| directory.as_ref().and_then(|directory| number(directory, name)).map(|nanoseconds| nanoseconds / 1000);
    if let (Some(user), Some(system)) = (time("cpuacct.usage_user"), time("cpuacct.usage_sys")) {
        let _ = writeln!(text, "cpu {user} {system}");
    }
}

fn number(directory: &str, file: &str) -> Option<u64> {
    fs::read_to_string(format!("{directory}/{file}")).ok()?.trim().parse().ok()
}

fn counter(text: &mut String, name: &str, directory: &str, file: &str) {
    if let Some(value) = number(directory, file) {
        let _ = writeln!(text, "{name} {value}");
    }
}

fn keyed(text: &mut String, directory: &str, file: &str, names: &[(&str, &str)]) {
    let lines = fs::read_to_string(format!("{directory}/{file}")).unwrap_or_default();
    for (key, value) in lines.lines().filter_map(|line| line.split_once(' ')) {
        if let Some((_, name)) = names.iter().find(|(known, _)| *known == key) {
            let _ = writeln!(text, "{name} {}", value.trim());
        }
    }
}
