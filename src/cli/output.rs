//! Output: data goes to stdout, messages to stderr. A closed pipe is not an error.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use highwater::calibrate::failure::Failed;
use highwater::model::escape;
use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::{output_file, terminal};

pub(crate) use super::terminal::{say, say_lines, width_of_stderr, width_of_stdout};

/// Writes data to stdout. A broken pipe counts as success: the reader has read enough.
pub(crate) fn data(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout_written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// The result of writing to stdout; a broken pipe counts as success.
pub(crate) fn stdout_written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Host,
            Failed::to("write to stdout", error),
            Some("check that the disk behind stdout is not full".to_owned()),
        )),
        _ => Ok(()),
    }
}

/// Writes text to stdout, escaped so that it cannot affect a terminal or a CI system.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    data(&escape::lines(text))
}

/// Writes data to a file or, without one, to stdout.
pub(crate) fn data_to(path: Option<&Path>, text: &str) -> Result<(), Failure> {
    path.map_or_else(|| data(text), |path| output_file::write(path, text.as_bytes()))
}

/// Why data that is written piece by piece is incomplete.
pub(crate) enum Unfinished {
    /// Writing failed.
    Unwritten(io::Error),
    /// Producing the data failed.
    Other(Failure),
}

/// Writes data piece by piece to a file as [`output_file::write`] does or, without a path, to stdout. Returns `None` if
/// the reader of stdout closed the pipe.
pub(crate) fn data_with<T>(
    path: Option<&Path>,
    mut write: impl FnMut(&mut dyn Write) -> Result<T, Unfinished>,
) -> Result<Option<T>, Failure> {
    let Some(path) = path else {
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        let written = write(&mut stdout);
        return match written.and_then(|result| stdout.flush().map(|()| result).map_err(Unfinished::Unwritten)) {
            Ok(result) => Ok(Some(result)),
            Err(Unfinished::Unwritten(error)) => stdout_written(Err(error)).map(|()| None),
            Err(Unfinished::Other(failure)) => Err(failure),
        };
    };
    let mut result = None;
    let mut other = None;
    let written = output_file::write_with(path, &mut |file| match write(file) {
        Ok(written) => {
            result = Some(written);
            Ok(())
        }
        Err(Unfinished::Unwritten(error)) => Err(error),
        Err(Unfinished::Other(failure)) => {
            other = Some(failure);
            Err(io::ErrorKind::Other.into())
        }
    });
    match other {
        Some(failure) => Err(failure),
        None => written.map(|()| result),
    }
}

/// Writes a value as JSON to stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    json_to(None, value)
}

fn json_to(path: Option<&Path>, value: &impl Serialize) -> Result<(), Failure> {
    data_with(path, |out| {
        let mut out = escape::JsonWriter::new(out);
        serde_json::to_writer_pretty(&mut out, value).map_err(|error| match error.is_io() {
            true => Unfinished::Unwritten(error.into()),
            false => Unfinished::Other(Failure::new(Exit::Host, &error, None)),
        })?;
        out.write_all(b"\n").and_then(|()| out.flush()).map_err(Unfinished::Unwritten)
    })?;
    Ok(())
}

/// Writes JSON text to stdout.
pub(crate) fn json_text(json: &str) -> Result<(), Failure> {
    data(&escape::json(json))
}

/// The file for the result of a command.
#[derive(Debug, Args)]
pub(crate) struct OutputArg {
    /// Write the result to this file instead of stdout. An existing file is replaced as a whole.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl OutputArg {
    /// Checks that the file can be written, before anything else is done.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.output.as_deref().map_or(Ok(()), output_file::check_writable)
    }

    /// Writes text, escaped as by [`text`].
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        data_to(self.output.as_deref(), &escape::lines(text))
    }

    /// Writes a value as JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        json_to(self.output.as_deref(), value)
    }

    /// Writes JSON text.
    pub(crate) fn json_text(&self, json: &str) -> Result<(), Failure> {
        data_to(self.output.as_deref(), &escape::json(json))
    }
}

/// Whether details are wanted, by `-v`.
static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Whether details are wanted, by `-v`.
pub(crate) fn is_verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

/// Starts logging on stderr: warnings, more with `-v`, or as `HIGHWATER_LOG` says.
pub(crate) fn start_logging(verbose: u8) {
    VERBOSE.store(verbose > 0, Ordering::Relaxed);
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        // What the client of Kubernetes meets comes in our own messages.
        0 => "warn,kube_client=off",
        1 => "info,highwater=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("HIGHWATER_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(terminal::has_colours())
        .without_time()
        .try_init();
    if let Err(error) = started {
        say(&format!("highwater: failed to start logging: {error}"));
    }
}
