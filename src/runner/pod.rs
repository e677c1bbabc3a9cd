//! Runs an image as a bare pod of a Kubernetes cluster, and removes it.
//!
//! The probe comes from a ConfigMap and is the first process of the task's container, so that neither the image nor a
//! registry has to have it. It writes its result where Kubernetes looks for a termination message, which comes back in
//! the status of the pod. The pod is watched, because only the last event of a deleted pod contains its result.

#[cfg(feature = "kubernetes")]
mod capacity;
mod claim;
#[cfg_attr(not(feature = "kubernetes"), path = "pod/absent.rs")]
mod cluster;
#[cfg(feature = "kubernetes")]
mod collect;
#[cfg(feature = "kubernetes")]
mod demand;
#[cfg(feature = "kubernetes")]
mod follow;
#[cfg(feature = "kubernetes")]
mod leftovers;
#[cfg(feature = "kubernetes")]
mod log;
mod manifest;
#[cfg(feature = "kubernetes")]
mod production;
#[cfg(feature = "kubernetes")]
mod rights;
#[cfg(feature = "kubernetes")]
mod run;
#[cfg(feature = "kubernetes")]
mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use self::claim::{ClaimError, ClaimedDirectory};
pub use self::cluster::Cluster;
#[cfg(not(feature = "kubernetes"))]
pub use self::cluster::PodRunner;
#[cfg(feature = "kubernetes")]
pub use self::collect::{PodEvent, PodQuery};
pub use self::manifest::{Manifest, ProbeSource};
#[cfg(feature = "kubernetes")]
pub use self::production::ProductionPod;
#[cfg(feature = "kubernetes")]
pub use self::run::PodRunner;
use super::container::ContainerLaunch;
use crate::model::units::Bytes;

/// How long a pod may be pending.
pub const PENDING_TIMEOUT: Duration = Duration::from_secs(600);

/// The label of everything that highwater creates in a cluster, and its value.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "highwater");

/// The labels of a pod of a sweep: the name of the sweep's directory, the key of the cell, and which run of the cell it is.
/// The ConfigMap has the first.
pub const SWEEP_LABELS: [&str; 3] = ["highwater/sweep", "highwater/cell", "highwater/run"];

/// Which cluster, and how pods get there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// The namespace; by default that of the task, of the template or of the context.
    pub namespace: Option<String>,
    /// The context of the kubeconfig; its current one if absent.
    pub context: Option<String>,
    /// The kubeconfig; by default `KUBECONFIG`, `~/.kube/config`, or the service account of the pod that highwater runs
    /// in.
    pub kubeconfig: Option<PathBuf>,
    /// A file with a pod to start from, as YAML or JSON.
    pub template: Option<PathBuf>,
    /// How long a pod may be pending before it counts as lost.
    pub pending_timeout: Duration,
    /// An image with the probe, instead of a ConfigMap.
    pub probe_image: Option<String>,
    /// Directories that pods mount from a PersistentVolumeClaim.
    pub claims: Vec<ClaimedDirectory>,
    /// Whether a pod is created only once it fits on a node beside the pods that are there.
    pub when_fits: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            namespace: None,
            context: None,
            kubeconfig: None,
            template: None,
            pending_timeout: PENDING_TIMEOUT,
            probe_image: None,
            claims: Vec::new(),
            when_fits: false,
        }
    }
}

/// What to run in a pod.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PodLaunch {
    /// The task's container. Its command replaces the entrypoint of the image, too, which a client of Kubernetes does not
    /// know.
    pub container: ContainerLaunch,
    /// Annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// The names of the secrets with the credentials of registries.
    pub pull_secrets: Vec<String>,
    /// When the node pulls the image: `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: Option<String>,
    /// What is mounted from a PersistentVolumeClaim instead of from the node.
    pub claims: Vec<ClaimedDirectory>,
    /// The memory request; the limit if absent.
    pub request: Option<Bytes>,
    /// Limits of extended resources, such as `nvidia.com/gpu`.
    pub extended: BTreeMap<String, String>,
    /// How long the task may take.
    pub timeout: Option<Duration>,
    /// How long it may take to end after SIGTERM.
    pub kill_after: Duration,
}

impl PodLaunch {
    /// This container.
    pub fn new(container: ContainerLaunch) -> Self {
        Self {
            container,
            annotations: BTreeMap::new(),
            pull_secrets: Vec::new(),
            pull_policy: None,
            claims: Vec::new(),
            request: None,
            extended: BTreeMap::new(),
            timeout: None,
            kill_after: Duration::from_secs(10),
        }
    }
}

/// Why a pod could not be created or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// This build cannot use Kubernetes.
    #[error("failed to use Kubernetes: this highwater was built without the feature `kubernetes`")]
    NotBuilt,
    /// The kubeconfig is missing or invalid.
    #[error("failed to find a Kubernetes cluster: {reason}")]
    Config {
        /// The reason.
        reason: String,
    },
    /// The threads that communicate with the cluster could not be started.
    #[error("failed to start a thread for the cluster")]
    Runtime(#[source] std::io::Error),
    /// The API server refused a request, or the connection broke.
    #[error("failed to {action}: {reason}")]
    Request {
        /// The request.
        action: String,
        /// The reason.
        reason: String,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
    },
    /// The template of pods cannot be used.
    #[error("failed to use {path} as a pod: {reason}")]
    Template {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        reason: String,
    },
    /// There is no command.
    #[error("failed to start a pod of the image `{image}`: no command was given")]
    NoCommand {
        /// The image.
        image: String,
    },
    /// A pod cannot do what was asked for.
    #[error("failed to start a pod: {what}")]
    Unsupported {
        /// What was asked for, and why it is impossible.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A pod fits on no node.
    #[error("failed to start a pod that fits on no node of the cluster: {reason}")]
    DoesNotFit {
        /// What is missing.
        reason: String,
    },
    /// The probe could not be started in the container.
    #[error("failed to start the task in the pod: {reason}")]
    NotStarted {
        /// The reason that Kubernetes gives.
        reason: String,
    },
    /// There is no probe for the nodes.
    #[error("failed to measure in a pod: {reason}")]
    NoProbe {
        /// The reason.
        reason: &'static str,
    },
}

impl PodError {
    /// Whether the API server has refused a request, so that nothing has changed. After an error of its own it may have.
    #[cfg(feature = "kubernetes")]
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Request { status: Some(400..500), .. })
    }

    /// Why the quota of the namespace forbids a pod, if it does.
    #[cfg(feature = "kubernetes")]
    fn exceeded_quota(&self) -> Option<&str> {
        match self {
            Self::Request { status: Some(403), reason, .. } if reason.contains("exceeded quota") => Some(reason),
            _ => None,
        }
    }

    /// What the user can do about it.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::NotBuilt => "build it with the feature `kubernetes` (it is on by default)".to_owned(),
            Self::Config { .. } => {
                "set KUBECONFIG, or give the file with --kubeconfig and one of its contexts with --context".to_owned()
            }
            Self::Request { status: Some(401), .. } => "log in to the cluster again".to_owned(),
            Self::Request { status: Some(403), .. } => {
                "ask for the missing right; `highwater doctor --on kubernetes` lists what is needed".to_owned()
            }
            Self::Request { status: None, .. } => {
                "check that the cluster of the context is reachable: `kubectl version`".to_owned()
            }
            Self::NoCommand { .. } => {
                "give the whole command after `--`, or in the task: only the image knows its entrypoint, and a pod \
                 with a probe replaces it"
                    .to_owned()
            }
            Self::Unsupported { remedy, .. } => remedy.clone(),
            Self::DoesNotFit { .. } => {
                "request less with --limit, the rules of the task or the file of --pod; its nodeSelector and \
                 tolerations say which nodes count"
                    .to_owned()
            }
            Self::NotStarted { .. } => {
                "check that the nodes have the architecture of this machine, and that they may run programs from a \
                 ConfigMap"
                    .to_owned()
            }
            Self::Template { .. } => {
                "give a manifest of the kind Pod; `kubectl get pod NAME -o yaml` prints one, and so does \
                 `highwater predict TASK --emit pod`"
                    .to_owned()
            }
            Self::Request { .. } | Self::Runtime(_) | Self::NoProbe { .. } => return None,
        })
    }
}
