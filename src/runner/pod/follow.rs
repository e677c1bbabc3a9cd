//! Follows a pod to the end of its task.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, WatchEvent, WatchParams};
use tokio::sync::watch::Sender;
use tokio::time::timeout;

use super::cluster::{AGAIN, AWAY, BRISK, ToldAway};
use super::status::{Phase, Seen};
use crate::model::problem::one_line;

/// How often to look whether a deleted pod is gone, or the run was given up.
const LOOK: Duration = Duration::from_secs(5);
/// How long a deleted pod may take beyond its grace period; the node is lost then.
const DELETED_FOR: Duration = Duration::from_secs(90);
/// How long a watch may last before the pod is listed again: API servers end them after about 5 minutes, but the end does
/// not arrive over a connection that a firewall has dropped.
const WATCHED_FOR: Duration = Duration::from_secs(300);

/// Follows the pod to the end of its task: a list, then a watch from there, anew whenever it ends. Closes `end_signal` at
/// the end.
pub(super) async fn follow(
    (pods, told_away): (Api<Pod>, ToldAway),
    (name, container): (String, String),
    sender: Sender<Seen>,
    end_signal: OwnedFd,
) {
    let mut away_since = None;
    let mut deletion = None;
    let lost = |reason: String| sender.send_modify(|seen| seen.lost = Some(reason));
    loop {
        match timeout(BRISK, pods.get_opt(&name)).await {
            Ok(Ok(Some(pod))) => {
                if away_since.take().is_some() {
                    told_away.is_back();
                }
                let version = pod.metadata.resource_version.clone().unwrap_or_default();
                note_deletion(&mut deletion, &pod);
                sender.send_modify(|seen| seen.pod = Some(pod));
                watch_from(&pods, &name, &container, &version, &sender, &mut deletion).await;
            }
            Ok(Ok(None)) => lost("the pod was deleted by another client, or with its node".to_owned()),
            failed @ (Ok(Err(_)) | Err(_)) => {
                let reason = failed.ok().and_then(Result::err).map(|error| one_line(&error));
                let reason = reason.unwrap_or_else(|| "the API server does not respond".to_owned());
                let since = *away_since.get_or_insert_with(Instant::now);
                told_away.tell(&format!("failed to watch the pod {name}: {reason}"));
                if since.elapsed() > AWAY {
                    lost(format!("the pod could not be watched for too long: {reason}"));
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
        match timeout(LOOK, events.next()).await {
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
