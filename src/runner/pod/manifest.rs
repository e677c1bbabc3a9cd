//! The pod as it is sent to the cluster.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{ClaimedDirectory, LABEL, PodError, PodLaunch};
use crate::runner::container::Bind;

/// The directory of the probe in the container.
const DIRECTORY: &str = "/.highwater";
/// Where Kubernetes looks for the termination message, which is its result.
const RESULT: &str = "/dev/highwater";
/// The names of the probe's volume, and of the container if the template names none.
const VOLUME: &str = "highwater";
const TASK: &str = "task";
/// The program in an image of the probe.
const IN_IMAGE: &str = "/probe";
/// The name of the container that copies the probe from its image.
const COPYING: &str = "highwater-probe";
/// Its memory. The task needs more, so that the pod as a whole requests nothing for it.
const COPYING_MEMORY: &str = "32Mi";
/// How much longer than its time-out a pod may live: the probe keeps the time.
const DEADLINE: Duration = Duration::from_secs(60);

/// The name of the annotation that says which process created an object.
pub(super) const OWNER: &str = "highwater/owner";

/// Where the probe comes from.
#[derive(Clone, Copy, Debug)]
pub enum ProbeSource<'a> {
    /// From the ConfigMap with this name.
    ConfigMap(&'a str),
    /// From this image, which has nothing else.
    Image(&'a str),
}

/// A pod that is to be created.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The whole object, as JSON.
    pub pod: Value,
    /// The name of the task's container.
    pub container: String,
}

impl Manifest {
    /// The pod for this launch, made from a template if there is one.
    ///
    /// # Errors
    /// If there is no command, or a pod cannot do what is asked for.
    pub fn new(
        template: Option<&Map<String, Value>>,
        launch: &PodLaunch,
        name: &str,
        (owner, probe): (&str, ProbeSource<'_>),
        pending: Duration,
    ) -> Result<Self, PodError> {
        let mut pod = template.cloned().unwrap_or_default();
        pod.insert("apiVersion".to_owned(), json!("v1"));
        pod.insert("kind".to_owned(), json!("Pod"));
        let metadata = object(&mut pod, "metadata")?;
        metadata.remove("namespace");
        metadata.insert("name".to_owned(), json!(name));
        let labels = object(metadata, "labels")?;
        labels.extend(launch.container.labels.iter().map(|(name, value)| (name.clone(), json!(value))));
        labels.insert(LABEL.0.to_owned(), json!(LABEL.1));
        let annotations = object(metadata, "annotations")?;
        annotations.extend(launch.annotations.iter().map(|(name, value)| (name.clone(), json!(value))));
        annotations.insert(OWNER.to_owned(), json!(owner));

        let spec = object(&mut pod, "spec")?;
        if let Some(policy) = spec.get("restartPolicy").filter(|policy| **policy != "Never") {
            return Err(PodError::Unsupported {
                what: format!("the template has restartPolicy {policy}, but a run is a single one"),
                remedy: "remove restartPolicy from the template".to_owned(),
            });
        }
        spec.insert("restartPolicy".to_owned(), json!("Never"));
        for switch in ["automountServiceAccountToken", "enableServiceLinks"] {
            spec.entry(switch).or_insert(json!(false));
        }
        let seconds = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        spec.insert("terminationGracePeriodSeconds".to_owned(), json!(seconds(launch.kill_after).max(1)));
        if let Some(timeout) = launch.timeout {
            // Counted from before the image is pulled.
            let most = timeout.saturating_add(launch.kill_after).saturating_add(pending).saturating_add(DEADLINE);
            spec.insert("activeDeadlineSeconds".to_owned(), json!(seconds(most)));
        }
        if !launch.pull_secrets.is_empty() {
            let secrets = launch.pull_secrets.iter().map(|name| json!({"name": name}));
            array(spec, "imagePullSecrets")?.extend(secrets);
        }
        match launch.container.network.as_deref() {
            None => {}
            Some("host") => {
                spec.insert("hostNetwork".to_owned(), json!(true));
            }
            Some(other) => {
                return Err(PodError::Unsupported {
                    what: format!("the network `{other}` is not one of Kubernetes"),
                    remedy: "remove it, or use the network host; a NetworkPolicy of the cluster can cut pods off"
                        .to_owned(),
                });
            }
        }
        let volume = match probe {
            ProbeSource::ConfigMap(name) => {
                json!({"name": VOLUME, "configMap": {"name": name, "defaultMode": 0o555}})
            }
            ProbeSource::Image(_) => json!({"name": VOLUME, "emptyDir": {}}),
        };
        if let ProbeSource::Image(image) = probe {
            // What a namespace may require of every container: it is not the task, and needs little.
            let mut copying = json!({
                "name": COPYING,
                "image": image,
                "command": [IN_IMAGE, "--copy", format!("{DIRECTORY}/probe")],
                "volumeMounts": [{"name": VOLUME, "mountPath": DIRECTORY}],
                "resources": {"limits": {"memory": COPYING_MEMORY}, "requests": {"memory": COPYING_MEMORY}},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": true,
                },
            });
            // A node that must not pull the image of the task must not pull this one either.
            if launch.pull_policy.as_deref() == Some("Never") {
                copying["imagePullPolicy"] = json!("Never");
            }
            array(spec, "initContainers")?.push(copying);
        }
        let mut volumes = vec![volume];
        let mut mounts = vec![json!({"name": VOLUME, "mountPath": DIRECTORY, "readOnly": true})];
        let mut claimed = BTreeSet::new();
        for (index, bind) in launch.container.mounts.iter().enumerate() {
            // A pod with the same claim in two volumes may never start.
            let first =
                |at: usize| launch.claims.iter().position(|it| it.claim == launch.claims[at].claim).unwrap_or(at);
            let claimed_here = ClaimedDirectory::of(&launch.claims, &bind.source).map(|(at, path)| (first(at), path));
            let name = match &claimed_here {
                Some((claim, _)) => format!("{VOLUME}-claim-{claim}"),
                None => format!("{VOLUME}-{index}"),
            };
            let mut mount = json!({"name": name, "mountPath": bind.target, "readOnly": bind.read_only});
            match claimed_here {
                Some((claim, path)) => {
                    if !path.is_empty() {
                        mount["subPath"] = json!(path);
                    }
                    if claimed.insert(claim) {
                        let claim = &launch.claims[claim].claim;
                        volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": claim}}));
                    }
                }
                None => volumes.push(json!({"name": name, "hostPath": host_path(bind)?})),
            }
            mounts.push(mount);
        }
        array(spec, "volumes")?.extend(volumes);
        let containers = array(spec, "containers")?;
        let named = |container: &Value| container["name"] == TASK;
        let index = containers.iter().position(named).unwrap_or(0);
        if containers.is_empty() {
            containers.push(json!({}));
        }
        let Some(Value::Object(container)) = containers.get_mut(index) else {
            return Err(mismatch("containers", &Value::Array(containers.clone()), "an array of objects"));
        };
        let name = container.entry("name").or_insert(json!(TASK)).as_str().unwrap_or(TASK).to_owned();
        fill(container, launch, mounts)?;
        Ok(Self { pod: Value::Object(pod), container: name })
    }
}

impl Manifest {
    /// The pod for this launch as anybody may create it: without a probe and without what belongs to highwater.
    ///
    /// # Errors
    /// If a pod cannot do what is asked for.
    pub fn plain(launch: &PodLaunch, name: &str) -> Result<Value, PodError> {
        let mut launch = launch.clone();
        let words: Vec<String> =
            launch.container.entrypoint.iter().chain(&launch.container.command).flatten().cloned().collect();
        // The image has an entrypoint of its own.
        launch.container.entrypoint = Some(vec![String::new()]);
        let Self { mut pod, .. } = Self::new(None, &launch, name, ("", ProbeSource::ConfigMap("")), Duration::ZERO)?;
        if let Some(metadata) = pod["metadata"].as_object_mut() {
            metadata.remove("labels");
            if launch.annotations.is_empty() {
                metadata.remove("annotations");
            } else {
                metadata.insert("annotations".to_owned(), json!(launch.annotations));
            }
            if !launch.container.labels.is_empty() {
                metadata.insert("labels".to_owned(), json!(launch.container.labels));
            }
        }
        let of_probe = |value: &Value| value["name"] != VOLUME;
        let keep = |value: &mut Value| {
            if let Some(values) = value.as_array_mut() {
                values.retain(of_probe);
            }
        };
        keep(&mut pod["spec"]["volumes"]);
        let container = &mut pod["spec"]["containers"][0];
        keep(&mut container["volumeMounts"]);
        if let Some(container) = container.as_object_mut() {
            container.remove("terminationMessagePath");
            container.remove("terminationMessagePolicy");
            container.remove("command");
            if !words.is_empty() {
                let words: Vec<String> = words.iter().map(|word| literal(word)).collect();
                container.insert("command".to_owned(), json!(words));
            }
        }
        Ok(pod)
    }
}

/// A text in which the kubelet replaces nothing: it takes `$(NAME)` for a variable and `$$` for `$`.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// Fills in the task's container.
fn fill(container: &mut Map<String, Value>, launch: &PodLaunch, mounts: Vec<Value>) -> Result<(), PodError> {
    let own = &launch.container;
    let words = own.entrypoint.iter().chain(&own.command).flatten();
    let mut words: Vec<Value> = words.map(|word| json!(literal(word))).collect();
    if words.is_empty() {
        let of_template = ["command", "args"].iter().filter_map(|name| container.get(*name)?.as_array());
        words = of_template.flatten().cloned().collect();
        if container.get("command").is_none() {
            return Err(PodError::NoCommand { image: own.image.clone() });
        }
    }
    let mut command = vec![json!(format!("{DIRECTORY}/probe")), json!(RESULT)];
    if let Some(timeout) = launch.timeout {
        command.extend([timeout, launch.kill_after].map(|time| json!(time.as_millis().to_string())));
    }
    command.push(json!("--"));
    command.append(&mut words);
    container.remove("args");
    container.insert("command".to_owned(), Value::Array(command));
    container.insert("image".to_owned(), json!(own.image));
    container.insert("terminationMessagePath".to_owned(), json!(RESULT));
    container.insert("terminationMessagePolicy".to_owned(), json!("File"));
    if let Some(policy) = &launch.pull_policy {
        container.insert("imagePullPolicy".to_owned(), json!(policy));
    }
    if let Some(directory) = &own.working_directory {
        container.insert("workingDir".to_owned(), json!(directory));
    }
    let env = array(container, "env")?;
    env.retain(|variable| !own.env.iter().any(|(name, _)| variable["name"] == **name));
    env.extend(own.env.iter().map(|(name, value)| json!({"name": name, "value": literal(value)})));
    array(container, "volumeMounts")?.extend(mounts);
    let resources = object(container, "resources")?;
    if let Some(limit) = own.limit {
        object(resources, "limits")?.insert("memory".to_owned(), json!(limit.0.to_string()));
    }
    for (name, amount) in &launch.extended {
        object(resources, "limits")?.insert(name.clone(), json!(amount));
    }
    // Kubernetes requests as much as the limit by itself, but refuses more.
    if let Some(request) = launch.request {
        let request = own.limit.map_or(request, |limit| request.min(limit));
        object(resources, "requests")?.insert("memory".to_owned(), json!(request.0.to_string()));
    } else if own.limit.is_some() {
        object(resources, "requests")?.remove("memory");
    }
    if let Some(user) = &own.user {
        let mut ids = user.splitn(2, ':').map(str::parse::<u32>);
        let context = object(container, "securityContext")?;
        match (ids.next(), ids.next()) {
            (Some(Ok(user)), None) => {
                context.insert("runAsUser".to_owned(), json!(user));
            }
            (Some(Ok(user)), Some(Ok(group))) => {
                context.insert("runAsUser".to_owned(), json!(user));
                context.insert("runAsGroup".to_owned(), json!(group));
            }
            _ => {
                return Err(PodError::Unsupported {
                    what: format!("Kubernetes takes users by number, and `{user}` is a name"),
                    remedy: "give the numbers of the user and the group, such as 1000:1000".to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// A path of the node, which has to be the same as here. Of what type it is, is checked there.
fn host_path(bind: &Bind) -> Result<Value, PodError> {
    let Some(path) = bind.source.to_str() else {
        return Err(PodError::Unsupported {
            what: format!("the path {} is not valid UTF-8, which Kubernetes requires", bind.source.display()),
            remedy: "rename it, or mount its parent directory".to_owned(),
        });
    };
    let is_file = Path::new(path).is_file();
    let kind = match (is_file, bind.read_only) {
        (true, _) => "File",
        (false, true) => "Directory",
        (false, false) => "DirectoryOrCreate",
    };
    Ok(json!({"path": path, "type": kind}))
}

/// The object of this name in a part of the template, which is created if it is missing.
fn object<'a>(map: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Map<String, Value>, PodError> {
    match present(map, name, json!({})) {
        Value::Object(map) => Ok(map),
        other => Err(mismatch(name, other, "an object")),
    }
}

/// The array of this name in a part of the template, which is created if it is missing.
fn array<'a>(map: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Vec<Value>, PodError> {
    match present(map, name, json!([])) {
        Value::Array(values) => Ok(values),
        other => Err(mismatch(name, other, "an array")),
    }
}

fn present<'a>(map: &'a mut Map<String, Value>, name: &str, empty: Value) -> &'a mut Value {
    let value = map.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = empty;
    }
    value
}

fn mismatch(name: &str, found: &Value, expected: &str) -> PodError {
    PodError::Unsupported {
        what: format!("`{name}` in the template is {found}, expected {expected}"),
        remedy: "correct the file given with --pod".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::Bytes;
    use crate::runner::container::ContainerLaunch;

    fn launch(words: &[&str]) -> PodLaunch {
        let mut container = ContainerLaunch::new("segment:1");
        container.command = Some(words.iter().map(|word| (*word).to_owned()).collect());
        PodLaunch::new(container)
    }

    fn manifest(template: Value, launch: &PodLaunch) -> Result<Manifest, String> {
        let template = template.as_object();
        Manifest::new(template, launch, "p", ("owner", ProbeSource::ConfigMap("map")), Duration::from_secs(600))
            .map_err(|it| it.to_string())
    }

    #[test]
    fn a_pod_starts_the_probe_which_starts_the_command() {
        let mut launch = launch(&["/segment", "--fast", "$$ $(HOME)"]);
        launch.container.limit = Some(Bytes(1 << 30));
        launch.request = Some(Bytes(2 << 30));
        launch.timeout = Some(Duration::from_millis(1500));
        launch.container.mounts = vec![Bind { source: "/".into(), target: "/in".to_owned(), read_only: true }];
        let made = manifest(json!({}), &launch).unwrap();
        insta::assert_json_snapshot!(made.pod);
        assert_eq!(made.container, "task");
    }

    #[test]
    fn what_is_in_a_claim_is_mounted_from_there() {
        let here = tempfile::tempdir().unwrap();
        let mut launch = launch(&["/segment"]);
        std::fs::create_dir(here.path().join("more")).unwrap();
        let claim = |below: &str, path: &str| format!("{}{below}=data/{path}", here.path().display()).parse().unwrap();
        launch.claims = vec![claim("", "scans"), claim("/more", "others")];
        let bind = |source: &Path, target: &str, read_only| Bind {
            source: source.into(),
            target: target.to_owned(),
            read_only,
        };
        launch.container.mounts = vec![
            bind(&here.path().join("p1"), "/in/p1", true),
            bind(&here.path().join("out"), "/out", false),
            bind(&here.path().join("more"), "/more", true),
            bind(Path::new("/"), "/node", true),
        ];
        let made = manifest(json!({}), &launch).unwrap();
        insta::assert_json_snapshot!([
            &made.pod["spec"]["volumes"],
            &made.pod["spec"]["containers"][0]["volumeMounts"]
        ]);
    }

    #[test]
    fn a_template_is_kept_where_nothing_has_to_be_set() {
        let template = json!({
            "metadata": {"name": "other", "namespace": "other", "labels": {"team": "a"}},
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "automountServiceAccountToken": true,
                "containers": [
                    {"name": "sidecar", "image": "sidecar:1"},
                    {"name": "task", "image": "other", "command": ["/own"], "args": ["word"],
                     "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}], "volumeMounts": null},
                ],
            },
        });
        let mut launch = launch(&[]);
        launch.container.env = vec![("A".to_owned(), "2".to_owned())];
        insta::assert_json_snapshot!(manifest(template, &launch).unwrap().pod);
    }

    #[test]
    fn what_a_pod_cannot_do_is_refused_by_name() {
        let with = |change: &dyn Fn(&mut ContainerLaunch)| {
            let mut launch = launch(&["/segment"]);
            change(&mut launch.container);
            manifest(json!({}), &launch).unwrap_err()
        };
        let own = || launch(&["/segment"]);
        let refused = [
            with(&|container| container.user = Some("user".to_owned())),
            with(&|container| container.network = Some("none".to_owned())),
            with(&|container| container.command = None),
            manifest(json!({"spec": {"restartPolicy": "Always"}}), &own()).unwrap_err(),
            manifest(json!({"spec": {"containers": "task"}}), &own()).unwrap_err(),
            manifest(json!({"spec": {"containers": ["task"]}}), &own()).unwrap_err(),
        ];
        insta::assert_snapshot!(refused.join("\n"), @r#"
        failed to start a pod: Kubernetes takes users by number, and `user` is a name
        failed to start a pod: the network `none` is not one of Kubernetes
        failed to start a pod of the image `segment:1`: no command was given
        failed to start a pod: the template has restartPolicy "Always", but a run is a single one
        failed to start a pod: `containers` in the template is "task", expected an array
        failed to start a pod: `containers` in the template is ["task"], expected an array of objects
        "#);
    }

    #[test]
    fn the_probe_can_come_from_an_image() {
        let mut launch = launch(&["/segment"]);
        launch.pull_policy = Some("Always".to_owned());
        let made = Manifest::new(None, &launch, "p", ("owner", ProbeSource::Image("probe:1")), Duration::ZERO).unwrap();
        let spec = &made.pod["spec"];
        insta::assert_json_snapshot!([&spec["initContainers"], &spec["volumes"]]);
    }

    #[test]
    fn a_plain_pod_has_nothing_of_highwater() {
        let mut launch = launch(&["/segment"]);
        launch.container.limit = Some(Bytes(1 << 30));
        launch.container.labels = [("team".to_owned(), "a".to_owned())].into();
        insta::assert_json_snapshot!(Manifest::plain(&launch, "p").unwrap());
    }

    #[test]
    fn users_are_numbers() {
        let mut launch = launch(&["/segment"]);
        launch.container.user = Some("1000:99".to_owned());
        let made = manifest(json!({}), &launch).unwrap();
        let context = &made.pod["spec"]["containers"][0]["securityContext"];
        assert_eq!(*context, json!({"runAsUser": 1000, "runAsGroup": 99}));
    }
}
