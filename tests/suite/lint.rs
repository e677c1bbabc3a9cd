//! Every lint: when it fires, when it does not, and its message.

use std::fmt::Write;

use highwater::model::lint::{Counted, Finding, LINTS, Place, Platform, RuleFacts, RuleField, TaskFacts, lint};
use highwater::model::problem::{Problem, Severity};
use highwater::model::quantity::Quantity;
use highwater::model::rule::{Formula, Mode, RuleType, ScaleRule};
use highwater::model::units::Bytes;
use proptest::prelude::*;

use crate::rule::drawn;

fn rule(formula: &str) -> ScaleRule {
    ScaleRule {
        formula: Formula::complexity(formula).unwrap(),
        applies_to: RuleType::Limit,
        mode: Mode::Sum,
        target_dir: None,
        target_glob: None,
        target_regex: None,
    }
}

fn request(formula: &str) -> ScaleRule {
    ScaleRule { applies_to: RuleType::Request, ..rule(formula) }
}

fn counted(mib: u64) -> Counted {
    Counted { n: Bytes::mib(mib), matched: 12, present: Some(40) }
}

const NOTHING: Counted = Counted { n: Bytes::ZERO, matched: 0, present: Some(40) };

/// A task with everything that the facts borrow.
#[derive(Default)]
struct Task {
    rules: Vec<(ScaleRule, Vec<Counted>)>,
    limit: Option<Quantity>,
    request: Option<Quantity>,
    platform: Platform,
}

impl Task {
    fn with(rule: ScaleRule, inputs: &[Counted]) -> Self {
        Self { rules: vec![(rule, inputs.to_vec())], ..Self::default() }
    }

    fn and(mut self, rule: ScaleRule, inputs: &[Counted]) -> Self {
        self.rules.push((rule, inputs.to_vec()));
        self
    }

    fn limit(self, quantity: &str) -> Self {
        Self { limit: Some(quantity.parse().unwrap()), ..self }
    }

    fn request(self, quantity: &str) -> Self {
        Self { request: Some(quantity.parse().unwrap()), ..self }
    }

    fn on(self, platform: Platform) -> Self {
        Self { platform, ..self }
    }

    fn findings(&self) -> Vec<Finding> {
        let channels = ["ct", "mask", "model"];
        let rules: Vec<RuleFacts<'_>> = self
            .rules
            .iter()
            .zip(channels)
            .map(|((rule, inputs), channel)| RuleFacts { channel, rule, inputs })
            .collect();
        let (limit, request) = (self.limit.as_ref(), self.request.as_ref());
        lint(&TaskFacts { rules: &rules, limit, request, platform: self.platform })
    }

    fn codes(&self) -> Vec<&'static str> {
        self.findings().iter().map(|finding| finding.problem.code).collect()
    }

    /// The text of the value at a place.
    fn text(&self, place: Place) -> String {
        match place {
            // Without an amount, there is nothing to mark.
            Place::Limit => self.limit.as_ref().map(Quantity::to_string).unwrap_or_default(),
            Place::Request => self.request.as_ref().unwrap().to_string(),
            Place::Rule(index, field) => {
                let rule = &self.rules[index].0;
                match field {
                    RuleField::Whole => String::new(),
                    RuleField::Formula => rule.formula.to_string(),
                    RuleField::Type => rule.applies_to.to_string(),
                    RuleField::TargetDir => rule.target_dir.clone().unwrap(),
                    RuleField::TargetGlob => rule.target_glob.clone().unwrap(),
                    RuleField::TargetRegex => rule.target_regex.clone().unwrap(),
                }
            }
        }
    }

    fn drawn(&self) -> String {
        let mut shown = String::new();
        for Finding { place, problem } in self.findings() {
            assert_eq!(problem.severity, Severity::Warning);
            assert!(problem.help.is_some());
            writeln!(shown, "{place:?}\n{}\n", drawn(&self.text(place), &problem)).unwrap();
        }
        shown
    }
}

/// A task for each case in which each lint fires.
fn suspicious() -> Vec<Task> {
    let patterns = |glob: &str, regex: &str, dir: &str| {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ScaleRule { target_glob: given(glob), target_regex: given(regex), target_dir: given(dir), ..rule("2*n") }
    };
    vec![
        Task::with(rule("-2*n"), &[]),
        Task::with(rule("0*n**2"), &[]),
        Task::with(ScaleRule { formula: Formula::scale_factor(0), ..rule("n") }, &[]),
        Task::with(rule("n**0"), &[]),
        Task::with(rule("3.5*n**00"), &[]),
        Task::with(rule("*n"), &[]),
        Task::with(rule("+*n**2"), &[]),
        Task::with(rule("2*n"), &[counted(100)]).limit("1Gi"),
        Task::with(rule("n**2"), &[Counted { n: Bytes(1000), matched: 1, present: None }]).limit("1G"),
        Task::with(rule("2*n"), &[counted(100), counted(200)]).limit("1Gi"),
        Task::default().limit("1Gi").request("2Gi"),
        Task::default().request("1Gi").on(Platform::Kubernetes),
        Task::with(rule("2*n"), &[]).limit("1Gi").request("2Gi"),
        Task::with(rule("4*n"), &[counted(600), counted(300)]).limit("1Gi").request("2Gi").on(Platform::Kubernetes),
        Task::with(request("3*n"), &[counted(500)]).limit("1Gi").on(Platform::Kubernetes),
        Task::with(request("3*n"), &[counted(100)]).and(rule("2*n"), &[counted(100)]).on(Platform::Kubernetes),
        Task::with(request("2n"), &[]),
        Task::default().limit("1.4Gi"),
        Task::default().limit("2Gi").request("1.4Gi"),
        Task::with(rule("1.5*n"), &[counted(650)]).limit("512Mi"),
        Task::default().limit("512m"),
        Task::default().limit("512").request("1e3"),
        Task::default().limit(".5Ki"),
        Task::with(patterns("*.dcm", "", ""), &[NOTHING]),
        Task::with(patterns("*.dcm", ".*/ct/.*", "series"), &[NOTHING, NOTHING]),
        Task::with(patterns("", "", "series"), &[Counted { present: None, ..NOTHING }]),
        Task::with(patterns("*.dcm", "", ""), &[Counted { present: Some(1), ..NOTHING }]),
        Task::with(patterns("*.dcm", "", ""), &[Counted { present: Some(0), ..NOTHING }]),
        Task::with(rule("2*n"), &[Counted { present: Some(0), ..NOTHING }]),
        Task::with(patterns("", "^/data/.*\\.dcm$", ""), &[]),
        Task::with(patterns("", ".+^ct.*", ""), &[NOTHING]),
        Task::with(patterns("", ".*\\.dcm$.gz", ""), &[]),
        Task::with(patterns("", "ct\\bmr/.*", ""), &[]),
        Task::with(patterns("", "ct[^\\s\\S]", ""), &[]),
    ]
}

#[test]
fn every_lint_says_what_it_found_and_what_to_do() {
    let drawn: Vec<String> = suspicious().iter().map(Task::drawn).collect();
    insta::assert_snapshot!(drawn.join("---\n"));
}

#[test]
fn every_suspicious_task_is_found_and_every_lint_is_shown() {
    let found: Vec<Vec<&str>> = suspicious().iter().map(Task::codes).collect();
    assert!(found.iter().all(|codes| !codes.is_empty()), "{found:?}");
    for (code, _) in LINTS {
        assert!(found.iter().flatten().any(|found| *found == code), "{code}");
    }
    assert!(found.iter().flatten().all(|found| LINTS.iter().any(|(code, _)| found == code)));
}

#[test]
fn a_sound_task_is_left_alone() {
    let dicom = ScaleRule {
        target_glob: Some("*.dcm".to_owned()),
        target_regex: Some("ct/.*\\.dcm".to_owned()),
        target_dir: Some("series".to_owned()),
        ..rule("2.5*n")
    };
    let sound = [
        Task::default(),
        Task::default().limit("1Gi").request("1Gi"),
        Task::default().request("1Gi"),
        Task::default().limit("0"),
        Task::with(dicom.clone(), &[]).limit("512Mi").request("256Mi"),
        Task::with(dicom, &[counted(512), NOTHING]).limit("1Gi"),
        Task::with(request("n"), &[counted(256)]).limit("512Mi").request("1Mi").on(Platform::Kubernetes),
        Task::default().limit("1.4Gi").on(Platform::Docker),
        // A rule without a value for this input is an error elsewhere.
        Task::with(rule("n**9"), &[counted(100)]).limit("1Gi").request("512Mi"),
        Task::default().limit("8Ei").request("1Gi"),
    ];
    for task in sound {
        assert_eq!(task.drawn(), "");
    }
}

#[test]
fn a_platform_has_its_own_lints() {
    let task = |platform| Task::with(request("n"), &[]).limit("1.4Gi").on(platform).codes();
    assert_eq!(task(Platform::Docker), ["request-rule-in-docker"]);
    assert_eq!(Task::with(request("2n"), &[]).codes(), ["request-rule-in-docker"]);
    // It sets nothing.
    assert_eq!(Task::with(request("n"), &[]).codes(), [""; 0]);
    assert_eq!(task(Platform::Kubernetes), ["resources-incomplete", "rounding-loss"]);
    assert_eq!(task(Platform::Any), ["request-rule-in-docker", "rounding-loss"]);
}

#[test]
fn a_denied_warning_is_an_error() {
    let finding = Task::with(rule("n**0"), &[]).findings().remove(0);
    assert_eq!(finding.clone().denied().problem, Problem { severity: Severity::Error, ..finding.problem });
}

proptest! {
    #[test]
    fn a_loss_is_mended_by_what_is_suggested(mib in 1u64..1 << 20) {
        let task = Task::default().limit(&format!("{mib}Mi"));
        if let Some(finding) = task.findings().first() {
            let help = finding.problem.help.as_deref().unwrap();
            let suggested = help.split('`').nth(1).unwrap();
            prop_assert_eq!(Task::default().limit(suggested).drawn(), "");
            prop_assert!(suggested.parse::<Bytes>().unwrap() > Bytes::mib(mib));
        }
    }
}
