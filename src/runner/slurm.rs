//! The commands of Slurm: submits job arrays, reads the queue, and cancels jobs.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::patience::Cancel;
use crate::model::observation::Batch;
use crate::model::units::Bytes;

/// How long a command of Slurm may take. They repeat requests that a busy controller did not answer by themselves.
const PATIENCE: Duration = Duration::from_secs(100);
/// How often it is checked whether a command has ended, in milliseconds.
const PAUSE_MS: u16 = 10;
/// The largest array where the cluster does not report its limit: the default of Slurm.
pub const MAX_ARRAY_SIZE: usize = 1001;
/// The most output of a command that is read.
const MOST_OUTPUT: u64 = 256 << 20;

/// A command of Slurm failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlurmError {
    /// It could not be started.
    #[error("failed to start {program}")]
    Start {
        /// The command.
        program: &'static str,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} failed: {message}")]
    Failed {
        /// The command.
        program: &'static str,
        /// What it printed.
        message: String,
    },
    /// It did not end in time.
    #[error("{program} did not end within {} s", PATIENCE.as_secs())]
    NoAnswer {
        /// The command.
        program: &'static str,
    },
    /// Its output is not what Slurm writes.
    #[error("{program} printed `{output}`, expected {expected}")]
    Output {
        /// The command.
        program: &'static str,
        /// What it printed.
        output: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A request to stop arrived meanwhile.
    #[error("{program} was stopped by a request")]
    Cancelled {
        /// The command.
        program: &'static str,
    },
}

impl SlurmError {
    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("run this on a machine of the cluster that submits jobs; `sbatch --version` must work there")
            }
            Self::Failed { program: "sbatch", .. } => {
                Some("correct the options in --slurm; --dry-run shows the whole command")
            }
            Self::NoAnswer { .. } => Some("check whether slurmctld runs: `scontrol ping`"),
            _ => None,
        }
    }
}

/// A job array to submit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Submission<'a> {
    /// The name of its jobs.
    pub name: &'a str,
    /// The number of its tasks.
    pub tasks: usize,
    /// The most tasks that run at a time.
    pub at_a_time: Option<u32>,
    /// The memory of each task; by default that of the cluster.
    pub memory: Option<Bytes>,
    /// The working directory of the jobs.
    pub working_directory: &'a Path,
    /// The directory for their logs.
    pub logs: &'a Path,
    /// Further options for `sbatch`.
    pub options: &'a [String],
    /// The script and its arguments.
    pub script: Vec<OsString>,
}

impl<'a> Submission<'a> {
    /// An array of this many tasks, with the defaults of the cluster.
    pub fn new(name: &'a str, tasks: usize, working_directory: &'a Path, logs: &'a Path) -> Self {
        Self { name, tasks, at_a_time: None, memory: None, working_directory, logs, options: &[], script: Vec::new() }
    }

    /// The arguments of `sbatch`.
    pub fn words(&self) -> Vec<OsString> {
        let at_a_time = self.at_a_time.map(|most| format!("%{most}")).unwrap_or_default();
        let path = |option: &str, path: &Path| {
            let mut word = OsString::from(option);
            word.push(path);
            word
        };
        let mut words: Vec<OsString> = vec![
            "--parsable".into(),
            format!("--array=0-{}{at_a_time}", self.tasks.saturating_sub(1)).into(),
            format!("--job-name={}", self.name).into(),
            path("--chdir=", self.working_directory),
            path("--output=", &escaped(self.logs).join("%A_%a.log")),
            "--open-mode=append".into(),
            "--requeue".into(),
        ];
        if let Some(memory) = self.memory {
            words.push(format!("--mem={}M", memory.0.div_ceil(1 << 20)).into());
        }
        words.extend(self.options.iter().map(OsString::from));
        words.extend(self.script.iter().cloned());
        words
    }

    /// Submits it, with these variables in the environment of the jobs, and returns the ID of the array.
    ///
    /// # Errors
    /// If `sbatch` refuses it, cannot be started or does not answer.
    pub fn submit(&self, variables: &[(String, String)]) -> Result<String, SlurmError> {
        let output = call("sbatch", &self.words(), variables, None)?;
        // In a federation, the name of the cluster follows.
        let id = output.trim().split(';').next().unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SlurmError::Output { program: "sbatch", output, expected: "the ID of a job" });
        }
        Ok(id.to_owned())
    }
}

/// A path in which nothing is replaced.
fn escaped(path: &Path) -> PathBuf {
    path.to_str().map_or_else(|| path.to_owned(), |path| path.replace('%', "%%").into())
}

/// What `squeue` printed of some arrays: there may be a hundred thousand tasks.
#[derive(Clone, Debug, Default)]
pub struct Queue(String);

impl Queue {
    /// The tasks that Slurm knows.
    pub fn tasks(&self) -> impl Iterator<Item = QueuedTask<'_>> {
        self.0.lines().filter_map(QueuedTask::parse)
    }
}

/// A task of an array in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueuedTask<'a> {
    /// The ID of the array.
    pub job: &'a str,
    /// Its index in the array.
    pub task: usize,
    /// Its state, such as `PENDING`.
    pub state: &'a str,
    /// Why it is in this state, such as `Priority`.
    pub reason: &'a str,
    /// Its node, once it has one.
    pub node: &'a str,
}

impl<'a> QueuedTask<'a> {
    /// Whether it may still do something.
    pub fn is_active(&self) -> bool {
        ![
            "BOOT_FAIL",
            "CANCELLED",
            "COMPLETED",
            "DEADLINE",
            "FAILED",
            "NODE_FAIL",
            "OUT_OF_MEMORY",
            "PREEMPTED",
            "REVOKED",
            "TIMEOUT",
        ]
        .contains(&self.state)
    }

    /// Whether it waits for something that does not come by itself.
    pub fn waits_in_vain(&self) -> bool {
        const REASONS: [&str; 16] = [
            "AccountNotAllowed",
            "BadConstraints",
            "DependencyNeverSatisfied",
            "InvalidAccount",
            "InvalidQOS",
            "JobArrayTaskHeld",
            "JobHeldAdmin",
            "JobHeldUser",
            "JobHoldMaxRequeue",
            "PartitionDown",
            "PartitionInactive",
            "PartitionNodeLimit",
            "PartitionTimeLimit",
            "QOSNotAllowed",
            "launch failed requeued held",
            "launch_failed_requeued_held",
        ];
        // Limits of an account or a QOS on the size of one job, and nodes that are not there.
        let is_too_large = (self.reason.starts_with("QOSMax") || self.reason.starts_with("AssocMax"))
            && (self.reason.contains("PerJob")
                || self.reason.contains("PerNode")
                || self.reason.contains("WallDuration"));
        self.state == "PENDING"
            && (REASONS.contains(&self.reason) || self.reason.starts_with("ReqNodeNotAvail") || is_too_large)
    }

    /// Whether it waits for its turn.
    pub fn just_waits(self) -> bool {
        self.state == "PENDING" && !self.waits_in_vain()
    }

    /// A task that waits.
    pub fn pending(job: &'a str, task: usize, reason: &'a str) -> Self {
        Self { job, task, state: "PENDING", reason, node: "" }
    }

    /// Reads a line of `squeue` in [`FORMAT`].
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split('|');
        let mut next = || fields.next();
        let (job, task, state, reason) = (next()?, next()?, next()?, next()?);
        // A job that is no array has no index.
        Some(Self { job, task: task.parse().unwrap_or(0), state, reason, node: next().unwrap_or_default() })
    }
}

/// The format of `squeue`: array, index, state, reason, node.
const FORMAT: &str = "%F|%K|%T|%r|%N";

/// The tasks of these arrays that Slurm knows, also those that have ended a short while ago.
///
/// # Errors
/// If Slurm does not answer, or there is a request to stop.
pub fn queue(jobs: &[String], cancel: &dyn Cancel) -> Result<Queue, SlurmError> {
    squeue(&format!("--jobs={}", jobs.join(",")), Some(cancel))
}

/// The arrays of the current user with this name.
///
/// # Errors
/// See [`queue`].
pub fn named(name: &str, cancel: &dyn Cancel) -> Result<Vec<String>, SlurmError> {
    let queue = squeue(&format!("--name={name}"), Some(cancel))?;
    let mut jobs: Vec<String> = queue.tasks().map(|task| task.job.to_owned()).collect();
    jobs.dedup();
    Ok(jobs)
}

fn squeue(which: &str, cancel: Option<&dyn Cancel>) -> Result<Queue, SlurmError> {
    let format = format!("--format={FORMAT}");
    let words = ["--noheader", "--array", "--states=all", "--me", which, &format].map(OsString::from);
    match call("squeue", &words, &[], cancel) {
        Ok(output) => Ok(Queue(output)),
        // What squeue says of jobs that ended long ago.
        Err(SlurmError::Failed { message, .. }) if message.contains("Invalid job id") => Ok(Queue::default()),
        Err(error) => Err(error),
    }
}

/// The most tasks of an array.
///
/// # Errors
/// If Slurm does not answer.
pub fn max_array_size() -> Result<usize, SlurmError> {
    let output = call("scontrol", &["show", "config"].map(OsString::from), &[], None)?;
    let line = output.lines().find_map(|line| line.trim().strip_prefix("MaxArraySize"));
    let size = line.and_then(|rest| rest.trim_start_matches([' ', '=']).trim().parse().ok());
    Ok(size.filter(|size| *size > 0).unwrap_or(MAX_ARRAY_SIZE))
}

/// Cancels jobs.
///
/// # Errors
/// If Slurm does not answer.
pub fn cancel(jobs: &[String]) -> Result<(), SlurmError> {
    let words: Vec<OsString> = jobs.iter().map(OsString::from).collect();
    match call("scancel", &words, &[], None) {
        Err(SlurmError::Failed { message, .. }) if message.contains("Invalid job id") => Ok(()),
        other => other.map(drop),
    }
}

/// Cancels all jobs of the current user with this name.
///
/// # Errors
/// If Slurm does not answer.
pub fn cancel_named(name: &str) -> Result<(), SlurmError> {
    call("scancel", &["--me".into(), format!("--name={name}").into()], &[], None).map(drop)
}

/// The log of a task, and its last lines, if it has any.
pub fn end_of_log(logs: &Path, job: &str, task: usize) -> Option<(PathBuf, String)> {
    let path = logs.join(format!("{job}_{task}.log"));
    let text = super::tail::of_file(&path).ok()?;
    (!text.trim().is_empty()).then(|| (path, text.trim().to_owned()))
}

/// The state of a job, such as `RUNNING` or `OUT_OF_MEMORY`; `None` if Slurm does not know the job any more, or does not
/// answer. Without accounting it forgets jobs some minutes after their end.
pub fn state(batch: &Batch) -> Option<String> {
    // It comes from a file of a job.
    if batch.job.is_empty() || !batch.job.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let task = batch.array_task.map(|task| format!("_{task}")).unwrap_or_default();
    let job = OsString::from(format!("{}{task}", batch.job));
    let shown = call("scontrol", &["show".into(), "job".into(), "--oneliner".into(), job.clone()], &[], None);
    let state = shown
        .ok()
        .and_then(|text| text.split_whitespace().find_map(|word| word.strip_prefix("JobState=")).map(str::to_owned));
    state.or_else(|| {
        let words = ["--allocations", "--noheader", "--parsable2", "--format=State", "--jobs"].map(OsString::from);
        let text = call("sacct", &[&words[..], &[job]].concat(), &[], None).ok()?;
        // `CANCELLED by 1000`
        text.split_whitespace().next().map(str::to_owned)
    })
}

/// Runs a command, and returns its stdout. In a process group of its own, it is not killed by Ctrl-C halfway.
fn call(
    program: &'static str,
    words: &[OsString],
    variables: &[(String, String)],
    cancel: Option<&dyn Cancel>,
) -> Result<String, SlurmError> {
    let mut command = Command::new(program);
    command.args(words).envs(variables.iter().map(|(name, value)| (name, value))).process_group(0);
    for (name, _) in std::env::vars_os() {
        // They would hide jobs, ask questions, or make sbatch wait.
        let is_unwanted = name.to_str().is_some_and(|name| {
            ["SQUEUE_", "SCANCEL_"].iter().any(|prefix| name.starts_with(prefix))
                || ["SBATCH_CLUSTERS", "SBATCH_EXPORT", "SBATCH_WAIT", "SLURM_CLUSTERS"].contains(&name)
        });
        if is_unwanted {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = |source| SlurmError::Start { program, source };
    let mut child = command.spawn().map_err(started)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What cannot be read is missing in the output, which is then refused.
            let _ = pipe.map(|pipe| pipe.take(MOST_OUTPUT).read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = reader(stdout.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let stderr = reader(stderr.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let status = wait(program, &mut child, cancel);
    if status.is_err() {
        // It has ended if this fails.
        let _ = child.kill();
        let _ = child.wait();
    }
    let status = status?;
    let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
    if status.success() {
        return Ok(stdout);
    }
    let message = stderr.trim().trim_start_matches(&format!("{program}: error: ")).replace('\n', "; ");
    let message = if message.is_empty() { status.to_string() } else { message };
    Err(SlurmError::Failed { program, message })
}

fn wait(
    program: &'static str,
    child: &mut std::process::Child,
    cancel: Option<&dyn Cancel>,
) -> Result<ExitStatus, SlurmError> {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|source| SlurmError::Start { program, source })? {
            return Ok(status);
        }
        if since.elapsed() > PATIENCE {
            return Err(SlurmError::NoAnswer { program });
        }
        match cancel {
            Some(cancel) => {
                let mut files = [PollFd::new(cancel.requested(), PollFlags::POLLIN)];
                if poll(&mut files, PollTimeout::from(PAUSE_MS)).is_ok_and(|ready| ready > 0) {
                    return Err(SlurmError::Cancelled { program });
                }
            }
            None => thread::sleep(Duration::from_millis(PAUSE_MS.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(line: &str) -> QueuedTask<'_> {
        QueuedTask::parse(line).unwrap()
    }

    #[test]
    fn a_line_of_the_queue_is_read() {
        let pending = task("96|1|PENDING|JobArrayTaskLimit|");
        assert_eq!((pending.job, pending.task, pending.node), ("96", 1, ""));
        assert!(pending.is_active() && !pending.waits_in_vain());
        let running = task("96|0|RUNNING|None|node07");
        assert_eq!((running.node, running.is_active()), ("node07", true));
        assert_eq!(task("1|N/A|COMPLETED|None|n").task, 0);
        assert_eq!(QueuedTask::parse("slurm_load_jobs error"), None);
    }

    #[test]
    fn tasks_that_have_ended_are_not_active() {
        for state in ["COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"] {
            assert!(!task(&format!("1|0|{state}|None|n")).is_active(), "{state}");
        }
        for state in ["COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STAGE_OUT", "one of the future"] {
            assert!(task(&format!("1|0|{state}|None|n")).is_active(), "{state}");
        }
    }

    #[test]
    fn reasons_that_never_end_are_known() {
        let in_vain = |reason: &str| task(&format!("1|0|PENDING|{reason}|")).waits_in_vain();
        for reason in [
            "PartitionTimeLimit",
            "JobHeldUser",
            "BadConstraints",
            "QOSMaxMemoryPerJob",
            "AssocMaxWallDurationPerJobLimit",
            "ReqNodeNotAvail, UnavailableNodes:node[01-04]",
        ] {
            assert!(in_vain(reason), "{reason}");
        }
        for reason in ["Priority", "Resources", "BeginTime", "JobArrayTaskLimit", "QOSMaxJobsPerUserLimit"] {
            assert!(!in_vain(reason), "{reason}");
        }
    }

    #[test]
    fn an_array_is_submitted_with_its_memory_rounded_up() {
        let options = ["--partition=main".to_owned()];
        let mut submission = Submission::new("highwater-1", 4, Path::new("/data"), Path::new("/data/a b"));
        submission.memory = Some(Bytes((512 << 20) + 1));
        submission.at_a_time = Some(2);
        submission.options = &options;
        submission.script = vec!["job.sh".into()];
        let words: Vec<String> = submission.words().into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(
            words.join("\n"),
            "--parsable\n--array=0-3%2\n--job-name=highwater-1\n--chdir=/data\n--output=/data/a b/%A_%a.log\n\
             --open-mode=append\n--requeue\n--mem=513M\n--partition=main\njob.sh"
        );
    }
}
