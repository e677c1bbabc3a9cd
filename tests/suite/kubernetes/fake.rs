//! A fake API server with one pod, for what only newer clusters do. It answers as Kubernetes 1.36 on cgroup v2 did.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// Starts `highwater run` on a server whose pod ends with this container status; returns also the requests.
fn run_on(state: &Value, words: &[&str]) -> (Output, Value, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", listener.local_addr().unwrap())}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (seen, state) = (Arc::clone(&requests), state.clone());
    // Ends with the suite: it waits for a connection that does not come.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (seen, state) = (Arc::clone(&seen), state.clone());
            std::thread::spawn(move || answer(stream, &state, &seen));
        }
    });
    let record = folder.path().join("runs.jsonl");
    let mut highwater = Command::new(env!("CARGO_BIN_EXE_highwater"));
    highwater.args(["run", "--on", "kubernetes", "--kubeconfig"]).arg(kubeconfig).arg("--record").arg(&record);
    let output = highwater.args(["--image", "segment:1"]).args(words).args(["--", "/segment"]).output().unwrap();
    let record = serde_json::from_str(&std::fs::read_to_string(record).unwrap_or_default()).unwrap_or_default();
    let requests = requests.lock().unwrap().clone();
    (output, record, requests)
}

/// Answers one request, and closes the connection.
fn answer(mut stream: TcpStream, state: &Value, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut lines = reader.by_ref().lines();
    let request = lines.next()?.ok()?;
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let length = headers.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let mut words = request.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let path = path.split('?').next()?;
    let short = path.trim_start_matches("/api/v1/namespaces/default/").split('/').next()?;
    seen.lock().unwrap().push(format!("{method} {short}"));
    let container = json!({
        "name": "task", "image": "segment:1", "imageID": "sha256:00", "ready": false, "restartCount": 0, "state": state,
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "resourceVersion": "1"},
        "spec": {"nodeName": "node7", "containers": []},
        "status": {"phase": "Failed", "containerStatuses": [container]},
    });
    let text = match (method, path) {
        (_, "/version") => json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.2", "gitCommit": "", "gitTreeState": "", "buildDate": "",
            "goVersion": "", "compiler": "", "platform": "",
        })
        .to_string(),
        (_, path) if path.ends_with("/log") => "the output\n".to_owned(),
        ("POST", _) => {
            let mut created: Value = serde_json::from_slice(&body).ok()?;
            created["metadata"]["uid"] = json!("1");
            created.to_string()
        }
        (_, path) if path.contains("/pods") => pod.to_string(),
        _ => json!({"kind": "Status", "status": "Success"}).to_string(),
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", text.len());
    stream.write_all(format!("{head}Connection: close\r\n\r\n{text}").as_bytes()).ok()
}

/// From Kubernetes 1.28 on, the kubelet sets memory.oom.group on cgroup v2: the kernel kills the probe with the task, and
/// all that arrives is what the probe wrote first.
#[test]
fn a_probe_that_is_killed_with_the_task_still_tells_the_limit() {
    let message = "highwater-probe 1\nlimit 67108864\nown_limit 67108864\n";
    let state = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": message}});
    let (output, record, requests) = run_on(&state, &["--limit", "64Mi"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(137), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the output\n");
    let outcome = &record["outcome"]["kind"];
    assert_eq!((outcome, &record["censored"]), (&json!("oom-killed"), &json!(true)), "{record:#}");
    let peak = &record["peak"];
    assert_eq!((&peak["bytes"], &peak["exactness"]["kind"]), (&json!(67_108_864), &json!("lower-bound")), "{record:#}");
    assert_eq!(record["limit"]["own"], 67_108_864);
    assert_eq!(
        (&record["pod"]["node"], &record["container"]["engine"]["version"]),
        (&json!("node7"), &json!("v1.36.2"))
    );
    for made in ["pods", "configmaps"] {
        assert!(
            requests.contains(&format!("POST {made}")) && requests.contains(&format!("DELETE {made}")),
            "{requests:?}"
        );
    }
}

/// Without a message, the reason is all there is.
#[test]
fn an_out_of_memory_kill_before_the_probe_could_write_has_no_peak() {
    let state = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let (output, record, _) = run_on(&state, &["--limit", "64Mi"]);
    assert_eq!(output.status.code(), Some(137), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&record["outcome"]["kind"], &record["peak"]), (&json!("oom-killed"), &json!("gone")), "{record:#}");
}

#[test]
fn a_task_that_cannot_be_started_is_an_error() {
    let message = "failed to create containerd task: exec format error";
    let state = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": message}});
    let (output, _, requests) = run_on(&state, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("exec format error"), "{stderr}");
    assert!(requests.contains(&"DELETE pods".to_owned()) && requests.contains(&"DELETE configmaps".to_owned()));
}
