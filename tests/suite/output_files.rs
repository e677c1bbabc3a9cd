//! Output files named by the user, and stdout: the same behaviour for every command.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::fit_records::{growing, run};

const OLD: &str = "# old\n";

/// Every command that writes a file, with a placeholder for the file.
const WRITERS: [(&str, &[&str]); 16] = [
    ("report", &["report", "runs.jsonl", "-o", "FILE"]),
    ("export", &["export", "runs.jsonl", "-o", "FILE"]),
    ("show", &["show", "runs.jsonl", "-o", "FILE"]),
    ("inputs as JSON", &["inputs", ".", "--format", "json", "-o", "FILE"]),
    ("import", &["import", "runs.csv", "-o", "FILE"]),
    ("run", &["run", "--output", "FILE", "--", "true"]),
    ("run as JSON", &["run", "--output", "FILE", "--format", "json", "--", "true"]),
    ("init", &["init", "--force", "-o", "FILE"]),
    ("check --junit", &["check", "--records", "runs.jsonl", "--junit", "FILE"]),
    ("check --markdown", &["check", "--records", "runs.jsonl", "--markdown", "FILE"]),
    ("check --gitlab", &["check", "--records", "runs.jsonl", "--gitlab", "FILE"]),
    ("check --bmf", &["check", "--records", "runs.jsonl", "--bmf", "FILE"]),
    ("check -cs", &["check", "--records", "runs.jsonl", "--customsmallerisbetter", "FILE"]),
    ("check --update-baseline", &["check", "--records", "runs.jsonl", "--update-baseline", "--baseline", "FILE"]),
    ("sweep --save-plan", &["sweep", "--dry-run", "--save-plan", "FILE", "--", "true"]),
    ("fit --write", &["fit", "runs.jsonl", "--write", "FILE"]),
];

/// A directory with records to work on.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines = growing(1.8).map(|(n, peak)| format!("{}\n", run(n, peak)));
        // A baseline takes several runs of each cell.
        fs::write(folder.path().join("runs.jsonl"), lines.collect::<String>().repeat(3)).unwrap();
        let bench = Self(folder);
        bench.highwater(&["export", "runs.jsonl", "-o", "runs.csv"], "");
        // Accessible to the user that the tests switch to.
        fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: &[&str], file: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.args(words.iter().map(|word| if *word == "FILE" { file } else { word }));
        command.current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn highwater(&self, words: &[&str], file: &str) -> Output {
        self.command(words, file).output().unwrap()
    }

    /// A file with old content: for `fit --write` and baselines, which read it, valid content.
    fn old(&self, name: &str, words: &[&str]) -> String {
        let text = match words {
            ["fit", ..] => CONTAINER,
            [.., "--baseline", _] => "{\"schema_version\": 1, \"tool_version\": \"0\", \"tasks\": {}}\n",
            _ => OLD,
        };
        fs::write(self.path(name), text).unwrap();
        text.to_owned()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Temporary files that were left behind.
    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with('.')).collect()
    }
}

const CONTAINER: &str = r#"{"name": "segment", "description": "", "templates": [{"identifier": "segment",
    "description": "", "inputs": [{"name": "scans", "mounted_path": "/in"}], "outputs": [], "env": []}]}"#;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The exit status of a command that cannot write.
fn cannot_write(words: &[&str]) -> i32 {
    if words[0] == "run" { 125 } else { 3 }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn links_stay_links_and_files_keep_mode_and_owner() {
    for (name, words) in WRITERS {
        let bench = Bench::new();
        let old = bench.old("real", words);
        fs::set_permissions(bench.path("real"), fs::Permissions::from_mode(0o640)).unwrap();
        if is_root() {
            std::os::unix::fs::chown(bench.path("real"), Some(65534), Some(65533)).unwrap();
        }
        symlink("real", bench.path("second")).unwrap();
        symlink("second", bench.path("first")).unwrap();
        let before = fs::metadata(bench.path("real")).unwrap();
        let output = bench.highwater(words, "first");
        let after = fs::metadata(bench.path("real")).unwrap();
        assert_ne!(bench.text("real"), old, "{name}: {}", stderr(&output));
        assert!(bench.path("first").is_symlink() && bench.path("second").is_symlink(), "{name}");
        let facts = |of: &fs::Metadata| (of.mode(), of.uid(), of.gid());
        assert_eq!(facts(&after), facts(&before), "{name}");
        assert_eq!(bench.left(), [""; 0], "{name}");
    }
}

#[test]
fn a_link_to_a_file_that_does_not_exist_yet_creates_that_file() {
    for (name, words) in WRITERS.iter().filter(|(name, _)| *name != "fit --write") {
        let bench = Bench::new();
        symlink("real", bench.path("link")).unwrap();
        let output = bench.highwater(words, "link");
        assert!(bench.path("link").is_symlink() && !bench.path("real").is_symlink(), "{name}");
        assert!(!bench.text("real").is_empty(), "{name}: {}", stderr(&output));
    }
}

#[test]
fn what_cannot_be_written_is_one_error_with_status_3() {
    for (name, words) in WRITERS.iter().filter(|(name, _)| *name != "fit --write") {
        for (file, reason) in [
            ("loop", "Too many levels of symbolic links"),
            ("none/file", "No such file or directory"),
            (".", "is a directory"),
            ("/proc/none", "No such file or directory"),
        ] {
            let bench = Bench::new();
            symlink("loop", bench.path("loop")).unwrap();
            let output = bench.highwater(words, file);
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(cannot_write(words)), "{name} {file}: {told}");
            assert!(told.contains("failed to write ") && told.contains(file), "{name}: {told}");
            assert!(told.contains(reason), "{name} {file}: {told}");
            assert!(told.contains("help: "), "{name} {file}: {told}");
        }
    }
}

/// `highwater` as an ordinary user, if the tests run as root.
fn ordinary(command: &Command) -> Command {
    if !is_root() {
        let mut same = Command::new(command.get_program());
        same.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
        return same;
    }
    let mut confined = Command::new("setpriv");
    confined.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    confined.arg(command.get_program()).args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    confined
}

#[test]
fn a_file_is_overwritten_where_its_folder_cannot_be_written_to() {
    for (name, words) in WRITERS {
        let bench = Bench::new();
        let old = bench.old("file", words);
        fs::set_permissions(bench.path("file"), fs::Permissions::from_mode(0o666)).unwrap();
        let inode = fs::metadata(bench.path("file")).unwrap().ino();
        fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o555)).unwrap();
        let output = ordinary(&bench.command(words, "file")).output().unwrap();
        fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(bench.text("file"), old, "{name}: {}", stderr(&output));
        assert_eq!(fs::metadata(bench.path("file")).unwrap().ino(), inode, "{name}");
    }
}

#[test]
fn a_read_only_file_of_an_ordinary_user_stays() {
    let words = WRITERS[0].1;
    let bench = Bench::new();
    let old = bench.old("file", words);
    fs::set_permissions(bench.path("file"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let output = ordinary(&bench.command(words, "file")).output().unwrap();
    assert_eq!((output.status.code(), bench.text("file")), (Some(3), old), "{}", stderr(&output));
}

#[test]
fn beyond_the_limit_on_the_size_of_files_the_old_content_stays() {
    for (name, words) in [WRITERS[0], WRITERS[1]] {
        let bench = Bench::new();
        let old = bench.old("file", words);
        let highwater = bench.command(words, "file");
        let mut limited = Command::new("sh");
        // In blocks of 512 bytes.
        limited.args(["-c", "ulimit -f 1; exec \"$@\"", "sh"]).arg(highwater.get_program());
        let output = limited.args(highwater.get_args()).current_dir(bench.0.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains("ulimit -f"), "{name}: {}", stderr(&output));
        assert_eq!((bench.text("file"), bench.left()), (old, Vec::new()), "{name}");
    }
}

#[test]
fn the_limit_on_the_size_of_files_ends_a_task_as_without_highwater() {
    let bench = Bench::new();
    let script = "ulimit -f 1; exec \"$0\" run --quiet -- dd if=/dev/zero of=big bs=4k count=1";
    let mut limited = Command::new("sh");
    let output = limited.args(["-c", script, env!("CARGO_BIN_EXE_highwater")]).current_dir(bench.0.path()).output();
    // 128 + SIGXFSZ
    assert_eq!(output.unwrap().status.code(), Some(153));
}

#[test]
fn a_file_that_is_mounted_by_itself_is_overwritten() {
    let bench = Bench::new();
    fs::write(bench.path("outside"), OLD).unwrap();
    fs::write(bench.path("file"), "").unwrap();
    let script = "mount --bind outside file && \"$0\" export runs.jsonl -o file; status=$?; umount file; exit $status";
    let mut unshared = Command::new("unshare");
    unshared.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_highwater")]).current_dir(bench.0.path());
    let output = unshared.output().unwrap();
    if !is_root() || stderr(&output).contains("unshare failed") {
        crate::harness::skip("this takes root");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(bench.text("outside").starts_with("task,"), "{}", bench.text("outside"));
}

#[test]
fn what_goes_to_stdout_goes_to_a_file_instead() {
    let bench = Bench::new();
    fs::write(bench.path("file.json"), CONTAINER).unwrap();
    for words in [
        &["show", "runs.jsonl"][..],
        &["show", "runs.jsonl", "--format", "json"],
        &["validate", "file.json"],
        &["inputs", "."],
        &["doctor", "--format", "json"],
        &["check", "--records", "runs.jsonl", "--format", "json"],
        &["floor", "--confirm", "1", "--precision", "50%", "-q", "--", "true"],
    ] {
        let shown = bench.highwater(words, "");
        let to_file = bench.highwater(&[&words[..1], &["-o", "FILE"], &words[1..]].concat(), "result");
        assert!(to_file.stdout.is_empty(), "{words:?}: {}", stderr(&to_file));
        assert_eq!(to_file.status.code(), shown.status.code(), "{words:?}: {}", stderr(&to_file));
        let result = bench.text("result");
        assert_eq!(result.is_empty(), shown.stdout.is_empty(), "{words:?}");
        if ["show", "validate"].contains(&words[0]) {
            assert_eq!(result, String::from_utf8(shown.stdout).unwrap(), "{words:?}");
        }
        fs::remove_file(bench.path("result")).unwrap();
    }
}

#[test]
fn several_runs_take_a_line_each_and_the_highest_gets_its_table() {
    let bench = Bench::new();
    let output = bench.highwater(&["run", "-r", "3", "--", "true"], "");
    let shown = stderr(&output);
    let at = |words: &str| shown.find(words).unwrap_or_else(|| panic!("{words}: {shown}"));
    assert!(at("run 3 of 3: ") < at("\n3 runs: "), "{shown}");
    assert!(at("\n3 runs: ") < at(", with the highest peak\npeak "), "{shown}");
    assert_eq!(shown.matches("\noutcome ").count(), 1, "{shown}");
    // With -v, each has a table.
    let output = bench.highwater(&["-v", "run", "-r", "3", "--", "true"], "");
    assert_eq!(stderr(&output).matches("\noutcome ").count(), 3, "{}", stderr(&output));
}

#[test]
fn stdout_may_be_named_as_a_file() {
    let bench = Bench::new();
    let output = bench.highwater(&["export", "runs.jsonl", "-o", "/dev/stdout"], "");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), bench.text("runs.csv"));
    // Each table once, although a file would be rewritten with all of them.
    let output = bench.highwater(&["run", "-r", "2", "--output", "/dev/stdout", "--", "true"], "");
    let tables = String::from_utf8(output.stdout).unwrap();
    assert_eq!(tables.matches("run 1 of 2").count(), 1, "{tables}");
    // The shell appends to it.
    let script = "{ echo first; \"$0\" export runs.jsonl -o /dev/stdout; echo last; } > out";
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", script, env!("CARGO_BIN_EXE_highwater")]).current_dir(bench.0.path());
    assert_eq!(shell.output().unwrap().status.code(), Some(0));
    assert_eq!(bench.text("out"), format!("first\n{}last\n", bench.text("runs.csv")));
}

#[test]
fn a_full_stdout_is_not_status_0_for_any_command() {
    let bench = Bench::new();
    fs::write(bench.path("file.json"), CONTAINER).unwrap();
    let mut cases: Vec<Vec<String>> = [
        "--help",
        "--version",
        "help fit",
        "completions bash",
        "man",
        "schema report",
        "doctor",
        "clean --dry-run",
        "export runs.jsonl",
        "export --columns",
        "show runs.jsonl",
        "show runs.jsonl --format json",
        "fit runs.jsonl",
        "fit runs.jsonl --emit docker",
        "report runs.jsonl",
        "import runs.csv",
        "check --records runs.jsonl",
        "validate file.json",
        "inputs .",
        "backtest runs.jsonl --rule 2*n",
        "run --format json -- true",
        "run --output /dev/stdout -- true",
        "sweep --into swept --format jsonl -- true",
        "sweep --dry-run -- true",
    ]
    .map(|words| words.split(' ').map(str::to_owned).collect())
    .into();
    cases.extend(super::help::commands().into_iter().map(|command| vec![command, "--help".to_owned()]));
    for words in cases {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = bench.command(&words, "").stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(cannot_write(&words)), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("No space left on device"), "{words:?}: {}", stderr(&output));
    }
}

#[test]
fn manual_pages_are_written_as_other_files_are() {
    let bench = Bench::new();
    fs::create_dir(bench.path("man")).unwrap();
    fs::write(bench.path("real.1"), OLD).unwrap();
    symlink("../real.1", bench.path("man/highwater-fit.1")).unwrap();
    let output = bench.highwater(&["man", "--dir", "man"], "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(bench.path("man/highwater-fit.1").is_symlink());
    assert!(bench.text("real.1").contains(".TH"), "{}", bench.text("real.1"));
    assert_eq!(bench.highwater(&["man", "--dir", "real.1"], "").status.code(), Some(3));
}

#[test]
fn a_record_in_a_missing_directory_says_how_to_make_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args(["run", "--record", "no/such/runs.jsonl", "--", "true"]).current_dir(folder.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("help: create the directory first: mkdir -p no/such\n"), "{}", stderr(&output));
}
