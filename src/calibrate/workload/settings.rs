//! Settings by name, as in a sweep file or a plan: `runs = 3`. Every name is a flag of the command line without its
//! dashes, and every value may be written as it would be typed.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{ContainerOptions, EngineOptions, InputAccess, Runnable, Spec, TaskOptions};
use crate::calibrate::argument;
use crate::model::document::Undefined;
use crate::model::plan::current_name;
use crate::model::scalar;
use crate::model::spelling::{nearest, quote};
use crate::runner::container::{self, ContainerResources, Cpus, Device, Gpus, MemorySwap, Tmpfs, Ulimit, UseProbe};
use crate::runner::engine::PullPolicy;
use crate::runner::pod::{ClaimedDirectory, ClusterOptions};

/// Settings by name.
pub type Settings = Map<String, Value>;

/// The names of what is run: setting one of these replaces the others.
pub const SUBJECTS: [&str; 3] = ["task", "command", "image"];

/// The names of settings of a [`Spec`].
pub const NAMES: [&str; 39] = [
    "task",
    "command",
    "image",
    "runner",
    "processing-container",
    "set",
    "undefined",
    "data",
    "conf",
    "skip-status",
    "host",
    "pull",
    "mount",
    "env",
    "user",
    "network",
    "name",
    "label",
    "entrypoint",
    "workdir",
    "probe",
    "idle-peak",
    "cpus",
    "gpus",
    "device",
    "shm-size",
    "memory-swap",
    "tmpfs",
    "ulimit",
    "redact",
    "input-access",
    "namespace",
    "context",
    "kubeconfig",
    "pod",
    "pending-timeout",
    "when-fits",
    "probe-image",
    "claim",
];

/// Those that are true or absent, without a value.
const SWITCHES: [&str; 2] = ["idle-peak", "when-fits"];

/// A setting cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingError {
    /// Its name; empty if no single setting is wrong.
    pub name: String,
    /// The value that was found, if it is invalid by itself.
    pub found: Option<String>,
    /// What was expected instead of [`Self::found`], or what is wrong.
    pub message: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(found) => write!(f, "invalid value '{found}' for `{}`: {}", self.name, self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl SettingError {
    /// A message about this setting.
    pub fn new(name: &str, message: impl Into<String>) -> Self {
        Self { name: name.to_owned(), found: None, message: message.into() }
    }

    /// A value of this setting that is invalid by itself.
    pub(in crate::calibrate) fn invalid(name: &str, found: &str, expected: impl fmt::Display) -> Self {
        Self { found: Some(found.to_owned()), ..Self::new(name, expected.to_string()) }
    }
}

/// Reads settings by name.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a Settings);

impl Reader<'_> {
    /// A text; numbers count as texts.
    pub fn text(self, name: &str) -> Result<Option<String>, SettingError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Array(_) | Value::Object(_) | Value::Bool(_) | Value::Null) => {
                Err(SettingError::new(name, format!("`{name}` needs a single value")))
            }
            Some(value) => Ok(Some(as_text(value))),
        }
    }

    /// A path.
    pub fn path(self, name: &str) -> Result<Option<PathBuf>, SettingError> {
        Ok(self.text(name)?.map(PathBuf::from))
    }

    /// An array of texts, or a single one.
    pub fn list(self, name: &str) -> Result<Vec<String>, SettingError> {
        match self.0.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Object(_) | Value::Bool(_) | Value::Null) => {
                Err(SettingError::new(name, format!("`{name}` needs an array of values")))
            }
            Some(value) => Ok(as_list(value)),
        }
    }

    /// A switch.
    pub fn flag(self, name: &str) -> Result<bool, SettingError> {
        match self.0.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(SettingError::invalid(name, &as_text(value), "expected true or false")),
        }
    }

    /// A value that is parsed.
    pub fn parsed<T, E: fmt::Display>(
        self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, SettingError> {
        let parse = |text: String| parse(&text).map_err(|expected| SettingError::invalid(name, &text, expected));
        self.text(name)?.map(parse).transpose()
    }

    /// Values each of which is parsed; one text may have several of them, separated by commas.
    pub fn each<T, E: fmt::Display>(
        self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, SettingError> {
        let parse = |text: &str| parse(text).map_err(|expected| SettingError::invalid(name, text, expected));
        self.list(name)?.iter().flat_map(|text| text.split(',')).map(parse).collect()
    }

    /// Values each of which is parsed.
    pub fn every<T, E: fmt::Display>(
        self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, SettingError> {
        let parse = |text: String| parse(&text).map_err(|expected| SettingError::invalid(name, &text, expected));
        self.list(name)?.into_iter().map(parse).collect()
    }

    /// One of these choices.
    pub fn choice<T: Copy>(self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, SettingError> {
        self.parsed(name, |text| {
            let chosen = choices.iter().find(|(choice, _)| *choice == text).map(|(_, value)| *value);
            chosen.ok_or_else(|| {
                let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
                format!("expected {}", names.join(", "))
            })
        })
    }

    /// A whole number in this range.
    pub fn number(self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>, SettingError> {
        self.parsed(name, |text| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| format!("expected a number from {} to {}", range.start(), range.end()))
        })
    }
}

/// A single value as it would be typed.
pub fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The values of an array, or a single value, as they would be typed.
pub fn as_list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().map(as_text).collect(),
        single => vec![as_text(single)],
    }
}

impl Spec {
    /// What these settings run; `None` if they name nothing.
    ///
    /// # Errors
    /// If a value is invalid.
    pub fn from_settings(settings: &Settings) -> Result<Option<Self>, SettingError> {
        let read = Reader(settings);
        let in_container = read.choice("runner", &[("container", true), ("process", false)])?.unwrap_or(true);
        let command = read.list("command")?;
        let what = match (read.text("image")?, read.path("task")?) {
            (Some(_), Some(_)) => return Err(SettingError::new("image", "`image` cannot be used with `task`")),
            (Some(image), None) => Some(Runnable::Image(image)),
            (None, Some(_)) if !command.is_empty() => {
                return Err(SettingError::new("task", "`task` cannot be used with `command`"));
            }
            (None, Some(path)) => Some(Runnable::Task { path, in_container }),
            (None, None) if settings.contains_key("command") => Some(Runnable::Command),
            (None, None) => None,
        };
        let spec = Self {
            task: TaskOptions {
                processing_container: read.path("processing-container")?,
                set: read.list("set")?,
                undefined: read.choice("undefined", &Undefined::NAMES)?.unwrap_or_default(),
                channels: read.every("data", argument::channel)?.into_iter().collect(),
                conf: read.path("conf")?,
            },
            engine: EngineOptions {
                host: read.text("host")?,
                pull: read
                    .choice(
                        "pull",
                        &[
                            ("always", PullPolicy::Always),
                            ("missing", PullPolicy::Missing),
                            ("never", PullPolicy::Never),
                        ],
                    )?
                    .unwrap_or_default(),
            },
            container: ContainerOptions {
                mount: read.every("mount", argument::bind)?,
                env: read.every("env", argument::variable)?,
                user: read.text("user")?,
                network: read.text("network")?,
                name: read.text("name")?,
                label: read.every("label", argument::label)?,
                entrypoint: read.text("entrypoint")?,
                workdir: read.text("workdir")?,
                probe: read
                    .choice(
                        "probe",
                        &[("auto", UseProbe::Auto), ("always", UseProbe::Always), ("never", UseProbe::Never)],
                    )?
                    .unwrap_or_default(),
                idle_peak: read.flag("idle-peak")?,
                resources: resources(read)?,
            },
            cluster: cluster(read)?,
            redact: read.list("redact")?,
            skip_status: read.parsed("skip-status", argument::status)?,
            input_access: read
                .choice(
                    "input-access",
                    &[
                        ("read-only", InputAccess::ReadOnly),
                        ("private", InputAccess::Private),
                        ("watched", InputAccess::Watched),
                    ],
                )?
                .unwrap_or_default(),
            ..Self::new(Runnable::Command, command.into_iter().map(Into::into).collect())
        };
        Ok(what.map(|what| Self { what, ..spec }))
    }
}

/// The resources of containers.
fn resources(read: Reader<'_>) -> Result<ContainerResources, SettingError> {
    Ok(ContainerResources {
        cpus: read.parsed("cpus", str::parse::<Cpus>)?,
        gpus: read.parsed("gpus", str::parse::<Gpus>)?,
        devices: read.every("device", str::parse::<Device>)?,
        shm_size: read.parsed("shm-size", container::size)?,
        memory_swap: read.parsed("memory-swap", str::parse::<MemorySwap>)?,
        tmpfs: read.every("tmpfs", str::parse::<Tmpfs>)?,
        ulimits: read.every("ulimit", str::parse::<Ulimit>)?,
    })
}

/// The cluster, if the settings are to run on Kubernetes.
fn cluster(read: Reader<'_>) -> Result<Option<ClusterOptions>, SettingError> {
    if read.text("on")?.as_deref() != Some("kubernetes") {
        let names =
            ["namespace", "context", "kubeconfig", "pod", "pending-timeout", "when-fits", "probe-image", "claim"];
        return match names.into_iter().find(|name| read.0.contains_key(*name)) {
            Some(name) => Err(SettingError::new(name, format!("`{name}` has no effect without `on = \"kubernetes\"`"))),
            None => Ok(None),
        };
    }
    let defaults = ClusterOptions::default();
    Ok(Some(ClusterOptions {
        namespace: read.text("namespace")?,
        context: read.text("context")?,
        kubeconfig: read.path("kubeconfig")?,
        template: read.path("pod")?,
        pending_timeout: read.parsed("pending-timeout", scalar::duration)?.unwrap_or(defaults.pending_timeout),
        when_fits: read.flag("when-fits")?,
        probe_image: read.text("probe-image")?,
        claims: read.every("claim", str::parse::<ClaimedDirectory>)?,
    }))
}

/// Reads options such as `--network=none` or `--network none`, as on the command line.
///
/// # Errors
/// If an option is unknown or lacks its value.
pub fn from_words(words: &[String]) -> Result<Settings, SettingError> {
    let mut settings = Settings::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (written, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let name = match written {
            "-e" => "env",
            long => current_name(long.strip_prefix("--").unwrap_or(long)),
        };
        let is_option = written == "-e" || written.starts_with("--");
        if !is_option || !NAMES.contains(&name) || SUBJECTS.contains(&name) {
            let names = NAMES.iter().copied().filter(|name| !SUBJECTS.contains(name));
            let meant = nearest(name, names).map_or_else(
                || "expected an option of containers or tasks of `highwater run`".to_owned(),
                |meant| format!("did you mean `--{meant}`?"),
            );
            return Err(SettingError::new(name, format!("unknown option {}: {meant}", quote(written))));
        }
        if SWITCHES.contains(&name) {
            settings.insert(name.to_owned(), Value::Bool(true));
            continue;
        }
        let Some(value) = value.or_else(|| words.next().cloned()) else {
            return Err(SettingError::new(name, format!("`--{name}` needs a value")));
        };
        match settings.get_mut(name) {
            Some(Value::Array(known)) => known.push(value.into()),
            Some(known) => *known = Value::Array(vec![known.take(), value.into()]),
            None => {
                settings.insert(name.to_owned(), value.into());
            }
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Settings, String> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        from_words(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_as_on_the_command_line() {
        let settings = words("--network=none --env A=1 -e B=2 --idle-peak --user 7").unwrap();
        let spec = Spec::from_settings(&settings).unwrap();
        assert!(spec.is_none(), "options alone name nothing to run");
        let settings = Settings::from_iter([("image".to_owned(), Value::from("tiny"))]).into_iter().chain(settings);
        let spec = Spec::from_settings(&settings.collect()).unwrap().unwrap();
        assert_eq!(spec.container.network.as_deref(), Some("none"));
        assert_eq!(spec.container.env, [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
        assert!(spec.container.idle_peak);
        assert_eq!(spec.container.user.as_deref(), Some("7"));
    }

    #[test]
    fn wrong_options_are_named() {
        for (text, expected) in [
            ("--netwrk=none", "unknown option `--netwrk`: did you mean `--network`?"),
            ("network", "unknown option `network`: did you mean `--network`?"),
            ("--user", "`--user` needs a value"),
            ("--image=x", "unknown option `--image`: expected an option of containers or tasks of `highwater run`"),
        ] {
            assert_eq!(words(text).unwrap_err(), expected, "{text}");
        }
        let settings = words("--pull=often").unwrap();
        let error = Spec::from_settings(&settings).unwrap_err();
        assert_eq!(error.to_string(), "invalid value 'often' for `pull`: expected always, missing, never");
    }
}
