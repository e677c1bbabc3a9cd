//! The inputs of runs: subsets, repeated items, bytes, parameters.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use highwater::model::observation::{Observation, Warning};

use super::Bench;

/// What the task of each record printed.
fn printed(bench: &Bench, place: &str) -> Vec<String> {
    let records = bench.records(place);
    let read = |path: &Path| fs::read_to_string(bench.path().join(place).join(path)).unwrap();
    records.iter().map(|run| read(&run.logs.as_ref().unwrap().stdout).trim_end().to_owned()).collect()
}

#[test]
fn subsets_have_the_items_that_were_picked_and_what_lies_beside_them() {
    let bench = Bench::new();
    for (item, bytes) in [("a", 30), ("b", 10), ("c", 20)] {
        bench.write(&format!("scans/{item}/x.dcm"), bytes);
    }
    bench.write("scans/list.txt", 1);
    bench.done(&["--input", "scans", "--items", "1,2,all", "--pick", "smallest", "--into", "r", "--", "ls", "{input}"]);
    assert_eq!(printed(&bench, "r"), ["b\nlist.txt", "b\nc\nlist.txt", "a\nb\nc\nlist.txt"]);
    let records = bench.records("r");
    let sizes: Vec<_> = records.iter().map(|run| (run.inputs[0].all.sum.0, run.inputs[0].all.items)).collect();
    assert_eq!(sizes, [(11, 1), (31, 2), (61, 3)]);
    assert_eq!(records[1].inputs[0].by_extension["dcm"].sum.0, 30);
    assert!(records.iter().all(|run| !run.sweep.as_ref().unwrap().synthetic));
}

#[test]
fn data_beyond_those_at_hand_are_repeated_and_marked() {
    let bench = Bench::with_items(2, 100);
    bench.done(&["--input", "scans", "--grow", "0.5,1,2.5", "--into", "r", "--", "ls", "{input}"]);
    assert_eq!(printed(&bench, "r"), ["p01", "p01\np02", "p01\np01~2\np01~3\np02\np02~2"]);
    let made_up: Vec<_> = bench.records("r").iter().map(|run| run.sweep.as_ref().unwrap().synthetic).collect();
    assert_eq!(made_up, [false, false, true]);
}

#[test]
fn files_of_a_size_are_generated_or_cut() {
    let bench = Bench::new();
    bench.done(&["--size", "1KiB,3MiB", "--into", "r", "--", "sh", "-c", "wc -c < {input}"]);
    assert_eq!(printed(&bench, "r"), ["1024", "3145728"]);
    fs::create_dir(bench.path().join("data")).unwrap();
    fs::write(bench.path().join("data/words"), "abc").unwrap();
    bench.done(&["--input", "data", "--size", "7B", "--into", "s", "--", "cat", "{input}"]);
    assert_eq!(printed(&bench, "s"), ["abcabca"]);
    assert!(bench.records("s")[0].sweep.as_ref().unwrap().synthetic);
}

#[test]
fn a_task_that_names_no_channel_finds_the_subset_at_its_own_path() {
    if !crate::run_task::may_mount() {
        return;
    }
    let bench = Bench::with_items(3, 1000);
    bench.write("atlas/a.bin", 50);
    bench.task("sh start.sh");
    fs::write(bench.path().join("start.sh"), "ls /scans /atlas; touch /masks/made").unwrap();
    let words = ["task.json", "--runner", "process", "--items=1,2", "--into", "r", "--keep-outputs"];
    bench.done(&words);
    assert_eq!(printed(&bench, "r"), ["/atlas:\na.bin\n\n/scans:\np01", "/atlas:\na.bin\n\n/scans:\np01\np02"]);
    let records = bench.records("r");
    for run in &records {
        let outputs = run.logs.as_ref().unwrap().stdout.with_file_name("outputs");
        assert!(bench.path().join("r").join(outputs).join("masks/made").exists(), "{run:?}");
        assert!(
            run.warnings.iter().any(|warning| matches!(warning, Warning::Namespaces { channels: true, .. })),
            "{run:?}"
        );
    }
    if nix::unistd::geteuid().is_root() {
        bench.done(&[&words[..4], &["--into", "s", "--jobs", "2"]].concat());
        assert_eq!(printed(&bench, "s").len(), 2);
    }
}

#[test]
fn a_task_is_swept_over_its_channels_and_variables() {
    let bench = Bench::with_items(3, 1000);
    bench.write("atlas/a.bin", 50);
    bench.task("ls /scans; echo $MODE $LEVEL; touch /masks/made");
    bench.done(&[
        "task.json",
        "--runner",
        "process",
        "--items",
        "1,2",
        "-P",
        "MODE=fast,fine",
        "--into",
        "r",
        "--keep-outputs",
    ]);
    assert_eq!(printed(&bench, "r"), ["p01\nfast 3", "p01\nfine 3", "p01\np02\nfast 3", "p01\np02\nfine 3"]);
    let records = bench.records("r");
    let limits: Vec<_> =
        records.iter().map(|run| run.prediction.as_ref().unwrap().docker.limit.as_ref().unwrap().bytes.0).collect();
    assert_eq!(limits, [3000, 3000, 6000, 6000]);
    let channels: Vec<_> = records[0].inputs.iter().map(|input| (input.channel.as_str(), input.all.sum.0)).collect();
    assert_eq!(channels, [("scans", 1000), ("atlas", 50)]);
    assert!(!bench.path().join("made").exists(), "the task's own output is left alone");
    let outputs = fs::read_dir(bench.path().join("r/runs")).unwrap().filter_map(Result::ok);
    assert_eq!(outputs.filter(|run| run.path().join("outputs/masks/made").exists()).count(), 4);
}

#[test]
fn folders_are_cases_and_channels_go_together() {
    let bench = Bench::new();
    for case in ["one", "two"] {
        bench.write(&format!("{case}/scans/x"), 10);
        bench.write(&format!("{case}/atlas/{case}"), 10);
    }
    bench.task("ls /atlas");
    bench.done(&[
        "task.json",
        "--runner",
        "process",
        "--into",
        "r",
        "--input",
        "scans=one/scans",
        "two/scans",
        "--input",
        "atlas=one/atlas",
        "atlas=two/atlas",
    ]);
    assert_eq!(printed(&bench, "r"), ["one", "two"]);
}

#[test]
fn a_task_that_writes_to_its_input_is_found_out() {
    let bench = Bench::with_items(2, 1000);
    let words =
        |script| ["--input", "scans", "--items", "1", "-r", "3", "--into", "r", "--", "sh", "-c", script, "{input}"];
    let ran = bench.sweep(&words("echo x >> $0/p01/ct.raw"));
    let untouched = fs::read(bench.path().join("scans/p01/ct.raw")).unwrap().len() == 1000;
    // Either it could not, or it was stopped immediately.
    if untouched {
        let records = bench.records("r");
        assert!(records[0].warnings.contains(&Warning::ReadOnlyFileSystem), "{:?}", records[0].warnings);
        assert!(records.iter().all(|run| !run.outcome.succeeded()), "{}", ran.stderr);
    } else {
        assert_eq!(ran.status, Some(4));
        assert!(ran.stderr.contains("the input changed during the run"), "{}", ran.stderr);
        assert_eq!(bench.records("r").len(), 1);
    }
}

#[test]
fn no_run_follows_a_warm_up_run_that_has_changed_the_input() {
    let bench = Bench::with_items(2, 1000);
    let words = ["--input", "scans", "--input-access", "watched", "--warmup", "2", "-r", "1", "--into", "r", "--"];
    let ran = bench.sweep(&[&words[..], &["sh", "-c", "echo >> $0/p01/ct.raw", "{input}"]].concat());
    assert_eq!(ran.status, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("p01/ct.raw was changed"), "{}", ran.stderr);
    assert_eq!(fs::read(bench.path().join("scans/p01/ct.raw")).unwrap().len(), 1001, "another run was made");
    assert_eq!(bench.records("r").len(), 0);
}

#[test]
fn a_measured_run_is_recorded_though_its_outputs_cannot_be_kept() {
    let bench = Bench::new();
    let script = "touch $0/made; for run in r/runs/*; do mkdir -p $run/outputs/in-the-way; done";
    let words = ["--into", "r", "-r", "3", "--keep-outputs", "--", "sh", "-c", script, "{output}"];
    let ran = bench.sweep(&words);
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("failed to keep the outputs"), "{}", ran.stderr);
    assert_eq!(bench.records("r").len(), 1, "no other run begins");
}

#[test]
fn each_run_finds_its_input_as_it_was() {
    let bench = Bench::with_items(2, 1000);
    let script = "ls $0 && rm -r $0/p01 2>/dev/null; true";
    bench.done(&["--input", "scans", "--items", "1", "-r", "3", "--into", "r", "--", "sh", "-c", script, "{input}"]);
    assert_eq!(printed(&bench, "r"), ["p01", "p01", "p01"]);
    assert!(bench.path().join("scans/p01/ct.raw").exists());
}

#[test]
fn commands_around_runs_know_the_same_places() {
    let bench = Bench::with_items(2, 10);
    let log = bench.path().join("log").display().to_string();
    let hook = |name: &str| format!("echo {name} {{N}} $(ls {{input}}) >> {log}");
    let hooks = ["setup", "prepare", "conclude", "cleanup"].map(|name| [format!("--{name}"), hook(name)]).concat();
    let mut words = vec!["--input", "scans", "--items", "1,2", "-P", "N=7", "-r", "2", "--warmup", "1", "--into", "r"];
    words.extend(hooks.iter().map(String::as_str));
    words.extend(["--", "sh", "-c", "echo {N}"]);
    let refused = bench.sweep(&words);
    assert_eq!(refused.status, Some(2), "the command takes no input: {}", refused.stderr);
    words.push("{input}");
    bench.done(&words);
    let cell = |items: &str| {
        let run = format!("prepare 7 {items}\nconclude 7 {items}\n");
        format!("setup 7 {items}\n{}cleanup 7 {items}\n", run.repeat(3))
    };
    assert_eq!(fs::read_to_string(&log).unwrap(), cell("p01") + &cell("p01 p02"));
    let ran = bench.sweep(&["--into", "s", "--prepare", "exit 3", "--", "true"]);
    assert_eq!(ran.status, Some(4));
    assert!(ran.stderr.contains("the --prepare command failed"), "{}", ran.stderr);
}

#[test]
fn what_was_measured_is_kept_though_the_command_after_it_fails() {
    for (runs, more) in [("1", &[][..]), ("3", &[]), ("3", &["--floor"])] {
        let bench = Bench::new();
        let words = ["--into", "r", "-r", runs, "--conclude", "exit 3", "--", "true"];
        let ran = bench.sweep(&[more, &words].concat());
        assert_eq!(ran.status, Some(4), "{}", ran.stderr);
        assert!(ran.stderr.contains("the --conclude command failed"), "{}", ran.stderr);
        assert_eq!(bench.records("r").len(), 1, "no other run begins");
    }
    let bench = Bench::new();
    let ran = bench.sweep(&["--into", "r", "--warmup", "2", "--conclude", "exit 3", "--", "true"]);
    assert_eq!((ran.status, bench.records("r").len()), (Some(4), 0), "a run that does not count is not recorded");
}

#[test]
fn no_cell_is_set_up_after_the_command_after_a_run_has_failed() {
    let bench = Bench::new();
    let log = bench.path().join("log");
    let setup = format!("echo {{N}} >> {}", log.display());
    let words = ["--into", "r", "-P", "N=1,2", "--setup", &setup, "--conclude", "exit 3", "--", "echo", "{N}"];
    let ran = bench.sweep(&words);
    assert_eq!(ran.status, Some(4), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(log).unwrap(), "1\n");
}

#[test]
fn inputs_are_not_staged_where_something_else_is_kept() {
    let bench = Bench::new();
    bench.write("scans/a/x.dcm", 30);
    let words = ["--input", "scans", "--items", "1", "--staging", "scans", "--into", "r", "--", "ls", "{input}"];
    let ran = bench.sweep(&words);
    assert_eq!(ran.status, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("it contains other files"), "{}", ran.stderr);
    assert!(bench.path().join("scans/a/x.dcm").exists());
}

#[test]
fn measures_of_the_input_do_not_rise_together_unless_the_items_were_chosen() {
    let bench = Bench::new();
    (1..=6).for_each(|item| bench.write(&format!("scans/p{item}/ct.raw"), 1000 * item * item));
    let planned = |more: &[&str]| {
        let ran = bench
            .done(&[&["--input", "scans", "--items", "1,2,4", "--dry-run"], more, &["--", "ls", "{input}"]].concat());
        ran.stderr.contains("the largest file rise together")
    };
    assert!(planned(&["--pick", "first"]) && !planned(&[]));
    bench.done(&["--input", "scans", "--items", "1,2,4", "--into", "r", "--", "ls", "{input}"]);
    let sizes = |record: &Observation| {
        let all = &record.inputs[0].all;
        (all.files, all.sum.0, all.largest_file.as_ref().map(|file| file.bytes.0))
    };
    let sizes: Vec<_> = bench.records("r").iter().map(sizes).collect();
    assert_eq!(sizes, [(1, 9000, Some(9000)), (2, 37_000, Some(36_000)), (4, 57_000, Some(36_000))]);
}

#[test]
fn single_files_have_nothing_to_tell_apart() {
    let bench = Bench::new();
    let ran = bench.done(&["--size", "1KiB,2KiB,4KiB", "--dry-run", "--", "ls", "{input}"]);
    assert!(!ran.stderr.contains("rise together"), "{}", ran.stderr);
}

#[test]
fn names_that_are_not_utf8_are_swept_except_in_an_argument() {
    let bench = Bench::new();
    let name = OsStr::from_bytes(b"sc\xffans");
    let item = bench.path().join(name).join("in").join(OsStr::from_bytes(b"p\xfe"));
    fs::create_dir_all(&item).unwrap();
    fs::write(item.join(OsStr::from_bytes(b"a\xff.dcm")), [7; 100]).unwrap();
    let sweep = |folder: &Path, words: &[&OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.current_dir(folder).arg("sweep").args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let words = |line: &'static str| line.split(' ').map(OsStr::new).collect::<Vec<_>>();
    for line in ["--input in --items 1 --into r -- ls {input}", "--into r -r 2"] {
        let (status, stderr) = sweep(&bench.path().join(name), &words(line));
        assert_eq!(status, Some(0), "{line}: {stderr}");
    }
    let (status, stderr) = sweep(bench.path(), &[OsStr::new("--input"), name, OsStr::new("--"), OsStr::new("ls")]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains(r#"failed to read the argument "sc\xFFans": it is not valid UTF-8"#), "{stderr}");
    std::os::unix::fs::symlink(name, bench.path().join("link")).unwrap();
    let (status, stderr) = sweep(bench.path(), &words("--input link --into s -- ls {input}"));
    assert_eq!(status, Some(0), "{stderr}");
}
