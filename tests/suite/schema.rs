//! The published schemas, compared with what is written.

use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

use crate::report::segment;
use crate::tasks::Folder;

fn highwater(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_highwater")).args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = highwater(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
}

/// The errors of a document according to the schema with this name.
fn complaints(name: &str, documents: &[Value]) -> Vec<String> {
    let schema = jsonschema::draft202012::new(&json(&["schema", name])).unwrap();
    let wrong =
        |document| schema.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    documents.iter().flat_map(|document| -> Vec<String> { wrong(document) }).collect()
}

#[test]
fn recorded_runs_are_as_the_schema_says() {
    let text = std::fs::read_to_string(segment()).unwrap();
    let mut records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(complaints("observation", &records), Vec::<String>::new());
    for (record, (field, nonsense)) in
        records.iter_mut().zip([("peak", "many"), ("outcome", "fine"), ("wall_us", "1 s")])
    {
        record[field] = nonsense.into();
        assert_ne!(complaints("observation", std::slice::from_ref(record)), Vec::<String>::new(), "{field}");
    }
}

#[test]
fn reports_are_as_the_schema_says() {
    let path = segment();
    let path = path.to_str().unwrap();
    let alone = json(&["report", path, "--format", "json"]);
    let compared = json(&["report", path, path, "--format", "json"]);
    assert!(!compared["tasks"][0]["before"].is_null());
    assert_eq!(complaints("report", &[alone, compared]), Vec::<String>::new());
}

#[test]
fn predictions_are_as_the_schema_says() {
    let folder = Folder::with_inputs();
    let predicted = folder.json("predict complexity.json --format json");
    assert_eq!(complaints("prediction", std::slice::from_ref(&predicted)), Vec::<String>::new());
    let explained = &json(&["schema", "prediction"])["properties"];
    let bare: Vec<&String> =
        predicted.as_object().unwrap().keys().filter(|name| explained[name]["description"].is_null()).collect();
    assert!(bare.is_empty(), "{bare:?}");
}

#[test]
fn schemas_speak_to_readers_of_json() {
    for name in ["observation", "prediction", "report"] {
        let schema = json(&["schema", name]).to_string();
        assert!(!schema.contains("[`"), "{name}: {schema}");
    }
}

#[test]
fn every_field_of_a_record_is_explained() {
    let schema = json(&["schema", "observation"]);
    let mut bare = Vec::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        if property["description"].is_null() {
            bare.push(name);
        }
    }
    assert!(bare.is_empty(), "{bare:?}");
}
