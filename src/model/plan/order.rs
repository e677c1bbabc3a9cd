//! The order of runs.

use std::fmt;
use std::str::FromStr;

/// The order of the runs of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Cell by cell, with all runs of a cell in a row.
    #[default]
    AsGiven,
    /// The first run of every cell, then the second ones, so that effects of time are spread over all cells.
    Interleaved,
    /// Random, the same for the same seed.
    Shuffled(u64),
}

/// A string is not an order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected as-given, interleaved, shuffled or shuffled:SEED with an integer")]
pub struct OrderError;

impl FromStr for Order {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, OrderError> {
        match text.split_once(':') {
            None if text == "as-given" => Ok(Self::AsGiven),
            None if text == "interleaved" => Ok(Self::Interleaved),
            None if text == "shuffled" => Ok(Self::Shuffled(0)),
            Some(("shuffled", seed)) => seed.parse().map(Self::Shuffled).map_err(|_| OrderError),
            _ => Err(OrderError),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsGiven => f.write_str("as-given"),
            Self::Interleaved => f.write_str("interleaved"),
            Self::Shuffled(seed) => write!(f, "shuffled:{seed}"),
        }
    }
}

/// The runs in order, each the index of a cell and a number from 1: `runs` of each of `cells` cells.
pub fn in_order(order: Order, cells: usize, runs: u32) -> Vec<(usize, u32)> {
    let by_cell = (0..cells).flat_map(|cell| (1..=runs).map(move |run| (cell, run)));
    match order {
        Order::AsGiven => by_cell.collect(),
        Order::Interleaved => (1..=runs).flat_map(|run| (0..cells).map(move |cell| (cell, run))).collect(),
        Order::Shuffled(seed) => {
            let mut all: Vec<_> = by_cell.collect();
            shuffle(&mut all, seed);
            all
        }
    }
}

/// The Fisher-Yates shuffle with the generator SplitMix64 (Steele, Lea and Flood, 2014): the same on every machine and
/// in every version.
pub(super) fn shuffle<T>(values: &mut [T], seed: u64) {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    for last in (1..values.len()).rev() {
        // The modulo bias is negligible for so few values.
        values.swap(last, (next() % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_have_the_same_runs() {
        assert_eq!(in_order(Order::AsGiven, 2, 2), [(0, 1), (0, 2), (1, 1), (1, 2)]);
        assert_eq!(in_order(Order::Interleaved, 2, 2), [(0, 1), (1, 1), (0, 2), (1, 2)]);
        let shuffled = in_order(Order::Shuffled(7), 10, 5);
        assert_eq!(shuffled, in_order(Order::Shuffled(7), 10, 5));
        assert_ne!(shuffled, in_order(Order::Shuffled(8), 10, 5));
        let mut sorted = shuffled;
        sorted.sort_unstable();
        assert_eq!(sorted, in_order(Order::AsGiven, 10, 5));
    }

    #[test]
    fn orders_are_read_as_they_are_written() {
        for order in [Order::AsGiven, Order::Interleaved, Order::Shuffled(42)] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        for text in ["", "random", "shuffled:", "shuffled:x", "as-given:1"] {
            assert!(text.parse::<Order>().is_err(), "{text}");
        }
    }
}
