//! The command line of `highwater`: parses arguments and dispatches to the commands.

mod backtest;
mod cells;
mod check;
mod clean;
mod collect;
mod compare;
mod completions;
mod demo;
mod doctor;
#[cfg(test)]
mod documented;
mod engine;
mod excerpt;
mod exit;
mod export;
mod failure;
mod feedback;
mod fit;
mod floor;
mod help;
mod import;
mod init;
mod inputs;
mod live;
mod logs;
mod man;
mod merge;
mod on;
mod operator;
mod output;
mod output_file;
mod predict;
mod probe;
mod probe_image;
mod problems;
mod processing_container;
mod records;
mod report;
mod rule;
mod run;
mod schema;
mod scope;
mod show;
mod signals;
mod summary;
mod sweep;
mod table;
mod task;
mod terminal;
mod validate;

use highwater::model::escape;
use highwater::runner::wait_for_retired;
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use exit::Exit;
use failure::Failure;

/// Measure, predict and guard the memory high-water mark of containers and commands.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, propagate_version = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Show details, such as the file that a peak was read from, and a log (-vv for trace).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

/// One variant per command, one file per variant.
#[derive(Debug, Subcommand)]
enum Command {
    Backtest(backtest::BacktestArgs),
    Check(Box<check::CheckArgs>),
    Clean(clean::CleanArgs),
    Collect(collect::CollectArgs),
    Completions(completions::CompletionsArgs),
    Demo(demo::DemoArgs),
    Doctor(doctor::DoctorArgs),
    Export(export::ExportArgs),
    Fit(Box<fit::FitArgs>),
    Floor(Box<floor::FloorArgs>),
    Import(import::ImportArgs),
    Init(init::InitArgs),
    Inputs(inputs::InputsArgs),
    Logs(logs::LogsArgs),
    Man(man::ManArgs),
    Merge(merge::MergeArgs),
    Operator(operator::OperatorArgs),
    Predict(predict::PredictArgs),
    Probe(probe::ProbeArgs),
    ProbeImage(probe_image::ProbeImageArgs),
    ProcessingContainer(processing_container::ProcessingContainerArgs),
    Report(report::ReportArgs),
    Run(Box<run::RunArgs>),
    Schema(schema::SchemaArgs),
    Show(show::ShowArgs),
    Sweep(Box<sweep::SweepArgs>),
    Validate(validate::ValidateArgs),
    #[command(hide = true)]
    Workload(demo::workload::WorkloadArgs),
}

/// The command line if its first word is `run`. Start-up time counts as overhead of a measurement, and most of it would
/// be spent building the other commands.
#[derive(Debug, Parser)]
struct Run {
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: OnlyRun,
}

#[derive(Debug, Subcommand)]
enum OnlyRun {
    Run(Box<run::RunArgs>),
}

impl Cli {
    fn read() -> Result<Self, clap::Error> {
        if is_run()
            && let Ok(Run { verbose, command: OnlyRun::Run(args) }) = Run::try_parse()
        {
            return Ok(Self { verbose, command: Command::Run(args) });
        }
        // Take errors and help from the full command line.
        let mut matches = help::examples_first(Self::command()).try_get_matches()?;
        Self::from_arg_matches_mut(&mut matches)
    }
}

/// Parses arguments, starts logging, runs the command and returns its exit status.
pub(crate) fn main() -> ExitCode {
    signals::take_note_of_children();
    signals::report_size_limit();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) if is_bisect() => return check::bisect_exit(explain(&error)).into(),
        Err(error) => return explain(&error).into(),
    };
    output::start_logging(cli.verbose);
    let exit = match dispatch(cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report().into(),
    };
    wait_for_retired();
    exit
}

/// Prints help, the version, or a usage error.
fn explain(error: &clap::Error) -> Exit {
    if error.kind() == ErrorKind::InvalidUtf8 {
        // Some options accept paths that are not UTF-8, so the error may be about any of several words.
        let words: Vec<_> = std::env::args_os().filter(|word| word.to_str().is_none()).collect();
        let named =
            if let [word] = words.as_slice() { format!("the argument {word:?}") } else { "an argument".to_owned() };
        let message = format!("failed to read {named}: it is not valid UTF-8");
        let help = "use valid UTF-8; instead of such a path, name a symbolic link to it";
        return Failure::new(Exit::Usage, message, Some(help.to_owned())).report();
    }
    if error.use_stderr() {
        let text = error.render().to_string();
        if escape::lines(&text) == text {
            // With colours. If this cannot be written, there is nothing left to do.
            let _ = error.print();
        } else {
            output::say(text.trim_end());
        }
        if let Some(line) = with_separator(error) {
            output::say(&format!("help: a command to measure follows `--`: {line}"));
        }
        return Exit::Usage;
    }
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match output::stdout_written(printed) {
        Ok(()) => Exit::Done,
        Err(failure) if is_run() => failure.own().report(),
        Err(failure) => failure.report(),
    }
}

/// The command line with the `--` that it seems to lack before the command to measure.
fn with_separator(error: &clap::Error) -> Option<String> {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let takes_command = words.get(1).is_some_and(|verb| ["run", "sweep", "floor"].contains(&verb.as_str()));
    let is_guessed = error.get(ContextKind::SuggestedArg).is_some();
    if error.kind() != ErrorKind::UnknownArgument || !takes_command || is_guessed || words.iter().any(|it| it == "--") {
        return None;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return None };
    let at = words.iter().skip(2).position(|word| word.starts_with(unknown.as_str()))? + 1;
    let program = words.get(at).filter(|word| at > 1 && !word.starts_with('-'))?;
    // It may be the value of this option.
    if at > 2 && words.get(at - 1).is_some_and(|before| before.starts_with("--") && !before.contains('=')) {
        return None;
    }
    if Path::new(program).extension().is_some_and(|extension| extension == "json") {
        // A task.
        return None;
    }
    let name =
        words.first().map(|name| Path::new(name).file_name().map_or(name.as_str().into(), OsStr::to_string_lossy));
    let mut line = vec![name.unwrap_or_default().into_owned()];
    line.extend(words.get(1..at)?.iter().cloned().chain(["--".to_owned()]).chain(words.get(at..)?.iter().cloned()));
    let quoted = shlex::try_join(line.iter().map(String::as_str)).ok()?;
    Some(escape::lines(&quoted))
}

/// Whether the first word is `run`, whose status 3 would be taken for the task's own.
fn is_run() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == "run")
}

/// Whether this is `check --bisect`, of which `git bisect run` would take status 2 for a bad commit.
fn is_bisect() -> bool {
    let mut words = std::env::args_os().skip(1);
    words.next().is_some_and(|word| word == "check") && words.any(|word| word == "--bisect")
}

fn dispatch(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Backtest(args) => backtest::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Collect(args) => collect::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Fit(args) => fit::run(&args),
        Command::Floor(args) => floor::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Inputs(args) => inputs::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Operator(args) => operator::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::ProbeImage(args) => probe_image::run(&args),
        Command::ProcessingContainer(args) => processing_container::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Sweep(args) => sweep::run(*args),
        Command::Validate(args) => validate::run(&args),
        Command::Workload(args) => demo::workload::run(&args),
    }
}
