//! Where runs take place.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use highwater::model::scalar::duration;
use highwater::runner::pod::{ClaimedDirectory, ClusterOptions};

use super::exit::Exit;
use super::failure::Failure;

/// Where runs take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnArg {
    /// This machine, and its container engine.
    Local,
    /// Job arrays on a cluster with Slurm.
    Slurm,
    /// Pods of a Kubernetes cluster.
    Kubernetes,
}

/// Where pods may be, or else containers of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlaceArg {
    /// This machine, and its container engine.
    Local,
    /// Pods of a Kubernetes cluster.
    Kubernetes,
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Namespace of the pods [default: that of the task or --pod, if any, or of the context].
    #[arg(long, value_name = "NAME", help_heading = "Kubernetes options")]
    namespace: Option<String>,
    /// Context of the kubeconfig [default: its current context].
    #[arg(long, value_name = "NAME", help_heading = "Kubernetes options")]
    context: Option<String>,
    /// Kubeconfig [default: KUBECONFIG, ~/.kube/config, or the service account in a pod].
    #[arg(long, value_name = "FILE", help_heading = "Kubernetes options")]
    kubeconfig: Option<PathBuf>,
}

/// Which cluster, and how pods get there.
#[derive(Debug, Args)]
pub(crate) struct PodArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Start from this pod, as YAML or JSON: its node selector, tolerations, volumes, secrets and so on.
    ///
    /// highwater sets the image, the command, memory limit and request, and adds volumes and variables, in the container
    /// named `task`, or else the first one.
    #[arg(long, value_name = "FILE", help_heading = "Kubernetes options")]
    pod: Option<PathBuf>,
    /// Time that a pod may be pending, such as for lack of nodes or of its image, before its run counts as lost [default:
    /// 10m].
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Kubernetes options")]
    pending_timeout: Option<Duration>,
    /// Mount what is below DIR from the volume of this PersistentVolumeClaim, where it is at PATH, instead of from the node.
    ///
    /// DIR is where the same volume is on this machine, such as by NFS: the sizes of the input are read there. Subsets of
    /// an input are mounted item by item (subPath), unless the directory of the sweep is in the volume, too.
    #[arg(long = "claim", value_name = "DIR=CLAIM[/PATH]", help_heading = "Kubernetes options")]
    claims: Vec<ClaimedDirectory>,
    /// Create a pod only once its requests fit on a node beside those of the other pods; until then, wait as if it were
    /// pending.
    ///
    /// Considers the node selector, tolerations and all requests of the pod, which must include memory (--limit, the rules
    /// of a task, or --pod). Fails at once if no node is large enough. Needs a ClusterRole to list nodes and pods; `highwater
    /// doctor --on kubernetes` says whether it is there.
    #[arg(long, help_heading = "Kubernetes options")]
    when_fits: bool,
    /// Take the probe from this image, which `highwater probe-image` makes, instead of a ConfigMap.
    ///
    /// For clusters that mount ConfigMaps without the right to execute. An init container copies it.
    #[arg(long, value_name = "IMAGE", help_heading = "Kubernetes options")]
    probe_image: Option<String>,
}

impl ClusterArgs {
    /// The options for these arguments; `None` for this machine.
    ///
    /// # Errors
    /// If there are any for this machine.
    pub(crate) fn options(&self, on: PlaceArg) -> Result<Option<ClusterOptions>, Failure> {
        let given = [
            ("--namespace", self.namespace.is_some()),
            ("--context", self.context.is_some()),
            ("--kubeconfig", self.kubeconfig.is_some()),
        ];
        only_for_clusters(on, &given)?;
        Ok((on == PlaceArg::Kubernetes).then(|| {
            let mut options = ClusterOptions::default();
            options.namespace.clone_from(&self.namespace);
            options.context.clone_from(&self.context);
            options.kubeconfig.clone_from(&self.kubeconfig);
            options
        }))
    }
}

impl PodArgs {
    /// The options for these arguments; `None` for this machine.
    ///
    /// # Errors
    /// If there are any for this machine.
    pub(crate) fn options(&self, on: PlaceArg) -> Result<Option<ClusterOptions>, Failure> {
        let given = [
            ("--pod", self.pod.is_some()),
            ("--pending-timeout", self.pending_timeout.is_some()),
            ("--when-fits", self.when_fits),
            ("--probe-image", self.probe_image.is_some()),
            ("--claim", !self.claims.is_empty()),
        ];
        only_for_clusters(on, &given)?;
        Ok(self.cluster.options(on)?.map(|mut options| {
            options.template.clone_from(&self.pod);
            options.when_fits = self.when_fits;
            options.probe_image.clone_from(&self.probe_image);
            options.claims.clone_from(&self.claims);
            options.pending_timeout = self.pending_timeout.unwrap_or(options.pending_timeout);
            options
        }))
    }
}

/// Refuses options of clusters that were given for this machine.
fn only_for_clusters(on: PlaceArg, given: &[(&str, bool)]) -> Result<(), Failure> {
    match given.iter().find(|(_, is_given)| *is_given && on == PlaceArg::Local) {
        Some((option, _)) => {
            let help = "add --on kubernetes, or remove it".to_owned();
            Err(Failure::new(Exit::Usage, format!("{option} has no effect without --on kubernetes"), Some(help)))
        }
        None => Ok(()),
    }
}
