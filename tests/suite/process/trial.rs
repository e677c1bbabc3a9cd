//! A trial: the workload (or another command) under `highwater run`, and the result.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use highwater::model::observation::{Exactness, Observation, Peak};
use highwater::model::reading::Reading;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub(super) const MIB: u64 = 1 << 20;

/// What a small program may need in addition to the requested memory: its code if that was not cached, its page tables
/// and stacks.
pub(super) const OWN_NEEDS: u64 = 8 * MIB;

/// How long something may take that happens "after a moment".
const A_MOMENT: Duration = Duration::from_secs(20);

/// The capabilities of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A cgroup with a peak counter.
    Exact,
    /// A cgroup without a peak counter, before Linux 5.19.
    Polled,
    /// No cgroup.
    Sampled,
}

impl Host {
    /// The host that runs the tests.
    pub(super) fn here() -> Self {
        match std::env::var("EXPECTED_PEAKS").as_deref() {
            Ok("exact") => Self::Exact,
            Ok("polled") => Self::Polled,
            Ok("sampled") => Self::Sampled,
            Ok(other) => panic!("EXPECTED_PEAKS is `exact`, `polled` or `sampled`, not `{other}`"),
            Err(_) if nix::unistd::geteuid().is_root() => Self::Exact,
            Err(_) => match std::env::var_os("XDG_RUNTIME_DIR") {
                Some(folder) if Path::new(&folder).join("systemd/private").exists() => Self::Exact,
                _ => Self::Sampled,
            },
        }
    }

    pub(super) fn is_exact(self) -> bool {
        self == Self::Exact
    }

    pub(super) fn has_cgroups(self) -> bool {
        self != Self::Sampled
    }
}

/// A command to run.
pub(super) struct Trial {
    folder: TempDir,
    command: Command,
    task: Vec<String>,
}

/// The workload with these words, separated by spaces.
pub(super) fn workload(words: &str) -> Trial {
    let program = Path::new(env!("CARGO_BIN_EXE_highwater")).with_file_name("examples").join("workload");
    assert!(program.exists(), "the workload is missing: cargo build --example workload");
    let mut task = vec![program.into_os_string().into_string().unwrap()];
    task.extend(words.split_whitespace().map(str::to_owned));
    command(task)
}

/// Any command.
pub(super) fn command<T: Into<String>>(task: impl IntoIterator<Item = T>) -> Trial {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    // In a process group of its own: a signal to the group must not reach the tests.
    command.arg("run").process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Trial { folder: TempDir::new().unwrap(), command, task: task.into_iter().map(Into::into).collect() }
}

impl Trial {
    /// Adds options of `run`.
    pub(super) fn with<T: AsRef<std::ffi::OsStr>>(mut self, options: impl IntoIterator<Item = T>) -> Self {
        self.command.args(options);
        self
    }

    /// Starts it and waits for its end.
    pub(super) fn run(self) -> Ran {
        self.start().finish()
    }

    /// Starts it.
    pub(super) fn start(mut self) -> Underway {
        self.complete();
        Underway::new(self.folder, self.command.spawn().unwrap())
    }

    /// Starts it on a terminal of its own, whose keyboard we control.
    pub(super) fn start_on_a_terminal(mut self) -> Underway {
        self.complete();
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &words.join(" "), "/dev/null"]);
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Underway::new(self.folder, script.spawn().unwrap())
    }

    /// Starts it in an existing cgroup.
    pub(super) fn start_in(mut self, cgroup: &Path) -> Underway {
        self.complete();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]).arg(cgroup);
        shell.arg(self.command.get_program()).args(self.command.get_args());
        shell.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Underway::new(self.folder, shell.spawn().unwrap())
    }

    fn complete(&mut self) {
        self.command.args(["--format", "json", "--output"]).arg(self.folder.path().join("observation.json"));
        self.command.arg("--").args(&self.task);
    }
}

/// A run that has been started.
pub(super) struct Underway {
    folder: TempDir,
    child: Child,
    stdout: BufReader<ChildStdout>,
    seen: String,
}

impl Underway {
    fn new(folder: TempDir, mut child: Child) -> Self {
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { folder, child, stdout, seen: String::new() }
    }

    /// Waits until the workload reports that it is ready.
    pub(super) fn wait_until_ready(mut self) -> Self {
        while !self.seen.ends_with("ready\n") {
            let read = self.stdout.read_line(&mut self.seen).unwrap();
            assert!(read > 0, "the task ended before it was ready; it said: {}", self.seen);
            // A terminal changes line endings.
            self.seen = self.seen.replace("\r\n", "\n");
        }
        self
    }

    /// Sends a signal to highwater alone.
    pub(super) fn signal(self, signal: Signal) -> Self {
        kill(self.pid(), signal).unwrap();
        self
    }

    /// Waits until highwater has handled the signals sent to it.
    pub(super) fn wait_until_taken(self) -> Self {
        let status = format!("/proc/{}/status", self.child.id());
        let is_taken = |line: &str| !line.starts_with("ShdPnd:") || line.ends_with("\t0000000000000000");
        let started = Instant::now();
        while !fs::read_to_string(&status).unwrap().lines().all(is_taken) {
            assert!(started.elapsed() < A_MOMENT, "the signal was not taken");
            thread::sleep(Duration::from_millis(1));
        }
        self
    }

    /// Sends a signal to the process group of highwater and its task.
    pub(super) fn signal_group(self, signal: Signal) -> Self {
        kill(Pid::from_raw(-self.pid().as_raw()), signal).unwrap();
        self
    }

    /// Presses Ctrl-C on the terminal.
    pub(super) fn press_ctrl_c(mut self) -> Self {
        self.child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
        self
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// What the task has reported about itself so far.
    pub(super) fn traces(&self) -> Traces {
        Traces::of(&self.seen)
    }

    /// Waits for its end.
    pub(super) fn finish(mut self) -> Ran {
        let mut stderr = self.child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        self.stdout.read_to_string(&mut self.seen).unwrap();
        let status = self.child.wait().unwrap();
        // The file may have been created before the run, to check that it can be.
        let observation = fs::read_to_string(self.folder.path().join("observation.json")).ok();
        let observation = observation.filter(|text| !text.is_empty());
        let stderr = stderr.join().unwrap().unwrap();
        Ran { status, stdout: self.seen, stderr, observation }
    }
}

/// The result of a run.
#[derive(Debug)]
pub(super) struct Ran {
    status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
    observation: Option<String>,
}

impl Ran {
    /// The exit status of highwater.
    #[track_caller]
    pub(super) fn status(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("highwater was killed: {self:?}"))
    }

    /// The observation, which must exist.
    #[track_caller]
    pub(super) fn observation(&self) -> Observation {
        let text = self.observation.as_deref().unwrap_or_else(|| panic!("there is no observation: {self:?}"));
        crate::harness::only_element(text)
    }

    /// The observations of several runs.
    #[track_caller]
    pub(super) fn observations(&self) -> Vec<Observation> {
        let text = self.observation.as_deref().unwrap_or_else(|| panic!("there are no observations: {self:?}"));
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Whether a result was written.
    pub(super) fn has_observation(&self) -> bool {
        self.observation.is_some()
    }

    /// What the task reported about itself.
    pub(super) fn traces(&self) -> Traces {
        Traces::of(&self.stdout)
    }
}

/// Checks a peak against the need of the task: at least that, and at most its stated error bound and `slack` more.
/// Without a cgroup it may be lower, and has to say so.
#[track_caller]
pub(super) fn assert_peak(observation: &Observation, need: u64, slack: u64) {
    let peak = match &observation.peak {
        Reading::Value(peak) => peak,
        Reading::Gone | Reading::Unsupported if !Host::here().has_cgroups() => return,
        other => panic!("there is no peak but {other:?}"),
    };
    let Peak { bytes, exactness, file, .. } = peak;
    let noise = 256 * 1024 * u64::from(observation.host.as_ref().value().unwrap().cpus);
    assert!(bytes.0 <= need + slack + noise, "{} is more than {need} + {slack} + {noise}: {peak:?}", bytes.0);
    match (Host::here(), exactness) {
        (Host::Exact, Exactness::Exact { error_bound_bytes }) => {
            assert!(bytes.0 >= need, "{} is less than {need}: {peak:?}", bytes.0);
            assert!(error_bound_bytes.0 <= noise, "{error_bound_bytes:?} of noise is more than 256 KiB for each CPU");
            let file = file.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            assert!(matches!(file, Some("memory.peak" | "memory.max_usage_in_bytes")), "{peak:?}");
        }
        (Host::Polled | Host::Sampled, Exactness::LowerBound { reason, remedy }) => {
            assert!(!reason.is_empty() && !remedy.is_empty(), "{peak:?}");
        }
        (host, _) => panic!("not for a host that is {host:?}: {peak:?}"),
    }
}

/// The processes and cgroups of a task.
#[derive(Debug)]
pub(super) struct Traces {
    processes: Vec<u32>,
    cgroups: Vec<PathBuf>,
}

impl Traces {
    fn of(said: &str) -> Self {
        let lines =
            |word: &'static str| said.lines().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '));
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own: HashSet<&str> = own.lines().collect();
        Self {
            processes: lines("task").chain(lines("left")).map(|pid| pid.parse().unwrap()).collect(),
            cgroups: lines("cgroup").filter(|line| !own.contains(line)).filter_map(cgroup_folder).collect(),
        }
    }

    /// Number of cgroups that the task had and we do not have.
    pub(super) fn cgroups(&self) -> usize {
        self.cgroups.len()
    }

    fn left(&self) -> Vec<PathBuf> {
        let processes =
            self.processes.iter().map(|pid| PathBuf::from(format!("/proc/{pid}"))).filter(|path| lives(path));
        processes.chain(self.cgroups.iter().filter(|path| path.exists()).cloned()).collect()
    }

    /// No process and no cgroup of the task exists any more.
    #[track_caller]
    pub(super) fn assert_gone(&self) {
        assert!(!self.processes.is_empty(), "the task said nothing about itself");
        assert!(self.left().is_empty(), "left behind: {:?}", self.left());
    }

    /// The same, after a moment.
    #[track_caller]
    pub(super) fn assert_gone_after_a_moment(&self) {
        let started = Instant::now();
        while !self.left().is_empty() && started.elapsed() < A_MOMENT {
            thread::sleep(Duration::from_millis(5));
        }
        self.assert_gone();
    }
}

/// Whether a process lives. One that has ended may be a zombie until init waits for it, which we cannot accelerate.
fn lives(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The directory of a line such as `5:memory:/a/b` below the mount point of its hierarchy.
fn cgroup_folder(line: &str) -> Option<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().find_map(|mount| {
        let (before, after) = mount.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let (kind, options) = (after.split(' ').next()?, after.rsplit(' ').next()?);
        let fits = match controllers {
            "" => kind == "cgroup2",
            _ => kind == "cgroup" && controllers.split(',').all(|name| options.split(',').any(|option| option == name)),
        };
        let below = path.strip_prefix(root.trim_end_matches('/'))?;
        fits.then(|| Path::new(point).join(below.trim_start_matches('/')))
    })
}
