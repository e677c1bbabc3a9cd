//! What to do about the verdict on a task.

use std::path::Path;

use super::model::{Advice, Level, Report, TaskReport};
use super::words::{count, shell};
use crate::model::registry::Registry;
use crate::model::units::Bytes;

/// Stands for the path of the records in commands.
const RECORDS: &str = "RECORDS";

impl Report {
    /// The report with this path of the records in its commands.
    #[must_use]
    pub fn with_records(mut self, path: &str) -> Self {
        // An option would begin like this.
        let path = if path.starts_with('-') { format!("./{path}") } else { path.to_owned() };
        let path = shell(&path);
        for command in self.tasks.iter_mut().flat_map(|task| &mut task.advice).filter_map(|one| one.command.as_mut()) {
            *command = command.replacen(RECORDS, &path, 1);
        }
        self
    }
}

/// Of several tasks in the records, each command names its own.
pub(super) fn name_tasks(report: &mut Report) {
    if report.tasks.len() < 2 {
        return;
    }
    for task in &mut report.tasks {
        let option = format!(" --task {}", shell(&task.name));
        for command in task.advice.iter_mut().filter_map(|one| one.command.as_mut()) {
            if command.starts_with("highwater fit ") && !command.starts_with("highwater fit --all ") {
                command.push_str(&option);
            }
        }
    }
}

/// What to do, most important first. `file` is the file with the rule, if known.
pub(super) fn advise(task: &TaskReport, file: Option<&str>) -> Vec<Advice> {
    let mut advice = Vec::new();
    let mut add = |text: String, command: Option<String>| advice.push(Advice { text, command });
    if task.verdict.level == Level::TooLittle {
        let totals = &task.totals;
        match totals.failed_or_limited() {
            0 if totals.skipped > 0 => add("Run the task on inputs that give it something to do.".to_owned(), None),
            0 => add("Measure the task with highwater: its runs have no peaks.".to_owned(), None),
            failed => add(
                format!(
                    "Find out why {} failed or reached a limit, and run the task again:",
                    count(failed, "run", "runs")
                ),
                Some(format!("highwater logs {RECORDS}")),
            ),
        }
        return advice;
    }
    let Some(fitted) = &task.fitted else {
        let sweep = if task.provenance.is_task {
            "highwater sweep task.json --items 1,2,4,8 -r 3"
        } else {
            "highwater sweep --size 64MiB,256MiB,1GiB -r 3 -- COMMAND {input}"
        };
        add(
            "Measure inputs of at least three different sizes, so that a rule can be fitted:".to_owned(),
            Some(sweep.to_owned()),
        );
        return advice;
    };
    if fitted.found.lower_bound {
        let remedy = task.measured.iter().find_map(|way| way.remedy.as_ref());
        let remedy = remedy.map(|remedy| format!(" To get them: {remedy}.")).unwrap_or_default();
        add(format!("Measure exact peaks, because the fitted rule may be too low.{remedy}"), None);
        return advice;
    }
    let write = || {
        // The containers of a registry run several tasks.
        let all = if file.is_some_and(|file| Registry::is_at(Path::new(file))) { "--all " } else { "" };
        Some(format!("highwater fit {all}{RECORDS} --write {}", file.map_or("task.json".to_owned(), shell)))
    };
    let rule = &fitted.words;
    let in_use = task.rule_in_use.as_ref().filter(|rule| rule.score.runs > 0).map(|rule| rule.score);
    match (task.verdict.level, in_use) {
        (Level::TooLow, _) => add(format!("Replace the rule with the fitted one, {rule}:"), write()),
        (Level::Tight, Some(score)) if fitted.score.smallest_ratio > score.smallest_ratio => {
            add(format!("For more headroom, replace the rule with the fitted one, {rule}:"), write());
        }
        (Level::Wasteful, Some(score)) if fitted.score.runs > 0 && fitted.score.mean_ratio < score.mean_ratio => {
            add(format!("To save memory, replace the rule with the fitted one, {rule}:"), write());
        }
        (Level::Measured, _) if task.provenance.is_task => {
            add(format!("Declare the fitted rule, {rule}:"), write());
        }
        (Level::Measured, _) => {
            let (what, largest) = match task.parameter {
                Some(_) => ("the largest value measured", fitted.found.largest.0.to_string()),
                None => ("an input as large as the largest one measured", option(fitted.found.largest)),
            };
            add(
                format!("Limit further runs by the fitted rule. For {what}:"),
                Some(format!("highwater fit {RECORDS} --for-size {largest}")),
            );
        }
        (Level::Ok | Level::Tight | Level::Wasteful | Level::TooLittle, _) => {
            add(
                "Keep the rule, and check in CI that the task does not outgrow it:".to_owned(),
                file.is_none().then(|| "highwater init task.json".to_owned()),
            );
        }
    }
    advice
}

/// An amount as an argument.
fn option(bytes: Bytes) -> String {
    bytes.to_string().replace(' ', "")
}
