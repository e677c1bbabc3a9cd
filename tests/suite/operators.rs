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

#[test]
fn a_batch_becomes_a_task_whose_n_is_the_largest_item() {
    let records = Records::new([]);
    let write = |path: &str, bytes: usize| {
        let path = records.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![0; bytes]).unwrap();
    };
    write("run/conf/conf.json", 2);
    write("run/batch/first/scans/a.dcm", 3000);
    write("run/batch/second/scans/a.dcm", 2000);
    write("run/batch/second/scans/b.dcm", 2000);
    // An earlier operator's output is not its input.
    write("run/batch/first/other/c.nrrd", 9000);
    let batch = ["run/batch", "--in-dir", "scans", "--out-dir", "masks"];
    let arguments =
        [&["operator"], &batch[..], &["--image", "registry:5000/x/segment:1.2", "-o", "task.json"]].concat();
    let (status, _, stderr) = records.highwater(&arguments);
    assert_eq!(status, 0, "{stderr}");
    let document = std::fs::read_to_string(records.path("task.json")).unwrap();
    let folder = records.path("run").canonicalize().unwrap();
    insta::assert_snapshot!(document.replace(folder.to_str().unwrap(), "[run]"));
    let (status, stdout, stderr) = records.highwater(&["predict", "task.json", "--format", "json"]);
    assert_eq!(status, 0, "{stderr}");
    let prediction: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(prediction["channels"][0]["rule"]["n"], 4000);
    assert_eq!(prediction["docker"]["limit"], Value::Null);
    let stderr = failure(&records, &[&["operator"], &["nowhere"], &batch[1..], &["--image", "x"]].concat());
    assert!(stderr.contains("nowhere is not a directory"), "{stderr}");
}
