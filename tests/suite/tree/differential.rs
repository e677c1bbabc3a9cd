//! `fixtures/tasks`: what the predecessor answered to pairs of a processing container and a task, and to each document.
//!
//! Every difference is of a kind in `explained.tsv`, and each kind occurs as often as it says there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use highwater::calibrate::predict::predict;
use highwater::calibrate::resolve::{LookupError, ProcessingContainers, resolve};
use highwater::model::document::{Document, Source, Undefined, Variables};
use highwater::model::prediction::{Demand, KubernetesAmount, Prediction, kubernetes};
use highwater::model::task::{Amounts, ChannelKind, ProcessingContainer, Task, TaskSpec};
use highwater::tree::Options;
use serde_json::{Value, json};

use super::conformance::entries;
use super::planted::rows;
use crate::tasks::{self, run};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tasks/differential");

/// The recorded versions, each with the fields of the other dialect.
const VERSIONS: [(&str, [&str; 2]); 3] = [
    ("2025-10-30", ["\"scale_factor\"", "\"volume_source\""]),
    ("2025-11-10", ["\"scale_factor\"", "\"input\""]),
    ("2025-12-18", ["\"complexity\"", "\"input\""]),
];

/// A kind of difference, a line of the table.
struct Explained {
    aspect: &'static str,
    /// Texts of which one is in the documents, the predecessor's answer or what is said about both.
    about: Vec<&'static str>,
    count: usize,
    why: &'static str,
}

fn explained() -> Vec<Explained> {
    let table = fs::read_to_string(Path::new(FOLDER).join("explained.tsv")).unwrap().leak();
    let kinds = rows(table).map(|row| match row.as_slice() {
        [aspect, about, count, why] => {
            Explained { aspect, about: about.split(" || ").collect(), count: count.parse().unwrap(), why }
        }
        other => panic!("a kind has four columns: {other:?}"),
    });
    kinds.collect()
}

/// The documents of a pair, built from the rows of the menus.
struct Menus(Value);

impl Menus {
    fn read() -> Self {
        let text = fs::read_to_string(Path::new(FOLDER).join("menus.json")).unwrap();
        Self(serde_json::from_str(&text).unwrap())
    }

    /// The container and the task as text, with `@` before the name of a tree.
    fn build(&self, choices: &str) -> [String; 2] {
        let mut digits = choices.chars().map(|digit| digit.to_digit(36).unwrap() as usize);
        let [container, mut task] = ["container", "task"].map(|document| {
            let mut built = json!({});
            for row in self.0[document].as_array().unwrap() {
                let [pointer, good, bad] = row.as_array().unwrap().as_slice() else { panic!("{row}") };
                let (good, bad) = (good.as_array().unwrap(), bad.as_array().unwrap());
                let part = good.iter().chain(bad).nth(digits.next().unwrap()).unwrap();
                let object = built.pointer_mut(pointer.as_str().unwrap().trim_end_matches("/+"));
                if let Some(Value::Object(object)) = object {
                    object.extend(part.as_object().unwrap().clone());
                }
            }
            built
        });
        if task["taskTemplate"] == "$template" {
            task["taskTemplate"] = container["templates"][0].clone();
        }
        let tree = self.0["tree"][digits.next().unwrap()].as_str().unwrap();
        [container.to_string(), task.to_string().replace("\"@\"", &format!("\"@{tree}\""))]
    }
}

struct Only(Document<ProcessingContainer>);

impl ProcessingContainers for Only {
    fn of_image(&self, _: &str) -> Result<Document<ProcessingContainer>, LookupError> {
        Ok(self.0.clone())
    }
}

/// The answers of both by aspect; `null` where a document was refused.
type Answers = BTreeMap<&'static str, Value>;

fn ours(container: &str, task: &str) -> Answers {
    let mut variables = Variables::default();
    variables.undefined = Undefined::Empty;
    let source = |text: &str| Source::render("a file", text, &variables).unwrap();
    let container = Document::processing_container(source(container));
    let task = Document::task(source(task));
    let mut answers = BTreeMap::from([("container", container.is_ok().into()), ("task", task.is_ok().into())]);
    if let (Ok(container), Ok(task)) = (container, task) {
        merged(container, &task, &mut answers);
    }
    answers
}

fn merged(container: Document<ProcessingContainer>, task: &Document<TaskSpec>, answers: &mut Answers) {
    let task = match resolve(task, &Only(container), Path::new("/")) {
        Ok(resolution) => resolution.task,
        Err(error) => return drop(answers.insert("merge", error.to_string().into())),
    };
    let prediction = predict(&task, &Options::default()).unwrap();
    let env: Vec<String> = task.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let amounts = |amounts: &Amounts| -> Value {
        amounts.iter().map(|(name, quantity)| (name.to_owned(), Value::from(quantity.to_string()))).collect()
    };
    let pod = |limit: Option<KubernetesAmount>, request: Option<KubernetesAmount>| {
        json!([limit.map(|amount| amount.written), request.map(|amount| amount.written)])
    };
    let declared = |amounts: &Amounts| kubernetes(&Demand { base: amounts.memory(), rules: Vec::new() });
    let (limit, request) = (declared(&task.resources.limits), declared(&task.resources.requests));
    answers.extend([
        ("merge", Value::Null),
        ("env", env.into()),
        ("command", task.command.clone().into()),
        ("limits", amounts(&task.resources.limits)),
        ("requests", amounts(&task.resources.requests)),
        ("pod", pod(prediction.kubernetes.limit.clone(), prediction.kubernetes.request.clone())),
        ("pod without rules", pod(limit, request)),
    ]);
    answers.extend(channels(&task, &prediction));
}

fn channels(task: &Task, prediction: &Prediction) -> Answers {
    let (mut channels, mut sizes, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (channel, predicted) in task.channels.iter().zip(&prediction.channels) {
        let directory = channel.host_path.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        let kind = if channel.kind == ChannelKind::Input { "in" } else { "out" };
        channels.push(json!([kind, channel.name, channel.mounted_path, directory]));
        let rule = predicted.rule.as_ref().filter(|_| channel.kind == ChannelKind::Input);
        sizes.push(json!(rule.map(|rule| rule.n)));
        values.push(json!(rule.map(|rule| rule.value)));
    }
    BTreeMap::from([("channels", channels.into()), ("n", sizes.into()), ("value", values.into())])
}

/// The predecessor's answer in the same form.
fn recorded(answer: &Value) -> Answers {
    let refused = |document: &str| answer.as_str().is_some_and(|text| text.split(' ').any(|word| word == document));
    let mut answers =
        BTreeMap::from([("container", (!refused("container")).into()), ("task", (!refused("task")).into())]);
    match answer {
        Value::String(crash) if crash.starts_with('!') => drop(answers.insert("merge", answer.clone())),
        Value::String(_) => {}
        answer => {
            let channels = answer["channels"].as_array().unwrap();
            let column = |index: usize| channels.iter().map(|channel| channel[index].clone()).collect::<Value>();
            let amounts = |part: &str| -> Value {
                let amounts = answer["resources"][part].as_object().cloned().unwrap_or_default();
                let text = |value: Value| value.as_str().map_or(value.to_string(), str::to_owned);
                amounts.into_iter().map(|(name, value)| (name, Value::from(text(value)))).collect()
            };
            answers.extend([
                ("merge", Value::Null),
                ("env", answer["env"].clone()),
                // An empty command is that of the image.
                ("command", Some(&answer["command"]).filter(|words| **words != json!([])).cloned().into()),
                ("limits", amounts("limits")),
                ("requests", amounts("requests")),
                ("pod", answer["pod"].clone()),
                ("channels", channels.iter().map(|channel| json!(channel.as_array().unwrap()[..4])).collect()),
                ("n", column(4)),
                ("value", column(5)),
            ]);
        }
    }
    answers
}

#[test]
fn every_difference_to_the_predecessor_is_explained() {
    let (menus, kinds) = (Menus::read(), explained());
    // Each tree is at a directory of its own name, by which the answers have it.
    let root = tempfile::tempdir().unwrap();
    for (tree, entry) in entries() {
        fs::create_dir_all(root.path().join(tree)).unwrap();
        entry.plant(&root.path().join(tree));
    }
    let prefix = format!("\"{}/", root.path().display());
    let (mut pairs, mut unexplained, mut counts) = (0, String::new(), vec![0; kinds.len()]);
    for (version, foreign) in VERSIONS {
        let recording = fs::read_to_string(Path::new(FOLDER).join(version).with_extension("jsonl")).unwrap();
        for line in recording.lines() {
            let (choices, answer): (String, Value) = serde_json::from_str(line).unwrap();
            let documents = menus.build(&choices);
            let [container, task] = documents.each_ref().map(|text| text.replace("\"@", &prefix));
            let (theirs, ours) = (recorded(&answer), ours(&container, &task));
            pairs += 1;
            let mut all = format!("{}{}{answer}", documents[0], documents[1]);
            if foreign.iter().any(|field| all.contains(field)) {
                all.push_str(" other dialect");
            }
            if theirs.get("pod") == ours.get("pod without rules") {
                all.push_str(" without rules");
            }
            for (aspect, theirs) in &theirs {
                let Some(ours) = ours.get(aspect).filter(|ours| *ours != theirs) else { continue };
                let aspect = match ours.as_bool() {
                    Some(true) => format!("{aspect} accepted"),
                    Some(false) => format!("{aspect} refused"),
                    None => (*aspect).to_owned(),
                };
                let is_about =
                    |kind: &Explained| kind.aspect == aspect && kind.about.iter().any(|text| all.contains(text));
                match kinds.iter().position(is_about) {
                    Some(kind) => counts[kind] += 1,
                    None => unexplained.push_str(&format!(
                        "{version} {choices} {aspect}: predecessor {theirs}, highwater {ours}: {all}\n"
                    )),
                }
            }
        }
    }
    assert!(unexplained.is_empty(), "{unexplained}");
    assert_eq!(pairs, 1500);
    let expected: Vec<(&str, usize)> = kinds.iter().map(|kind| (kind.why, kind.count)).collect();
    let found: Vec<(&str, usize)> = kinds.iter().zip(counts).map(|(kind, count)| (kind.why, count)).collect();
    assert_eq!(found, expected);
}

/// The codes of the warnings of `highwater validate`, unless it refuses the document.
fn validated(file: &str) -> Option<String> {
    let shown = run(&tasks::fixtures(), ["validate", "--undefined", "empty", "--format", "json", file], "");
    let answer: Value = serde_json::from_str(&shown.stdout).unwrap();
    let problems = answer[0]["problems"].as_array().unwrap();
    let codes: BTreeSet<&str> = problems.iter().map(|problem| problem["code"].as_str().unwrap()).collect();
    (shown.status == 0).then(|| codes.into_iter().collect::<Vec<_>>().join(" "))
}

#[test]
fn every_document_is_accepted_or_refused_as_by_the_predecessor() {
    let table = include_str!("../../../fixtures/tasks/verdicts.tsv");
    let mut files = BTreeSet::new();
    for row in rows(table) {
        let [file, verdicts @ .., warnings, why] = row.as_slice() else { panic!("{row:?}") };
        assert_eq!(verdicts.len(), VERSIONS.len(), "{row:?}");
        files.insert((*file).to_owned());
        let is_accepted = verdicts.iter().any(|verdict| *verdict != "refused");
        let found = validated(file);
        assert!(found.is_some() == is_accepted || *why != "-", "{file}: {found:?}");
        assert_eq!(found.unwrap_or_default(), warnings.trim_matches('-'), "{file}");
        assert!(*warnings == "-" || *why != "-", "{file}: a warning that may be false");
    }
    for folder in ["good", "bad"] {
        for entry in tasks::fixtures().join(folder).read_dir().unwrap() {
            let file = format!("{folder}/{}", entry.unwrap().file_name().display());
            assert!(files.contains(&file) || file == "bad/growing-string.json", "{file} is not in the table");
        }
    }
}
