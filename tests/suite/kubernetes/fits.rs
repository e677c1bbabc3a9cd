//! `--when-fits`: a pod is created once there is room for it.

use std::time::Duration;

use super::{Namespace, Ran, Running, json, kubectl};

/// More than half of the node.
fn most_of_the_node() -> String {
    let allocatable = kubectl(&["get", "node", "node", "-o", "jsonpath={.status.allocatable.memory}"]);
    let kibibytes: u64 = allocatable.strip_suffix("Ki").unwrap().parse().unwrap();
    format!("{}Ki", kibibytes * 3 / 5)
}

#[test]
fn a_pod_that_fits_beside_no_other_waits_for_them() {
    cluster_or_skip!();
    let (namespace, size) = (Namespace::new("fits"), most_of_the_node());
    let name = namespace.0.as_str();
    let large = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "large"},
        "spec": {
            "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [{
                "name": "c", "image": super::IMAGE, "command": ["/task", "wait"],
                "resources": {"requests": {"memory": size}},
            }],
        },
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, large.to_string()).unwrap();
    kubectl(&["create", "--namespace", name, "-f", file.path().to_str().unwrap()]);
    let fits = ["--when-fits", "--limit", &size];
    let wait = [&fits[..], &["--pending-timeout", "1s", "--", "/task", "touch", "20", "0"]].concat();
    let ran = namespace.run(&wait);
    assert_eq!((ran.status, &ran.record["outcome"]["kind"]), (Some(3), &json!("lost")), "{ran:#?}");
    assert!(ran.notes().contains("of memory, and the most that any node has left is"), "{ran:#?}");
    let run = [&fits[..], &["--", "/task", "touch", "20", "0"]].concat();
    let running = Running::start(&namespace, &run);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(namespace.leftovers(), "", "nothing is created before there is room");
    kubectl(&["delete", "pod", "large", "--namespace", name]);
    let ran = running.end();
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    ran.assert_exact(20);
}

#[test]
fn a_pod_that_fits_on_no_node_is_refused_at_once() {
    cluster_or_skip!();
    let namespace = Namespace::new("large");
    let ran = namespace.run(&["--when-fits", "--limit", "100Ti", "--", "/task", "touch", "20", "0"]);
    assert_eq!((ran.status, &ran.record), (Some(125), &json!(null)), "{ran:#?}");
    // Errors are wrapped to the width of a terminal.
    let says = |ran: &Ran, text: &str| ran.stderr.replace("\n  │ ", " ").contains(text);
    assert!(says(&ran, "it requests 100 TiB of memory, and the most that any of the nodes"), "{ran:#?}");
    assert_eq!(namespace.leftovers(), "");
    let ran = namespace.run(&["--when-fits", "--", "/task", "touch", "20", "0"]);
    assert!(says(&ran, "--when-fits needs the memory that the pod requests"), "{ran:#?}");
    let ran = namespace.run(&["--context", "nobody", "--when-fits", "--limit", "1Gi", "--", "/task"]);
    assert!(says(&ran, "nodes is forbidden"), "{ran:#?}");
}
