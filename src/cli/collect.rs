//! `highwater collect`: makes records of production runs that had the probe in front of their command.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use highwater::calibrate::collect::{Collector, Summary};
use highwater::calibrate::failure::Failed;
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::observation::Observation;
use highwater::model::reading::Reading;
use highwater::runner::patience::Patience;
use highwater::runner::pod::{Cluster, PodError, PodQuery};
use highwater::runner::reports;
use highwater::store::{Record, StoreError};

use super::exit::Exit;
use super::failure::Failure;
use super::on::{ClusterArgs, PlaceArg};
use super::signals::Signals;
use super::{output, records};

const EXAMPLES: &str = "\
Examples:
  highwater collect --on kubernetes -l app=segment --record segment.jsonl
                                     records of the pods that have ended
  highwater collect --on kubernetes -l app=segment --record segment.jsonl --watch
                                     and of those that end from now on, until Ctrl-C
  highwater collect --on slurm reports/ --record segment.jsonl
                                     records of jobs, from the files that the probe has written
  highwater fit segment.jsonl        a rule fitted to production runs

On Kubernetes, a run is recorded if the command of its container begins with the probe, which `highwater probe` writes: \
`probe /dev/termination-log -- COMMAND`. docs/production.md has a pod, a ConfigMap with the probe and an operator of \
Airflow.

On Slurm, `srun probe reports/$SLURM_JOB_ID -- COMMAND` in a job's script writes a file in an existing directory, one per task if the \
step has several. Slurm is asked about a job only \
if its report is unfinished.

Annotations of the pod say what the run was: `highwater/task: NAME`, `highwater/input.CHANNEL: 12Mi` (the total size of \
an input; also `max_file_size.`, `max_item_sum.`, `files.` and `items.`), and `highwater/parameter.NAME: VALUE`. In a Slurm \
job, or if the pod cannot be annotated, set the variable HIGHWATER_ANNOTATIONS instead: `task=NAME input.CHANNEL=12Mi`. \
Without sizes, a record is still good for `report`.

Each run is recorded once, however often it is collected. Pods without a record are counted and named, with the reason. \
The result of a deleted pod reaches only clients that are watching at that moment: use --watch where pods are deleted \
when they end. Only one `collect` at a time may write to FILE.

Nothing in the cluster is changed. The rights to list and watch pods are enough.

Exit status: 0 done, 2 wrong usage, or an invalid file, 3 the cluster cannot be read, or a record cannot be written, 5 no \
run was recorded.";

/// Turn production runs that started with the probe into records.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CollectArgs {
    /// Where the runs are.
    #[arg(long, value_enum, value_name = "ENGINE")]
    on: EngineArg,
    /// Reports of the probe, and directories of them (Slurm only).
    #[arg(value_name = "REPORTS")]
    reports: Vec<PathBuf>,
    /// Append the records to this file.
    #[arg(long, value_name = "FILE")]
    record: PathBuf,
    /// Only pods with these labels, such as `app=segment,tier!=test` [default: all of the namespace].
    #[arg(short = 'l', long, value_name = "LABELS", help_heading = "Kubernetes options")]
    selector: Option<String>,
    /// Keep collecting until Ctrl-C.
    #[arg(long, help_heading = "Kubernetes options")]
    watch: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EngineArg {
    /// Jobs of Slurm.
    Slurm,
    /// Pods of a Kubernetes cluster.
    Kubernetes,
}

/// Why collecting ended early.
enum Ended {
    Cluster(PodError),
    Record(StoreError),
}

impl From<PodError> for Ended {
    fn from(error: PodError) -> Self {
        Self::Cluster(error)
    }
}

pub(crate) fn run(args: &CollectArgs) -> Result<Exit, Failure> {
    let on_kubernetes = args.on == EngineArg::Kubernetes;
    let place = if on_kubernetes { PlaceArg::Kubernetes } else { PlaceArg::Local };
    let cluster = args.cluster.options(place)?;
    let wrong = [
        (!on_kubernetes && args.selector.is_some(), "--selector has no effect on Slurm", "remove it"),
        (!on_kubernetes && args.watch, "--watch has no effect on Slurm", "run collect again: it adds what is new"),
        (!on_kubernetes && args.reports.is_empty(), "no reports given", "name the files that the probe has written"),
        (on_kubernetes && !args.reports.is_empty(), "reports have no effect on Kubernetes", "give -l to choose pods"),
    ];
    if let Some((_, error, help)) = wrong.into_iter().find(|(is_so, ..)| *is_so) {
        return Err(Failure::new(Exit::Usage, error, Some(help.to_owned())));
    }
    let machine = Machine::read(HostRoots::default()).map_err(Failure::host)?;
    let cluster = cluster.map(|options| Cluster::open(options, None)).transpose().map_err(Failure::from_library)?;
    let mut collector = Collector::default();
    note_recorded(&args.record, &mut collector)?;
    let mut record = Record::open(&args.record).map_err(records::unstored)?;
    let collected = match &cluster {
        Some(cluster) => of_cluster(args, cluster, &machine, &mut collector, &mut record),
        None => of_reports(args, &machine, &mut collector, &mut record),
    };
    let summary = collector.summary();
    output::say(&text(&summary, &args.record, if on_kubernetes { "pod" } else { "report" }));
    match collected? {
        Exit::Done if summary.added + summary.already == 0 && !args.watch => Ok(Exit::TooLittleData),
        exit => Ok(exit),
    }
}

fn of_cluster(
    args: &CollectArgs,
    cluster: &Cluster,
    machine: &Machine,
    collector: &mut Collector,
    record: &mut Record,
) -> Result<Exit, Failure> {
    let mut signals = Signals::block().map_err(|errno| {
        let error = std::io::Error::from(errno);
        Failure::host(Failed::to("wait for signals", error))
    })?;
    let mut query = PodQuery::default();
    query.selector.clone_from(&args.selector);
    query.watch = args.watch;
    let mut patience = Patience::new(Some(&mut signals));
    let collected = cluster.production_pods(&query, machine, &mut patience, &mut |event| {
        for observation in collector.take(event) {
            record.append(&observation).map_err(Ended::Record)?;
            if args.watch {
                output::say(&describe(&observation));
            }
        }
        Ok::<(), Ended>(())
    });
    match collected {
        // The way to end a watch: nothing is lost.
        Ok(was_stopped) if was_stopped && !args.watch => Ok(Exit::Interrupted),
        Ok(_) => Ok(Exit::Done),
        Err(Ended::Cluster(error @ PodError::Request { status: Some(403), .. })) => {
            let help = "ask for the rights to list and watch pods in this namespace; docs/production.md has the Role";
            Err(Failure::new(Exit::Host, &error, Some(help.to_owned())))
        }
        Err(Ended::Cluster(error)) => Err(Failure::from_library(error)),
        Err(Ended::Record(error)) => Err(records::unstored(error)),
    }
}

fn of_reports(
    args: &CollectArgs,
    machine: &Machine,
    collector: &mut Collector,
    record: &mut Record,
) -> Result<Exit, Failure> {
    for path in &args.reports {
        let files =
            reports::files(path).map_err(|source| Failure::new(Exit::Usage, Failed::reading(path, source), None))?;
        for file in files {
            if let Some(observation) = collector.report(&file.display().to_string(), reports::read(&file, machine)) {
                record.append(&observation).map_err(records::unstored)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Takes note of the records in a file that exists; a pipe is only written to.
fn note_recorded(path: &Path, collector: &mut Collector) -> Result<(), Failure> {
    if fs::metadata(path).is_ok_and(|found| found.is_file()) {
        let source = records::open(path)?;
        records::each(&source, |observation| collector.note(&observation))?;
    }
    Ok(())
}

/// A line for a run that was recorded.
fn describe(run: &Observation) -> String {
    let name = run.pod.as_ref().map_or("a run", |pod| &pod.name);
    let peak = match &run.peak {
        Reading::Value(peak) => peak.words(),
        Reading::Unsupported | Reading::Gone => "no peak".to_owned(),
    };
    format!("highwater: {name}: {peak}, {}", run.outcome.words())
}

fn text(summary: &Summary, record: &Path, thing: &str) -> String {
    let runs = |count: u64| if count == 1 { "1 run".to_owned() } else { format!("{count} runs") };
    let mut lines = vec![format!("highwater: added {} to {}", runs(summary.added), record.display())];
    if summary.already > 0 {
        lines[0].push_str(&format!("; {} already recorded", runs(summary.already)));
    }
    if summary.without_sizes > 0 {
        let count = runs(summary.without_sizes);
        lines
            .push(format!("  {count} without the size of an input: `fit` needs an annotation highwater/input.CHANNEL"));
    }
    for (reason, tally) in &summary.missing {
        let count = if tally.count == 1 { format!("1 {thing}") } else { format!("{} {thing}s", tally.count) };
        let more = match tally.count - tally.first.len() as u64 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.push(format!("  {count}: {reason}: {}{more}", tally.first.join(", ")));
    }
    lines.join("\n")
}
