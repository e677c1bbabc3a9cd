//! Reports on more runs than fit in memory: records are read twice, and only their cells are kept.

use std::collections::BTreeSet;

use highwater::calibrate::fit::{Group, Groups, Metric};
use highwater::report::model::TaskReport;
use highwater::report::{Builder, Shown};
use highwater::store::Source;

use super::material::{Counted, How, Judgement, judge};
use super::{no_runs, unknown_run, whole_series};
use crate::cli::failure::Failure;
use crate::cli::records;

/// The report on each task, compared with its earlier runs, and notes on the records.
pub(super) fn tasks(
    sources: &[Source],
    earlier: &[Source],
    how: How,
    wanted: Option<&str>,
) -> Result<(Vec<TaskReport>, Vec<String>), Failure> {
    let mut notes = Vec::new();
    let now = Sorted::read(sources, how, &mut notes)?;
    if now.of_records.is_empty() {
        return Err(no_runs());
    }
    let judgements: Vec<Judgement> = now.groups.iter().map(|group| judge(group, how, &Counted::new())).collect();
    // Use the same size definition for both, whatever the rule of the earlier runs counts.
    let counted = judgements.iter().filter_map(|judgement| {
        let predictor = judgement.head.predictor.clone()?;
        Some((judgement.head.name.clone(), (predictor, judgement.measure.clone()?)))
    });
    let counted: Counted = counted.collect();
    let then = Sorted::read(earlier, how, &mut notes)?;
    let before = then.groups.iter().map(|group| judge(group, how, &counted)).collect();
    let mut before = then.build(earlier, before, None)?;
    let mut builders = now.build(sources, judgements, wanted)?;
    if let Some(wanted) = wanted
        && !builders.iter().any(|(_, builder)| builder.has_wanted())
    {
        let names: Vec<String> = builders.iter().flat_map(|(_, builder)| builder.labels()).map(str::to_owned).collect();
        return Err(unknown_run(wanted, &names));
    }
    for (_, builder) in &mut builders {
        if let Some(series) = builder.series_mut() {
            match whole_series(series) {
                Ok(whole) => *series = whole,
                Err(note) => notes.push(note),
            }
        }
    }
    let tasks = builders.into_iter().map(|(name, builder)| {
        let same = before.iter().position(|(other, _)| *other == name);
        builder.finish(same.map(|place| before.remove(place).1))
    });
    Ok((tasks.collect(), notes))
}

/// Records by task, reduced to what fitting needs.
struct Sorted {
    groups: Vec<Group>,
    /// The group of each record.
    of_records: Vec<u32>,
}

impl Sorted {
    fn read(sources: &[Source], how: How, notes: &mut Vec<String>) -> Result<Self, Failure> {
        let mut groups = Groups::new(Metric::Peak, how.pooled);
        let mut of_records = Vec::new();
        for source in sources {
            let unusable = records::each(source, |observation| of_records.push(groups.add(&observation) as u32))?;
            notes.extend(super::left_out(unusable));
        }
        Ok(Self { groups: groups.finish(), of_records })
    }

    /// Reads the records again, now that the rules are known. Returns a builder and the name of each task.
    fn build(
        self,
        sources: &[Source],
        judgements: Vec<Judgement>,
        wanted: Option<&str>,
    ) -> Result<Vec<(String, Builder)>, Failure> {
        let outliers: Vec<BTreeSet<usize>> =
            judgements.iter().map(|judgement| judgement.outliers.iter().copied().collect()).collect();
        let mut builders: Vec<Builder> =
            judgements.iter().map(|judgement| Builder::new(judgement.head.clone(), Shown::HighestOfCells)).collect();
        let mut rows = vec![0; self.groups.len()];
        let mut of_records = self.of_records.iter();
        let mut line = 0;
        for source in sources {
            // Unusable lines were reported in the first pass.
            let read = source.each(|mut observation| {
                line += 1;
                let Some(place) = of_records.next().map(|place| *place as usize) else { return };
                let group = &self.groups[place];
                let row = Some(rows[place]).filter(|row| group.lines.get(*row) == Some(&line));
                rows[place] += usize::from(row.is_some());
                let n = judgements[place].size(group, row, &observation);
                let censoring = row.and_then(|row| group.table.runs.get(row)).map(|run| run.censoring);
                let is_outlier = row.is_some_and(|row| outliers[place].contains(&row));
                observation.series.file = observation.series.file.take().map(|file| source.beside(&file));
                builders[place].add_with_series(&observation, n, censoring, is_outlier, wanted);
            });
            read.map_err(records::unreadable)?;
        }
        Ok(judgements.into_iter().map(|judgement| judgement.head.name).zip(builders).collect())
    }
}
