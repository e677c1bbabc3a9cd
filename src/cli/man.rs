//! `highwater man`: the manual pages.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use super::exit::Exit;
use super::failure::Failure;
use super::{Cli, output, output_file};

const EXAMPLES: &str = "\
Examples:
  highwater man | man -l -                      read the page
  highwater man --dir ~/.local/share/man/man1   install a page for each command";

/// Write the manual page to stdout, or a page for each command to a directory.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// Write all pages to this directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs) -> Result<Exit, Failure> {
    match &args.dir {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|source| output_file::unwritten(folder, source))?;
            let mut command = Cli::command().disable_help_subcommand(true);
            command.build();
            write_pages(command, folder)?;
        }
        None => output::data(&String::from_utf8_lossy(&page(&Man::new(Cli::command()))?))?,
    }
    Ok(Exit::Done)
}

/// Writes the page of a command and those of its subcommands.
fn write_pages(command: Command, folder: &Path) -> Result<(), Failure> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand.clone(), folder)?;
    }
    let man = Man::new(command);
    output_file::write_into(folder, &man.get_filename(), &page(&man)?)
}

fn page(man: &Man) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    man.render(&mut page).map_err(Failure::host)?;
    Ok(page)
}
