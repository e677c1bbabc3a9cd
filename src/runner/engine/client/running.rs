//! Containers on an engine that highwater did not start.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bollard::query_parameters::ListContainersOptions;

use super::Engine;

/// The engine is queried only for a note, which is not worth a longer wait.
const PATIENCE: Duration = Duration::from_secs(3);

/// The names and images of the running containers created at this time (seconds since 1970) or later, on the engine
/// that the docker command would use. Empty if none answers in time.
pub(in crate::runner) fn started_since(seconds: i64) -> Vec<String> {
    let (sender, receiver) = mpsc::channel();
    // An engine that hangs blocks this thread, but not the caller.
    let asking = thread::Builder::new().name("containers".to_owned()).spawn(move || {
        let _ = sender.send(list(seconds));
    });
    if asking.is_err() {
        return Vec::new();
    }
    receiver.recv_timeout(PATIENCE).unwrap_or_default()
}

fn list(seconds: i64) -> Vec<String> {
    let Ok(engine) = Engine::find(None) else { return Vec::new() };
    let listing = engine.docker.list_containers(None::<ListContainersOptions>);
    let listed = engine.ask("list the containers", PATIENCE, listing).unwrap_or_default();
    let new = listed.into_iter().filter(|container| container.created.is_some_and(|created| created >= seconds));
    new.map(|container| {
        let name = container.names.unwrap_or_default().into_iter().next().or(container.id).unwrap_or_default();
        format!("{} of {}", name.trim_start_matches('/'), container.image.unwrap_or_default())
    })
    .collect()
}
