//! Words between the thread in charge and those that run tasks: pipes, so that both can wait for other things as well.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::calibrate::monitor::{Cancel, Request};

type Requests = Arc<Mutex<VecDeque<Request>>>;

/// A line on which one thread is told to end its run.
#[derive(Debug)]
pub(super) struct Line {
    ours: PipeWriter,
    requests: Requests,
}

/// The other end of a line.
#[derive(Debug)]
pub(super) struct LineEnd {
    theirs: PipeReader,
    requests: Requests,
}

impl Line {
    pub(super) fn new() -> io::Result<(Self, LineEnd)> {
        let (theirs, ours) = pipe()?;
        let requests = Requests::default();
        Ok((Self { ours, requests: Arc::clone(&requests) }, LineEnd { theirs, requests }))
    }

    pub(super) fn send(&self, request: Request) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
        // Where the other end is gone the run has ended.
        let _ = (&self.ours).write_all(b".");
    }
}

impl Cancel for LineEnd {
    fn requested(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }

    fn take(&mut self) -> Option<Request> {
        let request = self.requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if request.is_some() {
            // One byte for each request, which is there or about to be.
            let _ = self.theirs.read(&mut [0]);
        }
        request
    }
}

/// A bell that threads ring and one hears.
#[derive(Debug)]
pub(super) struct Bell {
    ours: PipeReader,
    theirs: Arc<PipeWriter>,
}

/// What a bell is rung with.
#[derive(Debug)]
pub(super) struct Handle(Arc<PipeWriter>);

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
        let rung = || {
            let mut files = [PollFd::new(self.heard(), PollFlags::POLLIN)];
            poll(&mut files, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        };
        while rung() && (&self.ours).read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    }
}

impl Handle {
    pub(super) fn ring(&self) {
        let _ = (&*self.0).write_all(b".");
    }
}
