//! What a sweep of many pods costs: the same program as on a real cluster, with a simulated API server.
//!
//! The simulated cluster has 1,000 nodes. Each request takes 10 ms, as on a real Kubernetes. A pod starts 0.2 s after it was
//! created and runs for 0.1 to 1 s; 1 % of the pods are deleted with their node while they run. At the end, every
//! cell has exactly one record of a run that succeeded, and the server has no pod or ConfigMap left, or the benchmark
//! fails.
//!
//! `HIGHWATER=FILE` measures another build of the program. Other numbers of runs at a time are arguments:
//! `cargo bench --bench kubernetes -- 200`.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark that cannot run says why and ends")]

mod measured;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use measured::measure;
use serde_json::{Value, json};

const RUNS: usize = 10_000;
/// The numbers of runs at a time.
const JOBS: [usize; 3] = [50, 200, 800];
const NODES: usize = 1_000;
/// What a request to a real API server took.
const REQUEST: Duration = Duration::from_millis(10);
/// From the creation of a pod to the start of its task.
const START: Duration = Duration::from_millis(200);
const POD_SECONDS: [f64; 2] = [0.1, 1.0];
const LOST_PODS: f64 = 0.01;
/// What the probe writes.
const REPORT: &str = "highwater-probe 1\nlimit max\nown_limit max\nown 49152\npeak 21532672\n\
                      file /sys/fs/cgroup/memory/memory.max_usage_in_bytes\nwall_us 100000\nexited 0\n";

#[derive(Clone, Copy, PartialEq)]
enum State {
    Pending,
    Running,
    Ended,
    Lost,
}

struct Pod {
    object: Value,
    state: State,
    until: Instant,
    node: usize,
    /// Those who watch it, or follow its log.
    watchers: Vec<Sender<(State, String)>>,
}

impl Pod {
    /// The pod as the server answers with it.
    fn text(&self, version: u64) -> String {
        let state = match self.state {
            State::Pending => json!({"waiting": {"reason": "ContainerCreating"}}),
            State::Running | State::Lost => json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
            State::Ended => json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": REPORT}}),
        };
        let phase = ["Pending", "Running", "Succeeded", "Running"][self.state as usize];
        let container = json!({
            "name": self.object["spec"]["containers"][0]["name"], "image": "task:1", "imageID": "sha256:00",
            "ready": false, "restartCount": 0, "state": state,
        });
        let mut object = self.object.clone();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        object["spec"]["nodeName"] = json!(format!("node{}", self.node));
        object["status"] = json!({"phase": phase, "containerStatuses": [container]});
        object.to_string()
    }
}

#[derive(Default)]
struct Cluster {
    pods: HashMap<String, Pod>,
    config_maps: usize,
    version: u64,
    requests: BTreeMap<String, usize>,
    lost: usize,
    most_pods: usize,
}

impl Cluster {
    /// What has happened until now.
    fn advance(&mut self, random: &mut fastrand::Rng) {
        let now = Instant::now();
        let Self { pods, version, lost, .. } = self;
        for pod in pods.values_mut().filter(|pod| pod.until <= now) {
            let [least, most] = POD_SECONDS;
            let time = Duration::from_secs_f64(least + (most - least) * random.f64());
            (pod.state, pod.until) = match pod.state {
                State::Pending => (State::Running, now + time),
                State::Running if random.f64() < LOST_PODS => {
                    *lost += 1;
                    (State::Lost, now + REQUEST * 1_000_000)
                }
                State::Running => (State::Ended, now + REQUEST * 1_000_000),
                State::Ended | State::Lost => continue,
            };
            *version += 1;
            let kind = if pod.state == State::Lost { "DELETED" } else { "MODIFIED" };
            let event = format!("{{\"type\":\"{kind}\",\"object\":{}}}\n", pod.text(*version));
            pod.watchers.retain(|watcher| watcher.send((pod.state, event.clone())).is_ok());
        }
        pods.retain(|_, pod| pod.state != State::Lost);
    }

    fn create(&mut self, body: &[u8]) -> String {
        let mut object: Value = serde_json::from_slice(body).expect("a pod");
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        self.version += 1;
        object["metadata"]["uid"] = json!(self.version.to_string());
        let (until, node) = (Instant::now() + START, self.version as usize % NODES);
        let pod = Pod { object, state: State::Pending, until, node, watchers: Vec::new() };
        let text = pod.text(self.version);
        self.pods.insert(name, pod);
        self.most_pods = self.most_pods.max(self.pods.len());
        text
    }
}

struct Server {
    cluster: Mutex<Cluster>,
    connections: AtomicUsize,
    most_connections: AtomicUsize,
}

/// An answer: its status and text, or what happens to a pod from now on.
enum Answer {
    Text(u16, String),
    Events(Receiver<(State, String)>),
    Log(Receiver<(State, String)>),
}

impl Server {
    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let mut cluster = self.cluster();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut words = path.trim_start_matches("/api/v1/namespaces/default/").split('/');
        let (kind, name) = (words.next().unwrap_or_default(), words.next());
        let is_log = words.next() == Some("log");
        let watched = query.split('&').find_map(|word| word.strip_prefix("fieldSelector=metadata.name%3D"));
        let verb = match (method, name, watched) {
            (_, Some(_), _) if is_log => "log of",
            ("GET", _, Some(_)) => "watch",
            ("GET", None, None) => "list",
            ("GET", ..) => "get",
            ("POST", ..) => "create",
            _ => "delete",
        };
        *cluster.requests.entry(format!("{verb} {kind}")).or_default() += 1;
        let gone = || {
            Answer::Text(404, json!({"kind": "Status", "code": 404, "reason": "NotFound", "status": "Failure", "message": "not found"}).to_string())
        };
        let success = || Answer::Text(200, json!({"kind": "Status", "status": "Success"}).to_string());
        let version = cluster.version;
        match (kind, verb) {
            ("configmaps", "create") => {
                cluster.config_maps += 1;
                Answer::Text(201, String::from_utf8_lossy(body).into_owned())
            }
            ("configmaps", "delete") => {
                cluster.config_maps -= 1;
                success()
            }
            (_, "list") => {
                Answer::Text(200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []}).to_string())
            }
            ("pods", "create") => Answer::Text(201, cluster.create(body)),
            ("pods", "delete") => match cluster.pods.remove(name.unwrap_or_default()) {
                Some(pod) => Answer::Text(200, pod.text(version)),
                None => gone(),
            },
            ("pods", _) => {
                let Some(pod) = watched.or(name).and_then(|name| cluster.pods.get_mut(name)) else { return gone() };
                let text = pod.text(version);
                if verb == "get" {
                    return Answer::Text(200, text);
                }
                let (sender, events) = channel();
                // What has happened between the list and the watch.
                let _ = sender.send((pod.state, format!("{{\"type\":\"MODIFIED\",\"object\":{text}}}\n")));
                pod.watchers.push(sender);
                if verb == "watch" { Answer::Events(events) } else { Answer::Log(events) }
            }
            _ => Answer::Text(
                200,
                json!({
                    "major": "1", "minor": "20", "gitVersion": "v1.20.2", "gitCommit": "", "gitTreeState": "",
                    "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
                })
                .to_string(),
            ),
        }
    }

    /// Answers the requests of a connection, one after the other.
    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut lines = reader.by_ref().lines();
            let request = lines.next()?.ok()?;
            let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let length =
                headers.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).ok()?;
            let mut words = request.split(' ');
            let (method, path) = (words.next()?, words.next()?);
            thread::sleep(REQUEST);
            let head = "Content-Type: application/json\r\n";
            match self.answer(method, path, &body) {
                Answer::Text(status, text) => {
                    let text = format!("HTTP/1.1 {status} OK\r\n{head}Content-Length: {}\r\n\r\n{text}", text.len());
                    stream.write_all(text.as_bytes()).ok()?;
                }
                Answer::Events(events) => {
                    stream
                        .write_all(format!("HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())
                        .ok()?;
                    for (_, event) in events {
                        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).ok()?;
                    }
                    stream.write_all(b"0\r\n\r\n").ok()?;
                }
                Answer::Log(events) => {
                    // It is complete when the task has ended.
                    events.into_iter().find(|(state, _)| matches!(state, State::Ended | State::Lost));
                    stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 0\r\n\r\n").as_bytes()).ok()?;
                }
            }
        }
    }
}

fn serve(listener: &TcpListener, server: &Arc<Server>) {
    for stream in listener.incoming() {
        let (stream, server) = (stream.expect("a connection"), Arc::clone(server));
        let serving = move || {
            let now = server.connections.fetch_add(1, Ordering::Relaxed) + 1;
            server.most_connections.fetch_max(now, Ordering::Relaxed);
            server.serve(&stream);
            server.connections.fetch_sub(1, Ordering::Relaxed);
        };
        thread::Builder::new().stack_size(1 << 18).spawn(serving).expect("a thread");
    }
}

fn simulate(program: &str, jobs: usize) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    fs::write(folder.path().join("kubeconfig"), config.to_string()).expect("a kubeconfig");
    let values: Vec<String> = (0..RUNS).map(|n| n.to_string()).collect();
    let toml = format!("image = \"task:1\"\ncommand = [\"/task\", \"{{n}}\"]\n[param]\nn = {}\n", json!(values));
    fs::write(folder.path().join("sweep.toml"), toml).expect("the file of the sweep");
    let cluster = Mutex::new(Cluster::default());
    let server = Server { cluster, connections: AtomicUsize::new(0), most_connections: AtomicUsize::new(0) };
    let server = Arc::new(server);
    let (served, stepped) = (Arc::clone(&server), Arc::clone(&server));
    thread::spawn(move || serve(&listener, &served));
    thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(7);
        loop {
            stepped.cluster().advance(&mut random);
            thread::sleep(Duration::from_millis(5));
        }
    });
    let mut highwater = Command::new(program);
    highwater.current_dir(folder.path()).args(["sweep", "--file", "sweep.toml", "--on", "kubernetes"]);
    highwater.args(["--kubeconfig", "kubeconfig", "--into", "out", "--quiet", "--jobs"]).arg(jobs.to_string());
    let measured = measure(&highwater);
    let cluster = server.cluster();
    // A pod is created, watched from a first look at it, and removed.
    let pod = START.as_secs_f64() + POD_SECONDS.iter().sum::<f64>() / 2.0 + 4.0 * REQUEST.as_secs_f64();
    let ideal = RUNS as f64 / jobs as f64 * pod;
    let mut succeeded: HashMap<String, usize> = HashMap::new();
    let records = fs::read_to_string(folder.path().join("out/observations.jsonl")).expect("the records");
    for line in records.lines() {
        let run: Value = serde_json::from_str(line).expect("a record");
        if run["outcome"]["kind"] == "exited" {
            *succeeded.entry(run["sweep"]["cell"].as_str().expect("a cell").to_owned()).or_default() += 1;
        }
    }
    let requests: usize = cluster.requests.values().sum();
    println!("{RUNS} pods, {jobs} at a time: {:.0} s (the pods alone: {ideal:.0} s)", measured.wall);
    println!("  lost: {} pods; most pods at a time: {}", cluster.lost, cluster.most_pods);
    println!("  highwater: {} MB at most, {:.1} s of CPU time", measured.memory / 1_000_000, measured.cpu);
    println!(
        "  {requests} requests, {:.0} per second, over {} connections at most",
        requests as f64 / measured.wall,
        server.most_connections.load(Ordering::Relaxed)
    );
    for (request, count) in &cluster.requests {
        println!("    {request}: {count}");
    }
    assert_eq!(measured.status, Some(0), "the sweep is done");
    assert_eq!(succeeded.len(), RUNS, "every cell has a record");
    assert!(succeeded.values().all(|runs| *runs == 1), "no run is made twice");
    assert!(cluster.pods.is_empty() && cluster.config_maps == 0, "nothing is left behind");
}

fn main() {
    let program = env::var("HIGHWATER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_highwater").to_owned());
    let jobs: Vec<usize> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    for jobs in if jobs.is_empty() { JOBS.to_vec() } else { jobs } {
        simulate(&program, jobs);
    }
}
