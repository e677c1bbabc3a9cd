//! Axes: quantity, range and ticks.

use crate::model::units::Bytes;

/// Amounts that span more than this factor get a logarithmic axis.
const WIDE_RANGE: f64 = 100.0;

/// One axis of a plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The quantity and its unit.
    pub title: String,
    /// The value at the start.
    pub from: f64,
    /// The value at the end.
    pub to: f64,
    /// Whether the axis is logarithmic.
    pub logarithmic: bool,
    /// The labelled values.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis for amounts of memory in bytes, from 0 or, over a wide range, from the smallest.
    pub(super) fn bytes(what: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (least, most) = range(values);
        if least > 0.0 && most / least > WIDE_RANGE {
            return Self::wide(what, least, most);
        }
        let unit = unit_below(most.max(1.0));
        let to = most.max(1.0) * 1.04 / unit.0;
        let step = nice(to / 6.0);
        let ticks = steps(0.0, to, step).map(|value| (value * unit.0, decimal(value, step))).collect();
        Self { title: format!("{what}, {}", unit.1), from: 0.0, to: to * unit.0, logarithmic: false, ticks }
    }

    /// An axis for the values of a parameter, from 0 or, over a wide range, from the smallest.
    pub(super) fn parameter(name: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (least, most) = range(values);
        if least > 0.0 && most / least > WIDE_RANGE {
            return Self::logarithmic(name, least, most, |value| decimal(value.round(), 1.0));
        }
        let to = most.max(1.0) * 1.04;
        let step = nice(to / 6.0);
        let ticks = steps(0.0, to, step).map(|value| (value, decimal(value, step))).collect();
        Self { title: name.to_owned(), from: 0.0, to, logarithmic: false, ticks }
    }

    fn wide(what: &str, least: f64, most: f64) -> Self {
        Self::logarithmic(what, least, most, |value| Bytes(value as u64).to_string())
    }

    fn logarithmic(what: &str, least: f64, most: f64, label: impl Fn(f64) -> String) -> Self {
        let (from, to) = (least.log2().floor(), (most * 1.03).log2().ceil());
        let step = ((to - from) / 6.0).ceil().max(1.0);
        let ticks = steps(0.0, to - from, step).map(|power| {
            let value = (from + power).exp2();
            (value, label(value))
        });
        Self { title: what.to_owned(), from: from.exp2(), to: to.exp2(), logarithmic: true, ticks: ticks.collect() }
    }

    /// An axis for times in microseconds, from 0.
    pub(super) fn time(what: &str, most_us: f64) -> Self {
        let units = [(1.0, "µs"), (1e3, "ms"), (1e6, "s"), (6e7, "min"), (3.6e9, "h")];
        let fits = |unit: &&(f64, &str)| most_us >= 2.0 * unit.0;
        let (factor, name) = *units.iter().rev().find(fits).unwrap_or(&units[0]);
        let most = most_us.max(1.0) / factor;
        let step = nice(most / 6.0);
        let ticks = steps(0.0, most, step).map(|value| (value * factor, decimal(value, step))).collect();
        Self { title: format!("{what}, {name}"), from: 0.0, to: most * factor, logarithmic: false, ticks }
    }

    /// An axis for shares in per cent, including 0.
    pub(super) fn percent(what: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (least, most) = range(values.into_iter().chain([0.0]));
        let step = nice(100.0 * (most - least).max(0.02) / 6.0);
        let from = (100.0 * least / step - 0.2).floor() * step;
        let to = (100.0 * most / step + 0.2).ceil() * step;
        let ticks = steps(from, to, step).map(|value| (value / 100.0, signed(value, step))).collect();
        Self { title: format!("{what}, %"), from: from / 100.0, to: to / 100.0, logarithmic: false, ticks }
    }

    /// The position of a value: 0 at the start, 1 at the end.
    pub fn along(&self, value: f64) -> f64 {
        if self.logarithmic {
            let least = self.from.max(f64::MIN_POSITIVE);
            (value.max(least) / least).ln() / (self.to / least).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        }
    }

    /// Values at equal distances along the axis.
    pub(super) fn evenly(&self, count: u32) -> impl Iterator<Item = f64> {
        (0..=count).map(move |step| {
            let along = f64::from(step) / f64::from(count);
            if self.logarithmic {
                self.from * (self.to / self.from).powf(along)
            } else {
                self.from + (self.to - self.from) * along
            }
        })
    }
}

fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values
        .into_iter()
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
    if least > most { (0.0, 1.0) } else { (least, most) }
}

/// The largest unit of which there are at least two.
fn unit_below(most: f64) -> (f64, &'static str) {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = (1.0, units[0]);
    for name in &units[1..] {
        if most < 2.0 * 1024.0 * unit.0 {
            break;
        }
        unit = (unit.0 * 1024.0, name);
    }
    unit
}

/// The smallest number of the form 1, 2 or 5 times a power of ten that is at least `least`.
fn nice(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| times * power >= least * 0.999);
    times.unwrap_or(10.0) * power
}

fn steps(from: f64, to: f64, step: f64) -> impl Iterator<Item = f64> {
    let count = ((to - from) / step + 1e-6).floor().clamp(0.0, 1000.0) as u32;
    (0..=count).map(move |place| from + f64::from(place) * step)
}

/// Formats a value with as many decimals as the step has.
fn decimal(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.digits$}")
}

fn signed(value: f64, step: f64) -> String {
    let text = decimal(value.abs(), step);
    match value {
        _ if value.abs() < step / 2.0 => decimal(0.0, step),
        _ if value < 0.0 => format!("−{text}"),
        _ => format!("+{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers_of_the_unit() {
        let axis = Axis::bytes("peak", [14.0 * 1048576.0, 394.0 * 1048576.0]);
        assert_eq!(axis.title, "peak, MiB");
        assert_eq!(labels(&axis), ["0", "100", "200", "300", "400"]);
        assert_eq!(labels(&Axis::time("time", 1_512_345.0)), ["0", "500", "1000", "1500"]);
        assert_eq!(labels(&Axis::percent("off", [-0.031, 0.07])), ["−4", "−2", "0", "+2", "+4", "+6", "+8"]);
    }

    #[test]
    fn wide_ranges_are_logarithmic() {
        let axis = Axis::bytes("n", [1024.0, 1048576.0]);
        assert!(axis.logarithmic);
        assert_eq!(labels(&axis), ["1 KiB", "4 KiB", "16 KiB", "64 KiB", "256 KiB", "1 MiB"]);
        assert!((axis.along(1024.0 * 2_f64.powf(5.5)) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn nothing_to_show_makes_no_strange_axis() {
        for axis in [Axis::bytes("n", []), Axis::time("t", 0.0), Axis::percent("p", [])] {
            assert!(axis.to > axis.from && axis.ticks.len() > 1 && axis.ticks.len() < 20, "{axis:?}");
        }
    }
}
