//! Wall time and cores: compared only if they have thresholds, with the scatter of the runs as the noise.

use highwater::model::observation::Observation;
use serde_json::json;

use super::project::{Checked, Project, SEGMENT, elsewhere, three};

const TIME: &str = "[thresholds.time]\nabsolute = \"10ms\"\n";
const CPU: &str = "[thresholds.cpu]\n";

/// Three runs of two seconds and of up to 2 % more, on these millionths of a core; slower by a factor.
fn runs(slower: f64, cores: u64) -> Vec<Observation> {
    let mut runs = three("small", 16, 100);
    for (run, wall_us) in runs.iter_mut().zip([2_000_000.0, 2_040_000.0, 2_010_000.0]) {
        run.wall_us = (slower * wall_us) as u64;
        let user_us = run.wall_us * cores / 1_000_000;
        run.cpu = serde_json::from_value(json!({"user_us": user_us, "system_us": 0, "source": "cgroup"})).unwrap();
    }
    runs
}

fn toml(resources: &str) -> String {
    format!("{resources}{SEGMENT}")
}

fn report(checked: &Checked) -> serde_json::Value {
    serde_json::from_slice(&checked.0.stdout).unwrap()
}

#[test]
fn a_slower_task_fails_only_if_time_has_thresholds() {
    let (usual, slower) = (runs(1.0, 1_000_000), runs(1.5, 1_000_000));
    let project = Project::with_baseline(&toml(TIME), &usual);
    let checked = project.check_runs(&slower, &["--format", "json", "--junit", "junit.xml"]);
    let finding = report(&checked)["tasks"][0]["findings"][0].clone();
    assert_eq!((checked.status(), &finding["reason"], &finding["resource"]), (1, &"growth".into(), &"time".into()));
    let message = finding["message"].as_str().unwrap();
    assert!(
        message.starts_with("the time has grown from 2.01 s to 3.02 s (+50.0 %); by the scatter measured"),
        "{message}"
    );
    assert!(project.read("junit.xml").contains("<failure type=\"time-growth\""));
    assert_eq!(project.check_runs(&usual, &[]).status(), 0);
    // Half as slow again, within the threshold of the option.
    assert_eq!(project.check_runs(&slower, &["--time-relative", "60%"]).status(), 0);
    project.write("highwater.toml", SEGMENT);
    let off = project.check_runs(&slower, &[]);
    assert_eq!((off.status(), String::from_utf8_lossy(&off.0.stdout).contains("Time")), (0, false));
    // An option is enough to compare it.
    assert_eq!(project.check_runs(&slower, &["--time-relative", "10%"]).status(), 1);
}

#[test]
fn time_and_cores_are_in_the_formats_of_programs_that_follow_them() {
    let project = Project::with_baseline(&toml(&format!("{TIME}{CPU}")), &runs(1.0, 1_000_000));
    let formats = ["--gitlab", "metrics.txt", "--bmf", "bmf.json", "--customsmallerisbetter", "smaller.json"];
    assert_eq!(project.check_runs(&runs(1.5, 1_000_000), &formats).status(), 1);
    let metrics = project.read("metrics.txt");
    for line in [
        "# UNIT highwater_time_seconds seconds",
        "highwater_time_seconds{task=\"segment\",cell=\"small\"} 3.015",
        "highwater_baseline_time_seconds{task=\"segment\",cell=\"small\"} 2.01",
        "# TYPE highwater_time_spread_seconds gauge",
        "highwater_cpu_cores{task=\"segment\",cell=\"small\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let json = |name: &str| serde_json::from_str::<serde_json::Value>(&project.read(name)).unwrap();
    let bmf = json("bmf.json")["segment/small"].clone();
    assert_eq!(bmf["time-seconds"], json!({"value": 3.015, "lower_value": 3.0, "upper_value": 3.06}), "{bmf}");
    assert!(bmf["memory"]["value"].is_u64() && bmf["cpu-cores"]["value"].is_f64(), "{bmf}");
    let smaller = json("smaller.json");
    let names: Vec<_> = smaller.as_array().unwrap().iter().map(|one| (&one["name"], &one["unit"])).collect();
    let expected = [("segment/small", "bytes"), ("segment/small: time", "seconds"), ("segment/small: cpu", "cores")];
    assert_eq!(names.len(), 3, "{smaller}");
    assert!(names.iter().zip(expected).all(|(found, (name, unit))| found.0 == name && found.1 == unit), "{smaller}");
    assert!(smaller[1]["extra"].as_str().unwrap().contains("change: +50.0 %"), "{smaller}");
}

#[test]
fn cores_have_thresholds_of_their_own() {
    let project = Project::with_baseline(&toml(CPU), &runs(1.0, 1_000_000));
    let checked = project.check_runs(&runs(1.5, 2_000_000), &["--format", "json"]);
    let findings = report(&checked)["tasks"][0]["findings"].clone();
    assert_eq!((checked.status(), findings.as_array().unwrap().len()), (1, 1), "{findings}");
    assert_eq!(findings[0]["resource"], "cpu");
}

#[test]
fn a_baseline_without_the_resource_says_so() {
    let project = Project::with_baseline(SEGMENT, &runs(1.0, 1_000_000));
    assert!(!project.read("highwater-baseline.json").contains("resources"));
    project.write("highwater.toml", &toml(TIME));
    let checked = project.check_runs(&runs(1.0, 1_000_000), &[]);
    let stdout = String::from_utf8_lossy(&checked.0.stdout).into_owned();
    assert!(checked.status() == 5 && stdout.contains("growth of time was not checked: no cell has it"), "{stdout}");
}

#[test]
fn time_is_not_compared_with_another_host() {
    let project = Project::with_baseline(&toml(TIME), &runs(1.0, 1_000_000));
    let checked = project.check_runs(&elsewhere(runs(1.5, 1_000_000)), &[]);
    let stdout = String::from_utf8_lossy(&checked.0.stdout).into_owned();
    assert!(checked.status() == 0 && stdout.contains("[time-other-host]"), "{stdout}");
}
