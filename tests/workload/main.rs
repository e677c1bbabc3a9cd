//! The task of the end-to-end tests: a small program that needs exactly the memory requested.
//!
//! It prints facts about itself to stdout: `task PID` and `cgroup LINE` for each line of `/proc/self/cgroup` first,
//! `left PID` for a process that outlives it, and `ready` before it waits. They show a test when to act and what must
//! be gone afterwards.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::signal::{SigHandler, Signal, raise, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, fsync, getpid, setsid};

const USAGE: &str = "\
workload touch MIB MS           touch that much anonymous memory and keep it that long
workload grandchild MIB MS      the same in a grandchild in a session of its own, and wait for it
workload share COPIES MIB MS    touch a buffer once, then read it in forked copies that all live at the same time
workload read FILE              read a file that is dropped from the page cache first
workload hold MIB FILE          touch that much anonymous memory and keep it while reading a file as above
workload leave MIB              leave a process with that much behind, in a session of its own, and end
workload stubborn MIB SECONDS   keep memory that long, in a grandchild's session too, and ignore SIGTERM and SIGINT
workload wait MIB SECONDS       keep memory that long, in a grandchild's session too
workload escape WHO PROCS MS [exec]
                                move WHO, a `child`, a `grandchild` in a session of its own, or one that is `late` and
                                goes on when the first process has ended, into the cgroup with the file PROCS; there
                                touch 1 MiB and keep it that long, in a new program or not
workload exit STATUS            end with this status
workload signal NUMBER          end by this signal";

type Outcome = Result<ExitCode, Box<dyn Error>>;

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    say_who_and_where()?;
    match words[..] {
        ["touch", mib, ms] => {
            let memory = touch(mib.parse()?);
            sleep_ms(ms.parse()?);
            drop(memory);
            Ok(ExitCode::SUCCESS)
        }
        ["grandchild", mib, ms] => grandchild(mib.parse()?, ms.parse()?),
        ["share", copies, mib, ms] => share(copies.parse()?, mib.parse()?, ms.parse()?),
        ["read", file] => read_cold(file),
        ["hold", mib, file] => {
            let memory = touch(mib.parse()?);
            let read = read_cold(file);
            drop(black_box(memory));
            read
        }
        ["leave", mib] => leave(mib.parse()?),
        ["stubborn", mib, seconds] => {
            ignore_requests_to_end()?;
            keep(mib.parse()?, seconds.parse()?)
        }
        ["wait", mib, seconds] => keep(mib.parse()?, seconds.parse()?),
        ["escape", who, procs, ms] => escape(who, procs, ms.parse()?, false),
        ["escape", who, procs, ms, "exec"] => escape(who, procs, ms.parse()?, true),
        ["exit", status] => Ok(ExitCode::from(status.parse::<u8>()?)),
        ["signal", number] => {
            let number = Signal::try_from(number.parse::<i32>()?)?;
            // The language's runtime has a handler for SIGSEGV. SIGKILL has none to be replaced.
            // SAFETY: the default action runs no handler.
            let _ = unsafe { signal(number, SigHandler::SigDfl) };
            raise(number)?;
            Ok(ExitCode::FAILURE)
        }
        _ => Err(USAGE.into()),
    }
}

/// Touches every page of that many MiB of new anonymous memory.
fn touch(mib: usize) -> Vec<u8> {
    let mut memory = vec![0_u8; mib << 20];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    black_box(memory)
}

fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Prints what must be gone when this is over.
fn say_who_and_where() -> io::Result<()> {
    let mut text = format!("task {}\n", getpid());
    for line in std::fs::read_to_string("/proc/self/cgroup")?.lines() {
        text += &format!("cgroup {line}\n");
    }
    say(&text)
}

/// Reports that the task is ready, with a process that outlives it.
fn say_ready(left: Pid) -> io::Result<()> {
    say(&format!("left {left}\nready\n"))
}

fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn wait_for(pid: Pid) -> Outcome {
    match waitpid(pid, None)? {
        WaitStatus::Exited(_, 0) => Ok(ExitCode::SUCCESS),
        other => Err(format!("the child ended otherwise: {other:?}").into()),
    }
}

/// Runs a child, which never returns to the caller.
fn in_child(work: impl FnOnce() -> Outcome) -> nix::Result<Pid> {
    // SAFETY: this program has one thread, so the child may do whatever the parent may.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => std::process::exit(i32::from(work().is_err())),
    }
}

fn grandchild(mib: usize, ms: u64) -> Outcome {
    let child = in_child(|| {
        wait_for(in_child(|| {
            setsid()?;
            let memory = touch(mib);
            sleep_ms(ms);
            drop(memory);
            Ok(ExitCode::SUCCESS)
        })?)
    })?;
    wait_for(child)
}

fn share(copies: usize, mib: usize, ms: u64) -> Outcome {
    let memory = touch(mib);
    let children = (0..copies)
        .map(|_| {
            in_child(|| {
                let sum: u64 = memory.iter().step_by(4096).map(|byte| u64::from(*byte)).sum();
                black_box(sum);
                sleep_ms(ms);
                Ok(ExitCode::SUCCESS)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    for child in children {
        wait_for(child)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read_cold(path: &str) -> Outcome {
    let mut file = File::open(path)?;
    // Dirty pages cannot be dropped.
    fsync(file.as_fd())?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    let mut buffer = vec![0_u8; 1 << 16];
    while file.read(&mut buffer)? > 0 {}
    Ok(ExitCode::SUCCESS)
}

/// A grandchild whose parent has ended, in a session of its own: only its control group still leads to it.
fn leave(mib: usize) -> Outcome {
    let (mut reader, mut writer) = io::pipe()?;
    let child = in_child(|| {
        in_child(|| {
            setsid()?;
            let memory = touch(mib);
            writeln!(writer, "{}", getpid())?;
            sleep_ms(120_000);
            drop(memory);
            Ok(ExitCode::SUCCESS)
        })?;
        Ok(ExitCode::SUCCESS)
    })?;
    wait_for(child)?;
    drop(writer);
    let mut pid = String::new();
    let mut byte = [0_u8];
    while reader.read(&mut byte)? == 1 && byte != *b"\n" {
        pid.push(char::from(byte[0]));
    }
    say_ready(Pid::from_raw(pid.parse()?))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes another process leave the cgroup of the run, and waits until it has touched its memory there, or at least
/// left.
fn escape(who: &str, procs: &str, ms: u64, exec: bool) -> Outcome {
    let (mut reader, mut writer) = io::pipe()?;
    let mut leave = || {
        std::fs::write(procs, getpid().to_string())?;
        if who == "late" {
            writer.write_all(b".")?;
        }
        if exec {
            let status = std::process::Command::new("/proc/self/exe").args(["touch", "1", &ms.to_string()]).status()?;
            assert!(status.success());
        } else {
            let memory = touch(1);
            sleep_ms(ms);
            drop(memory);
        }
        writer.write_all(b".")?;
        Ok(ExitCode::SUCCESS)
    };
    let child = match who {
        "grandchild" => in_child(|| {
            in_child(|| {
                setsid()?;
                leave()
            })?;
            Ok(ExitCode::SUCCESS)
        })?,
        _ => in_child(leave)?,
    };
    drop(writer);
    // If the process could not leave, the pipe ends without data.
    reader.read_exact(&mut [0])?;
    if who == "late" { Ok(ExitCode::SUCCESS) } else { wait_for(child) }
}

fn ignore_requests_to_end() -> nix::Result<()> {
    for number in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: ignoring a signal runs no handler.
        unsafe { signal(number, SigHandler::SigIgn) }?;
    }
    Ok(())
}

fn keep(mib: usize, seconds: u64) -> Outcome {
    let child = in_child(|| {
        setsid()?;
        sleep_ms(seconds * 1000);
        Ok(ExitCode::SUCCESS)
    })?;
    let memory = touch(mib);
    say_ready(child)?;
    sleep_ms(seconds * 1000);
    drop(memory);
    Ok(ExitCode::SUCCESS)
}
