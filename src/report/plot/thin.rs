//! Thins marks, and notes it.

use std::collections::BTreeMap;

use super::{Axis, Place};

/// More marks than this are thinned.
const MOST_MARKS: usize = 1200;

/// Thins points: of those that are close together, keeps the highest.
pub(super) fn thin(points: Vec<Place>, x: &Axis, y: &Axis) -> Vec<Place> {
    if points.len() <= MOST_MARKS {
        return points;
    }
    let mut cells = 400.0;
    loop {
        let mut highest: BTreeMap<(i64, i64), Place> = BTreeMap::new();
        for &point in &points {
            let key = ((x.along(point.0) * cells) as i64, (y.along(point.1) * cells / 2.0) as i64);
            let kept = highest.entry(key).or_insert(point);
            if point.1 > kept.1 {
                *kept = point;
            }
        }
        if highest.len() <= MOST_MARKS || cells < 10.0 {
            return highest.into_values().collect();
        }
        cells *= 0.8;
    }
}

/// A note on removed marks.
pub(super) fn note(all: usize, drawn: usize) -> Option<String> {
    (drawn < all).then(|| format!("Thinned to {drawn} of {all} runs; each removed mark is close to a higher one."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_mark_survives() {
        let points: Vec<Place> = (0..10_000).map(|place| (f64::from(place % 97), f64::from(place % 1013))).collect();
        let x = Axis::percent("x", points.iter().map(|point| point.0));
        let y = Axis::percent("y", points.iter().map(|point| point.1));
        let thinned = thin(points.clone(), &x, &y);
        assert!(thinned.len() <= MOST_MARKS && thinned.len() > 300, "{}", thinned.len());
        let highest = |points: &[Place]| points.iter().map(|point| point.1).fold(0.0, f64::max);
        assert_eq!(highest(&thinned), highest(&points));
        assert!(note(10_000, thinned.len()).is_some());
        assert_eq!(note(7, 7), None);
    }
}
