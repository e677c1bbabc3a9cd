//! The identity of tasks.

use std::fmt;
use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{ChannelKind, Task};

/// The digest of a task's behaviour, in SHA-256: 64 hexadecimal digits.
///
/// Two tasks have the same digest if they run the same command in the same image with the same environment, the same
/// channels at the same paths in the container and the same settings of the container. It does not depend on what a
/// measurement is compared with or sorted by: the name, the scale rules, the resources, the directories on the host;
/// nor on labels and on where images and pods come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TaskDigest(String);

impl TaskDigest {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Settings about where a container comes from and how it is labelled, not about its behaviour.
const NOT_BEHAVIOUR: [&str; 6] =
    ["annotations", "imagePullSecrets", "namespace", "registryPassword", "registryUrl", "registryUsername"];

impl Task {
    /// The digest in the records of this task. It stays the same for every version of the program.
    pub fn digest(&self) -> TaskDigest {
        let channels: Vec<Value> = self
            .channels
            .iter()
            .map(|channel| match channel.kind {
                ChannelKind::Input => json!(["input", channel.name, channel.mounted_path]),
                ChannelKind::Output => json!(["output", channel.name, channel.mounted_path]),
            })
            .collect();
        let mut config: Vec<_> =
            self.config.others.iter().filter(|(name, _)| !NOT_BEHAVIOUR.contains(&name.as_str())).collect();
        config.sort_by_key(|(name, _)| *name);
        let config: Vec<Value> = config.into_iter().map(|(name, value)| json!([name, ordered(value)])).collect();
        let mut env: Vec<_> = self.env.iter().collect();
        env.sort();
        let behaviour = json!([
            "highwater task 1",
            self.image,
            self.command,
            env,
            self.working_dir.as_ref().map(|path| path.to_string_lossy()),
            channels,
            config,
        ]);
        let mut text = String::with_capacity(64);
        for byte in Sha256::digest(behaviour.to_string()) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        TaskDigest(text)
    }
}

/// The same value with the keys of all objects in alphabetical order.
fn ordered(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<_> = object.iter().collect();
            keys.sort_by_key(|(key, _)| *key);
            keys.into_iter().map(|(key, value)| (key.clone(), ordered(value))).collect()
        }
        Value::Array(values) => values.iter().map(ordered).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::Channel;

    fn task() -> Task {
        let mut task = Task::bare(vec!["python3".to_owned(), "segment.py".to_owned()]);
        task.image = Some("registry.example/lung:1".to_owned());
        task.env = vec![("DEVICE".to_owned(), "cpu".to_owned()), ("BATCH".to_owned(), "2".to_owned())];
        task.channels = vec![Channel {
            name: "scans".to_owned(),
            kind: ChannelKind::Input,
            host_path: Some("/data/a".into()),
            mounted_path: "/in".to_owned(),
            rule: None,
        }];
        task
    }

    #[test]
    fn the_digest_is_the_same_for_ever() {
        let expected = "f7bc0ecf806b58ea7ccc8c11659230b097c9caca2d2a9ed1cb74e44edea69df6";
        assert_eq!(task().digest().as_str(), expected);
    }

    #[test]
    fn the_digest_knows_what_is_run_and_not_on_what() {
        let mut same = task();
        same.name = "another".to_owned();
        same.channels[0].host_path = Some("/data/b".into());
        same.resources.limits.set("memory", "1Gi".parse().unwrap()).unwrap();
        same.env.reverse();
        same.config.labels.push(("run".to_owned(), "7".to_owned()));
        same.config.others.insert("registryPassword".to_owned(), "x".into());
        assert_eq!(same.digest(), task().digest());

        let mut other = task();
        other.env[0].1 = "gpu".to_owned();
        assert_ne!(other.digest(), task().digest());
        let mut other = task();
        other.config.others.insert("network".to_owned(), "none".into());
        assert_ne!(other.digest(), task().digest());
    }
}
