//! The output of `run`: a table, or a line per run with the table of the one that needed the most; or an array of JSON
//! at the end.

use std::collections::{BTreeSet, HashSet};

use highwater::model::comparison::{Comparison, ObservedPeak, Thresholds};
use highwater::model::escape;
use highwater::model::observation::{Observation, Outcome, WarningKind};
use highwater::model::signal::Signal;
use serde::Serialize;

use super::{Format, OWN_FAILURE, RunArgs};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::terminal_behind_stderr;
use crate::cli::{compare, output, output_file, summary};

/// The results so far.
pub(super) struct Results<'a> {
    args: &'a RunArgs,
    thresholds: Thresholds,
    /// The tables so far, if they go to a file.
    tables: String,
    runs: Vec<Run>,
    /// The notes that were shown, and the kinds of warnings: those of further runs differ only in amounts.
    notes: BTreeSet<String>,
    kinds: HashSet<WarningKind>,
}

/// One run as JSON: the observation and, if there was a prediction, the comparison.
#[derive(Serialize)]
struct Run {
    #[serde(flatten)]
    observation: Observation,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

impl<'a> Results<'a> {
    pub(super) fn new(args: &'a RunArgs) -> Result<Self, Failure> {
        let thresholds = Thresholds::new(args.tight, args.wasteful)
            .map_err(|error| Failure::new(Exit::Usage, error, Some("correct --tight or --wasteful".to_owned())))?;
        // Check the output first, so that no run is wasted.
        if let Some(path) = &args.output {
            output_file::check_writable(path).map_err(Failure::own)?;
        }
        Ok(Self {
            args,
            thresholds,
            tables: String::new(),
            runs: Vec::new(),
            notes: BTreeSet::new(),
            kinds: HashSet::new(),
        })
    }

    /// Adds the next run and shows it.
    pub(super) fn add(&mut self, observation: Observation) -> Result<(), Failure> {
        let run = Run { comparison: compare(&observation, self.thresholds), observation };
        if self.args.format == Format::Table && !self.args.quiet {
            let heading = format!("run {} of {}", self.runs.len() + 1, self.args.runs);
            let is_one_of_many = self.args.runs > 1 && run.observation.outcome.succeeded() && !output::is_verbose();
            let text = if is_one_of_many {
                let mut text = summary::line(&run.observation, &heading) + "\n";
                let Observation { cache, warnings, .. } = &run.observation;
                let caches = cache.iter().map(ToString::to_string).filter(|note| self.notes.insert(note.clone()));
                let warnings = warnings.iter().filter(|warning| self.kinds.insert(warning.kind()));
                let new = caches.chain(warnings.map(ToString::to_string));
                new.for_each(|note| summary::push_row(&mut text, "note", &note, output::width_of_stderr()));
                text
            } else {
                table(&run, (self.args.runs > 1).then_some(heading.as_str()))
            };
            self.write_table(&text)?;
        }
        self.runs.push(run);
        Ok(())
    }

    /// Writes the remaining output and returns the exit status: that of the first failed run, else that of the signal
    /// that stopped highwater between two runs.
    pub(super) fn finish(mut self, ended_by: Option<Signal>) -> Result<Exit, Failure> {
        if self.runs.is_empty() && ended_by.is_none() {
            return Ok(OWN_FAILURE);
        }
        let outcomes: Vec<Outcome> = self.runs.iter().map(|run| run.observation.outcome).collect();
        match self.args.format {
            Format::Json => self.write_json()?,
            Format::Table if self.runs.len() > 1 && !self.args.quiet => {
                let mut text = summary::render_several(self.runs.iter().map(|run| &run.observation));
                let good = self.runs.iter().enumerate().filter(|(_, run)| run.observation.outcome.succeeded());
                let peak = |run: &Run| run.observation.peak.as_ref().value().map(|peak| peak.bytes);
                if let Some((index, highest)) = good.max_by_key(|(_, run)| peak(run)).filter(|_| !output::is_verbose())
                {
                    let heading = format!("run {}, with the highest peak", index + 1);
                    text = format!("{text}\n\n{}", table(highest, Some(&heading)));
                }
                self.write_table(&text)?;
            }
            Format::Table => {}
        }
        let ended = ended_by.map(|signal| Outcome::Interrupted { signal: signal.0 });
        let failed = outcomes.into_iter().chain(ended).find(|outcome| outcome.has_failed());
        // The task succeeded, but its container may have been left behind.
        if failed.is_none() && self.runs.iter().any(|run| run.observation.has_lost_engine()) {
            return Ok(Exit::Host);
        }
        Ok(Exit::Task(failed.map_or(0, Outcome::status)))
    }

    fn write_table(&mut self, text: &str) -> Result<(), Failure> {
        match &self.args.output {
            Some(path) => {
                if output_file::is_stream(path) {
                    self.tables.clear();
                }
                self.tables.push_str(escape::lines(text).trim_end());
                self.tables.push('\n');
                output_file::write(path, self.tables.as_bytes()).map_err(Failure::own)
            }
            None => {
                output::say(text);
                Ok(())
            }
        }
    }

    fn write_json(&self) -> Result<(), Failure> {
        let json =
            serde_json::to_string_pretty(&self.runs).map_err(|error| Failure::new(OWN_FAILURE, &error, None))? + "\n";
        match &self.args.output {
            Some(path) => output_file::write(path, json.as_bytes()).map_err(Failure::own),
            None => output::json_text(&json).map_err(Failure::own),
        }
    }
}

/// The table of a run, with the comparison.
fn table(run: &Run, heading: Option<&str>) -> String {
    let mut text = summary::render(&run.observation, heading, output::width_of_stderr(), output::is_verbose());
    if let Some(comparison) = &run.comparison {
        text = format!("{text}\n{}", compare::render(comparison, terminal_behind_stderr().unwrap_or(80)));
    } else if run.observation.prediction.is_some() && run.observation.outcome.has_failed() {
        text.push_str("\nno verdict on limits and requests, because the run failed\n");
    }
    text
}

/// Compares the peak with the prediction; `None` if either is missing, or the run failed before showing what it needs.
/// A run that ran out of memory can still prove an amount too low.
fn compare(observation: &Observation, thresholds: Thresholds) -> Option<Comparison> {
    if !(observation.outcome.succeeded() || observation.outcome == Outcome::OomKilled) {
        return None;
    }
    let prediction = observation.prediction.as_ref()?;
    Some(Comparison::new(prediction, ObservedPeak::from_observation(observation)?, thresholds))
}
