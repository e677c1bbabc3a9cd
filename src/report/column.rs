//! The unit of a column: one for all of its numbers, so that they can be compared at a glance.

use super::model::TaskReport;
use super::words::UNKNOWN;
use crate::model::units::Bytes;

/// A unit of memory, or of time in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Unit {
    /// Its name.
    pub(super) name: &'static str,
    size: f64,
    decimals: usize,
}

const BYTES: [(&str, f64); 7] = [
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("PiB", 1_125_899_906_842_624.0),
    ("EiB", 1_152_921_504_606_846_976.0),
];

const TIMES: [(&str, f64); 4] = [("µs", 1.0), ("ms", 1e3), ("s", 1e6), ("min", 6e7)];

/// Numbers with more digits before the point are hard to read.
const MOST: f64 = 1e5;

impl Unit {
    /// Of the values of a parameter, which have none.
    const NONE: Self = Self { name: "", size: 1.0, decimals: 0 };

    /// The unit for these amounts of memory.
    pub(super) fn of_bytes(amounts: impl Iterator<Item = Bytes>) -> Self {
        Self::of(&BYTES, amounts.map(|amount| amount.0 as f64), 1.0, 1)
    }

    /// The unit for these times in microseconds.
    pub(super) fn of_times(times: impl Iterator<Item = u64>) -> Self {
        Self::of(&TIMES, times.map(|time| time as f64), 0.1, 2)
    }

    /// The largest unit in which the smallest number is at least `small`, unless that makes the largest one unreadable.
    fn of(units: &[(&'static str, f64)], numbers: impl Iterator<Item = f64>, small: f64, decimals: usize) -> Self {
        let positive = numbers.filter(|number| *number > 0.0);
        let (least, most) =
            positive.fold((f64::INFINITY, 0.0_f64), |(least, most), number| (least.min(number), most.max(number)));
        let readable: Vec<_> = units.iter().filter(|(_, size)| most / size < MOST).collect();
        let fitting = readable.iter().rev().find(|(_, size)| most > 0.0 && small * size <= least);
        let &(name, size) = fitting.or(readable.first()).map_or(&units[0], |unit| *unit);
        let finer = usize::from(least < small * size);
        Self { name, size, decimals: if size > 1.0 { decimals + finer } else { 0 } }
    }

    /// An amount of memory without its unit, or a dash.
    pub(super) fn bytes(self, amount: Option<Bytes>) -> String {
        amount.map_or_else(|| UNKNOWN.to_owned(), |amount| self.number(amount.0 as f64))
    }

    /// A time in microseconds without its unit.
    #[cfg(feature = "plots")]
    pub(super) fn time(self, us: u64) -> String {
        self.number(us as f64)
    }

    fn number(self, number: f64) -> String {
        let decimals = self.decimals;
        let least = 10_f64.powi(-(decimals as i32));
        match number / self.size {
            0.0 => "0".to_owned(),
            small if small < least / 2.0 => format!("<{least}"),
            number => format!("{number:.decimals$}"),
        }
    }
}

/// The units of the tables of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units {
    /// Of input sizes, or of the values of a parameter.
    pub(super) n: Unit,
    /// Whether n is a parameter.
    pub(super) is_parameter: bool,
    /// Of peaks and limits.
    pub(super) memory: Unit,
    /// Of times.
    #[cfg_attr(not(feature = "plots"), expect(dead_code, reason = "only HTML lists runs"))]
    pub(super) time: Unit,
}

impl Units {
    /// The heading of the column of n.
    pub(super) const fn n_heading(self) -> &'static str {
        if self.is_parameter { "value n" } else { "input n" }
    }

    pub(super) fn new(task: &TaskReport) -> Self {
        let changes = || task.before.iter().flat_map(|before| &before.changes);
        let sizes = task.cells.iter().filter_map(|cell| cell.n).chain(changes().filter_map(|change| change.n));
        let peaks = task.cells.iter().flat_map(|cell| [cell.least, cell.most]);
        let peaks = peaks.chain(changes().flat_map(|change| [change.old_median, change.new_median]));
        let peaks = peaks.chain(task.runs.iter().map(|run| run.peak));
        Self {
            n: if task.parameter.is_some() { Unit::NONE } else { Unit::of_bytes(sizes) },
            is_parameter: task.parameter.is_some(),
            memory: Unit::of_bytes(peaks.flatten()),
            time: Unit::of_times(task.runs.iter().map(|run| run.wall_us)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(amounts: &[u64]) -> (&'static str, Vec<String>) {
        let amounts = || amounts.iter().map(|amount| Bytes(*amount));
        let unit = Unit::of_bytes(amounts());
        (unit.name, amounts().map(|amount| unit.bytes(Some(amount))).collect())
    }

    #[test]
    fn a_column_has_one_unit_in_which_its_numbers_are_readable() {
        let (unit, numbers) = column(&[2 << 20, 128 << 20]);
        assert_eq!((unit, numbers), ("MiB", vec!["2.0".to_owned(), "128.0".to_owned()]));
        let (unit, numbers) = column(&[200 << 20, 6 << 30]);
        assert_eq!((unit, numbers), ("MiB", vec!["200.0".to_owned(), "6144.0".to_owned()]));
        let (unit, numbers) = column(&[4 << 10, 10 << 30, 0]);
        assert_eq!((unit, numbers), ("MiB", vec!["<0.01".to_owned(), "10240.00".to_owned(), "0".to_owned()]));
        assert_eq!(column(&[5, 7]), ("B", vec!["5".to_owned(), "7".to_owned()]));
        assert_eq!(column(&[0]), ("B", vec!["0".to_owned()]));
        assert_eq!(column(&[]), ("B", Vec::new()));
    }

    #[cfg(feature = "plots")]
    #[test]
    fn times_have_one_unit_too() {
        let unit = Unit::of_times([523_000_u64, 14_020_000].into_iter());
        assert_eq!([unit.time(523_000), unit.time(14_020_000)], ["0.52", "14.02"]);
    }
}
