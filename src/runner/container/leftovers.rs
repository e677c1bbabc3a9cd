//! What a highwater that was killed has left behind: containers and cgroups.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use serde::Deserialize;

use super::ContainerError;
use super::owner::{LABEL, Owner};
use super::parent::{remove_from, stop_slice};
use super::remove;
use crate::host::HostRoots;
use crate::host::cgroup::{Hierarchy, all_hierarchies};
use crate::runner::StartError;
use crate::runner::engine::{Engine, EngineError};
use crate::runner::maker::{Maker, is_slice};

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A container, by its name or id.
    Container(String),
    /// A cgroup, by its path below each hierarchy.
    Cgroup(PathBuf),
}

/// What was found, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Removed, or to be removed where it was only looked for.
    pub removed: Vec<Removed>,
    /// What a highwater has made that nobody can ask for from here: one on another machine, in another container, or of
    /// this machine before it was started anew.
    pub foreign: Vec<Removed>,
    /// What could not be removed, and why.
    pub failed: Vec<String>,
}

/// Removes what highwaters that are no more have left: on the engine, if there is one, and in all cgroup hierarchies.
/// With `look_only` nothing is removed; with `foreign` what has a maker that nobody can ask for from here is, too.
///
/// # Errors
/// Where the engine does not list its containers, or the machine its hierarchies.
pub fn remove_leftovers(engine: Option<&Engine>, look_only: bool, foreign: bool) -> Result<Leftovers, LeftoverError> {
    let mut leftovers = Leftovers::default();
    if let Some(engine) = engine {
        containers(engine, look_only, foreign, &mut leftovers)?;
    }
    cgroups(look_only, foreign, &mut leftovers)?;
    Ok(leftovers)
}

/// Why left-overs could not be looked for.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The machine could not be read.
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
}

fn containers(engine: &Engine, look_only: bool, foreign: bool, leftovers: &mut Leftovers) -> Result<(), EngineError> {
    let filters = HashMap::from([("label", vec![LABEL])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = match engine.block_on(engine.docker.list_containers(Some(options))) {
        Ok(listed) => listed.into_iter().filter_map(Listed::of).collect(),
        // Podman has states of its own, such as `stopped`, which the client refuses together with the whole list.
        Err(bollard::errors::Error::JsonDataError { ref contents, .. }) => parse(contents).map_err(|error| {
            EngineError::Request { action: "list the containers".to_owned(), reason: error.to_string(), status: None }
        })?,
        Err(error) => return Err(EngineError::request("list the containers", &error)),
    };
    for Listed { id, names, labels } in listed {
        let name = names.first().map_or_else(|| id.clone(), |name| name.trim_start_matches('/').to_owned());
        let label = labels.get(LABEL).cloned().unwrap_or_default();
        match Owner::parse(&label).and_then(|owner| owner.is_gone()) {
            Some(false) => continue,
            None if !foreign => {
                leftovers.foreign.push(Removed::Container(name));
                continue;
            }
            Some(true) | None => {}
        }
        if !look_only && let Err(error) = engine.block_on(remove(engine, &id)) {
            leftovers.failed.push(format!("the container {name}: {error}"));
            continue;
        }
        leftovers.removed.push(Removed::Container(name));
    }
    Ok(())
}

/// What matters here of a container in an engine's list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    labels: HashMap<String, String>,
}

impl Listed {
    fn of(summary: ContainerSummary) -> Option<Self> {
        let (names, labels) = (summary.names.unwrap_or_default(), summary.labels.unwrap_or_default());
        Some(Self { id: summary.id?, names, labels })
    }
}

fn parse(list: &str) -> Result<Vec<Listed>, serde_json::Error> {
    serde_json::from_str(list)
}

fn cgroups(look_only: bool, foreign: bool, leftovers: &mut Leftovers) -> Result<(), crate::host::HostError> {
    let hierarchies = all_hierarchies(&HostRoots::default())?;
    let mut found = BTreeMap::new();
    for hierarchy in hierarchies.iter().filter(|hierarchy| !hierarchy.read_only) {
        search(hierarchy, &hierarchy.mount_point, &mut found);
    }
    for (path, maker) in found {
        match maker.is_gone() {
            Some(false) => continue,
            None if !foreign => {
                leftovers.foreign.push(Removed::Cgroup(path));
                continue;
            }
            Some(true) | None => {}
        }
        if !look_only {
            if let Some(slice) = path.file_name().and_then(|name| name.to_str()).filter(|name| is_slice(name)) {
                stop_slice(slice);
            }
            if let Err(error) = remove_from(&hierarchies, &path) {
                leftovers.failed.push(crate::model::problem::one_line(&error));
                continue;
            }
        }
        leftovers.removed.push(Removed::Cgroup(path));
    }
    Ok(())
}

/// Looks for cgroups of ours below a folder, and does not look into them.
fn search(hierarchy: &Hierarchy, folder: &Path, found: &mut BTreeMap<PathBuf, Maker>) {
    // A cgroup that goes while we look is not a left-over.
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        match entry.file_name().to_str().and_then(Maker::parse) {
            Some(maker) => {
                if let Ok(below) = path.strip_prefix(&hierarchy.mount_point) {
                    found.insert(below.to_owned(), maker);
                }
            }
            None => search(hierarchy, &path, found),
        }
    }
}

impl From<EngineError> for StartError {
    fn from(error: EngineError) -> Self {
        Self::Container(ContainerError::Engine(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_listed_whatever_their_state_is_called() {
        let list = r#"[{"Id": "ab", "Names": ["/x"], "State": "stopped", "Labels": {"highwater.owner": "b:1:2"}}]"#;
        let listed = parse(list).unwrap();
        assert_eq!((listed[0].id.as_str(), listed[0].names[0].as_str()), ("ab", "/x"));
        assert_eq!(listed[0].labels["highwater.owner"], "b:1:2");
    }
}
