//! PLATO's registry of task types: read, checked, and written by `fit --all`.

use std::fmt::Write;
use std::fs;

use serde_json::{Value, json};

use super::fit_records::{Records, growing, run};

const REGISTRY: &str = include_str!("../../fixtures/registry/task_type_registry.xml");

/// A registry, and the records of some of its tasks with these peaks in MiB, three runs each.
fn bench(tasks: &[(&str, u64)]) -> Records {
    let records = Records::new([]);
    fs::write(records.path("registry.xml"), REGISTRY).unwrap();
    let mut trace = "process\tname\tstatus\texit\tattempt\trealtime\tpeak_rss\n".to_owned();
    for (task, peak) in tasks {
        for run in 0..3 {
            writeln!(trace, "{task}\t{task} ({run})\tCOMPLETED\t0\t1\t1m\t{} MB", peak - run).unwrap();
        }
    }
    fs::write(records.path("trace.txt"), trace).unwrap();
    let (status, _, stderr) = records.highwater(&["import", "trace.txt", "-o", "trace.jsonl"]);
    assert_eq!(status, 0, "{stderr}");
    records
}

#[test]
fn containers_get_the_largest_need_of_their_tasks() {
    let all = [("null", 100), ("verify", 200)];
    let bench = bench(&[&[("binning", 700), ("fold", 900), ("search", 2000), ("noise", 300)][..], &all].concat());
    let (status, stdout, stderr) = bench.highwater(&["fit", "--all", "trace.jsonl", "--write", "registry.xml"]);
    assert_eq!(status, 0, "{stderr}");
    let diff = stdout.split_once("--- ").unwrap().1;
    insta::assert_snapshot!(format!("{stderr}\n--- {diff}"));
    let (status, again, _) = bench.highwater(&["fit", "--all", "trace.jsonl", "--write", "registry.xml"]);
    assert!(status == 0 && again.ends_with("registry.xml is already up to date\n"), "{again}");
    let (status, stdout, stderr) = bench.highwater(&["validate", "registry.xml"]);
    assert_eq!(status, 0, "{stderr}");
    let memory = "worker_base 2 GiB, worker_fold 2 GiB, worker_synthesis 16.3 GiB";
    assert_eq!(stdout, format!("registry.xml: ok (registry: {memory})\n"));
}

#[test]
fn a_container_keeps_its_memory_while_tasks_of_all_containers_are_unknown() {
    let bench = bench(&[("binning", 700), ("search", 900), ("fold", 900)]);
    let (status, _, stderr) = bench.highwater(&["fit", "--all", "trace.jsonl", "--write", "registry.xml"]);
    assert_eq!(status, 0, "{stderr}");
    let kept = "note: kept 8 GiB of `worker_base`, although `search` needs 908 MiB: `worker_base` also runs `null`, `verify`, \
                whose needs are not known";
    assert!(stderr.contains(kept), "{stderr}");
    let written = fs::read_to_string(bench.path("registry.xml")).unwrap();
    assert_eq!(written, REGISTRY.replace("<memory_gb>0.5<", "<memory_gb>0.89<"));
}

#[test]
fn a_preview_changes_nothing() {
    let bench = bench(&[("binning", 700), ("search", 2000), ("null", 100), ("verify", 200)]);
    let words = ["fit", "--all", "trace.jsonl", "--write", "registry.xml", "--dry-run", "--format", "json"];
    let (status, stdout, stderr) = bench.highwater(&words);
    assert_eq!(status, 0, "{stderr}");
    assert!(serde_json::from_str::<Value>(&stdout).unwrap().is_array(), "{stdout}");
    assert!(stderr.contains("-                <memory_gb>8</memory_gb> <!-- a guess -->"), "{stderr}");
    assert_eq!(fs::read_to_string(bench.path("registry.xml")).unwrap(), REGISTRY);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let bench = bench(&[("serach", 2000)]);
    let refused = |words: &[&str]| {
        let (status, _, stderr) = bench.highwater(&[&["fit"], words].concat());
        assert_eq!(status, 2, "{stderr}");
        stderr
    };
    insta::assert_snapshot!(refused(&["--all", "trace.jsonl", "--write", "registry.xml"]));
    let single = refused(&["--all", "trace.jsonl", "--write", "Some.py"]);
    assert!(single.contains("Some.py"), "{single}");
    fs::write(bench.path("registry.xml"), REGISTRY.replace("<memory_gb>0.5</memory_gb>", "")).unwrap();
    insta::assert_snapshot!(refused(&["--all", "trace.jsonl", "--write", "registry.xml"]));
    assert!(refused(&["trace.jsonl", "--write", "registry.xml"]).contains("has no `memory_gb`"));
}

#[test]
fn tasks_are_judged_by_the_memory_of_their_containers() {
    let bench = bench(&[("binning", 700), ("fold", 900), ("search", 600)]);
    let (status, stdout, stderr) = bench.highwater(&["report", "trace.jsonl", "--rule", "registry.xml"]);
    assert_eq!(status, 0, "{stderr}");
    // Enough for a lower bound is no proof.
    assert!(
        stdout.contains("MEASURED: binning") && stdout.contains("8 GiB (registry.xml::binning)   0 of 0 runs"),
        "{stdout}"
    );
    // A task that may run in two containers has the memory of the smaller one.
    for task in ["fold", "search"] {
        let too_low = format!("The rule in use, 512 MiB (registry.xml::{task}), is too low for 3 of 3 runs");
        assert!(stdout.contains(&too_low), "{stdout}");
    }
    let (status, stdout, stderr) = bench.highwater(&["report", "trace.jsonl", "--rule", "registry.xml::worker_fold"]);
    assert!(status == 0 && stdout.contains("512 MiB (registry.xml::worker_fold), is too low"), "{stdout}{stderr}");
    let refused = |words: &[&str]| {
        let (status, _, stderr) = bench.highwater(words);
        assert_eq!(status, 2, "{stderr}");
        stderr
    };
    let unknown = refused(&["report", "trace.jsonl", "--rule", "registry.xml::worker_bas"]);
    assert!(unknown.contains("neither a container nor a task `worker_bas`"), "{unknown}");
    assert!(unknown.contains("did you mean `worker_base`?"), "{unknown}");
    let unnamed = refused(&["backtest", "trace.jsonl", "--rule", "registry.xml"]);
    assert!(unnamed.contains("as in registry.xml::NAME"), "{unnamed}");
    let config = |rule: &str| {
        let text = "[thresholds]\nno-baseline = \"ignore\"\n";
        let text = format!("{text}[tasks.fold]\ncommand = [\"fold\"]\nrule = \"{rule}\"\n");
        fs::write(bench.path("highwater.toml"), text).unwrap();
    };
    config("registry.xml");
    let (status, stdout, stderr) = bench.highwater(&["check", "--records", "trace.jsonl"]);
    assert_eq!(status, 1, "{stdout}{stderr}");
    assert!(stdout.contains("512 MiB"), "{stdout}");
    config("registry.xml::worker_base");
    let (status, stdout, stderr) = bench.highwater(&["check", "--records", "trace.jsonl"]);
    assert_eq!(status, 5, "{stdout}{stderr}");
    assert!(stdout.contains("8 GiB (rule)"), "{stdout}");
}

#[test]
fn tasks_are_found_without_their_parameters_and_no_other_rules_are_judged() {
    // A run whose task had a rule that is not in the registry.
    let records = |task: &'static str, parameters: Value| {
        growing(1.8).map(move |(n, peak)| {
            let mut run = run(n, peak);
            run["subject"]["name"] = json!(task);
            run["sweep"] = json!({"cell": parameters.to_string(), "case": "", "run": 1, "parameters": parameters});
            run
        })
    };
    let records = Records::new(records("fold", json!({"level": "1"})).chain(records("other", json!({}))));
    fs::write(records.path("registry.xml"), REGISTRY).unwrap();
    let (status, stdout, stderr) = records.highwater(&["report", "runs.jsonl", "--rule", "registry.xml"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.starts_with("`other` is not in registry.xml: no rule of it is judged.\n"), "{stdout}");
    assert!(
        stdout.contains("fold [level=1]") && stdout.contains("512 MiB (registry.xml::fold), is too low"),
        "{stdout}"
    );
    fs::write(records.path("registry.xml"), REGISTRY.replace("<name>fold", "<name>fild")).unwrap();
    let (status, stdout, stderr) = records.highwater(&["report", "runs.jsonl", "--rule", "registry.xml"]);
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("no task of runs.jsonl is in registry.xml: found `fold`, `other`"), "{stderr}");
    assert!(stderr.contains("name a container or a task, as in registry.xml::NAME"), "{stderr}");
}

#[test]
fn recorded_rules_are_not_judged_instead_of_a_registry() {
    let segment = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/records/segment/observations.jsonl");
    let records = Records::growing(1.8);
    let mine = fs::read_to_string(segment).unwrap();
    let name = serde_json::from_str::<Value>(mine.lines().next().unwrap()).unwrap()["subject"]["name"].clone();
    let fold: String = growing(1.8)
        .map(|(n, peak)| {
            let mut run = run(n, peak);
            run["subject"]["name"] = json!("fold");
            format!("{run}\n")
        })
        .collect();
    fs::write(records.path("both.jsonl"), fold + &mine).unwrap();
    fs::write(records.path("registry.xml"), REGISTRY).unwrap();
    let words = ["report", "both.jsonl", "--rule", "registry.xml", "--format", "json"];
    let (status, stdout, stderr) = records.highwater(&words);
    assert_eq!(status, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let task = report["tasks"].as_array().unwrap().iter().find(|task| task["name"] == name).unwrap();
    assert_eq!(task["rule_in_use"], Value::Null);
    assert!(task["runs"].as_array().unwrap().iter().all(|run| run["predicted"].is_null()), "{task}");
}
