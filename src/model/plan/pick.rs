//! Selects the items of a subset of a channel.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::str::FromStr;

use super::order::shuffle;
use super::source::Unit;
use crate::model::units::Bytes;

/// The number of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// This many.
    Of(usize),
    /// All of them.
    All,
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "all" => Ok(Self::All),
            Ok(count @ 1..) => Ok(Self::Of(count)),
            Ok(0) | Err(_) => Err("expected a number of items of at least 1, or `all`".to_owned()),
        }
    }
}

/// Which items to prefer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// The first by name.
    #[default]
    First,
    /// The smallest ones.
    Smallest,
    /// The largest ones.
    Largest,
    /// Evenly spread over the sizes, including the smallest and the largest.
    Spread,
    /// Random, the same for the same seed; a larger subset includes all of a smaller one.
    Random(u64),
}

impl FromStr for Pick {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected first, smallest, largest, spread, random or random:SEED with an integer".to_owned();
        match text {
            "first" => Ok(Self::First),
            "smallest" => Ok(Self::Smallest),
            "largest" => Ok(Self::Largest),
            "spread" => Ok(Self::Spread),
            "random" => Ok(Self::Random(0)),
            _ => {
                let seed = text.strip_prefix("random:").ok_or_else(expected)?;
                seed.parse().map(Self::Random).map_err(|_| expected())
            }
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Smallest => f.write_str("smallest"),
            Self::Largest => f.write_str("largest"),
            Self::Spread => f.write_str("spread"),
            Self::Random(seed) => write!(f, "random:{seed}"),
        }
    }
}

/// Why a subset is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickError {
    /// There are too few items.
    #[error("{asked} items requested, but there are only {there}")]
    TooFew {
        /// The number requested.
        asked: usize,
        /// The number available.
        there: usize,
    },
}

/// Picks a number of items, each a name and a size; returns the names in alphabetical order.
///
/// # Errors
/// If there are too few.
pub fn picked(items: &[(OsString, Bytes)], count: Count, pick: Pick) -> Result<Vec<OsString>, PickError> {
    let count = match count {
        Count::All => items.len(),
        Count::Of(asked) if asked > items.len() => return Err(PickError::TooFew { asked, there: items.len() }),
        Count::Of(asked) => asked,
    };
    let mut items: Vec<(&OsStr, Bytes)> = items.iter().map(|(name, size)| (name.as_os_str(), *size)).collect();
    items.sort_unstable();
    match pick {
        Pick::First => {}
        Pick::Smallest => items.sort_by_key(|(_, size)| *size),
        Pick::Largest => items.sort_by_key(|(_, size)| std::cmp::Reverse(*size)),
        Pick::Spread => {
            items.sort_by_key(|(_, size)| *size);
            items = spread(&items, count);
        }
        Pick::Random(seed) => shuffle(&mut items, seed),
    }
    items.truncate(count);
    let mut names: Vec<OsString> = items.into_iter().map(|(name, _)| name.to_owned()).collect();
    names.sort_unstable();
    Ok(names)
}

/// Picks `count` of the values, evenly spread over their indices; the middle one for a count of 1.
fn spread<T: Copy>(values: &[T], count: usize) -> Vec<T> {
    let last = values.len().saturating_sub(1);
    let place = |at: usize| if count == 1 { last / 2 } else { at * last / (count - 1) };
    (0..count).filter_map(|at| values.get(place(at)).copied()).collect()
}

/// The items repeated this many times: a part of them below 1, else all of them and more copies under new names. At
/// least one.
pub fn grown(items: &[(OsString, Bytes)], times: f64, pick: Pick) -> Vec<Unit> {
    let wanted = ((items.len() as f64 * times).round() as usize).max(1);
    let part = wanted.min(items.len());
    let Ok(first) = picked(items, Count::Of(part), pick) else { return Vec::new() };
    let mut units: Vec<Unit> = first.into_iter().map(Unit::same).collect();
    let mut names: Vec<&OsString> = items.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    let taken = |name: &OsString| names.binary_search(&name).is_ok();
    for round in 2.. {
        if units.len() >= wanted || names.is_empty() {
            break;
        }
        let more = wanted - units.len();
        units.extend(names.iter().take(more).map(|name| {
            let mut staged_as = (*name).clone();
            staged_as.push(format!("~{round}"));
            while taken(&staged_as) {
                staged_as.push("~");
            }
            Unit { name: (*name).clone(), staged_as }
        }));
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(sizes: &[(&str, u64)]) -> Vec<(OsString, Bytes)> {
        sizes.iter().map(|(name, size)| (OsString::from(name), Bytes(*size))).collect()
    }

    fn names(items: &[(OsString, Bytes)], count: &str, pick: &str) -> String {
        let names = picked(items, count.parse().unwrap(), pick.parse().unwrap()).unwrap();
        names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn items_are_picked_by_name_size_or_chance() {
        let items = items(&[("e", 5), ("d", 1), ("c", 4), ("b", 2), ("a", 3)]);
        assert_eq!(names(&items, "2", "first"), "a b");
        assert_eq!(names(&items, "2", "smallest"), "b d");
        assert_eq!(names(&items, "2", "largest"), "c e");
        assert_eq!(names(&items, "3", "spread"), "a d e");
        assert_eq!(names(&items, "1", "spread"), "a");
        assert_eq!(names(&items, "all", "random:3"), "a b c d e");
        let (few, many) = (names(&items, "2", "random:3"), names(&items, "4", "random:3"));
        assert!(few.split(' ').all(|name| many.contains(name)), "{few} in {many}");
        let error = picked(&items, Count::Of(6), Pick::First).unwrap_err();
        assert_eq!(error.to_string(), "6 items requested, but there are only 5");
    }

    #[test]
    fn data_grow_by_items_under_new_names() {
        let items = items(&[("a", 1), ("b", 1), ("a~2", 1)]);
        let staged = |times| {
            let units = grown(&items, times, Pick::First);
            units.iter().map(|unit| unit.staged_as.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(staged(0.1), "a");
        assert_eq!(staged(0.67), "a a~2");
        assert_eq!(staged(1.0), "a a~2 b");
        assert_eq!(staged(2.0), "a a~2 b a~2~ a~2~2 b~2");
        assert_eq!(grown(&items, 4.0, Pick::First).len(), 12);
    }
}
