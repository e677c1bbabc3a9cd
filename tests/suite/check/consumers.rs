//! Each format is read by a real consumer, or validated against its schema.

use std::process::Command;

use super::project::{Project, SEGMENT, python, sweep, three};

/// Reads all files of a check and prints their findings.
const READ: &str = r#"
import json, sys
import junitparser, jsonschema
from prometheus_client.openmetrics.parser import text_string_to_metric_families

cases = []
for suite in junitparser.JUnitXml.fromfile("junit.xml"):
    print("junit suite", suite.name, suite.tests, suite.failures, suite.errors, suite.skipped)
    for case in suite:
        kinds = [type(result).__name__ + " " + (result.type or "-") for result in case.result]
        print("junit case", case.classname, case.name, *kinds)

for family in text_string_to_metric_families(open("metrics.txt").read()):
    for sample in family.samples:
        print("openmetrics", family.type, family.unit or "-", sample.name, dict(sorted(sample.labels.items())), int(sample.value))

# https://bencher.dev/bmf.json
metric = {"type": "object", "required": ["value"],
          "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")}}
measures = {"type": "object", "patternProperties": {".+": metric}}
schema = {"$schema": "http://json-schema.org/draft-07/schema", "type": "object", "patternProperties": {".+": measures}}
bmf = json.load(open("bmf.json"))
jsonschema.validate(bmf, schema)
for name, measures in bmf.items():
    values = measures["memory"]
    assert values["lower_value"] <= values["value"] <= values["upper_value"], values
    print("bmf", name, values["value"])

# What github-action-benchmark takes for a result: extractCustomBenchmarkResult.
result = {"type": "object", "required": ["name", "unit", "value"], "additionalProperties": False,
          "properties": {"name": {"type": "string"}, "unit": {"type": "string"}, "value": {"type": "number"},
                         "range": {"type": "string"}, "extra": {"type": "string"}}}
custom = json.load(open("custom.json"))
jsonschema.validate(custom, {"type": "array", "items": result})
for one in custom:
    print("smaller is better", one["name"], one["value"], one["unit"], one["range"])
"#;

const ALL: [&str; 10] = [
    "--junit",
    "junit.xml",
    "--gitlab",
    "metrics.txt",
    "--bmf",
    "bmf.json",
    "--customsmallerisbetter",
    "custom.json",
    "--markdown",
    "comment.md",
];

#[test]
fn every_format_is_accepted_by_its_consumer() {
    let Some(python) = python() else { return };
    let then = [sweep(&[16, 64, 256], |n| n.max(50)), three("a \"b\" & <c>\n{d}|%", 0, 100)].concat();
    let mut now = [sweep(&[16, 64], |n| n.max(70)), three("a \"b\" & <c>\n{d}|%", 0, 100)].concat();
    now[3].outcome = highwater::model::observation::Outcome::Exited { status: 1 };
    let project = Project::with_baseline(SEGMENT, &then);
    let checked = project.check_runs(&now, &ALL);
    assert_eq!(checked.status(), 4, "{checked:?}");
    let read = Command::new(python).args(["-c", READ]).current_dir(project.folder()).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    insta::assert_snapshot!(String::from_utf8(read.stdout).unwrap());
}

#[test]
fn github_gets_annotations_and_a_summary_beside_what_others_wrote() {
    let project = Project::with_baseline(SEGMENT, &three("small", 0, 200));
    project.record("now.jsonl", &three("small", 0, 300));
    project.write("summary.md", "# Of another step\n");
    let mut command = project.command(&["check", "--records", "now.jsonl", "--github"]);
    let output = command.env("GITHUB_STEP_SUMMARY", project.path("summary.md")).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let annotations: Vec<&str> = stdout.lines().filter(|line| line.starts_with("::")).collect();
    insta::assert_snapshot!(format!("{}\n\n{}", annotations.join("\n"), project.read("summary.md")));
}

#[test]
fn files_are_the_same_bytes_for_the_same_records() {
    let project = Project::with_baseline(SEGMENT, &sweep(&[16, 64, 256], |n| n.max(50)));
    let read = || -> Vec<String> {
        let checked = project.check_runs(&sweep(&[16, 64, 256], |n| n.max(90)), &ALL);
        assert_eq!(checked.status(), 1, "{checked:?}");
        ALL.iter().skip(1).step_by(2).map(|name| project.read(name)).collect()
    };
    assert_eq!(read(), read());
}
