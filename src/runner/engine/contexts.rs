//! Docker contexts: named engines below `~/.docker`, one of which is current.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::Address;

/// Why the current docker context could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// Its file cannot be read.
    #[error("failed to read {path}, the docker context `{name}`")]
    Read {
        /// The name of the context.
        name: String,
        /// The file.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// Its file has an unexpected format.
    #[error("failed to parse {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where in the file, and why.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(rename = "currentContext")]
    current: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: String,
}

/// The directory of docker's settings: `DOCKER_CONFIG`, or `~/.docker`.
pub(super) fn config_directory() -> Option<PathBuf> {
    env::var_os("DOCKER_CONFIG")
        .filter(|directory| !directory.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".docker")))
}

/// The engine of the current context (`DOCKER_CONTEXT`, or `docker context use`); `None` for the default one.
pub(super) fn current() -> Result<Option<Address>, ContextError> {
    let Some(directory) = config_directory() else { return Ok(None) };
    let name = match env::var("DOCKER_CONTEXT") {
        Ok(name) if !name.is_empty() => name,
        Ok(_) | Err(_) => match of_config(&directory)? {
            Some(name) => name,
            None => return Ok(None),
        },
    };
    if name == "default" {
        return Ok(None);
    }
    in_directory(&directory, &name)
}

fn of_config(directory: &Path) -> Result<Option<String>, ContextError> {
    let path = directory.join("config.json");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(parse::<ConfigFile>(path, &text)?.current.filter(|name| !name.is_empty())),
        // Without readable settings the default context applies, as with docker.
        Err(_) => Ok(None),
    }
}

fn in_directory(directory: &Path, name: &str) -> Result<Option<Address>, ContextError> {
    let digest: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = directory.join("contexts/meta").join(digest).join("meta.json");
    let text = fs::read_to_string(&path).map_err(|source| ContextError::Read {
        name: name.to_owned(),
        path: path.clone(),
        source,
    })?;
    let meta: Meta = parse(path, &text)?;
    Ok(meta.endpoints.docker.map(|docker| Address { url: docker.host, origin: format!("docker context `{name}`") }))
}

fn parse<T: DeserializeOwned>(path: PathBuf, text: &str) -> Result<T, ContextError> {
    serde_json::from_str(text).map_err(|source| ContextError::Parse { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_found_by_the_digest_of_its_name() {
        let directory = tempfile::tempdir().unwrap();
        // printf remote | sha256sum
        let digest: String = Sha256::digest(b"remote").iter().map(|byte| format!("{byte:02x}")).collect();
        let meta = directory.path().join("contexts/meta").join(digest);
        fs::create_dir_all(&meta).unwrap();
        fs::write(meta.join("meta.json"), r#"{"Name":"remote","Endpoints":{"docker":{"Host":"unix:///tmp/e.sock"}}}"#)
            .unwrap();
        let address = in_directory(directory.path(), "remote").unwrap().unwrap();
        assert_eq!((address.url.as_str(), address.origin.as_str()), ("unix:///tmp/e.sock", "docker context `remote`"));
        let missing = in_directory(directory.path(), "absent").unwrap_err();
        assert!(missing.to_string().contains("the docker context `absent`"), "{missing}");
    }

    #[test]
    fn without_settings_the_default_context_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(of_config(directory.path()).unwrap(), None);
        fs::write(directory.path().join("config.json"), r#"{"auths":{},"currentContext":"remote"}"#).unwrap();
        assert_eq!(of_config(directory.path()).unwrap().as_deref(), Some("remote"));
        fs::write(directory.path().join("config.json"), "{").unwrap();
        assert!(matches!(of_config(directory.path()), Err(ContextError::Parse { .. })));
    }
}
