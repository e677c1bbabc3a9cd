//! The arguments of `highwater sweep`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use highwater::calibrate::sweep::{Budget, Retry};
use highwater::model::plan::{Count, Order, Pick};
use highwater::model::units::Bytes;

use crate::cli::fit::share;
use crate::cli::floor::times;
use crate::cli::run::{SubjectArgs, UseCgroup, duration, limit, sample_interval};

const EXAMPLES: &str = "\
Examples:
  highwater sweep task.json --items 1,2,4,8,all -r 3
                                              subsets of the task's input items, three runs each
  highwater sweep task.json --input scans=cases/a cases/b --into lungs/
                                              one case per directory, recorded in lungs/
  highwater sweep --input scans/ --items 1,2,4 -P THREADS=1,2,4 -- ./segment -j {THREADS} {input}
                                              a command with placeholders for input and parameters
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
  highwater sweep --file plan.json --cell-index $SLURM_ARRAY_TASK_ID \\
      --record cells/$SLURM_ARRAY_TASK_ID.jsonl
                                              one cell of a plan, on any machine with the same data;
                                              see highwater merge

Each run is one line of DIR/observations.jsonl, on disk before the next run starts. Whatever interrupts a sweep, the \
same command (or --into DIR alone) resumes it. After a change of the plan, recorded runs that still fit are kept: \
they are identified by digests of the task, its image, the directory named by --input, the input files (names, sizes, \
and the first, middle and last block of each) and the parameters.

A subset is staged by hard links, clones or mounts. The task can only read its input; one that writes to it needs \
--input-access private. Each run writes its outputs to its own directory, {output} in a command, which is removed \
after the run (see --keep-outputs). Its stdout and stderr are kept below DIR/runs.

Exit status: 0 all runs are recorded or --max-cost is reached, 3 unsupported host or container engine, or full disk, \
4 the task failed in some run, 130 interrupted.";

/// Run a task across inputs, sizes and parameters, and record every run; resume an interrupted sweep.
#[derive(Debug, Args)]
#[command(
    after_long_help = EXAMPLES,
    // Clap moves a changed argument to the end, so the positions of both are set again.
    mut_arg("task", |arg| arg.index(1).required_unless_present_any(["file", "into"])),
    mut_arg("command", |arg| arg.index(2)),
)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(super) subject: SubjectArgs,
    /// Run this sweep file (TOML) or plan.json; options on the command line override it.
    #[arg(long, value_name = "FILE", help_heading = "Records and plans")]
    pub(super) file: Option<PathBuf>,
    /// Directory for plan and records [default: NAME.sweep]. A sweep that is already there is resumed.
    #[arg(long, value_name = "DIR", help_heading = "Records and plans")]
    pub(super) into: Option<PathBuf>,
    /// Write a sweep file with these settings; if FILE has the extension .json, the plan with its cells.
    #[arg(long, value_name = "FILE", help_heading = "Records and plans")]
    pub(super) save_plan: Option<PathBuf>,
    /// Show the plan, with an estimate of memory and time, and run nothing.
    #[arg(short = 'n', long, help_heading = "Records and plans")]
    pub(super) dry_run: bool,
    /// Which recorded runs to repeat: interrupted ones, all that failed, or none.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = RetryArg::Interrupted, help_heading = "Records and plans")]
    pub(super) retry: RetryArg,
    /// Run only this cell, given by its key or the start of its key, and record it in a separate file. Can be repeated.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["cell_index", "into"], help_heading = "Records and plans")]
    pub(super) cell: Vec<String>,
    /// Like --cell, by index in the plan, counted from 0: 3, or 0,4 or 0-3.
    #[arg(long, value_name = "I", value_delimiter = ',', value_parser = places, conflicts_with = "into", help_heading = "Records and plans")]
    pub(super) cell_index: Vec<(usize, usize)>,
    /// File for the records of single cells [default: cell-KEY.jsonl].
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Records and plans")]
    pub(super) record: Option<PathBuf>,
    /// Keep what each run wrote to its output channels, or {output}, and what it changed in a private copy of its
    /// input, below DIR/runs.
    #[arg(long, help_heading = "Records and plans")]
    pub(super) keep_outputs: bool,

    /// Directories of an input channel, each of them a case: CHANNEL=DIR DIR…, or DIR… for a command. Can be repeated.
    ///
    /// Channels with several directories are paired: the first of each, then the second. A single directory is used for
    /// all cases. A channel without --input keeps the directory given in the task.
    #[arg(long, value_name = "[CHANNEL=]DIR", num_args = 1.., help_heading = "Inputs")]
    pub(super) input: Vec<String>,
    /// Subsets of N items, such as 1,2,4,8,all. Items are the directories directly in a channel.
    ///
    /// Items are counted in the first channel that has any. Other channels with items of the same names are cut to the
    /// same items.
    #[arg(long, value_name = "N,…", value_delimiter = ',', help_heading = "Inputs")]
    pub(super) items: Vec<Count>,
    /// Which items come first: first (by name), smallest, largest, spread (over the sizes) or random:SEED.
    #[arg(long, value_name = "HOW", default_value_t = Pick::First, help_heading = "Inputs")]
    pub(super) pick: Pick,
    /// Use TIMES as many items, such as 0.25,0.5,2,4: above 1, items are repeated under new names and the input is
    /// marked as synthetic.
    #[arg(long, value_name = "TIMES,…", value_delimiter = ',', value_parser = growth, help_heading = "Inputs")]
    pub(super) grow: Vec<f64>,
    /// Files of these sizes, such as 64MiB,1GiB: cut from the files of --input, else random bytes. {input} is the file.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = size, help_heading = "Inputs")]
    pub(super) size: Vec<Bytes>,
    /// Stage inputs in this directory instead of the sweep's, for example on the file system of the inputs.
    ///
    /// Hard links and clones work only on the same file system; elsewhere, inputs of processes have to be copied. The
    /// directory is created, and removed at the end. It must be empty or absent, unless a killed sweep left it.
    #[arg(long, value_name = "DIR", help_heading = "Inputs")]
    pub(super) staging: Option<PathBuf>,

    /// A parameter and its values: a variable of the task, or {NAME} in a command. A comma in a value is written `\,`.
    #[arg(short = 'P', long, value_name = "NAME=VALUE,…", value_parser = parameter, help_heading = "Parameters")]
    pub(super) param: Vec<(String, Vec<String>)>,
    /// A numeric parameter from MIN to MAX in steps of STEP.
    #[arg(long, value_name = "NAME=MIN:MAX:STEP", value_parser = scanned, help_heading = "Parameters")]
    pub(super) scan: Vec<(String, Vec<String>)>,
    /// Combine the first values of all parameters, then the second ones and so on, instead of all combinations.
    #[arg(long, help_heading = "Parameters")]
    pub(super) pair: bool,

    /// Runs per cell.
    #[arg(short, long, value_name = "N", default_value_t = 1, conflicts_with_all = ["min_runs", "max_runs"], value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Runs")]
    pub(super) runs: u32,
    /// Minimum number of runs per cell; more follow until their peaks are within --precision [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Runs")]
    pub(super) min_runs: Option<u32>,
    /// Maximum number of runs per cell [default: 10 more than --min-runs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Runs")]
    pub(super) max_runs: Option<u32>,
    /// Sufficient spread: the robust standard deviation of the peaks as a share of their median.
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "2%", help_heading = "Runs")]
    pub(super) precision: f64,
    /// Number of unrecorded runs before the first run of each cell.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Runs")]
    pub(super) warmup: u32,
    /// Order of runs: as-given (cell by cell), interleaved (the first run of every cell, then the second ones) or
    /// shuffled:SEED.
    #[arg(long, value_name = "HOW", default_value_t = Order::AsGiven, help_heading = "Runs")]
    pub(super) order: Order,
    /// Also find the minimum memory limit of each cell, to this precision [default: 2%].
    ///
    /// The search works as in `highwater floor`. It follows the first run of the cell, whose record stores the result;
    /// `fit --on floor` fits a rule to it. The tries, about a dozen, are kept in floor.jsonl beside the output of that
    /// run.
    #[arg(long, value_name = "SHARE", value_parser = share, num_args = 0..=1, require_equals = true, default_missing_value = "2%", conflicts_with = "limit", help_heading = "Runs")]
    pub(super) floor: Option<f64>,
    /// With --floor: accept a limit only if a run takes at most TIMES as long as without one, such as 1.2.
    #[arg(long, value_name = "TIMES", value_parser = times, requires = "floor", help_heading = "Runs")]
    pub(super) slowdown: Option<f64>,
    /// Page cache before each run: cold (dropped), warm (inputs are read once), or as-is.
    ///
    /// Files that a task reads are charged to it only if they are not in the cache yet. As root, highwater drops the
    /// whole cache; otherwise only the input files. The record says which.
    #[arg(long, value_enum, value_name = "STATE", default_value_t = CacheArg::AsIs, help_heading = "Runs")]
    pub(super) cache: CacheArg,
    /// Shell command before the first run of each cell; takes the same placeholders as the task's command.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    pub(super) setup: Option<String>,
    /// Shell command before each run.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    pub(super) prepare: Option<String>,
    /// Shell command after each run.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    pub(super) conclude: Option<String>,
    /// Shell command after the last run of each cell.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    pub(super) cleanup: Option<String>,

    /// Limit the memory of each run to QUANTITY, such as 512Mi.
    #[arg(long, value_name = "QUANTITY", value_parser = limit, help_heading = "Limits")]
    pub(super) limit: Option<Bytes>,
    /// End a run after DURATION, such as 90s or 1h30m.
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Limits")]
    pub(super) timeout: Option<Duration>,
    /// Time to wait after SIGTERM or Ctrl-C before killing a task.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s", help_heading = "Limits")]
    pub(super) kill_after: Duration,
    /// Maximum number of concurrent runs, as far as the host has memory for them.
    ///
    /// A run starts beside others only if what its cell was measured to need, or what its rules predict, fits into the
    /// memory that they leave. A run about which nothing is known yet runs alone. Peaks do not depend on the number of
    /// jobs; times do.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Limits")]
    pub(super) jobs: u32,
    /// Memory that concurrent runs may use together [default: nine tenths of what the host and the limits above
    /// highwater leave available].
    #[arg(long, value_name = "QUANTITY", value_parser = limit, help_heading = "Limits")]
    pub(super) memory: Option<Bytes>,
    /// Start no run that would make the sweep cost more: a time such as 2h, or peaks × time such as 10GiBh.
    #[arg(long, value_name = "COST", value_parser = budget, help_heading = "Limits")]
    pub(super) max_cost: Option<Budget>,
    /// Time between samples [default: at each new maximum, and every 10 ms to 2 s].
    #[arg(long, value_name = "DURATION", value_parser = sample_interval, help_heading = "Limits")]
    pub(super) sample_interval: Option<Duration>,
    /// Whether to measure in a cgroup.
    #[arg(long, value_enum, default_value_t = UseCgroup::Auto, value_name = "WHEN", help_heading = "Limits")]
    pub(super) cgroup: UseCgroup,

    /// Output on stdout: a table of the cells at the end, or each record as a line of JSON after its run.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) format: Format,
    /// Do not show progress or individual runs.
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// What goes to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For scripts.
    Jsonl,
}

/// Which recorded runs are made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RetryArg {
    Interrupted,
    Failed,
    Never,
}

impl From<RetryArg> for Retry {
    fn from(retry: RetryArg) -> Self {
        match retry {
            RetryArg::Interrupted => Self::Interrupted,
            RetryArg::Failed => Self::Failed,
            RetryArg::Never => Self::Never,
        }
    }
}

/// The page cache before each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CacheArg {
    Cold,
    Warm,
    AsIs,
}

impl CacheArg {
    /// The name of this state in the key of a cell; `None` if nothing is done.
    pub(super) fn in_key(self) -> Option<String> {
        match self {
            Self::Cold => Some("cold".to_owned()),
            Self::Warm => Some("warm".to_owned()),
            Self::AsIs => None,
        }
    }
}

/// Parses `3` or `0-3`.
fn places(text: &str) -> Result<(usize, usize), String> {
    let expected = || "expected an index from 0 such as 3, or a range such as 0-3".to_owned();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let place = |text: &str| text.parse::<usize>().map_err(|_| expected());
    let (first, last) = (place(first)?, place(last)?);
    if first <= last { Ok((first, last)) } else { Err(expected()) }
}

fn growth(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 && times <= 10_000.0 => Ok(times),
        Ok(_) | Err(_) => Err("expected a number above 0, such as 0.5 or 4".to_owned()),
    }
}

fn size(text: &str) -> Result<Bytes, String> {
    text.parse::<Bytes>().map_err(|error| error.to_string())
}

/// Parses `NAME=a,b,c`, with `\,` for a comma in a value.
fn parameter(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, values) = named(text, "NAME=VALUE,VALUE,…")?;
    Ok((name.to_owned(), super::file::split(values)))
}

fn scanned(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, range) = named(text, "NAME=MIN:MAX:STEP")?;
    Ok((name.to_owned(), highwater::model::plan::scan(range)?))
}

fn named<'a>(text: &'a str, expected: &str) -> Result<(&'a str, &'a str), String> {
    match text.split_once('=') {
        Some((name, rest)) if !name.is_empty() && !name.contains(['{', '}', '\0']) => Ok((name, rest)),
        _ => Err(format!("expected {expected}")),
    }
}

/// Parses `2h`, or `10GiBh` (memory for an hour).
fn budget(text: &str) -> Result<Budget, String> {
    let expected = "expected a time such as 2h, or memory times time such as 10GiBh";
    if let Some(memory) = text.strip_suffix('h')
        && let Ok(bytes) = memory.parse::<Bytes>()
        && memory.contains(|char: char| char.is_ascii_alphabetic())
    {
        return Ok(Budget::Memory(bytes.0 as f64 * 3600.0));
    }
    duration(text).map(Budget::Time).map_err(|_| expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_parameters_are_separated_by_commas() {
        let values = |text| parameter(text).unwrap().1;
        assert_eq!(values("A=1,2"), ["1", "2"]);
        assert_eq!(values("A=a\\,b,c=d,"), ["a,b", "c=d", ""]);
        assert!(values("A=").is_empty());
        assert!(parameter("A").is_err() && parameter("=1").is_err());
    }

    #[test]
    fn costs_are_times_or_memory_by_time() {
        assert_eq!(budget("90m"), Ok(Budget::Time(Duration::from_secs(5400))));
        assert_eq!(budget("2GiBh"), Ok(Budget::Memory(7200.0 * f64::from(1 << 30))));
        assert!(budget("2").is_err() && budget("GiBh").is_err());
    }
}
