//! Predicted limit against observed peak, with the diagonal.

use super::peaks::amount;
use super::thin::{note, thin};
use super::{Axis, Ink, Layer, Mark, Place, Plot, Shape};
use crate::model::fit::Censoring;
use crate::model::units::Bytes;
use crate::report::model::{Run, TaskReport};

pub(super) fn plot(report: &TaskReport) -> Option<Plot> {
    let places = |given: fn(&Run) -> Option<Bytes>, is: &dyn Fn(&Run) -> bool| -> Vec<Place> {
        let runs = report.runs.iter().filter(|run| is(run));
        runs.filter_map(|run| Some((amount(given(run)?), amount(run.peak?)))).collect()
    };
    let plain = |run: &Run| run.is_plain();
    let censored = |run: &Run| run.censoring != Censoring::None;
    let in_use = places(|run| run.predicted, &plain);
    let fitted = places(|run| run.fitted, &plain);
    let bounds = places(|run| run.predicted.or(run.fitted), &censored);
    let all: Vec<Place> = in_use.iter().chain(&fitted).chain(&bounds).copied().collect();
    if all.is_empty() {
        return None;
    }
    // Use the same scale for both axes, so that the diagonal always has the same slope.
    let both = || all.iter().flat_map(|place| [place.0, place.1]);
    let (x, y) = (Axis::bytes("predicted limit", both()), Axis::bytes("observed peak", both()));
    let diagonal = vec![(x.from, y.from), (x.to, y.to)];
    let too_low = in_use.iter().filter(|(given, peak)| given < peak).count();
    let description = match (in_use.len(), fitted.len()) {
        (0, fitted) => {
            format!("{fitted} runs with the limits of the fitted rule. Above the line, the limit is too low.")
        }
        (given, _) => format!(
            "{given} runs with the limits of the rule in use and the fitted rule. Above the line, the limit is too \
             low: {too_low} for the rule in use."
        ),
    };
    let (mut total, mut drawn) = (0, 0);
    let mut layers = vec![Layer {
        name: Some("predicted = observed".to_owned()),
        ink: Ink::Muted,
        shape: Shape::Line { points: diagonal, dashed: false },
    }];
    let kinds = [
        ("rule in use", Ink::InUse, Mark::Ring, in_use),
        ("fitted rule", Ink::Fitted, Mark::Circle, fitted),
        ("censored run", Ink::Censored, Mark::Triangle, bounds),
    ];
    for (name, ink, mark, points) in kinds {
        total += points.len();
        let points = thin(points, &x, &y);
        drawn += points.len();
        if !points.is_empty() {
            layers.push(Layer { name: Some(name.to_owned()), ink, shape: Shape::Marks { points, mark } });
        }
    }
    Some(Plot {
        name: "predicted",
        title: format!("Predicted limit and observed peak of {}", report.name),
        description,
        thinned: note(total, drawn),
        x,
        y,
        layers,
    })
}
