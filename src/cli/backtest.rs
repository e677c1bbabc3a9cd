//! `highwater backtest`: rules, old or new, against stored runs.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum};
use highwater::calibrate::failure::Failed;
use highwater::calibrate::fit::{
    Backtest, Evaluation, Group, Order, Protocol, TaskScore, backtest, backtest_by, evaluate,
};
use highwater::model::byte_order_mark;
use highwater::model::fit::{FittedRule, Resource};
use highwater::model::units::Bytes;
use highwater::store::bounded;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::exit::Exit;
use super::failure::Failure;
use super::fit::{OptionArgs, PredictorArgs, RunsArgs, backtest_row};
use super::output;
use super::rule::RuleArg;
use super::run::Format;
use super::table::{printable, table};

const EXAMPLES: &str = "\
Examples:
  highwater backtest runs.csv --rule 'max(4Gi, 2*n)'
                                              what the rule wastes, and how often it fails
  highwater backtest runs.csv --rule 8Gi --rule '512Mi + 1.5*n'
                                              two rules side by side
  highwater fit old.csv --format json > fit.json
  highwater backtest new.csv --fit fit.json   does the rule still hold, and are the inputs still
                                              those it was fitted to?
  highwater backtest runs.csv --protocol      how good is fitting on such runs? calibrate on 20,
                                              test on the others, compare with the best rule in
                                              hindsight
  highwater backtest runs.csv --protocol --order small-first
                                              calibrate on the smallest inputs: does it warn?
  highwater backtest runs.csv --protocol --on time
                                              the same for the wall time instead of memory

Records and tables are read as by `highwater fit`. Waste is memory reserved in vain, multiplied by time. A failed \
attempt wastes its whole limit and is retried with twice as much.";

/// Test rules on recorded runs: what they waste, and how often they fail.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
#[command(group = ArgGroup::new("tested").args(["rule", "fit", "protocol"]).required(true).multiple(true))]
pub(crate) struct BacktestArgs {
    #[command(flatten)]
    runs: RunsArgs,
    /// Rule such as 'max(4Gi, 2*n)', '512Mi + 1.5*n**2', '2*n', 8Gi, SomeOperator.py or
    /// task_type_registry.xml::NAME. Can be repeated.
    #[arg(long, value_name = "RULE", conflicts_with = "protocol")]
    rule: Vec<RuleArg>,
    /// Rule written by `fit --format json`; also reports which runs lie outside the range it was fitted to.
    #[arg(long, value_name = "FILE.json", conflicts_with = "protocol")]
    fit: Option<PathBuf>,
    /// Column to use as n, if the file has several columns of sizes [default: the first].
    #[arg(long, value_name = "COLUMN")]
    predictor: Option<String>,
    /// Test fitting itself instead of a rule: calibrate on some runs of each task, test on the others.
    #[arg(long)]
    protocol: bool,
    /// Which runs of a task to calibrate on.
    #[arg(long, value_enum, default_value_t = OrderArg::Shuffled, requires = "protocol")]
    order: OrderArg,
    /// Number of runs per task to calibrate on; tasks with fewer runs are skipped.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "protocol")]
    calibrate_on: usize,
    /// Number of random shuffles.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "protocol", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    #[command(flatten)]
    options: OptionArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OrderArg {
    /// Randomly chosen runs.
    Shuffled,
    /// The smallest inputs: every test is an extrapolation.
    SmallFirst,
}

pub(crate) fn run(args: &BacktestArgs) -> Result<Exit, Failure> {
    let resource = args.runs.one_resource()?;
    if resource != Resource::Memory && !args.protocol {
        let error = format!("rules are amounts of memory, so they cannot be tested with --on {resource}");
        let help = "add --protocol, to test what fitting achieves".to_owned();
        return Err(Failure::new(Exit::Usage, error, Some(help)));
    }
    let groups = args.runs.read(&PredictorArgs::default())?;
    if args.protocol { try_fitting(&groups, args) } else { try_rules(&groups, args) }
}

/// The part of the output of `fit --format json` that a backtest needs.
#[derive(Deserialize)]
struct Written {
    #[serde(flatten)]
    rule: FittedRule,
    #[serde(default)]
    task: Option<String>,
    #[serde(default)]
    workflow: Option<String>,
    #[serde(default)]
    predictor: Option<String>,
    #[serde(default)]
    inputs: Option<Covered>,
    #[serde(default)]
    also: Vec<Part>,
}

/// The rule of a further channel.
#[derive(Deserialize)]
struct Part {
    predictor: String,
    coefficient: f64,
    exponent: u32,
}

/// The range of sizes that a rule was fitted to.
#[derive(Clone, Copy, Deserialize)]
struct Covered {
    smallest: Bytes,
    largest: Bytes,
}

/// One rule, or one for each task.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(Box<Written>),
    More(Vec<Written>),
}

/// Reads the rules in a file.
fn written(path: &Path) -> Result<Vec<Written>, Failure> {
    let read = bounded::read_text(path);
    let parsed =
        read.and_then(|text| serde_json::from_str(byte_order_mark::strip(&text)).map_err(std::io::Error::from));
    match parsed {
        Ok(OneOrMore::One(written)) => Ok(vec![*written]),
        Ok(OneOrMore::More(written)) => Ok(written),
        Err(source) => {
            let doing = format!("read {} as output of `fit --format json`", path.display());
            Err(Failure::new(Exit::Usage, Failed::to(doing, source), None))
        }
    }
}

impl Written {
    /// Whether the rule was fitted to this task. A rule without a task applies to every task.
    fn is_for(&self, group: &Group) -> bool {
        (self.task.is_none() || self.task == group.task) && (self.workflow.is_none() || self.workflow == group.workflow)
    }
}

/// The result of one rule on one task.
#[derive(Serialize)]
struct RuleResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    rule: FittedRule,
    #[serde(flatten)]
    result: Backtest,
}

fn try_rules(groups: &[Group], args: &BacktestArgs) -> Result<Exit, Failure> {
    let fits = args.fit.as_deref().map_or_else(|| Ok(Vec::new()), written)?;
    let rules = args.rule.iter().map(RuleArg::read).collect::<Result<Vec<_>, _>>()?;
    let mut tried = Vec::new();
    for group in groups {
        let predictor = predictor(group, args.predictor.as_deref())?;
        for &rule in &rules {
            tried.push(RuleResult { task: group.name(), rule, result: backtest(&group.table, predictor, &rule, None) });
        }
        for fit in fits.iter().filter(|fit| fit.is_for(group)) {
            let wanted = args.predictor.as_deref().or(fit.predictor.as_deref());
            let covered = fit.inputs.map(|covered| (covered.smallest, covered.largest));
            let place = self::predictor(group, wanted)?;
            let mut parts = Vec::new();
            for part in &fit.also {
                let growth = FittedRule {
                    coefficient: part.coefficient,
                    exponent: part.exponent,
                    ..FittedRule::constant(Bytes::ZERO)
                };
                parts.push((self::predictor(group, Some(&part.predictor))?, growth));
            }
            let alone = backtest(&group.table, place, &fit.rule, covered);
            let together = backtest_by(&group.table, |_, run| {
                let others = parts.iter().filter_map(|(place, part)| run.sizes.get(*place).map(|n| part.limit(*n)));
                run.sizes.get(place).map(|n| others.fold(fit.rule.limit(*n), Bytes::max))
            });
            tried.push(RuleResult {
                task: group.name(),
                rule: fit.rule,
                result: Backtest { outside: alone.outside, ..together },
            });
        }
    }
    for RuleResult { task, rule, result: Backtest { outside, .. } } in tried.iter().filter(|one| one.result.outside > 0)
    {
        let task = task.as_ref().map_or_else(String::new, |task| format!("{task}: "));
        output::say(&printable(&format!(
            "warning: {task}{outside} runs lie outside the sizes that {} was fitted to; the result is extrapolated",
            rule.readable()
        )));
    }
    match args.format {
        Format::Json => output::json_text(&json(&tried)?)?,
        Format::Table => {
            let rows = tried.iter().map(|RuleResult { task, rule, result }| {
                let name = task.as_ref().map_or_else(|| rule.readable(), |task| format!("{task} {}", rule.readable()));
                backtest_row(&name, result)
            });
            let header = ["rule", ">waste", ">failures/1000", ">limit/peak mean", ">min", ">max"];
            output::text(&table(&header, rows.collect()))?;
        }
    }
    Ok(Exit::Done)
}

fn predictor(group: &Group, wanted: Option<&str>) -> Result<usize, Failure> {
    let known = &group.table.predictors;
    let Some(wanted) = wanted else { return Ok(0) };
    known.iter().position(|name| name == wanted).ok_or_else(|| {
        let error = format!("no size column `{wanted}`, expected one of `{}`", known.join("`, `"));
        Failure::new(Exit::Usage, error, None)
    })
}

/// The result of the protocol.
#[derive(Serialize)]
struct Scores {
    protocol: Protocol,
    tasks: Vec<Scored>,
    workflows: Vec<Together>,
    total: Evaluation,
}

#[derive(Serialize)]
struct Scored {
    task: String,
    #[serde(flatten)]
    score: TaskScore,
}

#[derive(Serialize)]
struct Together {
    workflow: String,
    #[serde(flatten)]
    evaluation: Evaluation,
}

fn try_fitting(groups: &[Group], args: &BacktestArgs) -> Result<Exit, Failure> {
    let order = match args.order {
        OrderArg::Shuffled => Order::Shuffled,
        OrderArg::SmallFirst => Order::SmallFirst,
    };
    let protocol = Protocol { order, calibrate_on: args.calibrate_on, seeds: args.seeds, ..Protocol::default() };
    let options = args.options.fit_options_for(args.runs.one_resource()?);
    let bar = progress(groups.len());
    let mut scored: Vec<(&Group, TaskScore)> = Vec::new();
    for group in groups {
        let mut options = options;
        options.max_exponent = group.max_exponent(&options);
        scored.extend(evaluate(&group.table, &options, &protocol).map(|score| (group, score)));
        bar.inc(1);
    }
    bar.finish_and_clear();
    if scored.is_empty() {
        let error = format!("not enough data: no task has more than {} runs", args.calibrate_on);
        return Err(Failure::new(Exit::TooLittleData, error, Some("try fewer with --calibrate-on".to_owned())));
    }
    let scores = together(protocol, &scored);
    match args.format {
        Format::Json => output::json_text(&json(&scores)?)?,
        Format::Table => output::text(&score_table(&scores))?,
    }
    Ok(Exit::Done)
}

fn progress(tasks: usize) -> ProgressBar {
    let bar = ProgressBar::new(tasks as u64);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} tasks {wide_bar} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn together(protocol: Protocol, scored: &[(&Group, TaskScore)]) -> Scores {
    let mut workflows: Vec<&str> = scored.iter().filter_map(|(group, _)| group.workflow.as_deref()).collect();
    workflows.dedup();
    let of = |workflow: &str| {
        let tasks = scored.iter().filter(|(group, _)| group.workflow.as_deref() == Some(workflow));
        Together { workflow: workflow.to_owned(), evaluation: Evaluation::from_scores(tasks.map(|(_, score)| score)) }
    };
    Scores {
        protocol,
        tasks: scored
            .iter()
            .map(|(group, score)| Scored { task: group.name().unwrap_or_default(), score: *score })
            .collect(),
        workflows: workflows.into_iter().map(of).collect(),
        total: Evaluation::from_scores(scored.iter().map(|(_, score)| score)),
    }
}

fn score_table(scores: &Scores) -> String {
    let tasks = scores.tasks.iter().map(|Scored { task, score }| {
        vec![
            task.clone(),
            format!("{:.2}", score.ratio),
            format!("{:.0}", score.failures_per_1000()),
            format!("{:.0} %", 100.0 * score.outside as f64 / score.runs.max(1) as f64),
            format!("{} of {}", score.seeds_warned, score.seeds_outside),
        ]
    });
    let workflows = scores.workflows.iter().map(|one| (one.workflow.as_str(), &one.evaluation));
    let sums = workflows.chain([("all", &scores.total)]).map(|(name, sum)| {
        vec![
            format!("{name}: {} tasks", sum.tasks),
            format!("{:.2}", sum.total_ratio),
            format!("{:.2}", sum.typical_ratio),
            format!("{:.2}", sum.mean_ratio),
            format!("{:.1}", sum.failures_per_1000),
            format!("{:.1}", sum.mean_failures_per_1000),
        ]
    });
    let tasks = table(&["task", ">waste/hindsight", ">failures/1000", ">outside", ">warned"], tasks.collect());
    let header = ["waste/hindsight", ">all waste", ">geometric mean", ">mean", ">failures/1000", ">mean of tasks"];
    format!("{tasks}\n{}", table(&header, sums.collect()))
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(Failure::host)
}
