//! `highwater man`: the manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::exit::Exit;
use super::failure::Failure;
use super::{Cli, output};

const EXAMPLES: &str = "\
Examples:
  highwater man | man -l -                                 read the page
  highwater man --dir ~/.local/share/man/man1              install a page for each command";

/// Writes the manual page to stdout, or a page for each command to a folder.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// Write all pages to this folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs) -> Result<Exit, Failure> {
    match &args.dir {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
                .map_err(|source| Failure::new(Exit::Host, &Unwritten { folder: folder.clone(), source }, None))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|error| Failure::new(Exit::Host, &error, None))?;
            output::data(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(Exit::Done)
}

/// Why the pages could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the manual pages to {folder}")]
struct Unwritten {
    folder: PathBuf,
    #[source]
    source: std::io::Error,
}
