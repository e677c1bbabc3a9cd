//! `run --vs`: two commands in turns, and the ratio of what they need.

use std::ffi::OsString;

use highwater::calibrate::workload::{Spec, Workload};
use highwater::host::machine::Machine;
use highwater::model::escape;
use highwater::model::observation::{Exactness, Observation, Outcome};
use highwater::model::units::{Bytes, duration};
use highwater::runner::process::{Output, Stdin};
use highwater::stats::paired::Ratio;
use highwater::stats::summary::median;
use serde::Serialize;

use super::{Format, OWN_FAILURE, RunArgs, append, conditions, input_sizes, measured_once, warm_up};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::feedback::Terminal;
use crate::cli::signals::Signals;
use crate::cli::{output, output_file, records, table};

/// The most rounds: what the ratio costs grows with their cube.
const MOST_ROUNDS: u32 = 500;

/// The result as JSON.
#[derive(Serialize)]
struct Versus {
    schema_version: u32,
    a: Vec<Observation>,
    b: Vec<Observation>,
    /// What B needs, divided by what A needs.
    ratios: Ratios,
}

#[derive(Serialize)]
struct Ratios {
    peak: Option<Ratio>,
    wall_time: Option<Ratio>,
    cpu_time: Option<Ratio>,
}

/// Runs the command and the other one in turns.
pub(super) fn run(
    args: &RunArgs,
    machine: &Machine,
    (spec, first): (&Spec, &Workload),
    line: &str,
) -> Result<Exit, Failure> {
    if args.runs > MOST_ROUNDS {
        let help = format!("give at most {MOST_ROUNDS}; an interval takes 6");
        return Err(Failure::new(Exit::Usage, format!("{} rounds are too many for --vs", args.runs), Some(help)));
    }
    let help =
        "write the other command as in a shell, such as --vs 'sort --parallel=2 data'; highwater starts no shell";
    let words = shlex::split(line).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| {
        Failure::new(Exit::Usage, "--vs is empty, or a quote in it is not closed", Some(help.to_owned()))
    })?;
    let sizes = input_sizes(&args.input)?;
    let mut spec = spec.clone();
    spec.command = words.into_iter().map(OsString::from).collect();
    let second = Workload::open(&spec, &Terminal::default()).map_err(Failure::of_run)?;
    if let Some(path) = &args.output {
        output_file::check_writable(path).map_err(Failure::own)?;
    }
    let mut record = records::open_record(args.record.as_deref()).map_err(Failure::own)?;
    let mut signals = Signals::block().map_err(|errno| Failure::new(OWN_FAILURE, errno, None))?;
    let mut runs = [Vec::new(), Vec::new()];
    for start in [first, &second] {
        if let Some(signal) = warm_up(args, machine, start, &mut signals)? {
            return Ok(Exit::Task(Outcome::Interrupted { signal: signal.0 }.status()));
        }
    }
    for round in 1..=args.runs {
        // They take turns at going first, so that a drift of the machine meets both.
        let order = if round % 2 == 1 { [0, 1] } else { [1, 0] };
        for which in order {
            let start = [first, &second][which];
            let number = (round - 1) * 2 + u32::try_from(which).unwrap_or_default() + 1;
            let mut options = conditions(args, start, number)?;
            if args.log_dir.is_none() && args.record.is_none() {
                (options.stdout, options.stderr) = (Output::Null, Output::Null);
            }
            options.stdin = Stdin::Null;
            let mut observation = measured_once(args, machine, start, options, &mut signals)?;
            observation.inputs.extend(sizes.clone());
            let spoiled = start.check_inputs(&mut observation);
            append(record.as_mut(), &observation).map_err(|error| records::unstored(error).own())?;
            if let Some(spoiled) = spoiled {
                return Err(Failure::of_run(spoiled));
            }
            if !observation.outcome.succeeded() || observation.has_lost_engine() {
                let name = ["A", "B"][which];
                output::say(&format!(
                    "highwater: cannot compare: a run of {name} failed: {}",
                    observation.outcome.words()
                ));
                return Ok(Exit::Task(observation.outcome.status()));
            }
            if let Some(signal) = signals.ended_by() {
                output::say(&format!("highwater: cannot compare: stopped by {signal} in round {round}"));
                return Ok(Exit::Task(Outcome::Interrupted { signal: signal.0 }.status()));
            }
            runs[which].push(observation);
        }
        if !args.quiet && args.format == Format::Table {
            let words = |run: Option<&Observation>| {
                run.map(|run| format!("{}, {}", peak(run), duration(run.wall_us))).unwrap_or_default()
            };
            let [a, b] = [words(runs[0].last()), words(runs[1].last())];
            output::say(&format!("round {round} of {}: A {a}; B {b}", args.runs));
        }
    }
    let [a, b] = runs;
    let result = Versus { schema_version: 1, ratios: Ratios::of(&a, &b), a, b };
    let text = match args.format {
        Format::Table => escape::lines(&render(&result, args, line)),
        Format::Json => {
            let json =
                serde_json::to_string_pretty(&result).map_err(|error| Failure::new(OWN_FAILURE, &error, None))?;
            escape::json(&json) + "\n"
        }
    };
    output::data_to(args.output.as_deref(), &text).map_err(Failure::own)?;
    Ok(Exit::Task(0))
}

impl Ratios {
    fn of(a: &[Observation], b: &[Observation]) -> Self {
        let ratio = |amount: &dyn Fn(&Observation) -> Option<f64>| {
            let pairs: Option<Vec<_>> = a.iter().zip(b).map(|(a, b)| Some((amount(a)?, amount(b)?))).collect();
            Ratio::of(&pairs?)
        };
        Self { peak: ratio(&peak_bytes), wall_time: ratio(&|run| Some(run.wall_us as f64)), cpu_time: ratio(&cpu_us) }
    }
}

fn peak_bytes(run: &Observation) -> Option<f64> {
    run.peak.as_ref().value().map(|peak| peak.bytes.0 as f64)
}

fn cpu_us(run: &Observation) -> Option<f64> {
    run.cpu.as_ref().value().map(|cpu| (cpu.user_us + cpu.system_us) as f64)
}

fn peak(run: &Observation) -> String {
    run.peak.as_ref().value().map_or_else(|| "no peak".to_owned(), |peak| peak.words())
}

/// The table, and what it shows in words.
fn render(result: &Versus, args: &RunArgs, line: &str) -> String {
    let quoted = |word: &OsString| {
        let word = word.to_string_lossy();
        // The equals sign of an option means nothing to a shell.
        if shlex::try_quote(&word.replace('=', "")).is_ok_and(|quoted| quoted.starts_with(['\'', '"'])) {
            return shlex::try_quote(&word).map_or_else(|_| word.clone().into_owned(), Into::into);
        }
        word.into_owned()
    };
    let of_a = args.subject.command.iter().map(quoted).collect::<Vec<_>>().join(" ");
    let row = |name: &str,
               amount: &dyn Fn(&Observation) -> Option<f64>,
               words: &dyn Fn(u64) -> String,
               ratio: Option<Ratio>| {
        let middle = |runs: &[Observation]| {
            let amounts: Vec<f64> = runs.iter().filter_map(amount).collect();
            median(&amounts).map_or_else(|| "-".to_owned(), |amount| words(amount as u64))
        };
        let interval = ratio.and_then(|ratio| ratio.interval);
        vec![
            name.to_owned(),
            middle(&result.a),
            middle(&result.b),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.ratio)),
            match (ratio, interval) {
                (_, Some((low, high))) => format!("{low:.2} to {high:.2}"),
                (Some(_), None) => "needs 6 rounds".to_owned(),
                (None, None) => "-".to_owned(),
            },
        ]
    };
    let Ratios { peak, wall_time, cpu_time } = &result.ratios;
    let resolution = resolution(result).unwrap_or_default();
    let bytes = |amount| match amount as f64 <= resolution {
        true => format!("<{}", Bytes(resolution as u64)),
        false => Bytes(amount).to_string(),
    };
    let rows = vec![
        row("peak", &peak_bytes, &bytes, *peak),
        row("time", &|run| Some(run.wall_us as f64), &duration, *wall_time),
        row("CPU time", &cpu_us, &duration, *cpu_time),
    ];
    let table = table::table(&["", ">A", ">B", ">B/A", "95 % interval"], rows);
    format!(
        "\nA: {of_a}\nB: {line}\n{} rounds, in turns; medians\n\n{table}\n{}",
        args.runs,
        table::paragraph(&verdict(result))
    )
}

/// The largest error bound of the peaks; `None` if one is a lower bound or missing.
fn resolution(result: &Versus) -> Option<f64> {
    let bound = |run: &Observation| match run.peak.as_ref().value()?.exactness {
        Exactness::Exact { error_bound_bytes } => Some(error_bound_bytes.0 as f64),
        Exactness::LowerBound { .. } => None,
    };
    let bounds: Option<Vec<f64>> = result.a.iter().chain(&result.b).map(bound).collect();
    Some(bounds?.into_iter().fold(0.0, f64::max))
}

/// What the peaks show.
fn verdict(result: &Versus) -> String {
    let runs = || result.a.iter().chain(&result.b);
    if runs().any(|run| peak_bytes(run).is_none()) {
        return "a peak is missing, so the need of A and B cannot be compared".to_owned();
    }
    if runs().any(|run| run.censored) {
        return "a run reached its limit, so the need of A and B cannot be compared; run them without a limit"
            .to_owned();
    }
    let Some(resolution) = resolution(result) else {
        return "some peaks are lower bounds, so the need of A and B cannot be compared; `highwater doctor` says why"
            .to_owned();
    };
    let middle = |runs: &[Observation]| median(&runs.iter().filter_map(peak_bytes).collect::<Vec<_>>());
    let (Some(ratio), Some(a), Some(b)) = (result.ratios.peak, middle(&result.a), middle(&result.b)) else {
        return "a peak is 0 bytes, so the ratio is undefined".to_owned();
    };
    if (a - b).abs() <= resolution {
        return format!("no difference in memory beyond the error of a peak, {}", Bytes(resolution as u64));
    }
    match (ratio.differs(), ratio.interval) {
        (true, _) if ratio.ratio > 1.0 => format!("B needs more memory than A: {:.2} times as much", ratio.ratio),
        (true, _) => format!("B needs less memory than A: {:.2} times as much", ratio.ratio),
        (false, Some(_)) => "no difference in memory is shown: the interval includes 1".to_owned(),
        (false, None) => "too few rounds to tell: an interval takes 6".to_owned(),
    }
}
