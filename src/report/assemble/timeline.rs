//! Memory over time of a run.

use crate::model::observation::Breakdown;

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
