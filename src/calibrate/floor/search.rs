//! Which limit to try next: a search that knows nothing of tasks, only of limits and of what came of them.

use std::collections::BTreeMap;

use crate::model::units::Bytes;

/// What the kernel charges at once to one CPU's account (64 pages of 4 KiB): closer two limits need not come.
const BATCH: Bytes = Bytes(256 << 10);

/// Limits are multiples of this; the kernel rounds to pages itself.
const PAGE: u64 = 4096;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// How far a limit that is enough and one that is not may be apart, as a share of the former.
    pub precision: f64,
    /// How often a run has to succeed under the limit that is found, without one that does not.
    pub confirm: u32,
    /// The lowest limit that can be set.
    pub least: Bytes,
    /// The highest that makes sense.
    pub most: Bytes,
    /// How many tries at most.
    pub tries: u32,
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The task succeeded.
    Enough {
        /// What it used, where the limit was not reached: so much is enough, too. Counts where it is clearly less.
        used: Option<Bytes>,
    },
    /// The task did not succeed.
    NotEnough,
    /// It would have, but took too long. That may be the machine's fault: such a try is repeated once.
    TooSlow,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Run the task under this limit.
    Try(Bytes),
    /// Nothing: [`Search::enough`] is the answer.
    Settled,
    /// Nothing: it has taken too many tries, or the highest limit was not enough.
    GaveUp,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    enough: u32,
    not_enough: u32,
}

/// A search for the smallest limit that is enough: halves the peak until a limit is not enough, halves the gap between
/// the two until it is small, and repeats what it found.
///
/// It takes the safe side: whatever was not enough once is not enough, whatever was seen below it.
#[derive(Clone, Debug)]
pub struct Search {
    terms: Terms,
    /// What was used without a limit, or under a higher one.
    used: Vec<Bytes>,
    tried: BTreeMap<Bytes, Count>,
    tries: u32,
    /// Above the peak nothing is known to be enough; the steps up become longer.
    steps_up: u32,
    /// The limit of a try that took too long, to be tried once more.
    slow: Option<Bytes>,
}

impl Search {
    /// A search below the peak of a run without a limit.
    pub fn new(terms: Terms, peak: Bytes) -> Self {
        Self { terms, used: vec![peak], tried: BTreeMap::new(), tries: 0, steps_up: 0, slow: None }
    }

    /// What to do next.
    pub fn next(&self) -> Step {
        let Terms { least, most, confirm, tries, .. } = self.terms;
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

    /// Takes note of what came of a try.
    pub fn tell(&mut self, limit: Bytes, verdict: Verdict) {
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

    /// The lowest limit above all that were not enough at which, as far as is known, the task succeeds.
    pub fn enough(&self) -> Option<Bytes> {
        let floor = self.not_enough();
        let tried = self.tried.iter().filter(|(_, count)| count.enough > 0).map(|(limit, _)| *limit);
        let used = self.used.iter().map(|used| used.rounded_up().max(self.terms.least));
        tried.chain(used).filter(|limit| floor.is_none_or(|floor| *limit > floor)).min()
    }

    /// The highest limit that was not enough.
    pub fn not_enough(&self) -> Option<Bytes> {
        self.tried.iter().filter(|(_, count)| count.not_enough > 0).map(|(limit, _)| *limit).next_back()
    }

    /// How often the task succeeded under this limit.
    pub fn times_enough(&self, limit: Bytes) -> u32 {
        self.tried.get(&limit).map_or(0, |count| count.enough)
    }

    /// How often it succeeded under limits that are no higher than one that was not enough.
    pub fn times_enough_below(&self, not_enough: Bytes) -> u32 {
        self.tried.range(..=not_enough).map(|(_, count)| count.enough).sum()
    }

    /// How many tries there were.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// About how many tries are left.
    pub fn tries_left(&self) -> u32 {
        let Terms { least, confirm, .. } = self.terms;
        let to_confirm = |enough| confirm.saturating_sub(self.times_enough(enough));
        match (self.enough(), self.not_enough()) {
            // One of the next two is not enough, more often than not.
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
            (Some(enough), None) => enough <= self.terms.least && self.times_enough(enough) >= self.terms.confirm,
            (Some(enough), Some(not_enough)) => {
                !self.gap(enough, not_enough) && self.times_enough(enough) >= self.terms.confirm
            }
            (None, _) => false,
        }
    }

    /// Whether there is a limit between these two that is worth a try.
    fn gap(&self, enough: Bytes, not_enough: Bytes) -> bool {
        enough.saturating_sub(not_enough) > self.width(enough)
    }

    fn width(&self, enough: Bytes) -> Bytes {
        Bytes((enough.0 as f64 * self.terms.precision) as u64).max(BATCH)
    }

    /// How often the gap has to be halved.
    fn halvings(&self, not_enough: Bytes, enough: Bytes) -> u32 {
        let gap = enough.saturating_sub(not_enough).ratio(self.width(enough)).unwrap_or(1.0);
        gap.max(1.0).log2().ceil() as u32
    }

    /// A limit above one that was not enough, where none is known to be.
    fn above(&self, not_enough: Bytes) -> Bytes {
        let share = self.terms.precision * f64::from(1_u32 << self.steps_up.min(16));
        let step = Bytes((not_enough.0 as f64 * share) as u64).max(BATCH);
        not_enough.saturating_add(step).rounded_up()
    }
}

/// The geometric mean, which halves the ratio; in pages.
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

    fn terms(precision: f64, confirm: u32) -> Terms {
        Terms { precision, confirm, least: Bytes(256 << 10), most: MOST, tries: 64 }
    }

    /// Runs a search against something that answers.
    fn settle(mut search: Search, mut answer: impl FnMut(Bytes) -> Verdict) -> (Search, Step) {
        loop {
            match search.next() {
                Step::Try(limit) => {
                    let verdict = answer(limit);
                    search.tell(limit, verdict);
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
        let (search, end) = settle(Search::new(terms(0.02, 2), Bytes::mib(501)), |limit| {
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
        let mut search = Search::new(terms(0.02, 2), Bytes::mib(500));
        search.tell(Bytes::mib(250), Verdict::Enough { used: Some(Bytes::mib(101)) });
        assert_eq!(search.enough(), Some(Bytes::mib(101)));
        assert_eq!(search.next(), Step::Try(Bytes(101 << 19)));
        search.tell(Bytes(101 << 19), Verdict::NotEnough);
        search.tell(Bytes::mib(100), Verdict::NotEnough);
        // Seen to be used, but not yet kept to: it has to be confirmed like any other.
        assert_eq!(search.next(), Step::Try(Bytes::mib(101)));
        search.tell(Bytes::mib(101), Verdict::NotEnough);
        assert_eq!(search.enough(), Some(Bytes::mib(250)));
    }

    #[test]
    fn a_try_that_took_too_long_is_repeated_once() {
        let mut search = Search::new(terms(0.02, 2), Bytes::mib(100));
        let Step::Try(limit) = search.next() else { panic!("{search:?}") };
        search.tell(limit, Verdict::TooSlow);
        assert_eq!((search.next(), search.not_enough()), (Step::Try(limit), None));
        search.tell(limit, Verdict::TooSlow);
        assert_eq!(search.not_enough(), Some(limit));

        let mut lucky = Search::new(terms(0.02, 2), Bytes::mib(100));
        lucky.tell(limit, Verdict::TooSlow);
        lucky.tell(limit, Verdict::Enough { used: None });
        assert_eq!((lucky.enough(), lucky.not_enough()), (Some(limit), None));
    }

    #[test]
    fn a_task_that_does_with_the_least_limit_has_it_for_a_floor() {
        let least = Bytes::mib(6);
        let (search, end) = settle(Search::new(Terms { least, ..terms(0.02, 2) }, Bytes::mib(5)), from(Bytes::mib(1)));
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
        let mut search = Search::new(terms(0.02, 2), Bytes::mib(500));
        search.tell(Bytes::mib(60), Verdict::Enough { used: None });
        search.tell(Bytes::mib(200), Verdict::NotEnough);
        let (search, end) = settle(search, answer);
        assert_eq!(end, Step::Settled);
        assert!(search.enough().unwrap() >= Bytes::mib(300), "{search:?}");
        assert_eq!(search.times_enough_below(search.not_enough().unwrap()), 1);
    }

    #[test]
    fn a_task_that_always_fails_under_a_limit_is_given_up_at_the_highest_one() {
        let (search, end) = settle(Search::new(terms(0.02, 2), Bytes::mib(500)), |_| Verdict::NotEnough);
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
            let terms = terms(precision, confirm);
            let peak = Bytes((need as f64 * above) as u64);
            let (search, end) = settle(Search::new(terms, peak), from(Bytes(need)));
            prop_assert_eq!(end, Step::Settled);
            let floor = search.enough().unwrap();
            prop_assert!(floor.0 >= need);
            prop_assert!(search.times_enough(floor) >= confirm);
            let slack = (floor.0 as f64 * precision).max(BATCH.0 as f64) as u64 + PAGE;
            prop_assert!(floor.0 - need <= slack || floor == terms.least, "{} for {}", floor, Bytes(need));
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
            let terms = terms(0.02, 3);
            let (low, high) = (need as f64 * (1.0 - noise), need as f64 * (1.0 + noise));
            let mut failed = Bytes::ZERO;
            let (search, end) = settle(Search::new(terms, Bytes((high * above) as u64)), |limit| {
                // Each run needs something else.
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
            let (search, _) = settle(Search::new(terms(0.02, 2), Bytes(peak)), |limit| match answers.next() {
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
