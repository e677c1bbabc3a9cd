//! What to request of each resource.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HeldOut;
use crate::model::fit::Resource;
use crate::model::units::Bytes;

/// What a task needs of a resource, by the rule fitted to its runs. Amounts are in the unit of the resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceNeed {
    /// The resource.
    pub resource: Resource,
    /// The unit of its amounts: `bytes`, `seconds` or `cores`.
    pub unit: String,
    /// The rule and its amounts; absent if none was fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted: Option<FittedNeed>,
    /// Why no rule was fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_fitted: Option<String>,
}

/// A rule for a resource, its amounts for the largest input measured, and the evidence for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FittedNeed {
    /// The largest input measured, or the largest value of the parameter.
    pub n: Bytes,
    /// The request for it: the need of the median run.
    pub request: f64,
    /// The limit for it.
    pub limit: f64,
    /// The rule for the request as text.
    pub request_rule: String,
    /// The rule for the limit as text, such as `max(1.25 s, 0.0312 s·n)`.
    pub limit_rule: String,
    /// What n is in these rules, and its unit; `null` if they are constants.
    pub predictor: Option<String>,
    /// Whether the amounts are lower bounds, because what was measured is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_bound: bool,
    /// The limit is enough for inputs up to this size; `null` if that is not known.
    pub enough_for: Option<Bytes>,
    /// The smallest input measured.
    pub smallest: Bytes,
    /// The number of distinct inputs that the rule was fitted to.
    pub inputs: usize,
    /// The number of runs, including those that timed out.
    pub runs: usize,
    /// The number of runs that timed out: they only push the rule up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timed_out: usize,
    /// Its score on held-out inputs, to which it was not fitted.
    pub held_out: HeldOut,
    /// The share of further inputs that fits at least, with 95 % confidence.
    pub surely_fit: f64,
    /// Warnings about the rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}
