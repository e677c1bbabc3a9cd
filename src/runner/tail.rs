//! Passes what a task writes to stderr on to our own stderr, and keeps the end of it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::launch::Output;

/// How many lines, and how many bytes of them, are kept.
const MOST_LINES: usize = 20;
const MOST_BYTES: usize = 4 << 10;
/// What a process that survives the run may still write: more than a pipe holds, so that nothing of the run is lost.
const AFTER_THE_END: usize = 1 << 20;
/// How long our own stderr may take to accept the rest.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// The stderr of a run, on its way to our own.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: Receiver<Vec<u8>>,
    /// Closed at the end of the run.
    run: OwnedFd,
}

impl Tail {
    /// Creates a pipe, and a thread that empties it.
    ///
    /// The task writes to a pipe and not to a file, because the pages of a file would be charged to it.
    pub(crate) fn start() -> io::Result<(Self, Output)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let (ended, run) = pipe2(OFlag::O_CLOEXEC)?;
        let (send, kept) = channel();
        // The receiver is gone if our own stderr blocks.
        let forward = move || drop(send.send(forward(&File::from(reader), &ended)));
        thread::Builder::new().name("stderr".to_owned()).spawn(forward)?;
        Ok((Self { kept, run }, Output::Open(Arc::new(writer))))
    }

    /// The last lines, once the run has ended.
    pub(crate) fn finish(self) -> String {
        drop(self.run);
        last_lines(&self.kept.recv_timeout(LAST_OUTPUT).unwrap_or_default())
    }
}

/// Forwards until all writers have closed the pipe, or it is empty after the end of the run.
fn forward(mut pipe: &File, ended: &OwnedFd) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 16 << 10];
    let mut left = AFTER_THE_END;
    loop {
        let mut fds = [pipe.as_fd(), ended.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return kept,
            Ok(_) => {}
        }
        let [is_readable, has_ended] = fds.map(|fd| fd.any().unwrap_or(true));
        let read = if is_readable { pipe.read(&mut buffer).unwrap_or(0) } else { 0 };
        if read == 0 || left == 0 {
            return kept;
        }
        // The reader of our own stderr may be gone.
        let _ = io::stderr().write_all(&buffer[..read]);
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(MOST_BYTES));
        left = if has_ended { left.saturating_sub(read) } else { left };
    }
}

/// The last lines of a file.
pub(crate) fn of_file(path: &Path) -> io::Result<String> {
    end_of_file(path, MOST_BYTES as u64).map(|end| last_lines(&end))
}

/// The last bytes of a file.
pub(crate) fn end_of_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut end = Vec::new();
    file.take(most).read_to_end(&mut end)?;
    Ok(end)
}

/// The last lines of a text of which at most [`MOST_BYTES`] are kept. The first one may lack its beginning.
fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(MOST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_although_a_survivor_holds_the_pipe_open() {
        let (tail, output) = Tail::start().unwrap();
        let Output::Open(writer) = output else { panic!("{output:?}") };
        let mut survivor = File::from(writer.try_clone().unwrap());
        for number in 0..2000 {
            writeln!(survivor, "{number} of many lines, which fill the pipe").unwrap();
        }
        let kept = tail.finish();
        assert_eq!(kept.lines().count(), MOST_LINES);
        assert!(kept.ends_with("1999 of many lines, which fill the pipe"), "{kept}");
    }

    #[test]
    fn a_single_long_line_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stderr.log");
        std::fs::write(&path, "é".repeat(100_000) + "end\n\n").unwrap();
        let kept = of_file(&path).unwrap();
        assert!(kept.len() <= MOST_BYTES + 4 && kept.ends_with("éend"), "{kept}");
    }
}
