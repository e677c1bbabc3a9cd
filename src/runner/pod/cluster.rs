//! A connection to a cluster, and the probe there.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Map, Value};

use super::demand::Refusal;
use super::manifest::{OWNER, ProbeSource};
use super::{ClusterOptions, LABEL, PodError, SWEEP_LABELS};
use crate::model::problem::one_line;
use crate::runner::container::runner::owner::Claim;
use crate::runner::patience::Patience;
use crate::runner::probe;
use crate::runner::threads::Threads;

/// How long an answer of the API server may take.
pub(super) const BRISK: Duration = Duration::from_secs(30);
/// How long the API server may be away, such as for an upgrade.
pub(super) const AWAY: Duration = Duration::from_secs(600);
/// How long to wait before asking again after a failed request.
pub(super) const AGAIN: Duration = Duration::from_secs(1);
/// How long an API server that was away may refuse what it allows, because it has not read the rights yet.
const WITHOUT_RIGHTS: Duration = Duration::from_secs(30);
/// How long the removal of the ConfigMap may take at the end.
const LAST: Duration = Duration::from_secs(20);

/// A cluster, and one of its namespaces.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    threads: Threads,
    namespace: String,
    version: String,
    options: ClusterOptions,
    template: Option<Map<String, Value>>,
    /// The ConfigMap with the probe, once a run has needed it.
    probe: Mutex<Option<ProbeMap>>,
    /// The value of the label of what belongs to a sweep.
    sweep: OnceLock<String>,
    turn: Mutex<Option<Refusal>>,
    /// Whether the user knows that the API server is away.
    told_away: ToldAway,
}

/// The ConfigMap with the probe.
struct ProbeMap {
    name: String,
    owner: String,
    /// Whether it was created, as far as is known: an answer may have been lost.
    is_there: bool,
    /// Whether it was created before.
    was_there: bool,
}

/// Tells the user once each time that the API server is away, and knows when it was.
#[derive(Clone, Default)]
pub(super) struct ToldAway(Arc<AtomicBool>, Arc<Mutex<Option<Instant>>>);

impl ToldAway {
    pub(super) fn tell(&self, error: &str) {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if !self.0.swap(true, Ordering::Relaxed) {
            tracing::warn!("{error}; trying again for {} minutes", AWAY.as_secs() / 60);
        }
    }

    pub(super) fn is_back(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the API server may refuse what it allows, because it has just started.
    pub(super) fn lacks_rights(&self) -> bool {
        let last = *self.1.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < WITHOUT_RIGHTS)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.shared.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Connects to a cluster. Without a namespace in the options, it is that of the task, the template or the context.
    ///
    /// # Errors
    /// If no cluster is configured, it does not answer, or the template is invalid.
    pub fn open(options: ClusterOptions, namespace: Option<&str>) -> Result<Self, PodError> {
        let template = options.template.as_deref().map(read_template).transpose()?;
        let threads = Threads::start("cluster").map_err(PodError::Runtime)?;
        let connecting = async {
            let config = configuration(&options).await?;
            let of_context = config.default_namespace.clone();
            let address = config.cluster_url.to_string();
            let client = Client::try_from(config).map_err(|error| PodError::Config { reason: one_line(&error) })?;
            let action = format!("connect to the Kubernetes cluster at {address}");
            match tokio::time::timeout(BRISK, client.apiserver_version()).await {
                Ok(Ok(version)) => Ok((client, of_context, version.git_version)),
                Ok(Err(error)) => Err(PodError::request(action, &error)),
                Err(_) => Err(PodError::unanswered(action)),
            }
        };
        let (client, of_context, version) = threads.handle.block_on(connecting)?;
        let of_template = template.as_ref().and_then(|template| template.get("metadata")?.get("namespace")?.as_str());
        let namespace = options.namespace.as_deref().or(namespace).or(of_template).unwrap_or(&of_context).to_owned();
        let shared = Shared {
            client,
            threads,
            namespace,
            version,
            options,
            template,
            probe: Mutex::default(),
            sweep: OnceLock::new(),
            turn: Mutex::default(),
            told_away: ToldAway::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The namespace of the pods.
    pub fn namespace(&self) -> &str {
        &self.shared.namespace
    }

    /// The version of the API server, such as `v1.20.2`.
    pub fn version(&self) -> &str {
        &self.shared.version
    }

    /// Labels what is created from now on as part of the sweep with this name.
    pub fn name_sweep(&self, name: &str) {
        // A cluster is opened for one sweep.
        let _ = self.shared.sweep.set(label_value(name));
    }

    /// The labels of a run of the sweep.
    pub fn labels_of_run(&self, cell: &str, run: u32) -> Vec<(String, String)> {
        let values = [self.shared.sweep.get().cloned(), Some(label_value(cell)), Some(run.to_string())];
        let labels = SWEEP_LABELS.iter().zip(values);
        labels.filter_map(|(name, value)| Some(((*name).to_owned(), value?))).collect()
    }

    pub(super) fn template(&self) -> Option<&Map<String, Value>> {
        self.shared.template.as_ref()
    }

    pub(super) fn pending_timeout(&self) -> Duration {
        self.shared.options.pending_timeout
    }

    pub(super) fn probe_image(&self) -> Option<&str> {
        self.shared.options.probe_image.as_deref()
    }

    /// Where the probe comes from: its image, or else this ConfigMap.
    pub(super) fn probe_source<'a>(&'a self, config_map: &'a str) -> ProbeSource<'a> {
        self.probe_image().map_or(ProbeSource::ConfigMap(config_map), ProbeSource::Image)
    }

    pub(super) fn when_fits(&self) -> bool {
        self.shared.options.when_fits
    }

    /// While it is held, no other thread creates a pod in room that it has seen.
    pub(super) fn turn(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn told_away(&self) -> ToldAway {
        self.shared.told_away.clone()
    }

    pub(super) fn threads(&self) -> &Threads {
        &self.shared.threads
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.shared.client.clone(), &self.shared.namespace)
    }

    pub(super) fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.shared.client.clone(), &self.shared.namespace)
    }

    pub(super) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Waits for the answer to a request; `None` if highwater was asked to stop meanwhile.
    pub(super) fn call<T>(
        &self,
        patience: &mut Patience<'_>,
        action: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, PodError> {
        match self.shared.threads.wait(patience, BRISK, request) {
            Some(answer) => answer.map_err(|error| PodError::request(action, &error)),
            None => Err(PodError::unanswered(action)),
        }
    }

    /// The same, again and again while the API server is away. The request must be harmless if an earlier one got through
    /// and only its answer was lost.
    pub(super) fn persist<T, F>(
        &self,
        patience: &mut Patience<'_>,
        action: &str,
        request: impl Fn() -> F,
    ) -> Result<T, PodError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let mut since = None;
        loop {
            let error = match self.call(patience, action, request()) {
                Ok(answer) => {
                    if since.is_some() {
                        self.shared.told_away.is_back();
                    }
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let is_away = error.is_passing();
            let lacks_rights = error.is_denial() && self.shared.told_away.lacks_rights();
            let began = *since.get_or_insert_with(Instant::now);
            if !(is_away || lacks_rights) || began.elapsed() > AWAY {
                return Err(error);
            }
            if is_away {
                self.shared.told_away.tell(&error.to_string());
            }
            self.shared.threads.wait(patience, AGAIN, std::future::pending::<()>());
            if patience.left(AGAIN).is_zero() {
                return Err(error);
            }
        }
    }

    /// Creates the ConfigMap with the probe again if somebody has deleted it.
    pub(super) fn renew_probe(&self, patience: &mut Patience<'_>) -> Result<(), PodError> {
        if let Some(map) = &mut *self.shared.probe.lock().unwrap_or_else(PoisonError::into_inner) {
            map.is_there = false;
        }
        if self.probe_image().is_none() { self.probe(patience).map(drop) } else { Ok(()) }
    }

    /// The name of the ConfigMap with the probe, which is created for the first run and removed with the last clone of
    /// this cluster.
    pub(super) fn probe(&self, patience: &mut Patience<'_>) -> Result<String, PodError> {
        let mut created = self.shared.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let program = probe::program().map_err(|reason| PodError::NoProbe { reason })?;
        // Even if the answer gets lost, it may have been created: the name stays.
        let probe = created.get_or_insert_with(|| {
            let claim = Claim::new(None, None);
            ProbeMap { name: claim.name().to_owned(), owner: claim.label().1, is_there: false, was_there: false }
        });
        if probe.is_there {
            return Ok(probe.name.clone());
        }
        let of_sweep = self.shared.sweep.get().map(|sweep| (SWEEP_LABELS[0], sweep.clone()));
        let labels = [Some((LABEL.0, LABEL.1.to_owned())), of_sweep].into_iter().flatten();
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(probe.name.clone()),
                labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).collect()),
                annotations: Some([(OWNER.to_owned(), probe.owner.clone())].into()),
                ..ObjectMeta::default()
            },
            binary_data: Some([("probe".to_owned(), ByteString(program.to_owned()))].into()),
            // Saves the nodes from watching it.
            immutable: Some(true),
            ..ConfigMap::default()
        };
        let action = format!("create a ConfigMap in the namespace {}", self.namespace());
        let (maps, params) = (self.config_maps(), PostParams::default());
        let result = self.persist(patience, &action, || async {
            match maps.create(&params, &map).await {
                // It is there, or an earlier request succeeded, but its response was lost: the name is unique.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                answer => answer.map(drop),
            }
        });
        // What was created before is probably there still: a quota may refuse the request before it is compared.
        probe.is_there = result.is_ok() || probe.was_there;
        probe.was_there |= result.is_ok();
        let (name, was_there) = (probe.name.clone(), probe.was_there);
        if !was_there && result.as_ref().is_err_and(PodError::is_refusal) {
            *created = None;
        }
        result.map(|()| name)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let probe = self.probe.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(ProbeMap { name, .. }) = probe.take() else { return };
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut left = "the API server does not respond".to_owned();
        let removing = async {
            loop {
                match maps.delete(&name, &DeleteParams::default()).await {
                    Ok(_) => return true,
                    Err(kube::Error::Api(status)) if status.code == 404 => return true,
                    Err(error) => {
                        left = one_line(&error);
                        let error = PodError::request("", &error);
                        if !(error.is_passing() || error.is_denial() && self.told_away.lacks_rights()) {
                            return false;
                        }
                    }
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        if self.threads.handle.block_on(async { tokio::time::timeout(LAST, removing).await }) == Ok(true) {
            return;
        }
        tracing::warn!("failed to remove the ConfigMap {name}: {left}; `highwater clean --on kubernetes` does");
    }
}

async fn configuration(options: &ClusterOptions) -> Result<Config, PodError> {
    // The errors of kube name their sources themselves.
    let failed = |error: &dyn std::error::Error| PodError::Config { reason: error.to_string() };
    let chosen = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    match (&options.kubeconfig, &options.context) {
        (Some(path), _) => {
            let file = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
            Config::from_custom_kubeconfig(file, &chosen).await.map_err(|error| failed(&error))
        }
        (None, None) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            Config::infer().await.map_err(|error| failed(&error))
        }
        (None, _) => Config::from_kubeconfig(&chosen).await.map_err(|error| failed(&error)),
    }
}

/// Reads a pod as YAML, of which JSON is a part.
fn read_template(path: &Path) -> Result<Map<String, Value>, PodError> {
    let wrong = |reason: String| PodError::Template { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match value {
        Value::Object(map) if map.get("kind").is_none_or(|kind| kind == "Pod") => Ok(map),
        Value::Object(map) => Err(wrong(format!("expected an object of the kind Pod, found the kind {}", map["kind"]))),
        _ => Err(wrong("expected an object of the kind Pod".to_owned())),
    }
}

/// The nearest text that Kubernetes accepts as the value of a label: 63 letters, digits, `.`, `_` and `-`, with a letter or
/// digit at both ends.
fn label_value(text: &str) -> String {
    let accepted = |char: char| if char.is_ascii_alphanumeric() || "._-".contains(char) { char } else { '-' };
    let is_inner = |char: char| !char.is_ascii_alphanumeric();
    let value: String = text.trim_start_matches(is_inner).chars().map(accepted).take(63).collect();
    value.trim_end_matches(is_inner).to_owned()
}

impl PodError {
    /// Whether the same request may succeed later, because the API server is away or overloaded.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Request { status: None | Some(429 | 500..), .. })
    }

    fn is_denial(&self) -> bool {
        matches!(self, Self::Request { status: Some(401 | 403), .. })
    }

    pub(super) fn request(action: impl Into<String>, error: &kube::Error) -> Self {
        let (reason, status) = match error {
            kube::Error::Api(status) => (status.message.clone(), Some(status.code)),
            other => (one_line(other), None),
        };
        Self::Request { action: action.into(), reason, status }
    }

    pub(super) fn unanswered(action: impl Into<String>) -> Self {
        Self::Request { action: action.into(), reason: "the API server does not respond".to_owned(), status: None }
    }
}

#[cfg(test)]
mod tests {
    use super::label_value;

    #[test]
    fn the_name_of_a_sweep_becomes_the_value_of_a_label() {
        let long = "a".repeat(62) + "/b";
        for (name, value) in [
            ("lungs", "lungs"),
            ("example.org_task_1.sweep", "example.org_task_1.sweep"),
            (".hidden dir é", "hidden-dir"),
            ("???", ""),
            (&long, &long[..62]),
        ] {
            assert_eq!(label_value(name), value);
        }
    }
}
