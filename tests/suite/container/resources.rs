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
    let run: Value = crate::harness::only_element(std::fs::read(path).unwrap());
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

#[test]
fn pinned_containers_have_cpus_of_their_own_and_numbers_of_cpus_are_a_parameter() {
    engine_or_skip!();
    if highwater::host::cpus::CpuList::allowed().unwrap().len() < 2 {
        return crate::harness::skip("there is only one CPU");
    }
    let bench = tempfile::tempdir().unwrap();
    let sweep = |words: &[&str]| {
        let mut command = highwater();
        command.current_dir(bench.path()).args([
            "sweep",
            "--pull",
            "never",
            "--entrypoint",
            "sh",
            "--image",
            "exec-form",
        ]);
        let output = command.args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        (text(&output.stdout), highwater::store::read(&bench.path().join("records")).unwrap().observations)
    };
    let script = "grep Cpus_allowed_list /proc/self/status; sleep 1";
    let (_, records) = sweep(&["--jobs", "2", "--pin", "-r", "4", "--into", "records", "--", "-c", script]);
    let mut lists = std::collections::BTreeSet::new();
    for run in &records {
        let conditions = run.conditions.as_ref().unwrap();
        let list = conditions.cpus.clone().unwrap();
        let stdout = std::fs::read_to_string(&run.logs.as_ref().unwrap().stdout);
        let stdout = stdout.or_else(|_| {
            std::fs::read_to_string(bench.path().join("records").join(&run.logs.as_ref().unwrap().stdout))
        });
        assert_eq!(stdout.unwrap().split_once(':').unwrap().1.trim(), list);
        assert!(!conditions.pinned || !run.is_time_disturbed());
        lists.insert(list);
    }
    assert_eq!((records.len(), lists.len()), (4, 2), "{lists:?}");
    std::fs::remove_dir_all(bench.path().join("records")).unwrap();
    // A fifth of a CPU for the same work, which is throttled.
    let work = "i=0; while [ $i -lt 150000 ]; do i=$((i + 1)); done";
    let (shown, records) = sweep(&["--cpus", "0.2,1", "--into", "records", "--", "-c", work]);
    assert!(shown.contains("speed-up"), "{shown}");
    for run in records {
        let cpus = &run.sweep.as_ref().unwrap().parameters["cpus"];
        assert_eq!(run.container.unwrap().options, [format!("--cpus={cpus}")]);
        let throttling = run.conditions.unwrap().throttling.value();
        if let Some(throttling) = throttling.filter(|_| cpus == "0.2") {
            assert!(throttling.periods > 0 && throttling.time_us > 0, "{throttling:?}");
        }
    }
}
