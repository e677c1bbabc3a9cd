//! What can be asked of `highwater sweep`.

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
                                              subsets of the items of the task's own input, three runs each
  highwater sweep task.json --input scans=cases/a cases/b --into lungs/
                                              each folder a case; records go to lungs/
  highwater sweep --input scans/ --items 1,2,4 -P THREADS=1,2,4 -- ./segment -j {THREADS} {input}
                                              a command, with places for input and parameters
  highwater sweep --size 64MiB,256MiB,1GiB -- gzip -k {input}
                                              generated files, for a command that takes any bytes
  highwater sweep task.json --items 1,2,4 --floor
                                              and the smallest limit under which each of them succeeds
  highwater sweep --into lungs/                goes on with what is left of a sweep
  highwater sweep --into lungs/ --retry failed
  highwater sweep task.json --items 1,2,4 --save-plan lungs.toml --dry-run
  highwater sweep --file lungs.toml           what a sweep file says
  highwater sweep --file plan.json --cell-index $SLURM_ARRAY_TASK_ID --record cells/$SLURM_ARRAY_TASK_ID.jsonl
                                              one cell of a plan, on any machine with the same data; see highwater merge

Each run is one line of FOLDER/observations.jsonl, on the disk before the next one begins. Whatever ends a sweep, the \
same command (or --into FOLDER alone) goes on with what is missing, and a plan that was changed keeps what still fits: \
runs are found by digests of the task, its image, the folder that was named, the files of their input (names, sizes, and \
the first, middle and last block of each) and the parameters.

A subset is staged by hard links, clones or mounts. The task can only read its input; one that writes into it needs \
--input-access private. What it writes to its outputs goes to a folder of its own for each run, \
{output} in a command, which is removed after it (see --keep-outputs). Output and errors are kept below FOLDER/runs.

Exit status: 0 all runs are recorded or --max-cost is reached, 3 this machine is not fit or its disk is full, 4 the \
task failed in some run, 130 interrupted.";

/// Runs a task across inputs, sizes and parameters, and records every run; goes on where it was ended.
#[derive(Debug, Args)]
#[command(
    after_long_help = EXAMPLES,
    // An argument that is changed moves to the end: the places of both are said again.
    mut_arg("task", |arg| arg.index(1).required_unless_present_any(["file", "into"])),
    mut_arg("command", |arg| arg.index(2)),
)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(super) subject: SubjectArgs,
    /// Do what this sweep file (TOML) or plan.json says; what is given besides on the command line wins.
    #[arg(long, value_name = "FILE", help_heading = "Records and plans")]
    pub(super) file: Option<PathBuf>,
    /// The folder for plan and records [default: NAME.sweep]. Where it has a sweep, that goes on.
    #[arg(long, value_name = "FOLDER", help_heading = "Records and plans")]
    pub(super) into: Option<PathBuf>,
    /// Write what was asked for as a sweep file; with the ending .json, the plan with its cells.
    #[arg(long, value_name = "FILE", help_heading = "Records and plans")]
    pub(super) save_plan: Option<PathBuf>,
    /// Show the plan, with an estimate of memory and time, and run nothing.
    #[arg(short = 'n', long, help_heading = "Records and plans")]
    pub(super) dry_run: bool,
    /// Which recorded runs are made again: interrupted ones, all that failed, or never any.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = RetryArg::Interrupted, help_heading = "Records and plans")]
    pub(super) retry: RetryArg,
    /// Make only the runs of this cell, and record them in a file of their own. The beginning of its key will do.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["cell_index", "into"], help_heading = "Records and plans")]
    pub(super) cell: Vec<String>,
    /// The same by the places of cells in the plan, counted from 0: 3, or 0,4 or 0-3.
    #[arg(long, value_name = "I", value_delimiter = ',', value_parser = places, conflicts_with = "into", help_heading = "Records and plans")]
    pub(super) cell_index: Vec<(usize, usize)>,
    /// The file for the records of single cells [default: cell-KEY.jsonl].
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Records and plans")]
    pub(super) record: Option<PathBuf>,
    /// Keep what each run wrote to its output channels, or {output}, below FOLDER/runs, and what it changed in a private copy
    /// of its input.
    #[arg(long, help_heading = "Records and plans")]
    pub(super) keep_outputs: bool,

    /// The folders of an input channel, each a case: CHANNEL=DIR DIR…; for a command DIR… alone. Can be repeated.
    ///
    /// Channels with several folders go together: the first of each, then the second. One folder is for all cases. A
    /// channel that is not named keeps the folder that the task has for it.
    #[arg(long, value_name = "[CHANNEL=]DIR", num_args = 1.., help_heading = "Inputs")]
    pub(super) input: Vec<String>,
    /// Subsets with so many items, such as 1,2,4,8,all. Items are the folders directly in a channel.
    ///
    /// Items are counted in the first channel that has any; other channels that have items of the same names are cut to
    /// them, too.
    #[arg(long, value_name = "N,…", value_delimiter = ',', help_heading = "Inputs")]
    pub(super) items: Vec<Count>,
    /// Which items come first: first (by name), smallest, largest, spread (over the sizes) or random:SEED.
    #[arg(long, value_name = "HOW", default_value_t = Pick::First, help_heading = "Inputs")]
    pub(super) pick: Pick,
    /// The items so many times, such as 0.25,0.5,2,4: beyond 1 they are repeated under new names, and marked as made up.
    #[arg(long, value_name = "TIMES,…", value_delimiter = ',', value_parser = growth, help_heading = "Inputs")]
    pub(super) grow: Vec<f64>,
    /// Files of these sizes, such as 64MiB,1GiB: cut from the files of --input, else random bytes. {input} is the file.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = size, help_heading = "Inputs")]
    pub(super) size: Vec<Bytes>,
    /// Stage inputs in this folder instead of in that of the sweep, such as one on the file system of the inputs.
    ///
    /// Hard links and clones only work there; elsewhere inputs of processes have to be copied. The folder is made, and
    /// removed in the end; it must be empty or not there, unless a sweep that was killed has left it.
    #[arg(long, value_name = "FOLDER", help_heading = "Inputs")]
    pub(super) staging: Option<PathBuf>,

    /// A parameter and its values: a variable of the task, or {NAME} in a command. A comma in a value is written `\,`.
    #[arg(short = 'P', long, value_name = "NAME=VALUE,…", value_parser = parameter, help_heading = "Parameters")]
    pub(super) param: Vec<(String, Vec<String>)>,
    /// A parameter of numbers from MIN to MAX.
    #[arg(long, value_name = "NAME=MIN:MAX:STEP", value_parser = scanned, help_heading = "Parameters")]
    pub(super) scan: Vec<(String, Vec<String>)>,
    /// Take the first values of all parameters, then the second ones and so on, instead of all combinations.
    #[arg(long, help_heading = "Parameters")]
    pub(super) pair: bool,

    /// How many runs of each cell.
    #[arg(short, long, value_name = "N", default_value_t = 1, conflicts_with_all = ["min_runs", "max_runs"], value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Runs")]
    pub(super) runs: u32,
    /// At least so many runs of each cell, and more until their peaks are within --precision [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Runs")]
    pub(super) min_runs: Option<u32>,
    /// At most so many [default: 10 more than --min-runs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Runs")]
    pub(super) max_runs: Option<u32>,
    /// The spread that is small enough: the robust standard deviation of the peaks as a share of their median.
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "2%", help_heading = "Runs")]
    pub(super) precision: f64,
    /// Runs before the first of each cell that are not recorded.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Runs")]
    pub(super) warmup: u32,
    /// As-given (cell by cell), interleaved (the first run of every cell, then the second ones) or shuffled:SEED.
    #[arg(long, value_name = "HOW", default_value_t = Order::AsGiven, help_heading = "Runs")]
    pub(super) order: Order,
    /// Also look for the smallest limit under which each cell succeeds, to this precision [default: 2%].
    ///
    /// As `highwater floor` does, after the first run of the cell, whose record gets what was found: `fit --on floor` fits
    /// to it. The dozen tries or so are kept in floor.jsonl beside the output of that run.
    #[arg(long, value_name = "SHARE", value_parser = share, num_args = 0..=1, require_equals = true, default_missing_value = "2%", conflicts_with = "limit", help_heading = "Runs")]
    pub(super) floor: Option<f64>,
    /// With --floor: let a limit be enough only if a run takes at most this many times as long as without one, such as 1.2.
    #[arg(long, value_name = "TIMES", value_parser = times, requires = "floor", help_heading = "Runs")]
    pub(super) slowdown: Option<f64>,
    /// The page cache before each run: cold (dropped), warm (inputs are read once), or as it is.
    ///
    /// Files that a task reads are charged to it only where they are not in the cache yet. Everything is dropped as root;
    /// else the input files are. The record says which.
    #[arg(long, value_enum, value_name = "STATE", default_value_t = CacheArg::AsIs, help_heading = "Runs")]
    pub(super) cache: CacheArg,
    /// A command for the shell before the first run of each cell; knows the same places as the task's command.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    pub(super) setup: Option<String>,
    /// A command for the shell before each run.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    pub(super) prepare: Option<String>,
    /// A command for the shell after each run.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    pub(super) conclude: Option<String>,
    /// A command for the shell after the last run of each cell.
    #[arg(long, value_name = "CMD", help_heading = "Runs")]
    pub(super) cleanup: Option<String>,

    /// Let each run have this much memory and no more, such as 512Mi.
    #[arg(long, value_name = "QUANTITY", value_parser = limit, help_heading = "Limits")]
    pub(super) limit: Option<Bytes>,
    /// End a run after this time, such as 90s or 1h30m.
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Limits")]
    pub(super) timeout: Option<Duration>,
    /// How long a task may take to end after SIGTERM or Ctrl-C, before it is killed.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s", help_heading = "Limits")]
    pub(super) kill_after: Duration,
    /// So many runs at a time at most, as far as the host has the memory for them.
    ///
    /// A run begins beside others only where what was seen of its cell, or what its rules ask for, fits into what they
    /// leave; of which nothing is known yet, alone. Peaks do not depend on it; times do.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Limits")]
    pub(super) jobs: u32,
    /// The memory that runs may use together [default: nine tenths of what the host and the limits
    /// above highwater leave available].
    #[arg(long, value_name = "QUANTITY", value_parser = limit, help_heading = "Limits")]
    pub(super) memory: Option<Bytes>,
    /// Begin no run that would make the sweep cost more: a time such as 2h, or peak times time such as 10GiBh.
    #[arg(long, value_name = "COST", value_parser = budget, help_heading = "Limits")]
    pub(super) max_cost: Option<Budget>,
    /// Time between two samples [default: at each new maximum, and every 10 ms to 2 s].
    #[arg(long, value_name = "DURATION", value_parser = sample_interval, help_heading = "Limits")]
    pub(super) sample_interval: Option<Duration>,
    /// Whether to measure in a cgroup: auto falls back to sampling, always fails instead, never only samples.
    #[arg(long, value_enum, default_value_t = UseCgroup::Auto, value_name = "WHEN", help_heading = "Limits")]
    pub(super) cgroup: UseCgroup,

    /// What goes to stdout: a table of the cells in the end, or each record as a line of JSON when its run has ended.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) format: Format,
    /// No progress, and no line for each run.
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
    /// What it is called in the key of a cell; nothing where nothing is done.
    pub(super) fn in_key(self) -> Option<String> {
        match self {
            Self::Cold => Some("cold".to_owned()),
            Self::Warm => Some("warm".to_owned()),
            Self::AsIs => None,
        }
    }
}

/// `3`, or `0-3`.
fn places(text: &str) -> Result<(usize, usize), String> {
    let expected = || "expected a place counted from 0 such as 3, or several such as 0-3".to_owned();
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

/// `NAME=a,b,c`, with `\,` for a comma in a value.
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

/// `2h`, or `10GiBh`: memory for an hour.
fn budget(text: &str) -> Result<Budget, String> {
    let expected = "expected a time such as 2h, or memory by time such as 10GiBh";
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
