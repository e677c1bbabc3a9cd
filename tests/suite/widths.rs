//! Output fits the width of the terminal.

use std::path::Path;
use std::process::{Command, Stdio};

use highwater::model::layout::columns;

use crate::help::commands;

/// What a command prints in a terminal of this width, line by line.
fn shown(width: usize, directory: &Path, words: &str) -> Vec<String> {
    let program = shlex::try_quote(env!("CARGO_BIN_EXE_highwater")).unwrap();
    let line = format!("stty cols {width} rows 40; exec {program} {words}");
    let mut command = Command::new("script");
    command.args(["--quiet", "--command", &line, "/dev/null"]).current_dir(directory).stdin(Stdio::null());
    let output = command.env("SHELL", "/bin/sh").env("TERM", "dumb").env("NO_COLOR", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.trim().is_empty(), "{words}: {output:?}");
    // Remove escape sequences, such as those that move the cursor.
    let commands = regex::Regex::new("\x1b\\[[0-9;?]*[A-Za-z]").unwrap();
    commands.replace_all(&text, "").split(['\r', '\n']).map(str::to_owned).collect()
}

/// Whether a line may be too wide: it has a long word such as a path, or it is a command to copy or clap's usage line.
fn is_excepted(line: &str, width: usize) -> bool {
    let has_long_word = line.split(' ').any(|word| columns(word) >= width / 2);
    has_long_word || ["highwater ", "Usage: "].iter().any(|start| line.trim_start().starts_with(start))
}

/// The fixtures and a directory with records of runs and tables that cannot be read.
fn bench() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "wide.csv",
            "user,host,memory_of_the_job,started_at,ended_at,state,exit_code,nodes,partition\n1,2,3,4,5,6,7,8,9\n",
        ),
        ("flawed.csv", "input_bytes,peak_bytes,wall_seconds,censored\n12,many,3.25,lower-bound\n1,2,3,perhaps-not\n"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    std::os::unix::fs::symlink(fixtures, folder.path().join("f")).unwrap();
    folder
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let folder = bench();
    let helps = commands().into_iter().map(|command| format!("{command} --help"));
    let words = [
        "--help",
        "run -r 3 -- true",
        "run --vs true -r 6 -- true",
        "run --runner process f/tasks/good/lung-task.json",
        "sweep --into swept -P n=1,2,4 -r 2 -- sh -c 'true {n}'",
        "floor -- true",
        "doctor",
        "inputs f",
        "predict f/tasks/good/lung-task.json --processing-container f/tasks/good/lung-container.json",
        "validate f/tasks/bad/rule.json",
        "show f/records/segment",
        "fit f/records/segment",
        "fit --on all f/records/segment",
        "fit f/cases/git8.csv --for-size 4Gi",
        "backtest f/records/segment --rule '1.5*n' --rule 256Mi",
        "report f/records/segment",
        "report f/records/segment f/records/segment",
        "check --config f/ci/project/highwater.toml --records f/records/segment",
        "import wide.csv",
        "import flawed.csv",
        "fit wide.csv",
        "fit flawed.csv",
        "show wide.csv",
        "merge nowhere --into merged",
        "export --columns",
        "run sort wide.csv",
    ];
    let mut wide = String::new();
    for words in helps.chain(words.map(str::to_owned)) {
        for width in [50, 80, 120] {
            let _ = std::fs::remove_dir_all(folder.path().join("swept"));
            for line in shown(width, folder.path(), &words) {
                if columns(&line) > width && !is_excepted(&line, width) {
                    wide.push_str(&format!("{width} {words}: {line}\n"));
                }
            }
        }
    }
    assert!(wide.is_empty(), "too wide:\n{wide}");
}

#[test]
fn no_amount_in_a_table_is_broken() {
    let folder = bench();
    let tables = ["show f/records/segment", "backtest f/records/segment --rule 1.5*n", "report f/records/segment"];
    let amounts = regex::Regex::new(r"\d[\d.]* (B|KiB|MiB|GiB|s|ms|GBh|cores)\b").unwrap();
    for words in tables {
        // Amounts of the widest layout are whole in a narrow one.
        let of = |width: usize| {
            let lines = shown(width, folder.path(), words);
            // Tables alone: the lines of paragraphs break elsewhere.
            let rows = lines.iter().filter(|line| line.trim_end().contains("  ") && !line.contains('│'));
            let found = rows.flat_map(|line| amounts.find_iter(line).map(|found| found.as_str().to_owned()));
            found.collect::<std::collections::BTreeSet<String>>()
        };
        let (narrow, wide) = (of(50), of(200));
        let broken: Vec<_> = wide.difference(&narrow).collect();
        assert!(!wide.is_empty() && broken.is_empty(), "{words}: {broken:?}");
    }
}
