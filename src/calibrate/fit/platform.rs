//! Adapts a rule to the platform that will apply it.

use crate::model::fit::{Censoring, FittedRule, Form, RunTable};
use crate::model::prediction::{Demand, kubernetes};
use crate::model::units::Bytes;

use super::waste::waste;

/// The factor that the platform applies to a rule on Kubernetes.
pub const KUBERNETES_MARGIN: f64 = 1.1;

/// The platform that runs the task, which determines how a rule is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The rule is the limit.
    #[default]
    Docker,
    /// The limit is [`KUBERNETES_MARGIN`] times the rule.
    Kubernetes,
}

impl Target {
    /// The factor that the platform applies to a rule.
    pub const fn factor(self) -> f64 {
        match self {
            Self::Docker => 1.0,
            Self::Kubernetes => KUBERNETES_MARGIN,
        }
    }

    /// The limit that tasks get if this rule is written.
    #[must_use]
    pub fn effective(self, rule: FittedRule) -> FittedRule {
        match self {
            Self::Docker => rule,
            Self::Kubernetes => FittedRule {
                base_bytes: Bytes((rule.base_bytes.0 as f64 * self.factor()).ceil() as u64),
                coefficient: super::round_up(rule.coefficient * self.factor()),
                ..rule
            },
        }
    }

    /// The limit of a task that requests this amount: on Kubernetes the platform adds its margin and rounds to one
    /// decimal of a binary unit, up or down.
    pub fn given(self, asked: Bytes) -> Bytes {
        match self {
            Self::Docker => asked,
            Self::Kubernetes => {
                let demand = Demand { base: Some(asked), ..Demand::default() };
                kubernetes(&demand).map_or(asked, |amount| amount.bytes)
            }
        }
    }

    /// The smallest amount to request to get at least this much.
    pub fn asked(self, wanted: Bytes) -> Bytes {
        match self {
            Self::Docker => wanted,
            // The platform's rounding is monotonic.
            Self::Kubernetes => {
                let (mut low, mut high) = (0, wanted.0);
                while low < high {
                    let middle = low + (high - low) / 2;
                    if self.given(Bytes(middle)) >= wanted { high = middle } else { low = middle + 1 }
                }
                Bytes(high)
            }
        }
    }

    /// The rule to write, with a coefficient so large that the platform's rounding makes no more of these runs fail
    /// than the rule itself.
    #[must_use]
    pub fn rounded(self, written: FittedRule, wanted: &FittedRule, table: &RunTable, predictor: usize) -> FittedRule {
        let base_bytes = self.asked(wanted.base_bytes);
        let uncensored = || table.runs.iter().filter(|run| run.censoring == Censoring::None);
        let failures = |limit: &dyn Fn(Bytes) -> Bytes| {
            uncensored().filter(|run| run.sizes.get(predictor).is_some_and(|n| limit(*n) < run.peak)).count()
        };
        let most = failures(&|n| wanted.limit(n));
        let raised = |step: u32| {
            let coefficient = super::round_up(written.coefficient * (1.0 + f64::from(step) * 0.0025));
            FittedRule { base_bytes, coefficient, ..written }
        };
        match self {
            Self::Docker => written,
            // Rounding removes less than a twentieth.
            Self::Kubernetes => (0..=20)
                .map(raised)
                .find(|rule| failures(&|n| self.given(rule.limit(n))) <= most)
                .unwrap_or_else(|| raised(20)),
        }
    }

    /// The rule to write so that tasks get what this rule says: the platform's margin must not be added twice.
    #[must_use]
    pub fn written(self, rule: FittedRule) -> FittedRule {
        match self {
            Self::Docker => rule,
            Self::Kubernetes => FittedRule {
                base_bytes: Bytes((rule.base_bytes.0 as f64 / self.factor()).ceil() as u64),
                coefficient: super::round_up(rule.coefficient / self.factor()),
                ..rule
            },
        }
    }
}

/// The rule with a whole coefficient and exponent 1, as the `scale_factor` dialect can express it.
///
/// It gives no measured size less than `rule` does. Of the two neighbouring whole coefficients, and none at all, the
/// one is chosen that wastes least on the recorded runs, with the smallest base that makes it so. A larger coefficient
/// may lower the base.
pub fn whole_factor(rule: &FittedRule, table: &RunTable, predictor: usize) -> FittedRule {
    let sizes: Vec<Bytes> = table.runs.iter().filter_map(|run| run.sizes.get(predictor).copied()).collect();
    let slope = match rule.exponent {
        0 => 0.0,
        1 => rule.coefficient,
        // A steeper curve has no slope: start from the line from the origin to its right end.
        _ => sizes.iter().max().map_or(0.0, |&n| rule.limit(n).0 as f64 / n.0.max(1) as f64),
    };
    [0.0, slope.floor(), slope.ceil()]
        .into_iter()
        .map(|coefficient| absorbed(rule, coefficient, &sizes))
        .min_by(|a, b| wasted(a, table, predictor).total_cmp(&wasted(b, table, predictor)))
        .unwrap_or(*rule)
}

/// The rule with this coefficient and the smallest base that gives no size less than before.
fn absorbed(rule: &FittedRule, coefficient: f64, sizes: &[Bytes]) -> FittedRule {
    let growing =
        FittedRule { base_bytes: Bytes::ZERO, coefficient, exponent: u32::from(coefficient > 0.0), form: rule.form };
    let missing = sizes.iter().map(|&n| (rule.limit(n), growing.limit(n))).filter(|(wanted, grown)| grown < wanted);
    let base_bytes = missing
        .map(|(wanted, grown)| match rule.form {
            Form::Max => wanted,
            Form::Sum => wanted.saturating_sub(grown),
        })
        .max()
        .unwrap_or(Bytes::ZERO);
    FittedRule { base_bytes, ..growing }
}

fn wasted(rule: &FittedRule, table: &RunTable, predictor: usize) -> f64 {
    let uncensored = table.runs.iter().filter(|run| run.censoring == Censoring::None);
    uncensored
        .filter_map(|run| {
            let limit = rule.limit(*run.sizes.get(predictor)?).0 as f64;
            Some(waste(limit, run.peak.0 as f64, run.wall_seconds.unwrap_or(1.0)))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fit::SizedRun;

    fn table(runs: &[(u64, u64)]) -> RunTable {
        let runs = runs.iter().map(|&(n, peak)| SizedRun {
            sizes: vec![Bytes(n)],
            peak: Bytes(peak),
            censoring: Censoring::None,
            wall_seconds: None,
        });
        RunTable { predictors: vec!["n".into()], runs: runs.collect() }
    }

    #[test]
    fn the_platforms_margin_is_not_added_twice() {
        let rule: FittedRule = "max(1100, 2.2*n)".parse().unwrap();
        let written = Target::Kubernetes.written(rule);
        assert_eq!((written.base_bytes, written.coefficient), (Bytes(1000), 2.0));
        assert_eq!(Target::Docker.written(rule), rule);
    }

    #[test]
    fn what_is_asked_for_is_given_in_spite_of_rounding() {
        for wanted in [11, 1000, 1 << 20, 1_113_000_000, (1 << 30) + 1, 5 << 30, 68_000_000_001].map(Bytes) {
            let asked = Target::Kubernetes.asked(wanted);
            assert!(Target::Kubernetes.given(asked) >= wanted, "{wanted}");
            assert!(Target::Kubernetes.given(Bytes(asked.0 - 1)) < wanted, "{wanted}");
            assert!(asked < wanted);
        }
        assert_eq!(Target::Docker.asked(Bytes(77)), Bytes(77));
    }

    #[test]
    fn rounding_makes_no_run_fail_that_fits() {
        let table = table(&[(900 << 20, 1_220_000_000), (1200 << 20, 1_626_000_000), (3 << 30, 4_160_000_000)]);
        let wanted: FittedRule = "max(100Mi, 1.3*n)".parse().unwrap();
        let written = Target::Kubernetes.rounded(Target::Kubernetes.written(wanted), &wanted, &table, 0);
        for run in &table.runs {
            let fits = wanted.limit(run.sizes[0]) >= run.peak;
            assert!(!fits || Target::Kubernetes.given(written.limit(run.sizes[0])) >= run.peak, "{written}");
        }
    }

    #[test]
    fn a_larger_coefficient_takes_over_from_the_floor() {
        let rule: FittedRule = "max(150, 1.9*n)".parse().unwrap();
        let table = table(&[(10, 140), (70, 133), (100, 185), (200, 380)]);
        let whole = whole_factor(&rule, &table, 0);
        assert_eq!((whole.coefficient, whole.exponent, whole.base_bytes), (2.0, 1, Bytes(150)));
        assert!(table.runs.iter().all(|run| whole.limit(run.sizes[0]) >= rule.limit(run.sizes[0])));
    }

    #[test]
    fn a_small_coefficient_is_a_floor() {
        let rule: FittedRule = "max(100, 0.01*n)".parse().unwrap();
        let whole = whole_factor(&rule, &table(&[(1000, 90), (12_000, 118)]), 0);
        assert_eq!(whole, FittedRule::constant(Bytes(120)));
    }
}
