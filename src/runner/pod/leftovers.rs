//! Pods and ConfigMaps left behind by a killed highwater.

use kube::Resource;
use kube::api::{Api, DeleteParams, ListParams};
use serde::de::DeserializeOwned;

use super::cluster::Cluster;
use super::manifest::OWNER;
use super::{LABEL, PodError};
use crate::model::problem::one_line;
use crate::runner::container::runner::owner::Owner;
use crate::runner::container::{Leftovers, Removed};
use crate::runner::patience::Patience;

impl Cluster {
    /// Removes the pods and ConfigMaps of highwater processes that have ended from the namespace. With `look_only`
    /// nothing is removed. `foreign` includes those whose owner cannot be checked from here.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn remove_leftovers(&self, look_only: bool, foreign: bool) -> Result<Leftovers, PodError> {
        let mut found = Leftovers::default();
        remove(self, ("pod", &self.pods()), (look_only, foreign), &mut found)?;
        remove(self, ("ConfigMap", &self.config_maps()), (look_only, foreign), &mut found)?;
        Ok(found)
    }
}

fn remove<K>(
    cluster: &Cluster,
    (kind, objects): (&'static str, &Api<K>),
    (look_only, foreign): (bool, bool),
    found: &mut Leftovers,
) -> Result<(), PodError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let patience = &mut Patience::new(None);
    let labelled = ListParams::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
    let action = format!("list {kind}s in the namespace {}", cluster.namespace());
    for object in cluster.call(patience, &action, objects.list(&labelled))?.items {
        let metadata = object.meta();
        let Some(name) = metadata.name.clone() else { continue };
        let label = metadata.annotations.as_ref().and_then(|annotations| annotations.get(OWNER));
        // A name that somebody chose is in the label with the image of the pod, which is not repeated here.
        let image = label.and_then(|label| label.splitn(7, ':').nth(6)).unwrap_or_default();
        let Some(owner) = label.and_then(|label| Owner::of_container(label, std::slice::from_ref(&name), image)) else {
            continue;
        };
        let removed = Removed::Object { kind, name: name.clone() };
        match owner.is_gone() {
            Some(false) => continue,
            None if !foreign => {
                found.foreign.push(removed);
                continue;
            }
            Some(true) | None => {}
        }
        if owner.is_of_another_user() {
            found.of_others.push(removed);
            continue;
        }
        if !look_only {
            let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            match cluster.call(patience, &format!("remove the {kind} {name}"), objects.delete(&name, &params)) {
                Ok(_) | Err(PodError::Request { status: Some(404), .. }) => {}
                Err(error) => {
                    found.failed.push(one_line(&error));
                    continue;
                }
            }
        }
        found.removed.push(removed);
    }
    Ok(())
}
