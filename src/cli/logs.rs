//! `highwater logs`: prints the output of a recorded run again.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use highwater::directory::Refusal;
use highwater::model::observation::Logs;
use highwater::store::{ReadError, Source, is_log};

use super::exit::Exit;
use super::failure::Failure;
use super::records;

const EXAMPLES: &str = "\
Examples:
  highwater logs runs.jsonl                the output of the last run
  highwater logs --run 3 runs.jsonl        the output of the third run
  highwater logs runs.jsonl 2> errors      its stdout on stdout, its stderr on stderr
  highwater logs sweeps/lungs --run 12     the run in line 12 of a sweep's record
  highwater logs --log-dir out runs.jsonl  the output that `run --log-dir out` kept

highwater keeps the output of every run of a sweep, and that of containers in a directory beside the record that \
`highwater run --record` writes. Output of a command that `run` passes through is not kept.";

/// Print the output of a recorded run again.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// File of records, or directory of a sweep.
    #[arg(value_name = "RECORD")]
    record: PathBuf,
    /// Number of the run in the record, counted from 1 [default: the last run that kept its output].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    run: Option<u32>,
    /// Directory of the output, if `run --log-dir` wrote it elsewhere than below the directory of the record.
    ///
    /// By default, only files below the record's directory are opened: a record of another user could name any file.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
}

pub(crate) fn run(args: &LogsArgs) -> Result<Exit, Failure> {
    let source = Source::open(&args.record).map_err(|error| failure(error.into()))?;
    let logs = find(args, &source).map_err(failure)?;
    for (path, mut to) in
        [(&logs.stdout, Box::new(io::stdout()) as Box<dyn Write>), (&logs.stderr, Box::new(io::stderr()))]
    {
        let copied = source
            .open_log(path, args.log_dir.as_deref())
            .and_then(|mut file| io::copy(&mut file, &mut to))
            .and_then(|_| to.flush());
        match copied {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(failure(LogsError::Unread { path: path.clone(), source: error }));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Exit::Done)
}

fn find(args: &LogsArgs, source: &Source) -> Result<Logs, LogsError> {
    let mut count = 0;
    let mut wanted = None;
    let mut last = None;
    let mut overwritten = None;
    // Torn lines are not reported: the output of their runs cannot be found anyway.
    source.each(|observation| {
        count += 1;
        match args.run {
            Some(run) if run == count => wanted = Some(observation.logs),
            // Another `run --log-dir` wrote to the same files.
            Some(run) if run < count && observation.logs.is_some() && wanted == Some(observation.logs.clone()) => {
                overwritten.get_or_insert(count);
            }
            Some(_) => {}
            None => last = observation.logs.or(last.take()),
        }
    })?;
    match args.run {
        Some(run) => {
            let logs = wanted.ok_or_else(|| LogsError::NoRun { path: args.record.clone(), run, count })?;
            match overwritten {
                Some(by) => Err(LogsError::Overwritten { run, by }),
                None => logs.ok_or(LogsError::NotKept { run }),
            }
        }
        None => last.ok_or_else(|| LogsError::NoneKept { path: args.record.clone() }),
    }
}

fn failure(error: LogsError) -> Failure {
    let exit = match &error {
        LogsError::Unread { source, .. } if Refusal::behind(source).is_none() => Exit::Host,
        _ => Exit::Usage,
    };
    match error {
        LogsError::Records(error) => records::unreadable(error),
        error => Failure::new(exit, &error, error.help()),
    }
}

#[derive(Debug, thiserror::Error)]
enum LogsError {
    #[error(transparent)]
    Records(#[from] ReadError),
    #[error("failed to read {path}")]
    Unread {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to find run {run} in {path}: it has {count} runs")]
    NoRun { path: PathBuf, run: u32, count: u32 },
    #[error("failed to find the output of run {run}: it wrote none, or none was kept")]
    NotKept { run: u32 },
    #[error("failed to find the output of run {run}: run {by} wrote to the same files")]
    Overwritten { run: u32, by: u32 },
    #[error("failed to find any output of {path}: its runs wrote none, or none was kept")]
    NoneKept { path: PathBuf },
}

impl LogsError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Unread { path, source } => Refusal::behind(source).map(|refusal| match (refusal, path.parent()) {
                (Refusal::Outside { .. }, Some(directory)) if is_log(path) => {
                    format!("if `run --log-dir` wrote it, name its directory: --log-dir {}", directory.display())
                }
                _ => refusal.remedy().to_owned(),
            }),
            Self::Overwritten { .. } => {
                Some("use a --log-dir for each `highwater run`, or -r for several runs".to_owned())
            }
            Self::Records(_) | Self::NoRun { .. } => None,
            Self::NotKept { .. } | Self::NoneKept { .. } => Some(
                "highwater keeps the output of sweep runs, of containers run with --record, and of runs with --log-dir"
                    .to_owned(),
            ),
        }
    }
}
