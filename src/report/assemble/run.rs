//! A run in a report.

use crate::model::fit::Censoring;
use crate::model::observation::{Breakdown, Exactness, Observation, Outcome};
use crate::model::units::Bytes;
use crate::report::describe::case;
use crate::report::model::Run;

pub(super) fn label(run: &Run) -> String {
    format!("{} #{}", case(&run.case, &run.parameters), run.number)
}

pub(super) fn run(observation: &Observation, n: Option<Bytes>) -> Run {
    let sweep = observation.sweep.as_ref();
    let peak = observation.peak.as_ref().value();
    let lower_bound = peak.is_some_and(|peak| matches!(peak.exactness, Exactness::LowerBound { .. }));
    let swap = observation.swap.peak.or(observation.swap.highest_sampled);
    let limit = observation.prediction.as_ref().and_then(|prediction| prediction.docker.limit.as_ref());
    let gpu = observation.gpu_peak().filter(|(peak, _)| *peak > Bytes::ZERO);
    Run {
        label: String::new(),
        cell: sweep.map(|sweep| sweep.cell.clone()),
        case: sweep.map_or_else(|| n.map_or_else(|| "runs".to_owned(), |n| n.to_string()), |sweep| sweep.case.clone()),
        number: sweep.map_or(1, |sweep| sweep.run),
        parameters: sweep.map(|sweep| sweep.parameters.clone()).unwrap_or_default(),
        synthetic: sweep.is_some_and(|sweep| sweep.synthetic),
        started_at: observation.started_at,
        n,
        peak: peak.map(|peak| peak.bytes),
        below: peak
            .map(|peak| peak.exactness.error_bound())
            .filter(|noise| !lower_bound && peak.is_some_and(|peak| peak.bytes <= *noise)),
        lower_bound,
        at_most: peak.and_then(|peak| peak.upper_bound.as_ref()).map(|most| most.bytes).filter(|_| lower_bound),
        censoring: match censoring(observation) {
            Censoring::None if lower_bound => Censoring::LowerBound,
            censoring => censoring,
        },
        outcome: observation.outcome,
        limit: observation.limit.effective.value().flatten(),
        predicted: limit.map(|limit| limit.bytes),
        fitted: None,
        typical: None,
        breakdown: observation.breakdown.value(),
        between_samples: observation.between_samples(),
        swap: swap.value(),
        wall_us: observation.wall_us,
        cpu_us: observation.cpu.value().map(|cpu| cpu.user_us.saturating_add(cpu.system_us)),
        gpu: gpu.map(|(peak, _)| peak),
        gpu_lower_bound: gpu.is_some_and(|(_, is_lower_bound)| is_lower_bound),
        source: peak.map(|peak| peak.source),
        floor: observation.floor.as_ref().map(|floor| floor.bytes),
        warnings: observation.notes().collect(),
    }
}

fn censoring(observation: &Observation) -> Censoring {
    match (observation.outcome, observation.censored) {
        (Outcome::OomKilled, _) => Censoring::OomKilled,
        (_, false) => Censoring::None,
        (Outcome::Exited { status: 0 }, true) => Censoring::LimitReached,
        // It reached its limit and failed. It likely needs more, but nothing proves that.
        (_, true) => Censoring::LimitReached,
    }
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
