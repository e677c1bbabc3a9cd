//! The result of a fit as text and tables.

use std::fmt::Write;

use highwater::calibrate::fit::{Backtest, Calibration, Fit, ForSize, Group, Target, Warning};
use highwater::model::fit::{FittedRule, Form};
use highwater::model::units::Bytes;
use highwater::report::emit::snippet;

use crate::cli::output;
use crate::cli::summary::push_row;
use crate::cli::table::{paragraph, printable, table};

/// Renders one task in full, several as a table.
pub(super) fn render(fitted: &[(&Group, Calibration)], against: Option<&FittedRule>) -> String {
    match fitted {
        [(group, only)] => one(group, only, against),
        several => overview(several, against),
    }
}

fn overview(fitted: &[(&Group, Calibration)], against: Option<&FittedRule>) -> String {
    let rows = fitted.iter().map(|(group, Calibration { fit, effective, .. })| {
        vec![
            group.name().unwrap_or_default(),
            format!("{}{}", at_least(fit), rule_of(group, effective)),
            fit.inputs.distinct.to_string(),
            format!("{:.2}", fit.held_out.mean_ratio),
            format!("{:.0}", fit.held_out.failures_per_1000),
            format!("{:.0} %", (100.0 * fit.headroom.content).floor()),
        ]
    });
    let header = ["task", "rule", ">inputs", ">limit/peak", ">failures/1000", ">coverage"];
    let mut text = table(&header, rows.collect());
    text.push('\n');
    text.push_str(&paragraph("limit/peak and failures/1000: on held-out inputs, which the rule was not fitted to"));
    text.push_str(&paragraph("coverage: at least this share of further inputs fits, with 95 % confidence"));
    let notes = fitted.iter().flat_map(|(group, result)| {
        let name = group.name().unwrap_or_default();
        // Columns say the same.
        let in_columns = |one: &&Warning| matches!(one, Warning::FewInputs { .. } | Warning::MoreFailures { .. });
        let warnings = result.fit.warnings.iter().filter(move |one| !in_columns(one));
        warnings.map(move |warning| paragraph(&format!("{name}: {}", group.describe_warning(warning))))
    });
    let notes: String = notes.collect();
    if !notes.is_empty() {
        text.push_str(&format!("\nwarnings:\n{notes}"));
    }
    if against.is_some() || fitted.iter().any(|(_, result)| result.declared.is_some()) {
        let rows = fitted.iter().flat_map(|(group, result)| compared(group, result, against));
        text.push('\n');
        text.push_str(&table(&COMPARED, rows.collect()));
    }
    let amounts = fitted.iter().flat_map(|(group, result)| {
        let amount = |ForSize { n, limit, request }: &ForSize| {
            vec![group.name().unwrap_or_default(), group.describe_n(*n), limit.to_string(), request.to_string()]
        };
        result.for_sizes.iter().map(amount)
    });
    let amounts: Vec<Vec<String>> = amounts.collect();
    if !amounts.is_empty() {
        text.push('\n');
        text.push_str(&table(&["task", ">input of", ">limit", ">request"], amounts));
    }
    text
}

fn one(group: &Group, fitted: &Calibration, against: Option<&FittedRule>) -> String {
    let Calibration { fit, effective, target, .. } = fitted;
    let mut rows: Vec<(&str, String)> = Vec::new();
    rows.extend(group.name().map(|name| ("task", name)));
    match &group.parameter {
        Some(parameter) => {
            let (need, cover) = (fit.request.over_a_parameter(), fit.rule.over_a_parameter());
            rows.push((
                "need",
                format!("need = {}{need}   typically, where n is the {}", at_least(fit), fit.predictor),
            ));
            rows.push(("cover", format!("{}{cover}   with headroom, see below", at_least(fit))));
            rows.push(("", format!("a rule of the Task API cannot be written from a parameter ({parameter})")));
        }
        None => {
            rows.push(("limit", format!("{}{}   where n is {}", at_least(fit), fit.rule.readable(), fit.predictor)));
            rows.push(("request", request(fitted)));
        }
    }
    for also in &fit.other_channels {
        let growth = also.complexity();
        rows.push(("", format!("or {growth}, whichever is larger   where n is {}", also.predictor)));
    }
    if *target == Target::Kubernetes {
        rows.push(("effective", format!("{}   including the platform's margin of 1.1", effective.readable())));
    }
    rows.extend(exceeded(fit).map(|text| ("", text)));
    rows.push(("reach", reach(group, fit)));
    rows.push(("because", because(group, fit)));
    rows.push(("fitted to", inputs(group, fit)));
    rows.push(("evidence", evidence(group, fit)));
    rows.push(("held out", held_out(fit)));
    rows.push(("headroom", headroom(group, fit)));
    for ForSize { n, limit, request } in &fitted.for_sizes {
        let input = match &group.parameter {
            Some(parameter) => format!("{parameter} = {}", n.0),
            None => format!("input of {n}"),
        };
        rows.push(("", format!("{input}: limit {limit}, request {request}")));
    }
    let what = if group.recorded { "record" } else { "line" };
    for outlier in fit.outliers.iter().take(5) {
        let place = group.lines.get(outlier.run).map_or_else(String::new, |line| format!("{what} {line}: "));
        let n = match &group.parameter {
            Some(parameter) => format!("{parameter} = {}", outlier.n.0),
            None => format!("an input of {}", outlier.n),
        };
        let text = format!("{place}{} for {n}, typical: {}", outlier.peak, outlier.typical);
        rows.push(("outlier", text));
    }
    if let more @ 1.. = fit.outliers.len().saturating_sub(5) {
        rows.push(("", format!("and {more} more; outliers are fitted like other runs")));
    }
    rows.extend(fit.warnings.iter().map(|warning| ("warning", group.describe_warning(warning))));
    let width = output::width_of_stdout().map_or(100, usize::from);
    let mut text = String::new();
    for (name, value) in rows {
        push_row(&mut text, name, &printable(&value), width);
    }
    text.push('\n');
    text.push_str(&table(&COMPARED, compared(group, fitted, against)));
    text.push_str(&paragraph(
        "waste: memory reserved in vain times its time, in gigabyte hours (GBh); held out: inputs that the rule was not \
         fitted to",
    ));
    if let Some(documented) = &fitted.documented {
        text.push('\n');
        text.push_str(&paragraph("for task.json or processing-container.json (--write inserts it):"));
        text.push_str(&snippet(documented));
    }
    text
}

fn rule_of(group: &Group, rule: &FittedRule) -> String {
    if group.parameter.is_some() { rule.over_a_parameter() } else { rule.readable() }
}

/// Marks a rule that was fitted to lower bounds.
fn at_least(fit: &Fit) -> &'static str {
    if fit.lower_bound { "at least " } else { "" }
}

/// How many of the measured inputs the limit does not cover.
fn exceeded(fit: &Fit) -> Option<String> {
    let (exceeded, inputs) = (fit.headroom.exceeded, fit.headroom.inputs);
    let text = format!(
        "{exceeded} of {inputs} measured inputs need more than this limit and would be retried; --objective safe covers them"
    );
    (exceeded > 0).then_some(text)
}

/// The request as it is written: a document of the Task API has the same for every run.
fn request(fitted: &Calibration) -> String {
    let typical = fitted.fit.request;
    let at_least = at_least(&fitted.fit);
    match fitted.documented.as_ref().and_then(|documented| documented.request.as_ref()) {
        Some(fixed) if typical.exponent > 0 => {
            let fixed = fixed.parse().map_or_else(|_| fixed.clone(), |bytes: Bytes| bytes.to_string());
            format!("{at_least}{fixed} for every run; a typical one needs {}", typical.readable())
        }
        Some(_) | None => format!("{at_least}{}", typical.readable()),
    }
}

fn reach(group: &Group, fit: &Fit) -> String {
    let Some(reach) = fit.enough_for else { return "unknown".to_owned() };
    let what = if group.parameter.is_some() { "values" } else { "inputs" };
    let [limit, largest] = [reach.limit, fit.inputs.largest].map(|n| group.describe_n(n));
    match reach.all_judged {
        true => format!("enough for {what} up to {limit}, 4 times the largest measured, or more"),
        false if reach.limit > fit.inputs.largest => {
            format!("enough for {what} up to {limit}; the largest measured is {largest}")
        }
        false => format!("enough for {what} up to {limit}"),
    }
}

/// Why the rule is what it is.
fn because(group: &Group, fit: &Fit) -> String {
    let at_largest = FittedRule { base_bytes: Bytes::ZERO, ..fit.rule }.limit(fit.inputs.largest);
    let is_flat = at_largest <= fit.rule.base_bytes && fit.evidence.growth_gain.is_none_or(|gain| gain < 0.05);
    let mut text = match (&fit.need, fit.rule.form, fit.rule.exponent) {
        (Some(need), _, _) => format!(
            "a run needs {need}; a rule of the Task API cannot add the two, so this one covers the sum and gives some \
             inputs more"
        ),
        (None, _, 0) => "a constant describes held-out runs best".to_owned(),
        (None, _, _) if group.parameter.is_some() => "base plus growth describes held-out values best".to_owned(),
        (None, Form::Sum, _) => "base plus growth describes held-out inputs best".to_owned(),
        (None, Form::Max, _) if is_flat && fit.other_channels.is_empty() => {
            "a constant describes held-out inputs best; but larger inputs tended to need more, so beyond those \
             measured the limit grows with n"
                .to_owned()
        }
        (None, Form::Max, _) => "the larger of base and growth describes held-out inputs best".to_owned(),
    };
    let margin = format!("{:.2}", fit.margin);
    let reason = match margin.as_str() {
        "1.00" => None,
        _ if fit.margin > 1.0 => Some("held-out runs needed more than those fitted"),
        _ => Some("an occasional retry costs less than reserving for every run"),
    };
    text.extend(reason.map(|reason| format!("; margin {margin}, because {reason}")));
    text
}

fn inputs(group: &Group, fit: &Fit) -> String {
    let inputs = &fit.inputs;
    let distinct = if group.parameter.is_some() { "values" } else { "distinct inputs" };
    let [smallest, largest] = [inputs.smallest, inputs.largest].map(|n| group.describe_n(n));
    let mut text = format!("{} runs, {} {distinct}, {smallest} to {largest}", inputs.runs, inputs.distinct);
    if inputs.limit_reached > 0 {
        let _ = write!(text, "; {} censored (reached their limit), not used", inputs.limit_reached);
    }
    if inputs.oom_killed > 0 {
        let _ = write!(text, "; {} out of memory, used as lower bounds", inputs.oom_killed);
    }
    if inputs.sampled > 0 {
        let _ = write!(text, "; {} with a lower bound as peak", inputs.sampled);
    }
    text
}

fn evidence(group: &Group, fit: &Fit) -> String {
    let unit = if group.parameter.is_some() { "n" } else { "byte of input" };
    let slope = match fit.evidence.slope {
        Some(slope) => format!(
            "{} bytes of memory per {unit}, {} to {} with 95 % confidence",
            short(slope.estimate),
            short(slope.low),
            short(slope.high)
        ),
        None => "all inputs have the same size".to_owned(),
    };
    let gain = match fit.evidence.growth_gain {
        Some(gain) if gain >= 0.0 => {
            format!("growth costs {:.0} % less than a constant on held-out inputs", 100.0 * gain)
        }
        Some(gain) => format!("growth costs {:.0} % more than a constant on held-out inputs", -100.0 * gain),
        None => "growth could not be evaluated".to_owned(),
    };
    let is_flat = fit.evidence.slope.is_none_or(|slope| slope.low <= 0.0);
    let verdict = if fit.rule.exponent == 0 && is_flat { "no usable relation, constant only: " } else { "" };
    let seen = if fit.lower_bound { "from lower bounds of the peaks: " } else { "" };
    format!("{seen}{verdict}{slope}; {gain}")
}

/// Three significant digits.
fn short(number: f64) -> String {
    let magnitude = number.abs().log10().floor();
    if number == 0.0 || !magnitude.is_finite() {
        return "0".to_owned();
    }
    if (-3.0..5.0).contains(&magnitude) {
        let digits = (2.0 - magnitude).max(0.0) as usize;
        format!("{number:.digits$}")
    } else {
        format!("{number:.2e}")
    }
}

fn held_out(fit: &Fit) -> String {
    let held_out = &fit.held_out;
    let seen = if fit.lower_bound { "from lower bounds of the peaks: " } else { "" };
    format!(
        "{seen}limit/peak {:.2} on average ({:.2} to {:.2}); of 1000 further runs about {:.0} fail at first; waste {:.1} % \
         of the memory needed",
        held_out.mean_ratio,
        held_out.smallest_ratio,
        held_out.largest_ratio,
        held_out.failures_per_1000,
        100.0 * held_out.waste_share
    )
}

fn headroom(group: &Group, fit: &Fit) -> String {
    let headroom = &fit.headroom;
    let above = match headroom.exceeded {
        0 => "all below the rule".to_owned(),
        above => format!("{above} above the rule"),
    };
    if fit.lower_bound {
        return format!("unknown from lower bounds: 95 % needs {} inputs with exact peaks", headroom.more_needed);
    }
    let mut text = format!(
        "{} inputs, {above}: at least {:.0} % of further inputs of {} to {} fit, with 95 % confidence",
        headroom.inputs,
        (100.0 * headroom.content).floor(),
        group.describe_n(fit.inputs.smallest),
        group.describe_n(fit.inputs.largest)
    );
    if headroom.more_needed > 0 {
        let _ = write!(text, "; 95 % needs {} more", headroom.more_needed);
    }
    let factors: Vec<String> = headroom
        .conformal
        .iter()
        .filter_map(|one| one.factor.map(|factor| format!("{:.2} × the rule ({:.0} %)", factor, 100.0 * one.content)))
        .collect();
    if !factors.is_empty() {
        let _ = write!(text, "; the next input needs at most {}", factors.join(", "));
    }
    text
}

const COMPARED: [&str; 6] = ["on the recorded runs", ">waste", ">failures/1000", ">limit/peak mean", ">min", ">max"];

/// Compares the old rules, if any, with the new one, and with the new one on held-out inputs.
fn compared(group: &Group, fitted: &Calibration, against: Option<&FittedRule>) -> Vec<Vec<String>> {
    let declared = group.declared.as_ref().zip(fitted.declared.as_ref());
    let old = declared.map(|(rules, result)| ("declared", rules.words.clone(), *result));
    let other = against.zip(fitted.against.as_ref()).map(|(rule, result)| ("old", rule.readable(), *result));
    let others = fitted.fit.other_channels.iter().map(|also| format!(" or {}", also.complexity()));
    let new = ("new", rule_of(group, &fitted.fit.rule) + &others.collect::<String>(), fitted.recorded);
    let held_out = ("new, held out", String::new(), held_out_backtest(&fitted.fit, &fitted.recorded));
    let rows = old.into_iter().chain(other).chain([new, held_out]);
    let task = group.name().filter(|_| group.workflow.is_some()).unwrap_or_default();
    rows.map(|(age, rule, result)| backtest_row(format!("{task} {age} {rule}").trim(), &result)).collect()
}

/// The held-out result, scaled to the number of recorded runs.
fn held_out_backtest(fit: &Fit, recorded: &Backtest) -> Backtest {
    Backtest {
        waste_gbh: recorded.waste_gbh.and(fit.held_out.waste_gbh),
        failures_per_1000: fit.held_out.failures_per_1000,
        mean_ratio: fit.held_out.mean_ratio,
        smallest_ratio: fit.held_out.smallest_ratio,
        largest_ratio: fit.held_out.largest_ratio,
        ..*recorded
    }
}

/// A row with name, waste, failures and ratios of a rule on recorded runs.
pub(crate) fn backtest_row(name: &str, result: &Backtest) -> Vec<String> {
    if result.runs == 0 {
        return [name, "-", "-", "-", "-", "-"].map(str::to_owned).to_vec();
    }
    vec![
        name.to_owned(),
        result.waste_gbh.map_or_else(|| "unknown".to_owned(), |waste| format!("{} GBh", short(waste))),
        format!("{:.0}", result.failures_per_1000),
        format!("{:.2}", result.mean_ratio),
        format!("{:.2}", result.smallest_ratio),
        format!("{:.2}", result.largest_ratio),
    ]
}
