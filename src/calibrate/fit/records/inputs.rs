//! The inputs of the runs of a task: the sizes by every measure, stored once for each distinct input.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::fit::{Measure, MeasureFilter};
use crate::model::observation::Observation;
use crate::model::prediction::{ChannelPrediction, RulePrediction, Sizes};
use crate::model::rule::{Mode, ScaleRule};
use crate::model::task::ChannelKind;
use crate::model::units::Bytes;

/// The most extensions whose files are measured separately.
const MOST_EXTENSIONS: usize = 6;
/// Files with less than this share of the bytes of the inputs do not make up n.
const LEAST_SHARE: f64 = 0.01;
const MODES: [Mode; 3] = [Mode::Sum, Mode::MaxFileSize, Mode::MaxItemSum];

/// The inputs of a task's runs.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// The kinds of sizes known of an input; most runs of a task share one shape.
    shapes: Vec<Vec<Slot>>,
    by_name: HashMap<String, u32>,
    /// The sizes of all inputs in one vector: for each slot of its shape a size by each mode.
    sizes: Vec<[Bytes; 3]>,
    /// The index of the sizes of an input by their hash: repeated runs share them.
    known: HashMap<u64, u32>,
}

/// The input of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Input {
    shape: u32,
    /// The index of its first sizes in [`Inputs::sizes`].
    first: u32,
}

/// An item whose sizes are known.
#[derive(Clone, Debug, PartialEq)]
enum Slot {
    /// All files of a channel. `by_extension` says whether the extensions of its files are known.
    Channel { channel: String, by_extension: bool },
    /// The files of a channel with one extension.
    Extension { channel: String, extension: String },
    /// The files that the rule of a channel counts. `is_known` says whether the channel could be read.
    Rule { channel: String, rule: ScaleRule, is_known: bool },
}

/// The location of the size by a measure, for each shape of an input.
pub(super) type Sources = Vec<Option<Source>>;

#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Slot {
        index: usize,
        mode: usize,
    },
    /// No file matches the measure.
    Nothing,
}

impl Inputs {
    /// The input of a run.
    pub(super) fn add(&mut self, observation: &Observation) -> Input {
        let (slots, sizes) = slots(observation);
        let shape = self.shape(slots);
        let mut hasher = DefaultHasher::new();
        (shape, &sizes).hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(first) = self.known.get(&hash).copied()
            && self.sizes.get(first as usize..first as usize + sizes.len()) == Some(&sizes)
        {
            return Input { shape, first };
        }
        let first = self.sizes.len() as u32;
        self.sizes.extend(sizes);
        self.known.insert(hash, first);
        Input { shape, first }
    }

    fn shape(&mut self, slots: Vec<Slot>) -> u32 {
        // There are usually few.
        if let Some(shape) = self.shapes.iter().take(8).position(|known| *known == slots) {
            return shape as u32;
        }
        *self.by_name.entry(format!("{slots:?}")).or_insert_with(|| {
            self.shapes.push(slots);
            self.shapes.len() as u32 - 1
        })
    }

    /// The measures that give every run a size, preferred ones first, with the locations of these sizes.
    ///
    /// Without those of so few bytes that they cannot be what the memory follows, unless there are no others.
    pub(super) fn measures(
        &self,
        inputs: impl Iterator<Item = Input> + Clone,
        filter: &MeasureFilter,
    ) -> Vec<(Measure, Sources)> {
        let all_bytes: f64 = inputs.clone().map(|input| self.all_bytes(input)).sum();
        let least = if filter.chooses_files() { 0.0 } else { LEAST_SHARE * all_bytes };
        let kept = self.measures_of(inputs.clone(), filter, least);
        if kept.is_empty() { self.measures_of(inputs, filter, 0.0) } else { kept }
    }

    fn measures_of(
        &self,
        inputs: impl Iterator<Item = Input> + Clone,
        filter: &MeasureFilter,
        least: f64,
    ) -> Vec<(Measure, Sources)> {
        let mut kept: Vec<(Measure, Sources)> = Vec::new();
        for measure in self.candidates(inputs.clone()).into_iter().filter(|measure| filter.matches(measure)) {
            let sources: Sources = self.shapes.iter().map(|slots| source(slots, &measure)).collect();
            let bytes: f64 = inputs.clone().map(|input| self.sum(input, &sources).0 as f64).sum();
            // Skip a measure that gives the same sizes as an earlier one, such as the largest of single files.
            let differs =
                |known: &Sources| inputs.clone().any(|input| self.value(input, known) != self.value(input, &sources));
            let is_known = sources.iter().all(Option::is_some);
            if is_known && bytes >= least && kept.iter().all(|(_, known)| differs(known)) {
                kept.push((measure, sources));
            }
        }
        kept
    }

    /// The size of an input by a measure.
    pub(super) fn value(&self, input: Input, sources: &Sources) -> Bytes {
        match sources.get(input.shape as usize) {
            Some(Some(Source::Slot { index, mode })) => self.sizes[input.first as usize + index][*mode],
            Some(Some(Source::Nothing) | None) | None => Bytes::ZERO,
        }
    }

    /// The bytes of all files that a measure counts.
    fn sum(&self, input: Input, sources: &Sources) -> Bytes {
        match sources.get(input.shape as usize) {
            Some(Some(Source::Slot { index, mode })) => {
                let sizes = self.sizes[input.first as usize + index];
                // The target_dir of a rule is in each item if it counts items, otherwise in the channel.
                sizes[0].max(sizes[*mode])
            }
            Some(Some(Source::Nothing) | None) | None => Bytes::ZERO,
        }
    }

    /// The bytes of all channels of an input.
    pub(super) fn all_bytes(&self, input: Input) -> f64 {
        let slots = self.shapes[input.shape as usize].iter().enumerate();
        let channels = slots.filter(|(_, slot)| matches!(slot, Slot::Channel { .. }));
        channels.map(|(index, _)| self.sizes[input.first as usize + index][0].0 as f64).sum()
    }

    fn candidates(&self, inputs: impl Iterator<Item = Input> + Clone) -> Vec<Measure> {
        let slots = || self.shapes.iter().flatten();
        let mut names: Vec<&str> = Vec::new();
        for slot in slots() {
            if let Slot::Channel { channel, .. } = slot
                && !names.contains(&channel.as_str())
            {
                names.push(channel);
            }
        }
        let rules = |name: &str| {
            let of_channel = slots().filter_map(move |slot| match slot {
                Slot::Rule { channel, rule, .. } if channel == name => Some(rule),
                Slot::Rule { .. } | Slot::Channel { .. } | Slot::Extension { .. } => None,
            });
            of_channel.collect::<Vec<&ScaleRule>>()
        };
        let mut candidates: Vec<Measure> = Vec::new();
        let mut consider = |measure: Measure| {
            if !candidates.contains(&measure) {
                candidates.push(measure);
            }
        };
        // What the current rule counts comes first: it stays unless another measure is better.
        for name in &names {
            rules(name).into_iter().for_each(|rule| consider(Measure::counted_by(rule, *name, rule.mode)));
        }
        for name in &names {
            MODES.into_iter().for_each(|mode| consider(Measure::all(*name, mode)));
        }
        for name in &names {
            for rule in rules(name) {
                MODES.into_iter().for_each(|mode| consider(Measure::counted_by(rule, *name, mode)));
            }
            for extension in self.extensions(inputs.clone(), name) {
                let glob = Some(format!("*.{extension}"));
                let of = |mode| Measure { target_glob: glob.clone(), ..Measure::all(*name, mode) };
                MODES.into_iter().for_each(|mode| consider(of(mode)));
            }
        }
        candidates
    }

    /// The extensions with the most bytes.
    fn extensions(&self, inputs: impl Iterator<Item = Input>, name: &str) -> Vec<String> {
        let of_shape = |slots: &Vec<Slot>| -> Vec<(usize, String)> {
            let named = slots.iter().enumerate().filter_map(|(index, slot)| match slot {
                Slot::Extension { channel, extension } if channel == name => Some((index, extension.clone())),
                Slot::Extension { .. } | Slot::Channel { .. } | Slot::Rule { .. } => None,
            });
            named.collect()
        };
        let of_shapes: Vec<Vec<(usize, String)>> = self.shapes.iter().map(of_shape).collect();
        let mut bytes: BTreeMap<&str, Bytes> = BTreeMap::new();
        for input in inputs {
            for (index, extension) in &of_shapes[input.shape as usize] {
                let sum = bytes.entry(extension).or_default();
                *sum = sum.saturating_add(self.sizes[input.first as usize + index][0]);
            }
        }
        let mut most: Vec<(&str, Bytes)> = bytes.into_iter().filter(|(name, _)| is_plain(name)).collect();
        most.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        most.into_iter().take(MOST_EXTENSIONS).map(|(extension, _)| extension.to_owned()).collect()
    }
}

/// The kinds of sizes known of the input of a run, and these sizes.
fn slots(observation: &Observation) -> (Vec<Slot>, Vec<[Bytes; 3]>) {
    let mut slots = Vec::new();
    let by_mode = |sizes: &Sizes| MODES.map(|mode| sizes.n(mode));
    for input in &observation.inputs {
        let channel = &input.channel;
        let by_extension = !input.by_extension.is_empty() || input.all.files == 0;
        slots.push((Slot::Channel { channel: channel.clone(), by_extension }, by_mode(&input.all)));
        for (extension, sizes) in &input.by_extension {
            let (channel, extension) = (channel.clone(), extension.clone());
            slots.push((Slot::Extension { channel, extension }, by_mode(sizes)));
        }
    }
    if observation.inputs.is_empty() {
        for (channel, sizes) in super::channels(observation) {
            slots.push((Slot::Channel { channel: channel.to_owned(), by_extension: false }, by_mode(sizes)));
        }
    }
    let mut ruled: Vec<&str> = Vec::new();
    for (channel, rule) in rules(observation) {
        // Of channels with the same name the first counts.
        if !ruled.contains(&channel.name.as_str()) {
            ruled.push(&channel.name);
            if let Some(rule) = rule {
                let (channel, is_known) = (channel.name.clone(), rule.selected.is_some());
                let sizes = rule.selected.as_ref().map(by_mode).unwrap_or_default();
                slots.push((Slot::Rule { channel, rule: rule.scale_rule.clone(), is_known }, sizes));
            }
        }
    }
    slots.into_iter().unzip()
}

fn rules(observation: &Observation) -> impl Iterator<Item = (&ChannelPrediction, Option<&RulePrediction>)> {
    let channels = super::predicted(observation).filter(|channel| channel.kind == ChannelKind::Input);
    channels.map(|channel| (channel, channel.rule.as_ref()))
}

/// The location of the size by a measure in inputs of a shape; `None` if it is not known.
fn source(slots: &[Slot], measure: &Measure) -> Option<Source> {
    let name = measure.channel.as_deref()?;
    let mode = MODES.iter().position(|mode| *mode == measure.mode)?;
    let find = |is: &dyn Fn(&Slot) -> bool| slots.iter().position(is).map(|index| Source::Slot { index, mode });
    if !measure.is_narrowed() {
        return find(&|slot| matches!(slot, Slot::Channel { channel, .. } if channel == name));
    }
    let counts = |slot: &Slot| match slot {
        Slot::Rule { channel, rule, is_known: true } => {
            channel == name && Measure::counted_by(rule, name, measure.mode) == *measure
        }
        Slot::Rule { .. } | Slot::Channel { .. } | Slot::Extension { .. } => false,
    };
    find(&counts).or_else(|| {
        let wanted = extension(measure)?;
        let with = find(
            &|slot| matches!(slot, Slot::Extension { channel, extension } if channel == name && extension == wanted),
        );
        with.or_else(|| {
            let is_told =
                |slot: &Slot| matches!(slot, Slot::Channel { channel, by_extension: true } if channel == name);
            slots.iter().any(is_told).then_some(Source::Nothing)
        })
    })
}

/// Whether a pattern of these characters matches only itself.
fn is_plain(extension: &str) -> bool {
    !extension.is_empty() && !extension.contains(['*', '?', '[', ']', '/', '\\'])
}

/// The extension that a measure is limited to, if it has no other filter.
fn extension(measure: &Measure) -> Option<&str> {
    let alone = measure.target_dir.is_none() && measure.target_regex.is_none();
    measure.target_glob.as_deref().filter(|_| alone)?.strip_prefix("*.").filter(|extension| is_plain(extension))
}
