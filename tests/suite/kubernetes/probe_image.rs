//! The probe from an image of its own.

use std::process::Command;

use super::{Namespace, json, kubectl_output};

/// Imported by the test itself: it runs on the node.
#[test]
fn the_probe_comes_from_an_image_that_highwater_writes() {
    cluster_or_skip!();
    let (namespace, folder) = (Namespace::new("image"), tempfile::tempdir().unwrap());
    let file = folder.path().join("probe.tar");
    let mut probe_image = Command::new(env!("CARGO_BIN_EXE_highwater"));
    probe_image.args(["probe-image", "--name", "example.org/probe:1", "-o"]).arg(&file);
    assert!(probe_image.status().unwrap().success());
    let mut import = Command::new("ctr");
    import.args(["--address", "/run/containerd.sock", "--namespace", "k8s.io", "images", "import"]).arg(&file);
    let output = import.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // As where an administrator demands it.
    let template = folder.path().join("pod.yaml");
    std::fs::write(&template, "spec: {securityContext: {runAsNonRoot: true}}").unwrap();
    let template = template.to_str().unwrap();
    let options = ["--probe-image", "example.org/probe:1", "--user", "1000", "--pod", template];
    let ran = namespace.run(&[&options[..], &["--", "/task", "touch", "30", "100"]].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    ran.assert_exact(30);
    assert_eq!(namespace.leftovers(), "");
    let none = ["--probe-image", "example.org/none:1", "--pull", "never", "--pending-timeout", "8s"];
    let ran = namespace.run(&[&none[..], &["--", "/task", "touch", "30", "100"]].concat());
    assert_eq!((ran.status, &ran.record["outcome"]["kind"]), (Some(3), &json!("lost")), "{ran:#?}");
    assert!(ran.notes().contains("ErrImageNeverPull"), "{ran:#?}");
    let maps = kubectl_output(&["get", "configmaps", "--namespace", &namespace.0, "-o", "name"]);
    assert!(!String::from_utf8_lossy(&maps.stdout).contains("highwater-"), "{maps:?}");
}
