//! Tasks that replace the directories of a sweep.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;

use super::{Bench, Ran};
use crate::harness::skip;

/// A directory of the user's that looks like a staging directory.
fn with_precious_data() -> Bench {
    let bench = Bench::with_items(2, 10);
    bench.write("precious/deep/data", 10);
    bench.write("precious/staging/data", 10);
    bench.write("precious/empty", 0);
    bench.write("precious/.highwater-staging", 0);
    bench
}

#[track_caller]
fn assert_precious_data_are_there(bench: &Bench, when: &str) {
    for file in ["deep/data", "staging/data", "empty", ".highwater-staging"] {
        assert!(bench.path().join("precious").join(file).exists(), "{file} is gone after {when}");
    }
}

/// Replaces the parent directory of the run's output by a link to the data.
const SWAP: &str = r#"S=$(dirname "$1"); mv "$S" "$S.x"; ln -s "$PWD/precious" "$S""#;

#[test]
fn a_link_in_place_of_the_staging_directory_is_not_followed() {
    for (words, script) in [
        (&[][..], SWAP),
        (&["--input-access", "private"], SWAP),
        (&["--staging", "own"], SWAP),
        (&[], "mv s s.x; mkdir s; ln -s ../precious s/staging"),
        (&[], "mv s s.x; ln -s precious s"),
    ] {
        let bench = with_precious_data();
        let task = ["--", "sh", "-c", script, "{input}", "{output}"];
        let words = [&["--input", "scans", "--items", "1,2", "--into", "s"], words, &task].concat();
        let ran = bench.sweep(&words);
        assert_precious_data_are_there(&bench, &words.join(" "));
        assert_eq!(ran.status, Some(3), "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("was moved"), "{words:?}: {}", ran.stderr);
    }
}

#[test]
fn a_staging_directory_that_was_replaced_is_left_and_said() {
    let bench = with_precious_data();
    let ran =
        bench.done(&["--input", "scans", "--items", "1", "--into", "s", "--", "sh", "-c", SWAP, "{input}", "{output}"]);
    assert!(ran.stderr.contains("staging was moved, replaced or removed"), "{}", ran.stderr);
    assert!(bench.path().join("s/staging").is_symlink());
    assert_eq!(fs::read_dir(bench.path().join("s/staging.x")).unwrap().count(), 0);
}

#[test]
fn a_link_is_refused_as_staging_directory() {
    for (link, words) in [("s/staging", &[][..]), ("own", &["--staging", "own"])] {
        let bench = with_precious_data();
        let sweep = |runs: &str| {
            let sweep = ["--input", "scans", "--items", "1", "--into", "s", "-r", runs];
            bench.sweep(&[&sweep, words, &["--", "true", "{input}"]].concat())
        };
        assert_eq!(sweep("1").status, Some(0));
        symlink(bench.path().join("precious"), bench.path().join(link)).unwrap();
        let ran = sweep("2");
        assert_eq!(ran.status, Some(2), "{link}: {}", ran.stderr);
        assert!(ran.stderr.contains("symbolic link"), "{link}: {}", ran.stderr);
        assert_precious_data_are_there(&bench, link);
    }
}

#[test]
fn a_link_in_place_of_the_copies_of_a_run_is_not_followed() {
    let bench = with_precious_data();
    fs::create_dir(bench.path().join("copies")).unwrap();
    bench.task(r#"for S in copies/highwater-inputs-*; do mv "$S" moved; ln -s "$PWD/precious" "$S"; done"#);
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"));
    run.current_dir(bench.path()).env("TMPDIR", bench.path().join("copies"));
    bench.write("atlas/a.bin", 1);
    let words = ["run", "task.json", "--runner", "process", "--input-access", "private"];
    let ran = Ran::of(&run.args(words).output().unwrap());
    assert_precious_data_are_there(&bench, &ran.stderr);
    assert!(bench.path().join("moved").exists(), "the task has moved nothing: {}", ran.stderr);
}

#[test]
fn inputs_of_another_user_are_not_copied() {
    let setting = fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap_or_default();
    if !nix::unistd::geteuid().is_root() || setting.trim() != "1" {
        return skip("this takes root, and a kernel that protects files from hard links");
    }
    let bench = Bench::with_items(2, 10);
    std::os::unix::fs::chown(bench.path(), Some(65534), Some(65534)).unwrap();
    let program = bench.path().join("highwater");
    fs::copy(env!("CARGO_BIN_EXE_highwater"), &program).unwrap();
    let swept = |into: &str, more: &[&str]| {
        let mut sweep = std::process::Command::new(&program);
        sweep.current_dir(bench.path()).uid(65534).gid(65534).env("HOME", bench.path());
        sweep.args(["sweep", "--input", "scans", "--items", "1,2", "--into", into]).args(more);
        let ran = Ran::of(&sweep.args(["--", "cmp", "{input}/p01/ct.raw", "scans/p01/ct.raw"]).output().unwrap());
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        assert!(!ran.stderr.contains("copied"), "{}", ran.stderr);
        ran.stderr
    };
    swept("mounted", &[]);
    let said = swept("linked", &["--input-access", "watched"]);
    assert_eq!(said.matches("fs.protected_hardlinks").count(), 1, "{said}");
}

#[test]
fn directories_that_a_task_made_read_only_are_removed() {
    if !nix::unistd::geteuid().is_root() {
        return skip("this takes root");
    }
    let bench = Bench::with_items(2, 10);
    for name in ["", "scans", "scans/p01", "scans/p02"] {
        std::os::unix::fs::chown(bench.path().join(name), Some(65534), Some(65534)).unwrap();
    }
    // The build directory may be inaccessible to other users.
    let program = bench.path().join("highwater");
    let built = env!("CARGO_BIN_EXE_highwater");
    fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
    let script = "mkdir -p $1/mod/b; chmod -R a-w $1/mod";
    for time in ["first", "second"] {
        let mut sweep = std::process::Command::new(&program);
        sweep.current_dir(bench.path()).uid(65534).gid(65534).env("HOME", bench.path());
        let words = ["sweep", "--input", "scans", "--items", "1,2", "--into", time, "--", "sh", "-c", script];
        let ran = Ran::of(&sweep.args(words).args(["{input}", "{output}"]).output().unwrap());
        assert_eq!(ran.status, Some(0), "{time}: {}", ran.stderr);
        assert!(!bench.path().join(time).join("staging").exists(), "{time}: {}", ran.stderr);
    }
}
