//! How and where the runs were measured.

use crate::model::observation::{Container, Exactness, Host, Observation, RunnerKind};
use crate::model::reading::Reading;
use crate::report::model::{Environment, Measured};

pub(super) fn image(observation: &Observation) -> Option<String> {
    let container = observation.container.as_ref().map(|container| container.image.clone());
    container.or_else(|| observation.prediction.as_ref()?.task.image.clone())
}

pub(super) fn measured(ways: &mut Vec<Measured>, observation: &Observation) {
    let (way, exactness, remedy) = match &observation.peak {
        Reading::Value(peak) => {
            let (exactness, remedy) = match &peak.exactness {
                Exactness::Exact { error_bound_bytes } => {
                    (format!("exact, at most {error_bound_bytes} too high"), None)
                }
                Exactness::LowerBound { reason, remedy } => (format!("lower bound: {reason}"), Some(remedy.clone())),
            };
            (peak.source.words().to_owned(), exactness, remedy)
        }
        Reading::Unsupported => ("not measured".to_owned(), "this machine cannot measure it".to_owned(), None),
        Reading::Gone => ("not measured".to_owned(), "the cgroup was gone before it could be read".to_owned(), None),
    };
    match ways.iter_mut().find(|known| known.way == way && known.exactness == exactness) {
        Some(known) => known.runs += 1,
        None => ways.push(Measured { runs: 1, way, exactness, remedy }),
    }
}

pub(super) fn environment(environments: &mut Vec<Environment>, observation: &Observation) {
    let container = observation.container.as_ref();
    let environment = Environment {
        runs: 1,
        // Machines that differ only in their name measure the same.
        host: observation.host.as_ref().value().map(|host| Host { name: None, ..host.clone() }),
        runner: runner(observation.runner, container),
        image_id: container.and_then(|container| container.image_id.clone()),
        tool_version: observation.tool_version.clone(),
    };
    let is_same = |known: &&mut Environment| {
        known.host == environment.host
            && known.runner == environment.runner
            && known.image_id == environment.image_id
            && known.tool_version == environment.tool_version
    };
    match environments.iter_mut().find(is_same) {
        Some(known) => known.runs += 1,
        None => environments.push(environment),
    }
}

fn runner(kind: RunnerKind, container: Option<&Container>) -> String {
    match (kind, container) {
        (kind, Some(container)) => {
            let engine = &container.engine;
            let version = engine.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            let kind = if kind == RunnerKind::Pod { "pod" } else { "container" };
            format!("a {kind} of {}{version}", engine.name)
        }
        (RunnerKind::Process, None) => "a process".to_owned(),
        (RunnerKind::Container, None) => "a container".to_owned(),
        (RunnerKind::Pod, None) => "a pod".to_owned(),
        (RunnerKind::Imported, None) => "another program".to_owned(),
    }
}
