//! The rule that a task had when it ran, and the scores of rules on its runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::comparison::Thresholds;
use crate::model::fit::Censoring;
use crate::model::observation::Observation;
use crate::model::prediction::{ChannelPrediction, Decider, RulePrediction};
use crate::model::rule::RuleType;
use crate::model::units::Bytes;
use crate::report::model::{Point, RuleInUse, Run, Score};

use super::JudgedRule;

/// The score of a rule on the runs that can show it.
#[derive(Debug, Default)]
pub(super) struct Scores {
    score: Score,
    sum: f64,
}

impl Scores {
    pub(super) fn add(&mut self, run: &Run, given: Option<Bytes>) {
        let (Some(given), Some(peak)) = (given, run.peak) else { return };
        let too_low = match run.censoring {
            Censoring::None if run.is_plain() => given < peak,
            Censoring::OomKilled if given <= peak => true,
            Censoring::LowerBound if given < peak => true,
            Censoring::None | Censoring::OomKilled | Censoring::LimitReached | Censoring::LowerBound => return,
        };
        // A peak of 0 says nothing about how well a limit fits.
        let Some(ratio) = given.ratio(peak) else { return };
        let score = &mut self.score;
        let smallest = if score.runs == 0 { f64::INFINITY } else { score.smallest_ratio };
        score.runs += 1;
        score.too_low += usize::from(too_low);
        score.smallest_ratio = smallest.min(ratio);
        score.largest_ratio = score.largest_ratio.max(ratio);
        self.sum += ratio;
    }

    pub(super) fn finish(self) -> Score {
        if self.score.runs == 0 {
            return Score::default();
        }
        Score { mean_ratio: self.sum / self.score.runs as f64, ..self.score }
    }
}

/// The rule of the task: the one to judge, or those that it had when it ran.
#[derive(Debug, Default)]
pub(super) struct InUse {
    /// The rule to judge.
    judged: Option<JudgedRule>,
    /// Whether the rules that the task had are of no interest.
    ignores_recorded: bool,
    scores: Scores,
    /// Whether a run's prediction sets no limit.
    is_unlimited: bool,
    floor: Option<Bytes>,
    rules: Vec<(String, RulePrediction)>,
    /// The channels that n covered in every run; `None` before the first prediction.
    counted: Option<BTreeSet<String>>,
    /// The limits that inputs got, by size.
    given: BTreeMap<Bytes, Bytes>,
    /// Whether inputs of the same size got different limits.
    differs: bool,
}

impl InUse {
    pub(super) fn new(judged: Option<JudgedRule>, is_unjudged: bool) -> Self {
        Self { ignores_recorded: is_unjudged || judged.is_some(), judged, ..Self::default() }
    }

    pub(super) fn add(&mut self, observation: &Observation, run: &Run) {
        self.scores.add(run, run.predicted);
        if let Some((n, bytes)) = run.n.zip(run.predicted) {
            self.differs |= self.given.insert(n, bytes).is_some_and(|before| before != bytes);
        }
        let Some(prediction) = observation.prediction.as_ref().filter(|_| !self.ignores_recorded) else { return };
        let counts_n = |channel: &&ChannelPrediction| {
            channel.rule.as_ref().is_some_and(|rule| rule.n.is_some() && rule.n == run.n)
        };
        let counting = || prediction.channels.iter().filter(counts_n).map(|channel| &channel.name);
        match &mut self.counted {
            Some(counted) => counted.retain(|name| counting().any(|other| other == name)),
            None => self.counted = Some(counting().cloned().collect()),
        }
        let Some(limit) = &prediction.docker.limit else {
            self.is_unlimited = true;
            return;
        };
        if limit.decided_by == Decider::Resources {
            self.floor = self.floor.max(Some(limit.bytes));
        }
        for channel in &prediction.channels {
            let Some(rule) = &channel.rule else { continue };
            let is_known =
                |(name, old): &(String, RulePrediction)| *name == channel.name && old.scale_rule == rule.scale_rule;
            if rule.scale_rule.applies_to == RuleType::Limit && !self.rules.iter().any(is_known) {
                self.rules.push((channel.name.clone(), rule.clone()));
            }
        }
    }

    pub(super) fn finish(self) -> Option<RuleInUse> {
        let Self { judged, floor, rules, given, .. } = self;
        if let Some(judged) = judged {
            return Some(RuleInUse {
                words: judged.words,
                curve: curve(given, |n| Some(judged.rule.limit(n))),
                thresholds: Thresholds::default(),
                score: self.scores.finish(),
            });
        }
        if self.is_unlimited || (floor.is_none() && rules.is_empty()) {
            return None;
        }
        let formula = match rules.as_slice() {
            [(channel, rule)] if self.counted.is_none_or(|counted| counted.contains(channel)) => {
                Some(&rule.scale_rule.formula)
            }
            _ => None,
        };
        let value = |n: Bytes| Some(formula?.evaluate(n).ok()?.max(floor.unwrap_or_default()));
        let is_one = !self.differs && given.iter().all(|(n, bytes)| value(*n) == Some(*bytes));
        let changed = if formula.is_some() && !is_one { ", changed between runs" } else { "" };
        Some(RuleInUse {
            words: in_words(floor, &rules) + changed,
            curve: curve(given, |n| value(n).filter(|_| is_one)),
            thresholds: Thresholds::default(),
            score: self.scores.finish(),
        })
    }
}

fn in_words(floor: Option<Bytes>, rules: &[(String, RulePrediction)]) -> String {
    let one = rules.len() == 1;
    let of = |name: &String| if one { String::new() } else { format!(" of {name}") };
    let mut parts: Vec<String> = floor.iter().map(Bytes::to_string).collect();
    parts.extend(rules.iter().map(|(name, rule)| rule.scale_rule.formula.expression() + &of(name)));
    match parts.as_slice() {
        [only] => only.clone(),
        several => format!("max({})", several.join(", ")),
    }
}

/// The rule itself if it can be evaluated for other sizes, else the limits of the runs, by size.
fn curve(given: BTreeMap<Bytes, Bytes>, value: impl Fn(Bytes) -> Option<Bytes>) -> Vec<Point> {
    let (Some((&smallest, _)), Some((&largest, _))) = (given.first_key_value(), given.last_key_value()) else {
        return Vec::new();
    };
    let steps = 64;
    let between = (0..=steps).map(|step| {
        let along = u128::from(largest.0 - smallest.0) * step / steps;
        Bytes(smallest.0 + along as u64)
    });
    let computed: Vec<Point> = between.filter_map(|n| Some(Point { n, bytes: value(n)? })).collect();
    if computed.len() > 1 { computed } else { given.into_iter().map(|(n, bytes)| Point { n, bytes }).collect() }
}
