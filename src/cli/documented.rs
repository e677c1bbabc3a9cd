//! Tests that the program accepts every command and option in README, docs/ and the examples of `--help`.

use std::path::Path;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory};
use regex::Regex;

use super::{Cli, help};

/// A command in a block: words with one space between them, up to a pipe, a redirection or a second space.
static LINE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?:^|[\s"(])highwater((?: (?:'[^']*'|"[^"]*"|[^\s'"|;>])+)+)"#).unwrap());

/// A code span in a sentence; it may continue on the next line.
static SPAN: LazyLock<Regex> = LazyLock::new(|| Regex::new("`([^`]+)`").unwrap());

/// What a shell replaces.
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\$\(\(.*?\)\)|\$\{?\w+\}?").unwrap());

/// Options in the pages that belong to other programs or are placeholders.
const OF_OTHERS: &[&str] = &[
    "--NAME",
    "--cpus-per-task",
    "--heap-size-hint",
    "--help",
    "--max-old-space-size",
    "--mem",
    "--privileged",
    "--time",
    "--tmp",
];

/// A command or an option in a page, with the page and line.
struct Written {
    place: String,
    text: String,
}

/// Joins lines that end with a backslash with the next one. Each line comes with the number of its first line.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (at, line) in text.lines().enumerate() {
        let part = line.trim_end_matches('\\').trim_end();
        match lines.last_mut().filter(|_| goes_on) {
            Some((_, start)) => *start += &format!(" {}", part.trim_start()),
            None => lines.push((at + 1, part.to_owned())),
        }
        goes_on = line.ends_with('\\');
    }
    lines
}

/// The commands in the lines that start with `begin`.
fn in_blocks(name: &str, text: &str, begin: &str) -> Vec<Written> {
    let lines = joined(text).into_iter().filter(|(_, line)| line.starts_with(begin) && !line.contains("cargo "));
    let found = |(at, line): (usize, String)| {
        let words = LINE.captures(&VARIABLE.replace_all(&line.replace(" 2>", " >"), "1"))?[1].to_owned();
        Some(Written { place: format!("{name}:{at}"), text: words })
    };
    lines.filter_map(found).collect()
}

fn in_sentences(page: &str, text: &str) -> Vec<Written> {
    let blank_blocks = |line: &str| if line.starts_with("    ") { String::new() } else { line.to_owned() };
    let prose = text.lines().map(blank_blocks).collect::<Vec<_>>().join("\n");
    let found = |span: regex::Captures<'_>| {
        let at = prose[..span.get(0).unwrap().start()].lines().count().max(1);
        let text = VARIABLE.replace_all(&span[1], "1").split_whitespace().collect::<Vec<_>>().join(" ");
        Written { place: format!("{page}:{at}"), text }
    };
    SPAN.captures_iter(&prose).map(found).collect()
}

fn pages() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    let docs = top.join("docs").read_dir().unwrap();
    names.extend(docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap())));
    names.into_iter().map(|name| (name.clone(), std::fs::read_to_string(top.join(name)).unwrap())).collect()
}

fn error(command: &Command, text: &str) -> Option<clap::Error> {
    let words = shlex::split(text).unwrap_or_default();
    let error = command.clone().try_get_matches_from(["highwater".to_owned()].into_iter().chain(words)).err()?;
    (![ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind())).then_some(error)
}

#[test]
fn every_command_in_a_block_is_one() {
    let command = Cli::command();
    let mut blocks: Vec<Written> = pages().iter().flat_map(|(page, text)| in_blocks(page, text, "    ")).collect();
    for subcommand in command.get_subcommands() {
        let examples = help::Parts::of(subcommand).examples;
        blocks.extend(in_blocks(&format!("examples of {}", subcommand.get_name()), &examples, "  highwater "));
    }
    assert!(blocks.len() > 100, "{}", blocks.len());
    // In a Snakemake rule, the command continues in the next string.
    let whole = blocks.iter().filter(|written| !written.text.ends_with(" --"));
    let problem = |written: &Written| {
        error(&command, &written.text).map(|error| format!("{}: highwater{}\n{error}", written.place, written.text))
    };
    let problems: Vec<String> = whole.filter_map(problem).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_command_and_option_in_a_sentence_is_one() {
    let command = Cli::command();
    let mut options: Vec<String> = OF_OTHERS.iter().map(|&name| name.to_owned()).collect();
    for subcommand in std::iter::once(&command).chain(command.get_subcommands()) {
        let names = subcommand.get_arguments().filter_map(clap::Arg::get_long_and_visible_aliases).flatten();
        options.extend(names.map(|name| format!("--{name}")));
    }
    let is_subcommand = |word: &str| command.get_subcommands().any(|one| one.get_name() == word);
    let mut problems = Vec::new();
    for Written { place, text } in pages().into_iter().flat_map(|(page, text)| in_sentences(&page, &text)) {
        let words = text.strip_prefix("highwater ").unwrap_or(&text);
        let first = words.split([' ', '=']).next().unwrap_or_default();
        if first.len() > 2 && first.starts_with("--") && !options.iter().any(|one| one == first) {
            problems.push(format!("{place}: unknown option {first}"));
        } else if is_subcommand(first) && words.contains(" -") || words != text && first != "help" {
            // A sentence may name an option without its value, or a command without what it needs.
            let is_unknown = |kind| [ErrorKind::UnknownArgument, ErrorKind::InvalidSubcommand].contains(&kind);
            let error = error(&command, words).filter(|error| is_unknown(error.kind()));
            problems.extend(error.map(|error| format!("{place}: highwater {words}\n{error}")));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
