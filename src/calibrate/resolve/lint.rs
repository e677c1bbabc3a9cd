//! Checks a task with its inputs for what is legal but probably not intended.

use std::ops::Range;

use crate::model::lint::{Counted, Place, Platform, RuleFacts, TaskFacts, lint};
use crate::model::prediction::{ChannelPrediction, ChannelSize, Prediction};
use crate::model::problem::Problem;
use crate::model::task::{ResourcesSpec, RulePlaces, TaskSpec, TaskTemplate};

use super::Resolution;
use super::note::Origin;

/// The locations of the rules and amounts of a task in the two documents.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// The rules of inputs, by channel.
    rules: Vec<(String, Origin, RulePlaces)>,
    limit: Option<(Origin, Range<usize>)>,
    request: Option<(Origin, Range<usize>)>,
}

impl Places {
    /// `origin` is the document that contains the template.
    pub(super) fn new(spec: &TaskSpec, template: &TaskTemplate, origin: Origin) -> Self {
        let rules = template.inputs.iter().filter_map(|mount| {
            let volume = spec.inputs.iter().find(|volume| volume.name.value == mount.name.value)?;
            let own = volume.scale_rule.as_ref().map(|rule| (Origin::Task, rule));
            let (origin, rule) = own.or(mount.scale_rule.as_ref().map(|rule| (origin, rule)))?;
            Some((mount.name.value.clone(), origin, rule.places.clone()))
        });
        let own = spec.resources.as_ref().map(|resources| (Origin::Task, resources));
        let resources = own.or(template.resources.as_ref().map(|resources| (origin, resources)));
        let place = |of: fn(&ResourcesSpec) -> &Option<Range<usize>>| {
            resources.and_then(|(origin, resources)| Some((origin, of(resources).clone()?)))
        };
        Self {
            rules: rules.collect(),
            limit: place(|resources| &resources.limit),
            request: place(|resources| &resources.request),
        }
    }

    fn find(&self, place: Place, channels: &[&str]) -> Option<(Origin, Range<usize>)> {
        match place {
            Place::Rule(index, field) => {
                let channel = channels.get(index)?;
                let (_, origin, places) = self.rules.iter().find(|(name, _, _)| name == channel)?;
                Some((*origin, places.span(field)))
            }
            Place::Limit => self.limit.clone(),
            Place::Request => self.request.clone(),
        }
    }
}

impl Resolution {
    /// Checks for what is legal but probably not intended, on `platform` and with the inputs of the prediction; the
    /// result is added to [`Self::warnings`].
    pub fn lint(&mut self, prediction: Option<&Prediction>, platform: Platform) {
        let counted: Vec<(&str, Vec<Counted>)> = self
            .task
            .inputs()
            .filter(|channel| channel.rule.is_some())
            .map(|channel| {
                let predicted = prediction.and_then(|all| all.channels.iter().find(|one| one.name == channel.name));
                (channel.name.as_str(), predicted.and_then(counted).into_iter().collect())
            })
            .collect();
        let ruled = self.task.inputs().filter_map(|channel| channel.rule.as_ref());
        let rules: Vec<RuleFacts<'_>> =
            counted.iter().zip(ruled).map(|((channel, inputs), rule)| RuleFacts { channel, rule, inputs }).collect();
        let findings = lint(&TaskFacts {
            rules: &rules,
            limit: self.task.resources.limits.get("memory"),
            request: self.task.resources.requests.get("memory"),
            platform,
        });
        let channels: Vec<&str> = counted.iter().map(|(channel, _)| *channel).collect();
        for finding in findings {
            let place = self.places.find(finding.place, &channels);
            let origin = place.as_ref().map_or(Origin::Task, |(origin, _)| *origin);
            for (_, source, problems) in self.documents.iter_mut().filter(|(known, _, _)| *known == origin) {
                problems.push(match &place {
                    Some((_, span)) => source.within(span, finding.problem.clone()),
                    None => Problem { span: None, ..finding.problem.clone() },
                });
            }
        }
    }
}

fn counted(channel: &ChannelPrediction) -> Option<Counted> {
    let rule = channel.rule.as_ref()?;
    let present = match &channel.size {
        ChannelSize::Known { all, .. } => Some(all.files),
        ChannelSize::Unknown { .. } | ChannelSize::NotSurveyed => None,
    };
    Some(Counted { n: rule.n?, matched: rule.selected.as_ref()?.files, present })
}
