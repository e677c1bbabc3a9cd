//! Many, deep and large trees, and few descriptors.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use assert_cmd::Command;
use highwater::model::selection::Selection;
use highwater::tree::{Options, TreeError};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use tempfile::TempDir;

use super::super::planted::{file, with_files};
use super::{everything, left_out, numbers, survey_of, threads};

/// A temporary directory in memory if possible, where creating many files is faster.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

#[test]
fn a_hundred_thousand_items_are_told_apart() {
    let channel = in_memory();
    for item in 0..100_000 {
        fs::create_dir(channel.path().join(format!("item{item:06}"))).unwrap();
    }
    for (item, size) in [(17, 5), (50_000, 7), (99_999, 7)] {
        file(channel.path(), format!("item{item:06}/a.dcm"), size);
    }
    for threads in [threads(1), threads(3)] {
        let survey = survey_of(channel.path(), &everything(), &threads).unwrap();
        let totals = &survey.totals[0];
        assert_eq!(numbers(&survey), [3, 19, 7, 7]);
        assert_eq!((totals.items, totals.empty_items, survey.directories), (100_000, 99_997, 100_001));
        let largest: Vec<_> = totals.largest_items.iter().map(|item| item.name.to_str().unwrap()).collect();
        assert_eq!(largest, ["item050000", "item099999", "item000017"]);
    }
}

#[test]
fn a_sparse_file_counts_with_its_whole_size() {
    let channel = with_files(&[("p1/sparse.nii", 4 << 30)]);
    let on_disk = fs::metadata(channel.path().join("p1/sparse.nii")).unwrap();
    assert!(on_disk.blocks() * 512 < 1 << 20, "it has a hole");
    let survey = survey_of(channel.path(), &everything(), &threads(1)).unwrap();
    assert_eq!(numbers(&survey), [1, 4 << 30, 4 << 30, 4 << 30]);
}

#[test]
fn sizes_that_64_bits_cannot_hold_are_an_error() {
    let channel = in_memory();
    for name in ["p1/a", "p1/b", "p2/c"] {
        fs::create_dir_all(channel.path().join(name).parent().unwrap()).unwrap();
        let file = File::create(channel.path().join(name)).unwrap();
        if file.set_len(i64::MAX.unsigned_abs()).is_err() {
            crate::harness::skip("this file system has no files of 8 EiB");
            return;
        }
    }
    let answer = survey_of(channel.path(), &everything(), &threads(1));
    assert!(matches!(answer, Err(TreeError::Overflow { .. })), "{answer:?}");
}

/// A comb-shaped tree: each level has a file, a leaf directory, and a directory that leads on.
fn comb(root: &Path, depth: usize) {
    file(root, "tooth", 1);
    let mut folder = open(File::open(root).unwrap().into(), c".");
    for _ in 0..depth {
        mkdirat(&folder, c"down", Mode::S_IRWXU).unwrap();
        mkdirat(&folder, c"beside", Mode::S_IRWXU).unwrap();
        let below = open(folder, c"down");
        let tooth = File::open(root).unwrap();
        linkat(&tooth, c"tooth", &below, c"tooth", AtFlags::empty()).unwrap();
        folder = below;
    }
}

fn open(at: OwnedFd, name: &std::ffi::CStr) -> OwnedFd {
    openat(at, name, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

/// Removes a comb from the top, so that no path is too long.
fn remove_comb(root: &Path) {
    let root_folder = Dir::open(root, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    let root = root_folder.as_fd();
    while let Ok(down) = openat(root, c"down", OFlag::O_DIRECTORY, Mode::empty()) {
        for (name, flag) in [(c"tooth", UnlinkatFlags::NoRemoveDir), (c"beside", UnlinkatFlags::RemoveDir)] {
            let _ = unlinkat(&down, name, flag);
        }
        let is_last = renameat(&down, c"down", root, c"next").is_err();
        unlinkat(root, c"down", UnlinkatFlags::RemoveDir).unwrap();
        if !is_last {
            renameat(root, c"next", root, c"down").unwrap();
        }
    }
}

#[test]
fn a_tree_deeper_than_any_path_is_read() {
    const DEPTH: usize = 1500;
    let channel = in_memory();
    comb(channel.path(), DEPTH);
    let surveys = [1, 3].map(|count| survey_of(channel.path(), &everything(), &threads(count)).unwrap());
    // That many threads, each of which may only open three files at a time.
    let scarce = shell("ulimit -n 16; exec \"$0\" inputs --format json --threads 4 \"$1\"", channel.path());
    remove_comb(channel.path());
    for survey in surveys {
        assert_eq!(numbers(&survey)[0] as usize, DEPTH + 1);
        assert_eq!(survey.directories as usize, 2 * DEPTH + 1);
        assert_eq!(left_out(&survey), []);
    }
    let scarce: serde_json::Value = serde_json::from_slice(&scarce).unwrap();
    assert_eq!(scarce["files"], DEPTH + 1);
    assert_eq!(scarce["left_out"]["complete"], true);
}

fn shell(script: &str, channel: &Path) -> Vec<u8> {
    let program = env!("CARGO_BIN_EXE_highwater");
    Command::new("sh").args(["-c", script, program]).arg(channel).assert().success().get_output().stdout.clone()
}

#[test]
fn few_descriptors_are_enough_for_many_threads() {
    let channel = in_memory();
    for folder in 0..300 {
        for name in 0..10 {
            file(channel.path(), format!("p{}/s{folder}/{name}", folder % 7), 1);
        }
    }
    for limit in [8, 12, 40] {
        let script = format!("ulimit -n {limit}; exec \"$0\" inputs --format json --threads 16 --strict \"$1\"");
        let found: serde_json::Value = serde_json::from_slice(&shell(&script, channel.path())).unwrap();
        assert_eq!(found["files"], 3000, "{limit} descriptors");
    }
}

/// The program expects nearly all descriptors to be free, and finds them used.
#[test]
fn running_out_of_descriptors_makes_it_slower_not_wrong() {
    let channel = in_memory();
    for folder in 0..500 {
        for name in 0..10 {
            file(channel.path(), format!("p{}/s{}/t{folder}/{name}", folder % 7, folder % 13), 1);
        }
    }
    for free in [2, 3, 4, 6] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.args(["inputs", "--format", "json", "--threads", "4", "--strict"]).arg(channel.path());
        // SAFETY: both calls are async-signal-safe and touch descriptors of the child only.
        unsafe {
            command.pre_exec(move || {
                setrlimit(Resource::RLIMIT_NOFILE, 64, 64)?;
                for taken in 3 + free..64 {
                    nix::errno::Errno::result(nix::libc::dup2(0, taken))?;
                }
                Ok(())
            });
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{free} free: {}", String::from_utf8_lossy(&output.stderr));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["files"], 5000, "{free} free");
    }
}

#[test]
fn any_number_of_threads_comes_to_the_same() {
    let channel = in_memory();
    for folder in 0..40 {
        for name in 0..200 {
            file(channel.path(), format!("p{}/s{folder}/{name}.dcm", folder % 7), (folder * name) % 91);
        }
    }
    (0..3000).for_each(|name| file(channel.path(), format!("p1/{name}.nii"), name % 89));
    let patterns = [("*", ".*"), ("*.dcm", ".*"), ("s1*/*", ".*"), ("*", r"p\d/s\d/.*"), ("*", r"(?!.*s3).*")];
    let selections = patterns.map(|(glob, regex)| Selection::compile(None, Some(glob), Some(regex)).unwrap());
    let survey = |count| highwater::tree::survey(channel.path(), &selections, &threads(count)).unwrap();
    let alone = survey(1);
    assert_eq!((alone.threads, alone.totals[0].files), (1, 11_000));
    for count in [2, 3, 8] {
        let together = survey(count);
        assert_eq!(together.threads, count);
        assert_eq!(
            (&together.totals, &together.excluded, together.directories),
            (&alone.totals, &alone.excluded, alone.directories)
        );
    }
}

#[test]
fn a_small_tree_starts_no_thread() {
    let channel = with_files(&[("p1/a", 1), ("p2/b", 2)]);
    (0..20).for_each(|name| file(channel.path(), format!("p3/{name}"), 1));
    let survey = survey_of(channel.path(), &everything(), &Options { ..threads(8) }).unwrap();
    assert_eq!((survey.threads, survey.totals[0].files), (1, 22));
}
