//! Words between the thread in charge and those that run tasks: pipes, so that both can wait for other things as well.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::{pipe2, read, write};

use crate::calibrate::monitor::{Cancel, Request};

/// A line on which one thread is told to end its run.
#[derive(Debug)]
pub(super) struct Line {
    ours: OwnedFd,
    theirs: Arc<OwnedFd>,
    requests: Arc<Mutex<VecDeque<Request>>>,
}

/// The other end of a line.
#[derive(Debug)]
pub(super) struct LineEnd {
    file: Arc<OwnedFd>,
    requests: Arc<Mutex<VecDeque<Request>>>,
}

impl Line {
    pub(super) fn new() -> io::Result<Self> {
        let (theirs, ours) = pipe()?;
        Ok(Self { ours, theirs: Arc::new(theirs), requests: Arc::default() })
    }

    pub(super) fn end(&self) -> LineEnd {
        LineEnd { file: Arc::clone(&self.theirs), requests: Arc::clone(&self.requests) }
    }

    pub(super) fn send(&self, request: Request) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
        // A pipe that is full wakes its reader as well.
        let _ = write(&self.ours, b".");
    }
}

impl Cancel for LineEnd {
    fn requested(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn take(&mut self) -> Option<Request> {
        let request = self.requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if request.is_some() {
            let _ = read(&self.file, &mut [0]);
        }
        request
    }
}

/// A bell that threads ring and one hears.
#[derive(Debug)]
pub(super) struct Bell {
    ours: OwnedFd,
    theirs: Arc<OwnedFd>,
}

/// What a bell is rung with.
#[derive(Debug)]
pub(super) struct Handle(Arc<OwnedFd>);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let (ours, theirs) = pipe()?;
        Ok(Self { ours, theirs: Arc::new(theirs) })
    }

    pub(super) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.theirs))
    }

    pub(super) fn heard(&self) -> BorrowedFd<'_> {
        self.ours.as_fd()
    }

    /// Takes all rings so far.
    pub(super) fn hush(&self) {
        while read(&self.ours, &mut [0; 64]).is_ok_and(|count| count > 0) {}
    }
}

impl Handle {
    pub(super) fn ring(&self) {
        let _ = write(&self.0, b".");
    }
}

/// Neither end waits: nobody is held up by one that does not listen.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::OFlag;
    Ok(pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?)
}
