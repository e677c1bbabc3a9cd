//! README and docs/: every link leads somewhere, every page is in the book, blocks with output show what comes out, and
//! the commands of the tutorials lead where they say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) mod consoles;

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

/// Runs the indented lines of a page in an empty directory, as a reader would.
fn followed(page: &str) -> tempfile::TempDir {
    let pages = pages();
    let indented = |line: &str| line.is_empty() || line.starts_with("    ");
    let lines = pages[Path::new(page)].lines().filter(|line| indented(line));
    let script: String = lines.map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    let folder = tempfile::tempdir().unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_highwater")).parent().unwrap().display().to_string();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-euc", &script]).current_dir(folder.path()).env_remove("HIGHWATER_LOG");
    let output = shell.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap())).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{page}:\n{stdout}{stderr}");
    folder
}

#[test]
fn the_tutorial_leads_to_a_rule_in_the_file() {
    let folder = followed("docs/tutorial.md");
    let task = std::fs::read_to_string(folder.path().join("task.json")).unwrap();
    assert!(task.contains(r#""mode": "max_file_size""#), "{task}");
    assert!(folder.path().join("report.html").exists() && folder.path().join("highwater.toml").exists());
}

#[test]
fn the_page_on_kaapana_leads_to_an_operator_and_a_document_with_measured_memory() {
    let folder = followed("docs/kaapana.md");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let operator = read("SegmentOperator.py");
    assert!(operator.contains("ram_mem_mb_lmt=") && !operator.contains("ram_mem_mb=50"), "{operator}");
    let document = read("processing-container.json");
    assert!(document.contains(r#""mode": "max_item_sum""#), "{document}");
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
fn every_page_is_in_the_book() {
    let pages = pages();
    let contents = &pages[Path::new("docs/SUMMARY.md")];
    let in_docs = |page: &&Path| page.starts_with("docs") && !page.ends_with("SUMMARY.md");
    let names = pages.keys().map(PathBuf::as_path).filter(in_docs).map(|page| page.strip_prefix("docs").unwrap());
    let missing: Vec<_> = names.filter(|name| !contents.contains(&format!("({})", name.display()))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_overview_links_what_is_read_first() {
    let pages = pages();
    let overview = links(&pages[Path::new("README.md")]);
    let first = ["CONTRIBUTING.md", "SECURITY.md", "docs/tutorial.md", "docs/commands.md", "docs/index.md"];
    let missing: Vec<_> = first.iter().filter(|page| !overview.contains(page)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_overview_is_read_in_a_few_minutes() {
    let words = pages()[Path::new("README.md")].split_whitespace().count();
    assert!(words <= 1200, "README.md has {words} words; details belong in docs/");
}
