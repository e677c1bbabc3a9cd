//! Settings of the container runner.

use std::fmt;

use serde_json::{Map, Value};

/// `config`: how a container runner sets up the container. Settings that this program does not use are kept as written.
#[derive(Clone, Default, PartialEq)]
pub struct Config {
    /// Labels of the container, in order, with unique names.
    pub labels: Vec<(String, String)>,
    /// Everything else, such as `type`, `user` or `network`.
    pub others: Map<String, Value>,
}

impl Config {
    /// The value of a setting that is a string and not empty, as one is that a template leaves open.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.others.get(name)?.as_str().filter(|text| !text.is_empty())
    }
}

impl fmt::Debug for Config {
    /// Hides values: they may include the password of a registry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.others.keys().map(String::as_str).collect();
        f.debug_struct("Config").field("labels", &self.labels).field("others", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_reach_the_log() {
        let mut config = Config::default();
        config.others.insert("registryPassword".to_owned(), "s3cret".into());
        assert_eq!(config.text("registryPassword"), Some("s3cret"));
        let shown = format!("{config:?}");
        assert!(shown.contains("registryPassword") && !shown.contains("s3cret"), "{shown}");
    }
}
