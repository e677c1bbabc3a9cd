//! README and docs/: every link leads somewhere, and every page can be found.

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
    assert!(words <= 1200, "README.md has {words} words; what is more belongs into docs/");
}
