//! `highwater logs`: what a task has written, read again from beside its record.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use highwater::model::observation::{Logs, Observation};

use super::exit::Exit;
use super::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  highwater logs runs.jsonl                what the last container of the record has written
  highwater logs --run 3 runs.jsonl        the third run
  highwater logs runs.jsonl 2> errors      its stdout on stdout, its stderr on stderr

The output of containers is kept in a folder beside the record that `highwater run --record` writes.";

/// Prints again what a recorded container has written.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// The record.
    #[arg(value_name = "RECORD")]
    record: PathBuf,
    /// Which run of the record, counted from 1; the last one that kept its output where there is none.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    run: Option<u32>,
}

pub(crate) fn run(args: &LogsArgs) -> Result<Exit, Failure> {
    let logs = find(args).map_err(|error| Failure::new(Exit::Usage, &error, error.help()))?;
    for (path, mut to) in
        [(logs.stdout, Box::new(io::stdout()) as Box<dyn Write>), (logs.stderr, Box::new(io::stderr()))]
    {
        let copied = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut to)).and_then(|_| to.flush());
        match copied {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(Failure::new(Exit::Host, &LogsError::Unread { path, source: error }, None));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Exit::Done)
}

fn find(args: &LogsArgs) -> Result<Logs, LogsError> {
    let path = &args.record;
    let unread = |source| LogsError::Unread { path: path.clone(), source };
    let file = BufReader::new(File::open(path).map_err(unread)?);
    let mut found: Option<Logs> = None;
    let mut count = 0;
    for line in file.lines() {
        let line = line.map_err(unread)?;
        // The line of a highwater that was killed while writing it is of no use.
        let Ok(observation) = serde_json::from_str::<Observation>(&line) else { continue };
        count += 1;
        if args.run == Some(count) {
            return observation.logs.map(|logs| below(path, logs)).ok_or(LogsError::NotKept { run: count });
        }
        found = observation.logs.or(found);
    }
    match args.run {
        Some(run) => Err(LogsError::NoRun { path: path.clone(), run, count }),
        None => found.map(|logs| below(path, logs)).ok_or_else(|| LogsError::NoneKept { path: path.clone() }),
    }
}

/// A record that was moved together with its folder is found all the same.
fn below(record: &Path, logs: Logs) -> Logs {
    let place = |kept: PathBuf| match kept.file_name().map(|name| record.with_extension("logs").join(name)) {
        Some(beside) if !fs::exists(&kept).unwrap_or(false) && fs::exists(&beside).unwrap_or(false) => beside,
        Some(_) | None => kept,
    };
    Logs { stdout: place(logs.stdout), stderr: place(logs.stderr) }
}

#[derive(Debug, thiserror::Error)]
enum LogsError {
    #[error("failed to read {path}")]
    Unread {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to find run {run} in {path}: it has {count} runs")]
    NoRun { path: PathBuf, run: u32, count: u32 },
    #[error("failed to find the output of run {run}: it was not kept")]
    NotKept { run: u32 },
    #[error("failed to find any output beside {path}: none of its runs kept it")]
    NoneKept { path: PathBuf },
}

impl LogsError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Unread { .. } | Self::NoRun { .. } => None,
            Self::NotKept { .. } | Self::NoneKept { .. } => {
                Some("the output is kept of containers that are run with --record and without --log-dir".to_owned())
            }
        }
    }
}
