//! `highwater man`: the manual pages.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::exit::Exit;
use super::failure::Failure;
use super::help::Parts;
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
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    match &args.dir {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|source| output_file::unwritten(folder, source))?;
            write_pages(command, folder)?;
        }
        None => output::data(&String::from_utf8_lossy(&page(command)?.1))?,
    }
    Ok(Exit::Done)
}

/// The statuses of a command that does not name its own.
const STATUSES: &str = "0 done; 2 wrong usage, or a file that cannot be used; 3 a file cannot be written, or this machine lacks \
    something.";

/// The files of a command.
fn files(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "highwater-run" => &[
            ("FILE.jsonl", "The records of --record, one line per run."),
            ("FILE.logs/", "What the runs wrote to stdout and stderr, beside --record."),
        ],
        "highwater-sweep" => &[
            ("NAME.sweep/plan.json", "The plan, by which a sweep is resumed."),
            ("NAME.sweep/observations.jsonl", "The records, one line per run."),
            ("NAME.sweep/runs/", "What the runs wrote to stdout and stderr."),
        ],
        "highwater-check" | "highwater-init" => {
            &[("highwater.toml", "The configuration: tasks, inputs, thresholds, and the file of the baseline.")]
        }
        "highwater-validate" | "highwater-predict" => {
            &[(".env", "Variables for the template of a document, beside it.")]
        }
        _ => &[],
    }
}

/// Writes the page of a command and those of its subcommands.
fn write_pages(command: Command, folder: &Path) -> Result<(), Failure> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand.clone(), folder)?;
    }
    let (name, page) = page(command)?;
    output_file::write_into(folder, &name, &page)
}

/// The name and the text of a page.
fn page(mut command: Command) -> Result<(String, Vec<u8>), Failure> {
    let Parts { examples, notes, status } = Parts::of(&command);
    let names: Vec<String> =
        command.get_subcommands().filter(|it| !it.is_hide_set()).map(|it| it.get_name().to_owned()).collect();
    // As in --help: the synopsis of clap_mangen lacks `--` and the values of options.
    let usage = command.render_usage().to_string().trim_start_matches("Usage: ").to_owned();
    let command = command.override_usage(usage).after_long_help(None::<&str>);
    let man = Man::new(command).source(concat!("highwater ", env!("CARGO_PKG_VERSION")));
    let name = man.get_filename();
    let stem = name.trim_end_matches(".1");
    let mut roff = Roff::new();
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
        for paragraph in notes.split("\n\n") {
            if paragraph.lines().any(|line| line.starts_with(' ')) {
                as_it_is(&mut roff, paragraph);
            } else {
                roff.control("PP", []).text([roman(paragraph)]);
            }
        }
    }
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        as_it_is(&mut roff, &examples);
    }
    roff.control("SH", ["EXIT STATUS"]).text([roman(if status.is_empty() { STATUSES } else { &status })]);
    if !files(stem).is_empty() {
        roff.control("SH", ["FILES"]);
        for (file, content) in files(stem) {
            roff.control("TP", []).text([italic(*file)]).text([roman(*content)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    if stem == "highwater" {
        let last = names.len().saturating_sub(1);
        for (index, name) in names.iter().enumerate() {
            let comma = if index == last { "" } else { "," };
            roff.text([bold(format!("highwater-{name}")), roman(format!("(1){comma}"))]);
        }
    } else {
        roff.text([bold("highwater"), roman("(1)")]);
    }
    let mut page = Vec::new();
    man.render(&mut page).and_then(|()| roff.to_writer(&mut page)).map_err(Failure::host)?;
    Ok((name, page))
}

/// Appends lines that are not to be filled.
fn as_it_is(roff: &mut Roff, lines: &str) {
    roff.control("PP", []).control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}
