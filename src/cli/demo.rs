//! `highwater demo`: measures, fits and checks a built-in task in a few seconds.

mod fitted;
mod task;
pub(crate) mod workload;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use highwater::calibrate::failure::Failed;
use highwater::calibrate::measure::{RunContext, measure};
use highwater::calibrate::monitor::WatchOptions;
use highwater::calibrate::predict::predict;
use highwater::directory::Directory;
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::comparison::{Comparison, ObservedPeak, Target, Thresholds};
use highwater::model::observation::{Exactness, Observation, Outcome, Subject, SweepRun};
use highwater::model::prediction::Prediction;
use highwater::model::reading::Reading;
use highwater::model::units::Bytes;
use highwater::runner::process::{Launch, Output, ProcessRunner, Stdin};
use highwater::store::{OBSERVATIONS, Record, StoreError};
use highwater::tree::Options;

use super::exit::Exit;
use super::failure::Failure;
use super::signals::Signals;
use super::table::printable;
use super::{output, output_file, records, report, scope};

const EXAMPLES: &str = "\
Examples:
  highwater demo                    sweep inputs of 2 to 64 MiB and fit a rule, in a few seconds
  highwater demo --keep demo/       keep the records, to fit them again: highwater fit demo/

The demo needs nothing else: the task is highwater itself, and its inputs are in a temporary directory. It leaves \
behind the report, one HTML file, beside the records or (without --keep) in the directory for temporary files.";

/// Sweep a small built-in task over inputs of several sizes, fit its scale rule, and check the rule.
///
/// The memory that the task needs is known, so the result can be compared with the truth.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Keep the records of the runs in this directory; created if absent.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The sizes of the generated inputs, in MiB.
const SIZES: [u64; 9] = [2, 4, 6, 8, 16, 24, 32, 48, 64];

pub(crate) fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let machine = Machine::read(HostRoots::default()).map_err(Failure::host)?;
    scope::enter_if_needed(&machine);
    let mut signals = Signals::block().map_err(Failure::host)?;
    let folder = tempfile::tempdir().map_err(|source| {
        let doing = format!("create a directory for the inputs in {}", std::env::temp_dir().display());
        let error = Failed::to(doing, source);
        Failure::new(Exit::Host, &error, Some("set TMPDIR to a writable directory".to_owned()))
    })?;
    let mut record = args.keep.as_deref().map(keep).transpose()?;
    output::text(&format!(
        "The task keeps {} bytes in memory per byte of input, and at least {}.\n\
         Its author declared the rule `{}` and a base of {}. What do the measurements say?\n\n",
        workload::BYTES_PER_BYTE,
        workload::FLOOR,
        task::COMPLEXITY,
        task::FLOOR,
    ))?;
    output::text(&row(["input", "predicted limit", "measured peak", "limit/peak", "verdict"]))?;
    let mut runs = Vec::new();
    for size in SIZES {
        let input = folder.path().join(format!("{size}-MiB"));
        task::generate(&input, Bytes::mib(size)).map_err(Failure::host)?;
        let Some(run) = one(&machine, &input, Bytes::mib(size), &mut signals)? else { return Ok(Exit::Interrupted) };
        if let Some(record) = &mut record {
            record.append(&run.observation).map_err(records::unstored)?;
        }
        output::text(&run.row(Bytes::mib(size)))?;
        runs.push((Bytes::mib(size), run));
    }
    output::text(&conclusion(&runs))?;
    let observations: Vec<Observation> = runs.into_iter().map(|(_, run)| run.observation).collect();
    output::text(&fitted::text(&observations))?;
    output::text(&farewell(args.keep.as_deref()))?;
    let page = report::page(&observations)?;
    let path = left_behind(args.keep.as_deref(), &page.html)?;
    output::text(&format!("\n{}\nReport: {}\n", page.verdict, printable(&path.display().to_string())))?;
    let succeeded = observations.iter().all(|observation| observation.outcome.succeeded());
    Ok(if succeeded { Exit::Done } else { Exit::TaskFailed })
}

/// The file name of the report.
const REPORT: &str = "report.html";

/// Writes the report where it survives the temporary directory, and returns its path.
fn left_behind(kept: Option<&Path>, html: &str) -> Result<PathBuf, Failure> {
    let failed = |source: std::io::Error| Failure::host(Failed::to("write the report of the demonstration", source));
    if let Some(folder) = kept {
        output_file::write_into(folder, REPORT, html.as_bytes())?;
        return Ok(folder.join(REPORT));
    }
    let mut file = tempfile::Builder::new().prefix("highwater-demo-").suffix(".html").tempfile().map_err(failed)?;
    file.write_all(html.as_bytes()).map_err(failed)?;
    let (_, path) = file.keep().map_err(|error| failed(error.error))?;
    Ok(path)
}

/// Opens a record in a directory.
fn keep(folder: &Path) -> Result<Record, Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|source| Failure::host(Failed::to(format!("create the directory {}", folder.display()), source)))?;
    let opened = Directory::open(folder).map_err(|source| StoreError::Open { path: folder.to_owned(), source });
    opened.and_then(|directory| Record::open_in(&directory, OBSERVATIONS)).map_err(records::unstored)
}

/// A run and its prediction.
struct Run {
    prediction: Prediction,
    observation: Observation,
}

/// Runs the task once; `None` if interrupted.
fn one(machine: &Machine, input: &Path, size: Bytes, signals: &mut Signals) -> Result<Option<Run>, Failure> {
    let task = task::on(input)?;
    let prediction = predict(&task, &Options::default()).map_err(Failure::host)?;
    let program = std::env::current_exe().map_err(Failure::host)?;
    let mut launch = Launch::new([program.into_os_string(), OsString::from("workload"), input.into()]);
    launch.stdin = Stdin::Null;
    launch.stdout = Output::Null;
    let mut runner = ProcessRunner::new(machine, launch);
    let subject = Subject::new(Some(task.name), Vec::new());
    let mut sweep = SweepRun::new(format!("demo-{}", size.0), size.to_string(), 1);
    sweep.synthetic = true;
    let mut context = RunContext::one_run(subject, Some(prediction.clone()));
    context.sweep = Some(sweep);
    let observation =
        measure(&mut runner, context, machine.facts.clone(), &WatchOptions::default(), Some(signals), &mut ())
            .map_err(Failure::host)?;
    let interrupted = matches!(observation.outcome, Outcome::Interrupted { .. });
    Ok((!interrupted).then_some(Run { prediction, observation }))
}

impl Run {
    fn row(&self, size: Bytes) -> String {
        let Some(peak) = ObservedPeak::from_observation(&self.observation) else {
            return row([&size.to_string(), "", "not measured", "", ""]);
        };
        let comparison = Comparison::new(&self.prediction, peak, Thresholds::default());
        let docker = comparison.amounts.iter().find(|compared| compared.target == Target::DockerLimit);
        let text = |text: Option<String>| text.unwrap_or_default();
        row([
            &size.to_string(),
            &text(docker.and_then(|docker| docker.amount).map(|amount| amount.to_string())),
            &if peak.lower_bound { format!("{} or more", peak.bytes) } else { peak.bytes.to_string() },
            &text(docker.and_then(|docker| docker.ratio).map(|ratio| match peak.lower_bound {
                true => format!("≤ {ratio:.2}"),
                false => format!("{ratio:.2}"),
            })),
            &text(docker.and_then(|docker| docker.verdict).map(|verdict| verdict.to_string())),
        ])
    }
}

fn row(cells: [&str; 5]) -> String {
    let [input, predicted, peak, ratio, verdict] = cells;
    format!("{input:<10}{predicted:>16}{peak:>21}{ratio:>13}   {verdict}").trim_end().to_owned() + "\n"
}

/// What the reader should take away.
fn conclusion(runs: &[(Bytes, Run)]) -> String {
    let mut text = String::from("\n");
    let Some((_, last)) = runs.last() else { return text };
    match &last.observation.peak {
        Reading::Value(peak) => match &peak.exactness {
            Exactness::Exact { error_bound_bytes } => {
                text +=
                    &format!("The peaks are exact ({}), at most {error_bound_bytes} too high.\n", peak.source.words());
            }
            Exactness::LowerBound { reason, remedy } => {
                text += &format!("The peaks are lower bounds ({reason}). To make them exact: {remedy}.\n");
            }
        },
        Reading::Unsupported | Reading::Gone => text += "The last peak could not be measured.\n",
    }
    let beyond = runs.iter().filter_map(|(size, run)| {
        ObservedPeak::from_observation(&run.observation)?.bytes.0.checked_sub(workload::need(*size).0)
    });
    if let Some(beyond) = beyond.max() {
        text += &format!(
            "They match the task's formula max({}, {}·n) within {}, the memory of the program itself and of the \
             kernel.\n",
            workload::FLOOR,
            workload::BYTES_PER_BYTE,
            Bytes(beyond)
        );
    }
    text
}

/// Suggests what to do next.
fn farewell(kept: Option<&Path>) -> String {
    let again = kept.map_or_else(String::new, |folder| {
        format!(
            "The records are in {0}: run `highwater fit {0}` for details of the rule.\n",
            printable(&folder.display().to_string())
        )
    });
    format!(
        "\n{again}Next: measure a command with `highwater run -- COMMAND`; see how exact peaks are here with \
         `highwater doctor`.\n"
    )
}
