//! Credentials for registries, from docker's settings and credential helpers.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;

use crate::runner::engine::contexts::config_directory;
use crate::runner::patience::wait_for_child;

/// How long a helper may take: it may ask the user to unlock a keyring.
const HELPER: Duration = Duration::from_secs(60);
/// The largest answer of a helper.
const LARGEST_ANSWER: u64 = 1 << 20;

/// The name under which `docker login` stores the credentials of Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(Debug, Default, Deserialize)]
struct ConfigFile {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: HashMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Auth {
    auth: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

/// The answer of a helper.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// The credentials for the registry that an image is pulled from, if any.
pub(super) fn for_image(image: &str) -> Option<DockerCredentials> {
    let directory = config_directory()?;
    let text = fs::read_to_string(directory.join("config.json")).ok()?;
    match serde_json::from_str::<ConfigFile>(&text) {
        Ok(config) => of_config(&config, registry(image)),
        Err(error) => {
            tracing::warn!(
                "failed to parse {}, using no credentials: {error}",
                directory.join("config.json").display()
            );
            None
        }
    }
}

/// The registry in the name of an image: its first component, if that is a host name.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "docker.io" | "index.docker.io" => DOCKER_HUB,
            host => host,
        },
        Some(_) | None => DOCKER_HUB,
    }
}

fn of_config(config: &ConfigFile, registry: &str) -> Option<DockerCredentials> {
    let stored = || config.auths.iter().find(|(name, _)| same(name, registry)).and_then(|(_, auth)| plain(auth));
    let helper = config.helpers.get(registry).or(config.store.as_ref());
    let credentials = helper
        .and_then(|helper| ask(Path::new(&format!("docker-credential-{helper}")), registry, HELPER))
        .or_else(stored)?;
    Some(DockerCredentials { serveraddress: Some(registry.to_owned()), ..credentials })
}

/// Compares registry names, which are stored with or without `https://` and a path.
fn same(name: &str, registry: &str) -> bool {
    let host = |name: &str| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        name.split('/').next().unwrap_or(name).to_owned()
    };
    name == registry || host(name) == host(registry)
}

fn plain(auth: &Auth) -> Option<DockerCredentials> {
    let decoded = STANDARD.decode(auth.auth.as_deref()?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(DockerCredentials {
        username: Some(user.to_owned()),
        password: Some(password.trim_end_matches('\0').to_owned()),
        identitytoken: auth.identity_token.clone().filter(|token| !token.is_empty()),
        ..DockerCredentials::default()
    })
}

/// Asks a credential helper with docker's protocol: the registry on stdin, a JSON answer on stdout.
fn ask(helper: &Path, registry: &str, most: Duration) -> Option<DockerCredentials> {
    let (status, answer) = match output(helper, registry, most) {
        Ok(Some(output)) => output,
        Ok(None) => {
            tracing::warn!(
                "{} did not respond within {} s; pulling the image without credentials",
                helper.display(),
                most.as_secs()
            );
            return None;
        }
        Err(error) => {
            tracing::warn!("failed to get credentials from {}: {error}", helper.display());
            return None;
        }
    };
    // It fails if it has no credentials for the registry, which needs none then.
    let answer: Answer = status.success().then(|| serde_json::from_slice(&answer).ok())??;
    Some(if answer.user == "<token>" {
        DockerCredentials { identitytoken: Some(answer.secret), ..DockerCredentials::default() }
    } else {
        DockerCredentials { username: Some(answer.user), password: Some(answer.secret), ..DockerCredentials::default() }
    })
}

/// The status and the output of a helper; `None` if it takes too long.
fn output(helper: &Path, registry: &str, most: Duration) -> io::Result<Option<(ExitStatus, Vec<u8>)>> {
    let end = Instant::now() + most;
    let mut child =
        Command::new(helper).arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input may have closed the pipe; its status shows whether it succeeded.
        let _ = stdin.write_all(registry.as_bytes());
    }
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        // A process that the helper leaves behind may keep the pipe open: only this thread waits for it.
        thread::Builder::new().name("credentials".to_owned()).spawn(move || {
            let mut answer = Vec::new();
            let read = stdout.take(LARGEST_ANSWER).read_to_end(&mut answer);
            let _ = sender.send(read.map(|_| answer));
        })?;
    }
    let answer = receiver.recv_timeout(most);
    let left = end.saturating_duration_since(Instant::now());
    let status = wait_for_child(&mut child, left)?;
    Ok(match (status, answer) {
        (Some(status), Ok(answer)) => Some((status, answer?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_registry_is_in_the_name_of_the_image() {
        for (image, expected) in [
            ("alpine", DOCKER_HUB),
            ("library/alpine:3", DOCKER_HUB),
            ("docker.io/library/alpine", DOCKER_HUB),
            ("registry.example/a", "registry.example"),
            ("localhost:5000/a", "localhost:5000"),
            ("localhost/a", "localhost"),
        ] {
            assert_eq!(registry(image), expected, "{image}");
        }
    }

    #[test]
    fn stored_credentials_are_decoded() {
        // printf user:pass:word | base64
        let config = r#"{"auths": {"https://registry.example/v2/": {"auth": "dXNlcjpwYXNzOndvcmQ="}}}"#;
        let config: ConfigFile = serde_json::from_str(config).unwrap();
        let found = of_config(&config, "registry.example").unwrap();
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("user"), Some("pass:word")));
        assert_eq!(of_config(&config, "other.example"), None);
    }

    #[test]
    fn a_helper_is_asked_as_docker_asks_it() {
        let directory = tempfile::tempdir().unwrap();
        let helper = directory.path().join("docker-credential-test");
        let script = "#!/bin/sh\nread -r registry\n[ \"$1 $registry\" = 'get registry.example' ] || exit 1\n\
                      echo '{\"Username\": \"<token>\", \"Secret\": \"s3cret\"}'\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let found = ask(&helper, "registry.example", HELPER).unwrap();
        assert_eq!(found.identitytoken.as_deref(), Some("s3cret"));
        assert_eq!(ask(&helper, "other.example", HELPER), None);
    }

    #[test]
    fn a_helper_that_hangs_is_abandoned() {
        let directory = tempfile::tempdir().unwrap();
        let helper = directory.path().join("docker-credential-test");
        for script in ["exec sleep 600", "sleep 600 & echo $! > $0.child; exit 0"] {
            fs::write(&helper, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
            let started = Instant::now();
            assert_eq!(ask(&helper, "registry.example", Duration::from_millis(300)), None);
            assert!(started.elapsed() < Duration::from_secs(30), "{script}: {:?}", started.elapsed());
        }
        let child = fs::read_to_string(helper.with_extension("child")).unwrap();
        assert!(Command::new("kill").arg(child.trim()).status().unwrap().success());
    }
}
