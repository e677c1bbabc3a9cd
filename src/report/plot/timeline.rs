//! Memory over time of one run, by kind.

use super::peaks::amount;
use super::{Axis, Ink, Layer, Place, Plot, Shape};
use crate::model::observation::Breakdown;
use crate::model::reading::Reading;
use crate::model::units::{Bytes, duration};
use crate::report::model::TaskReport;

/// The parts from bottom to top, the least reclaimable first.
type Part = (&'static str, Ink, fn(&Breakdown) -> Reading<Bytes>);

const PARTS: [Part; 4] = [
    ("anon", Ink::Anon, |sample| sample.anon),
    ("shmem", Ink::Shmem, |sample| sample.shmem),
    ("kernel", Ink::Kernel, |sample| sample.kernel),
    ("file (page cache)", Ink::File, |sample| sample.file),
];

pub(super) fn plot(report: &TaskReport) -> Option<Plot> {
    let timeline = report.timeline.as_ref()?;
    let run = report.runs.get(timeline.run)?;
    let samples = &timeline.samples;
    let end = samples.last()?.at_us.max(run.wall_us) as f64;
    let x = Axis::time("time since the start", end);
    let mut stacks: Vec<Vec<Place>> = vec![samples.iter().map(|sample| (sample.at_us as f64, 0.0)).collect()];
    for (_, _, part) in PARTS {
        let below = stacks.last()?;
        // Unknown parts are not drawn; the line of the usage shows that something is missing.
        let known = |sample: &Breakdown| part(sample).value().map_or(0.0, amount);
        let stack = samples.iter().zip(below).map(|(sample, (at, sum))| (*at, sum + known(sample)));
        stacks.push(stack.collect());
    }
    let in_use: Vec<Place> = samples.iter().map(|sample| (sample.at_us as f64, amount(sample.current))).collect();
    let lines = [("peak", Ink::Observed, run.peak), ("limit", Ink::Limit, run.limit)];
    let heights = stacks.last()?.iter().chain(&in_use).map(|place| place.1);
    let y = Axis::bytes("memory", heights.chain(lines.iter().filter_map(|line| line.2.map(amount))).chain([0.0]));

    let mut layers: Vec<Layer> = PARTS
        .iter()
        .zip(stacks.windows(2))
        .filter(|((_, _, part), _)| samples.iter().any(|sample| part(sample).value().is_some()))
        .map(|((name, ink, _), pair)| Layer {
            name: Some((*name).to_owned()),
            ink: *ink,
            shape: Shape::Area { upper: pair[1].clone(), lower: pair[0].clone(), opacity: 0.9 },
        })
        .collect();
    let line = |name: &str, ink, points, dashed| Layer {
        name: Some(name.to_owned()),
        ink,
        shape: Shape::Line { points, dashed },
    };
    layers.push(line("in use", Ink::Text, in_use, false));
    for (name, ink, value) in lines {
        let Some(value) = value else { continue };
        let points = vec![(0.0, amount(value)), (end, amount(value))];
        layers.push(line(&format!("{name} {value}"), ink, points, true));
    }
    let parts = run.breakdown.map(|breakdown| parts(&breakdown, run.between_samples)).unwrap_or_default();
    let peak = match (run.peak, run.below) {
        (None, _) => String::new(),
        (Some(_), Some(below)) => format!(" The peak is below {below}."),
        (Some(peak), None) => format!(" The peak is {peak}."),
    };
    let left_out = timeline.taken.saturating_sub(samples.len() as u64);
    Some(Plot {
        name: "timeline",
        title: format!("Memory over time of {}, {}", report.name, run.label),
        description: format!("A run of {}.{peak}{parts}", duration(run.wall_us)),
        thinned: (left_out > 0)
            .then(|| format!("Thinned to {} of {} samples, the highest of neighbours.", samples.len(), timeline.taken)),
        x,
        y,
        layers,
    })
}

fn parts(breakdown: &Breakdown, between_samples: Option<Bytes>) -> String {
    let parts: Vec<String> =
        PARTS.iter().filter_map(|(name, _, part)| Some(format!("{name} {}", part(breakdown).value()?))).collect();
    let between = between_samples
        .map(|missing| format!(" Another {missing} of the peak occurred between two samples."))
        .unwrap_or_default();
    format!(" At the highest sample, after {}: {}.{between}", duration(breakdown.at_us), parts.join(", "))
}
