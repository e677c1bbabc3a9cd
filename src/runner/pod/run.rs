//! A pod from its creation to its removal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::time::{Duration, Instant};

use bollard::container::LogOutput;
use futures_util::io::AsyncReadExt;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, LogParams, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::core::ApiResource;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::cluster::{BRISK, Cluster};
use super::manifest::{Manifest, OWNER};
use super::status::{Phase, Seen, engine, probed_end};
use super::{PodError, PodLaunch};
use crate::host::HostError;
use crate::host::machine::Machine;
use crate::model::observation::{Container, Logs, PodFacts, RunnerKind, Warning};
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::signal::Signal;
use crate::model::units::{Bytes, duration};
use crate::runner::container::runner::logs::{Chunks, Forwarding, LAST_OUTPUT};
use crate::runner::container::runner::owner::Claim;
use crate::runner::patience::Patience;
use crate::runner::{Contained, FinishError, Finished, Runner, Running, Sample, StartError};

/// How often to look for a request to stop, and for silence.
const LOOK: Duration = Duration::from_millis(500);
/// After how long the reason why a pod is pending is told.
const TOLD_AFTER: Duration = Duration::from_secs(30);
/// How long to wait before asking again after a failed request.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the API server may be away.
const AWAY: Duration = Duration::from_secs(600);
/// How long a deleted pod may take beyond its grace period; the node is lost then.
const DELETED_FOR: Duration = Duration::from_secs(90);
/// How long a watch may last before the pod is listed again: API servers end them after about 5 minutes, but the end does
/// not arrive over a connection that a firewall has dropped.
const WATCHED_FOR: Duration = Duration::from_secs(300);
/// How long the cluster may take to report the end of a pod that was killed.
const REPORT_END: Duration = Duration::from_secs(10);

/// Starts pods.
#[derive(Debug)]
pub struct PodRunner {
    machine: Machine,
    cluster: Cluster,
    launch: PodLaunch,
}

impl PodRunner {
    /// Creates a runner for this pod.
    pub fn new(machine: &Machine, cluster: Cluster, launch: PodLaunch) -> Self {
        Self { machine: machine.clone(), cluster, launch }
    }
}

impl From<PodError> for StartError {
    fn from(error: PodError) -> Self {
        Self::Pod(error)
    }
}

impl Runner for PodRunner {
    fn start(&mut self, patience: &mut Patience<'_>) -> Result<Box<dyn Running>, StartError> {
        let cluster = &self.cluster;
        let own = &self.launch.container;
        let claim = Claim::new(own.name.as_deref(), Some(&own.image));
        let owner = claim.label().1;
        let pending = cluster.pending_timeout();
        // Checked before anything is created.
        Manifest::new(cluster.template(), &self.launch, claim.name(), (&owner, ""), pending)?;
        let config_map = cluster.probe(patience)?;
        let manifest = Manifest::new(cluster.template(), &self.launch, claim.name(), (&owner, &config_map), pending)?;
        let mut run = PodRun::new(self, (claim.name(), owner), manifest.container)?;
        let action = format!("create a pod in the namespace {}", cluster.namespace());
        // As it is written: a type of ours would drop fields of newer versions.
        let resource = ApiResource::erase::<Pod>(&());
        let pods = Api::<DynamicObject>::namespaced_with(cluster.client().clone(), cluster.namespace(), &resource);
        let object: DynamicObject = serde_json::from_value(manifest.pod)
            .map_err(|error| PodError::Unsupported { what: error.to_string(), remedy: "correct it".to_owned() })?;
        run.was_created = true;
        let created = cluster.call(patience, &action, pods.create(&PostParams::default(), &object));
        match created {
            Ok(pod) => run.uid = pod.metadata.uid,
            Err(_) if patience.was_requested() => {
                run.end_signal = None;
                return Ok(Box::new(run));
            }
            Err(error) => {
                run.was_created = !error.is_refusal();
                return Err(error.into());
            }
        }
        run.follow();
        run.wait_for_start(patience)?;
        run.started = Instant::now();
        run.forward(&self.launch)?;
        Ok(Box::new(run))
    }
}

/// A pod that was created. Dropping it removes the pod.
struct PodRun {
    cluster: Cluster,
    machine: Machine,
    name: String,
    /// The name of the task's container.
    container: String,
    image: String,
    limit: Option<Bytes>,
    logs: Option<Logs>,
    timeout: Option<Duration>,
    kill_after: Duration,
    started: Instant,
    was_created: bool,
    /// Its UID, once the API server has confirmed its creation.
    uid: Option<String>,
    /// Its annotation, which no other pod has.
    owner: String,
    /// Whether highwater asked for the deletion.
    was_deleted: bool,
    seen: Receiver<Seen>,
    sender: Option<Sender<Seen>>,
    ended: OwnedFd,
    /// Closed once the end is known, which makes `ended` readable.
    end_signal: Option<OwnedFd>,
    following: Option<JoinHandle<()>>,
    forwarding: Option<Forwarding>,
    /// Why the pod was given up before its task started.
    given_up: Option<String>,
}

impl PodRun {
    fn new(runner: &PodRunner, (name, owner): (&str, String), container: String) -> Result<Self, StartError> {
        let (ended, end_signal) = pipe2(OFlag::O_CLOEXEC)
            .map_err(|errno| StartError::System { action: "create a pipe", source: errno.into() })?;
        let (sender, seen) = watch::channel(Seen::default());
        Ok(Self {
            cluster: runner.cluster.clone(),
            machine: runner.machine.clone(),
            name: name.to_owned(),
            container,
            image: runner.launch.container.image.clone(),
            limit: runner.launch.container.limit,
            logs: runner.launch.container.logs.clone(),
            timeout: runner.launch.timeout,
            kill_after: runner.launch.kill_after,
            started: Instant::now(),
            was_created: false,
            uid: None,
            owner,
            was_deleted: false,
            seen,
            sender: Some(sender),
            ended,
            end_signal: Some(end_signal),
            following: None,
            forwarding: None,
            given_up: None,
        })
    }

    /// Watches the pod in the background.
    fn follow(&mut self) {
        let (Some(sender), Some(end_signal)) = (self.sender.take(), self.end_signal.take()) else { return };
        let (pods, name, container) = (self.cluster.pods(), self.name.clone(), self.container.clone());
        let following = follow(pods, name, container, sender, end_signal);
        self.following = Some(self.cluster.threads().handle.spawn(following));
    }

    /// Does not wait for a pod whose task has not started; its end is known then.
    fn give_up(&mut self, reason: String) {
        self.given_up = Some(reason);
        if let Some(following) = &self.following {
            following.abort();
        }
    }

    /// Waits until the task has started or ended, for as long as a pod may be pending.
    fn wait_for_start(&mut self, patience: &mut Patience<'_>) -> Result<(), StartError> {
        let since = Instant::now();
        let mut told = None;
        loop {
            let waiting = self.seen.wait_for(|seen| !matches!(seen.phase(&self.container), Phase::Pending(_)));
            let has_started = self.cluster.threads().wait(patience, LOOK, async { waiting.await.is_ok() });
            let phase = self.seen.borrow().phase(&self.container);
            let Phase::Pending(reason) = phase else { break };
            if patience.was_requested() {
                self.give_up(format!("the pod was still pending: {reason}"));
                return Ok(());
            }
            if has_started == Some(false) || since.elapsed() >= self.cluster.pending_timeout() {
                let most = duration(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
                self.give_up(format!("the pod was pending for {most}: {reason}"));
                return Ok(());
            }
            if since.elapsed() >= TOLD_AFTER && told.as_ref() != Some(&reason) {
                tracing::warn!("the pod {} is pending: {reason}", self.name);
                told = Some(reason);
            }
        }
        let seen = self.seen.borrow();
        if let Some(end) = seen.terminated(&self.container)
            && matches!(end.reason.as_deref(), Some("StartError" | "ContainerCannotRun"))
        {
            let reason = end.message.clone().unwrap_or_default();
            return Err(PodError::NotStarted { reason }.into());
        }
        Ok(())
    }

    /// Forwards the output, which Kubernetes keeps as one stream.
    fn forward(&mut self, launch: &PodLaunch) -> Result<(), StartError> {
        if self.given_up.is_some() {
            return Ok(());
        }
        let params = LogParams { container: Some(self.container.clone()), follow: true, ..LogParams::default() };
        let (pods, name) = (self.cluster.pods(), self.name.clone());
        let opening = async move { pods.log_stream(&name, &params).await.map(Box::pin) };
        let lines = stream::once(opening).map_ok(|reader| {
            stream::try_unfold(reader, |mut reader| async move {
                let mut part = vec![0; 1 << 15];
                let length = reader.read(&mut part).await.map_err(kube::Error::ReadEvents)?;
                part.truncate(length);
                Ok::<_, kube::Error>((length > 0).then_some((part, reader)))
            })
        });
        let chunks: Chunks = Box::pin(lines.try_flatten().map(|part| match part {
            Ok(part) => Ok(LogOutput::StdOut { message: part.into() }),
            Err(error) => Err(bollard::errors::Error::IOError { err: std::io::Error::other(error) }),
        }));
        self.forwarding = Some(Forwarding::start(self.cluster.threads(), chunks, None, &launch.container)?);
        Ok(())
    }

    /// Asks for the deletion, without waiting for the answer.
    fn delete_soon(&mut self, grace: Duration) {
        self.was_deleted = true;
        let (pods, name) = (self.cluster.pods(), self.name.clone());
        let grace = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX);
        let Some(uid) = self.uid.clone() else { return };
        drop(self.cluster.threads().handle.spawn(async move {
            let params = deletion_of(uid, grace);
            if let Ok(Err(error)) = timeout(BRISK, pods.delete(&name, &params)).await {
                tracing::debug!("failed to delete the pod {name}: {}", one_line(&error));
            }
        }));
    }

    /// Removes the pod; returns why it could not.
    fn remove(&mut self, patience: &mut Patience<'_>) -> Option<Warning> {
        if !std::mem::take(&mut self.was_created) {
            return None;
        }
        let (pods, name, owner, uid) = (self.cluster.pods(), &self.name, &self.owner, self.uid.clone());
        let removing = async move {
            let uid = match uid {
                Some(uid) => Some(uid),
                // The answer to its creation was lost, and the name may be that of another pod.
                None => pods.get_opt(name).await?.and_then(|pod| {
                    let is_own = pod.annotations().get(OWNER) == Some(owner);
                    pod.metadata.uid.filter(|_| is_own)
                }),
            };
            match uid {
                Some(uid) => pods.delete(name, &deletion_of(uid, 0)).await.map(drop),
                None => Ok(()),
            }
        };
        match self.cluster.call(patience, "remove the pod", removing) {
            // 409: another pod has its name by now.
            Ok(()) | Err(PodError::Request { status: Some(404 | 409), .. }) => None,
            Err(error) => {
                patience.note_unanswered("remove the pod");
                Some(Warning::ContainerNotRemoved { container: self.name.clone(), reason: one_line(&error) })
            }
        }
    }
}

/// The deletion of the pod with this UID, and of no other one with its name.
fn deletion_of(uid: String, grace_seconds: u32) -> DeleteParams {
    let preconditions = Some(Preconditions { uid: Some(uid), ..Preconditions::default() });
    DeleteParams { grace_period_seconds: Some(grace_seconds), preconditions, ..DeleteParams::default() }
}

impl Running for PodRun {
    fn kind(&self) -> RunnerKind {
        RunnerKind::Pod
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn shares_terminal(&self) -> bool {
        false
    }

    fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    fn sample(&mut self) -> Result<Reading<Sample>, HostError> {
        Ok(Reading::Unsupported)
    }

    fn signal(&mut self, signal: Signal) -> std::io::Result<()> {
        // A client can send no other signals than those of a deletion.
        self.delete_soon(if signal == Signal::SIGKILL { Duration::ZERO } else { self.kill_after });
        Ok(())
    }

    fn finish(mut self: Box<Self>, patience: &mut Patience<'_>) -> Result<Finished, FinishError> {
        let mut notes = Vec::new();
        let container = self.container.clone();
        if self.given_up.is_none() && self.seen.borrow().phase(&container) != Phase::Over {
            self.delete_soon(Duration::ZERO);
            let mut seen = self.seen.clone();
            let over = async { seen.wait_for(|seen| seen.phase(&container) == Phase::Over).await.is_ok() };
            let most = patience.left(REPORT_END);
            self.cluster.threads().wait(patience, most, over);
        }
        let seen = self.seen.borrow().clone();
        let loss = self.given_up.clone().or_else(|| seen.loss(&container, self.was_deleted));
        let end = probed_end(seen.terminated(&container), loss.clone(), self.limit);
        let (mut finished, contained) = end.finished(&self.machine);
        if let Some(forwarding) = &mut self.forwarding {
            forwarding.is_last.store(true, std::sync::atomic::Ordering::Relaxed);
            let closed = forwarding.closed.take();
            if let Some(closed) = closed {
                self.cluster.threads().wait(patience, LAST_OUTPUT, closed);
            }
            // The log goes with the pod.
            if let Some(unwritten) = forwarding.finish(self.cluster.threads(), patience) {
                notes.push(Warning::OutputLost { reason: unwritten.to_string() });
            }
            if let (Some(reason), None, false) = (forwarding.broken.get(), &loss, self.was_deleted) {
                notes.push(Warning::OutputLost { reason: format!("failed to read the log of the pod: {reason}") });
            }
        }
        notes.extend(self.remove(patience));
        finished.problems.extend(notes);
        finished.contained = Some(Contained {
            container: Container {
                image: self.image.clone(),
                image_id: seen.image_id(&container).map(str::to_owned),
                engine: engine(self.cluster.version(), contained.container.engine),
                unanswered: patience.unanswered().to_vec(),
                ..contained.container
            },
            logs: self.logs.clone(),
            timed_out: self.timeout.filter(|_| contained.timed_out.is_some()),
            pod: Some(PodFacts {
                node: seen.node().map(str::to_owned),
                restarts: seen.restarts(&container),
                uid: self.uid.clone(),
                container: Some(container),
                ..PodFacts::new(self.name.clone(), self.cluster.namespace())
            }),
            ..contained
        });
        Ok(finished)
    }
}

impl Drop for PodRun {
    fn drop(&mut self) {
        if let Some(warning) = self.remove(&mut Patience::new(None)) {
            tracing::warn!("{warning}");
        }
    }
}

/// Follows the pod to the end of its task: a list, then a watch from there, anew whenever it ends. Closes `end_signal` at
/// the end.
async fn follow(pods: Api<Pod>, name: String, container: String, sender: Sender<Seen>, end_signal: OwnedFd) {
    let mut away_since = None;
    let mut deletion = None;
    let lost = |reason: String| sender.send_modify(|seen| seen.lost = Some(reason));
    loop {
        match timeout(BRISK, pods.get_opt(&name)).await {
            Ok(Ok(Some(pod))) => {
                away_since = None;
                let version = pod.metadata.resource_version.clone().unwrap_or_default();
                note_deletion(&mut deletion, &pod);
                sender.send_modify(|seen| seen.pod = Some(pod));
                watch_from(&pods, &name, &container, &version, &sender, &mut deletion).await;
            }
            Ok(Ok(None)) => lost("the pod was deleted by another client, or with its node".to_owned()),
            Ok(Err(_)) | Err(_) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                if since.elapsed() > AWAY {
                    lost("the API server does not respond any more".to_owned());
                }
            }
        }
        // The receiver is gone if the run was given up.
        if sender.borrow().phase(&container) == Phase::Over || sender.is_closed() {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    drop(end_signal);
}

/// Since when a pod is being deleted, and its grace period.
type Deletion = (Instant, Duration);

fn note_deletion(deletion: &mut Option<Deletion>, pod: &Pod) {
    if pod.metadata.deletion_timestamp.is_some() && deletion.is_none() {
        let grace = pod.metadata.deletion_grace_period_seconds.and_then(|time| u64::try_from(time).ok());
        *deletion = Some((Instant::now(), Duration::from_secs(grace.unwrap_or(0))));
    }
}

/// Watches until the task has ended, the pod is gone, or the watch ends.
async fn watch_from(
    pods: &Api<Pod>,
    name: &str,
    container: &str,
    version: &str,
    sender: &Sender<Seen>,
    deletion: &mut Option<Deletion>,
) {
    let since = Instant::now();
    let is_over = || sender.borrow().phase(container) == Phase::Over || sender.is_closed();
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let Ok(Ok(events)) = timeout(BRISK, pods.watch(&params, version)).await else { return };
    let mut events = pin!(events);
    while !is_over() && since.elapsed() < WATCHED_FOR {
        if deletion.is_some_and(|(since, grace)| since.elapsed() > grace + DELETED_FOR) {
            sender.send_modify(|seen| seen.lost = Some("its node does not report its end".to_owned()));
            return;
        }
        match timeout(LOOK * 10, events.next()).await {
            Ok(Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)))) => {
                note_deletion(deletion, &pod);
                sender.send_modify(|seen| seen.pod = Some(pod));
            }
            Ok(Some(Ok(WatchEvent::Deleted(pod)))) => sender.send_modify(|seen| {
                seen.pod = Some(pod);
                if seen.terminated(container).is_none() {
                    seen.lost = Some("the pod was deleted by another client, or with its node".to_owned());
                }
            }),
            Ok(Some(Ok(WatchEvent::Bookmark(_)))) | Err(_) => {}
            Ok(Some(Ok(WatchEvent::Error(_)) | Err(_)) | None) => return,
        }
    }
}
