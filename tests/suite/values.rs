//! Shares, amounts and durations: every way to give one accepts the same texts, and refuses the others in the same
//! words.

use std::fmt::Write;
use std::process::Command;

use highwater::calibrate::sweep::SweepOptions;
use highwater::model::check::config::Config;
use highwater::model::document::{Document, Source};
use highwater::model::problem::Flawed;

/// The result of giving a text in some place: empty if it is accepted.
type Door = (&'static str, fn(&str) -> String);

#[test]
fn amounts_are_read_alike_except_in_a_task_json() {
    let table = table(
        include_str!("../../fixtures/values/amounts.txt"),
        &[
            ("run --limit", |text| option("run", "--limit", text)),
            ("limit in a sweep file", |text| sweep("limit", text)),
            ("check --absolute", |text| option("check", "--absolute", text)),
            ("absolute in highwater.toml", |text| config(&format!("thresholds.absolute = {text:?}"))),
            ("memory in a task.json", task),
        ],
    );
    insta::assert_snapshot!(table);
}

#[test]
fn shares_are_read_alike() {
    let table = table(
        include_str!("../../fixtures/values/shares.txt"),
        &[
            ("check --relative", |text| option("check", "--relative", text)),
            ("relative in highwater.toml", |text| config(&format!("thresholds.relative = {text:?}"))),
            ("fit --failures", |text| option("fit", "--failures", text)),
            ("floor --precision", |text| option("floor", "--precision", text)),
            ("precision in a sweep file", |text| sweep("precision", text)),
        ],
    );
    insta::assert_snapshot!(table);
}

#[test]
fn durations_are_read_alike() {
    let table = table(
        include_str!("../../fixtures/values/durations.txt"),
        &[
            ("run --timeout", |text| option("run", "--timeout", text)),
            ("timeout in a sweep file", |text| sweep("timeout", text)),
            ("timeout in highwater.toml", |text| config(&format!("timeout = {text:?}"))),
        ],
    );
    insta::assert_snapshot!(table);
}

/// What each door says to each text; doors that say the same share a line.
fn table(texts: &str, doors: &[Door]) -> String {
    let mut table = String::new();
    for text in texts.lines() {
        writeln!(table, "{text:?}").unwrap();
        let mut said: Vec<(Vec<&str>, String)> = Vec::new();
        for (name, door) in doors {
            let answer = door(text);
            match said.iter_mut().find(|(_, known)| *known == answer) {
                Some((names, _)) => names.push(name),
                None => said.push((vec![name], answer)),
            }
        }
        for (names, answer) in said {
            let names = if names.len() == doors.len() { "everywhere".to_owned() } else { names.join(", ") };
            writeln!(table, "  {names}: {}", if answer.is_empty() { "accepted" } else { &answer }).unwrap();
        }
    }
    table
}

/// An option of the command line, in front of one that does not exist: the value is checked first.
fn option(command: &str, option: &str, text: &str) -> String {
    let mut highwater = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let ran = highwater.arg(command).arg(format!("{option}={text}")).arg("--no-such-option").output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    let line = stderr.lines().next().unwrap();
    line.split_once(">': ").map_or("", |(_, reason)| reason).to_owned()
}

fn sweep(name: &str, text: &str) -> String {
    SweepOptions::check_setting(name, &text.into()).err().map_or(String::new(), |error| error.message)
}

fn config(line: &str) -> String {
    first(Config::parse("highwater.toml", &format!("{line}\n[tasks.a]\ncommand = [\"true\"]\n")).err())
}

fn task(text: &str) -> String {
    let text = format!(
        r#"{{"name": "a", "image": "b", "taskTemplate": "c", "resources": {{"limits": {{"memory": {text:?}}}}}}}"#
    );
    first(Document::task(Source::plain("task.json", text)).err())
}

/// What a file's first problem says: what is expected, or what is wrong and what to write.
fn first(flawed: Option<Flawed>) -> String {
    let Some(problem) = flawed.and_then(|flawed| flawed.problems.into_iter().next()) else { return String::new() };
    match (problem.label, problem.help) {
        (Some(label), None) => label,
        (_, help) => format!("{}; {}", problem.message, help.unwrap_or_default()),
    }
}
