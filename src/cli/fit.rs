//! `highwater fit`: from recorded runs to the rule they call for.

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use highwater::calibrate::fit::{
    Backtest, Fit, FitOptions, Group, Objective, Target, TooLittle, Warning, backtest, fit, parse_csv, whole_factor,
};
use highwater::model::fit::{FittedRule, Form};
use highwater::model::problem::{Flawed, Problem};
use highwater::model::units::Bytes;
use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::output;
use super::run::Format;
use super::summary::push_row;
use super::table::{printable, table};

const EXAMPLES: &str = "\
Examples:
  highwater fit runs.csv                      the rule that the runs in runs.csv call for
  highwater fit --objective safe runs.csv     at most 1 % failures instead of the least waste
  highwater fit --failures 0.5% runs.csv      a budget of one's own
  highwater fit --against 'max(4Gi, 2*n)' runs.csv
                                              the rule of today beside the new one
  highwater fit --dialect scale-factor --target kubernetes runs.csv
                                              a whole factor, and no margin on top of the platform's own
  highwater fit --for-size 20Gi runs.csv      what an input of 20 GiB would be given
  highwater fit --format json runs.csv        form, base_bytes, coefficient, exponent and what speaks for them

The file has a line for each run, the first one names the columns:
  input_bytes                 the size of the input
  input_bytes.NAME            the same by another measure; the one that foretells best is used
  peak_bytes                  the most memory the run used
  wall_seconds                how long it took (optional: weighs the waste)
  censored                    limit: the peak reached a limit; oom: the run was killed for memory (optional)
  workflow, task              each task is fitted for itself (optional)

Exit status: 0 a rule was found, 2 the file is not as it should be, 5 too little data for an answer.";

/// Finds the rule that recorded runs call for: max(floor, a·n^k), with the head-room they support.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct FitArgs {
    /// The runs, as comma-separated values; - for standard input.
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    #[command(flatten)]
    pub(crate) options: OptionArgs,
    /// The rule in use today, such as 'max(4Gi, 2*n)' or 4Gi: shown beside the new one, on the same runs.
    #[arg(long, value_name = "RULE")]
    against: Option<FittedRule>,
    /// How the rule can be written: any text such as 1.5*n**2, or a whole number that n is multiplied with.
    #[arg(long, value_enum, default_value_t = DialectArg::Complexity)]
    dialect: DialectArg,
    /// What will run the task. Kubernetes gives 1.1 times the rule: that margin is not added twice.
    #[arg(long, value_enum, default_value_t = TargetArg::Docker)]
    target: TargetArg,
    /// Also say what an input of this size is given, and warn where it was never measured. May be repeated.
    #[arg(long, value_name = "QUANTITY")]
    for_size: Vec<Bytes>,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What a rule is to be good at: shared by everything that fits.
#[derive(Debug, Args)]
pub(crate) struct OptionArgs {
    /// waste: the least memory reserved for nothing, failed tries included. safe: hardly any failures.
    #[arg(long, value_enum, default_value_t = ObjectiveArg::Waste)]
    objective: ObjectiveArg,
    /// The share of runs that may fail and be tried again with twice as much, such as 1% [default: 5%, or 1% if safe].
    ///
    /// It sets the price of a failure. Few runs cannot vouch for few failures: see head-room in the result.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    failures: Option<f64>,
    /// max: floor or growth, whichever is more, as the Task API has it. sum: floor plus growth.
    #[arg(long, value_enum, default_value_t = FormArg::Max)]
    form: FormArg,
}

impl OptionArgs {
    pub(crate) fn fit_options(&self) -> FitOptions {
        let objective = match self.objective {
            ObjectiveArg::Waste => Objective::Waste,
            ObjectiveArg::Safe => Objective::Safe,
        };
        let form = match self.form {
            FormArg::Max => Form::Max,
            FormArg::Sum => Form::Sum,
        };
        let failures = self.failures.unwrap_or(objective.default_failures());
        FitOptions { form, failures, ..FitOptions::new(objective) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ObjectiveArg {
    Waste,
    Safe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormArg {
    Max,
    Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DialectArg {
    Complexity,
    ScaleFactor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TargetArg {
    Docker,
    Kubernetes,
}

/// `1%`, `0.5 %` or `0.01`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 0.01),
        None => (text.trim(), 1.0),
    };
    let share = number.parse::<f64>().map(|number| number * unit).ok();
    share
        .filter(|share| (1e-4..=0.5).contains(share))
        .ok_or_else(|| "expected a share between 0.01% and 50%, such as 1% or 0.01".to_owned())
}

/// The runs of a file, or of standard input for `-`.
pub(crate) fn read(path: &Path) -> Result<Vec<Group>, Failure> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let bytes = if is_stdin {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.map_err(|source| Failure::new(Exit::Usage, &Unread { name: name.clone(), source }, None))?;
    let text = String::from_utf8(bytes).map_err(|error| no_text(&name, &error))?;
    parse_csv(&name, &text).map_err(|flawed| Failure::flawed(&flawed))
}

fn no_text(name: &str, error: &std::string::FromUtf8Error) -> Failure {
    let start = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let marked = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
    let problem = Problem::error("not-utf-8", "bytes that are no text").at(marked).label("expected UTF-8");
    Failure::flawed(&Flawed { name: name.to_owned(), text, problems: vec![problem] })
}

/// Why there are no runs to fit.
#[derive(Debug, thiserror::Error)]
#[error("failed to read {name}")]
struct Unread {
    name: String,
    #[source]
    source: std::io::Error,
}

pub(crate) fn run(args: &FitArgs) -> Result<Exit, Failure> {
    let groups = read(&args.file)?;
    let mut fitted = Vec::new();
    let mut lacking = Vec::new();
    for group in &groups {
        match fitted_group(group, args) {
            Ok(result) => fitted.push((group, result)),
            Err(reason) => lacking.push((group, reason)),
        }
    }
    if fitted.is_empty() {
        return Err(nothing_fitted(&lacking));
    }
    for (group, reason) in &lacking {
        output::say(&printable(&format!("{}: {reason}", group.name().unwrap_or_default())));
    }
    match args.format {
        Format::Json => output::data(&json(&fitted)?)?,
        Format::Table => output::data(&tables(&fitted, args))?,
    }
    Ok(Exit::Done)
}

const MORE_DATA: &str = "run the task on at least three inputs of different sizes, without a limit that it reaches";

fn nothing_fitted(lacking: &[(&Group, TooLittle)]) -> Failure {
    let reason = lacking.first().map_or(TooLittle::NoRuns, |(_, reason)| *reason);
    Failure::new(Exit::TooLittleData, &reason, Some(MORE_DATA.to_owned()))
}

/// The result for one task.
#[derive(Serialize)]
struct Fitted {
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    /// The rule to write down, and what speaks for it.
    #[serde(flatten)]
    fit: Fit,
    target: Target,
    /// What the platform gives where the rule is written down like this.
    effective: FittedRule,
    /// The growing part as a document has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    complexity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale_factor: Option<i64>,
    /// How the rule does on the runs it was fitted to.
    recorded: Backtest,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Backtest>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    for_sizes: Vec<ForSize>,
}

/// What an input of some size is given.
#[derive(Serialize)]
struct ForSize {
    n: Bytes,
    limit: Bytes,
    request: Bytes,
}

fn fitted_group(group: &Group, args: &FitArgs) -> Result<Fitted, TooLittle> {
    let mut options = args.options.fit_options();
    if args.dialect == DialectArg::ScaleFactor {
        options.max_exponent = 1;
    }
    let target = match args.target {
        TargetArg::Docker => Target::Docker,
        TargetArg::Kubernetes => Target::Kubernetes,
    };
    let mut found = fit(&group.table, &options)?;
    let predictor = group.table.predictors.iter().position(|name| *name == found.predictor).unwrap_or(0);
    let written = |rule: FittedRule| match args.dialect {
        DialectArg::Complexity => target.written(rule),
        DialectArg::ScaleFactor => whole_factor(&target.written(rule), &group.table, predictor),
    };
    found.rule = written(found.rule);
    found.request = written(found.request).at_most(found.rule);
    found.warnings.extend(found.extrapolated(args.for_size.iter().copied()));
    let effective = target.effective(found.rule);
    let requested = target.effective(found.request);
    let covered = Some((found.inputs.smallest, found.inputs.largest));
    let whole = args.dialect == DialectArg::ScaleFactor;
    Ok(Fitted {
        workflow: group.workflow.clone(),
        task: group.task.clone(),
        target,
        effective,
        complexity: found.rule.complexity().filter(|_| !whole),
        scale_factor: whole.then_some(found.rule.coefficient as i64).filter(|factor| *factor > 0),
        recorded: backtest(&group.table, predictor, &effective, covered),
        against: args.against.map(|old| backtest(&group.table, predictor, &target.effective(old), covered)),
        for_sizes: args
            .for_size
            .iter()
            .map(|&n| ForSize { n, limit: effective.limit(n), request: requested.limit(n) })
            .collect(),
        fit: found,
    })
}

fn json(fitted: &[(&Group, Fitted)]) -> Result<String, Failure> {
    let named = fitted.iter().any(|(group, _)| group.name().is_some());
    let results: Vec<&Fitted> = fitted.iter().map(|(_, result)| result).collect();
    let text = match results.as_slice() {
        [only] if !named => serde_json::to_string_pretty(only),
        several => serde_json::to_string_pretty(several),
    };
    text.map(|text| text + "\n").map_err(|error| Failure::new(Exit::Host, &error, None))
}

fn tables(fitted: &[(&Group, Fitted)], args: &FitArgs) -> String {
    match fitted {
        [(group, only)] => one(group, only, args),
        several => overview(several, args),
    }
}

/// A rule as people read it: amounts in binary units.
pub(crate) fn words(rule: &FittedRule) -> String {
    let base = rule.base_bytes;
    match (rule.complexity(), rule.form) {
        (None, _) => base.to_string(),
        (Some(growth), Form::Max) if base == Bytes::ZERO => growth,
        (Some(growth), Form::Max) => format!("max({base}, {growth})"),
        (Some(growth), Form::Sum) => format!("{base} + {growth}"),
    }
}

fn overview(fitted: &[(&Group, Fitted)], args: &FitArgs) -> String {
    let rows = fitted.iter().map(|(group, Fitted { fit, effective, .. })| {
        vec![
            group.name().unwrap_or_default(),
            words(effective),
            fit.inputs.distinct.to_string(),
            format!("{:.2}", fit.held_out.mean_ratio),
            format!("{:.0}", fit.held_out.failures_per_1000),
            format!("{:.0} %", (100.0 * fit.headroom.content).floor()),
        ]
    });
    let header = ["task", "rule", ">inputs", ">limit/peak", ">failures/1000", ">surely fit"];
    let mut text = table(&header, rows.collect());
    text.push_str("\nlimit/peak and failures: on inputs that the rule had not seen\n");
    text.push_str("surely fit: at least this share of further inputs, with 95 % confidence\n");
    let notes = fitted.iter().flat_map(|(group, result)| {
        let name = group.name().unwrap_or_default();
        let warnings = result.fit.warnings.iter().filter(|one| !matches!(one, Warning::FewInputs { .. }));
        warnings.map(move |warning| format!("{name}: {}\n", told(warning)))
    });
    let notes: String = notes.map(|note| printable(note.trim_end()) + "\n").collect();
    if !notes.is_empty() {
        text.push_str(&format!("\nwarnings:\n{notes}"));
    }
    if args.against.is_some() {
        let rows = fitted.iter().flat_map(|(group, result)| compared(&group.name().unwrap_or_default(), result, args));
        text.push('\n');
        text.push_str(&table(&COMPARED, rows.collect()));
    }
    text
}

fn one(group: &Group, fitted: &Fitted, args: &FitArgs) -> String {
    let Fitted { fit, effective, target, .. } = fitted;
    let mut rows: Vec<(&str, String)> = Vec::new();
    rows.extend(group.name().map(|name| ("task", name)));
    rows.push(("limit", format!("{}   where n is {}", words(&fit.rule), fit.predictor)));
    rows.push(("request", words(&fit.request)));
    if *target == Target::Kubernetes {
        rows.push(("effective", format!("{}   with the platform's margin of 1.1", words(effective))));
    }
    rows.push(("fitted to", inputs(fit)));
    rows.push(("evidence", evidence(fit)));
    rows.push(("held out", held_out(fit)));
    rows.push(("head-room", headroom(fit)));
    for ForSize { n, limit, request } in &fitted.for_sizes {
        rows.push(("", format!("an input of {n} is given {limit}, of which {request} are requested")));
    }
    for outlier in fit.outliers.iter().take(5) {
        let place = group.lines.get(outlier.run).map_or_else(String::new, |line| format!("line {line}: "));
        let text = format!("{place}{} for {}, where {} is typical", outlier.peak, outlier.n, outlier.typical);
        rows.push(("outlier", text));
    }
    if let more @ 1.. = fit.outliers.len().saturating_sub(5) {
        rows.push(("", format!("and {more} more; all of them were fitted like the others")));
    }
    rows.extend(fit.warnings.iter().map(|warning| ("warning", told(warning))));
    let width = output::width_of_stdout().map_or(100, usize::from);
    let mut text = String::new();
    for (name, value) in rows {
        push_row(&mut text, name, &printable(&value), width);
    }
    text.push('\n');
    text + &table(&COMPARED, compared("", fitted, args))
}

fn inputs(fit: &Fit) -> String {
    let inputs = &fit.inputs;
    let mut text =
        format!("{} runs, {} distinct inputs, {} to {}", inputs.runs, inputs.distinct, inputs.smallest, inputs.largest);
    if inputs.limit_reached > 0 {
        let _ = write!(text, "; {} reached their limit: not used", inputs.limit_reached);
    }
    if inputs.oom_killed > 0 {
        let _ = write!(text, "; {} killed for memory: lower bounds", inputs.oom_killed);
    }
    text
}

fn evidence(fit: &Fit) -> String {
    let slope = match fit.evidence.slope {
        Some(slope) => format!(
            "{} bytes of memory per byte of input, {} to {} with 95 % confidence",
            short(slope.estimate),
            short(slope.low),
            short(slope.high)
        ),
        None => "all inputs have one size".to_owned(),
    };
    let gain = match fit.evidence.growth_gain {
        Some(gain) if gain >= 0.0 => format!("growth costs {:.0} % less than a floor on held-out inputs", 100.0 * gain),
        Some(gain) => format!("growth costs {:.0} % more than a floor on held-out inputs", -100.0 * gain),
        None => "growth could not be looked at".to_owned(),
    };
    let verdict = if fit.rule.exponent == 0 { "no usable relation, a floor alone: " } else { "" };
    format!("{verdict}{slope}; {gain}")
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
    format!(
        "limit/peak {:.2} on average, {:.2} to {:.2}; {:.0} failures per 1000; {:.1} % of the memory needed is wasted",
        held_out.mean_ratio,
        held_out.smallest_ratio,
        held_out.largest_ratio,
        held_out.failures_per_1000,
        100.0 * held_out.waste_share
    )
}

fn headroom(fit: &Fit) -> String {
    let headroom = &fit.headroom;
    let above = match headroom.exceeded {
        0 => "all below the rule".to_owned(),
        above => format!("{above} above the rule"),
    };
    let mut text = format!(
        "{} inputs, {above}: at least {:.0} % of further ones fit, with 95 % confidence",
        headroom.inputs,
        (100.0 * headroom.content).floor()
    );
    if headroom.more_needed > 0 {
        let _ = write!(text, "; {} more are needed for 95 %", headroom.more_needed);
    }
    let factors: Vec<String> = headroom
        .conformal
        .iter()
        .filter_map(|one| one.factor.map(|factor| format!("{:.2} ({:.0} %)", factor, 100.0 * one.content)))
        .collect();
    if !factors.is_empty() {
        let _ = write!(text, "; the next input fits under the rule times {}", factors.join(", "));
    }
    text
}

/// A warning in words.
pub(crate) fn told(warning: &Warning) -> String {
    match warning {
        Warning::NarrowRange { factor } => format!(
            "the largest input is only {factor:.2} times the smallest: what the rule says about others is extrapolated"
        ),
        Warning::Extrapolated { n, factor } if *factor > 1.0 => {
            format!("{n} is {factor:.1} times the largest input measured: extrapolated")
        }
        Warning::Extrapolated { n, factor } => {
            format!("{n} is only {:.0} % of the smallest input measured: extrapolated", 100.0 * factor)
        }
        Warning::Untimed => "not every run tells its time: all of them count the same".to_owned(),
        Warning::RaisedByKills { bound } => {
            format!("a run with {bound} was killed for memory: the rule was raised above that")
        }
        Warning::FewInputs { more_needed } => {
            format!("measure {more_needed} more inputs before relying on the rule for 95 % of all runs")
        }
    }
}

const COMPARED: [&str; 6] = ["on the recorded runs", ">waste", ">failures/1000", ">limit/peak mean", ">least", ">most"];

/// The old rule, where there is one, above the new one.
fn compared(task: &str, fitted: &Fitted, args: &FitArgs) -> Vec<Vec<String>> {
    let old = args.against.as_ref().zip(fitted.against.as_ref());
    let rules = old.map(|(rule, result)| ("old", rule, result)).into_iter();
    let rules = rules.chain([("new", &fitted.fit.rule, &fitted.recorded)]);
    rules.map(|(age, rule, result)| backtest_row(format!("{task} {age} {}", words(rule)).trim(), result)).collect()
}

/// Name, waste, failures and ratios of a rule on recorded runs.
pub(crate) fn backtest_row(name: &str, result: &Backtest) -> Vec<String> {
    vec![
        name.to_owned(),
        result.waste_gbh.map_or_else(|| "unknown".to_owned(), |waste| format!("{} GBh", short(waste))),
        format!("{:.0}", result.failures_per_1000),
        format!("{:.2}", result.mean_ratio),
        format!("{:.2}", result.smallest_ratio),
        format!("{:.2}", result.largest_ratio),
    ]
}
