//! Memory over time of a run.

use super::{Material, TIMELINE_SAMPLES};
use crate::model::observation::Breakdown;
use crate::report::model::Timeline;

pub(super) fn timeline(material: &Material<'_>) -> Option<Timeline> {
    let run = material.shown_over_time()?;
    let series = material.series.as_ref().unwrap_or(&material.observations.get(run)?.series);
    (series.samples.len() > 1).then(|| Timeline {
        run,
        taken: series.taken,
        samples: thinned(&series.samples, TIMELINE_SAMPLES),
    })
}

/// Thins to at most `most` samples: of neighbours, keeps the one with the most memory in use. Keeps the first and last.
pub(super) fn thinned(samples: &[Breakdown], most: usize) -> Vec<Breakdown> {
    if samples.len() <= most {
        return samples.to_vec();
    }
    let Some(((first, last), inner)) = samples.split_first().and_then(|(first, rest)| {
        let (last, inner) = rest.split_last()?;
        Some(((first, last), inner))
    }) else {
        return samples.to_vec();
    };
    let width = inner.len().div_ceil(most.saturating_sub(2).max(1));
    let highest = |window: &[Breakdown]| window.iter().copied().max_by_key(|sample| sample.current);
    let inner = inner.chunks(width).filter_map(highest);
    std::iter::once(*first).chain(inner).chain([*last]).collect()
}
