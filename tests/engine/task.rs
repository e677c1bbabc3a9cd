//! The task in the test images: it needs exactly the memory requested. Linked statically, because the images are empty.
//!
//! ```text
//! task touch MIB MS     touch that much memory and keep it that long
//! task child MIB        have a child touch that much, and tell how it ended
//! task hold MIB FILE    touch that much memory and keep it while reading a file that is dropped from the page cache first
//! task copy FROM TO     read all files below a directory into memory, and write them to one file in another
//! task operate          an operator of Kaapana: need four times its largest item, write into its input and its output
//! task exit STATUS      end with this status
//! task fault            write where there is no memory, and be killed for it
//! task wait             wait for a SIGINT, SIGUSR1 or SIGTERM and end with 27 and the number of the signal
//! task stay             do nothing, for ever
//! task facts            print arguments, directory and user
//! ```

use std::hint::black_box;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{Command, exit};
use std::time::Duration;

unsafe extern "C" {
    fn signal(signal: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(status: i32) -> !;
    fn getuid() -> u32;
    fn getgid() -> u32;
    fn fsync(file: i32) -> i32;
    fn posix_fadvise(file: i32, offset: i64, length: i64, advice: i32) -> i32;
}

extern "C" fn end(signal: i32) {
    // SAFETY: safe in a handler (signal-safety(7)).
    unsafe { _exit(27 + signal) }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().unwrap_or_default();
    match words[..] {
        ["touch", mib, ms] => {
            let memory = touch(number(mib));
            std::thread::sleep(Duration::from_millis(number(ms)));
            drop(memory);
        }
        ["child", mib] => {
            let program = std::env::current_exe().unwrap_or_default();
            let ended = Command::new(program).args(["touch", mib, "0"]).status();
            println!("the child ended: {ended:?}");
        }
        ["hold", mib, file] => {
            let memory = touch(number(mib));
            if let Err(error) = read_cold(file) {
                eprintln!("{error}");
                exit(1)
            }
            drop(black_box(memory));
        }
        ["copy", from, to] => copy(from, to).unwrap_or_else(|error| {
            eprintln!("{error}");
            exit(1)
        }),
        ["operate"] => operate().unwrap_or_else(|error| {
            eprintln!("{error}");
            exit(1)
        }),
        ["exit", status] => exit(i32::try_from(number(status)).unwrap_or(255)),
        ["fault"] => {
            // SAFETY: the kernel ends the process, and nothing comes after it. A signal that it raised itself would be
            // ignored, as for every first process of a container.
            unsafe { black_box(std::ptr::null_mut::<u8>()).write_volatile(1) };
        }
        ["wait"] => {
            for number in [2, 10, 15] {
                // SAFETY: the handler only ends the process.
                unsafe { signal(number, end) };
            }
            println!("ready");
            loop {
                std::thread::sleep(Duration::from_secs(60));
            }
        }
        ["stay"] => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        _ => {
            // SAFETY: take nothing.
            let (user, group) = unsafe { (getuid(), getgid()) };
            let folder = std::env::current_dir().unwrap_or_default();
            println!("arguments {words:?} folder {} user {user}:{group}", folder.display());
        }
    }
}

fn copy(from: &str, to: &str) -> std::io::Result<()> {
    let mut all = Vec::new();
    let mut left = vec![std::path::PathBuf::from(from)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(path)? {
                left.push(entry?.path());
            }
        } else {
            std::fs::File::open(path)?.read_to_end(&mut all)?;
        }
    }
    std::fs::write(format!("{to}/copy"), all)
}

/// Takes its directories from the variables that the platform sets.
fn operate() -> std::io::Result<()> {
    let variable = |name| std::env::var(name).map_err(|error| std::io::Error::other(format!("{name}: {error}")));
    let batch = format!("{}/{}", variable("WORKFLOW_DIR")?, variable("BATCH_NAME")?);
    // Kept from item to item, so that what the allocator does with freed memory is not measured.
    let (mut all, mut memory) = (Vec::new(), Vec::new());
    for item in std::fs::read_dir(batch)? {
        let item = item?.path();
        let (input, output) = (item.join(variable("OPERATOR_IN_DIR")?), item.join(variable("OPERATOR_OUT_DIR")?));
        all.clear();
        for file in std::fs::read_dir(&input)? {
            std::fs::File::open(file?.path())?.read_to_end(&mut all)?;
        }
        memory.reserve_exact((3 * all.len()).saturating_sub(memory.len()));
        memory.resize(memory.capacity(), 1_u8);
        std::fs::write(input.join("index"), black_box(&memory).len().to_string())?;
        std::fs::create_dir_all(&output)?;
        std::fs::write(output.join("mask"), &all[..all.len() / 100])?;
    }
    Ok(())
}

fn read_cold(path: &str) -> std::io::Result<()> {
    const DONTNEED: i32 = 4;
    let mut file = std::fs::File::open(path)?;
    // SAFETY: both take numbers. What is dirty cannot be dropped.
    unsafe {
        fsync(file.as_raw_fd());
        posix_fadvise(file.as_raw_fd(), 0, 0, DONTNEED);
    }
    let mut buffer = vec![0_u8; 1 << 16];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Touches every page.
fn touch(mib: u64) -> Vec<u8> {
    let mut memory = vec![0_u8; usize::try_from(mib << 20).unwrap_or_default()];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    black_box(memory)
}
