//! Peak against input size, with the rules.

use super::thin::{note, thin};
use super::{Axis, Ink, Layer, Mark, Place, Plot, Shape};
use crate::model::fit::{Censoring, FittedRule, Form};
use crate::model::units::Bytes;
use crate::report::model::{Run, TaskReport};
use crate::report::words::count;

/// The number of segments of a curve.
const PIECES: u32 = 60;

pub(super) fn plot(report: &TaskReport) -> Option<Plot> {
    let predictor = report.predictor.as_ref()?;
    let measured: Vec<(&Run, Place)> = report.runs.iter().filter_map(|run| Some((run, place(run)?))).collect();
    if measured.is_empty() {
        return None;
    }
    let before = report.before.as_ref();
    let old: Vec<Place> =
        before.iter().flat_map(|before| &before.peaks).map(|peak| (amount(peak.n), amount(peak.bytes))).collect();
    let sizes = || measured.iter().map(|(_, place)| *place).chain(old.iter().copied());
    let x = axis_of_n(report, predictor, sizes().map(|place| place.0));
    let in_use: Vec<Place> = report
        .rule_in_use
        .iter()
        .flat_map(|rule| &rule.curve)
        .map(|point| (amount(point.n), amount(point.bytes)))
        .collect();
    let (least, most) = sizes().fold((f64::INFINITY, 0.0_f64), |(least, most), (n, _)| (least.min(n), most.max(n)));
    let is_whole = report.parameter.is_none();
    let curve = |rule: &FittedRule| curve(rule, &x, (least, most), is_whole);
    let fitted = report.fitted.as_ref().map(|fitted| &fitted.found);
    let (limit, typical) = (fitted.map(|found| curve(&found.rule)), fitted.map(|found| curve(&found.typical)));
    let values = sizes().chain(in_use.iter().copied()).chain(limit.iter().flatten().copied());
    let y = Axis::bytes("peak", values.map(|place| place.1));

    let mut layers = Vec::new();
    let mut add = |name: &str, ink, shape| layers.push(Layer { name: Some(name.to_owned()), ink, shape });
    if let (Some(upper), Some(lower)) = (&limit, &typical) {
        let area = Shape::Area { upper: upper.clone(), lower: lower.clone(), opacity: 0.16 };
        add("headroom above a typical run", Ink::Fitted, area);
    }
    if in_use.len() > 1 {
        add("rule in use", Ink::InUse, Shape::Line { points: in_use, dashed: true });
    }
    if let Some(points) = limit {
        add("fitted rule", Ink::Fitted, Shape::Line { points, dashed: false });
    }
    if let Some(rule) = before.and_then(|before| before.fitted.as_ref()) {
        add("earlier fitted rule", Ink::Muted, Shape::Line { points: curve(rule), dashed: true });
    }
    let mut all = 0;
    let mut drawn = 0;
    let mut marks = |name: &str, ink, mark, points: Vec<Place>| {
        all += points.len();
        let points = thin(points, &x, &y);
        drawn += points.len();
        if !points.is_empty() {
            add(name, ink, Shape::Marks { points, mark });
        }
    };
    marks("earlier run", Ink::Muted, Mark::Ring, old);
    for (name, ink, mark, is) in KINDS {
        marks(name, ink, mark, measured.iter().filter(|(run, _)| is(run)).map(|(_, place)| *place).collect());
    }
    Some(Plot {
        name: "peaks",
        title: match &report.parameter {
            Some(parameter) => format!("Peak of {} by {parameter}", report.name),
            None => format!("Peak of {} by input size", report.name),
        },
        description: description(report, &measured),
        thinned: note(all, drawn),
        x,
        y,
        layers,
    })
}

/// The appearance of a kind of run.
type Kind = (&'static str, Ink, Mark, fn(&Run) -> bool);

/// The kinds of runs, from back to front.
const KINDS: [Kind; 5] = [
    ("run", Ink::Observed, Mark::Circle, Run::is_plain),
    ("failed (not memory)", Ink::Muted, Mark::Cross, |run| {
        run.censoring == Censoring::None && run.outcome.has_failed()
    }),
    ("limit reached", Ink::Censored, Mark::Diamond, |run| run.censoring == Censoring::LimitReached),
    ("sampled (lower bound)", Ink::Censored, Mark::Ring, |run| run.censoring == Censoring::LowerBound),
    ("out of memory (needs more)", Ink::Censored, Mark::Triangle, |run| run.censoring == Censoring::OomKilled),
];

/// The axis of the input size, or of the parameter that is n.
pub(super) fn axis_of_n(report: &TaskReport, predictor: &str, values: impl IntoIterator<Item = f64>) -> Axis {
    match &report.parameter {
        Some(parameter) => Axis::parameter(parameter, values),
        None => Axis::bytes(&format!("input size (n: {predictor})"), values),
    }
}

fn place(run: &Run) -> Option<Place> {
    Some((amount(run.n?), amount(run.peak?)))
}

pub(super) fn amount(bytes: Bytes) -> f64 {
    bytes.0 as f64
}

/// A rule between two sizes: of whole bytes, or of any values of a parameter, which may be few.
fn curve(rule: &FittedRule, x: &Axis, (least, most): (f64, f64), is_whole: bool) -> Vec<Place> {
    let inside = x.evenly(PIECES).filter(|n| *n > least && *n < most);
    let sizes = [least].into_iter().chain(inside).chain([most]);
    let limit = |n: f64| match rule.form {
        Form::Sum if !is_whole => amount(rule.base_bytes) + rule.coefficient * n.powi(rule.exponent.cast_signed()),
        Form::Sum | Form::Max => amount(rule.limit(Bytes(n as u64))),
    };
    sizes.map(|n| (n, limit(n))).collect()
}

fn description(report: &TaskReport, measured: &[(&Run, Place)]) -> String {
    let censored = measured.iter().filter(|(run, _)| run.censoring != Censoring::None).count();
    let mut text = count(measured.len(), "run", "runs");
    if censored > 0 {
        text.push_str(&format!(", {censored} of them censored"));
    }
    let plain = || measured.iter().map(|(run, _)| *run).filter(|run| run.is_plain());
    let ends = [plain().min_by_key(|run| (run.n, run.peak)), plain().max_by_key(|run| (run.n, run.peak))];
    if let [Some(first), Some(last)] = ends
        && let (Some(n), Some(peak), Some(last_n), Some(last_peak)) = (first.n, first.peak, last.n, last.peak)
    {
        let [n, last_n] = [n, last_n].map(|n| report.describe_n(n));
        text.push_str(&format!(": from {peak} for {n} to {last_peak} for {last_n}"));
    }
    text.push('.');
    if let Some(rule) = &report.rule_in_use {
        text.push_str(&format!(" The rule in use is {}.", rule.words));
    }
    if let Some(fitted) = &report.fitted {
        text.push_str(&format!(" The fitted rule is {}.", fitted.words));
    }
    text
}
