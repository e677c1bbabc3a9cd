//! Pods that others created, whose containers start with the probe, and what they say of their runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, Pod};

use super::manifest::OWNER;
use super::status::{described, engine, probed_end};
use crate::host::machine::Machine;
use crate::model::observation::{Exactness, Peak, PodFacts};
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;
use crate::runner::probe::{self, Report};
use crate::runner::production::{Missing, ProductionRun, annotations};

/// A pod, and the runs of its containers that have ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProductionPod {
    /// Its UID.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The runs.
    pub runs: Vec<ProductionRun>,
    /// Why the pod, or one of its containers, has no run.
    pub missing: Vec<Missing>,
    /// Whether runs may follow.
    pub is_live: bool,
}

impl ProductionPod {
    /// Reads a pod. `is_gone` says that it was deleted: no run can follow.
    pub(super) fn new(pod: &Pod, is_gone: bool, version: &str, machine: &Machine) -> Self {
        let metadata = &pod.metadata;
        let mut found = Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            annotations: metadata.annotations.clone().unwrap_or_default(),
            runs: Vec::new(),
            missing: Vec::new(),
            is_live: false,
        };
        if found.annotations.contains_key(OWNER) {
            found.missing.push(Missing::new("created by highwater, which records it itself", ""));
            return found;
        }
        let spec = pod.spec.as_ref();
        let specified =
            || spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        if !specified().any(|container| Launch::new(container).is_some()) && !has_report(pod) {
            found.missing.push(Missing::new("no container whose command begins with the probe", ""));
            return found;
        }
        let is_over = is_gone || matches!(phase(pod), Some("Failed" | "Succeeded"));
        for container in specified() {
            found.read(pod, container, is_over, version, machine);
        }
        found
    }

    fn read(&mut self, pod: &Pod, container: &Container, is_over: bool, version: &str, machine: &Machine) {
        let launch = Launch::new(container);
        let status = statuses(pod).find(|status| status.name == container.name);
        let ends = status.map(ends).unwrap_or_default();
        if launch.is_none() && !ends.iter().any(|(end, _)| is_report(end)) {
            return;
        }
        let last = status.and_then(|status| status.state.as_ref()?.terminated.as_ref());
        let may_restart = !is_over && restarts(pod);
        if !is_over && (last.is_none() || may_restart) {
            self.is_live = true;
        }
        if last.is_none() {
            self.missing.push(if is_over { without_end(pod) } else { not_yet(status) });
        }
        for (end, restarts) in ends {
            // An earlier container of the pod ended while the pod went on.
            let loss = if last == Some(end) { loss(pod, end) } else { None };
            match run(container, launch.as_ref(), (end, loss), machine) {
                Ok(mut run) => {
                    let facts = PodFacts {
                        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
                        restarts,
                        uid: Some(self.uid.clone()),
                        container: Some(container.name.clone()),
                        ..PodFacts::new(self.name.clone(), pod.metadata.namespace.clone().unwrap_or_default())
                    };
                    if let Some(contained) = &mut run.finished.contained {
                        contained.pod = Some(facts.clone());
                        let own = &mut contained.container;
                        own.image_id = status.map(|status| status.image_id.clone()).filter(|id| !id.is_empty());
                        own.engine = engine(version, own.engine.clone());
                        if reason(pod) == Some("DeadlineExceeded") {
                            contained.timed_out = deadline(pod);
                        }
                    }
                    run.pod = Some(facts);
                    self.runs.push(run);
                }
                Err(missing) => self.missing.push(missing),
            }
        }
    }
}

/// The run of a container that has ended, as far as it is known without its pod; or why there is none.
fn run(
    container: &Container,
    launch: Option<&Launch>,
    (end, loss): (&ContainerStateTerminated, Option<String>),
    machine: &Machine,
) -> Result<ProductionRun, Missing> {
    let how = described(Some(&format!("exit status {}", end.exit_code)), end.reason.as_deref());
    let message = end.message.as_deref().unwrap_or_default();
    if message.is_empty() {
        let place = container.termination_message_path.as_deref().unwrap_or(MESSAGE);
        return Err(match launch.and_then(|launch| launch.result.as_deref()).filter(|result| *result != place) {
            Some(result) => {
                Missing::new("the probe writes elsewhere", format!("{result}, but terminationMessagePath is {place}"))
            }
            None => Missing::new("ended without a report of the probe", how),
        });
    }
    let report = Report::parse(message.as_bytes()).map_err(|error| {
        Missing::new("the termination message is not a report of the probe", format!("{error}; {how}"))
    })?;
    let probed = probed_end(Some(end), loss, limit(container));
    if report.end.is_none() && !probed.killed_with_probe {
        return Err(Missing::new("the report is cut: the probe was killed before it read the peak", how));
    }
    let (mut finished, mut contained) = probed.finished(machine);
    if report.timed_out {
        contained.timed_out = launch.and_then(|launch| launch.timeout).or(report.wall);
    }
    let times = end.started_at.as_ref().zip(end.finished_at.as_ref());
    let of_engine = times.and_then(|(started, ended)| Duration::try_from(ended.0.duration_since(started.0)).ok());
    contained.wall = contained.wall.or(of_engine);
    contained.container.image = container.image.clone().unwrap_or_default();
    finished.contained = Some(contained);
    if launch.is_none() {
        finished.peak = finished.peak.map(after_others);
    }
    Ok(ProductionRun {
        pod: None,
        batch: None,
        command: launch.map_or_else(|| words(container).cloned().collect(), |launch| launch.command.clone()),
        annotations: annotations(report.origin.annotations.as_deref()),
        started_at: end.started_at.as_ref().map_or_else(Timestamp::now, |time| Timestamp(time.0)),
        finished,
    })
}

/// The peak of a container in which the probe is not the first process.
fn after_others(mut peak: Peak) -> Peak {
    if matches!(peak.exactness, Exactness::Exact { .. }) {
        peak.exactness = Exactness::LowerBound {
            reason:
                "the command of the container does not begin with the probe, so that other processes may have needed \
                     more after its report"
                    .to_owned(),
            remedy: "make the probe the first word of the container's command".to_owned(),
        };
    }
    peak
}

/// Where Kubernetes looks for a termination message by default.
const MESSAGE: &str = "/dev/termination-log";

/// A command line that begins with the probe.
struct Launch {
    /// The file that the probe writes to.
    result: Option<String>,
    timeout: Option<Duration>,
    command: Vec<String>,
}

impl Launch {
    /// `None` if the command does not begin with the probe.
    fn new(container: &Container) -> Option<Self> {
        container.command.as_ref().filter(|command| !command.is_empty())?;
        let words: Vec<&String> = words(container).collect();
        let separator = words.iter().position(|word| *word == "--").filter(|place| matches!(place, 2 | 4))?;
        Path::new(words[0]).file_name().and_then(|name| name.to_str()).filter(|name| name.contains(probe::NAME))?;
        let timeout = words.get(2).filter(|_| separator == 4).and_then(|word| word.parse().ok());
        Some(Self {
            result: Some(words[1].clone()),
            timeout: timeout.map(Duration::from_millis),
            command: words[separator + 1..].iter().map(|word| (*word).clone()).collect(),
        })
    }
}

fn words(container: &Container) -> impl Iterator<Item = &String> {
    container.command.iter().flatten().chain(container.args.iter().flatten())
}

fn limit(container: &Container) -> Option<Bytes> {
    container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.parse().ok()
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    })
}

/// The ends of a container that are known, each with the restarts before it.
fn ends(status: &ContainerStatus) -> Vec<(&ContainerStateTerminated, u32)> {
    let restarts = u32::try_from(status.restart_count).unwrap_or(0);
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let current = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    let earlier = last.zip(restarts.checked_sub(1));
    earlier.into_iter().chain(current.map(|end| (end, restarts))).collect()
}

fn is_report(end: &ContainerStateTerminated) -> bool {
    end.message.as_deref().is_some_and(|message| Report::parse(message.as_bytes()).is_ok())
}

fn has_report(pod: &Pod) -> bool {
    statuses(pod).flat_map(ends).any(|(end, _)| is_report(end))
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn reason(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.reason.as_deref()
}

fn deadline(pod: &Pod) -> Option<Duration> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

fn restarts(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) != Some("Never")
}

/// Why a container that will never end has none.
fn without_end(pod: &Pod) -> Missing {
    let message = pod.status.as_ref().and_then(|status| status.message.as_deref());
    match reason(pod) {
        Some(reason) => Missing::new("ended by the cluster without a report", described(Some(reason), message)),
        None if pod.metadata.deletion_timestamp.is_some() => Missing::new("deleted before its end was reported", ""),
        None => Missing::new(
            "the pod ended, but the end of its container was not reported",
            phase(pod).unwrap_or("Unknown"),
        ),
    }
}

fn not_yet(status: Option<&ContainerStatus>) -> Missing {
    let state = status.and_then(|status| status.state.as_ref());
    if state.is_some_and(|state| state.running.is_some()) {
        return Missing::new("still running", "");
    }
    let waiting = state.and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.as_deref());
    Missing::new("not started yet", waiting.unwrap_or_default())
}

/// Why the task did not end by itself: the cluster or another client ended the pod.
fn loss(pod: &Pod, end: &ContainerStateTerminated) -> Option<String> {
    // Evicted, Preempting, NodeLost, NodeShutdown, Terminated. The deadline is a time-out.
    if let Some(reason) = reason(pod).filter(|reason| *reason != "DeadlineExceeded") {
        let message = pod.status.as_ref().and_then(|status| status.message.as_deref());
        return Some(format!("the pod was ended by the cluster: {}", described(Some(reason), message)));
    }
    let deletion = pod.metadata.deletion_timestamp.as_ref()?;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    // What creates pods often deletes them after their end. Both times are whole seconds.
    let ended_before = end
        .finished_at
        .as_ref()
        .is_some_and(|finished| finished.0.as_second() < deletion.0.as_second().saturating_sub(grace));
    (!ended_before).then(|| "the pod was deleted before its task had ended".to_owned())
}

#[cfg(test)]
mod tests;
