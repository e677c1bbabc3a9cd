//! Merging a task and a template, and the notes about it.

use std::path::Path;

use highwater::calibrate::resolve::{LookupError, NoContainer, ProcessingContainers, Resolution, resolve};
use highwater::model::document::{Document, Source};
use highwater::model::task::{ProcessingContainer, Task};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The document of the only image.
struct Image(Value);

impl ProcessingContainers for Image {
    fn of_image(&self, image: &str) -> Result<Document<ProcessingContainer>, LookupError> {
        assert_eq!(image, "registry.example/lung:1");
        let source = Source::plain("processing-container.json", self.0.to_string());
        Ok(Document::processing_container(source).unwrap())
    }
}

fn resolved(task: Value, template: Value) -> Resolution {
    let image = Image(json!({"name": "lungs", "description": "", "templates": [template]}));
    let source = Source::plain("task.json", task.to_string());
    resolve(&Document::task(source).unwrap(), &image, Path::new("/work")).unwrap()
}

fn task(fields: Value) -> Value {
    let mut task = json!({"name": "t", "image": "registry.example/lung:1", "taskTemplate": "segment"});
    task.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    task
}

fn template(fields: Value) -> Value {
    let mut template = json!({"identifier": "segment", "description": "", "inputs": [], "outputs": [], "env": []});
    template.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    template
}

/// All notes, one per line.
fn said(resolution: &Resolution) -> String {
    let mut lines = String::new();
    for flawed in resolution.warnings() {
        for problem in &flawed.problems {
            let marked = problem.span.clone().map(|span| flawed.text[span].to_owned()).unwrap_or_default();
            lines.push_str(&format!("{} [{}] {marked} · {}", flawed.name, problem.code, problem.message));
            lines.push_str(&problem.label.iter().map(|label| format!(" · {label}")).collect::<String>());
            lines.push_str(&problem.help.iter().map(|help| format!(" · {help}")).collect::<String>());
            lines.push('\n');
        }
    }
    lines
}

fn env(task: &Task) -> Vec<(&str, &str)> {
    task.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn the_fields_of_the_task_win() {
    let resolution = resolved(
        task(json!({
            "env": [{"name": "B", "value": "task"}, {"name": "EXTRA", "value": "x"}],
            "command": ["mine"],
            "config": {"labels": {"a": "b"}, "network": "none"},
        })),
        template(json!({
            "env": [{"name": "A", "value": "template"}, {"name": "B", "value": "template"}],
            "command": ["theirs"],
            "resources": {"limits": {"memory": "1Gi"}},
        })),
    );
    assert_eq!(said(&resolution), "");
    let task = resolution.task;
    assert_eq!(env(&task), [("A", "template"), ("B", "task"), ("EXTRA", "x")]);
    assert_eq!(task.command, Some(vec!["mine".to_owned()]));
    assert_eq!(task.resources.limits.memory().unwrap().0, 1 << 30);
    assert_eq!(task.config.labels, [("a".to_owned(), "b".to_owned())]);
    assert_eq!(task.config.text("network"), Some("none"));
}

#[test]
fn what_the_task_leaves_out_is_the_template_s() {
    let template = template(json!({"command": ["theirs"], "resources": {"limits": {"memory": "1Gi"}}}));
    let resolution = resolved(task(json!({"command": null, "resources": null})), template);
    assert_eq!(resolution.task.command, Some(vec!["theirs".to_owned()]));
    assert_eq!(resolution.task.resources.limits.memory().unwrap().0, 1 << 30);
}

#[test]
fn channels_are_joined_by_name_and_relative_to_the_base() {
    let rule = |factor| json!({"scale_factor": factor, "type": "limit", "mode": "sum"});
    let resolution = resolved(
        task(json!({
            "inputs": [
                {"name": "b", "input": {"host_path": "./data/./b"}, "scale_rule": rule(3)},
                {"name": "a", "volume_source": {"host_path": "/abs/a/"}},
            ],
        })),
        template(json!({
            "inputs": [
                {"name": "a", "mounted_path": "/in/a", "scale_rule": rule(1)},
                {"name": "b", "mounted_path": "/in/b", "scale_rule": rule(2)},
            ],
        })),
    );
    let channels: Vec<_> = resolution
        .task
        .channels
        .iter()
        .map(|channel| {
            let factor = channel.rule.as_ref().unwrap().formula.source();
            (channel.name.as_str(), channel.host_path.as_deref().unwrap(), channel.mounted_path.as_str(), factor)
        })
        .collect();
    assert_eq!(channels, [("a", Path::new("/abs/a"), "/in/a", "1"), ("b", Path::new("/work/data/b"), "/in/b", "3"),]);
}

#[test]
fn what_is_dropped_in_silence_elsewhere_is_said() {
    let volume = |name: &str, path: &str| json!({"name": name, "input": {"host_path": path}});
    let mount = |name: &str| json!({"name": name, "mounted_path": format!("/in/{name}")});
    let resolution = resolved(
        task(json!({
            "inputs": [
                volume("scan", "/dev"),
                volume("missing", "/no/such/folder"),
                volume("file", "/etc/hostname"),
                volume("proc", "/proc"),
                volume("again", "/proc"),
                {"name": "claim", "volume_source": {"claim_name": "data", "sub_path": "a"}},
            ],
            "outputs": [volume("masks", "/proc/.")],
            "env": [
                {"name": "DEVICE", "value": "tpu"},
                {"name": "BATCH_SIZE", "value": "many"},
                {"name": "MODEL", "value": "v4"},
                {"name": "SEEDS", "value": "7"},
            ],
            "command": [],
            "resources": {"limits": {"memory": "2Gi"}},
        })),
        template(json!({
            "inputs": [
                mount("scans"), mount("missing"), mount("file"), mount("proc"), mount("again"), mount("claim"),
            ],
            "outputs": [{"name": "masks", "mounted_path": "/out"}, {"name": "logs", "mounted_path": "/logs"}],
            "env": [
                {"name": "DEVICE", "value": "cpu", "choices": ["cpu", "gpu"]},
                {"name": "BATCH_SIZE", "value": "2", "type": "int"},
                {"name": "MODEL", "value": "v3", "adjustable": false},
                {"name": "SEED", "value": "1"},
            ],
            "command": ["segment"],
            "resources": {"limits": {"memory": "1Gi", "cpu": "2"}, "requests": {"memory": "1Gi"}},
        })),
    );
    insta::assert_snapshot!(said(&resolution));
    assert_eq!(resolution.task.command, None);
}

#[test]
fn a_default_that_its_own_template_forbids_is_said() {
    let template = template(json!({
        "env": [
            {"name": "DEVICE", "value": "tpu", "choices": ["cpu", "gpu"]},
            {"name": "BATCH_SIZE", "value": "two", "type": "int"},
        ],
        "outputs": [{"name": "masks", "mounted_path": "/out",
                     "scale_rule": {"complexity": "n", "type": "limit", "mode": "sum"}},
                    {"name": "logs", "mounted_path": "/out/"}],
    }));
    let outputs = json!({"outputs": [{"name": "masks", "input": {"host_path": "/tmp/a"}},
                                     {"name": "logs", "input": {"host_path": "/tmp/b"}}]});
    insta::assert_snapshot!(said(&resolved(task(outputs), template)));
}

#[test]
fn a_path_beside_the_task_is_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let inline = task(json!({
        "taskTemplate": template(json!({"inputs": [{"name": "scans", "mounted_path": "/in"}]})),
        "inputs": [{"name": "scans", "input": {"host_path": "./data"}}],
    }));
    let name = folder.path().join("task.json").display().to_string();
    let spec = Document::task(Source::plain(name, inline.to_string())).unwrap();
    let resolution = resolve(&spec, &NoContainer, Path::new("/no/such/place")).unwrap();
    let said = said(&resolution);
    assert!(
        said.contains("paths are relative to the current directory; did you mean ") && said.contains("/./data?"),
        "{said}"
    );
}

/// Names over a small alphabet, so that both sides overlap.
fn settings() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    proptest::collection::btree_map("[A-E]", "[a-z0-9 =\"\\\\]{0,6}", 0..5)
}

fn entries(settings: &std::collections::BTreeMap<String, String>) -> Value {
    settings.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

proptest! {
    #[test]
    fn every_variable_has_the_task_s_value_else_the_template_s(own in settings(), default in settings()) {
        let task = resolved(task(json!({"env": entries(&own)})), template(json!({"env": entries(&default)}))).task;
        let mut expected = default.clone();
        expected.extend(own.clone());
        let found: std::collections::BTreeMap<_, _> = task.env.iter().cloned().collect();
        prop_assert_eq!(&found, &expected);
        // In the template's order first, with unique names.
        prop_assert_eq!(task.env.len(), expected.len());
        let names: Vec<_> = task.env.iter().map(|(name, _)| name).take(default.len()).collect();
        prop_assert_eq!(names, default.keys().collect::<Vec<_>>());
    }
}
