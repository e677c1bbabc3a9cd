//! The Task API: the fields for a task.json or a processing-container.json.

use serde_json::{Map, Value, json};

use crate::model::fit::Documented;

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
    let mut resources = Map::new();
    for (kind, amount) in [("limits", &documented.limit), ("requests", &documented.request)] {
        if let Some(amount) = amount {
            resources.insert(kind.to_owned(), json!({ "memory": amount }));
        }
    }
    if !resources.is_empty() {
        fields.insert("resources".to_owned(), Value::Object(resources));
    }
    format!("{:#}\n", Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule::{Dialect, ScaleRule};

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
