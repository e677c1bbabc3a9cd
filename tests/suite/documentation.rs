//! README and docs/: every link leads somewhere, every page can be found, the example shows what comes out, and the
//! commands of the tutorial lead where it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The pages by their paths in the repository.
fn pages() -> BTreeMap<PathBuf, String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| (PathBuf::from(path), std::fs::read_to_string(top.join(path)).unwrap());
    let mut pages = BTreeMap::from(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(read));
    for entry in std::fs::read_dir(top.join("docs")).unwrap() {
        pages.extend([read(&format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()))]);
    }
    pages
}

/// The targets of the links in a page, outside of blocks of code.
fn links(text: &str) -> Vec<&str> {
    let prose = text.lines().filter(|line| !line.starts_with("    "));
    prose.flat_map(|line| line.split("](").skip(1).filter_map(|rest| rest.split(')').next())).collect()
}

/// The anchors that a page offers, as GitHub makes them of its headings.
fn anchors(text: &str) -> Vec<String> {
    let headings = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// The commands in a page that show their output, with its lines; `…` stands for lines that are left out.
fn consoles(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut consoles: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("    $ highwater ") {
            consoles.push((command, Vec::new()));
            is_inside = true;
        } else if is_inside && (line.is_empty() || line.starts_with("    ")) {
            consoles.last_mut().unwrap().1.push(line.strip_prefix("    ").unwrap_or(line));
        } else {
            is_inside = false;
        }
    }
    consoles
}

/// The first line that is shown and does not come out in its place.
fn first_difference<'a>(shown: &[&'a str], output: &str) -> Option<&'a str> {
    let end = shown.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    let mut lines = output.lines().map(str::trim_end);
    let mut is_gap = false;
    shown[..end].iter().copied().find(|&line| {
        let found = match (line, is_gap) {
            ("…", _) => true,
            (_, true) => lines.any(|one| one == line),
            (_, false) => lines.next() == Some(line),
        };
        is_gap = line == "…";
        !found
    })
}

#[test]
fn the_example_shows_what_comes_out() {
    let pages = pages();
    let consoles = consoles(&pages[Path::new("docs/example.md")]);
    assert_eq!(consoles.len(), 3);
    for (command, shown) in consoles {
        let mut highwater = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"));
        highwater.current_dir(env!("CARGO_MANIFEST_DIR")).args(command.split_whitespace());
        let output = String::from_utf8(highwater.output().unwrap().stdout).unwrap();
        assert_eq!(first_difference(&shown, &output), None, "{command}:\n{output}");
    }
}

#[test]
fn the_tutorial_leads_to_a_rule_in_the_file() {
    let pages = pages();
    let indented = |line: &str| line.is_empty() || line.starts_with("    ");
    let lines = pages[Path::new("docs/tutorial.md")].lines().filter(|line| indented(line));
    let script: String = lines.map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    let folder = tempfile::tempdir().unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_highwater")).parent().unwrap().display().to_string();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-euc", &script]).current_dir(folder.path()).env_remove("HIGHWATER_LOG");
    let output = shell.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap())).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{stdout}{stderr}");
    let task = std::fs::read_to_string(folder.path().join("task.json")).unwrap();
    assert!(task.contains(r#""mode": "max_file_size""#), "{task}\n{stdout}");
    assert!(folder.path().join("report.html").exists() && folder.path().join("highwater.toml").exists());
}

#[test]
fn every_link_leads_somewhere() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages();
    let mut broken = Vec::new();
    for (page, text) in &pages {
        for link in links(text).into_iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let folder = top.join(page).parent().unwrap().to_owned();
            let target = if path.is_empty() { top.join(page) } else { folder.join(path) };
            let leads = match anchor {
                None => target.exists(),
                Some(anchor) => {
                    std::fs::read_to_string(&target).is_ok_and(|text| anchors(&text).iter().any(|one| one == anchor))
                }
            };
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_is_linked_from_the_overview() {
    let pages = pages();
    let overview = &pages[Path::new("README.md")];
    let missing: Vec<_> = pages.keys().filter(|page| !overview.contains(&format!("({})", page.display()))).collect();
    assert_eq!(missing, [Path::new("README.md")]);
}

#[test]
fn the_overview_is_read_in_a_few_minutes() {
    let words = pages()[Path::new("README.md")].split_whitespace().count();
    assert!(words <= 1200, "README.md has {words} words; details belong in docs/");
}
