//! Machines shared by several users: nothing that others have planted is followed, trusted or run.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater::model::observation::Logs;
use highwater::store::{self, Folder, OBSERVATIONS, Record};
use nix::unistd::geteuid;

use crate::harness::skip;
use crate::store::{PLAN, observed};

/// The user `nobody`, who owns what others have planted.
const OTHER: u32 = 65534;

/// A directory of root, files of root beside it, and the results of running highwater there.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::write(bench.path("victim"), "untouched").unwrap();
        fs::create_dir(bench.path("victims")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Links a name to the file or directory that must not be reached through it, like another user would.
    fn plant(&self, name: &str, victim: &str) {
        let link = self.path(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(self.path(victim), &link).unwrap();
        if geteuid().is_root() {
            lchown(&link, Some(OTHER), Some(OTHER)).unwrap();
        }
    }

    #[track_caller]
    fn check_victims(&self, when: &str) {
        assert_eq!(fs::read_to_string(self.path("victim")).unwrap(), "untouched", "{when}");
        let reached: Vec<_> = fs::read_dir(self.path("victims")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(reached.is_empty(), "{when}: {reached:?}");
    }

    fn highwater(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.current_dir(self.0.path()).args(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        // Errors are wrapped to the width of a terminal.
        let stderr = text(output.stderr).replace("\n  │ ", " ");
        (output.status.code().unwrap(), text(output.stdout), stderr)
    }

    /// A sweep of one cell into `into`, which prints a word.
    fn sweep(&self, more: &[&str]) -> (i32, String, String) {
        self.highwater(&[&["sweep", "-q", "--into", "into"], more, &["-P", "N=1", "--", "echo", "{N}"]].concat())
    }

    /// Runs a sweep into a directory in which a link was planted: it must be refused or succeed, without reaching the victim.
    #[track_caller]
    fn check_planted(&self, (name, victim, refused): (&str, &str, bool), more: &[&str]) {
        self.plant(name, victim);
        let (status, _, stderr) = self.sweep(more);
        let when = format!("{name} -> {victim}: {stderr}");
        assert_eq!(status != 0, refused, "{when}");
        assert!(!refused || stderr.contains("help:"), "{when}");
        self.check_victims(&when);
        assert!(!self.path("nowhere").exists(), "{when}");
    }

    /// The directory of a sweep whose only run names this file as its output.
    fn sweep_that_names(&self, name: &str, stdout: &Path) -> PathBuf {
        let path = self.path(name);
        drop(Folder::create(&path, PLAN).unwrap());
        let mut observation = observed("a", 1, 1_000_000, 2);
        observation.logs = Some(Logs::new(stdout, stdout));
        Record::open(&path.join(OBSERVATIONS)).unwrap().append(&observation).unwrap();
        path
    }
}

#[test]
fn a_sweep_writes_through_no_link_in_its_directory() {
    // A link is replaced if the file is rewritten as a whole; if it would have to be appended to, the sweep is refused.
    for planted in [
        ("into/plan.json.new", "victim", false),
        ("into/plan.json.new", "nowhere", false),
        ("into/lock", "victim", true),
        ("into/lock", "nowhere", true),
        ("into/plan.json", "victim", true),
        ("into/observations.jsonl", "victim", true),
        ("into/runs", "victims", true),
        ("into/staging", "victims", true),
        ("into/staging/.highwater-staging", "victim", true),
    ] {
        Bench::new().check_planted(planted, &[]);
    }
}

#[test]
fn a_sweep_that_goes_on_writes_through_no_link() {
    for planted in [
        ("into/observations.jsonl", "victim", true),
        ("into/lock", "victim", true),
        ("into/runs", "victims", true),
        ("into/plan.json.new", "victim", false),
        ("into/staging", "victims", true),
    ] {
        let bench = Bench::new();
        assert_eq!(bench.sweep(&[]).0, 0);
        let _ = fs::remove_file(bench.path(planted.0));
        let _ = fs::remove_dir_all(bench.path(planted.0));
        bench.check_planted(planted, &["-r", "2"]);
    }
}

#[test]
fn what_a_run_leaves_is_written_through_no_link() {
    let bench = Bench::new();
    assert_eq!(bench.highwater(&["sweep", "-n", "--save-plan", "p.json", "-P", "N=1", "--", "echo", "{N}"]).0, 0);
    let plan: serde_json::Value = serde_json::from_str(&fs::read_to_string(bench.path("p.json")).unwrap()).unwrap();
    let key = plan["cells"][0]["key"].as_str().unwrap();
    for name in ["stdout.log", "stderr.log", "series.json.new"] {
        bench.plant(&format!("runs/{key}-1/{name}"), "victim");
    }
    let (status, _, stderr) = bench.highwater(&["sweep", "--file", "p.json", "--cell-index", "0"]);
    assert_eq!(status, 0, "{stderr}");
    bench.check_victims("the run of a cell");
    assert_eq!(fs::read_to_string(bench.path(&format!("runs/{key}-1/stdout.log"))).unwrap(), "1\n");
    bench.plant("logs/stdout.log", "victim");
    let (status, _, stderr) = bench.highwater(&["run", "--log-dir", "logs", "--", "echo", "said"]);
    assert_eq!(status, 0, "{stderr}");
    bench.check_victims("run --log-dir");
    assert_eq!(fs::read_to_string(bench.path("logs/stdout.log")).unwrap(), "said\n");
    fs::remove_file(bench.path(&format!("cell-{key}.jsonl"))).unwrap();
    bench.plant(&format!("cell-{key}.jsonl"), "victim");
    let (status, _, stderr) = bench.highwater(&["sweep", "--file", "p.json", "--cell-index", "0"]);
    assert_eq!(status, 3, "{stderr}");
    assert!(stderr.contains("is a symbolic link"), "{stderr}");
    bench.check_victims("the record of a cell");
}

#[test]
fn a_link_of_the_users_own_in_the_path_is_followed() {
    let bench = Bench::new();
    fs::create_dir(bench.path("disk")).unwrap();
    symlink(bench.path("disk"), bench.path("into")).unwrap();
    let (status, _, stderr) = bench.sweep(&[]);
    assert_eq!(status, 0, "{stderr}");
    assert!(bench.path("disk/plan.json").exists());
}

#[test]
fn root_is_refused_the_directories_of_others() {
    if !geteuid().is_root() {
        return skip("this takes root");
    }
    let bench = Bench::new();
    let theirs = bench.path("theirs");
    assert_eq!(bench.highwater(&["sweep", "-q", "--into", "theirs", "-P", "N=1", "--", "touch", "ran", "{N}"]).0, 0);
    fs::remove_file(bench.path("ran")).unwrap();
    chown(&theirs, Some(OTHER), None).unwrap();
    fs::remove_file(theirs.join(OBSERVATIONS)).unwrap();
    for words in [
        vec!["sweep", "--into", "theirs"],
        vec!["sweep", "--into", "theirs", "-P", "N=1", "--", "touch", "ran", "{N}"],
        vec!["sweep", "--staging", "theirs", "-P", "N=1", "--", "touch", "ran", "{N}"],
    ] {
        let (status, _, stderr) = bench.highwater(&words);
        assert_eq!(status, 2, "{words:?}: {stderr}");
        assert!(stderr.contains("help:"), "{words:?}: {stderr}");
        assert!(!bench.path("ran").exists(), "{words:?}");
    }
    let mut by_sudo = Command::new(env!("CARGO_BIN_EXE_highwater"));
    by_sudo.current_dir(bench.0.path()).args(["sweep", "-q", "--into", "theirs"]).env("SUDO_UID", OTHER.to_string());
    assert!(by_sudo.status().unwrap().success(), "whoever has become root by sudo works in their own");
    assert!(bench.path("ran").exists());
}

#[test]
fn what_others_have_marked_as_staging_is_not_emptied() {
    if !geteuid().is_root() {
        return skip("this takes root");
    }
    let bench = Bench::new();
    fs::create_dir(bench.path("staging")).unwrap();
    fs::write(bench.path("staging/data"), "mine").unwrap();
    fs::write(bench.path("staging/.highwater-staging"), "").unwrap();
    chown(bench.path("staging/.highwater-staging"), Some(OTHER), None).unwrap();
    let (status, _, stderr) = bench.sweep(&["--staging", "staging"]);
    assert_eq!(status, 2, "{stderr}");
    assert_eq!(fs::read_to_string(bench.path("staging/data")).unwrap(), "mine");
}

#[test]
fn no_other_user_can_write_to_the_output_of_a_run() {
    let bench = Bench::new();
    let words = ["sweep", "-q", "--into", "into", "-P", "N=1", "--", "stat", "-c", "%a", "{output}", "{N}"];
    fs::write(bench.path("1"), "").unwrap();
    assert_eq!(bench.highwater(&words).0, 0);
    let stdout = store::read(&bench.path("into")).unwrap().observations.remove(0).logs.unwrap().stdout;
    let said = fs::read_to_string(bench.path("into").join(stdout)).unwrap();
    assert_eq!(said.lines().next(), Some("755"), "{said}");
}

#[test]
fn merge_stays_inside_runs() {
    for outside in ["runs/../x", "runs/..", "runs/x/../../y", "runs/x", "runs"] {
        let bench = Bench::new();
        bench.sweep_that_names("evil", Path::new(outside));
        fs::write(bench.path("evil/x"), "planted").unwrap();
        drop(Folder::create(&bench.path("into"), PLAN).unwrap());
        let plan = fs::metadata(bench.path("into/plan.json")).unwrap().ino();
        let (status, _, stderr) = bench.highwater(&["merge", "evil", "--into", "into"]);
        assert_eq!(status, 2, "{outside}: {stderr}");
        assert!(stderr.contains(outside) && stderr.contains("observations.jsonl:1"), "{outside}: {stderr}");
        assert_eq!(fs::metadata(bench.path("into/plan.json")).unwrap().ino(), plan, "{outside}");
        assert!(!bench.path("into/x").exists(), "{outside}");
    }
}

#[test]
fn merge_copies_through_no_link() {
    let bench = Bench::new();
    fs::write(bench.path("victims/key"), "secret").unwrap();
    let linked: [(&str, &[(&str, &str)]); 4] = [
        ("evil/runs/x", &[("evil/runs/x", "victims")]),
        ("evil/runs", &[("evil/runs", "victims")]),
        ("a file", &[("evil/runs/x/stdout.log", "victim")]),
        ("into/runs", &[("into/runs", "victims"), ("evil/runs/x/kept", "nowhere")]),
    ];
    for (what, links) in linked {
        bench.sweep_that_names("evil", Path::new("runs/x/stdout.log"));
        drop(Folder::create(&bench.path("into"), PLAN).unwrap());
        links.iter().for_each(|(name, victim)| bench.plant(name, victim));
        let (status, _, stderr) = bench.highwater(&["merge", "evil", "--into", "into"]);
        assert_eq!(status, 2, "{what}: {stderr}");
        assert!(stderr.contains("is a symbolic link"), "{what}: {stderr}");
        for name in ["into/runs/x/key", "into/runs/x/stdout.log", "victims/x"] {
            assert!(!bench.path(name).exists(), "{what}: {name}");
        }
        fs::remove_dir_all(bench.path("evil")).unwrap();
        fs::remove_dir_all(bench.path("into")).unwrap();
    }
}

#[test]
fn merge_gives_no_copy_the_rights_of_a_set_user_id_program() {
    let bench = Bench::new();
    bench.sweep_that_names("other", Path::new("runs/x/stdout.log"));
    let program = bench.path("other/runs/x/stdout.log");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
    let (status, _, stderr) = bench.highwater(&["merge", "other", "--into", "into", "--partial"]);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(fs::metadata(bench.path("into/runs/x/stdout.log")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn plans_that_run_something_else_are_not_the_same() {
    let bench = Bench::new();
    let plan = |name: &str, words: &[&str]| {
        let before = ["sweep", "-q", "--into", name, "-P", "N=1"];
        assert_eq!(bench.highwater(&[&before[..], words].concat()).0, 0, "{name}");
    };
    plan("mine", &["--", "true", "{N}"]);
    plan("more-runs", &["-r", "2", "--", "true", "{N}"]);
    plan("hooked", &["--prepare", "true", "--", "true", "{N}"]);
    plan("other", &["--", "true", "{N}"]);
    // The keys and the digest are those of `mine`: only the command differs.
    let text = fs::read_to_string(bench.path("other/plan.json")).unwrap();
    fs::write(bench.path("other/plan.json"), text.replace("\"true\",\n      \"{N}\"", "\"sh\",\n      \"{N}\""))
        .unwrap();
    assert_ne!(fs::read_to_string(bench.path("other/plan.json")).unwrap(), text);
    let merged = |other: &str| bench.highwater(&["merge", "mine", other, "--into", &format!("into-{other}")]);
    assert_eq!(merged("more-runs").0, 0, "{}", merged("more-runs").2);
    for (other, difference) in [("hooked", "`--prepare`"), ("other", "`--command`")] {
        let (status, _, stderr) = merged(other);
        assert_eq!(status, 2, "{other}: {stderr}");
        assert!(stderr.contains(&format!("differ in {difference}")), "{other}: {stderr}");
        assert!(!bench.path(&format!("into-{other}")).exists());
    }
}

#[test]
fn logs_prints_only_what_lies_beside_the_record() {
    let bench = Bench::new();
    fs::write(bench.path("secret"), "secret").unwrap();
    let absolute = bench.path("secret");
    for (number, named) in
        [absolute.as_path(), Path::new("../secret"), Path::new("runs/../../secret"), Path::new("plan.json")]
            .into_iter()
            .enumerate()
    {
        let folder = bench.sweep_that_names(&format!("evil{number}"), named);
        let (status, stdout, stderr) = bench.highwater(&["logs", folder.to_str().unwrap()]);
        assert_eq!((status, stdout.as_str()), (2, ""), "{}: {stderr}", named.display());
        assert!(stderr.contains("is not a path below"), "{}: {stderr}", named.display());
    }
    let folder = bench.sweep_that_names("linked", Path::new("runs/a-1/stdout.log"));
    bench.plant("linked/runs/a-1/stdout.log", "secret");
    let (status, stdout, stderr) = bench.highwater(&["logs", folder.to_str().unwrap()]);
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("is a symbolic link"), "{stderr}");
}

#[test]
fn logs_of_a_single_record_are_found_where_they_were_and_where_they_went() {
    let bench = Bench::new();
    fs::create_dir(bench.path("runs.logs")).unwrap();
    fs::write(bench.path("runs.logs/1.log"), "said\n").unwrap();
    let mut observation = observed("a", 1, 1_000_000, 2);
    observation.logs = Some(Logs::new(bench.path("runs.logs/1.log"), bench.path("runs.logs/1.log")));
    Record::open(&bench.path("runs.jsonl")).unwrap().append(&observation).unwrap();
    assert_eq!(bench.highwater(&["logs", "runs.jsonl"]), (0, "said\n".to_owned(), "said\n".to_owned()));
    fs::create_dir(bench.path("moved")).unwrap();
    fs::rename(bench.path("runs.logs"), bench.path("moved/all.logs")).unwrap();
    fs::rename(bench.path("runs.jsonl"), bench.path("moved/all.jsonl")).unwrap();
    assert_eq!(bench.highwater(&["logs", "moved/all.jsonl"]), (0, "said\n".to_owned(), "said\n".to_owned()));
}

#[test]
fn logs_of_a_log_dir_are_found_below_the_record_and_elsewhere_where_the_directory_is_named() {
    let bench = Bench::new();
    let run = |record: &str, directory: &str, said: &str| {
        let words =
            ["run", "--quiet", "--cgroup", "never", "--record", record, "--log-dir", directory, "--", "echo", said];
        let (status, _, stderr) = bench.highwater(&words);
        assert_eq!(status, 0, "{stderr}");
    };
    let logs = |words: &[&str]| bench.highwater(&[&["logs"], words].concat());
    run("runs.jsonl", "first", "one");
    run("runs.jsonl", "second", "two");
    assert_eq!(logs(&["runs.jsonl"]), (0, "two\n".to_owned(), String::new()));
    assert_eq!(logs(&["runs.jsonl", "--run", "1"]).1, "one\n");
    run("runs.jsonl", "first", "three");
    let (status, stdout, stderr) = logs(&["runs.jsonl", "--run", "1"]);
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("run 3 wrote to the same files"), "{stderr}");
    fs::create_dir(bench.path("records")).unwrap();
    run("records/runs.jsonl", "elsewhere", "four");
    let (status, stdout, stderr) = logs(&["records/runs.jsonl"]);
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("--log-dir") && stderr.contains("elsewhere"), "{stderr}");
    assert_eq!(logs(&["records/runs.jsonl", "--log-dir", "elsewhere"]), (0, "four\n".to_owned(), String::new()));
}

#[test]
fn the_series_of_a_run_is_read_through_no_link() {
    let bench = Bench::new();
    let path = bench.path("sweep");
    let mut folder = Folder::create(&path, PLAN).unwrap();
    folder.append(&observed("a", 1, 1_000_000, 40)).unwrap();
    drop(folder);
    let records = store::read(&path).unwrap();
    let series = records.observations[0].series.file.clone().unwrap();
    fs::rename(path.join(&series), bench.path("elsewhere")).unwrap();
    symlink(bench.path("elsewhere"), path.join(&series)).unwrap();
    assert!(records.series(&records.observations[0].series).is_err());
}

#[test]
fn plots_and_pages_are_written_through_no_link() {
    if !geteuid().is_root() {
        return skip("this takes root");
    }
    let bench = Bench::new();
    for (planted, words) in [
        (
            "plots/peaks.svg",
            &["report", crate::report::segment().to_str().unwrap(), "-o", "r.html", "--plots", "plots"][..],
        ),
        ("pages/highwater-run.1", &["man", "--dir", "pages"]),
    ] {
        bench.plant(planted, "victim");
        let (status, _, stderr) = bench.highwater(words);
        assert_eq!(status, 0, "{words:?}: {stderr}");
        bench.check_victims(planted);
        assert!(fs::symlink_metadata(bench.path(planted)).unwrap().is_file(), "{words:?}");
    }
}
