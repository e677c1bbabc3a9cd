//! Reports on records: groups the runs by task, fits a rule to each task, and assembles the report.
//!
//! Records are passed over several times: once to fit the rules for each resource, and once to judge each run by the one for
//! memory. So a million runs need not fit in memory.

mod judge;
mod needs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use self::judge::{Counted, Judgement, judge};
use self::needs::needs;
use super::fit::{FitOptions, Group, Groups, Metric, Objective};
use crate::model::fit::Resource;
use crate::model::observation::{Observation, Series};
use crate::model::spelling::quote;
use crate::report::model::Report;
use crate::report::{Builder, JudgedRule, MOST_RUNS, ShownRuns};
use crate::store::{OBSERVATIONS, ReadError, Records, Source, Unusable};

/// Options of a report.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReportOptions {
    /// How rules for memory and cores are fitted.
    pub fit: FitOptions,
    /// How rules for wall time are fitted; by default, with the objective [`Objective::Safe`].
    pub fit_time: Option<FitOptions>,
    /// Whether runs with other parameters count as the same task.
    pub pool_parameters: bool,
    /// The label of the run to show over time; by default, the one with the highest peak.
    pub run: Option<String>,
    /// The rule to judge; by default, the rules that the task had when it ran.
    pub rule: Option<JudgedRule>,
    /// The rules to judge of single tasks, by the names of the tasks without parameters. No rule of other tasks is judged.
    pub rules: Option<BTreeMap<String, JudgedRule>>,
}

impl ReportOptions {
    /// How rules for a resource are fitted.
    fn fit_of(&self, resource: Resource) -> FitOptions {
        match resource {
            Resource::Time => self.fit_time.unwrap_or(FitOptions::new(Objective::Safe)),
            Resource::Memory | Resource::Cpu | Resource::Gpu | Resource::Storage => self.fit,
        }
    }
}

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The records cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The records are empty.
    #[error("the records contain no runs")]
    NoRuns,
    /// No task of the records is in [`ReportOptions::rules`].
    #[error("the rules are those of other tasks than the records")]
    NoTaskWithRule {
        /// The tasks of the records.
        tasks: Vec<String>,
    },
    /// No run has the label [`ReportOptions::run`].
    #[error("the records contain no run `{label}`")]
    UnknownRun {
        /// The label.
        label: String,
        /// The label that was probably meant.
        nearest: Option<String>,
    },
}

/// Reports on runs, compared with those of an earlier sweep unless there are none.
///
/// Memory over time is that of the samples in the observations: [`report_files`] also reads those beside the records.
///
/// # Errors
/// There are no runs, or none with the label in the options.
pub fn report(
    observations: &[Observation],
    earlier: &[Observation],
    options: &ReportOptions,
) -> Result<Report, ReportError> {
    let (now, earlier) = ([Part::Memory(observations)], [Part::Memory(earlier)]);
    Ok(Built::new(&now, &earlier, options, ShownRuns::All, &mut |_, _| {})?.finish(Vec::new()))
}

/// Reports on the runs of files, compared with those of an earlier sweep if there are any. Passes each unusable line to
/// `skipped`.
///
/// If there are more than [`MOST_RUNS`], the report shows only the run with the highest peak of each cell.
///
/// # Errors
/// The records cannot be read, there are no runs, or none with the label in the options.
pub fn report_files(
    files: &[Source],
    earlier: &[Source],
    options: &ReportOptions,
    skipped: &mut dyn FnMut(&Path, &Unusable),
) -> Result<Report, ReportError> {
    let mut notes = Vec::new();
    let mut skip = |path: &Path, unusable: &[Unusable]| {
        unusable.iter().for_each(|unusable| skipped(path, unusable));
        notes.extend(note_on_skipped(unusable.len()));
    };
    let read = few(earlier.iter().chain(files))?;
    let mut built = match &read {
        Some(read) => {
            read.iter().for_each(|records| skip(&records.path, &records.unusable));
            let parts: Vec<Part<'_>> = read.iter().map(|records| Part::Memory(&records.observations)).collect();
            let (earlier, files) = parts.split_at(earlier.len());
            Built::new(files, earlier, options, ShownRuns::All, &mut |_, _| {})?
        }
        None => {
            let [files, earlier] = [files, earlier].map(|sources| sources.iter().map(Part::File).collect::<Vec<_>>());
            Built::new(&files, &earlier, options, ShownRuns::HighestOfCells, &mut skip)?
        }
    };
    notes.extend(built.read_series());
    if read.is_none() {
        notes.push(too_many());
    }
    Ok(built.finish(notes))
}

/// The note of a report that does not show each run.
pub fn too_many() -> String {
    format!(
        "There are more than {MOST_RUNS} runs: only the run with the highest peak of each case is shown. All other \
         numbers cover all runs. `highwater export` writes every run."
    )
}

/// Reads all records, if there are few enough to show each run.
fn few<'a>(sources: impl Iterator<Item = &'a Source>) -> Result<Option<Vec<Records>>, ReadError> {
    /// Why reading stops.
    enum Stop {
        TooMany,
        Unreadable(ReadError),
    }
    impl From<ReadError> for Stop {
        fn from(error: ReadError) -> Self {
            Self::Unreadable(error)
        }
    }
    let mut count = 0;
    let mut read = Vec::new();
    for source in sources {
        let mut observations = Vec::new();
        let unusable = source.try_each(|mut observation| {
            count += 1;
            resolve_series(&mut observation, source);
            observations.push(observation);
            if count > MOST_RUNS { Err(Stop::TooMany) } else { Ok(()) }
        });
        match unusable {
            Ok(unusable) => read.push(Records { path: source.path().to_owned(), observations, unusable }),
            Err(Stop::TooMany) => return Ok(None),
            Err(Stop::Unreadable(error)) => return Err(error),
        }
    }
    Ok(Some(read))
}

fn note_on_skipped(unusable: usize) -> Option<String> {
    let lines = if unusable == 1 { "line was" } else { "lines were" };
    (unusable > 0).then(|| format!("{unusable} {lines} skipped: not a record, or incomplete."))
}

/// Records to pass over twice.
#[derive(Clone, Copy)]
enum Part<'a> {
    Memory(&'a [Observation]),
    File(&'a Source),
}

impl Part<'_> {
    /// Passes on each observation. Returns the unusable lines.
    fn each(self, take: &mut dyn FnMut(&Observation)) -> Result<Vec<Unusable>, ReadError> {
        match self {
            Self::Memory(observations) => {
                observations.iter().for_each(take);
                Ok(Vec::new())
            }
            Self::File(source) => source.each(|mut observation| {
                resolve_series(&mut observation, source);
                take(&observation);
            }),
        }
    }
}

/// Resolves the path of the file with all samples, which is relative to the record.
fn resolve_series(observation: &mut Observation, source: &Source) {
    observation.series.file = observation.series.file.take().map(|file| source.beside(&file));
}

/// Reads all samples of a run from the file beside its record, whose path is resolved.
fn whole_series(series: &Series) -> Result<Series, String> {
    // The file is in the directory of its run, below `runs`, beside the record.
    let base = series.file.as_deref().and_then(|file| file.ancestors().nth(3)).unwrap_or(Path::new(""));
    let records = Records { path: base.join(OBSERVATIONS), ..Records::default() };
    let file = series.file.as_deref().and_then(|file| file.strip_prefix(base).ok()).map(Path::to_owned);
    records
        .series(&Series { file, ..series.clone() })
        .map_err(|error| format!("Memory over time has few samples: {error}."))
}

/// The tasks of two sweeps by name, before they are compared.
struct Built {
    now: Vec<(String, Builder)>,
    before: Vec<(String, Builder)>,
    /// What to say first.
    notes: Vec<String>,
}

impl Built {
    fn new(
        parts: &[Part<'_>],
        earlier: &[Part<'_>],
        options: &ReportOptions,
        shown: ShownRuns,
        skipped: &mut dyn FnMut(&Path, &[Unusable]),
    ) -> Result<Self, ReportError> {
        let mut needs = needs(parts, options)?;
        let now = Grouped::read(parts, options, skipped)?;
        if now.group_of_record.is_empty() {
            return Err(ReportError::NoRuns);
        }
        let mut judgements: Vec<Judgement> =
            now.groups.iter().map(|group| judge(group, &options.fit, &Counted::new())).collect();
        for (group, judgement) in now.groups.iter().zip(&mut judgements) {
            judgement.head.needs = needs.remove(&group.name()).unwrap_or_default();
        }
        let notes = set_rules(&now.groups, &mut judgements, options)?;
        // Use the same size definition for both, whatever the rule of the earlier runs counts.
        let counted = judgements.iter().filter_map(|judgement| {
            let predictor = judgement.head.predictor.clone()?;
            Some((judgement.head.name.clone(), (predictor, judgement.measure.clone()?)))
        });
        let counted: Counted = counted.collect();
        let then = Grouped::read(earlier, options, skipped)?;
        let before = then.groups.iter().map(|group| judge(group, &options.fit, &counted)).collect();
        let before = then.build(earlier, before, shown, None)?;
        let now = now.build(parts, judgements, shown, options.run.as_deref())?;
        if let Some(label) = &options.run
            && !now.iter().any(|(_, builder)| builder.has_wanted())
        {
            let labels = now.iter().flat_map(|(_, builder)| builder.labels());
            let nearest = labels.min_by_key(|known| strsim::damerau_levenshtein(known, label)).map(str::to_owned);
            return Err(ReportError::UnknownRun { label: label.clone(), nearest });
        }
        Ok(Self { now, before, notes })
    }

    /// Reads all samples of the runs that are shown over time. Returns what went wrong.
    fn read_series(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        for series in self.now.iter_mut().filter_map(|(_, builder)| builder.series_mut()) {
            match whole_series(series) {
                Ok(whole) => *series = whole,
                Err(note) => notes.push(note),
            }
        }
        notes
    }

    fn finish(mut self, mut notes: Vec<String>) -> Report {
        notes.splice(..0, self.notes);
        let tasks = self.now.into_iter().map(|(name, builder)| {
            let same = self.before.iter().position(|(other, _)| *other == name);
            builder.finish(same.map(|index| self.before.remove(index).1))
        });
        Report::new(tasks.collect(), notes)
    }
}

/// Sets the rules to judge. Returns which tasks have none in the options.
fn set_rules(
    groups: &[Group],
    judgements: &mut [Judgement],
    options: &ReportOptions,
) -> Result<Vec<String>, ReportError> {
    let Some(rules) = &options.rules else {
        judgements.iter_mut().for_each(|judgement| judgement.head.judged.clone_from(&options.rule));
        return Ok(Vec::new());
    };
    let mut without: BTreeSet<&str> = BTreeSet::new();
    for (group, Judgement { head, .. }) in groups.iter().zip(judgements.iter_mut()) {
        let task = group.task.as_deref().unwrap_or("a task without a name");
        head.judged = rules.get(task).cloned();
        head.is_unjudged = head.judged.is_none();
        if head.is_unjudged {
            without.insert(task);
        }
    }
    if judgements.iter().all(|judgement| judgement.head.is_unjudged) {
        return Err(ReportError::NoTaskWithRule { tasks: without.into_iter().map(str::to_owned).collect() });
    }
    let file = rules.values().find_map(|rule| rule.file.as_deref()).unwrap_or("the rules");
    let note = |task| format!("{} is not in {file}: no rule of it is judged.", quote(task));
    Ok(without.into_iter().map(note).collect())
}

/// Records by task, reduced to what fitting needs.
struct Grouped {
    groups: Vec<Group>,
    group_of_record: Vec<u32>,
}

impl Grouped {
    fn read(
        parts: &[Part<'_>],
        options: &ReportOptions,
        skipped: &mut dyn FnMut(&Path, &[Unusable]),
    ) -> Result<Self, ReadError> {
        let mut groups = Groups::new(Metric::Peak, options.pool_parameters);
        let mut group_of_record: Vec<u32> = Vec::new();
        for part in parts {
            let unusable = part.each(&mut |observation| group_of_record.push(groups.add(observation) as u32))?;
            if let Part::File(source) = part {
                skipped(source.path(), &unusable);
            }
        }
        let (groups, indices) = groups.finish_with_indices();
        for index in &mut group_of_record {
            *index = indices[*index as usize] as u32;
        }
        Ok(Self { groups, group_of_record })
    }

    /// Passes over the records again, now that the rules are known. Returns the name and a builder of each task.
    fn build(
        self,
        parts: &[Part<'_>],
        judgements: Vec<Judgement>,
        shown: ShownRuns,
        wanted: Option<&str>,
    ) -> Result<Vec<(String, Builder)>, ReadError> {
        let builder = |judgement: &Judgement| Builder::new(judgement.head.clone(), shown, wanted.map(str::to_owned));
        let mut builders: Vec<Builder> = judgements.iter().map(builder).collect();
        // The next row of the table of each group.
        let mut rows = vec![0; self.groups.len()];
        let mut group_of_record = self.group_of_record.iter();
        let mut line = 0;
        for part in parts {
            // Unusable lines were reported in the first pass.
            part.each(&mut |observation| {
                line += 1;
                let Some(index) = group_of_record.next().map(|index| *index as usize) else { return };
                let group = &self.groups[index];
                let row = Some(rows[index]).filter(|row| group.lines.get(*row) == Some(&line));
                rows[index] += usize::from(row.is_some());
                builders[index].add(observation, judgements[index].of_run(group, row, observation));
            })?;
        }
        Ok(judgements.into_iter().map(|judgement| judgement.head.name).zip(builders).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Source {
        let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/records/segment/observations.jsonl");
        Source::open(&records).unwrap()
    }

    fn observations() -> Vec<Observation> {
        let mut observations = Vec::new();
        segment().each(|observation| observations.push(observation)).unwrap();
        observations
    }

    #[test]
    fn records_in_memory_and_in_a_file_make_the_same_report() {
        let of_files = report_files(&[segment()], &[], &ReportOptions::default(), &mut |_, _| {}).unwrap();
        let of_memory = report(&observations(), &[], &ReportOptions::default()).unwrap();
        assert_eq!(of_files, of_memory);
        assert!(of_memory.tasks[0].fitted.is_some());
    }

    #[test]
    fn records_passed_over_twice_are_judged_like_those_in_memory() {
        let mut observations = observations();
        // An outlier, to see that its rank is kept.
        if let crate::model::reading::Reading::Value(peak) = &mut observations[4].peak {
            peak.bytes.0 *= 3;
        }
        let shown = |shown| {
            let parts = [Part::Memory(&observations)];
            let built = Built::new(&parts, &[], &ReportOptions::default(), shown, &mut |_, _| {}).unwrap();
            built.finish(Vec::new()).tasks.remove(0)
        };
        let (all, of_cells) = (shown(ShownRuns::All), shown(ShownRuns::HighestOfCells));
        let outliers = |task: &crate::report::model::TaskReport| -> Vec<String> {
            let outliers = task.fitted.iter().flat_map(|fitted| &fitted.found.outliers);
            outliers.map(|index| task.runs[*index].label.clone()).collect()
        };
        assert_eq!(outliers(&all).first(), Some(&all.runs[4].label));
        let mut of_all = outliers(&all);
        of_all.retain(|label| of_cells.runs.iter().any(|run| run.label == *label));
        assert_eq!(outliers(&of_cells), of_all);
        assert_eq!(all.cells, of_cells.cells);
    }

    #[test]
    fn an_unknown_run_is_refused_with_the_nearest_label() {
        let options = ReportOptions { run: Some("12 MB #2".to_owned()), ..ReportOptions::default() };
        let error = report(&observations(), &[], &options).unwrap_err();
        let ReportError::UnknownRun { nearest, .. } = error else { panic!("{error}") };
        assert_eq!(nearest.as_deref(), Some("12 MiB #2"));
        assert!(matches!(report(&[], &[], &ReportOptions::default()), Err(ReportError::NoRuns)));
    }
}
