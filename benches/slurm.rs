//! What a sweep of many cells costs on a large cluster: the same program and the same files as on a real one, with
//! a simulated Slurm behind `sbatch`, `squeue`, `scontrol` and `scancel`.
//!
//! The simulated cluster has 1,000 nodes of 4 tasks each, whose runs take 2 to 6 s. Its commands take as long as those of a
//! real Slurm 22.05 (measured). Every 2 s a node is lost, and its tasks are queued again; 1 % of the tasks end without
//! a record. At the end, every cell has exactly one record of a run that succeeded, or the benchmark fails.
//!
//! `HIGHWATER=FILE` measures another build of the program. Other counts of cells are arguments:
//! `cargo bench --bench slurm -- 1000`.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark that cannot run says why and ends")]

mod measured;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use measured::{Measured, measure};
use serde_json::{Value, json};

const COUNTS: [usize; 3] = [1_000, 10_000, 100_000];
const NODES: usize = 1_000;
const TASKS_OF_A_NODE: usize = 4;
const TASK_SECONDS: [f64; 2] = [2.0, 6.0];
const MAX_ARRAY_SIZE: usize = 1_001;
/// How long squeue shows tasks that have ended. The default of Slurm is 300 s, for tasks that take longer than these.
const MIN_JOB_AGE: Duration = Duration::from_secs(30);
/// How often a node is lost, and how long its tasks wait afterwards: 120 s on a real Slurm.
const NODE_LOSS: Duration = Duration::from_secs(2);
const REQUEUE: Duration = Duration::from_secs(5);
const LOST_RECORDS: f64 = 0.01;
const MOST_WATCHES: usize = 10;
/// What commands of a real Slurm took: a submission, a look at the queue, and more for each line of it.
const SBATCH: Duration = Duration::from_millis(30);
const SQUEUE: Duration = Duration::from_millis(10);
const SQUEUE_LINE: Duration = Duration::from_micros(3);

/// Where the commands find the cluster.
const SOCKET: &str = "HIGHWATER_BENCH_SLURM";

#[derive(Clone, Copy, PartialEq)]
enum State {
    Pending { until: Instant },
    Running { node: usize, until: Instant },
    Ended { is_lost: bool, since: Instant },
}

struct Array {
    keys: Vec<String>,
    cells: PathBuf,
    tasks: Vec<State>,
}

struct Cluster {
    arrays: Vec<Array>,
    /// Tasks that wait, first come, first served.
    waiting: BTreeSet<(usize, usize)>,
    running: Vec<usize>,
    /// A record of a real run, and the cells of the plan with their parameters.
    record: Value,
    parameters: HashMap<String, Value>,
    random: fastrand::Rng,
    began: Instant,
    lost_node_at: Instant,
    calls: BTreeMap<String, Vec<Duration>>,
    lost: [usize; 2],
    submitted_at: Option<Instant>,
}

impl Cluster {
    fn answer(&mut self, words: &[String]) -> (String, Duration) {
        let program = words[0].rsplit('/').next().unwrap_or_default().to_owned();
        self.calls.entry(program.clone()).or_default().push(self.began.elapsed());
        match program.as_str() {
            "sbatch" => (self.submit(words), SBATCH),
            "squeue" => {
                let text = self.queue(words);
                let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
                (text, SQUEUE + SQUEUE_LINE * lines)
            }
            "scontrol" => (format!("MaxArraySize            = {MAX_ARRAY_SIZE}\n"), SQUEUE),
            _ => (String::new(), SQUEUE),
        }
    }

    fn submit(&mut self, words: &[String]) -> String {
        let script = words.iter().position(|word| word.ends_with("job.sh")).expect("a job script");
        let keys = fs::read_to_string(&words[script + 1]).expect("the keys of the array");
        let keys: Vec<String> = keys.lines().map(str::to_owned).collect();
        let cells = Path::new(&words[script]).with_file_name("cells");
        let id = self.arrays.len();
        self.waiting.extend((0..keys.len()).map(|task| (id, task)));
        let tasks = vec![State::Pending { until: self.began }; keys.len()];
        self.arrays.push(Array { keys, cells, tasks });
        self.submitted_at = Some(Instant::now());
        format!("{}\n", id + 1)
    }

    fn queue(&self, words: &[String]) -> String {
        let jobs = words.iter().find_map(|word| word.strip_prefix("--jobs=")).unwrap_or_default();
        let mut text = String::new();
        for id in jobs.split(',').filter_map(|id| id.parse::<usize>().ok()) {
            for (task, state) in self.arrays[id - 1].tasks.iter().enumerate() {
                let (state, reason, node) = match state {
                    State::Pending { .. } => ("PENDING", "Resources", String::new()),
                    State::Running { node, .. } => ("RUNNING", "None", format!("node{node}")),
                    State::Ended { since, .. } if since.elapsed() > MIN_JOB_AGE => continue,
                    State::Ended { is_lost: true, .. } => ("FAILED", "NonZeroExitCode", String::new()),
                    State::Ended { is_lost: false, .. } => ("COMPLETED", "None", String::new()),
                };
                let _ = writeln!(text, "{id}|{task}|{state}|{reason}|{node}");
            }
        }
        text
    }

    /// What has happened until now.
    fn advance(&mut self) {
        let now = Instant::now();
        if now >= self.lost_node_at {
            self.lost_node_at = now + NODE_LOSS;
            let lost = self.random.usize(..NODES);
            self.end_tasks(|node, _| node == lost, true);
        }
        self.end_tasks(|_, until| until <= now, false);
        let free: Vec<usize> =
            (0..NODES).flat_map(|node| std::iter::repeat_n(node, TASKS_OF_A_NODE - self.running[node])).collect();
        let arrays = &self.arrays;
        let is_ready = |(array, task): &(usize, usize)| matches!(arrays[*array].tasks[*task], State::Pending { until } if until <= now);
        let ready: Vec<(usize, usize)> = self.waiting.iter().copied().filter(is_ready).take(free.len()).collect();
        for ((array, task), node) in ready.into_iter().zip(free) {
            self.waiting.remove(&(array, task));
            self.running[node] += 1;
            let [least, most] = TASK_SECONDS;
            let time = Duration::from_secs_f64(least + (most - least) * self.random.f64());
            self.arrays[array].tasks[task] = State::Running { node, until: now + time };
        }
    }

    /// Ends the running tasks that this applies to: with a record, or because their node is lost.
    fn end_tasks(&mut self, applies: impl Fn(usize, Instant) -> bool, is_node_lost: bool) {
        let now = Instant::now();
        for array in 0..self.arrays.len() {
            for task in 0..self.arrays[array].tasks.len() {
                let State::Running { node, until } = self.arrays[array].tasks[task] else { continue };
                if !applies(node, until) {
                    continue;
                }
                self.running[node] -= 1;
                self.arrays[array].tasks[task] = if is_node_lost {
                    self.lost[0] += 1;
                    self.waiting.insert((array, task));
                    State::Pending { until: now + REQUEUE }
                } else {
                    let is_lost = self.random.f64() < LOST_RECORDS;
                    if is_lost {
                        self.lost[1] += 1;
                    } else {
                        self.record(array, task);
                    }
                    State::Ended { is_lost, since: now }
                };
            }
        }
    }

    fn record(&mut self, array: usize, task: usize) {
        let Array { keys, cells, .. } = &self.arrays[array];
        let key = &keys[task];
        let n = &self.parameters[key];
        self.record["started_at"] = json!(jiff::Timestamp::now().to_string());
        self.record["sweep"]["cell"] = json!(key);
        self.record["sweep"]["parameters"] = n.clone();
        let job = (array + 1).to_string();
        self.record["batch"] = json!({"system": "slurm", "job": job, "array_task": task});
        let mut file = fs::OpenOptions::new().create(true).append(true).open(cells.join(format!("{key}.jsonl")));
        let file = file.as_mut().expect("the record of a cell");
        file.write_all(format!("{}\n", self.record).as_bytes()).expect("a record is written");
    }
}

/// One of the commands: passes its words on, and prints the answer.
fn command(socket: &str) -> ! {
    let words: Vec<String> = env::args().collect();
    let mut stream = UnixStream::connect(socket).expect("the simulated cluster");
    stream.write_all(words.join("\0").as_bytes()).expect("a request");
    stream.shutdown(Shutdown::Write).expect("the end of a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    print!("{answer}");
    exit(0)
}

fn serve(listener: &UnixListener, cluster: &Mutex<Cluster>) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let mut request = String::new();
        stream.read_to_string(&mut request).expect("a request");
        let words: Vec<String> = request.split('\0').map(str::to_owned).collect();
        let (answer, time) = cluster.lock().expect("the cluster").answer(&words);
        thread::sleep(time);
        let _ = stream.write_all(answer.as_bytes());
    }
}

fn simulate(program: &str, count: usize) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let root = folder.path();
    let values: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    let toml = format!("command = [\"true\", \"{{n}}\"]\n[param]\nn = {}\n", json!(values));
    fs::write(root.join("sweep.toml"), toml).expect("the file of the sweep");
    let highwater = |words: &[&str]| {
        let mut command = Command::new(program);
        command.current_dir(root).args(words);
        command
    };
    let planned = measure(&highwater(&["sweep", "--file", "sweep.toml", "--save-plan", "plan.json", "--dry-run"]));
    let plan: Value = serde_json::from_slice(&fs::read(root.join("plan.json")).expect("a plan")).expect("JSON");
    let cells = plan["cells"].as_array().expect("cells");
    let parameters =
        cells.iter().map(|cell| (cell["key"].as_str().expect("a key").to_owned(), cell["parameters"].clone()));
    let parameters: HashMap<String, Value> = parameters.collect();
    let first = highwater(&["sweep", "--file", "plan.json", "--cell-index", "0", "--record", "first.jsonl", "-q"]);
    assert_eq!(measure(&first).status, Some(0), "a real run");
    let record = fs::read_to_string(root.join("first.jsonl")).expect("a record");
    let record = serde_json::from_str(record.lines().next().expect("a line")).expect("JSON");
    let now = Instant::now();
    let cluster = Arc::new(Mutex::new(Cluster {
        arrays: Vec::new(),
        waiting: BTreeSet::new(),
        running: vec![0; NODES],
        record,
        parameters,
        random: fastrand::Rng::with_seed(7),
        began: now,
        lost_node_at: now + NODE_LOSS,
        calls: BTreeMap::new(),
        lost: [0; 2],
        submitted_at: None,
    }));
    let bin = root.join("bin");
    fs::create_dir(&bin).expect("a directory");
    let own = env::current_exe().expect("this program");
    for name in ["sbatch", "squeue", "scontrol", "scancel"] {
        symlink(&own, bin.join(name)).expect("a command");
    }
    let socket = root.join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let (served, stepped) = (Arc::clone(&cluster), Arc::clone(&cluster));
    thread::spawn(move || serve(&listener, &served));
    thread::spawn(move || {
        loop {
            stepped.lock().expect("the cluster").advance();
            thread::sleep(Duration::from_millis(50));
        }
    });
    let mut path = std::ffi::OsString::from(&bin);
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let words = ["sweep", "--file", "sweep.toml", "--on", "slurm", "--into", "out", "--patience", "5s", "--quiet"];
    let mut watch = highwater(&words);
    watch.env("PATH", &path).env(SOCKET, &socket);
    let began = Instant::now();
    // A sweep whose jobs ended without a record says so, and the same command makes what is missing.
    let mut watches: Vec<Measured> = Vec::new();
    while watches.last().is_none_or(|watch| watch.status != Some(0)) && watches.len() < MOST_WATCHES {
        watches.push(measure(&watch));
    }
    let status = watches.last().and_then(|watch| watch.status);
    let memory = watches.iter().map(|watch| watch.memory).max().unwrap_or_default();
    let cpu: f64 = watches.iter().map(|watch| watch.cpu).sum();
    let wall = began.elapsed().as_secs_f64();
    let cluster = cluster.lock().expect("the cluster");
    let submitted = cluster.calls["sbatch"].iter().take(count.div_ceil(MAX_ARRAY_SIZE)).next_back().copied();
    let submitted = submitted.unwrap_or_default() + SBATCH;
    let tasks: usize = cluster.arrays.iter().map(|array| array.keys.len()).sum();
    let ideal = count as f64 / (NODES * TASKS_OF_A_NODE) as f64 * (TASK_SECONDS[0] + TASK_SECONDS[1]) / 2.0;
    let mut succeeded: HashMap<String, usize> = HashMap::new();
    for line in fs::read_to_string(root.join("out/observations.jsonl")).expect("the records").lines() {
        let run: Value = serde_json::from_str(line).expect("a record");
        if run["outcome"]["kind"] == "exited" {
            *succeeded.entry(run["sweep"]["cell"].as_str().expect("a cell").to_owned()).or_default() += 1;
        }
    }
    let merge = measure(&highwater(&["merge", "out/slurm/cells", "--plan", "out/plan.json", "--into", "merged"]));
    println!("{count} cells: planned in {:.1} s; submitted after {:.1} s", planned.wall, submitted.as_secs_f64());
    println!("  {} watches, {wall:.0} s (the nodes alone: {ideal:.0} s); {tasks} tasks", watches.len());
    println!("  lost: {} tasks with their nodes, {} records", cluster.lost[0], cluster.lost[1]);
    println!("  highwater: {} MB at most, {cpu:.1} s of CPU time", memory / 1_000_000);
    for (name, calls) in &cluster.calls {
        println!("  {name}: {} calls, {:.2} per second", calls.len(), calls.len() as f64 / wall);
    }
    println!("  merge: {:.1} s, {:.1} s of CPU time, {} MB", merge.wall, merge.cpu, merge.memory / 1_000_000);
    assert_eq!(status, Some(0), "the sweep is done");
    assert_eq!(succeeded.len(), count, "every cell has a record");
    assert!(succeeded.values().all(|runs| *runs == 1), "no run is made twice");
}

fn main() {
    if let Ok(socket) = env::var(SOCKET)
        && !env::args().next().is_some_and(|name| name.contains("deps"))
    {
        command(&socket);
    }
    let program = env::var("HIGHWATER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_highwater").to_owned());
    let counts: Vec<usize> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    for count in if counts.is_empty() { COUNTS.to_vec() } else { counts } {
        simulate(&program, count);
    }
}
