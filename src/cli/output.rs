//! stdout is data, stderr is talk. A reader that went away is no error.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use highwater::model::escape;
use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::output_file;

/// Writes data to stdout. A broken pipe counts as success: whoever read has read enough.
pub(crate) fn data(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout_written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// What writing to stdout came to: a broken pipe counts as success.
pub(crate) fn stdout_written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Host, &Unwritten(error), Some("is the disk behind stdout full?".to_owned())))
        }
        _ => Ok(()),
    }
}

/// Writes a text for people to stdout: nothing in it acts upon a terminal or a CI system.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    data(&escape::lines(text))
}

/// Writes data to a file, or to stdout if there is none.
pub(crate) fn data_to(path: Option<&Path>, text: &str) -> Result<(), Failure> {
    path.map_or_else(|| data(text), |path| output_file::write(path, text.as_bytes()))
}

/// Why data that is written piece by piece could not be finished.
pub(crate) enum Unfinished {
    /// It could not be written.
    Unwritten(io::Error),
    /// There is no more of it.
    Other(Failure),
}

/// Writes what `write` writes, piece by piece, to a file as [`output_file::write`] does, or to stdout if there is none.
/// `None` comes back if whoever reads stdout has read enough.
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
    data_with(None, |out| {
        let mut out = escape::JsonWriter::new(out);
        serde_json::to_writer_pretty(&mut out, value).map_err(|error| match error.is_io() {
            true => Unfinished::Unwritten(error.into()),
            false => Unfinished::Other(Failure::new(Exit::Host, &error, None)),
        })?;
        out.write_all(b"\n").and_then(|()| out.flush()).map_err(Unfinished::Unwritten)
    })?;
    Ok(())
}

/// Writes a text that is JSON to stdout.
pub(crate) fn json_text(json: &str) -> Result<(), Failure> {
    data(&escape::json(json))
}

/// Says something to a person on stderr. Nothing can be done where nobody listens.
pub(crate) fn say(text: &str) {
    say_styled(&escape::lines(text));
}

/// The same for a text with colours, in which names are printable already.
pub(crate) fn say_styled(text: &str) {
    let text = escape::without_commands(text.trim_end_matches('\n'));
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The columns of the terminal behind stderr; 100 where it is none, so that files look the same everywhere.
pub(crate) fn width_of_stderr() -> usize {
    terminal_behind_stderr().unwrap_or(100)
}

/// The columns of the terminal behind stderr, or `None` where it is none.
pub(crate) fn terminal_behind_stderr() -> Option<usize> {
    terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0).max(40))
}

/// The columns of the terminal behind stdout, or `None` where it is none.
pub(crate) fn width_of_stdout() -> Option<u16> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.max(40))
}

/// Whether stderr shows colours: a terminal, unless `NO_COLOR` asks for none. Empty it asks for nothing.
pub(crate) fn has_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|asked| asked.is_empty())
}

/// Starts logging on stderr: warnings, more with `-v`, or what `HIGHWATER_LOG` asks for.
pub(crate) fn start_logging(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        0 => "warn",
        1 => "info,highwater=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("HIGHWATER_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(has_colours())
        .without_time()
        .try_init();
    if let Err(error) = started {
        say(&format!("highwater: logging could not be started: {error}"));
    }
}

/// Why stdout could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write to stdout")]
struct Unwritten(#[source] io::Error);
