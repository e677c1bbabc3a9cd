//! What a lower bound proves: exact peaks, lower bounds, and lower bounds with an upper bound, compared with budgets
//! and baselines of each kind.

use std::fmt::Write;

use highwater::model::check::Report;
use highwater::model::observation::{Exactness, Observation, UpperBound};
use highwater::model::reading::Reading;
use highwater::model::units::Bytes;

use super::project::{MIB, Project, SEGMENT, sweep, three};

/// A peak in MiB.
#[derive(Clone, Copy)]
enum Need {
    Exact(u64),
    AtLeast(u64),
    Between(u64, u64),
}
use Need::{AtLeast, Between, Exact};

impl Need {
    fn words(self) -> String {
        match self {
            Exact(mib) => format!("exact {mib}"),
            AtLeast(mib) => format!("at least {mib}"),
            Between(least, most) => format!("{least} to {most}"),
        }
    }

    fn runs(self) -> Vec<Observation> {
        let (least, most) = match self {
            Exact(mib) => return three("small", 0, mib),
            AtLeast(mib) => (mib, None),
            Between(least, most) => (least, Some(most)),
        };
        bounds(three("small", 0, least), most)
    }
}

/// The same runs, sampled, with an upper bound in MiB.
fn bounds(mut runs: Vec<Observation>, most: Option<u64>) -> Vec<Observation> {
    for run in &mut runs {
        let Reading::Value(peak) = &mut run.peak else { panic!("{run:?}") };
        peak.exactness = Exactness::LowerBound { reason: "sampled".to_owned(), remedy: "be root".to_owned() };
        peak.upper_bound = most.map(|mib| UpperBound::new(Bytes(mib * MIB), "/sys/fs/cgroup/memory.peak"));
    }
    runs
}

/// One line: the comparison, the exit status, and the output.
fn row(table: &mut String, project: &Project, name: &str, runs: &[Observation]) {
    let status = project.check_runs(runs, &[]).status();
    let checked = project.check_runs(runs, &["--format", "json"]);
    let report: Report = serde_json::from_str(&checked.stdout()).unwrap_or_else(|error| panic!("{error}: {checked:?}"));
    assert_eq!(checked.status(), status);
    let told: Vec<String> = report
        .findings()
        .map(|(_, it)| format!("{}: {} [{}]", it.level.word(), it.message, it.reason.name()))
        .collect();
    let told =
        if told.is_empty() { "ok".to_owned() } else { told.join("\n                                          ") };
    let _ = writeln!(table, "{name:<37} {status}  {told}");
}

#[test]
fn a_lower_bound_within_a_budget_proves_nothing_and_an_upper_bound_does() {
    let mut table = String::new();
    for reaction in ["fail", "warn", "ignore"] {
        let thresholds = format!("[thresholds]\nno-baseline = \"ignore\"\nnot-verified = \"{reaction}\"\n");
        let project = Project::new(&format!("{thresholds}{SEGMENT}budget = \"100MiB\"\n"));
        let needs = [
            Exact(90),
            Exact(110),
            Exact(30),
            AtLeast(90),
            AtLeast(110),
            AtLeast(30),
            Between(90, 95),
            Between(90, 120),
            Between(110, 120),
            Between(30, 40),
        ];
        for now in needs {
            row(&mut table, &project, &format!("budget 100, {reaction:<6} now {}", now.words()), &now.runs());
        }
        let mut one_sampled = Exact(90).runs();
        one_sampled[1] = AtLeast(90).runs().remove(1);
        row(&mut table, &project, &format!("budget 100, {reaction:<6} one at least 90"), &one_sampled);
        one_sampled[1].peak = Reading::Gone;
        row(&mut table, &project, &format!("budget 100, {reaction:<6} one unknown"), &one_sampled);
    }
    insta::assert_snapshot!(table);
}

#[test]
fn growth_is_called_only_where_the_bounds_leave_no_doubt() {
    let mut table = String::new();
    for then in [Exact(100), AtLeast(100), Between(100, 120)] {
        let project = Project::with_baseline(SEGMENT, &then.runs());
        let needs = [
            Exact(80),
            Exact(100),
            Exact(115),
            Exact(130),
            AtLeast(80),
            AtLeast(100),
            AtLeast(130),
            Between(80, 90),
            Between(80, 130),
            Between(100, 103),
            Between(125, 140),
        ];
        for now in needs {
            row(&mut table, &project, &format!("{:<14} now {}", then.words(), now.words()), &now.runs());
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_lower_bound_under_a_budget_ends_with_5_in_every_format() {
    let toml = format!("[thresholds]\nno-baseline = \"ignore\"\n{SEGMENT}budget = \"30MiB\"\n");
    let project = Project::new(&toml);
    let options = [
        "--junit",
        "junit.xml",
        "--markdown",
        "check.md",
        "--gitlab",
        "metrics.txt",
        "--bmf",
        "bmf.json",
        "--customsmallerisbetter",
        "smaller.json",
        "--github",
    ];
    let checked = project.check_runs(&AtLeast(12).runs(), &options);
    assert_eq!(checked.status(), 5, "{checked:?}");
    let files = ["junit.xml", "check.md", "metrics.txt", "bmf.json", "smaller.json"];
    let files: String = files.iter().map(|name| format!("# {name}\n{}\n", project.read(name))).collect();
    insta::assert_snapshot!(format!("{}\n{files}", checked.all()));
}

#[test]
fn a_baseline_says_which_of_its_peaks_are_lower_bounds() {
    let runs =
        [three("exact", 0, 50), bounds(three("sampled", 0, 60), None), bounds(three("bounded", 0, 70), Some(90))];
    let project = Project::with_baseline(SEGMENT, &runs.concat());
    let baseline = project.read("highwater-baseline.json");
    let backwards: Vec<Observation> = runs.concat().into_iter().rev().collect();
    let checked = project.check_runs(&backwards, &["--update-baseline"]);
    assert!(checked.stderr().contains("is unchanged"), "{checked:?}");
    assert_eq!((checked.status(), project.read("highwater-baseline.json")), (0, baseline.clone()));
    let cells = baseline.lines().skip_while(|line| !line.contains("cells")).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(format!("{}\n{cells}", checked.stdout()));
}

#[test]
fn a_rule_is_fitted_to_exact_peaks_and_compared_with_exact_peaks() {
    let sizes = [16, 32, 64, 128, 256, 512];
    let usual = |n: u64| n.max(128);
    let project = Project::with_baseline(SEGMENT, &sweep(&sizes, usual));
    // Half of the need was seen: a rule fitted to that would be half of the rule.
    let checked = project.check_runs(&bounds(sweep(&sizes, |n| usual(n) / 2), None), &[]);
    assert_eq!(checked.status(), 5, "{checked:?}");
    assert!(!checked.stdout().contains("fitted rule max"), "{checked:?}");
    assert!(checked.stdout().contains("the rule may have changed from max(128 MiB, 1*n)"), "{checked:?}");
    assert!(!checked.stdout().contains("needs-less"), "{checked:?}");
    let sampled = Project::with_baseline(SEGMENT, &bounds(sweep(&sizes, usual), None));
    assert!(sampled.read("highwater-baseline.json").contains("\"rule\": null"));
}
