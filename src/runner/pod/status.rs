//! What the status of a pod says about its task.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};

use crate::model::observation::{Engine, Warning};
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::probe::{ProbedEnd, Report};

/// What is known of a pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The pod as it was last seen.
    pub(super) pod: Option<Pod>,
    /// Why it is not watched any more, if its task has not ended.
    pub(super) lost: Option<String>,
}

/// How far the task has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not started, for this reason.
    Pending(String),
    Running,
    Over,
}

impl Seen {
    pub(super) fn phase(&self, container: &str) -> Phase {
        let Some(pod) = &self.pod else { return Phase::Pending("the pod was not seen".to_owned()) };
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        if self.lost.is_some() || self.terminated(container).is_some() || matches!(phase, Some("Failed" | "Succeeded"))
        {
            return Phase::Over;
        }
        // The task's container says only that it waits for these.
        let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
        let waiting = init.iter().find_map(|status| status.state.as_ref()?.waiting.as_ref());
        if let Some(waiting) = waiting.filter(|waiting| waiting.reason.as_deref() != Some("PodInitializing")) {
            return Phase::Pending(described(waiting.reason.as_deref(), waiting.message.as_deref()));
        }
        match self.status(container).and_then(|status| status.state.as_ref()) {
            Some(ContainerState { running: Some(_), .. }) => return Phase::Running,
            Some(ContainerState { waiting: Some(waiting), .. }) if waiting.reason.is_some() => {
                return Phase::Pending(described(waiting.reason.as_deref(), waiting.message.as_deref()));
            }
            Some(_) | None => {}
        }
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let unscheduled = conditions.iter().find(|it| it.type_ == "PodScheduled" && it.status == "False");
        Phase::Pending(unscheduled.map_or_else(
            || "no node has started it".to_owned(),
            |condition| described(condition.reason.as_deref(), condition.message.as_deref()),
        ))
    }

    fn status(&self, container: &str) -> Option<&ContainerStatus> {
        let statuses = self.pod.as_ref()?.status.as_ref()?.container_statuses.as_ref()?;
        statuses.iter().find(|status| status.name == container)
    }

    /// The end of the task's container.
    pub(super) fn terminated(&self, container: &str) -> Option<&ContainerStateTerminated> {
        self.status(container)?.state.as_ref()?.terminated.as_ref()
    }

    /// Why the task did not end by itself: the cluster or another client ended the pod.
    pub(super) fn loss(&self, container: &str, deleted_by_us: bool) -> Option<String> {
        let status = self.pod.as_ref().and_then(|pod| pod.status.as_ref());
        // Preempted, drained, or its node was tainted; since Kubernetes 1.26.
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        if let Some(it) = conditions.iter().find(|it| it.type_ == "DisruptionTarget" && it.status == "True") {
            let reason = described(it.reason.as_deref(), it.message.as_deref());
            return Some(format!("the pod was ended by the cluster: {reason}"));
        }
        if let Some(reason) = &self.lost {
            return Some(reason.clone());
        }
        let pod = self.pod.as_ref()?;
        // Evicted, Preempting, NodeLost, NodeShutdown, Terminated.
        if let Some(reason) = status.and_then(|status| status.reason.as_deref())
            && reason != "DeadlineExceeded"
        {
            let message = status.and_then(|status| status.message.as_deref());
            return Some(format!("the pod was ended by the cluster: {}", described(Some(reason), message)));
        }
        if pod.metadata.deletion_timestamp.is_some() && !deleted_by_us {
            return Some("the pod was deleted by another client".to_owned());
        }
        let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
        let failed = init.iter().find_map(|init| {
            let end = init.state.as_ref()?.terminated.as_ref()?;
            (end.exit_code != 0).then_some((&init.name, end))
        });
        if let (Some((name, end)), None) = (failed, self.terminated(container)) {
            let reason = format!("the init container {name} ended with status {}", end.exit_code);
            return Some(described(Some(&reason), end.message.as_deref()));
        }
        self.terminated(container).is_none().then(|| {
            let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Unknown");
            let reason = status.and_then(|status| status.reason.as_deref());
            described(Some(&format!("the pod has the phase {phase} without an end of the task")), reason)
        })
    }

    /// The digest of the image.
    pub(super) fn image_id(&self, container: &str) -> Option<&str> {
        self.status(container).map(|status| status.image_id.as_str()).filter(|id| !id.is_empty())
    }

    pub(super) fn restarts(&self, container: &str) -> u32 {
        self.status(container).and_then(|status| u32::try_from(status.restart_count).ok()).unwrap_or(0)
    }

    pub(super) fn node(&self) -> Option<&str> {
        self.pod.as_ref()?.spec.as_ref()?.node_name.as_deref()
    }
}

/// The end of a container, whose termination message is the report of the probe.
pub(super) fn probed_end(
    terminated: Option<&ContainerStateTerminated>,
    loss: Option<String>,
    limit: Option<Bytes>,
) -> ProbedEnd {
    let message = terminated.and_then(|end| end.message.as_deref());
    let (report, note) = match message.map(|message| Report::parse(message.as_bytes())) {
        Some(Ok(report)) => (Some(report), None),
        Some(Err(error)) => (None, Some(Warning::NoProbeResult { reason: one_line(&error) })),
        None => (None, None),
    };
    // The reason alone says little: it is the same if only a child of the task was killed.
    let reason = terminated.and_then(|end| end.reason.as_deref());
    let status = terminated.map(|end| end.exit_code);
    let killed_with_probe = reason == Some("OOMKilled")
        && status == Some(128 + 9)
        && report.as_ref().is_none_or(|report| report.end.is_none());
    let limit = Reading::Value(limit);
    ProbedEnd { status, killed_with_probe, loss, limit, notes: note.into_iter().collect(), ..ProbedEnd::new(report) }
}

/// The engine of a container; the probe has reported the rest.
pub(super) fn engine(version: &str, probed: Engine) -> Engine {
    Engine { name: "Kubernetes".to_owned(), version: Some(version.to_owned()), ..probed }
}

pub(super) fn described(reason: Option<&str>, message: Option<&str>) -> String {
    let parts = [reason, message].into_iter().flatten().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn seen(status: Value) -> Seen {
        let pod = json!({"metadata": {"name": "p"}, "status": status});
        Seen { pod: Some(serde_json::from_value(pod).unwrap()), lost: None }
    }

    fn with_state(phase: &str, state: Value) -> Value {
        let container =
            json!({"name": "task", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        json!({"phase": phase, "containerStatuses": [container]})
    }

    /// As Kubernetes 1.20 reported them.
    #[test]
    fn a_pod_is_pending_for_the_reason_that_kubernetes_gives() {
        let message = "0/1 nodes are available: 1 Insufficient memory.";
        let unschedulable = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message},
        ]});
        assert_eq!(seen(unschedulable).phase("task"), Phase::Pending(format!("Unschedulable: {message}")));
        let waiting = json!({"waiting": {"reason": "ErrImageNeverPull", "message": "Container image is not present"}});
        let expected = "ErrImageNeverPull: Container image is not present".to_owned();
        assert_eq!(seen(with_state("Pending", waiting.clone())).phase("task"), Phase::Pending(expected.clone()));
        let mut initializing = with_state("Pending", json!({"waiting": {"reason": "PodInitializing"}}));
        initializing["initContainerStatuses"] = with_state("", waiting)["containerStatuses"].clone();
        assert_eq!(seen(initializing).phase("task"), Phase::Pending(expected));
    }

    #[test]
    fn an_evicted_pod_is_lost_with_or_without_its_result() {
        let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "exceeds 20Mi"});
        let seen_evicted = seen(evicted);
        assert_eq!(seen_evicted.phase("task"), Phase::Over);
        let expected = "the pod was ended by the cluster: Evicted: exceeds 20Mi";
        assert_eq!(seen_evicted.loss("task", false).as_deref(), Some(expected));
    }

    #[test]
    fn a_preempted_pod_is_lost_for_the_reason_of_the_scheduler() {
        let mut status = with_state("Running", json!({"terminated": {"exitCode": 143}}));
        let message = "default-scheduler: preempting to accommodate a higher priority pod";
        status["conditions"] = json!([
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message},
        ]);
        let mut seen = seen(status);
        seen.lost = Some("the pod was deleted by another client, or with its node".to_owned());
        let expected = format!("the pod was ended by the cluster: PreemptionByScheduler: {message}");
        assert_eq!(seen.loss("task", false), Some(expected));
    }

    #[test]
    fn a_deleted_pod_is_lost_unless_we_deleted_it() {
        let state = json!({"terminated": {"exitCode": 143, "message": "highwater-probe 1\nsignalled 15\n"}});
        let mut seen = seen(with_state("Running", state));
        assert_eq!((seen.phase("task"), seen.loss("task", false)), (Phase::Over, None));
        let deletion = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        seen.pod.as_mut().unwrap().metadata.deletion_timestamp = Some(deletion);
        assert_eq!(seen.loss("task", false).as_deref(), Some("the pod was deleted by another client"));
        assert_eq!(seen.loss("task", true), None);
    }
}
