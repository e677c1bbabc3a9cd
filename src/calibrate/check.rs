//! The gate: compares recorded runs with their allowances and with a baseline. Judging is pure: the same records, thresholds and
//! baseline give the same verdict.
//!
//! Memory is nearly deterministic, and that is where gates go wrong: one that uses multiples of the standard deviation
//! passes everything if no run differs from another, and one that uses distances between quartiles fails for a single
//! page. So growth has to exceed a relative *and* an absolute threshold, whatever the spread, and what the scatter of
//! runs explains if there is a spread. A cell has few runs, so the scatter is that of all cells of the task, and growth of
//! all of them together counts, too. And because a change from n to n² can leave every small input
//! unchanged, the fitted rules are compared too.
//!
//! A peak that is a lower bound can show that a task needs too much, but never that it does not: that takes an exact
//! peak or an upper bound. What neither shows is reported as not verified.

mod amount;
mod bench;
mod cells;
mod describe;
mod growth;
mod reach;
mod reference;
mod resource;
mod revision;
mod rule;
mod runs;
mod setup;

use std::collections::{BTreeMap, HashMap};

use crate::model::check::baseline::{Baseline, BaselineCell, BaselineHost, BaselineTask};
use crate::model::check::config::{Config, TaskConfig};
use crate::model::check::report::{
    Against, Allowed, AllowedBy, CellReport, Finding, Level, Reason, Report, Samples, TaskReport,
};
use crate::model::check::thresholds::{Reaction, Thresholds, Tolerance};
use crate::model::fit::Resource;
use crate::model::units::Bytes;

use cells::{CellRuns, Inexact, TaskRuns, differences};
use growth::{Change, Pair, Rounds, Scatter};
use reference::Reference;

pub use bench::{Bench, CheckOptions, Session};
pub use cells::{called, cell_name};
pub use revision::{Revision, remove_worktrees, set_up, with_inputs_from};
pub use runs::{Run, SortedRuns};
pub use setup::{GrowthOptions, Setup, SetupOptions};

/// The findings of a check so far, and what to run again before it reports them.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The findings.
    pub report: Report,
    /// Tasks and cells whose failure may be noise, to be run again.
    pub suspects: Vec<(String, String)>,
}

/// Judges the runs.
pub fn judge(config: &Config, baseline: Option<&Baseline>, runs: &SortedRuns) -> Judgement {
    judged(config, baseline, runs, Reference::Baseline)
}

/// Judges runs of the working tree by those of another revision.
pub fn judge_against(config: &Config, against: &Against, then: &SortedRuns, now: &SortedRuns) -> Judgement {
    let baseline = judge(config, None, then).report.baseline(None);
    let mut judgement = judged(config, Some(&baseline), now, Reference::Revision(against));
    judgement.report.against = Some(against.clone());
    judgement
}

/// Judges runs that a baseline was just made from: everything except whether they exceed it.
pub fn judge_baseline(config: &Config, baseline: &Baseline, runs: &SortedRuns) -> Report {
    judged(config, Some(baseline), runs, Reference::SameRuns).report
}

fn judged(config: &Config, baseline: Option<&Baseline>, sorted: &SortedRuns, reference: Reference<'_>) -> Judgement {
    let mut tasks = Vec::new();
    let mut suspects = Vec::new();
    let none = TaskRuns::default();
    for task in &config.tasks {
        let runs = sorted.tasks.get(&task.name).unwrap_or(&none);
        let then = baseline.and_then(|baseline| baseline.tasks.get(&task.name));
        let mut judge = Judge {
            task,
            thresholds: &task.thresholds,
            runs,
            host: runs.host(),
            then,
            tolerance: task.thresholds.tolerance(runs.error_bound()),
            scatter: runs.scatter(then),
            reference,
            findings: Vec::new(),
            suspects: Vec::new(),
        };
        tasks.push(judge.task());
        suspects.extend(judge.suspects.into_iter().map(|cell| (task.name.clone(), cell)));
    }
    suspects.sort();
    suspects.dedup();
    Judgement { report: Report::new(tasks), suspects }
}

/// Judges one task.
struct Judge<'a> {
    task: &'a TaskConfig,
    thresholds: &'a Thresholds,
    runs: &'a TaskRuns,
    host: Option<BaselineHost>,
    then: Option<&'a BaselineTask>,
    tolerance: Tolerance,
    scatter: Scatter,
    reference: Reference<'a>,
    findings: Vec<Finding>,
    suspects: Vec<String>,
}

impl Judge<'_> {
    fn task(&mut self) -> TaskReport {
        let none = BTreeMap::new();
        let then = self.then.map_or(&none, |then| &then.cells);
        let mut cells: Vec<CellReport> = Vec::new();
        for (name, runs) in &self.runs.cells {
            cells.push(self.cell(name, runs, then.get(name)));
        }
        for (name, then) in then.iter().filter(|(name, _)| !self.runs.cells.contains_key(*name)) {
            self.vanished(name, then);
            cells.push(CellReport {
                name: name.clone(),
                sizes: then.sizes.clone(),
                now: None,
                baseline: Some(then.samples.clone()),
                resources: self.resource_cells(None, Some(then)),
                allowed: None,
                failed_runs: 0,
                level: None,
                line: self.line_of(name),
            });
        }
        self.together();
        self.resources();
        self.host();
        self.baseline_missing(&cells);
        self.wasteful(&cells);
        let rule = rule::fitted(self.runs, &self.tolerance);
        let old = self.then.and_then(|then| then.rule.clone());
        if let Some(old) = old.as_ref().filter(|_| !self.is_same_runs()) {
            self.rule(old);
        }
        self.lower_bounds();
        let size = |cell: &CellReport| cell.sizes.iter().find(|(name, _)| name.ends_with(".sum")).map(|(_, n)| *n);
        // Cells of no file, such as those of records, by their sizes.
        cells.sort_by_key(|cell| (self.task.place_of(&cell.name), size(cell), cell.name.clone()));
        let places: HashMap<&str, usize> =
            cells.iter().enumerate().map(|(place, cell)| (cell.name.as_str(), place)).collect();
        let place = |finding: &Finding| finding.cell.as_ref().and_then(|cell| places.get(cell.as_str()).copied());
        self.findings.sort_by_key(|finding| (std::cmp::Reverse(finding.level), place(finding), finding.reason));
        let levels: Vec<_> = self.findings.iter().map(|it| (place(it), it.level)).collect();
        for (place, level) in levels {
            if let Some(cell) = place.and_then(|place| cells.get_mut(place)) {
                cell.level = cell.level.max(Some(level));
            }
        }
        TaskReport {
            name: self.task.name.clone(),
            cells,
            host: self.host.clone(),
            rule,
            baseline_rule: old,
            enough_for: self.enough_for(),
            findings: std::mem::take(&mut self.findings),
            line: self.task.line,
        }
    }

    fn is_same_runs(&self) -> bool {
        matches!(self.reference, Reference::SameRuns)
    }

    fn report(&mut self, level: Level, reason: Reason, cell: Option<&str>, message: String, remedy: impl Into<String>) {
        let (cell, remedy) = (cell.map(str::to_owned), remedy.into());
        let resource = Resource::Memory;
        self.findings.push(Finding { level, reason, resource, cell, message, remedy, stderr: None });
    }

    /// The line of the table of a cell.
    fn line_of(&self, cell: &str) -> Option<usize> {
        self.task.inputs.iter().find(|input| input.name == cell).and_then(|input| input.line)
    }

    fn cell(&mut self, name: &str, runs: &CellRuns, then: Option<&BaselineCell>) -> CellReport {
        self.failed_runs(name, runs);
        let now = runs.samples();
        if runs.censored > 0 {
            let message = format!("{} reached a limit, so the peak does not show the need", runs_words(runs.censored));
            let remedy = "raise the limit of the runs; a check itself sets none";
            self.report(Level::Warning, Reason::Censored, Some(name), message, remedy);
        }
        let allowed = runs.allowed(self.task, name);
        if let (Some(allowed), Some(now)) = (&allowed, &now) {
            self.hold_to(name, now, allowed, runs);
        }
        if let (Some(allowed), Some(least)) = (&allowed, runs.censored_at_least)
            && least > allowed.bytes
            && now.as_ref().is_none_or(|now| now.highest() <= allowed.bytes)
        {
            self.above_though_censored(name, least, allowed);
        }
        match (&now, then) {
            (Some(now), Some(then)) => self.compare(name, runs, now, then),
            (Some(now), None) if self.then.is_some() => self.new_cell(name, runs, now),
            (Some(_), None) => {}
            (None, _) if runs.failed.is_empty() => {
                let message = "no run has a usable peak".to_owned();
                self.report(Level::TooLittleData, Reason::TooFewSamples, Some(name), message, "run the check again");
            }
            (None, _) => {}
        }
        CellReport {
            name: name.to_owned(),
            sizes: runs.sizes.clone(),
            now,
            baseline: then.map(|then| then.samples.clone()),
            resources: self.resource_cells(Some(runs), then),
            allowed,
            failed_runs: runs.failed.len(),
            level: None,
            line: self.line_of(name),
        }
    }

    fn failed_runs(&mut self, name: &str, runs: &CellRuns) {
        let Some(first) = runs.failed.first() else { return };
        let count = runs.failed.len();
        let how = first.words();
        let message = match count {
            1 => format!("a run failed: {how}"),
            _ => format!("{count} runs failed, the first: {how}"),
        };
        self.report(Level::TaskFailure, Reason::RunFailed, Some(name), message, first.remedy());
        if let Some(finding) = self.findings.last_mut() {
            finding.stderr.clone_from(&runs.stderr);
        }
    }

    /// Checks a cell against its allowance: a lower bound within it proves nothing, an upper bound does.
    fn hold_to(&mut self, name: &str, now: &Samples, allowed: &Allowed, runs: &CellRuns) {
        let (reason, what) = kind_of(allowed);
        let highest = now.highest();
        if highest > allowed.bytes {
            let over = highest.saturating_sub(allowed.bytes);
            let noise = match runs.error_bound {
                noise if now.is_exact() && over <= noise => format!("; the kernel may count up to {noise} too much"),
                _ => String::new(),
            };
            let message = match now.samples().last() {
                Some(last) if !last.is_exact() => {
                    format!("the peak of at least {highest} exceeds {what} by at least {over}")
                }
                Some(_) | None => format!("the peak of {highest} exceeds {what} by {over}{noise}"),
            };
            self.report(Level::Failure, reason, Some(name), message, above_remedy(&allowed.by));
            return;
        }
        let most = now.highest_case().map(|most| most.highest());
        if let Some(Inexact { reason, remedy }) = &runs.inexact
            && most.is_none_or(|most| most > allowed.bytes)
        {
            let most = most.map_or_else(String::new, |most| format!(" and at most {most}"));
            let message = format!("the peak may exceed {what}: it is at least {highest}{most} ({reason})");
            self.not_verified(Reason::NotVerified, Some(name), message, remedy);
        }
        if runs.unmeasured > 0 {
            let message =
                format!("the peak may exceed {what}: it could not be read in {}", runs_words(runs.unmeasured));
            self.not_verified(Reason::NotVerified, Some(name), message, "run the check again");
        }
    }

    /// Fails a censored run that nevertheless held more memory than allowed.
    fn above_though_censored(&mut self, name: &str, least: Bytes, allowed: &Allowed) {
        let (reason, what) = kind_of(allowed);
        let over = least.saturating_sub(allowed.bytes);
        let message =
            format!("the peak of at least {least} in a run that reached a limit exceeds {what} by at least {over}");
        self.report(Level::Failure, reason, Some(name), message, above_remedy(&allowed.by));
    }

    /// Reports something that lower bounds neither show nor exclude; `remedy` is what would show it.
    fn not_verified(&mut self, reason: Reason, cell: Option<&str>, message: String, remedy: &str) {
        let level = match self.thresholds.not_verified {
            Reaction::Fail => Level::NotVerified,
            Reaction::Warn => Level::Warning,
            Reaction::Ignore => return,
        };
        let only_warn = "; set `thresholds.not-verified = \"warn\"` to make this a warning";
        let remedy = if level == Level::NotVerified { format!("{remedy}{only_warn}") } else { remedy.to_owned() };
        self.report(level, reason, cell, message, remedy);
    }

    /// Whether there are enough runs on both sides to compare them.
    fn is_enough(&mut self, name: &str, now: &Samples, then: Option<&Samples>) -> bool {
        let least = self.thresholds.min_samples;
        let (whose, have, remedy) = match then {
            _ if now.peaks.len() < least => ("now".to_owned(), now.peaks.len(), "raise `runs`, or lower `min-samples`"),
            Some(then) if then.peaks.len() < least => {
                let remedy = match self.reference {
                    Reference::Revision(_) => "raise `runs`, or lower `min-samples`",
                    Reference::Baseline | Reference::SameRuns => {
                        "recreate the baseline from more runs: `highwater check --update-baseline`"
                    }
                };
                (format!("in {}", self.reference.name()), then.peaks.len(), remedy)
            }
            _ => return true,
        };
        let message = format!("{} {whose}, expected at least {least}", runs_words(have));
        self.report(Level::TooLittleData, Reason::TooFewSamples, Some(name), message, remedy);
        false
    }

    fn compare(&mut self, name: &str, runs: &CellRuns, now: &Samples, then: &BaselineCell) {
        if !then.sizes.is_empty() && runs.sizes != then.sizes {
            let message = format!("the input has changed: {}", differences(&then.sizes, &runs.sizes));
            let remedy = match self.reference {
                Reference::Revision(_) => "give both revisions the same input, by `path` or `channels`",
                Reference::Baseline | Reference::SameRuns => {
                    "restore the input, or recreate the baseline; until then, only the rule of the baseline is compared"
                }
            };
            self.report(Level::Warning, Reason::InputChanged, Some(name), message, remedy);
            self.against_rule(name, runs, now);
            return;
        }
        if !self.is_enough(name, now, Some(&then.samples)) {
            return;
        }
        if self.is_same_runs() {
            return;
        }
        let then = &then.samples;
        match growth::change(then, &runs.rounds, &self.tolerance, self.scatter) {
            Change::Grown => {
                self.suspects.push(name.to_owned());
                let message = format!("the peak has grown{}", from_to(then, now, self.reference));
                let remedy = self.growth_remedy();
                self.report(Level::Failure, Reason::Growth, Some(name), message, remedy);
            }
            Change::Shrunk => {
                let message = format!("the peak has shrunk{}", from_to(then, now, self.reference));
                let remedy = match self.reference {
                    Reference::Revision(_) => "limits derived from it can be lowered",
                    Reference::Baseline | Reference::SameRuns => {
                        "commit a new baseline to keep the gain: `highwater check --update-baseline`; limits derived \
                         from it can be lowered, too"
                    }
                };
                self.report(Level::Notice, Reason::NeedsLess, Some(name), message, remedy);
            }
            Change::NotVerified => {
                let (now, then) = (now.words(), then.words());
                let message = format!("the peak may have grown: {now} now, {then} in {}", self.reference.name());
                self.growth_not_verified(name, &message, runs);
            }
            Change::None => {}
        }
    }

    /// Compares all cells of the task together, which shows growth that is within the noise of each.
    fn together(&mut self) {
        let Some(then) = self.then.filter(|_| !self.is_same_runs()) else { return };
        let least = self.thresholds.min_samples;
        let comparable = |(name, runs): (&String, &CellRuns)| {
            let (then, now) = (then.cells.get(name)?, runs.samples()?);
            let same = then.sizes.is_empty() || then.sizes == runs.sizes;
            let exact = then.samples.is_exact() && now.is_exact();
            let enough = then.samples.peaks.len().min(now.peaks.len()) >= least;
            let pair = Pair { then: &then.samples, now: Rounds::lowest_case(&runs.rounds) };
            (same && exact && enough).then(|| (name.clone(), pair))
        };
        let (names, pairs): (Vec<String>, Vec<Pair<'_>>) = self.runs.cells.iter().filter_map(comparable).unzip();
        let relative = self.thresholds.relative;
        let Some(growth) = growth::growth_together(&pairs, relative, &self.tolerance, self.scatter) else { return };
        let is_told = self.findings.iter().any(|finding| finding.reason == Reason::Growth);
        self.suspects.extend(names);
        if !is_told {
            let (growth, cells) = (100.0 * growth, pairs.len());
            let message = format!("the peaks have grown by {growth:.1} % on average over {cells} cells");
            let remedy = self.growth_remedy();
            self.report(Level::Failure, Reason::Growth, None, message, remedy);
        }
    }

    fn growth_remedy(&self) -> String {
        self.reference.or_update("check what the change keeps in memory", "if it is intended, ")
    }

    fn growth_not_verified(&mut self, name: &str, message: &str, runs: &CellRuns) {
        let (reason, remedy) = match &runs.inexact {
            Some(Inexact { reason, remedy }) => (reason.as_str(), remedy.as_str()),
            None => (
                "the baseline has lower bounds",
                "recreate the baseline where peaks are exact: `highwater check --update-baseline`",
            ),
        };
        let message = format!("{message} ({reason})");
        self.not_verified(Reason::GrowthNotVerified, Some(name), message, remedy);
    }

    fn new_cell(&mut self, name: &str, runs: &CellRuns, now: &Samples) {
        let (message, remedy) = match self.reference {
            Reference::Revision(against) => (
                format!("no run of it succeeded in {}, so growth cannot be detected", against.name()),
                "make it run there as well, or compare with another revision".to_owned(),
            ),
            Reference::Baseline | Reference::SameRuns => (
                "new cell: it is not in the baseline, so growth cannot be detected".to_owned(),
                "add it to the baseline: `highwater check --update-baseline`".to_owned(),
            ),
        };
        match self.thresholds.new {
            Reaction::Fail => self.report(Level::Failure, Reason::NewCell, Some(name), message, remedy),
            Reaction::Warn => self.report(Level::Warning, Reason::NewCell, Some(name), message, remedy),
            Reaction::Ignore => {}
        }
        self.against_rule(name, runs, now);
    }

    /// Compares a cell that has no other reference with the rule of the baseline.
    fn against_rule(&mut self, name: &str, runs: &CellRuns, now: &Samples) {
        let Some(rule) = self.then.and_then(|then| then.rule.as_ref()) else { return };
        let Some(n) = runs.sizes.get(&rule.predictor) else { return };
        let foretold = rule.typical.limit(*n);
        let slack = Bytes((foretold.0 as f64 * rule.deviation) as u64).max(self.tolerance.around(foretold));
        let covered = foretold.saturating_add(slack);
        if now.highest_case().is_some_and(|most| most.median <= covered) || !self.is_enough(name, now, None) {
            return;
        }
        let by_rule =
            format!("{} predicts {foretold} for an input of {n}, but the peak is {}", rule.words(), now.words());
        if now.median <= covered {
            let message = format!("the rule of {} may no longer cover its runs: {by_rule}", self.reference.name());
            self.growth_not_verified(name, &message, runs);
            return;
        }
        self.suspects.push(name.to_owned());
        let message = format!("the rule of {} no longer covers its runs: {by_rule}", self.reference.name());
        let refit = "if it is intended, refit the rule with `highwater fit` and ";
        let remedy = self.reference.or_update("check what the change keeps in memory", refit);
        self.report(Level::Failure, Reason::RuleUncovered, Some(name), message, remedy);
    }

    fn vanished(&mut self, name: &str, then: &BaselineCell) {
        let message = format!("the cell is in the baseline, with {}, but did not run", then.samples.median);
        let remedy = "restore the input; if it was removed on purpose, commit a new baseline: `highwater check \
                      --update-baseline`, or set `thresholds.vanished = \"warn\"`";
        match self.thresholds.vanished {
            Reaction::Fail => self.report(Level::Failure, Reason::VanishedCell, Some(name), message, remedy),
            Reaction::Warn => self.report(Level::Warning, Reason::VanishedCell, Some(name), message, remedy),
            Reaction::Ignore => {}
        }
    }

    fn host(&mut self) {
        let Some(now) = &self.host else { return };
        if let Some(then) = self.then {
            let differences = then.host.differences(now);
            if !differences.is_empty() {
                let message = format!("the baseline was made on a different host: {}", differences.join("; "));
                let remedy = "run the check on the baseline's host, or make a baseline for this host; --strict-host \
                              turns this into an error";
                self.report(Level::Warning, Reason::OtherHost, None, message, remedy);
            }
        }
    }

    /// Reports lower bounds, unless another finding already does.
    fn lower_bounds(&mut self) {
        let told = |it: &Finding| matches!(it.reason, Reason::NotVerified | Reason::GrowthNotVerified);
        let verified = |cell: &CellRuns| cell.samples().is_none_or(|samples| samples.highest_case().is_some());
        let inexact = self.runs.cells.values().filter(|cell| !verified(cell)).find_map(|cell| cell.inexact.as_ref());
        if let Some(Inexact { reason, remedy }) = inexact
            && self.thresholds.not_verified != Reaction::Ignore
            && !self.findings.iter().any(told)
        {
            let message = format!("the peaks are lower bounds; the task may need more ({reason})");
            self.report(Level::Warning, Reason::LowerBound, None, message, remedy.clone());
        }
    }

    fn baseline_missing(&mut self, cells: &[CellReport]) {
        if cells.is_empty() {
            let message = "the task has no runs".to_owned();
            self.report(
                Level::TooLittleData,
                Reason::TooFewSamples,
                None,
                message,
                "run the task, or give its records",
            );
            return;
        }
        if let (Reference::Revision(against), Some(then)) = (self.reference, self.then)
            && then.cells.is_empty()
        {
            let message = format!("no run succeeded in {}, so growth was not checked", against.name());
            let remedy = "make the task run there, such as by a build in `setup`, or compare with another revision";
            self.report(Level::TooLittleData, Reason::NoBaseline, None, message, remedy);
        }
        if self.then.is_some() || cells.iter().all(|cell| cell.now.is_none()) {
            return;
        }
        let update = "create one with `highwater check --update-baseline` and commit it";
        if cells.iter().any(|cell| cell.allowed.is_none()) {
            let message = "the task has neither a baseline nor a budget, limit or rule".to_owned();
            self.report(Level::TooLittleData, Reason::NoBaseline, None, message, update);
            return;
        }
        let message = "the task has no baseline: growth was not checked, only its budgets, limits and rules".to_owned();
        let ignore = "to check only these, set `thresholds.no-baseline = \"ignore\"`";
        match self.thresholds.no_baseline {
            Reaction::Fail => {
                self.report(Level::TooLittleData, Reason::NoBaseline, None, message, format!("{update}; {ignore}"));
            }
            Reaction::Warn => self.report(Level::Warning, Reason::NoBaseline, None, message, update),
            Reaction::Ignore => {}
        }
    }

    /// Reports a limit far above every cell. Lower bounds cannot show that.
    fn wasteful(&mut self, cells: &[CellReport]) {
        let ratio = |cell: &CellReport| {
            let (allowed, now) = (cell.allowed.as_ref()?, cell.now.as_ref()?.highest_case()?);
            Some((allowed.bytes.ratio(now.highest())?, allowed.clone(), now.highest(), cell.name.clone()))
        };
        let ratios: Option<Vec<_>> = cells.iter().filter(|cell| cell.now.is_some()).map(ratio).collect();
        let Some((ratio, allowed, highest, cell)) = ratios.into_iter().flatten().min_by(|a, b| a.0.total_cmp(&b.0))
        else {
            return;
        };
        if ratio <= self.thresholds.wasteful {
            return;
        }
        let what = match &allowed.by {
            AllowedBy::Budget => "the budget",
            AllowedBy::Limit => "the limit",
            AllowedBy::Rule { .. } => "the limit of the rule",
        };
        let message = format!(
            "{what} could be lowered: even the largest, {cell}, needs at most {highest} of {} ({ratio:.1} times)",
            allowed.bytes
        );
        let remedy = "fit a rule to the runs with `highwater fit`";
        self.report(Level::Notice, Reason::LimitWasteful, None, message, remedy);
    }
}

fn runs_words(count: usize) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}

/// The reason for exceeding an allowance, and its description.
fn kind_of(allowed: &Allowed) -> (Reason, String) {
    match &allowed.by {
        AllowedBy::Budget => (Reason::AboveBudget, format!("the budget of {}", allowed.bytes)),
        AllowedBy::Limit => (Reason::AboveLimit, format!("the limit of {}", allowed.bytes)),
        AllowedBy::Rule { rule } => {
            (Reason::RuleUncovered, format!("the limit of {} from the rule {rule}", allowed.bytes))
        }
    }
}

fn above_remedy(by: &AllowedBy) -> &'static str {
    match by {
        AllowedBy::Budget => "reduce the memory of the task, or raise `budget` in highwater.toml",
        AllowedBy::Limit => {
            "reduce the memory of the task, or raise `resources.limits.memory`; otherwise the platform kills it"
        }
        AllowedBy::Rule { .. } => {
            "reduce the memory of the task, or refit the rule with `highwater fit`; otherwise the platform kills it"
        }
    }
}

/// Formats ` from 100 MiB to 108 MiB (+8 MiB, +8.0 %)`; lower bounds without the difference.
fn from_to(then: &Samples, now: &Samples, reference: Reference<'_>) -> String {
    if !then.is_exact() || !now.is_exact() {
        return format!(": {} now, {} in {}", now.words(), then.words(), reference.name());
    }
    let (then, now) = (then.median, now.median);
    let (sign, difference) =
        if now >= then { ('+', now.saturating_sub(then)) } else { ('−', then.saturating_sub(now)) };
    let share =
        now.ratio(then).map_or_else(String::new, |ratio| format!(", {sign}{:.1} %", 100.0 * (ratio - 1.0).abs()));
    format!(" from {then} to {now} ({sign}{difference}{share})")
}

#[cfg(test)]
mod tests;
