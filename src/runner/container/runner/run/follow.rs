//! Follows a started container to its end.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerState;
use bollard::query_parameters::{InspectContainerOptions, WaitContainerOptionsBuilder};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::host::cgroup::Cgroup;
use crate::host::memory::MemoryReader;
use crate::model::observation::Events;
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::runner::container::runner::logs::LAST_OUTPUT;
use crate::runner::run_cgroup::has_processes;

/// How long the engine may take to report the state of a container.
pub(super) const INSPECT: Duration = Duration::from_secs(10);
/// The interval at which the container's cgroup is checked for processes.
const LOOK: Duration = Duration::from_secs(1);
/// How long the engine may take to report the end once the processes are gone.
const GONE_FOR: Duration = Duration::from_secs(10);
/// The interval between pings of an engine on another machine, and how long it may stay silent.
const PING: Duration = Duration::from_secs(30);
const SILENT_FOR: Duration = Duration::from_secs(120);

/// The names of the requests at the end of a container, for errors.
const WAITING: &str = "report the end of the container";
pub(super) const LOOKING: &str = "inspect the container";

/// The exit status of the container, and when the engine reported it.
pub(super) type Reported = Arc<OnceLock<(i64, Instant)>>;

/// How a container ended.
#[derive(Debug)]
pub(super) struct ContainerEnd {
    /// Its exit status, or why it is not known.
    pub(super) status: Result<i64, String>,
    pub(super) state: Option<ContainerState>,
    /// The request that the engine did not answer.
    pub(super) unanswered: Option<&'static str>,
}

impl ContainerEnd {
    /// An end that the engine has not reported.
    pub(super) fn unreported() -> Self {
        let reason = "the engine has not reported the end of the container".to_owned();
        Self { status: Err(reason), state: None, unanswered: Some(WAITING) }
    }
}

/// Waits for the end, then for the last output, then for the state of the container. Closes `end_signal` when all is
/// known.
pub(super) async fn follow(
    docker: Docker,
    id: String,
    cgroup: Option<Cgroup>,
    (closed, is_last): (Option<oneshot::Receiver<()>>, Arc<AtomicBool>),
    reported: Reported,
    (end_signal, sender): (Option<OwnedFd>, oneshot::Sender<ContainerEnd>),
) {
    let status = match select(pin!(wait(&docker, &id)), pin!(silence(&docker, cgroup))).await {
        Either::Left((status, _)) => Some(status),
        Either::Right(_) => None,
    };
    if let Some(Ok(status)) = status {
        let _ = reported.set((status, Instant::now()));
    }
    is_last.store(true, Ordering::Relaxed);
    if let (Some(Ok(_)), Some(closed)) = (&status, closed) {
        // Output that has not arrived by then is lost.
        let _ = timeout(LAST_OUTPUT, closed).await;
    }
    let ended = match status {
        None => ContainerEnd::unreported(),
        Some(Err(reason)) => ContainerEnd { status: Err(reason), state: None, unanswered: None },
        Some(Ok(status)) => {
            let inspected = timeout(INSPECT, docker.inspect_container(&id, None::<InspectContainerOptions>)).await;
            let unanswered = inspected.is_err().then_some(LOOKING);
            let state = inspected.ok().and_then(Result::ok).and_then(|found| found.state);
            ContainerEnd { status: Ok(status), state, unanswered }
        }
    };
    // The receiver is gone if the run was given up.
    let _ = sender.send(ended);
    drop(end_signal);
}

/// Returns if the engine does not report the end of the container long after it, or does not answer any more.
async fn silence(docker: &Docker, cgroup: Option<Cgroup>) {
    let mut was_used = false;
    let (mut gone_for, mut last_ping, mut last_answer) = (Duration::ZERO, Instant::now(), Instant::now());
    while gone_for < GONE_FOR && last_answer.elapsed() < SILENT_FOR {
        tokio::time::sleep(LOOK).await;
        let is_used = cgroup.as_ref().is_some_and(|cgroup| has_processes(&cgroup.path));
        // A short task may have ended before the first check; the memory charged to its cgroup shows that it ran.
        was_used = was_used || is_used || cgroup.as_ref().is_some_and(has_peak);
        if was_used {
            gone_for = if is_used { Duration::ZERO } else { gone_for + LOOK };
            last_answer = Instant::now();
        } else if last_ping.elapsed() >= PING {
            if matches!(timeout(PING, docker.ping()).await, Ok(Ok(_))) {
                last_answer = Instant::now();
            }
            last_ping = Instant::now();
        }
    }
}

fn has_peak(cgroup: &Cgroup) -> bool {
    MemoryReader::new(cgroup).peak().is_ok_and(|peak| peak.value().is_some_and(|peak| peak.0 > 0))
}

async fn wait(docker: &Docker, id: &str) -> Result<i64, String> {
    let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
    let patient = docker.clone().with_timeout(Duration::from_secs(u64::from(u32::MAX)));
    let mut answers = pin!(patient.wait_container(id, Some(options)));
    match answers.next().await {
        Some(Ok(answer)) => Ok(answer.status_code),
        // The client treats any status but 0 as an error.
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, error })) if error.is_empty() => Ok(code),
        Some(Err(bollard::errors::Error::DockerContainerWaitError { error, .. })) => Err(error),
        Some(Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })) => {
            Err("the container was removed by another program".to_owned())
        }
        Some(Err(error)) => Err(format!("lost the connection to the engine ({})", one_line(&error))),
        None => Err("the engine closed the connection".to_owned()),
    }
}

/// From start to end, by the engine's clock.
pub(super) fn wall(state: &ContainerState) -> Option<Duration> {
    let time = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let (started, finished) = (time(&state.started_at)?, time(&state.finished_at)?);
    Duration::try_from(finished.duration_since(started)).ok()
}

/// v1 counts limit hits in the cgroup that has the limit, the container's own: they do not show in the cgroup above.
pub(super) fn seen_from_above(events: Events) -> Events {
    match events.ooms {
        Reading::Value(_) => events,
        Reading::Unsupported | Reading::Gone => {
            Events { limit_hits: events.ooms, ooms: events.ooms, oom_kills: events.ooms }
        }
    }
}
