//! `highwater report`: reports on recorded runs, for people and for programs.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use highwater::calibrate::report::{ReportError, ReportOptions, report, report_files, too_many};
use highwater::model::fit::Resource;
use highwater::model::observation::Observation;
use highwater::model::rule_file::RuleFile;
use highwater::model::spelling::quote;
use highwater::report::model::Report;
use highwater::report::plot::{Size, plots, png, svg_file};
use highwater::report::{csv, html, json, markdown, table};

use super::exit::Exit;
use super::failure::Failure;
use super::fit::OptionArgs;
use super::rule::RuleArg;
use super::{output, output_file, records};

/// The most tasks to name in an error.
const MOST_NAMES: usize = 5;

const EXAMPLES: &str = "\
Examples:
  highwater report records/                     verdict, rules and cases on the terminal
  highwater report records/ -o report.html      one file with everything, to view or to send
  highwater report records/ --format markdown   for a pull request
  highwater report records/ -o runs.csv         one line per run
  highwater report records/ --plots plots/      every plot as SVG and PNG
  highwater report old/ new/ -o report.html     what changed since an earlier sweep
  highwater report records/ --rule SegmentOperator.py
                                                is the memory of this operator enough?
  highwater report --together a.jsonl b.jsonl   one sweep, recorded in several files
  highwater report records/ --run '64 MiB #2' -o report.html
                                                memory over time of this run instead of the one
                                                with the highest peak

Records are written by `highwater run --record` and `highwater sweep`. The same command on the same records always \
gives the same bytes. If there are more than 10,000 runs, the report lists only the run with the highest peak of each cell. All other \
numbers cover all runs. `highwater export` writes every run. `highwater schema report` prints the schema of the JSON.

Exit status: 0 the report is written, whatever it says; 2 invalid records; 3 an output cannot be written; 5 no runs \
in the records.";

/// Report on recorded runs: verdict, what to do about it, plots, every run, and how it was measured.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    /// Records: a file, or the directory of a sweep. Of two, the first is an earlier sweep to compare the second with.
    #[arg(value_name = "RECORDS", required = true, num_args = 1..)]
    records: Vec<PathBuf>,
    /// Treat all records as one sweep, instead of comparing the second with the first.
    #[arg(long)]
    together: bool,
    /// Format of the report [default: by the extension of --output, else table].
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatArg>,
    /// Write the report to this file, as a whole or not at all.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write every plot to this directory, as SVG and PNG.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Run whose memory to show over time, by its name in the report [default: the one with the highest peak].
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Rule to judge, such as 'max(4Gi, 2*n)', 4Gi, SomeOperator.py or task_type_registry.xml [default: the rules recorded with the runs].
    ///
    /// Of a registry, each task is judged by the memory of its smallest container; FILE.xml::NAME is that of one container or task.
    #[arg(long, value_name = "RULE")]
    rule: Option<RuleArg>,
    /// Fit one rule to the runs of all parameters of a sweep, instead of one section per choice of parameters.
    #[arg(long)]
    pool_parameters: bool,
    #[command(flatten)]
    options: OptionArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// For a terminal.
    Table,
    /// One file to view, which fetches nothing.
    Html,
    /// For a pull request.
    Markdown,
    /// One line per run.
    Csv,
    /// All numbers.
    Json,
}

impl FormatArg {
    /// The format for a file extension.
    fn from_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "html" | "htm" => Some(Self::Html),
            "md" | "markdown" => Some(Self::Markdown),
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            "txt" => Some(Self::Table),
            _ => None,
        }
    }
}

pub(crate) fn run(args: &ReportArgs) -> Result<Exit, Failure> {
    // Check the outputs before computing anything.
    if let Some(path) = &args.output {
        output_file::check_writable(path)?;
    }
    let report = report_on(args)?;
    let format = args.format.or_else(|| FormatArg::from_path(args.output.as_deref()?)).unwrap_or(FormatArg::Table);
    let text = written(&report, format, args.output.is_none())?;
    if let Some(folder) = &args.plots {
        write_plots(&report, folder)?;
    }
    output::data_to(args.output.as_deref(), &text)?;
    Ok(Exit::Done)
}

/// A rendered report.
pub(crate) struct Page {
    /// The whole report.
    pub(crate) html: String,
    /// The verdict in one sentence.
    pub(crate) verdict: String,
}

/// Renders a report on the runs without writing it.
pub(crate) fn page(observations: &[Observation]) -> Result<Page, Failure> {
    let report = report(observations, &[], &ReportOptions::default()).map_err(no_report)?;
    let verdicts: Vec<&str> = report.tasks.iter().map(|task| task.verdict.sentence.as_str()).collect();
    Ok(Page { verdict: verdicts.join("\n"), html: written(&report, FormatArg::Html, false)? })
}

fn report_on(args: &ReportArgs) -> Result<Report, Failure> {
    if args.records.len() > 2 && !args.together {
        let help = "give one, two to compare, or add --together for several files of one sweep";
        let error = format!("a report compares two sweeps, not {}", args.records.len());
        return Err(Failure::new(Exit::Usage, error, Some(help.to_owned())));
    }
    let sources =
        args.records.iter().map(|path| records::open_rereadable(path)).collect::<Result<Vec<_>, Failure>>()?;
    let is_comparison = sources.len() == 2 && !args.together;
    let (earlier, now) = sources.split_at(usize::from(is_comparison));
    let mut options = ReportOptions::default();
    options.fit = args.options.fit_options();
    options.fit_time = Some(args.options.fit_options_for(Resource::Time));
    options.pool_parameters = args.pool_parameters;
    options.run.clone_from(&args.run);
    if let Some(rule) = &args.rule {
        rule.set_in(&mut options)?;
    }
    let report = report_files(now, earlier, &options, &mut records::say_unusable);
    let report = report.map_err(|error| match (error, &args.rule) {
        (ReportError::NoTaskWithRule { tasks }, Some(RuleArg::File(file))) => no_task_with_rule(args, &tasks, file),
        (error, _) => no_report(error),
    })?;
    let report = match args.records.as_slice() {
        // A pipe cannot be read again.
        [.., path] if now.len() == 1 && (path.is_file() || path.is_dir()) => {
            report.with_records(&path.to_string_lossy())
        }
        _ => report,
    };
    if report.notes.contains(&too_many()) {
        output::say(&format!("highwater: {}", too_many()));
    }
    Ok(report)
}

/// The names in the records and in a registry differ.
fn no_task_with_rule(args: &ReportArgs, tasks: &[String], file: &RuleFile) -> Failure {
    let records: Vec<String> = args.records.iter().map(|path| path.display().to_string()).collect();
    let mut names: Vec<String> = tasks.iter().take(MOST_NAMES).map(|task| quote(task)).collect();
    if tasks.len() > MOST_NAMES {
        names.push("others".to_owned());
    }
    let error = format!("no task of {} is in {file}: found {}", records.join(", "), names.join(", "));
    Failure::new(Exit::Usage, error, Some(format!("name a container or a task, as in {file}::NAME")))
}

/// Adds the remedy to an error of a report.
fn no_report(error: ReportError) -> Failure {
    let (exit, help) = match error {
        ReportError::Read(error) => return records::unreadable(error),
        ReportError::NoRuns => {
            (Exit::TooLittleData, Some("record some: highwater run -r 3 --record runs.jsonl -- COMMAND".to_owned()))
        }
        ReportError::UnknownRun { ref nearest, .. } => {
            (Exit::Usage, nearest.as_ref().map(|nearest| format!("did you mean `{nearest}`?")))
        }
        _ => (Exit::Usage, None),
    };
    Failure::new(exit, &error, help)
}

fn written(report: &Report, format: FormatArg, to_stdout: bool) -> Result<String, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new(Exit::Host, error, None);
    match format {
        FormatArg::Html => html(report).map_err(|error| failed(&error)),
        FormatArg::Markdown => Ok(markdown(report)),
        FormatArg::Csv => csv(report).map_err(|error| failed(&error)),
        FormatArg::Json => json(report).map_err(|error| failed(&error)),
        FormatArg::Table => {
            let width = output::width_of_stdout().filter(|_| to_stdout);
            Ok(table(report, width.map_or(100, usize::from), width.is_some()))
        }
    }
}

fn write_plots(report: &Report, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|source| output_file::unwritten(folder, source))?;
    let several = report.tasks.len() > 1;
    for (number, task) in report.tasks.iter().enumerate() {
        for plot in plots(task) {
            let stem = if several { format!("{}-{}", number + 1, plot.name) } else { plot.name.to_owned() };
            output_file::write_into(folder, &format!("{stem}.svg"), svg_file(&plot, Size::FILE).as_bytes())?;
            let bytes = png(&plot, Size::FILE).map_err(Failure::host)?;
            output_file::write_into(folder, &format!("{stem}.png"), &bytes)?;
        }
    }
    Ok(())
}
