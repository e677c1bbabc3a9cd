//! Every possible reason, with its exit status, message and remedy.

use highwater::model::observation::{Exactness, Observation, Outcome};
use highwater::model::reading::Reading;

use super::project::{Checked, MIB, Project, SEGMENT, elsewhere, run, sweep, three};

const SIZES: [u64; 6] = [16, 32, 64, 128, 256, 512];

fn usual(n: u64) -> u64 {
    n.max(128)
}

fn small() -> Vec<Observation> {
    three("small", 0, 200)
}

/// Checks runs against a baseline of others.
fn check(toml: &str, then: &[Observation], now: &[Observation]) -> Checked {
    Project::with_baseline(toml, then).check_runs(now, &[])
}

fn with(key: &str) -> String {
    format!("{SEGMENT}{key}\n")
}

/// The same runs, changed.
fn each(mut runs: Vec<Observation>, change: impl Fn(&mut Observation)) -> Vec<Observation> {
    runs.iter_mut().for_each(change);
    runs
}

fn failing(outcome: Outcome) -> Vec<Observation> {
    let mut runs = small();
    runs[0].outcome = outcome;
    runs.push(run("small", 0, 200 * MIB));
    runs
}

/// The prediction of a task.json of 150 MiB, decided by resources or by a rule.
fn limited(runs: Vec<Observation>, decided_by: &str) -> Vec<Observation> {
    let prediction = format!(
        r#"{{"schema_version": 1, "task": {{"name": "segment", "image": null, "template": null, "digest": "{}"}},
            "channels": [], "docker": {{"limit": {{"bytes": 157286400, "decided_by": {decided_by}}}}},
            "kubernetes": {{"limit": null, "request": null}}, "complete": true}}"#,
        "0".repeat(64)
    );
    let prediction: highwater::model::prediction::Prediction = serde_json::from_str(&prediction).unwrap();
    each(runs, |run| run.prediction = Some(prediction.clone()))
}

#[test]
fn each_reason_has_its_status_message_and_remedy() {
    let squared = |n: u64| (n * n / 512).max(128);
    let lower_bound = |run: &mut Observation| {
        let Reading::Value(peak) = &mut run.peak else { panic!("{run:?}") };
        peak.exactness = Exactness::LowerBound { reason: "sampled".to_owned(), remedy: "be root".to_owned() };
    };
    let cases = [
        ("passed", check(SEGMENT, &small(), &small())),
        ("passed: with the reach of the rule", {
            let runs = sweep(&SIZES, usual);
            check(&with("rule = \"max(140MiB, 1.5*n)\""), &runs, &runs)
        }),
        ("run-failed", check(SEGMENT, &small(), &failing(Outcome::Exited { status: 3 }))),
        ("run-failed: for lack of memory", check(SEGMENT, &small(), &failing(Outcome::OomKilled))),
        ("run-failed: too slow", check(SEGMENT, &small(), &failing(Outcome::TimedOut { after_us: 90_000_000 }))),
        ("above-budget", check(&with("budget = \"190MiB\""), &small(), &small())),
        ("above-limit", {
            let runs = limited(small(), r#"{"from": "resources"}"#);
            check(SEGMENT, &runs, &runs)
        }),
        ("rule-uncovered: of the task", {
            let runs = limited(small(), r#"{"from": "rule", "channel": "scans"}"#);
            check(SEGMENT, &runs, &runs)
        }),
        ("rule-uncovered: of highwater.toml", {
            let runs = three("small", 100, 200);
            check(&with("rule = \"max(64MiB, 1.5*n)\""), &runs, &runs)
        }),
        ("rule-uncovered: of the baseline", {
            let now = [sweep(&SIZES, usual), three("huge", 1024, 1500)].concat();
            check(SEGMENT, &sweep(&SIZES, usual), &now)
        }),
        ("growth", check(SEGMENT, &small(), &three("small", 0, 211))),
        ("rule-changed: exponent", check(SEGMENT, &sweep(&SIZES, usual), &sweep(&SIZES, squared))),
        (
            "rule-changed: coefficient",
            check(SEGMENT, &sweep(&SIZES, usual), &sweep(&SIZES, |n| (n * 11 / 10).max(128))),
        ),
        ("rule-changed: floor", check(SEGMENT, &sweep(&SIZES, usual), &sweep(&SIZES, |n| n.max(150)))),
        ("vanished-cell", check(SEGMENT, &[small(), three("large", 0, 900)].concat(), &small())),
        ("too-few-samples", check(SEGMENT, &small(), &small()[..2])),
        ("no-baseline", Project::new(SEGMENT).check_runs(&small(), &[])),
        ("no-baseline: but a budget", Project::new(&with("budget = \"300MiB\"")).check_runs(&small(), &[])),
        ("no-baseline: a warning", {
            let toml = with("budget = \"300MiB\"\nthresholds.no-baseline = \"warn\"");
            Project::new(&toml).check_runs(&small(), &[])
        }),
        ("no-baseline: only budgets", {
            let toml = with("budget = \"300MiB\"\nthresholds.no-baseline = \"ignore\"");
            Project::new(&toml).check_runs(&small(), &[])
        }),
        ("no-baseline: no budget either", {
            Project::new(&with("thresholds.no-baseline = \"ignore\"")).check_runs(&small(), &[])
        }),
        ("censored", {
            let mut now = [small(), small()].concat();
            now[0].censored = true;
            check(SEGMENT, &small(), &now)
        }),
        ("lower-bound", check(SEGMENT, &small(), &each(small(), lower_bound))),
        ("lower-bound: without anything to hold it to", {
            Project::new(SEGMENT).check_runs(&each(small(), lower_bound), &[])
        }),
        ("growth-not-verified: by the rule of the baseline", {
            let now = [sweep(&SIZES, usual), each(three("huge", 1024, 500), lower_bound)].concat();
            check(SEGMENT, &sweep(&SIZES, usual), &now)
        }),
        ("rule-uncovered: by a lower bound", {
            let now = [sweep(&SIZES, usual), each(three("huge", 1024, 1500), lower_bound)].concat();
            check(SEGMENT, &sweep(&SIZES, usual), &now)
        }),
        ("new-cell", check(SEGMENT, &small(), &[small(), three("large", 0, 900)].concat())),
        ("new-cell: refused", {
            let toml = with("thresholds.new = \"fail\"");
            check(&toml, &small(), &[small(), three("large", 0, 900)].concat())
        }),
        ("input-changed", check(SEGMENT, &three("small", 10, 200), &three("small", 11, 200))),
        ("other-host", check(SEGMENT, &small(), &elsewhere(small()))),
        ("other-host: refused", {
            Project::with_baseline(SEGMENT, &small()).check_runs(&elsewhere(small()), &["--strict-host"])
        }),
        ("other-host: denied", {
            Project::with_baseline(SEGMENT, &small()).check_runs(&elsewhere(small()), &["--deny", "warnings"])
        }),
        ("no-rule", check(SEGMENT, &sweep(&SIZES, usual), &sweep(&SIZES[..2], usual))),
        ("needs-less", check(SEGMENT, &small(), &three("small", 0, 120))),
        ("limit-wasteful", check(&with("budget = \"2GiB\""), &small(), &small())),
    ];
    let told: String = cases.iter().map(|(name, checked)| format!("# {name}\n{}\n", checked.all())).collect();
    insta::assert_snapshot!(told);
}

#[test]
fn a_task_that_is_not_checked_any_more_has_vanished() {
    let two = format!("{SEGMENT}[tasks.convert]\ncommand = [\"./convert\"]\n");
    let mut of_convert = small();
    of_convert.iter_mut().for_each(|run| run.subject.name = Some("convert".to_owned()));
    let project = Project::with_baseline(&two, &[small(), of_convert].concat());
    assert_eq!(project.check(&["--records", "then.jsonl"]).status(), 0);
    project.write("highwater.toml", SEGMENT);
    let checked = project.check_runs(&small(), &[]);
    assert_eq!(checked.status(), 1);
    assert!(checked.stdout().contains("[vanished-cell]"), "{checked:?}");
    // The next baseline is without it.
    assert_eq!(project.check(&["--records", "now.jsonl", "--update-baseline"]).status(), 0);
    assert!(!project.read("highwater-baseline.json").contains("convert"));
    assert_eq!(project.check_runs(&small(), &[]).status(), 0);
}

#[test]
fn a_baseline_is_the_same_bytes_for_the_same_runs() {
    let runs = sweep(&SIZES, usual);
    let project = Project::with_baseline(SEGMENT, &runs);
    let first = project.read("highwater-baseline.json");
    let backwards: Vec<Observation> = runs.into_iter().rev().collect();
    let checked = project.check_runs(&backwards, &["--update-baseline"]);
    assert!(checked.stderr().contains("is unchanged"), "{checked:?}");
    assert_eq!(project.read("highwater-baseline.json"), first);
    insta::assert_snapshot!(first.lines().take(40).collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_baseline_is_not_made_of_runs_that_fail_or_are_too_few() {
    for (runs, status) in [(failing(Outcome::OomKilled), 4), (small()[..1].to_vec(), 5)] {
        let project = Project::new(SEGMENT);
        let checked = project.check_runs(&runs, &["--update-baseline"]);
        assert_eq!(checked.status(), status, "{checked:?}");
        assert!(checked.stderr().contains("the baseline was not written"));
        assert_eq!(project.files(), ["highwater.toml", "now.jsonl"]);
    }
}

#[test]
fn records_are_judged_without_a_highwater_toml() {
    let project = Project::with_baseline(SEGMENT, &small());
    std::fs::remove_file(project.path("highwater.toml")).unwrap();
    assert_eq!(project.check_runs(&small(), &[]).status(), 0);
    assert_eq!(project.check_runs(&three("small", 0, 300), &[]).status(), 1);
    assert_eq!(project.check_runs(&three("small", 0, 300), &["--relative", "60%"]).status(), 0);
}

#[test]
fn scripts_get_json() {
    let project = Project::with_baseline(SEGMENT, &small());
    let checked = project.check_runs(&three("small", 0, 211), &["--format", "json"]);
    let report: highwater::model::check::Report = serde_json::from_str(&checked.stdout()).unwrap();
    assert_eq!(report.findings().count(), 1);
    insta::assert_snapshot!(checked.stdout());
}
