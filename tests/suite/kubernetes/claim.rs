//! `--claim`: inputs from the volume of a PersistentVolumeClaim.

use std::fs;
use std::path::Path;

use highwater::model::observation::Outcome;

use super::{IMAGE, Namespace, json, kubectl, records};

/// Two items, each a directory with a file that says where it is.
fn write_items(directory: &Path, place: &str) {
    for item in ["p1", "p2"] {
        fs::create_dir_all(directory.join(item)).unwrap();
        fs::write(directory.join(item).join("scan"), place).unwrap();
    }
}

#[test]
fn subsets_of_an_input_come_from_the_volume_of_a_claim() {
    cluster_or_skip!();
    let (namespace, bench) = (Namespace::new("claim"), tempfile::tempdir().unwrap());
    // What is called the volume is elsewhere on the node than what is here.
    let (volume, here) = (bench.path().join("volume"), bench.path().join("here"));
    write_items(&volume.join("data"), "volume");
    write_items(&here, "here..");
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "scans"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": "",
            "hostPath": {"path": volume}, "claimRef": {"name": "scans", "namespace": namespace.0}}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
         "metadata": {"name": "scans", "namespace": namespace.0}, "spec": {
            "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": "scans",
            "resources": {"requests": {"storage": "1Gi"}}}},
    ]});
    fs::write(bench.path().join("objects"), objects.to_string()).unwrap();
    kubectl(&["create", "-f", bench.path().join("objects").to_str().unwrap()]);

    let script = "exit $(($(grep -rL volume /in | wc -l) * 10 + $(ls /in | wc -l)))";
    let sweep = |claim: &str| {
        let mut command =
            namespace.command("sweep", &["--image", IMAGE, "--mount", "{input}:/in:ro", "--claim", claim]);
        command.args(["--input", "here", "--items", "1,2", "--into", "s", "--", "/bin/sh", "-c", script]);
        command.current_dir(bench.path()).output().unwrap()
    };
    let output = sweep("here=scans/data");
    let records = records(&bench.path().join("s"));
    let outcomes: Vec<_> = records.iter().map(|run| (run.inputs[0].all.items, run.outcome)).collect();
    assert_eq!(outcomes, [1, 2].map(|items| (items, Outcome::Exited { status: items as i32 })), "{output:#?}");
    assert_eq!(namespace.leftovers(), "");

    let mount = format!("{}:/in:ro", here.display());
    let claim = format!("{}=scans/data", here.display());
    let ran = namespace.run(&["--mount", &mount, "--claim", &claim, "--", "/bin/sh", "-c", script]);
    assert_eq!(ran.status, Some(2), "{ran:#?}");
    kubectl(&["delete", "persistentvolume", "scans", "--wait=false"]);
}
