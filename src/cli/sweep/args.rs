//! The arguments of `highwater sweep`.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use highwater::calibrate::argument::{growth, indices, parameter, sample_interval, scan, split, times};
use highwater::calibrate::sweep::{Budget, Until};
use highwater::calibrate::workload::settings::Settings;
use highwater::model::plan::{Count, Order, Pick};
use highwater::model::scalar::{amount, duration, limit, small_share};
use highwater::model::units::Bytes;
use serde_json::{Map, Value};

use crate::cli::on::{OnArg, PodArgs};
use crate::cli::run::{CacheArg, SubjectArgs, UseCgroup};

const EXAMPLES: &str = "\
Examples:
  highwater sweep task.json --items 1,2,4,8,all -r 3
                                              subsets of the task's input items, three runs each
  highwater sweep task.json --input scans=cases/a cases/b --into lungs/
                                              one case per directory, recorded in lungs/
  highwater sweep --input scans/ --items 1,2,4 -P THREADS=1,2,4 -- ./segment -j {THREADS} {input}
                                              a command with placeholders for input and parameters
  highwater sweep --image segment --shm-size 1g --input scans/ --items 1,2,4 -- {input}
                                              the same in containers with a larger /dev/shm
  highwater sweep --size 64MiB,256MiB,1GiB -- gzip -k {input}
                                              generated files, for a command that takes any bytes
  highwater sweep task.json --items 1,2,4 --floor
                                              also find the minimum limit of each subset
  highwater sweep --into lungs/               resume a sweep
  highwater sweep --into lungs/ --retry failed
                                              resume a sweep and repeat its failed runs
  highwater sweep task.json --items 1,2,4 --save-plan lungs.toml --dry-run
                                              write a sweep file, run nothing
  highwater sweep --file lungs.toml           run a sweep file
  highwater sweep task.json --items 1,2,4 -r 3 --on slurm --slurm '--partition=main --time=2:00:00' --into lungs/
                                              the same on a cluster
  highwater sweep --file plan.json --cell-index $INDEX --record cells/$INDEX.jsonl
                                              one cell of a plan, on any machine with the same data;
                                              see highwater merge

Each run is one line of DIR/observations.jsonl, on disk before the next run starts. Whatever interrupts a sweep, the \
same command (or --into DIR alone) resumes it. After a change of the plan, recorded runs that still fit are kept: \
they are identified by digests of the task, its image, the name of the case if there are several directories, the input \
files (names, sizes, and the first, middle and last block of each) and the parameters.

A subset is staged by hard links, clones or mounts. The task can only read its input; one that writes to it needs \
--input-access private. Each run writes its outputs to its own directory, {output} in a command, which is removed \
after the run (see --keep-outputs). Its stdout and stderr are kept below DIR/runs. A container of an --image has {input} \
and {output} mounted at their own paths, or where --mount {input}:PATH places them.

Exit status: 0 all runs are recorded, --max-cost is reached or --until is fulfilled, 3 unsupported host or container engine, full disk, or jobs of a cluster that ended too early, \
4 the task failed in some run, 130 interrupted.";

/// The command line of a sweep.
#[derive(Debug)]
pub(crate) struct SweepArgs {
    /// The settings that were typed, by the names of their flags.
    pub(super) typed: Settings,
}

/// Run a task across inputs, sizes and parameters, and record every run; resume an interrupted sweep.
#[derive(Debug, Args)]
#[command(
    after_long_help = EXAMPLES,
    // Clap moves a changed argument to the end, so the positions of both are set again.
    mut_arg("task", |arg| arg.index(1).required_unless_present_any(["file", "into"])),
    mut_arg("command", |arg| arg.index(2)),
    // `mut_arg` would move the argument to the end of the help.
    mut_args(|arg| if arg.get_id() == "cpus" { several_cpus(arg) } else { arg }),
)]
struct Flags {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Run this sweep file (TOML) or plan.json; options on the command line override it.
    #[arg(long, value_name = "FILE", help_heading = "Records and plans")]
    file: Option<PathBuf>,
    /// Directory for plan and records [default: NAME.sweep]. A sweep that is already there is resumed.
    #[arg(long, value_name = "DIR", help_heading = "Records and plans")]
    into: Option<PathBuf>,
    /// Write a sweep file with these settings; if FILE has the extension .json, the plan with its cells.
    #[arg(long, value_name = "FILE", help_heading = "Records and plans")]
    save_plan: Option<PathBuf>,
    /// Show the plan, with an estimate of memory and time, and run nothing.
    #[arg(short = 'n', long, help_heading = "Records and plans")]
    dry_run: bool,
    /// Which recorded runs to repeat: interrupted ones, those that ran out of memory as well, all that failed, or none.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = RetryArg::Interrupted, help_heading = "Records and plans")]
    retry: RetryArg,
    /// Run only this cell, given by its key or the start of its key, and record it in a separate file. Can be repeated.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["cell_index", "into"], help_heading = "Records and plans")]
    cell: Vec<String>,
    /// Like --cell, by index in the plan, counted from 0: 3, or 0,4 or 0-3.
    #[arg(long, value_name = "I", value_delimiter = ',', value_parser = indices, conflicts_with = "into", help_heading = "Records and plans")]
    cell_index: Vec<(usize, usize)>,
    /// File for the records of single cells [default: cell-KEY.jsonl].
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Records and plans")]
    record: Option<PathBuf>,
    /// Keep what each run wrote to its output channels, or {output}, and what it changed in a private copy of its
    /// input, below DIR/runs.
    #[arg(long, help_heading = "Records and plans")]
    keep_outputs: bool,

    /// Directories of an input channel, each of them a case: CHANNEL=DIR DIR…, or DIR… for a command. Can be repeated.
    ///
    /// Channels with several directories are paired: the first of each, then the second. A single directory is used for
    /// all cases. A channel without --input keeps the directory given in the task.
    #[arg(long, value_name = "[CHANNEL=]DIR", num_args = 1.., help_heading = "Inputs")]
    input: Vec<String>,
    /// Subsets of N items, such as 1,2,4,8,all. Items are the directories directly in a channel.
    ///
    /// Items are counted in the first channel that has any. Other channels with items of the same names are cut to the
    /// same items.
    #[arg(long, value_name = "N,…", value_delimiter = ',', help_heading = "Inputs")]
    items: Vec<Count>,
    /// Which items come first: first (by name), smallest, largest, spread (over the sizes) or random:SEED [default:
    /// first, or spread if the number of files, their total and the largest one would all rise together].
    ///
    /// Runs in which these measures of the input rise together cannot show which of them the memory follows.
    #[arg(long, value_name = "HOW", help_heading = "Inputs")]
    pick: Option<Pick>,
    /// Use TIMES as many items, such as 0.25,0.5,2,4: above 1, items are repeated under new names and the input is
    /// marked as synthetic.
    #[arg(long, value_name = "TIMES,…", value_delimiter = ',', value_parser = growth, help_heading = "Inputs")]
    grow: Vec<f64>,
    /// Files of these sizes, such as 64MiB,1GiB: cut from the files of --input, else random bytes. {input} is the file.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = amount, help_heading = "Inputs")]
    size: Vec<Bytes>,
    /// Stage inputs in this directory instead of the sweep's, for example on the file system of the inputs.
    ///
    /// Hard links and clones work only on the same file system; elsewhere, inputs of processes have to be copied. The
    /// directory is created, and removed at the end. It must be empty or absent, unless a killed sweep left it.
    #[arg(long, value_name = "DIR", help_heading = "Inputs")]
    staging: Option<PathBuf>,

    /// A parameter and its values: a variable of the task, or {NAME} in a command. A comma in a value is written `\,`.
    #[arg(short = 'P', long, value_name = "NAME=VALUE,…", value_parser = parameter, help_heading = "Parameters")]
    param: Vec<(String, Vec<String>)>,
    /// A numeric parameter from MIN to MAX in steps of STEP.
    #[arg(long, value_name = "NAME=MIN:MAX:STEP", value_parser = scan, help_heading = "Parameters")]
    scan: Vec<(String, Vec<String>)>,
    /// Combine the first values of all parameters, then the second ones and so on, instead of all combinations.
    #[arg(long, help_heading = "Parameters")]
    pair: bool,

    /// Runs per cell.
    #[arg(short, long, value_name = "N", default_value_t = 1, conflicts_with_all = ["min_runs", "max_runs"], value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Runs")]
    runs: u32,
    /// Minimum number of runs per cell; more follow until their peaks are within --precision [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Runs")]
    min_runs: Option<u32>,
    /// Maximum number of runs per cell [default: 10 more than --min-runs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Runs")]
    max_runs: Option<u32>,
    /// Sufficient spread: the robust standard deviation of the peaks as a share of their median.
    #[arg(long, value_name = "SHARE", value_parser = small_share, default_value = "2%", help_heading = "Runs")]
    precision: f64,
    /// Number of unrecorded runs before the first run of each cell.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Runs")]
    warmup: u32,
    /// Order of runs: as-given (cell by cell), interleaved (the first run of every cell, then the second ones) or
    /// shuffled:SEED.
    #[arg(long, value_name = "HOW", default_value_t = Order::AsGiven, help_heading = "Runs")]
    order: Order,
    /// Also find the minimum memory limit of each cell, to this precision [default: 2%].
    ///
    /// The search works as in `highwater floor`. It follows the first run of the cell, whose record stores the result;
    /// `fit --on floor` fits a rule to it. The tries, about a dozen, are kept in floor.jsonl beside the output of that
    /// run.
    #[arg(long, value_name = "SHARE", value_parser = small_share, num_args = 0..=1, require_equals = true, default_missing_value = "2%", conflicts_with = "limit", help_heading = "Runs")]
    floor: Option<f64>,
    /// With --floor: accept a limit only if a run takes at most TIMES as long as without one, such as 1.2.
    #[arg(long, value_name = "TIMES", value_parser = times, requires = "floor", help_heading = "Runs")]
    slowdown: Option<f64>,
    /// Page cache before each run: cold (dropped), warm (everything was read before), or as-is.
    ///
    /// Files that a task reads, also its program and libraries, are charged to it only if they are not in the cache
    /// yet. cold: as root, highwater drops the whole cache; otherwise only the input files, and the record says which.
    /// warm: highwater reads the input files before each run and, unless there is a --warmup, starts with a run that is
    /// not recorded, for each choice of parameters, which reads programs and libraries.
    #[arg(long, value_enum, value_name = "STATE", default_value_t = CacheArg::AsIs, help_heading = "Runs")]
    cache: CacheArg,
    /// Shell command before the first run of each cell; takes the same placeholders as the task's command.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    setup: Option<String>,
    /// Shell command before each run.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    prepare: Option<String>,
    /// Shell command after each run.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    conclude: Option<String>,
    /// Shell command after the last run of each cell.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    cleanup: Option<String>,

    /// Limit the memory of each run to QUANTITY, such as 512Mi.
    #[arg(long, value_name = "QUANTITY", value_parser = limit, help_heading = "Limits")]
    limit: Option<Bytes>,
    /// End a run after DURATION, such as 90s or 1h30m.
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Limits")]
    timeout: Option<Duration>,
    /// Time to wait after SIGTERM or Ctrl-C before killing a task.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s", help_heading = "Limits")]
    kill_after: Duration,
    /// Maximum number of concurrent runs, as far as the host has memory for them.
    ///
    /// A run starts beside others only if what its cell was measured to need, or else what a curve through the measured
    /// cells or the task's rules predict, fits into the memory that they leave. A run about which nothing is known yet
    /// runs alone. Peaks do not depend on the number of jobs; times do, unless each run has CPUs of its own (--pin).
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Limits")]
    jobs: u32,
    /// Give each run CPUs of its own, so that the times of concurrent runs mean something.
    ///
    /// The CPUs that highwater may use are divided among the --jobs: whole cores, and cores of one NUMA node where that
    /// is possible. Each run gets the same number of cores, and no other run of this sweep is on them; caches, memory
    /// and disks are still shared. Processes are kept there by their affinity, containers by the engine. Without it,
    /// the times of runs that ran beside others are marked as disturbed.
    #[arg(long, help_heading = "Limits")]
    pin: bool,
    /// Memory that concurrent runs may use together [default: nine tenths of what the host and the limits above
    /// highwater leave available].
    #[arg(long, value_name = "QUANTITY", value_parser = limit, help_heading = "Limits")]
    memory: Option<Bytes>,
    /// Start no run that would make the sweep cost more: a time such as 2h, or peaks × time such as 10GiBh.
    #[arg(long, value_name = "COST", help_heading = "Limits")]
    max_cost: Option<Budget>,
    /// Measure the sizes that tell most first, and stop once two in a row were predicted within a share such as 10%, or
    /// before the sweep costs more than 1h or 10GiBh.
    ///
    /// The smallest and the largest size come first, then always the one farthest from those measured. A plan of many
    /// sizes costs no more then than the few it takes: more sizes tell more than more runs of each. Without --until, the
    /// same command makes the runs that are left; with a cost, it goes on for as long again.
    #[arg(long, value_name = "SHARE|COST", help_heading = "Limits")]
    until: Option<Until>,
    /// Time between samples [default: at each new maximum, and every 10 ms to 2 s].
    #[arg(long, value_name = "DURATION", value_parser = sample_interval, help_heading = "Limits")]
    sample_interval: Option<Duration>,
    /// Whether to measure in a cgroup.
    #[arg(long, value_enum, default_value_t = UseCgroup::Auto, value_name = "WHEN", help_heading = "Limits")]
    cgroup: UseCgroup,

    /// Where the cells run: on this machine, as job arrays on a cluster with Slurm, or as pods of a Kubernetes cluster.
    ///
    /// slurm: highwater submits one array per size of memory and watches until all records are in DIR; DIR and the inputs must
    /// have the same paths on all nodes. Each job requests one and a half times what its cell is expected to need, or
    /// what --mem in --slurm says if that is more or nothing is known. A cell that runs out of memory is submitted
    /// again with twice as much. Ctrl-C leaves the jobs running. By default a sweep goes on where it began.
    ///
    /// kubernetes: each run is a pod, --jobs at a time, with the probe from a ConfigMap as its first process; all of it is
    /// removed afterwards. DIR and the inputs must have the same paths on all nodes, except below a --claim.
    #[arg(long, value_enum, value_name = "WHERE", help_heading = "Cluster")]
    on: Option<OnArg>,
    /// Options for sbatch, quoted as in a shell, such as "--partition=main --time=2:00:00".
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true, help_heading = "Cluster")]
    slurm: Option<String>,
    /// Request at most QUANTITY of memory for a job.
    #[arg(long, value_name = "QUANTITY", value_parser = limit, help_heading = "Cluster")]
    max_mem: Option<Bytes>,
    /// Time to wait for the records of a job that has ended, before its run counts as lost.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s", help_heading = "Cluster")]
    patience: Duration,
    /// Submit the jobs and end; `highwater sweep --into DIR` watches them.
    #[arg(long, conflicts_with = "cancel", help_heading = "Cluster")]
    detach: bool,
    /// Cancel the jobs of the sweep, and keep what is recorded.
    #[arg(long, help_heading = "Cluster")]
    cancel: bool,
    #[command(flatten)]
    pod: PodArgs,

    /// Output on stdout: a table of the cells at the end, or each record as a line of JSON after its run.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Do not show progress or individual runs.
    #[arg(short, long)]
    quiet: bool,
}

/// What goes to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For scripts.
    Jsonl,
}

/// Which recorded runs are made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RetryArg {
    Interrupted,
    Oom,
    Failed,
    Never,
}

impl Args for SweepArgs {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for SweepArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let command = Flags::augment_args(Command::new("sweep"));
        let mut typed = Map::new();
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            if matches.value_source(id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let value = match arg.get_action() {
                ArgAction::SetTrue => Value::Bool(true),
                _ => value_of(arg, texts(arg, matches)?),
            };
            typed.insert(key(arg).to_owned(), value);
        }
        Ok(Self { typed })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `--cpus` as a sweep has it.
fn several_cpus(arg: Arg) -> Arg {
    arg.action(ArgAction::Append)
        .value_delimiter(',')
        .value_name("N,…")
        .help("Limit each run to N CPUs; several numbers such as 1,2,4 are values of a parameter, `cpus`")
        .long_help(
            "Limit each run to N CPUs; several numbers such as 1,2,4 are values of a parameter, `cpus`.\n\nA process gets \
             whole CPUs by its affinity, so that it sees as many (nproc), and with several --jobs needs --pin. A \
             container is limited by its engine, and may have parts such as 1.5. A command may contain {cpus}. The \
             table at the end shows the speed-up, the efficiency and the peak per CPU.",
        )
}

fn key(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

fn texts(arg: &Arg, matches: &ArgMatches) -> Result<Vec<String>, clap::Error> {
    let raw = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
    raw.map(|raw| {
        raw.to_str().map(str::to_owned).ok_or_else(|| {
            let message = format!(
                "the value of --{} is not valid UTF-8: {}; rename it, a plan can contain only UTF-8",
                key(arg),
                raw.to_string_lossy()
            );
            clap::Error::raw(ErrorKind::InvalidUtf8, message)
        })
    })
    .collect()
}

/// Values as in a sweep file: parameters by name, numbers as numbers.
fn value_of(arg: &Arg, texts: Vec<String>) -> Value {
    match key(arg) {
        "param" => {
            let mut table = Map::new();
            for text in texts {
                let Some((name, values)) = text.split_once('=') else { continue };
                let values = split(values).into_iter().map(|value| plain(&value));
                let known = table.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(known) = known {
                    known.extend(values);
                }
            }
            Value::Object(table)
        }
        "scan" => {
            let pairs = texts.iter().filter_map(|text| text.split_once('='));
            Value::Object(pairs.map(|(name, range)| (name.to_owned(), Value::from(range))).collect())
        }
        "cpus" if texts.len() == 1 => texts.first().map_or(Value::Null, |text| plain(text)),
        "command" => texts.into_iter().map(Value::from).collect(),
        _ if is_list(arg) => texts.iter().map(|text| plain(text)).collect(),
        _ => texts.last().map_or(Value::Null, |text| plain(text)),
    }
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
        || arg.get_value_delimiter().is_some()
        || arg.get_num_args().is_some_and(|count| count.max_values() > 1)
}

fn plain(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => Value::from(number),
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use highwater::calibrate::sweep::NAMES;
    use highwater::calibrate::workload::settings;

    use super::*;

    #[test]
    fn every_flag_is_a_setting() {
        let command = Flags::augment_args(Command::new("sweep"));
        let flags: BTreeSet<&str> = command.get_arguments().map(key).collect();
        let of_the_command_line = ["file", "save-plan", "dry-run", "format", "quiet"];
        let settings: BTreeSet<&str> = NAMES.into_iter().chain(settings::NAMES).chain(of_the_command_line).collect();
        assert_eq!(flags, settings);
    }
}
