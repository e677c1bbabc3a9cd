//! Merges the task's fields over the template's.

use std::path::{Path, PathBuf};

use crate::model::spelling::nearest;
use crate::model::task::{
    Amounts, Channel, ChannelKind, EnvSetting, Mount, Placed, Resources, Task, TaskSpec, TaskTemplate, TemplateEnv,
    Volume, VolumeSource,
};

use super::note::{Finding, Note, Origin};

/// Merges a task and a template. `origin` is the document that contains the template.
pub(super) fn merge(
    spec: &TaskSpec,
    template: &TaskTemplate,
    origin: Origin,
    base: &Path,
    notes: &mut Vec<Note>,
) -> Task {
    let inputs = channels(ChannelKind::Input, &spec.inputs, &template.inputs, origin, base, notes);
    let outputs = channels(ChannelKind::Output, &spec.outputs, &template.outputs, origin, base, notes);
    Task {
        name: spec.name.clone(),
        image: Some(spec.image.clone()),
        template: Some(template.identifier.value.clone()),
        command: command(spec, template, notes),
        env: env(&spec.env, &template.env, notes),
        working_dir: None,
        channels: inputs.into_iter().chain(outputs).collect(),
        resources: resources(spec, template, notes),
        config: spec.config.clone().unwrap_or_default(),
    }
}

fn of_task(seen: Finding, place: &Placed<impl Sized>) -> Note {
    Note { seen, origin: Origin::Task, span: Some(place.span.clone()) }
}

fn command(spec: &TaskSpec, template: &TaskTemplate, notes: &mut Vec<Note>) -> Option<Vec<String>> {
    if let Some(own) = spec.command.as_ref().filter(|own| own.value.is_empty() && template.command.is_some()) {
        notes.push(of_task(Finding::EmptyCommand, own));
    }
    let words = spec.command.as_ref().map(|own| &own.value).or(template.command.as_ref());
    words.filter(|words| !words.is_empty()).cloned()
}

/// The template's variables in order with the task's values, then those that only the task has.
fn env(settings: &[EnvSetting], defaults: &[TemplateEnv], notes: &mut Vec<Note>) -> Vec<(String, String)> {
    let mut env = Vec::with_capacity(settings.len() + defaults.len());
    for default in defaults {
        let setting = settings.iter().find(|setting| setting.name.value == default.name.value);
        let value = setting.map_or(&default.value.value, |setting| &setting.value.value);
        env.push((default.name.value.clone(), value.clone()));
        if let Some(setting) = setting {
            judge(setting, default, notes);
        }
    }
    for setting in settings {
        let name = &setting.name.value;
        if defaults.iter().any(|default| default.name.value == *name) {
            continue;
        }
        let unset = defaults.iter().map(|default| default.name.value.as_str());
        let unset = unset.filter(|default| !settings.iter().any(|setting| setting.name.value == **default));
        if let Some(meant) = nearest(name, unset) {
            notes.push(of_task(
                Finding::NearVariable { variable: name.clone(), meant: meant.to_owned() },
                &setting.name,
            ));
        }
        env.push((name.clone(), setting.value.value.clone()));
    }
    env
}

/// Checks a value against the template's description of its variable.
fn judge(setting: &EnvSetting, default: &TemplateEnv, notes: &mut Vec<Note>) {
    let (variable, value) = (setting.name.value.clone(), setting.value.value.clone());
    if let Some(choices) = default.choices.as_ref().filter(|choices| !choices.contains(&value)) {
        let seen =
            Finding::OutsideChoices { variable: variable.clone(), value: value.clone(), choices: choices.clone() };
        notes.push(of_task(seen, &setting.value));
    }
    if let Some(kind) = default.kind.filter(|kind| !kind.accepts(&value)) {
        let seen = Finding::WrongType { variable: variable.clone(), value: value.clone(), kind };
        notes.push(of_task(seen, &setting.value));
    }
    if default.adjustable == Some(false) && value != default.value.value {
        let seen = Finding::NotAdjustable { variable, default: default.value.value.clone() };
        notes.push(of_task(seen, &setting.value));
    }
}

/// The channels that both sides have, in the order of the template.
fn channels(
    kind: ChannelKind,
    volumes: &[Volume],
    mounts: &[Mount],
    origin: Origin,
    base: &Path,
    notes: &mut Vec<Note>,
) -> Vec<Channel> {
    let mut channels = Vec::new();
    for mount in mounts {
        match volumes.iter().find(|volume| volume.name.value == mount.name.value) {
            Some(volume) => channels.push(Channel {
                name: mount.name.value.clone(),
                kind,
                host_path: host_path(&volume.source, base),
                mounted_path: mount.mounted_path.clone(),
                rule: volume.scale_rule.as_ref().or(mount.scale_rule.as_ref()).map(|spec| spec.rule.clone()),
            }),
            None => {
                let seen = Finding::ChannelOnlyInTemplate { channel: mount.name.value.clone(), kind };
                notes.push(Note { seen, origin, span: Some(mount.name.span.clone()) });
            }
        }
    }
    let is_mounted = |name: &str| mounts.iter().any(|mount| mount.name.value == name);
    for volume in volumes.iter().filter(|volume| !is_mounted(&volume.name.value)) {
        let name = &volume.name.value;
        let free = mounts.iter().map(|mount| mount.name.value.as_str());
        let free = free.filter(|mount| !volumes.iter().any(|volume| volume.name.value == **mount));
        let meant = nearest(name, free).map(str::to_owned);
        notes.push(of_task(Finding::ChannelOnlyInTask { channel: name.clone(), kind, meant }, &volume.name));
    }
    channels
}

/// An absolute path without `.` components; `..` stays, because a link may precede it.
fn host_path(source: &VolumeSource, base: &Path) -> Option<PathBuf> {
    match source {
        VolumeSource::Host(path) => Some(base.join(&path.value).components().collect()),
        VolumeSource::Kubernetes(_) => None,
    }
}

fn resources(spec: &TaskSpec, template: &TaskTemplate, notes: &mut Vec<Note>) -> Resources {
    let (own, default, span) = match (&spec.resources, &template.resources) {
        (Some(own), Some(default)) => (&own.resources, &default.resources, own.whole.clone()),
        (Some(only), None) | (None, Some(only)) => return only.resources.clone(),
        (None, None) => return Resources::default(),
    };
    let lost = |part: &'static str, own: &Amounts, default: &Amounts| -> Vec<String> {
        let missing = default.iter().filter(|(name, _)| own.get(name).is_none());
        missing.map(|(name, quantity)| format!("{part}.{name} {quantity}")).collect()
    };
    let mut dropped = lost("limits", &own.limits, &default.limits);
    dropped.extend(lost("requests", &own.requests, &default.requests));
    if !dropped.is_empty() {
        notes.push(Note { seen: Finding::ResourcesDropped { dropped }, origin: Origin::Task, span: Some(span) });
    }
    own.clone()
}
