//! Finds parts of a document that are legal but probably not intended.

use std::ops::Range;

use crate::model::lint::{Place, Platform, RuleFacts, TaskFacts, lint};
use crate::model::problem::Problem;
use crate::model::task::{ProcessingContainer, ResourcesSpec, RuleSpec, TaskSpec, TaskTemplate, TemplateRef};

use super::{Document, Source};

impl Document<TaskSpec> {
    /// Finds what is legal but probably not intended, without knowing inputs; the spans point into the source.
    pub fn lint(&self, platform: Platform) -> Vec<Problem> {
        let spec = &self.content;
        let rules = spec.inputs.iter().filter_map(|volume| Some((&*volume.name.value, volume.scale_rule.as_ref()?)));
        let mut problems = found(&self.source, rules.collect(), spec.resources.as_ref(), platform);
        match &spec.template {
            TemplateRef::Inline(template) => problems.extend(of_template(&self.source, template, platform)),
            TemplateRef::Named(_) => {}
        }
        problems
    }
}

impl Document<ProcessingContainer> {
    /// Finds what is legal but probably not intended, without knowing inputs; the spans point into the source.
    pub fn lint(&self, platform: Platform) -> Vec<Problem> {
        let templates = self.content.templates.iter();
        templates.flat_map(|template| of_template(&self.source, template, platform)).collect()
    }
}

fn of_template(source: &Source, template: &TaskTemplate, platform: Platform) -> Vec<Problem> {
    let rules = template.inputs.iter().filter_map(|mount| Some((&*mount.name.value, mount.scale_rule.as_ref()?)));
    found(source, rules.collect(), template.resources.as_ref(), platform)
}

fn found(
    source: &Source,
    rules: Vec<(&str, &RuleSpec)>,
    resources: Option<&ResourcesSpec>,
    platform: Platform,
) -> Vec<Problem> {
    let facts: Vec<RuleFacts<'_>> =
        rules.iter().map(|(channel, spec)| RuleFacts { channel, rule: &spec.rule, inputs: &[] }).collect();
    let task = TaskFacts {
        rules: &facts,
        limit: resources.and_then(|spec| spec.resources.limits.get("memory")),
        request: resources.and_then(|spec| spec.resources.requests.get("memory")),
        platform,
    };
    let place = |place: Place| -> Option<Range<usize>> {
        match place {
            Place::Rule(index, field) => rules.get(index).map(|(_, spec)| spec.places.span(field)),
            Place::Limit => resources?.limit.clone(),
            Place::Request => resources?.request.clone(),
        }
    };
    let findings = lint(&task).into_iter();
    findings
        .map(|finding| match place(finding.place) {
            Some(place) => source.within(&place, finding.problem),
            None => Problem { span: None, ..finding.problem },
        })
        .collect()
}
