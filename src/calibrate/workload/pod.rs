//! Containers as pods of a Kubernetes cluster: where they run, and what a task says about that.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::Spec;
use super::inputs::InputAccess;
use crate::calibrate::failure::Failure;
use crate::calibrate::feedback::Feedback;
use crate::model::prediction::Prediction;
use crate::model::task::Task;
use crate::model::units::Bytes;
use crate::runner::container::{ContainerError, ContainerResources, ContainerRunner, UseProbe};
use crate::runner::engine::{Engine, Image, PullPolicy};
use crate::runner::pod::{ClaimedDirectory, Cluster, PodLaunch};

/// Where containers run.
#[derive(Clone, Debug)]
pub(crate) enum Backend {
    /// In an engine, which has the image.
    Engine(Box<(Engine, Image)>),
    /// As pods of a cluster, whose nodes pull the image.
    Cluster(Cluster),
}

impl Backend {
    /// The engine, unless containers run in a cluster.
    pub(crate) fn engine_for(spec: &Spec) -> Result<Option<Engine>, Failure> {
        if spec.cluster.is_some() { Ok(None) } else { Ok(Some(spec.engine.engine()?)) }
    }

    /// Where an image runs; an engine pulls it.
    pub(crate) fn of_image(spec: &Spec, name: &str, feedback: &dyn Feedback) -> Result<Self, Failure> {
        Self::open(
            spec,
            Self::engine_for(spec)?.map(|engine| (engine, &spec.container.resources)),
            name,
            None,
            feedback,
        )
    }

    /// Where a task runs; an engine pulls its image.
    pub(crate) fn of_task(
        spec: &Spec,
        engine: Option<Engine>,
        task: &Task,
        feedback: &dyn Feedback,
    ) -> Result<Self, Failure> {
        let Some(name) = &task.image else {
            let help = "run it as a process with --runner process";
            let error = format!("failed to run {} as a container: it names no image", task.name);
            return Err(Failure::usage(error, help));
        };
        let resources =
            if engine.is_some() { spec.container.resources_of(task)? } else { ContainerResources::default() };
        let engine = engine.map(|engine| (engine, &resources));
        let backend = Self::open(spec, engine, name, task.config.text("namespace"), feedback)?;
        if let Some(note) = backend.image().and_then(|image| replaced_entrypoint(image, task)) {
            feedback.note(&note);
        }
        Ok(backend)
    }

    fn open(
        spec: &Spec,
        engine: Option<(Engine, &ContainerResources)>,
        name: &str,
        namespace: Option<&str>,
        feedback: &dyn Feedback,
    ) -> Result<Self, Failure> {
        match engine {
            Some((engine, resources)) => {
                let is_typed = spec.container.resources.gpus.is_some();
                ContainerRunner::require(&engine, resources).map_err(|error| match error {
                    ContainerError::NoGpus { reason, remedy, .. } if !is_typed && resources.gpus.is_some() => {
                        let option = "resources.limits of the task".to_owned();
                        ContainerError::NoGpus { option, reason, remedy }
                    }
                    other => other,
                })?;
                let image = spec.engine.image(&engine, name, feedback)?;
                Ok(Self::Engine(Box::new((engine, image))))
            }
            None => {
                require_only_what_pods_have(spec)?;
                Ok(Self::Cluster(Cluster::open(spec.cluster.clone().unwrap_or_default(), namespace)?))
            }
        }
    }

    pub(crate) fn engine(&self) -> Option<&Engine> {
        match self {
            Self::Engine(with_image) => Some(&with_image.0),
            Self::Cluster(_) => None,
        }
    }

    /// The image, if an engine has it.
    pub(crate) fn image(&self) -> Option<&Image> {
        match self {
            Self::Engine(with_image) => Some(&with_image.1),
            Self::Cluster(_) => None,
        }
    }

    /// The digest of the image, if an engine has it.
    pub(crate) fn image_id(&self) -> Option<&str> {
        self.image()?.id.as_deref()
    }
}

/// The command of a task replaces the entrypoint of its image in a pod, but not in a container of an engine.
fn replaced_entrypoint(image: &Image, task: &Task) -> Option<String> {
    let command = task.command.as_ref()?;
    let entrypoint = shlex::try_join(image.entrypoint.iter().map(String::as_str)).ok()?;
    // Its arguments may be secret.
    let program = shlex::try_quote(command.first()?).ok()?;
    (!image.entrypoint.is_empty()).then(|| {
        format!(
            "the image of {} has the entrypoint `{entrypoint}`: a container passes the command of the task to it \
             (`{entrypoint} {program} …`), but Kubernetes starts the command instead (`{program} …`); to start the same on \
             both, remove ENTRYPOINT from the image and name its program in the command",
            task.name
        )
    })
}

/// Refuses options that have no meaning for pods.
fn require_only_what_pods_have(spec: &Spec) -> Result<(), Failure> {
    let given = [
        ("--host", spec.engine.host.is_some(), "remove it; --context names the cluster"),
        ("--probe never", spec.container.probe == UseProbe::Never, "remove it: a probe is the only way to the peak"),
        ("--idle-peak", spec.container.idle_peak, "remove it"),
        (
            "--input-access private with --claim",
            spec.input_access == InputAccess::Private
                && spec.cluster.as_ref().is_some_and(|cluster| !cluster.claims.is_empty()),
            "copies are made on this machine, not in the volume: remove one of the two",
        ),
    ];
    if let Some((option, _, help)) = given.into_iter().find(|(_, is_given, _)| *is_given) {
        return Err(Failure::usage(format!("{option} has no meaning on Kubernetes"), help));
    }
    match spec.container.resources.first_option() {
        Some(option) => {
            let help = "remove it; a pod gets resources, volumes in memory and the like from a template (--pod)";
            Err(Failure::usage(format!("{option} is an option of container engines, which a pod does not have"), help))
        }
        None => Ok(()),
    }
}

/// What only pods have.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodSettings {
    annotations: BTreeMap<String, String>,
    pull_secrets: Vec<String>,
    pull_policy: Option<String>,
    request: Option<Bytes>,
    /// Extended resources, such as `nvidia.com/gpu`.
    extended: BTreeMap<String, String>,
    claims: Vec<ClaimedDirectory>,
}

impl PodSettings {
    /// The settings of an image without a task.
    pub(super) fn of_image(spec: &Spec) -> Self {
        let pull_policy = match spec.engine.pull {
            PullPolicy::Always => Some("Always".to_owned()),
            PullPolicy::Never => Some("Never".to_owned()),
            // The cluster's own: only if the node does not have it, unless its tag is `latest`.
            PullPolicy::Missing => None,
        };
        let claims = spec.cluster.as_ref().map(|cluster| cluster.claims.clone()).unwrap_or_default();
        Self { pull_policy, claims, ..Self::default() }
    }

    /// The settings of a task: those of its `config` that concern pods, and the request that its rules predict.
    pub(super) fn of_task(spec: &Spec, task: &Task, prediction: &Prediction) -> Result<Self, Failure> {
        let settings = Self::of_image(spec);
        if spec.cluster.is_none() {
            return Ok(settings);
        }
        let of_task = Self::of_config(task, prediction)?;
        let Self { pull_policy, claims, .. } = settings;
        Ok(Self { pull_policy: pull_policy.or(of_task.pull_policy), claims, ..of_task })
    }

    /// The settings in the `config` of a task, and the request that its rules predict.
    pub(super) fn of_config(task: &Task, prediction: &Prediction) -> Result<Self, Failure> {
        let mut settings = Self::default();
        let others = &task.config.others;
        let refused = ["registryUrl", "registryUsername", "registryPassword"];
        if let Some(name) = refused.into_iter().find(|name| others.get(*name).is_some_and(|value| !is_empty(value))) {
            let help = "create a secret with `kubectl create secret docker-registry`, and name it in imagePullSecrets";
            return Err(Failure::usage(format!("`config.{name}` is not supported on Kubernetes"), help));
        }
        let wrong = |name: &str, expected: &str| {
            Failure::usage(format!("invalid `config.{name}`: expected {expected}"), "correct the task")
        };
        match others.get("annotations") {
            None | Some(Value::Null) => {}
            Some(Value::Object(annotations)) => {
                for (name, value) in annotations {
                    let text = value.as_str().ok_or_else(|| wrong("annotations", "strings"))?;
                    settings.annotations.insert(name.clone(), text.to_owned());
                }
            }
            Some(_) => return Err(wrong("annotations", "an object")),
        }
        match others.get("imagePullSecrets") {
            None | Some(Value::Null) => {}
            Some(Value::Array(secrets)) => {
                for secret in secrets {
                    let name = secret.as_str().or_else(|| secret.get("name")?.as_str());
                    let name = name.ok_or_else(|| wrong("imagePullSecrets", "names of secrets"))?;
                    settings.pull_secrets.push(name.to_owned());
                }
            }
            Some(_) => return Err(wrong("imagePullSecrets", "an array of names of secrets")),
        }
        settings.pull_policy = task.config.text("imagePullPolicy").map(str::to_owned);
        let extended = task.resources.limits.iter().filter(|(name, _)| name.contains('/'));
        settings.extended = extended.map(|(name, amount)| (name.to_owned(), amount.source().to_owned())).collect();
        settings.request = prediction.kubernetes.request.as_ref().map(|request| request.bytes);
        Ok(settings)
    }

    /// Whether pods find this path in a volume.
    pub(super) fn has_in_volume(&self, path: &Path) -> bool {
        ClaimedDirectory::any_has(&self.claims, path)
    }

    /// Whether pods mount anything from a volume.
    pub(super) fn has_volumes(&self) -> bool {
        !self.claims.is_empty()
    }

    pub(super) fn apply(&self, launch: &mut PodLaunch) {
        launch.annotations.clone_from(&self.annotations);
        launch.pull_secrets.clone_from(&self.pull_secrets);
        launch.pull_policy.clone_from(&self.pull_policy);
        launch.request = self.request;
        launch.extended.clone_from(&self.extended);
        launch.claims.clone_from(&self.claims);
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entrypoint_with_a_command_is_noted() {
        let image = |entrypoint: &[&str]| Image {
            entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
            ..Image::default()
        };
        let task = Task::bare(vec!["segment".to_owned(), "a b".to_owned()]);
        let note = replaced_entrypoint(&image(&["tini", "--"]), &task).unwrap();
        assert!(note.contains("`tini -- segment …`") && note.contains("command instead (`segment …`)"), "{note}");
        assert_eq!(replaced_entrypoint(&image(&[]), &task), None);
        assert_eq!(replaced_entrypoint(&image(&["tini"]), &Task { command: None, ..task }), None);
    }
}
