//! Operators of Kaapana.

use super::fit_records::{Records, growing, run, sizes};
use serde_json::{Value, json};

fn failure(records: &Records, arguments: &[&str]) -> String {
    let (status, stdout, stderr) = records.highwater(arguments);
    assert_eq!(status, 2, "{stdout}{stderr}");
    stderr
}

#[test]
fn an_operator_becomes_a_processing_container() {
    // Four items, of which the largest has half of the bytes.
    let batch = |n: u64, peak: u64| {
        let mut run = run(n, peak);
        run["inputs"][0]["all"] = sizes(4, 2 * n, 2);
        run
    };
    let records = Records::new(growing(1.8).map(|(n, peak)| batch(n, peak)));
    let arguments = ["--mode", "max_item_sum", "--to", "processing-container", "--target-dir", "initial-input"];
    let (status, stdout, stderr) = records.fit(&arguments);
    assert_eq!(status, 0, "{stderr}");
    let document: Value = serde_json::from_str(&stdout).unwrap();
    let template = &document["templates"][0];
    assert_eq!((&document["name"], &template["identifier"]), (&json!("segment"), &json!("segment")));
    let input = &template["inputs"][0];
    assert_eq!((&input["name"], &input["mounted_path"]), (&json!("scans"), &json!("/in/scans")));
    let rule = &input["scale_rule"];
    assert_eq!((&rule["mode"], &rule["target_dir"]), (&json!("max_item_sum"), &json!("initial-input")));
    assert!(rule["complexity"].as_str().unwrap().starts_with("1.8"), "{rule}");
    std::fs::write(records.path("processing-container.json"), &stdout).unwrap();
    let (status, stdout, stderr) = records.highwater(&["validate", "processing-container.json", "--deny", "warnings"]);
    assert_eq!(status, 0, "{stdout}{stderr}");
    // A later fit finds the rule in it.
    let (status, _, stderr) = records.fit(&["--mode", "max_item_sum", "--write", "processing-container.json"]);
    assert_eq!(status, 0, "{stderr}");
    let stderr = failure(&records, &["fit", "runs.jsonl", "--to", "processing-container", "--target-dir", "../up"]);
    assert!(stderr.contains("target_dir"), "{stderr}");
}
