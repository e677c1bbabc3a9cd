use super::*;
use crate::model::check::config::{InputConfig, WorkloadSpec};
use crate::model::check::report::Verdict;
use crate::model::observation::{Host, InputSizes, Observation, Outcome, SweepRun};
use crate::model::prediction::Sizes;

mod noise;

/// The record of a command run as a process.
const RUN: &str = r#"{
  "schema_version": 1, "tool_version": "0.1.0", "started_at": "2026-01-01T00:00:00Z",
  "subject": {"command": ["./segment"]}, "runner": "process", "outcome": {"kind": "exited", "status": 0}, "wall_us": 1,
  "peak": {"bytes": 0, "source": "own-cgroup", "exactness": {"kind": "exact", "noise_bytes": 524288}},
  "breakdown": "gone", "swap": {"peak": "gone", "highest_sampled": "gone"},
  "limit": {"own": null, "effective": null}, "censored": false, "events": "gone", "cpu": "gone", "io": "gone",
  "pids_peak": "gone", "pressure": "gone", "leftover_processes": 0, "series": {"taken": 0, "samples": []},
  "host": {"kernel": "6.1.0", "architecture": "x86_64", "cpus": 2, "page_bytes": 4096, "memory_bytes": 1, "swap_bytes": 0,
           "cgroup": "v2"}
}"#;

const MIB: u64 = 1 << 20;

fn run(cell: &str, n: u64, peak: u64) -> Run {
    let mut observation: Observation = serde_json::from_str(RUN).unwrap();
    observation.sweep = Some(SweepRun {
        cell: cell.to_owned(),
        case: cell.to_owned(),
        run: 1,
        parameters: BTreeMap::new(),
        synthetic: false,
    });
    if n > 0 {
        let all = Sizes { files: 1, sum: Bytes(n), ..Sizes::default() };
        observation.inputs = vec![InputSizes { channel: "input".to_owned(), all, by_extension: BTreeMap::new() }];
    }
    if let crate::model::reading::Reading::Value(of) = &mut observation.peak {
        of.bytes = Bytes(peak);
    }
    Run { task: "segment".to_owned(), observation, stderr: None }
}

fn runs(cell: &str, n: u64, peaks: &[u64]) -> Vec<Run> {
    peaks.iter().map(|peak| run(cell, n, *peak)).collect()
}

/// Three runs of each size, without noise.
fn sweep(sizes: &[u64], need: impl Fn(u64) -> u64) -> Vec<Run> {
    sizes.iter().flat_map(|&n| runs(&format!("{:05} MiB", n / MIB), n, &[need(n); 3])).collect()
}

fn judge(config: &Config, baseline: Option<&Baseline>, batches: &[Vec<Run>]) -> Judgement {
    super::judge(config, baseline, &SortedRuns::of_batches(config, batches))
}

fn config() -> Config {
    let thresholds = Thresholds::default();
    let mut task = TaskConfig::of_records("segment".to_owned(), thresholds, crate::model::check::Repeats::default());
    task.workload = WorkloadSpec::Command(vec!["./segment".to_owned()]);
    Config { tasks: vec![task], ..Config::default() }
}

fn baseline(runs: Vec<Run>) -> Baseline {
    judge(&config(), None, &[runs]).report.baseline(None)
}

/// Level, reason and cell of each finding.
fn told(judgement: &Judgement) -> Vec<(Level, Reason, Option<&str>)> {
    judgement.report.findings().map(|(_, it)| (it.level, it.reason, it.cell.as_deref())).collect()
}

fn judged(config: &Config, then: Vec<Run>, now: Vec<Run>) -> Judgement {
    judge(config, Some(&baseline(then)), &[now])
}

#[test]
fn an_unchanged_task_passes_without_a_word() {
    let runs = || runs("small", 0, &[200 * MIB, 200 * MIB + 4096, 200 * MIB]);
    let judgement = judged(&config(), runs(), runs());
    assert_eq!(told(&judgement), []);
    assert_eq!(judgement.report.verdict, Verdict::Passed);
    assert_eq!(judgement.report.sentence(), "passed: 1 cell of 1 task");
}

#[test]
fn growth_is_a_suspicion_and_then_a_failure() {
    let then = runs("small", 0, &[200 * MIB; 3]);
    let now = runs("small", 0, &[212 * MIB; 3]);
    let judgement = judged(&config(), then.clone(), now.clone());
    assert_eq!(told(&judgement), [(Level::Failure, Reason::Growth, Some("small"))]);
    assert_eq!(judgement.suspects, [("segment".to_owned(), "small".to_owned())]);
    let (_, finding) = judgement.report.findings().next().unwrap();
    assert_eq!(finding.message, "the peak has grown from 200 MiB to 212 MiB (+12 MiB, +6.0 %)");
    assert!(finding.remedy.contains("--update-baseline"));
    let baseline = baseline(then);
    let not_confirmed = judge(&config(), Some(&baseline), &[now, runs("small", 0, &[200 * MIB; 3])]);
    assert_eq!(told(&not_confirmed), []);
}

#[test]
fn shrinking_is_told_and_no_failure() {
    let judgement = judged(&config(), runs("small", 0, &[200 * MIB; 3]), runs("small", 0, &[150 * MIB; 3]));
    assert_eq!(told(&judgement), [(Level::Notice, Reason::NeedsLess, Some("small"))]);
    assert_eq!(judgement.report.verdict, Verdict::Passed);
}

#[test]
fn a_run_that_fails_is_a_failure_of_the_task() {
    let mut now = runs("small", 0, &[200 * MIB; 3]);
    now[1].observation.outcome = Outcome::OomKilled;
    let judgement = judged(&config(), runs("small", 0, &[200 * MIB; 3]), now);
    let expected = [
        (Level::TaskFailure, Reason::RunFailed, Some("small")),
        (Level::TooLittleData, Reason::TooFewSamples, Some("small")),
    ];
    assert_eq!(told(&judgement), expected);
    assert_eq!(judgement.report.verdict, Verdict::TaskFailed);
}

#[test]
fn cells_that_come_and_go_are_told() {
    let then = runs("small", 0, &[200 * MIB; 3]);
    let judgement = judged(&config(), then, runs("large", 0, &[200 * MIB; 3]));
    let expected =
        [(Level::Failure, Reason::VanishedCell, Some("small")), (Level::Warning, Reason::NewCell, Some("large"))];
    assert_eq!(told(&judgement), expected);
}

#[test]
fn a_budget_and_a_rule_are_held() {
    let mut config = config();
    config.tasks[0].budget = Some(Bytes::mib(100));
    let then = runs("small", 10 * MIB, &[101 * MIB; 3]);
    assert_eq!(
        told(&judged(&config, then.clone(), then.clone())),
        [(Level::Failure, Reason::AboveBudget, Some("small"))]
    );
    config.tasks[0].budget = None;
    config.tasks[0].rule = Some("max(64MiB, 10*n)".parse().unwrap());
    let judgement = judged(&config, then.clone(), then);
    assert_eq!(told(&judgement), [(Level::Failure, Reason::RuleUncovered, Some("small"))]);
    let (_, finding) = judgement.report.findings().next().unwrap();
    let expected = "the peak of 101 MiB exceeds the limit of 100 MiB from the rule max(64 MiB, 10*n) by 1 MiB";
    assert_eq!(finding.message, expected);
}

#[test]
fn too_few_runs_are_too_little_data() {
    let judgement = judged(&config(), runs("small", 0, &[200 * MIB; 3]), runs("small", 0, &[300 * MIB; 2]));
    assert_eq!(told(&judgement), [(Level::TooLittleData, Reason::TooFewSamples, Some("small"))]);
    assert_eq!(judgement.report.verdict, Verdict::TooLittleData);
    let without = judge(&config(), None, &[runs("small", 0, &[200 * MIB; 3])]);
    assert_eq!(told(&without), [(Level::TooLittleData, Reason::NoBaseline, None)]);
}

#[test]
fn an_input_that_changed_is_held_against_the_rule_of_the_baseline() {
    let sizes: Vec<u64> = [64, 128, 256, 512].map(|mib| mib * MIB).to_vec();
    let then = sweep(&sizes, |n| n.max(100 * MIB));
    let mut now = sweep(&sizes[..3], |n| n.max(100 * MIB));
    now.extend(runs("00512 MiB", 500 * MIB, &[500 * MIB; 3]));
    assert_eq!(
        told(&judged(&config(), then.clone(), now.clone())),
        [(Level::Warning, Reason::InputChanged, Some("00512 MiB"))]
    );
    now.truncate(9);
    now.extend(runs("00512 MiB", 500 * MIB, &[900 * MIB; 3]));
    let judgement = judged(&config(), then, now);
    assert!(told(&judgement).contains(&(Level::Failure, Reason::RuleUncovered, Some("00512 MiB"))), "{judgement:?}");
}

#[test]
fn another_host_is_a_warning() {
    let then = runs("small", 0, &[200 * MIB; 3]);
    let mut now = then.clone();
    for run in &mut now {
        run.observation.host = run.observation.host.clone().map(|host| Host { kernel: "6.12.0".to_owned(), ..host });
    }
    let judgement = judged(&config(), then, now);
    assert_eq!(told(&judgement), [(Level::Warning, Reason::OtherHost, None)]);
    let (_, finding) = judgement.report.findings().next().unwrap();
    assert_eq!(finding.message, "the baseline was made on a different host: kernel was 6.1.0, is 6.12.0");
}

#[test]
fn a_limit_far_above_every_peak_is_told() {
    let mut config = config();
    config.tasks[0].budget = Some(Bytes::mib(1000));
    let runs = || [runs("small", 0, &[100 * MIB; 3]), runs("large", 0, &[400 * MIB; 3])].concat();
    let judgement = judged(&config, runs(), runs());
    assert_eq!(told(&judgement), [(Level::Notice, Reason::LimitWasteful, None)]);
}

const SIZES: [u64; 6] = [16 * MIB, 32 * MIB, 64 * MIB, 128 * MIB, 256 * MIB, 512 * MIB];

#[test]
fn a_change_from_n_to_n_squared_is_caught_although_every_small_input_is_unchanged() {
    let then = sweep(&SIZES, |n| n.max(128 * MIB));
    // Crosses the old rule at the largest input: no cell has grown, two have even shrunk.
    let now = sweep(&SIZES, |n| ((n as f64).powi(2) / (512 * MIB) as f64).max((128 * MIB) as f64) as u64);
    let judgement = judged(&config(), then, now);
    let found = told(&judgement);
    assert!(found.contains(&(Level::Failure, Reason::RuleChanged, None)), "{found:?}");
    assert!(!found.iter().any(|(_, reason, _)| *reason == Reason::Growth), "{found:?}");
    let (_, finding) = judgement.report.findings().next().unwrap();
    assert!(finding.message.contains("grows with n² instead of n"), "{}", finding.message);
    assert!(finding.message.contains("an input of 2 GiB (4.0 times the largest measured)"), "{}", finding.message);
}

#[test]
fn a_steeper_rule_and_a_higher_floor_are_told_as_such() {
    let then = || sweep(&SIZES, |n| n.max(128 * MIB));
    let steeper = judged(&config(), then(), sweep(&SIZES, |n| (n * 11 / 10).max(128 * MIB)));
    assert!(
        steeper.report.findings().any(|(_, it)| it.message.contains("its coefficient differs")),
        "{:?}",
        steeper.report
    );
    let higher = judged(&config(), then(), sweep(&SIZES, |n| n.max(150 * MIB)));
    assert!(higher.report.findings().any(|(_, it)| it.message.contains("its base differs")), "{:?}", higher.report);
}

#[test]
fn a_rule_that_cannot_be_fitted_any_more_is_told() {
    let judgement = judged(&config(), sweep(&SIZES, |n| n.max(128 * MIB)), sweep(&SIZES[..2], |_| 128 * MIB));
    assert!(told(&judgement).contains(&(Level::Warning, Reason::NoRule, None)));
}

#[test]
fn the_same_runs_make_the_same_baseline_in_any_order() {
    let forwards = sweep(&SIZES, |n| n.max(128 * MIB));
    let backwards: Vec<Run> = forwards.iter().rev().cloned().collect();
    let text = baseline(forwards).text().unwrap();
    assert_eq!(baseline(backwards).text().unwrap(), text);
    assert_eq!(Baseline::parse("b.json", &text).unwrap().text().unwrap(), text);
}

#[test]
fn records_find_their_task_and_cell() {
    let mut config = config();
    config.tasks[0].workload = WorkloadSpec::Command(["./segment", "--in", "{input}/x"].map(str::to_owned).to_vec());
    let input = InputConfig { name: "small".to_owned(), path: Some("data".into()), ..InputConfig::default() };
    config.tasks[0].inputs = vec![input];
    let observed = |words: &[&str]| {
        let mut run = run("case", 0, 1);
        run.observation.sweep = None;
        run.observation.subject.command = words.iter().map(|&word| word.to_owned()).collect();
        run.observation
    };
    let mut sorted = SortedRuns::default();
    for words in [&["./segment", "--in", "data/x"][..], &["ls"], &["./segment", "--in", "y"]] {
        sorted.add_record(&config, &BTreeMap::new(), &observed(words));
    }
    let cells: Vec<_> = sorted.tasks["segment"].cells.keys().map(String::as_str).collect();
    assert_eq!((sorted.tasks["segment"].count, cells), (1, vec!["small"]));
    assert_eq!(*sorted.others(), BTreeMap::from([("ls".to_owned(), 1), ("segment".to_owned(), 1)]));
}

#[test]
fn cells_of_a_sweep_are_named_by_case_and_parameters() {
    let named = |case: &str, parameters: &[(&str, &str)]| {
        let mut run = run(case, 0, 1);
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        run.observation.sweep = run.observation.sweep.map(|sweep| SweepRun { parameters, ..sweep });
        cell_name(&config().tasks[0], &run.observation)
    };
    assert_eq!(named("small", &[("level", "2"), ("a", "x")]), "small, a=x, level=2");
    assert_eq!(named("", &[("level", "2")]), "level=2");
    assert_eq!(named("", &[]), "default");
}

/// The reach of the rule of the task, in words.
fn reach_of(config: &Config, runs: Vec<Run>) -> Option<String> {
    judge(config, None, &[runs]).report.tasks.remove(0).enough_for.map(|reach| reach.sentence())
}

#[test]
fn the_reach_of_a_rule_is_where_the_described_need_crosses_it() {
    let mut config = config();
    let squared = |n: u64| (n / 512 * (n / MIB)).max(128 * MIB);
    assert_eq!(reach_of(&config, sweep(&SIZES, squared)), None, "no rule is declared");
    let mut reach = |rule: &str, sizes: &[u64]| {
        config.tasks[0].rule = Some(rule.parse().unwrap());
        reach_of(&config, sweep(sizes, squared))
    };
    let rule = "the rule max(128 MiB, 2*n), where n is input.sum, is enough for inputs up to";
    assert_eq!(reach("max(128Mi, 2*n)", &SIZES), Some(format!("{rule} 1017.3 MiB; the largest measured is 512 MiB")));
    let rule = "the rule max(128 MiB, 0.9*n), where n is input.sum, is enough for inputs up to 256 MiB";
    assert_eq!(reach("max(128Mi, 0.9*n)", &SIZES).as_deref(), Some(rule));
    let all = reach("max(128Mi, 100*n)", &SIZES).unwrap();
    assert!(all.ends_with("up to 2 GiB, 4 times the largest measured, or more"), "{all}");
    assert_eq!(reach("100Mi", &SIZES), None, "it is enough for no input");
    assert_eq!(reach("max(128Mi, 2*n)", &SIZES[..2]), None, "two sizes show no growth");
}

#[test]
fn the_rule_of_a_task_json_has_a_reach_too() {
    let mut runs = sweep(&SIZES, |n| (n / 512 * (n / MIB)).max(128 * MIB));
    for run in &mut runs {
        let n = run.observation.inputs[0].all.sum;
        let limit = Bytes((2 * n.0).max(128 * MIB));
        let decider = if limit.0 == 2 * n.0 { r#""rule", "channel": "input""# } else { r#""resources""# };
        let prediction = format!(
            r#"{{"schema_version": 1, "task": {{"name": "segment", "image": null, "template": null, "digest": "{}"}},
                "channels": [{{"name": "input", "kind": "input", "host_path": null, "size": {{"state": "not-surveyed"}},
                    "rule": {{"scale_rule": {{"complexity": "2*n", "type": "limit", "mode": "sum"}}, "selected": null,
                        "n": {}, "value": {}, "problem": null}}}}],
                "docker": {{"limit": {{"bytes": {}, "decided_by": {{"from": {decider}}}}}}},
                "kubernetes": {{"limit": null, "request": null}}, "complete": true}}"#,
            "0".repeat(64),
            n.0,
            2 * n.0,
            limit.0
        );
        run.observation.prediction = Some(serde_json::from_str(&prediction).unwrap());
    }
    let expected = "the rule max(128 MiB, 2*n), where n is input.rule, is enough for inputs up to 1017.3 MiB; the largest \
                    measured is 512 MiB";
    assert_eq!(reach_of(&config(), runs).as_deref(), Some(expected));
}
