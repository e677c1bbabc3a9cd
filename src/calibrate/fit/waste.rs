//! The cost of a limit.

/// The wasted memory, in byte-seconds, of a run of `wall` seconds that needs `peak` bytes and is given `limit`: the
/// unused part, and the whole limit for every failed try. A retry gets twice the memory.
///
/// This is the measure of Tovar et al. (2018), "A job sizing strategy for high-throughput scientific workflows", with
/// the latest possible failures.
pub fn waste(limit: f64, peak: f64, wall: f64) -> f64 {
    if limit >= peak {
        return wall * (limit - peak);
    }
    let mut limit = limit.max(1.0);
    let mut reserved = 0.0;
    while limit < peak {
        reserved += limit;
        limit *= 2.0;
    }
    wall * (reserved + limit - peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_costs_what_is_left_over() {
        assert_eq!(waste(12.0, 10.0, 3.0), 6.0);
        assert_eq!(waste(10.0, 10.0, 3.0), 0.0);
    }

    #[test]
    fn a_failed_try_costs_its_whole_limit() {
        assert_eq!(waste(6.0, 10.0, 1.0), 6.0 + 2.0);
        assert_eq!(waste(3.0, 10.0, 2.0), 2.0 * (3.0 + 6.0 + 2.0));
    }

    #[test]
    fn no_limit_at_all_ends_too() {
        assert!(waste(0.0, 1e18, 1.0).is_finite());
    }
}
