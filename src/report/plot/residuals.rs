//! How far runs deviate from the typical need by the fitted rule.

use std::collections::BTreeSet;

use super::peaks::{amount, axis_of_n};
use super::thin::{note, thin};
use super::{Axis, Ink, Layer, Mark, Place, Plot, Shape};
use crate::model::units::Bytes;
use crate::report::model::{Run, TaskReport};
use crate::report::words::count;

pub(super) fn plot(report: &TaskReport) -> Option<Plot> {
    let fitted = report.fitted.as_ref()?;
    let residual = |run: &Run| Some((amount(run.n?), run.peak?.ratio(run.typical?)? - 1.0));
    let outliers: BTreeSet<usize> = fitted.found.outliers.iter().copied().collect();
    let is_outlier = |place: &usize| outliers.contains(place);
    let points = |wanted: bool| -> Vec<Place> {
        let runs = report.runs.iter().enumerate().filter(|(place, run)| run.is_plain() && is_outlier(place) == wanted);
        runs.filter_map(|(_, run)| residual(run)).collect()
    };
    let (usual, outliers) = (points(false), points(true));
    let all: Vec<Place> = usual.iter().chain(&outliers).copied().collect();
    let (least, most) =
        all.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), (n, _)| (least.min(*n), most.max(*n)));
    if all.len() < 2 || least > most {
        return None;
    }
    let predictor = report.predictor.as_deref().unwrap_or("its size");
    let x = axis_of_n(report, predictor, all.iter().map(|place| place.0));
    let found = &fitted.found;
    let limit: Vec<Place> = x
        .evenly(60)
        .filter(|n| *n > least && *n < most)
        .chain([least, most])
        .filter_map(|n| {
            let size = Bytes(n as u64);
            Some((n, found.rule.limit(size).ratio(found.typical.limit(size))? - 1.0))
        })
        .collect();
    let worst = all.iter().map(|place| place.1.abs()).fold(0.0, f64::max);
    // A rule far above the need would flatten everything else.
    let mut limit: Vec<Place> = limit.into_iter().filter(|(_, off)| *off <= 3.0 * worst.max(0.1)).collect();
    limit.sort_by(|a, b| a.0.total_cmp(&b.0));
    let y = Axis::percent("deviation from a typical run", all.iter().chain(&limit).map(|place| place.1));
    let typical = vec![(least, 0.0), (most, 0.0)];
    let total = all.len();
    let (usual, outliers) = (thin(usual, &x, &y), thin(outliers, &x, &y));
    let drawn = usual.len() + outliers.len();
    let description = format!(
        "{total} runs compared with the typical need by the fitted rule for their size: they deviate by at most \
         {:.1} %. {}. Above the line of the fitted rule, the limit is too low.",
        100.0 * worst,
        count(found.outliers.len(), "outlier", "outliers")
    );
    let marks = [("run", Ink::Observed, Mark::Circle, usual), ("outlier", Ink::Censored, Mark::Diamond, outliers)];
    let lines = [("fitted rule", Ink::Fitted, limit), ("typical run", Ink::Muted, typical)];
    let lines = lines.into_iter().map(|(name, ink, points)| Layer {
        name: Some(name.to_owned()),
        ink,
        shape: Shape::Line { points, dashed: false },
    });
    let marks = marks.into_iter().filter(|(.., points)| !points.is_empty()).map(|(name, ink, mark, points)| Layer {
        name: Some(name.to_owned()),
        ink,
        shape: Shape::Marks { points, mark },
    });
    Some(Plot {
        name: "residuals",
        title: format!("Residuals of {}", report.name),
        description,
        thinned: note(total, drawn),
        x,
        y,
        layers: lines.chain(marks).collect(),
    })
}
