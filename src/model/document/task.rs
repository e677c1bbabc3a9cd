//! Reads a task.json.

use std::path::PathBuf;

use serde_json::Map;

use crate::model::located::{Data, Fields, Read, Reader, Value};
use crate::model::problem::Problem;
use crate::model::spelling::{nearest, quote};
use crate::model::task::{Config, EnvSetting, HostPath, Placed, TaskSpec, TemplateRef, Volume, VolumeSource};

use super::container::{api_version, env_name, template, warn_of_output_rules};
use super::rule::{resources, scale_rule};

const TASK_FIELDS: [&str; 10] =
    ["name", "image", "api_version", "taskTemplate", "inputs", "outputs", "env", "command", "resources", "config"];
const VOLUME_FIELDS: [&str; 4] = ["name", "input", "volume_source", "scale_rule"];

/// Reads the whole document.
pub(super) fn task(reader: &mut Reader<'_>, value: &Value<'_>) -> Read<TaskSpec> {
    let fields = reader.object("a task", value, Some(&TASK_FIELDS))?;
    let name = fields.required(reader, "name", Reader::filled);
    let image = fields.required(reader, "image", Reader::filled);
    let version = api_version(reader, &fields);
    let template = fields.required(reader, "taskTemplate", template_ref);
    let inputs = fields.optional(reader, "inputs", volumes);
    let outputs = fields.optional(reader, "outputs", |reader, name, value| {
        let volumes = volumes(reader, name, value);
        warn_of_output_rules(reader, value);
        volumes
    });
    let env = fields.optional(reader, "env", |reader, name, value| {
        reader.each(name, value, "an array of environment variables", env_setting)
    });
    let command = fields.optional(reader, "command", |reader, name, value| {
        reader.texts(name, value).map(|words| Placed { value: words, span: value.span.clone() })
    });
    let resources = fields.optional(reader, "resources", resources);
    let config = fields.optional(reader, "config", config);
    if let Ok(Some(env)) = &env {
        reader.no_duplicates("duplicate-env", "the variable", env.iter().map(|env| &env.name));
    }
    version?;
    Ok(TaskSpec {
        name: name?.value,
        image: image?.value,
        template: template?,
        inputs: inputs?.unwrap_or_default(),
        outputs: outputs?.unwrap_or_default(),
        env: env?.unwrap_or_default(),
        command: command?,
        resources: resources?,
        config: config?,
    })
}

fn template_ref(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Read<TemplateRef> {
    match value.data {
        Data::Object(_) => template(reader, name, value).map(|template| TemplateRef::Inline(Box::new(template))),
        Data::String(_) => reader.filled(name, value).map(TemplateRef::Named),
        _ => reader.wrong_type(name, value, "the identifier of a template, or a template"),
    }
}

fn volumes<'a>(reader: &mut Reader<'_>, name: &str, value: &'a Value<'a>) -> Read<Vec<Volume>> {
    let volumes = reader.each(name, value, "an array of channels", volume)?;
    reader.no_duplicates("duplicate-channel", "the channel", volumes.iter().map(|volume| &volume.name));
    Ok(volumes)
}

fn volume(reader: &mut Reader<'_>, value: &Value<'_>) -> Read<Volume> {
    let fields = reader.object("a channel of a task", value, Some(&VOLUME_FIELDS))?;
    let name = fields.required(reader, "name", Reader::filled);
    let source = volume_source(reader, &fields);
    let scale_rule = fields.optional(reader, "scale_rule", scale_rule);
    Ok(Volume { name: name?, source: source?, scale_rule: scale_rule? })
}

fn volume_source(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Read<VolumeSource> {
    let (name, value) = match (fields.find("input"), fields.find("volume_source")) {
        (Some(_), Some(_)) => {
            let problem = Problem::error("volume-ambiguous", "the channel has both `input` and `volume_source`");
            let problem = problem.at(fields.key("volume_source")).label("conflicts with `input`");
            return reader.report(problem.help("keep one: both give the location of the data"));
        }
        (None, None) => {
            let problem = Problem::error("missing-field", "the channel has neither `input` nor `volume_source`");
            let problem = problem.at(fields.opening()).label("expected one of them in this object");
            return reader.report(problem.help("write \"input\": {\"host_path\": \"./data\"}"));
        }
        (Some(value), None) => ("input", value),
        (None, Some(value)) => ("volume_source", value),
    };
    let volume = reader.object(name, value, None)?;
    match volume.find("host_path") {
        // A Kubernetes volume can be a directory of a node: {"host_path": {"path": …}}.
        Some(Value { data: Data::Object(_), .. }) => kubernetes(reader, name, value),
        Some(path) => {
            let path = host_path(reader, path);
            let _ = reader.object(name, value, Some(&["host_path"]));
            path.map(VolumeSource::Host)
        }
        None if is_kubernetes(&volume) => kubernetes(reader, name, value),
        None => {
            let problem = Problem::error("missing-field", format!("{} has no `host_path`", quote(name)));
            let problem = problem.at(volume.opening()).label("expected \"host_path\": … in this object");
            let meant = volume.all().find(|(key, _)| nearest(key, ["host_path"]).is_some());
            reader.report(match meant {
                Some((key, _)) => problem.help(format!("did you mean `host_path` instead of {}?", quote(key))),
                None => problem.help("write {\"host_path\": \"./data\"}"),
            })
        }
    }
}

/// A claim by its name, or a volume object, which contains another object.
fn is_kubernetes(volume: &Fields<'_>) -> bool {
    volume.find("claim_name").is_some() || volume.all().any(|(_, value)| matches!(value.data, Data::Object(_)))
}

fn kubernetes(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Read<VolumeSource> {
    any(reader, name, value).map(VolumeSource::Kubernetes)
}

fn host_path(reader: &mut Reader<'_>, value: &Value<'_>) -> Read<HostPath> {
    let path = reader.filled("host_path", value)?;
    Ok(Placed { value: PathBuf::from(path.value), span: path.span })
}

fn env_setting(reader: &mut Reader<'_>, value: &Value<'_>) -> Read<EnvSetting> {
    let fields = reader.object("a variable of a task", value, Some(&["name", "value"]))?;
    let name = fields.required(reader, "name", env_name);
    let value = fields.required(reader, "value", Reader::text);
    Ok(EnvSetting { name: name?, value: value? })
}

fn config(reader: &mut Reader<'_>, _: &str, value: &Value<'_>) -> Read<Config> {
    let fields = reader.object("config", value, None)?;
    let labels = fields.optional(reader, "labels", labels);
    let mut others = Map::new();
    let mut read = Ok(());
    for (name, value) in fields.all().filter(|(name, _)| *name != "labels") {
        match any(reader, name, value) {
            Ok(value) => drop(others.insert(name.to_owned(), value)),
            Err(reported) => read = Err(reported),
        }
    }
    read?;
    Ok(Config { labels: labels?.unwrap_or_default(), others })
}

fn labels(reader: &mut Reader<'_>, _: &str, value: &Value<'_>) -> Read<Vec<(String, String)>> {
    let fields = reader.object("labels", value, None)?;
    let labels: Vec<_> =
        fields.all().map(|(name, value)| reader.text(name, value).map(|text| (name.to_owned(), text.value))).collect();
    labels.into_iter().collect()
}

/// A value that is kept unchanged.
fn any(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Read<serde_json::Value> {
    serde_json::from_str(reader.raw(value)).or_else(|error| {
        let problem = Problem::error("not-json", format!("cannot store {}: {error}", quote(name)));
        reader.report(problem.at(value.span.clone()))
    })
}
