//! The Task API: the fields for a task.json or a processing-container.json.

use serde_json::{Map, Value, json};

use crate::model::fit::{Declaration, Documented};
use crate::model::rule::ScaleRule;

/// The fields as JSON. A rule whose channel has no name stands alone.
pub fn snippet(documented: &Documented) -> String {
    let mut fields = Map::new();
    let mut channels = Vec::new();
    for (channel, rule) in &documented.rules {
        let rule = serde_json::to_value(rule).unwrap_or_default();
        match channel {
            Some(name) => channels.push(json!({ "name": name, "scale_rule": rule })),
            None => drop(fields.insert("scale_rule".to_owned(), rule)),
        }
    }
    if !channels.is_empty() {
        fields.insert("inputs".to_owned(), Value::Array(channels));
    }
    if let Some(resources) = resources(documented) {
        fields.insert("resources".to_owned(), resources);
    }
    format!("{:#}\n", Value::Object(fields))
}

/// A whole document with one template, for a program that had none. What is not measured is to be completed by hand:
/// descriptions, outputs, variables and mounted paths.
pub(super) fn container(declaration: &Declaration, documented: &Documented) -> String {
    let name = declaration.task.as_deref().unwrap_or("task");
    let mut inputs: Vec<Value> =
        documented.rules.iter().map(|(name, rule)| input(name.as_deref(), Some(rule))).collect();
    if inputs.is_empty() {
        inputs.push(input(None, None));
    }
    let mut template = json!({
        "identifier": name,
        "description": "",
        "inputs": inputs,
        "outputs": [{ "name": "output", "mounted_path": "/out" }],
        "env": [],
    });
    if let Some(resources) = resources(documented) {
        template["resources"] = resources;
    }
    format!("{:#}\n", json!({ "name": name, "description": "", "templates": [template] }))
}

/// An input channel of a template.
fn input(name: Option<&str>, rule: Option<&ScaleRule>) -> Value {
    let name = name.unwrap_or("input");
    let directory: String =
        name.chars().map(|char| if char.is_alphanumeric() || "-_".contains(char) { char } else { '-' }).collect();
    let mut input = json!({ "name": name, "mounted_path": format!("/in/{directory}") });
    if let Some(rule) = rule {
        input["scale_rule"] = serde_json::to_value(rule).unwrap_or_default();
    }
    input
}

/// The memory in a document; `None` if it has none.
fn resources(documented: &Documented) -> Option<Value> {
    let mut resources = Map::new();
    for (kind, amount) in [("limits", &documented.limit), ("requests", &documented.request)] {
        if let Some(amount) = amount {
            resources.insert(kind.to_owned(), json!({ "memory": amount }));
        }
    }
    (!resources.is_empty()).then_some(Value::Object(resources))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule::Dialect;

    #[test]
    fn a_rule_is_written_as_documents_have_it() {
        let rule: ScaleRule =
            serde_json::from_value(json!({"scale_factor": 2, "type": "limit", "mode": "sum"})).unwrap();
        assert_eq!(rule.formula.dialect(), Dialect::ScaleFactor);
        let documented =
            Documented { rules: vec![(Some("scans".into()), rule)], limit: Some("1Gi".into()), request: None };
        let value: Value = serde_json::from_str(&snippet(&documented)).unwrap();
        let expected = json!({
            "inputs": [{"name": "scans", "scale_rule": {"scale_factor": 2, "type": "limit", "mode": "sum"}}],
            "resources": {"limits": {"memory": "1Gi"}},
        });
        assert_eq!(value, expected);
    }
}
