//! A pod from its creation to its removal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams, Preconditions};
use kube::core::ApiResource;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use serde_json::Value;
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::capacity::Fit;
use super::cluster::{BRISK, Cluster};
use super::demand::{Demand, Refusal};
use super::follow::follow;
use super::log;
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
use crate::runner::container::runner::logs::{Forwarding, LAST_OUTPUT};
use crate::runner::container::runner::owner::Claim;
use crate::runner::patience::Patience;
use crate::runner::{Contained, FinishError, Finished, Runner, Running, Sample, StartError};

/// How often to look for a request to stop, and for silence.
const LOOK: Duration = Duration::from_millis(500);
/// How long to wait before trying again to create a pod that has no room.
const NEXT_ATTEMPT: Duration = Duration::from_secs(2);
/// After how long the reason why a pod is pending is told.
const TOLD_AFTER: Duration = Duration::from_secs(30);
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
        let pending_timeout = cluster.pending_timeout();
        // Checked before anything is created.
        let preview = Manifest::new(
            cluster.template(),
            &self.launch,
            claim.name(),
            (&owner, cluster.probe_source("")),
            pending_timeout,
        )?;
        let demand = if cluster.when_fits() { Some(demand(preview.pod)?) } else { None };
        let mut run = PodRun::new(self, (claim.name(), owner), preview.container)?;
        let mut pending = Pending::new(pending_timeout);
        loop {
            let reason = match self.attempt(&mut run, demand.as_ref(), patience) {
                Ok(None) => break,
                Ok(Some(reason)) => reason,
                Err(error) => {
                    if run.was_created && patience.was_requested() {
                        run.end_signal = None;
                        return Ok(Box::new(run));
                    }
                    return Err(error.into());
                }
            };
            pending.tell(&run.name, &reason);
            cluster.threads().wait(patience, NEXT_ATTEMPT, std::future::pending::<()>());
            if pending.is_over() || patience.was_requested() {
                run.give_up(format!("the pod was not created for {}: {reason}", pending.time()));
                return Ok(Box::new(run));
            }
        }
        run.follow();
        run.wait_for_start(&mut pending, patience)?;
        run.started = Instant::now();
        run.forward(&self.launch)?;
        Ok(Box::new(run))
    }
}

impl PodRunner {
    /// Creates the pod, or returns why it has to wait.
    fn attempt(
        &self,
        run: &mut PodRun,
        demand: Option<&Demand>,
        patience: &mut Patience<'_>,
    ) -> Result<Option<String>, PodError> {
        let cluster = &self.cluster;
        let mut turn = demand.map(|_| cluster.turn());
        if let (Some(demand), Some(turn)) = (demand, &mut turn) {
            // Runs that wait for the same do not all list the cluster.
            let is_recent = |it: &&Refusal| it.at.elapsed() < NEXT_ATTEMPT && it.demand == *demand;
            if let Some(refusal) = turn.as_ref().filter(is_recent) {
                return Ok(Some(refusal.reason.clone()));
            }
            match cluster.fit(demand, patience)? {
                Fit::Now => {}
                Fit::Later(reason) => {
                    **turn = Some(Refusal { at: Instant::now(), demand: demand.clone(), reason: reason.clone() });
                    return Ok(Some(reason));
                }
                Fit::Never(reason) => return Err(PodError::DoesNotFit { reason }),
            }
        }
        let config_map = if cluster.probe_image().is_none() { cluster.probe(patience)? } else { String::new() };
        let (template, timeout) = (cluster.template(), cluster.pending_timeout());
        let probe = cluster.probe_source(&config_map);
        let manifest = Manifest::new(template, &self.launch, &run.name, (&run.owner, probe), timeout)?;
        match run.create(manifest.pod, patience) {
            Ok(()) => Ok(None),
            // Other pods of the namespace will end.
            Err(error) => match error.exceeded_quota() {
                Some(reason) => Ok(Some(reason.to_owned())),
                None => Err(error),
            },
        }
    }
}

/// What the scheduler has to find a place for.
fn demand(pod: Value) -> Result<Demand, PodError> {
    let pod: Pod = serde_json::from_value(pod).map_err(|error| PodError::Unsupported {
        what: format!("the template is not a pod as Kubernetes defines it: {error}"),
        remedy: "correct the file given with --pod".to_owned(),
    })?;
    let demand = Demand::new(&pod.spec.unwrap_or_default());
    if demand.knows_memory() {
        return Ok(demand);
    }
    Err(PodError::Unsupported {
        what: "--when-fits needs the memory that the pod requests, and it requests none".to_owned(),
        remedy: "give --limit, a task with rules, or a request in the file of --pod".to_owned(),
    })
}

/// The wait for the start of a task.
struct Pending {
    since: Instant,
    most: Duration,
    told: Option<String>,
}

impl Pending {
    fn new(most: Duration) -> Self {
        Self { since: Instant::now(), most, told: None }
    }

    fn is_over(&self) -> bool {
        self.since.elapsed() >= self.most
    }

    fn time(&self) -> String {
        duration(u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Tells the user the reason, once it has lasted for a while; whether it was told now.
    fn tell(&mut self, name: &str, reason: &str) -> bool {
        let is_new = self.since.elapsed() >= TOLD_AFTER && self.told.as_deref() != Some(reason);
        if is_new {
            tracing::warn!("the pod {name} is pending: {reason}");
            self.told = Some(reason.to_owned());
        }
        is_new
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
        let (cluster, names) = (&self.cluster, (self.name.clone(), self.container.clone()));
        let following = follow((cluster.pods(), cluster.told_away()), names, sender, end_signal);
        self.following = Some(self.cluster.threads().handle.spawn(following));
    }

    /// Does not wait for a pod whose task has not started; its end is known then.
    fn give_up(&mut self, reason: String) {
        self.given_up = Some(reason);
        self.end_signal = None;
        if let Some(following) = &self.following {
            following.abort();
        }
    }

    /// Creates the pod.
    fn create(&mut self, pod: Value, patience: &mut Patience<'_>) -> Result<(), PodError> {
        // As it is written: a type of ours would drop fields of newer versions.
        let resource = ApiResource::erase::<Pod>(&());
        let (client, namespace) = (self.cluster.client().clone(), self.cluster.namespace());
        let pods = Api::<DynamicObject>::namespaced_with(client, namespace, &resource);
        let object: DynamicObject = serde_json::from_value(pod)
            .map_err(|error| PodError::Unsupported { what: error.to_string(), remedy: "correct it".to_owned() })?;
        let (name, owner, params) = (&self.name, &self.owner, PostParams::default());
        let create = || async {
            match pods.create(&params, &object).await {
                // An earlier request may have succeeded and its response been lost.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let there = pods.get_opt(name).await?;
                    let own = there.filter(|pod| pod.annotations().get(OWNER) == Some(owner));
                    own.ok_or(kube::Error::Api(status))
                }
                answer => answer,
            }
        };
        self.was_created = true;
        let action = format!("create a pod in the namespace {namespace}");
        let created = self.cluster.persist(patience, &action, create);
        match created {
            Ok(pod) => self.uid = pod.metadata.uid,
            Err(error) => {
                self.was_created = !error.is_refusal();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits until the task has started or ended, for as long as a pod may be pending.
    fn wait_for_start(&mut self, pending: &mut Pending, patience: &mut Patience<'_>) -> Result<(), StartError> {
        loop {
            let waiting = self.seen.wait_for(|seen| !matches!(seen.phase(&self.container), Phase::Pending(_)));
            let has_started = self.cluster.threads().wait(patience, LOOK, async { waiting.await.is_ok() });
            let phase = self.seen.borrow().phase(&self.container);
            let Phase::Pending(reason) = phase else { break };
            if patience.was_requested() {
                self.give_up(format!("the pod was still pending: {reason}"));
                return Ok(());
            }
            if has_started == Some(false) || pending.is_over() {
                self.give_up(format!("the pod was pending for {}: {reason}", pending.time()));
                return Ok(());
            }
            if pending.tell(&self.name, &reason) {
                // It may wait for the probe.
                if let Err(error) = self.cluster.renew_probe(patience) {
                    tracing::debug!("failed to create the probe again: {}", one_line(&error));
                }
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

    /// Forwards the output.
    fn forward(&mut self, launch: &PodLaunch) -> Result<(), StartError> {
        if self.given_up.is_some() {
            return Ok(());
        }
        let chunks =
            log::chunks((self.cluster.pods(), self.cluster.told_away()), self.name.clone(), self.container.clone());
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
    fn remove(&mut self, most: Attempts, patience: &mut Patience<'_>) -> Option<Warning> {
        if !std::mem::take(&mut self.was_created) {
            return None;
        }
        let (pods, name, owner, uid) = (self.cluster.pods(), &self.name, &self.owner, self.uid.clone());
        let removing = || async {
            let uid = match &uid {
                Some(uid) => Some(uid.clone()),
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
        let removed = match most {
            Attempts::One => self.cluster.call(patience, "remove the pod", removing()),
            Attempts::Many => self.cluster.persist(patience, "remove the pod", removing),
        };
        match removed {
            // 409: another pod has its name by now.
            Ok(()) | Err(PodError::Request { status: Some(404 | 409), .. }) => None,
            Err(error) => {
                patience.note_unanswered("remove the pod");
                Some(Warning::ContainerNotRemoved { container: self.name.clone(), reason: one_line(&error) })
            }
        }
    }
}

/// How often to try while the API server is away.
#[derive(Clone, Copy)]
enum Attempts {
    One,
    Many,
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
        notes.extend(self.remove(Attempts::Many, patience));
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
        if let Some(warning) = self.remove(Attempts::One, &mut Patience::new(None)) {
            tracing::warn!("{warning}");
        }
    }
}
