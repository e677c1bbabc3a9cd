//! When and how the runs of a task were made, and of which inputs.

use std::collections::BTreeMap;

use crate::model::observation::Observation;
use crate::model::timestamp::Timestamp;
use crate::report::model::{ChannelInputs, Provenance};
use crate::report::words::shell;

/// Collects it run by run, in constant memory.
#[derive(Debug, Default)]
pub(super) struct Origin {
    started_at: Option<(Timestamp, Timestamp)>,
    command: Option<CommandPattern>,
    inputs: Vec<(ChannelInputs, Option<Pattern>)>,
    is_task: bool,
}

impl Origin {
    pub(super) fn add(&mut self, observation: &Observation) {
        let now = observation.started_at;
        let (first, last) = self.started_at.unwrap_or((now, now));
        self.started_at = Some((first.min(now), last.max(now)));
        self.is_task |= observation.prediction.is_some();
        let parameters = observation.sweep.as_ref().map(|sweep| &sweep.parameters);
        let words = &observation.subject.command;
        match &mut self.command {
            None => self.command = Some(CommandPattern::new(words, parameters)),
            Some(command) => command.add(words, parameters),
        }
        for input in &observation.inputs {
            let path = observation.prediction.iter().flat_map(|prediction| &prediction.channels);
            let path =
                path.filter(|channel| channel.name == input.channel).find_map(|channel| channel.host_path.as_ref());
            let (files, sum) = (input.all.files, input.all.sum);
            if let Some((known, pattern)) = self.inputs.iter_mut().find(|(known, _)| known.channel == input.channel) {
                known.fewest_files = known.fewest_files.min(files);
                known.most_files = known.most_files.max(files);
                known.smallest = known.smallest.min(sum);
                known.largest = known.largest.max(sum);
                if let (Some(pattern), Some(path)) = (pattern, path) {
                    pattern.add(path);
                }
                continue;
            }
            let inputs = ChannelInputs {
                channel: input.channel.clone(),
                path: None,
                fewest_files: files,
                most_files: files,
                smallest: sum,
                largest: sum,
            };
            self.inputs.push((inputs, path.map(|path| Pattern::new(path))));
        }
    }

    pub(super) fn finish(self) -> Provenance {
        let inputs = self.inputs.into_iter();
        let inputs = inputs.map(|(inputs, path)| ChannelInputs { path: path.map(|path| path.to_string()), ..inputs });
        Provenance {
            first_started_at: self.started_at.map(|(first, _)| first),
            last_started_at: self.started_at.map(|(_, last)| last),
            command: self.command.and_then(CommandPattern::finish),
            inputs: inputs.collect(),
            is_task: self.is_task,
        }
    }
}

/// A command whose words may differ between runs.
#[derive(Debug)]
struct CommandPattern {
    words: Vec<(Pattern, Vec<String>)>,
    /// Whether commands have different numbers of words: then only the common first ones are kept.
    is_cut: bool,
}

impl CommandPattern {
    fn new(words: &[String], parameters: Option<&BTreeMap<String, String>>) -> Self {
        let words = words.iter().map(|word| (Pattern::new(word), named(word, parameters)));
        Self { words: words.collect(), is_cut: false }
    }

    fn add(&mut self, words: &[String], parameters: Option<&BTreeMap<String, String>>) {
        self.is_cut |= self.words.len() != words.len();
        self.words.truncate(words.len());
        for ((pattern, names), word) in self.words.iter_mut().zip(words) {
            pattern.add(word);
            if !names.is_empty() {
                let now = named(word, parameters);
                names.retain(|name| now.contains(name));
            }
        }
    }

    fn finish(self) -> Option<String> {
        if self.words.is_empty() {
            return None;
        }
        let word = |(pattern, names): &(Pattern, Vec<String>)| match (pattern.differs, names.first()) {
            (true, Some(name)) => format!("{{{name}}}"),
            (true, None) => pattern.to_string(),
            (false, _) => shell(&pattern.start),
        };
        let mut words: Vec<String> = self.words.iter().map(word).collect();
        words.extend(self.is_cut.then(|| "…".to_owned()));
        Some(words.join(" "))
    }
}

/// The parameters with this value.
fn named(word: &str, parameters: Option<&BTreeMap<String, String>>) -> Vec<String> {
    let same = parameters.into_iter().flatten().filter(|(_, value)| *value == word);
    same.map(|(name, _)| name.clone()).collect()
}

/// What several texts have in common: their start and their end.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    start: String,
    end: String,
    differs: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self { start: text.to_owned(), end: text.to_owned(), differs: false }
    }

    fn add(&mut self, text: &str) {
        if !self.differs && self.start == text {
            return;
        }
        let common = self.start.chars().zip(text.chars()).take_while(|(a, b)| a == b);
        let length: usize = common.map(|(char, _)| char.len_utf8()).sum();
        self.start.truncate(length);
        // The end must not overlap the start, neither in this text nor in an earlier one.
        let rest = &text[length..];
        let earlier = if self.differs { &self.end } else { &self.end[length..] };
        self.differs = true;
        let common = earlier.chars().rev().zip(rest.chars().rev()).take_while(|(a, b)| a == b);
        let length: usize = common.map(|(char, _)| char.len_utf8()).sum();
        self.end = earlier[earlier.len() - length..].to_owned();
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.differs { write!(f, "{}…{}", self.start, self.end) } else { f.write_str(&self.start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(texts: &[&str]) -> String {
        let mut pattern = Pattern::new(texts[0]);
        texts[1..].iter().for_each(|text| pattern.add(text));
        pattern.to_string()
    }

    #[test]
    fn a_pattern_has_what_all_texts_begin_and_end_with() {
        assert_eq!(pattern(&["/data/2 MiB", "/data/2 MiB"]), "/data/2 MiB");
        assert_eq!(pattern(&["/data/2 MiB", "/data/128 MiB", "/data/6 MiB"]), "/data/… MiB");
        assert_eq!(pattern(&["aa", "aaa"]), "aa…");
        assert_eq!(pattern(&["aXa", "aYa", "aa", "a"]), "a…");
        assert_eq!(pattern(&["größe", "grüße"]), "gr…ße");
        assert_eq!(pattern(&["ä", "ö"]), "…");
    }

    #[test]
    fn a_parameter_is_named_and_what_differs_otherwise_is_cut() {
        let command = |threads: &str, input: &str| ["pigz", "-p", threads, "a b", input].map(str::to_owned).to_vec();
        let parameters = |threads: &str| BTreeMap::from([("THREADS".to_owned(), threads.to_owned())]);
        let mut pattern = CommandPattern::new(&command("1", "in/1 MiB"), Some(&parameters("1")));
        pattern.add(&command("2", "in/4 MiB"), Some(&parameters("2")));
        assert_eq!(pattern.finish().unwrap(), "pigz -p {THREADS} 'a b' in/… MiB");
        let mut pattern = CommandPattern::new(&command("1", "in"), None);
        pattern.add(&["pigz".to_owned()], None);
        assert_eq!(pattern.finish().unwrap(), "pigz …");
    }
}
