//! The blocks of README and docs/ that show a command with its output: what they show is what comes out.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use nix::unistd::geteuid;
use regex::Regex;

use super::pages;
use crate::harness::skip;

/// Blocks without measured amounts: run in the repository, they show the output to the letter.
const SAME: &[&str] = &["docs/example.md", "docs/fitting.md fit", "docs/records.md"];

/// Blocks with measured amounts, and what makes the directory in which they are run: the same but for the amounts.
const ALIKE: &[(&str, &str)] = &[
    ("docs/tasks.md run --runner process", TASK),
    ("docs/tasks.md run --vs", "yes 'a line of the file that is sorted' | head -c 40M > data"),
];

/// Blocks that other tests run or that have no output.
const ELSEWHERE: &[(&str, &str)] = &[
    ("docs/ci.md check", "depends on a planted change: the tests of `check` have its reasons"),
    ("docs/clusters.md run", "kubernetes::the_documented_run_shows_what_comes_out"),
    ("docs/clusters.md sweep", "kubernetes::a_sweep_runs_its_cells_as_pods"),
    ("docs/tasks.md run --idle-peak", "container::behaviour::the_documented_run_shows_what_comes_out"),
    ("docs/fitting.md floor", "needs a file that is not in the page cache: process::floor, container::floor"),
    ("docs/tasks.md run --image segment --gpus", "needs a GPU"),
];

const TASK: &str = r#"
mkdir scans && head -c 20M /dev/zero > scans/a
cat > task.json <<'END'
{
  "name": "segment", "image": "example.org/segment:1",
  "taskTemplate": {
    "identifier": "segment", "description": "Reads scans.",
    "inputs": [{"name": "scans", "mounted_path": "/scans",
      "scale_rule": {"complexity": "1*n", "type": "limit", "mode": "sum"}}],
    "outputs": [], "env": [],
    "command": ["python3", "-c", "import time; b = open('/scans/a', 'rb').read(); time.sleep(0.5)"],
    "resources": {"limits": {"memory": "64Mi"}}
  },
  "inputs": [{"name": "scans", "input": {"host_path": "scans"}}], "outputs": []
}
END
"#;

/// A command in a page that shows its output, with its lines; `…` stands for what is left out.
struct Console {
    page: String,
    command: String,
    shown: String,
}

impl Console {
    fn is(&self, name: &str) -> bool {
        format!("{} {}", self.page, self.command).starts_with(name)
    }

    /// Runs the command in a directory, and returns what it writes to stderr and to stdout.
    fn output(&self, folder: &Path) -> [String; 2] {
        let mut highwater = Command::new("sh");
        let program = Path::new(env!("CARGO_BIN_EXE_highwater"));
        highwater.arg("-c").arg(format!("{} {}", program.display(), self.command)).current_dir(folder);
        let output = highwater.env("COLUMNS", "100").output().unwrap();
        assert!(output.status.success(), "{}: {}", self.command, String::from_utf8_lossy(&output.stderr));
        [output.stderr, output.stdout].map(|bytes| String::from_utf8(bytes).unwrap())
    }
}

fn consoles() -> Vec<Console> {
    let mut consoles: Vec<Console> = Vec::new();
    for (page, text) in pages() {
        let mut is_inside = false;
        for line in text.lines() {
            if let Some(command) = line.strip_prefix("    $ highwater ") {
                let page = page.display().to_string();
                consoles.push(Console { page, command: command.to_owned(), shown: String::new() });
                is_inside = true;
            } else if is_inside && (line.is_empty() || line.starts_with("    ")) {
                let console = consoles.last_mut().unwrap();
                if console.command.ends_with('\\') {
                    console.command = format!("{} {}", console.command.trim_end_matches('\\'), line.trim());
                } else {
                    console.shown += &format!("{}\n", line.strip_prefix("    ").unwrap_or(line));
                }
            } else {
                is_inside = false;
            }
        }
    }
    consoles
}

/// What is shown has to come out, in this order and with nothing between it but where `…` stands. Line breaks and the
/// width of columns do not count, as they follow from the amounts.
fn first_difference(shown: &str, output: &str, normal: impl Fn(&str) -> String) -> Option<String> {
    let words = |text: &str| normal(text).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let output = words(output);
    let mut at = 0;
    for (index, part) in shown.split('…').enumerate() {
        let part = words(part);
        let found = output[at..].windows(part.len().max(1)).position(|window| part.is_empty() || window == part);
        match found {
            Some(skipped) if index > 0 || skipped == 0 => at += skipped + part.len(),
            _ => return Some(part.join(" ")),
        }
    }
    (!shown.trim_end().ends_with('…') && at < output.len()).then(|| output[at..].join(" "))
}

/// Amounts, whatever their unit, become `#`.
fn without_amounts(text: &str) -> String {
    static AMOUNT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b[0-9][0-9.]*(\s+(B|[KMG]iB|ms|s|min|h)\b|\b)").unwrap());
    AMOUNT.replace_all(text, "#").into_owned()
}

/// Fails unless the block of this name shows this output, apart from amounts and from warnings and progress before it.
pub(crate) fn assert_shows(name: &str, output: &str) {
    let consoles = consoles();
    let console = consoles.iter().find(|console| console.is(name)).unwrap();
    let difference = first_difference(&format!("…\n{}", console.shown), output, without_amounts);
    assert_eq!(difference, None, "{name}:\n{output}");
}

#[test]
fn every_console_is_known() {
    let names: Vec<&str> = SAME.iter().copied().chain(ALIKE.iter().chain(ELSEWHERE).map(|(name, _)| *name)).collect();
    let consoles = consoles();
    for console in &consoles {
        let known = names.iter().filter(|name| console.is(name)).count();
        assert_eq!(known, 1, "{} {}", console.page, console.command);
    }
    for name in names {
        assert!(consoles.iter().any(|console| console.is(name)), "there is no {name}");
    }
}

#[test]
fn consoles_without_measured_amounts_show_what_comes_out() {
    let consoles = consoles();
    for console in consoles.iter().filter(|console| SAME.iter().any(|name| console.is(name))) {
        let [_, output] = console.output(Path::new(env!("CARGO_MANIFEST_DIR")));
        let difference = first_difference(&console.shown, &output, str::to_owned);
        assert_eq!(difference, None, "{} {}:\n{output}", console.page, console.command);
    }
}

#[test]
fn consoles_with_measured_amounts_show_what_comes_out() {
    if !geteuid().is_root() {
        return skip("no peak is exact here");
    }
    for (name, script) in ALIKE {
        let folder = tempfile::tempdir().unwrap();
        let made = Command::new("sh").args(["-euc", script]).current_dir(folder.path()).status().unwrap();
        assert!(made.success(), "{name}");
        let consoles = consoles();
        let console = consoles.iter().find(|console| console.is(name)).unwrap();
        assert_shows(name, &console.output(folder.path()).concat());
    }
}

#[test]
fn a_difference_is_found_where_it_is() {
    let same = |shown: &str, output: &str| first_difference(shown, output, without_amounts);
    assert_eq!(same("peak 3 MiB\n…\nend\n", "peak 12.5 MiB exact\nend\n"), None);
    assert_eq!(same("peak 3 MiB\n", "peak 3 MiB\nmore\n"), Some("more".to_owned()));
    assert_eq!(same("peak 3 MiB\n…\nend\n", "time 3 ms\nend\n"), Some("peak #".to_owned()));
}
