//! `highwater sweep`: runs a task across inputs, sizes and parameters, records every run, and resumes.

mod args;
mod progress;

use highwater::calibrate::cells::Cells;
use highwater::calibrate::failure;
use highwater::calibrate::monitor::Observer;
use highwater::calibrate::sweep::{
    End, Left, On, Preview, Sweep, SweepObserver, SweepOptions, SweepOutcome, SweepSettings,
};
use highwater::calibrate::workload::settings::{Reader, SettingError};
use highwater::calibrate::workload::{Runnable, UseCgroup};
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::observation::{Observation, micros};
use highwater::model::plan::PlanCell;
use highwater::model::reading::Reading;
use highwater::model::units::duration;

pub(crate) use self::args::SweepArgs;
use self::progress::Progress;
use super::exit::Exit;
use super::failure::Failure;
use super::feedback::Terminal;
use super::run::say_lost;
use super::signals::Signals;
use super::table::table;
use super::{cells, output, records, scope};

/// What goes to stdout.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Jsonl,
}

pub(crate) fn run(args: SweepArgs) -> Result<Exit, Failure> {
    let settings = SweepSettings::merged(args.typed)?;
    let wrong = |error: SettingError| Failure::new(Exit::Usage, format!("invalid sweep: {error}"), None);
    let options = SweepOptions::from_settings(&settings.all).map_err(wrong)?;
    if let Runnable::Task { path, .. } = &options.spec.what
        && path.extension().is_some_and(|extension| extension == "toml")
    {
        let error = format!("{} is not a task: a task.json is JSON", path.display());
        let help = format!("run a sweep file with `highwater sweep --file {}`", path.display());
        return Err(Failure::new(Exit::Usage, error, Some(help)));
    }
    let shown = Reader(&settings.all);
    let is_dry = shown.flag("dry-run").map_err(wrong)?;
    let quiet = shown.flag("quiet").map_err(wrong)?;
    let format = shown.choice("format", &[("table", Format::Table), ("jsonl", Format::Jsonl)]).map_err(wrong)?;
    let format = format.unwrap_or(Format::Table);
    let save_plan = shown.path("save-plan").map_err(wrong)?;
    let machine = Machine::read(HostRoots::default()).map_err(Failure::host)?;
    if options.cgroup != UseCgroup::Never && !is_dry && options.on != Some(On::Slurm) {
        scope::enter_if_needed(&machine);
    }
    let feedback = Terminal::quiet(quiet);
    let sweep = Sweep::plan(&options, &settings, &feedback)?;
    let is_batch = sweep.is_batch()?;
    if let Some(path) = &save_plan {
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        output::data_to(Some(path), &if is_json { sweep.plan_json()? } else { settings.to_toml()? })?;
    }
    if is_dry {
        let jobs = if is_batch { format!("\n{}", sweep.batch_preview()?) } else { String::new() };
        output::text(&(table_of(&sweep.preview()?) + &jobs))?;
        return Ok(Exit::Done);
    }
    let mut signals = Signals::block().map_err(Failure::host)?;
    let mut shown = Display { quiet, format, progress: None };
    let outcome = if is_batch {
        sweep.run_batch(&mut signals, &mut shown, &feedback)?
    } else {
        sweep.run(&machine, &mut signals, &mut shown, &feedback)?
    };
    drop(signals);
    let exit = exit_of(&outcome, options.max_cost.is_none(), is_batch);
    if format == Format::Table && !quiet {
        show(&outcome)?;
    }
    Ok(exit)
}

/// The exit status, with a message if runs are left.
fn exit_of(outcome: &SweepOutcome, is_until: bool, is_batch: bool) -> Exit {
    let left = remaining(outcome);
    let done = if outcome.failed == 0 { Exit::Done } else { Exit::TaskFailed };
    match outcome.end {
        End::Done => done,
        End::Interrupted(_) if is_batch => {
            output::say(&format!("highwater: {left}, and {}", watch_again(outcome)));
            Exit::Interrupted
        }
        End::Detached => {
            output::say(&format!("highwater: {left}, and {}", watch_again(outcome)));
            Exit::Done
        }
        End::Cancelled if outcome.left == 0 => {
            output::say("highwater: nothing to cancel: all runs are recorded");
            Exit::Done
        }
        End::Cancelled => {
            output::say(&format!(
                "highwater: the jobs are cancelled, {left}; the same command without --cancel makes them"
            ));
            Exit::Done
        }
        End::JobsEnded => {
            output::say(&format!(
                "highwater: {left}: jobs were cancelled, reached their time limit or were lost; the same command \
                 makes them"
            ));
            if outcome.failed == 0 { Exit::Host } else { Exit::TaskFailed }
        }
        End::Interrupted(_) => {
            output::say(&format!("highwater: interrupted, {left}; run the same command to resume"));
            Exit::Interrupted
        }
        End::Budget => {
            let (option, next) = match is_until {
                true => ("--until", "; the same command goes on"),
                false => ("--max-cost", ""),
            };
            output::say(&format!("highwater: reached {option}, {left}{next}"));
            done
        }
        End::Known => {
            output::say(&format!(
                "highwater: the memory is known: the last two sizes were predicted; {left}; without --until the same \
                 command makes them"
            ));
            done
        }
        End::RunsLost => {
            output::say(&format!(
                "highwater: the cluster lost one run after another (see the notes of `highwater show`), {left}; \
                 run the same command to resume"
            ));
            if outcome.failed == 0 { Exit::Host } else { Exit::TaskFailed }
        }
        End::EngineLost => {
            say_lost();
            if outcome.failed == 0 { Exit::Host } else { Exit::TaskFailed }
        }
    }
}

/// What remains to be made: how long it takes, and what a further hour is good for.
fn remaining(outcome: &SweepOutcome) -> String {
    let mut text = format!("{} left", runs_are(outcome.left));
    if let Some(time) = outcome.time_left.filter(|_| matches!(outcome.end, End::Known | End::Budget)) {
        text.push_str(&format!(" and take about {}", duration(micros(time))));
    }
    match outcome.hour {
        None => {}
        Some(0) => text.push_str("; the next size takes more than an hour"),
        Some(1) => text.push_str("; one more hour of runs would measure 1 further size"),
        Some(sizes) => text.push_str(&format!("; one more hour of runs would measure {sizes} further sizes")),
    }
    text
}

/// How to go on with jobs that keep running.
fn watch_again(outcome: &SweepOutcome) -> String {
    let path = outcome.records.to_string_lossy();
    let path = shlex::try_quote(&path).unwrap_or(std::borrow::Cow::Borrowed(&path));
    format!("the jobs keep running: `highwater sweep --into {path}` watches them, with --cancel it ends them")
}

fn runs_are(count: usize) -> String {
    if count == 1 { "1 run is".to_owned() } else { format!("{count} runs are") }
}

/// Shows the runs of a sweep.
struct Display {
    quiet: bool,
    format: Format,
    progress: Option<Progress>,
}

impl Display {
    fn progress(&mut self) -> &mut Progress {
        let quiet = self.quiet;
        self.progress.get_or_insert_with(|| Progress::new(quiet, 0, 0))
    }
}

impl SweepObserver for Display {
    fn begins(&mut self, recorded: usize, left: usize) {
        self.progress = Some(Progress::new(self.quiet, recorded, left));
        if recorded > 0 && !self.quiet {
            let are = if left == 1 { "is" } else { "are" };
            output::say(&format!("highwater: {} already recorded, {left} {are} left", runs_are(recorded)));
        }
    }

    fn run(&mut self) -> Box<dyn Observer + Send> {
        Box::new(self.progress().watcher())
    }

    fn recorded(
        &mut self,
        cell: &PlanCell,
        run: u32,
        observation: &Observation,
        left: &Left<'_>,
    ) -> Result<(), failure::Failure> {
        if self.format == Format::Jsonl {
            let mut line = serde_json::to_string(observation).map_err(failure::Failure::host)?;
            line.push('\n');
            output::json_text(&line)?;
        }
        self.progress().ended(&line(cell, run, observation), left);
        Ok(())
    }

    fn ends(&mut self) {
        self.progress().close();
    }
}

/// Describes a run in one line.
fn line(cell: &PlanCell, run: u32, observation: &Observation) -> String {
    let mut text = cell.title();
    text.push_str(&format!("{}run {run}: ", if text.is_empty() { "" } else { ", " }));
    match &observation.peak {
        Reading::Value(peak) => text.push_str(&format!("peak {}", peak.words())),
        Reading::Unsupported | Reading::Gone => text.push_str("no peak"),
    }
    if observation.censored {
        text.push_str(" (censored)");
    }
    if let Some(floor) = &observation.floor {
        text.push_str(&format!(", floor {}", floor.bytes));
    }
    text.push_str(&format!(", {}", duration(observation.wall_us)));
    if !observation.outcome.succeeded() {
        text.push_str(&format!(", {}", observation.outcome.words()));
    }
    text
}

/// The plan with a forecast.
fn table_of(preview: &Preview) -> String {
    let dash = || "-".to_owned();
    let rows = preview.cells.iter().enumerate().map(|(place, one)| {
        let made = if one.cell.synthetic { " (synthetic)" } else { "" };
        vec![
            place.to_string(),
            one.cell.key.chars().take(8).collect(),
            format!("{}{made}", one.cell.title()),
            if one.cell.inputs.is_empty() { dash() } else { one.cell.input_bytes().to_string() },
            one.recorded.to_string(),
            one.left.to_string(),
            one.expected.memory.map_or_else(dash, |bytes| bytes.to_string()),
            one.expected.time.map_or_else(dash, |time| duration(micros(time))),
        ]
    });
    let header = [">Index", "Key", "Cell", ">Input", ">Recorded", ">To run", ">Memory", ">Time"];
    let mut text = table(&header, rows.collect());
    let runs = preview.runs;
    let word = if runs == 1 { "run" } else { "runs" };
    text += &match preview.time {
        Some(time) if runs > 0 => format!("\n{runs} {word} to do, about {}\n", duration(micros(time))),
        _ => format!("\n{runs} {word} to do\n"),
    };
    if preview.floors > 0 {
        text += &format!("plus the search for {} floors, about a dozen tries each\n", preview.floors);
    }
    text
}

/// Shows all runs of the sweep, by cell.
fn show(outcome: &SweepOutcome) -> Result<(), Failure> {
    // Unusable lines were reported when the records were opened.
    let source = records::open(&outcome.records)?;
    let mut found = Cells::default();
    source.each(|observation| found.add(&observation)).map_err(records::unreadable)?;
    let found = found.finish();
    if found.is_empty() { Ok(()) } else { output::text(&cells::render(&found)) }
}
