//! `highwater fit --write`: writes the rule into its document, and changes nothing else.

use std::os::unix::fs::PermissionsExt;

use super::fit_records::Records;
use serde_json::{Value, json};

const CONTAINER: &str = r#"{
    "name": "segmentation",
    "description": "Finds things.",
    "x-vendor": {"keep": [1, 2,   3]},
    "templates": [
        {
            "identifier": "segment",
            "description": "",
            "inputs": [
                {
                    "mounted_path": "/in",
                    "scale_rule": {
                        "type": "limit",
                        "complexity": "9*n",
                        "mode": "max_file_size",
                        "x-note": "kept",
                        "target_glob": "*.dcm"
                    },
                    "name": "scans"
                }
            ],
            "outputs": [],
            "env": [],
            "resources": {
                "limits": {"cpu": "2", "memory": "7Gi"}
            }
        }
    ]
}
"#;

/// A task of the released dialect, partly on one line.
const TASK: &str = r#"{ "name": "segment-one", "image": "registry/segment:1", "api_version": 1,
  "taskTemplate": { "identifier": "segment", "description": "", "command": ["segment"],
    "inputs": [{ "name": "scans", "mounted_path": "/in" }], "outputs": [], "env": [] },
  "inputs": [{ "name": "scans", "volume_source": { "host_path": "./scans" } }]
}"#;

/// Writes a document beside records of max(500 MB, 1.8·n) and runs `fit --write` on it.
fn written(document: &str, arguments: &[&str]) -> (Records, i32, String, String) {
    let records = Records::growing(1.8);
    std::fs::write(records.path("file.json"), document).unwrap();
    let (status, stdout, stderr) = records.fit(&[&["--write", "file.json"], arguments].concat());
    (records, status, stdout, stderr)
}

fn text(records: &Records) -> String {
    std::fs::read_to_string(records.path("file.json")).unwrap()
}

/// The lines that differ.
fn changed(old: &str, new: &str) -> Vec<String> {
    let diff = similar::TextDiff::from_lines(old, new);
    let changes = diff.iter_all_changes().filter(|change| change.tag() != similar::ChangeTag::Equal);
    changes.map(|change| format!("{}{}", change.tag(), change.value().trim())).collect()
}

#[test]
fn the_difference_is_just_the_rule() {
    let (records, status, stdout, stderr) = written(CONTAINER, &[]);
    assert_eq!(status, 0, "{stderr}");
    let diff = &stdout[stdout.find("--- file.json").unwrap()..];
    insta::assert_snapshot!(diff);
    let new = text(&records);
    assert_eq!(changed(CONTAINER, &new).len(), 10, "{diff}");
    let value: Value = serde_json::from_str(&new).unwrap();
    let rule = &value["templates"][0]["inputs"][0]["scale_rule"];
    assert_eq!((&rule["mode"], &rule["x-note"], &rule["target_glob"]), (&json!("sum"), &json!("kept"), &Value::Null));
    let (status, _, stderr) = records.highwater(&["validate", "file.json"]);
    assert_eq!(status, 0, "{stderr}");
    // A second time there is nothing to do.
    let (_, stdout, _) = records.fit(&["--write", "file.json"]);
    assert!(stdout.ends_with("file.json is already up to date\n"), "{stdout}");
    assert_eq!(text(&records), new);
}

#[test]
fn a_dry_run_shows_and_writes_nothing() {
    let (records, status, stdout, _) = written(CONTAINER, &["--dry-run"]);
    assert_eq!(status, 0);
    assert!(stdout.contains("+                        \"complexity\": \"1."), "{stdout}");
    assert_eq!(text(&records), CONTAINER);
}

#[test]
fn what_was_written_predicts_the_same_bytes_in_both_dialects() {
    for (document, dialect) in [
        (TASK, "scale_factor"),
        (&TASK.replace("\"api_version\": 1,", "").replace("volume_source", "input"), "complexity"),
    ] {
        for target in ["docker", "kubernetes"] {
            let arguments = ["--target", target, "--for-size", "3000000007", "--format", "json"];
            let (records, status, stdout, stderr) = written(document, &arguments);
            assert_eq!(status, 0, "{stderr}");
            let fit: Value = crate::harness::only_element(stdout);
            assert!(fit["documented"]["rules"][0][1].get(dialect).is_some(), "{fit}");
            let validated = records.highwater(&["validate", "file.json"]);
            assert_eq!(validated.0, 0, "{}", validated.2);
            std::fs::create_dir(records.path("scans")).unwrap();
            let file = std::fs::File::create(records.path("scans/one")).unwrap();
            file.set_len(3_000_000_007).unwrap();
            let (status, stdout, stderr) = records.highwater(&["predict", "file.json", "--format", "json"]);
            assert_eq!(status, 0, "{stderr}");
            let predicted: Value = serde_json::from_str(&stdout).unwrap();
            assert_eq!(predicted[target]["limit"]["bytes"], fit["for_sizes"][0]["limit"], "{dialect} {target}");
            // A small input gets the minimum, which is written in a readable unit.
            file.set_len(1000).unwrap();
            let predicted: Value =
                serde_json::from_str(&records.highwater(&["predict", "file.json", "--format", "json"]).1).unwrap();
            let floor = predicted["docker"]["limit"]["bytes"].as_u64().unwrap();
            let base = fit["base_bytes"].as_u64().unwrap();
            assert!((base..=base + base / 1000).contains(&floor), "{floor} for {base}");
        }
    }
}

#[test]
fn a_rule_that_is_new_looks_like_its_neighbours() {
    let (records, status, _, stderr) = written(TASK, &["--dialect", "complexity"]);
    assert_eq!(status, 0, "{stderr}");
    insta::assert_snapshot!(text(&records));
    let indented = TASK.replace(
        "{ \"name\": \"scans\", \"mounted_path\": \"/in\" }",
        "{\r\n\t\t\"name\": \"scans\",\r\n\t\t\"mounted_path\": \"/in\"\r\n\t}",
    );
    let (records, status, _, stderr) = written(&indented, &[]);
    assert_eq!(status, 0, "{stderr}");
    let new = text(&records);
    assert!(new.contains("\"mounted_path\": \"/in\",\r\n\t\t\"scale_rule\": "), "{new:?}");
}

#[test]
fn the_dialect_of_the_file_stays() {
    let document = CONTAINER.replace("\"complexity\": \"9*n\"", "\"scale_factor\": 9");
    let (records, status, _, stderr) = written(&document, &[]);
    assert_eq!(status, 0, "{stderr}");
    assert!(text(&records).contains("\"scale_factor\": 2,"), "{}", text(&records));
    // On request the dialect changes, in place.
    let (records, _, _, _) = written(&document, &["--dialect", "complexity"]);
    assert!(
        text(&records).contains("\"type\": \"limit\",\n                        \"complexity\": \"1."),
        "{}",
        text(&records)
    );
}

#[test]
fn jinja_stays_and_is_not_written_over() {
    let template = "{# Whose registry? #}\n".to_owned()
        + &TASK.replace("registry/segment", "{{ env.get('REGISTRY', 'registry') }}/segment").replace(
            "\"env\": []",
            "\"env\": [{%- if custom.fast is defined %}{ \"name\": \"FAST\", \"value\": \"1\" }{% endif %}]",
        );
    let (records, status, _, stderr) = written(&template, &[]);
    assert_eq!(status, 0, "{stderr}");
    let new = text(&records);
    assert!(new.starts_with("{# Whose registry? #}") && new.contains("{%- if custom.fast is defined %}"), "{new}");
    assert!(new.contains("\"scale_rule\""), "{new}");
    let (status, _, stderr) = records.highwater(&["validate", "--set", "fast=1", "file.json"]);
    assert_eq!(status, 0, "{stderr}");
    // A value produced by Jinja must not be replaced.
    let made = CONTAINER.replace("\"9*n\"", "\"{{ custom.factor }}*n\"");
    let (records, status, _, stderr) = written(&made, &["--set", "factor=9"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("the value to be changed is computed by Jinja"), "{stderr}");
    assert_eq!(text(&records), made);
    // Neither must one that it repeats.
    let repeated = CONTAINER.replace("\"outputs\": []", "\"outputs\": [{% for i in [1, 2] %}{\"name\": \"o{{ i }}\", \"mounted_path\": \"/o{{ i }}\"}{% if not loop.last %},{% endif %}{% endfor %}]");
    let (_, status, _, stderr) = written(&repeated, &[]);
    assert_eq!(status, 0, "{stderr}");
    let in_block = CONTAINER
        .replace("\"7Gi\"}\n", "\"7Gi\"}{% if custom.more is defined %},\n\"vendor\": {\"cpu\": \"1\"}{% endif %}\n");
    let (records, status, _, stderr) = written(&in_block, &["--set", "more=1"]);
    assert_eq!(status, 2, "{}", text(&records));
    assert!(stderr.contains("Jinja"), "{stderr}");
}

#[test]
fn other_rules_are_told_of_and_taken_out_where_that_is_asked_for() {
    let other = CONTAINER.replace(
        "\"name\": \"scans\"\n                }",
        "\"name\": \"scans\"\n                },\n                {\"name\": \"weights\", \"mounted_path\": \"/w\", \"scale_rule\": {\"complexity\": \"40*n\", \"type\": \"limit\", \"mode\": \"sum\"}}",
    );
    let (_, status, _, stderr) = written(&other, &[]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("kept the rule of weights"), "{stderr}");
    let (records, status, _, stderr) = written(&other, &["--drop-other-rules"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(text(&records).contains("{\"name\": \"weights\", \"mounted_path\": \"/w\"}"), "{}", text(&records));
}

#[test]
fn places_that_are_not_clear_are_asked_for() {
    let two = CONTAINER.replace("    \"templates\": [", "    \"templates\": [\n        {\"identifier\": \"other\", \"description\": \"\", \"inputs\": [], \"outputs\": [], \"env\": []},");
    let (_, status, _, stderr) = written(&two, &[]);
    assert_eq!(status, 2);
    assert!(stderr.contains("select one with --template") && stderr.contains("`other`, `segment`"), "{stderr}");
    let (_, status, _, stderr) = written(&two, &["--template", "segment"]);
    assert_eq!(status, 0, "{stderr}");
    let (_, status, _, stderr) = written(&CONTAINER.replace("\"scans\"", "\"images\""), &[]);
    assert_eq!(status, 2);
    assert!(stderr.contains("no input channel named `scans`"), "{stderr}");
}

#[test]
fn a_link_stays_a_link_and_permissions_stay() {
    let records = Records::growing(1.8);
    std::fs::write(records.path("real.json"), CONTAINER).unwrap();
    std::fs::set_permissions(records.path("real.json"), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("real.json", records.path("file.json")).unwrap();
    let (status, _, stderr) = records.fit(&["--write", "file.json"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(std::fs::symlink_metadata(records.path("file.json")).unwrap().is_symlink());
    assert_ne!(std::fs::read_to_string(records.path("real.json")).unwrap(), CONTAINER);
    let mode = std::fs::metadata(records.path("real.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_read_only_file_is_an_error_and_stays() {
    let records = Records::growing(1.8);
    std::fs::write(records.path("file.json"), CONTAINER).unwrap();
    std::fs::set_permissions(records.path("file.json"), std::fs::Permissions::from_mode(0o444)).unwrap();
    let (status, _, stderr) = records.fit(&["--write", "file.json"]);
    assert_eq!(status, 3);
    assert!(stderr.contains("file.json is read-only") && stderr.contains("chmod u+w"), "{stderr}");
    assert_eq!(text(&records), CONTAINER);
    let (status, _, stderr) = records.fit(&["--write", "file.json", "--dry-run"]);
    assert_eq!(status, 0, "{stderr}");
}

#[test]
fn a_byte_order_mark_stays() {
    let (records, status, stdout, stderr) = written(&format!("\u{feff}{CONTAINER}"), &[]);
    assert_eq!(status, 0, "{stderr}");
    assert!(text(&records).starts_with("\u{feff}{"));
    assert!(!stdout.contains('\u{feff}'), "{stdout}");
}

#[test]
fn a_sum_cannot_be_written() {
    let (records, status, _, stderr) = written(CONTAINER, &["--form", "sum"]);
    if status == 0 {
        // A constant is both.
        return;
    }
    assert_eq!(status, 2);
    assert!(stderr.contains("not their sum"), "{stderr}");
    assert_eq!(text(&records), CONTAINER);
}
