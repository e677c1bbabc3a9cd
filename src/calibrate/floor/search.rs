//! Decides which limit to try next: the search knows only limits and their results, not tasks.

use std::collections::BTreeMap;

use crate::model::units::Bytes;

/// What the kernel charges at once to one CPU's account (64 pages of 4 KiB): a smaller gap between limits is
/// meaningless.
const BATCH: Bytes = Bytes(256 << 10);

/// Limits are multiples of this, to which the kernel rounds anyway.
const PAGE: u64 = 4096;

/// The bounds of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchLimits {
    /// The final gap between a passing and a failing limit, as a share of the former.
    pub precision: f64,
    /// How many runs have to succeed under the limit that is found, without a failure.
    pub confirm: u32,
    /// The lowest limit that can be set.
    pub least: Bytes,
    /// The highest limit that makes sense.
    pub most: Bytes,
    /// The most tries.
    pub tries: u32,
}

/// The result of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The task succeeded.
    Enough {
        /// The memory used, if the limit was not reached: that is enough, too. Matters if it is clearly less than the
        /// limit.
        used: Option<Bytes>,
    },
    /// The task did not succeed.
    NotEnough,
    /// The task succeeded too slowly. The machine may have been busy, so such a try is repeated once.
    TooSlow,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Run the task under this limit.
    Try(Bytes),
    /// Done: [`Search::enough`] is the result.
    Settled,
    /// Give up: there were too many tries, or the highest limit was not enough.
    GaveUp,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    enough: u32,
    not_enough: u32,
}

/// Searches for the smallest limit that is enough: halves the peak until a limit is not enough, then halves the gap
/// between the two until it is small, and finally confirms the result.
///
/// It errs on the safe side: a limit that was not enough once counts as not enough, even if a lower one was enough.
#[derive(Clone, Debug)]
pub struct Search {
    limits: SearchLimits,
    /// The memory used without a limit, or under a higher one.
    used: Vec<Bytes>,
    tried: BTreeMap<Bytes, Count>,
    tries: u32,
    /// Number of steps above the peak, where no limit is known to be enough; the steps grow.
    steps_up: u32,
    /// The limit of a try that took too long, to be repeated once.
    slow: Option<Bytes>,
}

impl Search {
    /// Creates a search below the peak of a run without a limit.
    pub fn new(limits: SearchLimits, peak: Bytes) -> Self {
        Self { limits, used: vec![peak], tried: BTreeMap::new(), tries: 0, steps_up: 0, slow: None }
    }

    /// The next step.
    pub fn next(&self) -> Step {
        let SearchLimits { least, most, confirm, tries, .. } = self.limits;
        if self.tries >= tries {
            return if self.is_settled() { Step::Settled } else { Step::GaveUp };
        }
        if let Some(limit) = self.slow {
            return Step::Try(limit);
        }
        match (self.enough(), self.not_enough()) {
            (Some(enough), None) if enough > least => Step::Try(Bytes(enough.0 / 2).max(least).rounded_up()),
            (Some(enough), Some(not_enough)) if self.gap(enough, not_enough) => Step::Try(between(not_enough, enough)),
            (Some(enough), _) if self.times_enough(enough) < confirm => Step::Try(enough),
            (Some(_), _) => Step::Settled,
            (None, Some(not_enough)) if not_enough >= most => Step::GaveUp,
            (None, not_enough) => Step::Try(self.above(not_enough.unwrap_or(least)).min(most.rounded_up())),
        }
    }

    /// Adds the result of a try.
    pub fn record(&mut self, limit: Bytes, verdict: Verdict) {
        self.tries += 1;
        let again = self.slow.take();
        let above_all = self.enough().is_none();
        let width = self.width(limit);
        let count = self.tried.entry(limit).or_default();
        match verdict {
            Verdict::Enough { used } => {
                count.enough += 1;
                let worth_it = limit.saturating_sub(width);
                self.used.extend(used.filter(|used| *used < worth_it));
            }
            Verdict::TooSlow if again.is_none() => self.slow = Some(limit),
            Verdict::NotEnough | Verdict::TooSlow => {
                count.not_enough += 1;
                self.steps_up += u32::from(above_all);
            }
        }
    }

    /// The lowest limit above all that were not enough at which the task succeeds, as far as known.
    pub fn enough(&self) -> Option<Bytes> {
        let floor = self.not_enough();
        let tried = self.tried.iter().filter(|(_, count)| count.enough > 0).map(|(limit, _)| *limit);
        let used = self.used.iter().map(|used| used.rounded_up().max(self.limits.least));
        tried.chain(used).filter(|limit| floor.is_none_or(|floor| *limit > floor)).min()
    }

    /// The highest limit that was not enough.
    pub fn not_enough(&self) -> Option<Bytes> {
        self.tried.iter().filter(|(_, count)| count.not_enough > 0).map(|(limit, _)| *limit).next_back()
    }

    /// How many times the task succeeded under this limit.
    pub fn times_enough(&self, limit: Bytes) -> u32 {
        self.tried.get(&limit).map_or(0, |count| count.enough)
    }

    /// How many times it succeeded under limits that are no higher than one that was not enough.
    pub fn times_enough_below(&self, not_enough: Bytes) -> u32 {
        self.tried.range(..=not_enough).map(|(_, count)| count.enough).sum()
    }

    /// Number of tries so far.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// The approximate number of tries left.
    pub fn tries_left(&self) -> u32 {
        let SearchLimits { least, confirm, .. } = self.limits;
        let to_confirm = |enough| confirm.saturating_sub(self.times_enough(enough));
        match (self.enough(), self.not_enough()) {
            // More often than not, one of the next two is not enough.
            (Some(enough), None) if enough > least => 1 + self.halvings(Bytes(enough.0 / 2), enough) + confirm - 1,
            (Some(enough), Some(not_enough)) if self.gap(enough, not_enough) => {
                self.halvings(not_enough, enough) + confirm.saturating_sub(1)
            }
            (Some(enough), _) => to_confirm(enough),
            (None, _) => 1 + confirm,
        }
    }

    fn is_settled(&self) -> bool {
        match (self.enough(), self.not_enough()) {
            (Some(enough), None) => enough <= self.limits.least && self.times_enough(enough) >= self.limits.confirm,
            (Some(enough), Some(not_enough)) => {
                !self.gap(enough, not_enough) && self.times_enough(enough) >= self.limits.confirm
            }
            (None, _) => false,
        }
    }

    /// Whether the gap between these two is wide enough for another try.
    fn gap(&self, enough: Bytes, not_enough: Bytes) -> bool {
        enough.saturating_sub(not_enough) > self.width(enough)
    }

    fn width(&self, enough: Bytes) -> Bytes {
        Bytes((enough.0 as f64 * self.limits.precision) as u64).max(BATCH)
    }

    /// How many times the gap has to be halved.
    fn halvings(&self, not_enough: Bytes, enough: Bytes) -> u32 {
        let gap = enough.saturating_sub(not_enough).ratio(self.width(enough)).unwrap_or(1.0);
        gap.max(1.0).log2().ceil() as u32
    }

    /// A limit above one that was not enough, if none is known to be enough.
    fn above(&self, not_enough: Bytes) -> Bytes {
        let share = self.limits.precision * f64::from(1_u32 << self.steps_up.min(16));
        let step = Bytes((not_enough.0 as f64 * share) as u64).max(BATCH);
        not_enough.saturating_add(step).rounded_up()
    }
}

/// The geometric mean, which halves the ratio, rounded to pages.
fn between(low: Bytes, high: Bytes) -> Bytes {
    Bytes((low.0 as f64 * high.0 as f64).sqrt() as u64).rounded_up().min(Bytes(high.0 - PAGE)).max(Bytes(low.0 + PAGE))
}

impl Bytes {
    /// The next multiple of a page.
    fn rounded_up(self) -> Self {
        Self(self.0.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX - (u64::MAX % PAGE)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: Bytes = Bytes(64 << 30);

    fn search_limits(precision: f64, confirm: u32) -> SearchLimits {
        SearchLimits { precision, confirm, least: Bytes(256 << 10), most: MOST, tries: 64 }
    }

    /// Runs a search with a function that gives the results.
    fn settle(mut search: Search, mut answer: impl FnMut(Bytes) -> Verdict) -> (Search, Step) {
        loop {
            match search.next() {
                Step::Try(limit) => {
                    let verdict = answer(limit);
                    search.record(limit, verdict);
                }
                end => return (search, end),
            }
        }
    }

    fn from(need: Bytes) -> impl Fn(Bytes) -> Verdict {
        move |limit| if limit >= need { Verdict::Enough { used: None } } else { Verdict::NotEnough }
    }

    #[test]
    fn a_need_of_a_fifth_of_the_peak_is_found_in_a_dozen_tries() {
        let need = Bytes::mib(101);
        let mut limits = Vec::new();
        let (search, end) = settle(Search::new(search_limits(0.02, 2), Bytes::mib(501)), |limit| {
            limits.push(limit);
            from(need)(limit)
        });
        assert_eq!(end, Step::Settled);
        let floor = search.enough().unwrap();
        assert!(floor >= need && floor.0 <= need.0 + need.0 / 40, "{floor}: {limits:?}");
        assert!(limits.len() <= 12, "{limits:?}");
        assert_eq!(limits[..3], [Bytes(501 << 19), Bytes((501 << 18) / PAGE * PAGE), limits[2]]);
    }

    #[test]
    fn what_a_try_used_below_its_limit_is_the_next_guess() {
        let mut search = Search::new(search_limits(0.02, 2), Bytes::mib(500));
        search.record(Bytes::mib(250), Verdict::Enough { used: Some(Bytes::mib(101)) });
        assert_eq!(search.enough(), Some(Bytes::mib(101)));
        assert_eq!(search.next(), Step::Try(Bytes(101 << 19)));
        search.record(Bytes(101 << 19), Verdict::NotEnough);
        search.record(Bytes::mib(100), Verdict::NotEnough);
        // Known only from its use, not from a limit: it has to be confirmed like any other.
        assert_eq!(search.next(), Step::Try(Bytes::mib(101)));
        search.record(Bytes::mib(101), Verdict::NotEnough);
        assert_eq!(search.enough(), Some(Bytes::mib(250)));
    }

    #[test]
    fn a_try_that_took_too_long_is_repeated_once() {
        let mut search = Search::new(search_limits(0.02, 2), Bytes::mib(100));
        let Step::Try(limit) = search.next() else { panic!("{search:?}") };
        search.record(limit, Verdict::TooSlow);
        assert_eq!((search.next(), search.not_enough()), (Step::Try(limit), None));
        search.record(limit, Verdict::TooSlow);
        assert_eq!(search.not_enough(), Some(limit));

        let mut lucky = Search::new(search_limits(0.02, 2), Bytes::mib(100));
        lucky.record(limit, Verdict::TooSlow);
        lucky.record(limit, Verdict::Enough { used: None });
        assert_eq!((lucky.enough(), lucky.not_enough()), (Some(limit), None));
    }

    #[test]
    fn a_task_that_does_with_the_least_limit_has_it_for_a_floor() {
        let least = Bytes::mib(6);
        let (search, end) =
            settle(Search::new(SearchLimits { least, ..search_limits(0.02, 2) }, Bytes::mib(5)), from(Bytes::mib(1)));
        assert_eq!((end, search.enough(), search.not_enough()), (Step::Settled, Some(least), None));
        assert_eq!(search.tries(), 2);
    }

    #[test]
    fn success_below_a_limit_that_was_not_enough_does_not_count() {
        // A task that adapts to its limit: between 100 and 300 MiB it takes more than it gets.
        let answer = |limit: Bytes| match limit.0 >> 20 {
            0..40 | 100..300 => Verdict::NotEnough,
            _ => Verdict::Enough { used: None },
        };
        let mut search = Search::new(search_limits(0.02, 2), Bytes::mib(500));
        search.record(Bytes::mib(60), Verdict::Enough { used: None });
        search.record(Bytes::mib(200), Verdict::NotEnough);
        let (search, end) = settle(search, answer);
        assert_eq!(end, Step::Settled);
        assert!(search.enough().unwrap() >= Bytes::mib(300), "{search:?}");
        assert_eq!(search.times_enough_below(search.not_enough().unwrap()), 1);
    }

    #[test]
    fn a_task_that_always_fails_under_a_limit_is_given_up_at_the_highest_one() {
        let (search, end) = settle(Search::new(search_limits(0.02, 2), Bytes::mib(500)), |_| Verdict::NotEnough);
        assert_eq!((end, search.enough(), search.not_enough()), (Step::GaveUp, None, Some(MOST)));
        assert!(search.tries() < 30, "{search:?}");
    }

    proptest! {
        #[test]
        fn a_threshold_is_found_within_the_precision(
            need in 1_u64 << 12..1 << 36,
            above in 1.0_f64..50.0,
            precision in 0.005_f64..0.2,
            confirm in 1_u32..4,
        ) {
            let limits = search_limits(precision, confirm);
            let peak = Bytes((need as f64 * above) as u64);
            let (search, end) = settle(Search::new(limits, peak), from(Bytes(need)));
            prop_assert_eq!(end, Step::Settled);
            let floor = search.enough().unwrap();
            prop_assert!(floor.0 >= need);
            prop_assert!(search.times_enough(floor) >= confirm);
            let slack = (floor.0 as f64 * precision).max(BATCH.0 as f64) as u64 + PAGE;
            prop_assert!(floor.0 - need <= slack || floor == limits.least, "{} for {}", floor, Bytes(need));
            prop_assert!(search.tries() <= 6 + 12 + confirm, "{} tries", search.tries());
        }

        #[test]
        fn a_noisy_edge_costs_some_tries_and_never_a_floor_that_was_seen_to_fail(
            need in 1_u64 << 22..1 << 34,
            above in 1.0_f64..10.0,
            noise in 0.0_f64..0.05,
            seed in any::<u64>(),
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let limits = search_limits(0.02, 3);
            let (low, high) = (need as f64 * (1.0 - noise), need as f64 * (1.0 + noise));
            let mut failed = Bytes::ZERO;
            let (search, end) = settle(Search::new(limits, Bytes((high * above) as u64)), |limit| {
                // Each run needs a different amount.
                if limit.0 as f64 >= low + random.f64() * (high - low) {
                    Verdict::Enough { used: None }
                } else {
                    failed = failed.max(limit);
                    Verdict::NotEnough
                }
            });
            prop_assert_eq!(end, Step::Settled);
            let floor = search.enough().unwrap();
            prop_assert!(floor > failed && floor.0 as f64 >= low);
            prop_assert!(floor.0 as f64 <= (high * 1.021).max(high + BATCH.0 as f64) + PAGE as f64, "{}", floor);
            prop_assert!(search.times_enough(floor) >= 3);
            prop_assert!(search.tries() <= 40, "{} tries", search.tries());
        }

        #[test]
        fn whatever_the_answers_a_search_ends(peak in 1_u64..1 << 40, answers in proptest::collection::vec(0_u8..4, 64)) {
            let mut answers = answers.into_iter();
            let (search, _) = settle(Search::new(search_limits(0.02, 2), Bytes(peak)), |limit| match answers.next() {
                Some(0) => Verdict::NotEnough,
                Some(1) => Verdict::TooSlow,
                Some(2) => Verdict::Enough { used: Some(Bytes(limit.0 / 3)) },
                _ => Verdict::Enough { used: None },
            });
            if let (Some(enough), Some(not_enough)) = (search.enough(), search.not_enough()) {
                prop_assert!(not_enough < enough);
            }
            prop_assert!(search.tries() <= 64);
        }
    }
}
