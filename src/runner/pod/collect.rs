//! Lists and watches the pods of others, for the runs in them. Only reads.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchEvent, WatchParams};

use super::PodError;
use super::cluster::Cluster;
use super::production::ProductionPod;
use crate::host::machine::Machine;
use crate::model::problem::one_line;
use crate::runner::patience::Patience;

/// Number of pods in one answer of the API server, which bounds the memory that they take.
const PAGE: u32 = 500;
/// How often to look for a request to stop.
const LOOK: Duration = Duration::from_millis(500);
/// How long to wait before listing again after a failed request.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the API server may be away.
const AWAY: Duration = Duration::from_secs(600);
/// How long a watch may last: API servers end them after about 5 minutes, but the end does not arrive over a connection
/// that a firewall has dropped.
const WATCHED_FOR: Duration = Duration::from_secs(330);

/// What is seen of the pods.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PodEvent {
    /// A pod, as it is now or was last.
    Pod(Box<ProductionPod>),
    /// All pods that exist will be passed on before the next [`PodEvent::Listed`].
    Listing,
    /// All pods that exist have been passed on.
    Listed,
}

/// Which pods to read.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PodQuery {
    /// A selector of labels, such as `app=segment,tier!=test`; all pods of the namespace if absent.
    pub selector: Option<String>,
    /// Whether to watch until a request to stop comes. Without it, the pods are listed once.
    pub watch: bool,
}

/// Passes on what is seen; an error ends it.
type Take<'a, E> = &'a mut dyn FnMut(PodEvent) -> Result<(), E>;

impl Cluster {
    /// Passes on the pods of a namespace. Returns whether it was ended by a request to stop.
    ///
    /// # Errors
    /// The error of `take`; or the API server refuses a request, or does not answer for ten minutes.
    pub fn production_pods<E: From<PodError>>(
        &self,
        query: &PodQuery,
        machine: &Machine,
        patience: &mut Patience<'_>,
        take: Take<'_, E>,
    ) -> Result<bool, E> {
        let mut away_since: Option<Instant> = None;
        let mut has_answered = false;
        while !patience.was_requested() {
            take(PodEvent::Listing)?;
            match self.list(query, machine, patience, take)? {
                Ok(version) => {
                    (away_since, has_answered) = (None, true);
                    take(PodEvent::Listed)?;
                    if !query.watch {
                        return Ok(false);
                    }
                    self.follow(query, version, machine, patience, take)?;
                }
                Err(_) if patience.was_requested() => break,
                // A list in pages may take longer than the API server keeps what it was made from.
                Err(PodError::Request { status: Some(410 | 429), .. }) => {}
                Err(error) if !has_answered || error.is_refusal() => return Err(error.into()),
                Err(error) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    tracing::warn!("{error}; trying again");
                    if since.elapsed() > AWAY {
                        return Err(error.into());
                    }
                }
            }
            self.threads().wait(patience, AGAIN, std::future::pending::<()>());
        }
        Ok(true)
    }

    /// Lists all pods, page by page; returns the version of the list.
    fn list<E>(
        &self,
        query: &PodQuery,
        machine: &Machine,
        patience: &mut Patience<'_>,
        take: Take<'_, E>,
    ) -> Result<Result<String, PodError>, E> {
        let pods = self.pods();
        let action = format!("list pods in the namespace {}", self.namespace());
        let mut params = ListParams { label_selector: query.selector.clone(), ..ListParams::default() }.limit(PAGE);
        loop {
            let page = match self.call(patience, &action, pods.list(&params)) {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            for pod in &page.items {
                take(self.event(pod, false, machine))?;
            }
            let metadata = page.metadata;
            match metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) if !patience.was_requested() => params.continue_token = Some(token),
                Some(_) => return Ok(Err(PodError::unanswered(action))),
                None => return Ok(Ok(metadata.resource_version.unwrap_or_default())),
            }
        }
    }

    /// Watches from a version of the list until the API server cannot go on from where a watch ended.
    fn follow<E>(
        &self,
        query: &PodQuery,
        mut version: String,
        machine: &Machine,
        patience: &mut Patience<'_>,
        take: Take<'_, E>,
    ) -> Result<(), E> {
        let pods = self.pods();
        let params = WatchParams { label_selector: query.selector.clone(), ..WatchParams::default() };
        let action = format!("watch pods in the namespace {}", self.namespace());
        while !patience.was_requested() {
            let started = Instant::now();
            let events = match self.call(patience, &action, pods.watch(&params, &version)) {
                Ok(events) => events,
                Err(error) => {
                    tracing::debug!("{error}");
                    // The list that follows tells whether that is for good.
                    return Ok(());
                }
            };
            let mut events = pin!(events);
            loop {
                let event = match self.threads().wait(patience, LOOK, events.next()) {
                    Some(Some(Ok(event))) => event,
                    Some(Some(Err(error))) => {
                        tracing::debug!("the watch ended: {}", one_line(&error));
                        return Ok(());
                    }
                    // It has ended regularly, and goes on from the last version.
                    Some(None) => break,
                    None if patience.was_requested() || started.elapsed() > WATCHED_FOR => return Ok(()),
                    None => continue,
                };
                let (pod, is_gone) = match event {
                    WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
                    WatchEvent::Deleted(pod) => (pod, true),
                    WatchEvent::Bookmark(bookmark) => {
                        version = bookmark.metadata.resource_version;
                        continue;
                    }
                    WatchEvent::Error(_) => return Ok(()),
                };
                take(self.event(&pod, is_gone, machine))?;
                version = pod.metadata.resource_version.unwrap_or(version);
            }
            if started.elapsed() < AGAIN {
                self.threads().wait(patience, AGAIN, std::future::pending::<()>());
            }
        }
        Ok(())
    }

    fn event(&self, pod: &Pod, is_gone: bool, machine: &Machine) -> PodEvent {
        PodEvent::Pod(Box::new(ProductionPod::new(pod, is_gone, self.version(), machine)))
    }
}
