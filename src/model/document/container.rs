//! Reads a processing-container.json and the templates in it.

use crate::model::located::{Data, Fields, Read, Reader, Value, listed};
use crate::model::problem::Problem;
use crate::model::spelling::quote;
use crate::model::task::{EnvType, Mount, Placed, ProcessingContainer, TaskTemplate, TemplateEnv};

use super::rule::{resources, scale_rule};

/// `version`, that of the image, is only for people.
const CONTAINER_FIELDS: [&str; 5] = ["name", "description", "version", "api_version", "templates"];
const TEMPLATE_FIELDS: [&str; 7] = ["identifier", "description", "inputs", "outputs", "env", "command", "resources"];
const MOUNT_FIELDS: [&str; 4] = ["name", "mounted_path", "description", "scale_rule"];
const ENV_FIELDS: [&str; 6] = ["name", "value", "type", "choices", "adjustable", "description"];

/// Reads the whole document.
pub(super) fn container(reader: &mut Reader<'_>, value: &Value<'_>) -> Read<ProcessingContainer> {
    let fields = reader.object("a processing container", value, Some(&CONTAINER_FIELDS))?;
    let name = fields.required(reader, "name", Reader::filled);
    let description = fields.required(reader, "description", Reader::text);
    let version = api_version(reader, &fields);
    let templates = fields.required(reader, "templates", |reader, name, value| {
        reader.each(name, value, "an array of templates", |reader, value| template(reader, "", value))
    });
    if let Ok(templates) = &templates {
        let identifiers = templates.iter().map(|template| &template.identifier);
        reader.no_duplicates("duplicate-template", "the identifier", identifiers);
        if templates.is_empty() {
            let problem = Problem::warning("no-templates", "the processing container has no templates");
            let problem = problem.at(fields.key("templates")).label("expected at least one");
            reader.warn(problem.help("add a template for tasks to use"));
        }
    }
    version?;
    Ok(ProcessingContainer { name: name?.value, description: description?.value, templates: templates? })
}

/// Reads `api_version`, an optional field of both documents.
pub(super) fn api_version(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Read<()> {
    let Some(value) = fields.find("api_version") else { return Ok(()) };
    match reader.integer("api_version", value)? {
        1 => Ok(()),
        other => {
            let problem = Problem::error("api-version", format!("api_version is {other}"));
            let problem = problem.at(value.span.clone()).label("expected 1, the only version");
            reader.report(problem.help("write 1, or remove the field"))
        }
    }
}

/// Reads a template, in the document of the container or in a task.
pub(super) fn template(reader: &mut Reader<'_>, _: &str, value: &Value<'_>) -> Read<TaskTemplate> {
    let fields = reader.object("a template", value, Some(&TEMPLATE_FIELDS))?;
    let identifier = fields.required(reader, "identifier", Reader::filled);
    let description = fields.required(reader, "description", Reader::text);
    let inputs = fields.required(reader, "inputs", |reader, name, value| mounts(reader, name, value));
    let outputs = fields.required(reader, "outputs", |reader, name, value| {
        let mounts = mounts(reader, name, value);
        warn_of_output_rules(reader, value);
        mounts
    });
    let env = fields.required(reader, "env", |reader, name, value| {
        reader.each(name, value, "an array of environment variables", template_env)
    });
    let command = fields.optional(reader, "command", Reader::texts);
    let resources = fields.optional(reader, "resources", resources);
    if let Ok(env) = &env {
        reader.no_duplicates("duplicate-env", "the variable", env.iter().map(|env| &env.name));
    }
    if let (Ok(inputs), Ok(outputs)) = (&inputs, &outputs) {
        warn_of_shared_mounts(reader, inputs.iter().chain(outputs));
    }
    Ok(TaskTemplate {
        span: value.span.clone(),
        identifier: identifier?,
        description: description?.value,
        inputs: inputs?,
        outputs: outputs?,
        env: env?,
        command: command?,
        resources: resources?,
    })
}

fn mounts<'a>(reader: &mut Reader<'_>, name: &str, value: &'a Value<'a>) -> Read<Vec<Mount>> {
    let mounts = reader.each(name, value, "an array of channels", mount)?;
    reader.no_duplicates("duplicate-channel", "the channel", mounts.iter().map(|mount| &mount.name));
    Ok(mounts)
}

fn mount(reader: &mut Reader<'_>, value: &Value<'_>) -> Read<Mount> {
    let fields = reader.object("a channel of a template", value, Some(&MOUNT_FIELDS))?;
    let name = fields.required(reader, "name", Reader::filled);
    let mounted_path = fields.required(reader, "mounted_path", mounted_path);
    let description = fields.optional(reader, "description", Reader::text);
    let scale_rule = fields.optional(reader, "scale_rule", scale_rule);
    Ok(Mount {
        name: name?,
        mounted_path: mounted_path?,
        description: description?.map(|text| text.value),
        scale_rule: scale_rule?,
    })
}

fn mounted_path(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Read<String> {
    let path = reader.filled(name, value)?;
    if path.value.starts_with('/') {
        return Ok(path.value);
    }
    let problem = Problem::error("not-absolute", format!("{} is not an absolute path", quote(&path.value)));
    let problem = problem.at(path.span).label("expected a path that begins with `/`");
    reader.report(problem.help(format!("write \"/{}\"", path.value.trim_start_matches("./"))))
}

fn template_env(reader: &mut Reader<'_>, value: &Value<'_>) -> Read<TemplateEnv> {
    let fields = reader.object("a variable of a template", value, Some(&ENV_FIELDS))?;
    let name = fields.required(reader, "name", env_name);
    let value = fields.required(reader, "value", Reader::text);
    let kind = fields.optional(reader, "type", |reader, name, value| reader.name_of(name, value, &EnvType::NAMES));
    let choices = fields.optional(reader, "choices", Reader::texts);
    let adjustable = fields.optional(reader, "adjustable", Reader::flag);
    let description = fields.optional(reader, "description", Reader::text);
    let env = TemplateEnv {
        name: name?,
        value: value?,
        kind: kind?,
        // An empty array restricts nothing.
        choices: choices?.filter(|choices| !choices.is_empty()),
        adjustable: adjustable?,
        description: description?.map(|text| text.value),
    };
    warn_of_default(reader, &env);
    Ok(env)
}

/// Reads the name of an environment variable.
pub(super) fn env_name(reader: &mut Reader<'_>, what: &str, value: &Value<'_>) -> Read<Placed<String>> {
    let name = reader.filled(what, value)?;
    let Some(at) = name.value.find('=') else { return Ok(name) };
    let problem = Problem::error("env-name", format!("{} is not a valid variable name", quote(&name.value)));
    let help = "remove the `=`; the value belongs in \"value\"";
    reader.report_within(&name, [problem.at(at..at + 1).label("not allowed in a name").help(help)])
}

fn warn_of_default(reader: &mut Reader<'_>, env: &TemplateEnv) {
    let name = quote(&env.name.value);
    if let Some(kind) = env.kind.filter(|kind| !kind.accepts(&env.value.value)) {
        let problem = Problem::warning("env-type", format!("the default of {name} does not match its type {kind}"));
        reader.warn(problem.at(env.value.span.clone()).label(format!("expected {}", kind.expectation())));
    }
    if let Some(choices) = env.choices.as_ref().filter(|choices| !choices.contains(&env.value.value)) {
        let known: Vec<&str> = choices.iter().map(String::as_str).collect();
        let problem = Problem::warning("env-choices", format!("the default of {name} is not one of its choices"));
        reader.warn(problem.at(env.value.span.clone()).label(format!("expected one of {}", listed(&known))));
    }
}

fn warn_of_shared_mounts<'a>(reader: &mut Reader<'_>, mounts: impl Iterator<Item = &'a Mount>) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for mount in mounts {
        let path = mount.mounted_path.trim_end_matches('/');
        match seen.iter().find(|(known, _)| *known == path) {
            Some((_, first)) => {
                let message = format!(
                    "the channels {} and {} are mounted at the same path",
                    quote(first),
                    quote(&mount.name.value)
                );
                let problem = Problem::warning("duplicate-mount", message).at(mount.name.span.clone());
                reader.warn(problem.label("container engines reject this").help("give each channel its own path"));
            }
            None => seen.push((path, &mount.name.value)),
        }
    }
}

/// The platform only applies the rules of inputs.
pub(super) fn warn_of_output_rules(reader: &mut Reader<'_>, outputs: &Value<'_>) {
    let Data::Array(outputs) = &outputs.data else { return };
    let fields =
        outputs.iter().filter_map(|output| if let Data::Object(fields) = &output.data { Some(fields) } else { None });
    for fields in fields {
        if let Some(rule) = fields.iter().find(|field| field.name == "scale_rule") {
            let problem = Problem::warning("rule-of-an-output", "the scale_rule of an output is ignored");
            let problem = problem.at(rule.key.start..rule.value.span.end).label("only inputs have scale rules");
            reader.warn(problem.help("move it to the input that determines the memory"));
        }
    }
}
