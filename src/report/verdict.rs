//! The verdict on a task, in one sentence.

use super::model::{Before, Extent, Level, RuleInUse, Score, TaskReport, Totals, Verdict};
use super::words::{self, UNKNOWN, count, times};

pub(super) fn none() -> Verdict {
    Verdict { level: Level::TooLittle, sentence: String::new() }
}

pub(super) fn judge(report: &TaskReport) -> Verdict {
    let level = level(report);
    let judged = report.rule_in_use.as_ref().filter(|rule| rule.score.runs > 0);
    let mut sentence = match judged {
        Some(rule) => on_rule(rule, level, report),
        None => on_peaks(report),
    };
    if let Some(before) = &report.before {
        sentence.push_str(&on_change(before));
    }
    sentence.push('.');
    Verdict { level, sentence }
}

fn level(report: &TaskReport) -> Level {
    let Some(rule) = report.rule_in_use.as_ref().filter(|rule| rule.score.runs > 0) else {
        let measured = report.totals.plain.count + report.totals.lower_bounds.count > 0;
        return if measured { Level::Measured } else { Level::TooLittle };
    };
    match rule.score {
        Score { too_low: 1.., .. } => Level::TooLow,
        Score { smallest_ratio, .. } if smallest_ratio < rule.thresholds.tight => Level::Tight,
        Score { mean_ratio, .. } if mean_ratio > rule.thresholds.wasteful => Level::Wasteful,
        Score { .. } => Level::Ok,
    }
}

fn on_rule(rule: &RuleInUse, level: Level, report: &TaskReport) -> String {
    let Score { runs, too_low, mean_ratio, smallest_ratio, .. } = rule.score;
    let rule = &rule.words;
    let mean = times(mean_ratio);
    let start = match level {
        Level::TooLow => format!(
            "The rule in use, {rule}, is too low for {too_low} of {}: at worst its limit is {} of the peak",
            count(runs, "run", "runs"),
            words::percent(smallest_ratio)
        ),
        Level::Tight => format!(
            "The rule in use, {rule}, covers all {}, but barely: the tightest limit is {} the peak",
            count(runs, "run", "runs"),
            times(smallest_ratio)
        ),
        Level::Wasteful => format!(
            "The rule in use, {rule}, covers all {} but wastes memory: on average its limit is {mean} the peak",
            count(runs, "run", "runs"),
        ),
        Level::Ok | Level::Measured | Level::TooLittle => format!(
            "The rule in use, {rule}, covers all {}; on average its limit is {mean} the peak",
            count(runs, "run", "runs")
        ),
    };
    let Some(fitted) = &report.fitted else { return start + &no_rule(report) };
    // A lower bound below a limit does not show whether the limit is enough, so the rules may be judged on other runs.
    let covers = match fitted.score {
        Score { runs: 0, .. } => return format!("{start}; the fitted rule is {}", fitted.words),
        Score { too_low: 0, runs: judged, .. } if judged == runs => "covers all of them".to_owned(),
        Score { too_low: 0, runs: judged, .. } => format!("covers all {judged} that show the need"),
        Score { too_low, runs: judged, .. } if judged == runs => format!("is too low for {too_low} of them"),
        Score { too_low, runs: judged, .. } => format!("is too low for {too_low} of {}", count(judged, "run", "runs")),
    };
    format!("{start}; the fitted rule, {}, {covers} at {} on average", fitted.words, times(fitted.score.mean_ratio))
}

fn on_peaks(report: &TaskReport) -> String {
    let (peaks, more) = match (report.totals.plain, report.totals.lower_bounds) {
        (Extent { count: 0, .. }, bounds @ Extent { count: 1.., .. }) => (bounds, " or more"),
        (plain, _) => (plain, ""),
    };
    let Some((least, most)) = peaks.ends else {
        let runs = count(report.totals.runs, "run", "runs");
        return format!("None of {runs} shows what {} needs: {}", report.name, without_peak(&report.totals));
    };
    let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
    let seen = format!("{} peaked at {range}{more} in {}", report.name, count(peaks.count, "run", "runs"));
    match &report.fitted {
        Some(fitted) if fitted.score.runs == 0 => format!("{seen}; the fitted rule is {}", fitted.words),
        Some(fitted) => format!(
            "{seen}; the fitted rule is {}, on average {} the peak",
            fitted.words,
            times(fitted.score.mean_ratio)
        ),
        None => seen + &no_rule(report),
    }
}

/// Why no run has a peak that shows the need.
fn without_peak(totals: &Totals) -> String {
    let failed = totals.failed_or_limited();
    let reasons = [
        (failed, "failed or reached a limit"),
        (totals.skipped, if totals.skipped == 1 { "was skipped" } else { "were skipped" }),
        (totals.unmeasured, if totals.unmeasured == 1 { "has no peak" } else { "have no peak" }),
    ];
    let reasons: Vec<(usize, &str)> = reasons.into_iter().filter(|(runs, _)| *runs > 0).collect();
    match reasons.as_slice() {
        [(1, reason)] => format!("it {reason}"),
        [(_, reason)] => format!("all {reason}"),
        several => several.iter().map(|(runs, reason)| format!("{runs} {reason}")).collect::<Vec<_>>().join(", "),
    }
}

fn no_rule(report: &TaskReport) -> String {
    report.not_fitted.as_ref().map(|reason| format!("; no rule was fitted ({reason})")).unwrap_or_default()
}

fn on_change(before: &Before) -> String {
    let ratios = || before.changes.iter().filter_map(|change| change.ratio);
    let (Some(least), Some(most)) = (ratios().min_by(f64::total_cmp), ratios().max_by(f64::total_cmp)) else {
        return "; no case of the earlier sweep can be compared".to_owned();
    };
    let rule = before.words.as_deref().unwrap_or(UNKNOWN);
    format!(
        "; since the earlier sweep (fitted: {rule}) medians changed by {} to {}",
        words::change(least),
        words::change(most)
    )
}
