//! The part of GitHub Actions that action.yml needs.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::place::Place;

pub(super) fn steps(value: &Value) -> &[Value] {
    value["steps"].as_array().unwrap()
}

/// What a run of an action has come to.
pub(super) struct Outcome {
    pub(super) succeeded: bool,
    /// The names of the steps that were run.
    pub(super) steps: Vec<String>,
    /// What they have written.
    pub(super) log: String,
    /// The output of this name.
    pub(super) results: Option<String>,
}

/// One run of a composite action on a pull request.
pub(super) struct Job<'a> {
    place: &'a Place,
    action: &'a Value,
    /// `inputs.…`, `steps.…`, `github.…` and `runner.…`.
    contexts: BTreeMap<String, String>,
}

impl<'a> Job<'a> {
    pub(super) fn new(place: &'a Place, action: &'a Value) -> Self {
        // Each job has a machine of its own.
        let _ = fs::remove_dir_all(place.path("temp"));
        place.bash("mkdir -m 777 temp; rm -f output path", &BTreeMap::new(), true);
        let contexts = [
            ("github.token", "token".to_owned()),
            ("github.repository", "owner/project".to_owned()),
            ("github.event.number", "7".to_owned()),
            ("runner.temp", place.inside("temp")),
        ];
        Self { place, action, contexts: contexts.map(|(name, value)| (name.to_owned(), value)).into() }
    }

    pub(super) fn run(mut self, with: &[(&str, &str)]) -> Outcome {
        for (name, input) in self.action["inputs"].as_object().unwrap() {
            let given = with.iter().find(|(key, _)| key == name).map(|(_, value)| (*value).to_owned());
            let default = || input["default"].as_str().map(|default| self.expand(default));
            let value = given.or_else(default).unwrap_or_else(|| panic!("{name} is required"));
            self.contexts.insert(format!("inputs.{name}"), value);
        }
        let mut outcome = Outcome { succeeded: true, steps: Vec::new(), log: String::new(), results: None };
        for step in steps(&self.action["runs"]) {
            if !self.is_due(step["if"].as_str().unwrap_or_default(), outcome.succeeded) {
                continue;
            }
            let Some(script) = step["run"].as_str() else {
                assert_eq!(step["uses"], "actions/cache@v4");
                assert_eq!(
                    self.expand(step["with"]["path"].as_str().unwrap()),
                    self.place.inside("temp/highwater.tar.gz")
                );
                continue;
            };
            assert_eq!(step["shell"], "bash");
            let mut variables = BTreeMap::new();
            for (name, value) in step["env"].as_object().unwrap() {
                variables.insert(name.clone(), self.expand(value.as_str().unwrap()));
            }
            let files = [("OUTPUT", "output"), ("PATH", "path"), ("STEP_SUMMARY", "summary.md")];
            variables.extend(files.map(|(name, file)| (format!("GITHUB_{name}"), self.place.inside(file))));
            variables.insert("GITHUB_ACTIONS".to_owned(), "true".to_owned());
            variables.insert("RUNNER_TEMP".to_owned(), self.place.inside("temp"));
            let directory = self.expand(step["working-directory"].as_str().unwrap_or("."));
            let path: String = self.lines("path").iter().map(|path| format!("PATH={path}:$PATH\n")).collect();
            let output = self.place.bash(&format!("{path}cd \"{directory}\"\n{script}"), &variables, true);
            outcome.steps.push(step["name"].as_str().unwrap().to_owned());
            outcome.log += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
            outcome.succeeded &= output.status.success();
            for line in self.lines("output") {
                let (name, value) = line.split_once('=').unwrap();
                let name = format!("steps.{}.outputs.{name}", step["id"].as_str().unwrap());
                self.contexts.insert(name, value.to_owned());
            }
            let _ = fs::remove_file(self.place.path("output"));
        }
        outcome.results = self.contexts.get("steps.check.outputs.results").cloned();
        assert_eq!(self.action["outputs"]["results"]["value"], "${{ steps.check.outputs.results }}");
        outcome
    }

    /// The lines of a file that steps may have written.
    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.place.path(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The value of a name, empty if there is none.
    fn value(&self, name: &str) -> &str {
        self.contexts.get(name).map_or("", String::as_str)
    }

    /// A text with the value of each `${{ name }}`.
    fn expand(&self, text: &str) -> String {
        let mut parts = text.split("${{");
        let mut expanded = parts.next().unwrap().to_owned();
        for part in parts {
            let (name, rest) = part.split_once("}}").unwrap();
            expanded += self.value(name.trim());
            expanded += rest;
        }
        expanded
    }

    /// Whether a step with this `if` is run. Without `always()`, only after steps that have succeeded.
    fn is_due(&self, condition: &str, has_succeeded: bool) -> bool {
        let holds = |term: &str| match term.split_once(" == ") {
            Some((name, text)) => self.value(name) == text.trim_matches('\''),
            None => term.is_empty() || term == "always()" || !self.value(term).is_empty(),
        };
        (has_succeeded || condition.contains("always()")) && condition.split(" && ").all(holds)
    }
}
