//! Lints: what is legal in a task but probably not intended.
//!
//! A pure function of facts: [`lint`] takes the rules of a task, what is known about their inputs, and the declared
//! amounts, and returns [`Finding`]s: warnings with a stable code, a reason, a remedy and the part of the document they
//! are about. The codes are listed in [`LINTS`]. An unknown name, such as that of a mode, cannot be in a [`ScaleRule`]:
//! it is a parse error, which [`UnknownName`](super::rule::UnknownName) turns into a [`Problem`].

mod formula;
mod pattern;
mod resources;
mod rounding;

use super::problem::{Problem, Severity};
use super::quantity::Quantity;
use super::rule::ScaleRule;
use super::units::Bytes;

pub use super::task::RuleField;

/// Every lint: its code and what it is about.
pub const LINTS: [(&str, &str); 11] = [
    ("rule-never-positive", "a rule that is zero or negative for every input"),
    ("rule-constant", "a rule with n**0, which is independent of the input"),
    ("rule-bare-star", "a rule with a `*` without a coefficient before it"),
    ("floor-always-wins", "a rule below the declared amount for all given inputs"),
    ("request-above-limit", "a request that is larger than the limit"),
    ("resources-incomplete", "a limit without a request of memory or the other way round, on Kubernetes"),
    ("request-rule-in-docker", "a rule of type `request`, which Docker ignores; not `n` in a task without amounts"),
    ("rounding-loss", "an amount that loses more than 1 % when rounded to one decimal for Kubernetes"),
    ("quantity-tiny", "an amount too small for any process, such as `512m`"),
    ("no-file-matches", "a rule that matches no existing file"),
    ("regex-never-matches", "a target_regex that cannot match any whole path"),
];

/// The platform that will run the task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Platform {
    /// Docker only.
    Docker,
    /// Kubernetes only.
    Kubernetes,
    /// Unknown: problems of either count.
    #[default]
    Any,
}

impl Platform {
    fn may_be_docker(self) -> bool {
        match self {
            Self::Docker | Self::Any => true,
            Self::Kubernetes => false,
        }
    }

    fn may_be_kubernetes(self) -> bool {
        match self {
            Self::Kubernetes | Self::Any => true,
            Self::Docker => false,
        }
    }
}

/// The files of a channel that a rule counted for one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The size that the rule uses.
    pub n: Bytes,
    /// The files that matched the rule's patterns.
    pub matched: u64,
    /// All regular files of the channel, if counted.
    pub present: Option<u64>,
}

/// A rule and its facts.
#[derive(Clone, Copy, Debug)]
pub struct RuleFacts<'a> {
    /// The name of the channel, for messages.
    pub channel: &'a str,
    /// The rule.
    pub rule: &'a ScaleRule,
    /// One entry per given input, in the same order for all rules; empty without inputs.
    pub inputs: &'a [Counted],
}

/// The facts about a task.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskFacts<'a> {
    /// The rules of all input channels.
    pub rules: &'a [RuleFacts<'a>],
    /// `resources.limits.memory`
    pub limit: Option<&'a Quantity>,
    /// `resources.requests.memory`
    pub request: Option<&'a Quantity>,
    /// The platform that will run the task.
    pub platform: Platform,
}

/// The part of a document that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A field of a rule, by the rule's index in [`TaskFacts::rules`].
    Rule(usize, RuleField),
    /// `resources.limits.memory`
    Limit,
    /// `resources.requests.memory`
    Request,
}

/// A warning and the part of the document it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The value.
    pub place: Place,
    /// The problem. Its span, if any, is relative to the text of that value.
    pub problem: Problem,
}

impl Finding {
    fn new(place: Place, code: &'static str, message: impl Into<String>) -> Self {
        Self { place, problem: Problem::warning(code, message) }
    }

    fn at(self, span: std::ops::Range<usize>, label: impl Into<String>) -> Self {
        Self { problem: self.problem.at(span).label(label), ..self }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { problem: self.problem.help(help), ..self }
    }

    /// The same finding as an error, for `--deny warnings`.
    #[must_use]
    pub fn denied(self) -> Self {
        Self { problem: Problem { severity: Severity::Error, ..self.problem }, ..self }
    }
}

/// All suspicious parts of a task, in the order of its rules, then its limit and its request.
pub fn lint(task: &TaskFacts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, facts) in task.rules.iter().enumerate() {
        findings.extend(formula::lint(index, facts.rule));
        findings.extend(pattern::lint(index, facts));
        findings.extend(resources::request_rule_in_docker(index, facts, task));
        findings.extend(resources::floor_always_wins(index, facts, task));
    }
    findings.extend(resources::tiny(Place::Limit, task.limit));
    findings.extend(resources::tiny(Place::Request, task.request));
    findings.extend(resources::request_above_limit(task));
    findings.extend(resources::incomplete(task));
    findings.extend(rounding::lint(task));
    findings.sort_by_key(|finding| finding.place);
    findings
}
