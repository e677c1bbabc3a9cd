use std::collections::BTreeMap;

use super::*;
use crate::model::check::report::{Allowed, Finding, Level, Reason, Report, RuleReach, Sample, Samples, TaskReport};
use crate::model::units::Bytes;

fn report() -> Report {
    let samples = |mib: u64| Samples::new([mib, mib + 1, mib].map(|mib| Sample::exact(Bytes::mib(mib))).to_vec());
    let cell = |name: &str, now, baseline| CellReport {
        name: name.to_owned(),
        sizes: BTreeMap::new(),
        now,
        baseline,
        resources: BTreeMap::new(),
        allowed: Some(Allowed { bytes: Bytes::mib(512), by: AllowedBy::Budget }),
        failed_runs: 0,
        level: Some(Level::Failure),
        line: (name == "gone").then_some(12),
    };
    let finding = |level, reason, cell: Option<&str>| Finding {
        level,
        reason,
        resource: Resource::Memory,
        cell: cell.map(str::to_owned),
        message: "it is 5 % more, and \"<odd>\"".to_owned(),
        remedy: "look at it".to_owned(),
        stderr: (reason == Reason::RunFailed)
            .then(|| "line 1 \u{1b}[31m\n::error::x\n```\n]]></error> ##[group]".to_owned()),
    };
    Report::new(vec![TaskReport {
        name: "seg|ment".to_owned(),
        cells: vec![cell("big & \"bad\"\n\u{1}", samples(210), samples(200)), cell("gone", None, samples(20))],
        host: None,
        rule: None,
        baseline_rule: None,
        enough_for: Some(RuleReach {
            rule: "3*n".to_owned(),
            predictor: "a|b.sum".to_owned(),
            limit: Bytes::mib(20),
            largest: Bytes::mib(10),
            all_judged: false,
        }),
        findings: vec![
            finding(Level::TaskFailure, Reason::RunFailed, Some("gone")),
            finding(Level::Failure, Reason::Growth, Some("big & \"bad\"\n\u{1}")),
            finding(Level::TooLittleData, Reason::NoBaseline, None),
            finding(Level::Notice, Reason::LimitWasteful, None),
        ],
        line: Some(7),
    }])
}

#[test]
fn markdown_keeps_its_table_whatever_names_hold() {
    insta::assert_snapshot!(markdown(&report()));
}

#[test]
fn junit_is_well_formed_whatever_names_hold() {
    insta::assert_snapshot!(junit(&report(), "highwater.toml"));
}

#[test]
fn annotations_are_one_line_each() {
    insta::assert_snapshot!(annotations(&report(), "ci/high,water.toml"));
}

#[test]
fn openmetrics_escapes_labels() {
    insta::assert_snapshot!(openmetrics(&report()));
}

#[test]
fn changes_have_a_sign_only_where_there_is_one() {
    assert_eq!([0.05, -0.031, 0.0004, -0.0001].map(percent), ["+5.0 %", "−3.1 %", "0.0 %", "0.0 %"]);
}
