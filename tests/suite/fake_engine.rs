//! A fake container engine that answers like a real one, and hangs on request.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The only container.
pub(super) const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A request to an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Version,
    Image,
    Pull,
    Create,
    Upload,
    Attach,
    Start,
    Wait,
    Inspect,
    Kill,
    Download,
    Delete,
    List,
    Ping,
}

/// The behaviour of the task in the container.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// It ends immediately with this status.
    Ends(i64),
    /// It ends when it is killed.
    Stays,
}

/// The behaviour of the engine.
#[derive(Clone, Debug)]
pub(super) struct Behaviour {
    pub(super) hangs: Option<Call>,
    pub(super) task: Task,
    /// The id that it returns for the container.
    pub(super) id: String,
    /// Whether it has the image.
    pub(super) has_image: bool,
    /// The call that is answered after some seconds.
    pub(super) slow: Option<Call>,
    /// The call whose response never ends.
    pub(super) endless: Option<Call>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { hangs: None, task: Task::Ends(0), id: ID.to_owned(), has_image: true, slow: None, endless: None }
    }
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    calls: Vec<(Call, String)>,
    /// The bodies of the requests to create a container.
    created: Vec<Value>,
    started: Option<Timestamp>,
    /// The status and the time of its end.
    ended: Option<(i64, Timestamp)>,
    closed: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// The engine; stops when this is dropped.
pub(super) struct FakeEngine {
    folder: TempDir,
    shared: Shared,
}

impl FakeEngine {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state =
            State { behaviour, calls: Vec::new(), created: Vec::new(), started: None, ended: None, closed: false };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let engine = Self { folder, shared: Arc::clone(&shared) };
        let listener = UnixListener::bind(engine.socket()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                if lock(&shared).closed {
                    return;
                }
                // A client that disconnects is not an error.
                thread::spawn(move || drop(serve(&shared, stream.unwrap())));
            }
        });
        engine
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    pub(super) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Waits until it has received this request.
    pub(super) fn wait_for(&self, call: Call) {
        let end = Instant::now() + Duration::from_secs(60);
        let mut state = lock(&self.shared);
        while !state.calls.iter().any(|(known, _)| *known == call) {
            assert!(Instant::now() < end, "{call:?} did not come: {:?}", state.calls);
            state = self.shared.1.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
    }

    /// The bodies of the requests to create a container.
    pub(super) fn created(&self) -> Vec<Value> {
        lock(&self.shared).created.clone()
    }

    /// The paths of its requests of this kind.
    pub(super) fn paths(&self, call: Call) -> Vec<String> {
        let calls = &lock(&self.shared).calls;
        calls.iter().filter(|(known, _)| *known == call).map(|(_, path)| path.clone()).collect()
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        lock(&self.shared).closed = true;
        self.shared.1.notify_all();
        // Wakes the listener.
        let _ = UnixStream::connect(self.socket());
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a condition or the end of the engine.
fn wait_until<'a>(shared: &'a Shared, done: impl Fn(&State) -> bool) -> MutexGuard<'a, State> {
    let mut state = lock(shared);
    while !state.closed && !done(&state) {
        state = shared.1.wait(state).unwrap();
    }
    state
}

fn serve(shared: &Shared, mut stream: UnixStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    let mut words = request.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let call = call(method, path);
    let mut state = lock(shared);
    state.calls.push((call, path.to_owned()));
    if call == Call::Create {
        state.created.push(serde_json::from_slice(&body).unwrap());
    }
    shared.1.notify_all();
    let behaviour = state.behaviour.clone();
    drop(state);
    if behaviour.hangs == Some(call) {
        drop(wait_until(shared, |_| false));
        return Ok(());
    }
    if behaviour.slow == Some(call) {
        thread::sleep(Duration::from_secs(3));
    }
    if behaviour.endless == Some(call) {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"Id\":\"")?;
        // Until the client gives up.
        loop {
            stream.write_all(&[b'a'; 1 << 16])?;
        }
    }
    let (status, body) = answer(shared, call, &behaviour, &mut stream)?;
    let body = body.map_or_else(String::new, |body| body.to_string());
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The call of a request for `/containers/…` or `/v1.41/containers/…`.
fn call(method: &str, path: &str) -> Call {
    let path = path.split('?').next().unwrap();
    let parts: Vec<&str> = path.split('/').skip(1).skip_while(|part| part.starts_with("v1.")).collect();
    match (method, parts.as_slice()) {
        (_, ["version" | "info"]) => Call::Version,
        (_, ["_ping"]) => Call::Ping,
        (_, ["images", "create"]) => Call::Pull,
        (_, ["images", ..]) => Call::Image,
        (_, ["containers", "create"]) => Call::Create,
        (_, ["containers", "json"]) => Call::List,
        ("PUT", ["containers", _, "archive"]) => Call::Upload,
        ("GET", ["containers", _, "archive"]) => Call::Download,
        (_, ["containers", _, "attach"]) => Call::Attach,
        (_, ["containers", _, "start"]) => Call::Start,
        (_, ["containers", _, "wait"]) => Call::Wait,
        (_, ["containers", _, "json"]) => Call::Inspect,
        (_, ["containers", _, "kill"]) => Call::Kill,
        ("DELETE", ["containers", _]) => Call::Delete,
        _ => panic!("{method} {path} is nothing that this engine knows"),
    }
}

fn answer(
    shared: &Shared,
    call: Call,
    behaviour: &Behaviour,
    stream: &mut UnixStream,
) -> std::io::Result<(u16, Option<Value>)> {
    Ok(match call {
        // Of another machine, so that nothing is looked for on this one.
        Call::Version => (
            200,
            Some(json!({
                "Version": "1", "ApiVersion": "1.41", "Components": [{"Name": "Engine", "Version": "1"}],
                "KernelVersion": "0", "Name": "elsewhere", "NCPU": 1, "MemoryLimit": true,
            })),
        ),
        Call::Image if !behaviour.has_image => (404, Some(json!({"message": "no such image"}))),
        Call::Image => (200, Some(json!({"Id": "sha256:aa", "Config": {"Cmd": ["/task"]}}))),
        Call::Create => (201, Some(json!({"Id": behaviour.id, "Warnings": []}))),
        Call::Pull | Call::Upload | Call::Ping => (200, None),
        Call::Attach => {
            stream.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
            drop(wait_until(shared, |state| state.ended.is_some()));
            stream.shutdown(std::net::Shutdown::Both)?;
            return Err(std::io::ErrorKind::NotConnected.into());
        }
        Call::Start => {
            let mut state = lock(shared);
            state.started = Some(Timestamp::now());
            if let Task::Ends(status) = behaviour.task {
                state.ended = Some((status, Timestamp::now()));
            }
            shared.1.notify_all();
            (204, None)
        }
        Call::Kill => {
            lock(shared).ended.get_or_insert((137, Timestamp::now()));
            shared.1.notify_all();
            (204, None)
        }
        Call::Wait => {
            let state = wait_until(shared, |state| state.ended.is_some());
            (200, Some(json!({"StatusCode": state.ended.map_or(0, |(status, _)| status)})))
        }
        Call::Inspect => {
            let state = lock(shared);
            let started = state.started.map(|time| time.to_string());
            let state = match state.ended {
                Some((status, time)) => json!({
                    "Status": "exited", "Running": false, "Pid": 0, "ExitCode": status, "StartedAt": started,
                    "FinishedAt": time.to_string(),
                }),
                None => json!({"Status": "running", "Running": true, "Pid": 0, "StartedAt": started}),
            };
            (200, Some(json!({"Id": behaviour.id, "State": state})))
        }
        Call::Download => (404, Some(json!({"message": "no such file"}))),
        Call::Delete => (204, None),
        Call::List => (200, Some(json!([]))),
    })
}
