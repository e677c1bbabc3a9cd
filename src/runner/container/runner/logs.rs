//! Forwards the output of a container or pod.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use bollard::container::LogOutput;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::ContainerLaunch;
use crate::directory::{Directory, create_file};
use crate::model::problem::one_line;
use crate::runner::StartError;
use crate::runner::engine::client::Allowance;
use crate::runner::patience::Patience;
use crate::runner::process::Output;
use crate::runner::threads::Threads;

/// Chunks in flight; the task blocks beyond that, as with a pipe.
const UNDER_WAY: usize = 16;
/// The largest chunk that an engine may send; Docker and Podman send 32 KiB.
const MOST_UNDECODED: u64 = 4 << 20;
/// The length of the header of each chunk.
const FRAME_HEADER: usize = 8;
/// How long the rest of the output may take once the container has ended.
pub(in crate::runner) const LAST_OUTPUT: Duration = Duration::from_secs(5);
/// How often to check whether a silent container has ended.
const LOOK: Duration = Duration::from_secs(1);

pub(in crate::runner) type Chunks = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// Forwards output in order, in a thread of its own, so that a slow reader blocks nothing else.
#[derive(Debug)]
pub(in crate::runner) struct Forwarding {
    /// Notified when the container has closed its output.
    pub(in crate::runner) closed: Option<oneshot::Receiver<()>>,
    /// Whether the container has ended: output that does not arrive soon after that is lost.
    pub(in crate::runner) is_last: Arc<AtomicBool>,
    /// Why the rest of the output did not arrive.
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "the loss of an engine is noticed otherwise"))]
    pub(in crate::runner) broken: Arc<OnceLock<String>>,
    written: Option<oneshot::Receiver<Result<(), Unwritten>>>,
}

/// Output that got lost.
#[derive(Debug, thiserror::Error)]
#[error("failed to write some output of the task to {place}: {source}")]
pub(in crate::runner) struct Unwritten {
    place: String,
    source: io::Error,
}

impl Forwarding {
    /// Forwards output until the container closes it.
    pub(in crate::runner) fn start(
        threads: &Threads,
        mut chunks: Chunks,
        allowance: Option<Allowance>,
        launch: &ContainerLaunch,
    ) -> Result<Self, StartError> {
        let logs = launch.logs.as_ref();
        let mut stdout = Sinks::open(&launch.stdout, io::stdout().as_fd(), logs.map(|logs| logs.stdout.as_path()))?;
        let mut stderr = Sinks::open(&launch.stderr, io::stderr().as_fd(), logs.map(|logs| logs.stderr.as_path()))?;
        let (sender, mut receiver): (_, Receiver<LogOutput>) = mpsc::channel(UNDER_WAY);
        let (close, closed) = oneshot::channel();
        let (finish, written) = oneshot::channel();
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                let mut result = Ok(());
                while let Some(chunk) = receiver.blocking_recv() {
                    let sinks = match &chunk {
                        LogOutput::StdErr { .. } => &mut stderr,
                        LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => &mut stdout,
                    };
                    result = result.and(sinks.write(chunk.as_ref()));
                }
                // The receiver is gone if the run was given up.
                let _ = finish.send(result);
            })
            .map_err(|source| StartError::System { action: "start a thread for the output", source })?;
        let is_last = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_last);
        let broken = Arc::<OnceLock<String>>::default();
        let breaks = Arc::clone(&broken);
        let forwarding = async move {
            let mut silent = Duration::ZERO;
            while silent < LAST_OUTPUT {
                match timeout(LOOK, chunks.next()).await {
                    Ok(Some(Ok(chunk))) => {
                        silent = Duration::ZERO;
                        if let Some(allowance) = &allowance {
                            allowance.add((chunk.as_ref().len() + FRAME_HEADER) as u64);
                        }
                        if sender.send(chunk).await.is_err() {
                            break;
                        }
                    }
                    Ok(Some(Err(error))) => {
                        let _ = breaks.set(one_line(&error));
                        break;
                    }
                    Ok(None) => break,
                    Err(_) if ended.load(Ordering::Relaxed) => silent += LOOK,
                    Err(_) => {}
                }
            }
            // The receiver is gone if the run was given up.
            let _ = close.send(());
        };
        drop(threads.handle.spawn(forwarding));
        Ok(Self { closed: Some(closed), is_last, broken, written: Some(written) })
    }

    /// Waits until all output is written or highwater has been asked to stop twice; returns what could not be written.
    pub(in crate::runner) fn finish(&mut self, threads: &Threads, patience: &mut Patience<'_>) -> Option<Unwritten> {
        let written = self.written.take()?;
        // The reader may be a pager.
        threads.wait(patience, Duration::MAX, written).and_then(Result::ok).and_then(Result::err)
    }
}

/// How much of a container's output may be received before it is decoded.
pub(super) fn allowance() -> Allowance {
    Allowance::new(MOST_UNDECODED)
}

/// Destinations of a stream: our own, and a log file.
#[derive(Debug)]
struct Sinks(Vec<(String, File)>);

impl Sinks {
    fn open(live: &Output, own: std::os::fd::BorrowedFd<'_>, kept: Option<&Path>) -> Result<Self, StartError> {
        let mut sinks = Vec::new();
        match live {
            Output::Null => {}
            Output::Inherit => {
                let file = own
                    .try_clone_to_owned()
                    .map_err(|source| StartError::System { action: "open stdout and stderr", source })?;
                sinks.push(("stdout or stderr".to_owned(), File::from(file)));
            }
            Output::File(path) => sinks.push(create(path)?),
            Output::Open(fd) => {
                let file = fd
                    .try_clone()
                    .map_err(|source| StartError::System { action: "duplicate a file descriptor", source })?;
                sinks.push(("a pipe".to_owned(), File::from(file)));
            }
        }
        if let Some(path) = kept {
            sinks.push(create_kept(path)?);
        }
        Ok(Self(sinks))
    }

    /// Writes to all open destinations; one that fails is dropped without affecting the others.
    fn write(&mut self, text: &[u8]) -> Result<(), Unwritten> {
        let mut result = Ok(());
        self.0.retain_mut(|(place, file)| match file.write_all(text) {
            Ok(()) => true,
            // The reader has closed the pipe.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => false,
            Err(source) => {
                result = Err(Unwritten { place: place.clone(), source });
                false
            }
        });
        result
    }
}

fn create(path: &Path) -> Result<(String, File), StartError> {
    let failed = |source| StartError::Output { path: PathBuf::from(path), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    Ok((path.display().to_string(), create_file(path).map_err(failed)?))
}

/// The log directory beside a record is our own: a symbolic link in its place is not followed.
fn create_kept(path: &Path) -> Result<(String, File), StartError> {
    let parts = || path.parent().and_then(|logs| Some((logs.parent()?, logs.file_name()?, path.file_name()?)));
    let created = || {
        let (base, logs, name) = parts().ok_or(io::ErrorKind::InvalidInput)?;
        Directory::open(base)?.create_directory(logs)?.create(name)
    };
    let file = created().map_err(|source| StartError::Output { path: PathBuf::from(path), source })?;
    Ok((path.display().to_string(), file))
}
