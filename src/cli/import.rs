//! `highwater import`: converts tables written by other programs into records.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use highwater::calibrate::failure::Failed;
use highwater::model::escape;
use highwater::model::observation::{Observation, Warning};
use highwater::model::timestamp::Timestamp;
use highwater::store::bounded;
use highwater::store::import::{About, Imported, Origin, import};

use super::exit::Exit;
use super::failure::Failure;
use super::output;

const EXAMPLES: &str = "\
Examples:
  highwater import lungs.csv > lungs.jsonl     a table of `highwater export`, or some of its columns
  highwater import trace.txt -o trace.jsonl    a trace of Nextflow
  highwater import benchmarks/*.tsv --task map -o map.jsonl
                                               Snakemake's benchmarks of one rule
  highwater import trace.txt | highwater show /dev/stdin

A table is recognized by its columns: `peak_bytes` and `wall_seconds` (highwater), `peak_rss` and `realtime` \
(Nextflow), `s` and `max_rss` (Snakemake). The result is JSON Lines, as written by `highwater run --record` and \
`highwater sweep`.

A peak that another program sampled is a lower bound, and the record says why. Neither Nextflow nor Snakemake reports \
the sizes of inputs: a rule that grows with them needs runs of `highwater sweep`. Rows without a time are \
skipped and reported. So are rows without a peak, except those of Nextflow and Snakemake: they are kept for their \
time, and so that `fit --all` names their tasks. Nextflow's status 137 means SIGKILL, from the \
kernel or from anyone else. highwater assumes that memory ran out, so the task gets more than it had requested (`memory` in `trace.fields`). Remove such rows if something \
else killed the runs. Columns such as `parameter.LEVEL` are parameters; each choice of them is a separate cell.

Exit status: 0 done, 2 invalid table, 3 the output cannot be written, 5 no row contains a measured run (rows without a \
peak are written nevertheless).";

/// Convert tables of measured runs to records: from `highwater export`, Nextflow or Snakemake.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ImportArgs {
    /// Tables with commas or tabs between the columns; - for stdin.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Program that wrote the tables [default: recognized by the columns].
    #[arg(long, value_enum, value_name = "WHO")]
    from: Option<From>,
    /// Task that was run, if a table does not name it [default for Snakemake: the name of the file].
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Write the records to this file instead of stdout. An existing file is replaced as a whole.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    Highwater,
    Nextflow,
    Snakemake,
}

pub(crate) fn run(args: &ImportArgs) -> Result<Exit, Failure> {
    let (mut text, mut has_peak) = (String::new(), false);
    for path in &args.files {
        let imported = read(args, path)?;
        for left_out in &imported.left_out {
            output::say(&format!("highwater: {}:{}: skipped: {}", name(path), left_out.line, left_out.reason));
        }
        if imported.origin != Origin::Highwater {
            note_assumptions(&name(path), &imported.observations);
        }
        has_peak |= imported.observations.iter().any(|run| run.peak.as_ref().value().is_some() || run.censored);
        for observation in &imported.observations {
            let line = serde_json::to_string(observation).map_err(|error| Failure::new(Exit::Usage, &error, None))?;
            text.push_str(&line);
            text.push('\n');
        }
    }
    output::data_to(args.output.as_deref(), &escape::json(&text))?;
    if !has_peak {
        output::say("highwater: no row contains a measured run");
        return Ok(Exit::TooLittleData);
    }
    Ok(Exit::Done)
}

/// Says what is not as in the table.
fn note_assumptions(name: &str, runs: &[Observation]) {
    let killed = runs.iter().filter(|run| run.warnings.contains(&Warning::ProbablyOomKilled)).count();
    let without = runs.iter().filter(|run| run.peak.as_ref().value().is_none() && !run.censored).count();
    let count = |runs: usize| if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") };
    if killed > 0 {
        let killed = count(killed);
        output::say(&format!(
            "highwater: {name}: {killed} with status 137 (SIGKILL): assumed to be killed for lack of memory"
        ));
    }
    if without > 0 {
        output::say(&format!("highwater: {name}: {} without a peak: not used to fit memory", count(without)));
    }
}

fn read(args: &ImportArgs, path: &Path) -> Result<Imported, Failure> {
    let (text, written_at) =
        text(path).map_err(|source| Failure::new(Exit::Usage, Failed::reading(path, source), None))?;
    let origin = args.from.map(|from| match from {
        From::Highwater => Origin::Highwater,
        From::Nextflow => Origin::Nextflow,
        From::Snakemake => Origin::Snakemake,
    });
    let name = name(path);
    let about = About { name: &name, task: args.task.as_deref(), written_at };
    let mut imported = import(&text, origin, &about).map_err(|flawed| Failure::flawed(&flawed))?;
    if imported.origin == Origin::Snakemake {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        for observation in &mut imported.observations {
            observation.subject.name = observation.subject.name.take().or_else(|| stem.clone());
        }
    }
    Ok(imported)
}

/// The name of a file in messages.
fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// The content of a file and its modification time.
fn text(path: &Path) -> io::Result<(String, Timestamp)> {
    let not_utf8 = |error: std::string::FromUtf8Error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error());
    if path == Path::new("-") {
        let text = String::from_utf8(bounded::read_all(io::stdin())?).map_err(not_utf8)?;
        return Ok((text, Timestamp::now()));
    }
    let text = bounded::read_text(path)?;
    let written = fs::metadata(path)?.modified()?;
    Ok((text, Timestamp::try_from(written).map_err(io::Error::other)?))
}
