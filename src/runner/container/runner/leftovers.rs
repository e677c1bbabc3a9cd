//! Containers left behind by a killed highwater.

use std::collections::HashMap;

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use serde::Deserialize;

use super::owner::{LABEL, Owner};
use super::remove;
use crate::runner::container::leftovers::{Leftovers, Removed};
use crate::runner::engine::client::{BRISK, CallError, checked_id};
use crate::runner::engine::{Engine, EngineError};
use crate::runner::patience::Patience;

/// Removes the leftover containers of an engine.
pub(in crate::runner::container) fn remove_containers(
    engine: &Engine,
    look_only: bool,
    foreign: bool,
    leftovers: &mut Leftovers,
) -> Result<(), EngineError> {
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
