//! Containers and cgroups left behind by a killed highwater.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use nix::unistd::geteuid;
use serde::Deserialize;

use super::ContainerError;
use super::enclosing_cgroup::{remove_from, stop_slice};
use super::owner::{LABEL, Owner};
use super::remove;
use crate::host::HostRoots;
use crate::host::cgroup::{Hierarchy, all_hierarchies};
use crate::runner::StartError;
use crate::runner::cgroup_owner::{CgroupOwner, is_slice};
use crate::runner::engine::{BRISK, CallError, Engine, EngineError, checked_id};
use crate::runner::patience::Patience;

/// A leftover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A container, by its name or id.
    Container(String),
    /// A cgroup, by its path below each hierarchy.
    Cgroup(PathBuf),
}

impl fmt::Display for Removed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(formatter, "container {name}"),
            Self::Cgroup(path) => write!(formatter, "cgroup /{}", path.display()),
        }
    }
}

/// The leftovers that were found, and what happened to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Removed, or removable with `look_only`.
    pub removed: Vec<Removed>,
    /// Created by a highwater that cannot be checked from here: on another machine, in another container, or before
    /// this machine was rebooted.
    pub foreign: Vec<Removed>,
    /// Left by a highwater of another user; only that user or root may remove it.
    pub of_others: Vec<Removed>,
    /// What could not be removed, and why.
    pub failed: Vec<String>,
}

/// Removes the leftovers of highwater processes that have ended, from the engine (if given) and from all cgroup
/// hierarchies. With `look_only` nothing is removed. `foreign` includes leftovers whose owner cannot be checked from
/// here.
///
/// # Errors
/// If the engine cannot list its containers, or the host its hierarchies.
pub fn remove_leftovers(engine: Option<&Engine>, look_only: bool, foreign: bool) -> Result<Leftovers, LeftoverError> {
    let mut leftovers = Leftovers::default();
    if let Some(engine) = engine {
        containers(engine, look_only, foreign, &mut leftovers)?;
    }
    cgroups(look_only, foreign, &mut leftovers)?;
    Ok(leftovers)
}

/// Why leftovers could not be searched for.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state of the host could not be read.
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
}

fn containers(engine: &Engine, look_only: bool, foreign: bool, leftovers: &mut Leftovers) -> Result<(), EngineError> {
    let action = "list the containers";
    let filters = HashMap::from([("label", vec![LABEL])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = match engine.ask(action, BRISK, engine.docker.list_containers(Some(options))) {
        Ok(listed) => listed.into_iter().filter_map(Listed::from_summary).collect(),
        // Podman has states of its own, such as `stopped`, for which the client rejects the whole list.
        Err(CallError::Refused(bollard::errors::Error::JsonDataError { ref contents, .. })) => parse(contents)
            .map_err(|error| EngineError::Request {
                action: action.to_owned(),
                reason: error.to_string(),
                status: None,
            })?,
        Err(error) => return Err(error.explain(action)),
    };
    let mut patience = Patience::new(None);
    for Listed { id, names, labels, image_id } in listed {
        let id = checked_id(action, id)?;
        let name = names.first().map_or_else(|| id.clone(), |name| name.trim_start_matches('/').to_owned());
        let label = labels.get(LABEL).map_or("", String::as_str);
        let Some(owner) = Owner::of_container(label, &names, &image_id) else {
            tracing::debug!("the container {name} is not highwater's: its label is inherited from its image");
            continue;
        };
        let found = Removed::Container(name);
        if !leftovers.is_to_be_removed(&found, owner.is_gone(), owner.is_of_another_user(), foreign) {
            continue;
        }
        let removing = format!("remove the {found}");
        if !look_only && let Err(error) = engine.call(&mut patience, &removing, BRISK, remove(&engine.docker, &id)) {
            leftovers.failed.push(error.explain(removing).to_string());
            continue;
        }
        leftovers.removed.push(found);
    }
    Ok(())
}

impl Leftovers {
    /// Whether to remove a leftover, given whether its owner is gone (`None` if unknown). Records what is kept.
    fn is_to_be_removed(&mut self, found: &Removed, gone: Option<bool>, of_another_user: bool, foreign: bool) -> bool {
        match gone {
            Some(false) => return false,
            None if !foreign => self.foreign.push(found.clone()),
            // Each attempt would take seconds and fail.
            Some(true) | None if of_another_user => self.of_others.push(found.clone()),
            Some(true) | None => return true,
        }
        false
    }
}

/// The fields of a container in the engine's list that matter here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    labels: HashMap<String, String>,
    #[serde(default, rename = "ImageID")]
    image_id: String,
}

impl Listed {
    fn from_summary(summary: ContainerSummary) -> Option<Self> {
        let (names, labels) = (summary.names.unwrap_or_default(), summary.labels.unwrap_or_default());
        Some(Self { id: summary.id?, names, labels, image_id: summary.image_id.unwrap_or_default() })
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
    let user = geteuid();
    for (path, (owner, uid)) in found {
        let of_another_user = !user.is_root() && user.as_raw() != uid;
        let cgroup = Removed::Cgroup(path.clone());
        if !leftovers.is_to_be_removed(&cgroup, owner.is_gone(), of_another_user, foreign) {
            continue;
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
        leftovers.removed.push(cgroup);
    }
    Ok(())
}

/// Finds our cgroups below a directory, with the user that owns each; does not descend into them.
fn search(hierarchy: &Hierarchy, directory: &Path, found: &mut BTreeMap<PathBuf, (CgroupOwner, u32)>) {
    // A cgroup that disappears during the search is not a leftover.
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        match entry.file_name().to_str().and_then(CgroupOwner::parse) {
            Some(owner) => {
                if let (Ok(below), Ok(metadata)) = (path.strip_prefix(&hierarchy.mount_point), entry.metadata()) {
                    found.insert(below.to_owned(), (owner, metadata.uid()));
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
        let list = r#"[{"Id": "ab", "Names": ["/x"], "State": "stopped", "ImageID": "sha256:aa",
            "Labels": {"highwater.owner": "b:1:2"}}]"#;
        let listed = parse(list).unwrap();
        assert_eq!((listed[0].id.as_str(), listed[0].names[0].as_str()), ("ab", "/x"));
        assert_eq!((listed[0].labels["highwater.owner"].as_str(), listed[0].image_id.as_str()), ("b:1:2", "sha256:aa"));
    }
}
