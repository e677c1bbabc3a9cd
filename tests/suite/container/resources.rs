//! The resources of containers, on a real engine.

use super::*;

/// What the engine says about the running container of this name.
fn host_config(name: &str) -> Value {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let output = docker(&["inspect", name, "--format", "{{json .}}"]);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if found["State"]["Running"] == true {
            return found["HostConfig"].clone();
        }
        assert!(std::time::Instant::now() < end, "{name} does not run: {found:#}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_container_has_the_resources_that_it_is_given() {
    let _url = engine_or_skip!();
    let file = tempfile::NamedTempFile::new().unwrap();
    let (name, path) = ("with-resources", file.path().to_str().unwrap());
    // Podman cannot raise the limits of a process everywhere.
    let ulimit: &[&str] = if is_docker() { &["--ulimit", "nofile=100:200"] } else { &[] };
    let script = "dd if=/dev/zero of=/dev/shm/data bs=1M count=30 && dd if=/dev/zero of=/scratch/data bs=1M count=10 && \
                  df -k /dev/shm /scratch && exec sleep 5";
    let words = "--cpus 1.5 --limit 96Mi --memory-swap 128m --shm-size 48m --tmpfs /scratch:size=16m --device \
                 /dev/null:/dev/other:rw --entrypoint sh --image exec-form";
    let mut command = run(&["--name", name, "--format", "json", "--output", path]);
    command.args(ulimit).args(words.split_whitespace()).args(["--", "-c", script]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let host = host_config(name);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("49152") && shown.contains("16384"), "the sizes in KiB: {shown}");
    assert_eq!(host["NanoCpus"], 1_500_000_000, "{host:#}");
    assert_eq!((&host["ShmSize"], &host["MemorySwap"]), (&Value::from(48 * MIB), &Value::from(128 * MIB)));
    assert!(host["Tmpfs"]["/scratch"].as_str().unwrap().contains("size=16m"), "{host:#}");
    assert_eq!(host["Devices"][0]["PathInContainer"], "/dev/other");
    if is_docker() {
        assert_eq!(host["Ulimits"], serde_json::json!([{"Name": "nofile", "Soft": 100, "Hard": 200}]));
    }
    let run: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    // What it wrote to memory counts, as shmem.
    assert_exact(&run, from_outside(), 40);
    // The sample at the highest usage may have been taken while it was still writing.
    let shmem = run["series"]["samples"].as_array().unwrap().iter().filter_map(|sample| sample["shmem"].as_u64()).max();
    assert!(shmem.unwrap() >= 40 * MIB, "{run:#}");
    assert!(run["container"]["options"].as_array().unwrap().contains(&Value::from("--shm-size=50331648")), "{run:#}");
    let codes: Vec<&str> =
        run["warnings"].as_array().unwrap().iter().filter_map(|warning| warning["code"].as_str()).collect();
    assert!(codes.contains(&"swap-allowed") && codes.contains(&"in-memory"), "{run:#}");
}

#[test]
fn an_engine_without_gpus_refuses_them_in_one_message() {
    let _url = engine_or_skip!();
    let (gpus, cdi) = if is_docker() {
        ("neither the NVIDIA runtime nor", "could not select device driver")
    } else {
        ("Podman ignores requests for GPUs", "Podman ignores CDI devices")
    };
    for (words, expected) in [(["--gpus", "all"], gpus), (["--device", "nvidia.com/gpu=all"], cdi)] {
        let ran =
            ran(&[&words[..], &["--label", "test=gpus", "--image", "tiny", "--", "/task", "touch", "1"]].concat());
        assert_eq!(ran.status, Some(3), "{}", ran.stderr);
        assert!(ran.stderr.replace("\n  │ ", " ").contains(expected), "{words:?}: {}", ran.stderr);
        assert_eq!(containers_with("test=gpus"), "");
    }
}
