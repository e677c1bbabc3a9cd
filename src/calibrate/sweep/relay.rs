//! Messages between the scheduling thread and those that run tasks: pipes, so that both can poll other files as well.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::calibrate::monitor::{Cancel, Request};

type Requests = Arc<Mutex<VecDeque<Request>>>;

/// The sender by which a thread is asked to stop its run.
#[derive(Debug)]
pub(super) struct CancelSender {
    writer: PipeWriter,
    requests: Requests,
}

/// The receiver of a [`CancelSender`].
#[derive(Debug)]
pub(super) struct CancelReceiver {
    reader: PipeReader,
    requests: Requests,
}

impl CancelSender {
    pub(super) fn new() -> io::Result<(Self, CancelReceiver)> {
        let (reader, writer) = pipe()?;
        let requests = Requests::default();
        Ok((Self { writer, requests: Arc::clone(&requests) }, CancelReceiver { reader, requests }))
    }

    pub(super) fn send(&self, request: Request) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
        // If the other end is closed, the run has ended.
        let _ = (&self.writer).write_all(b".");
    }
}

impl Cancel for CancelReceiver {
    fn requested(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    fn take(&mut self) -> Option<Request> {
        let request = self.requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if request.is_some() {
            // One byte per request, which is there or about to arrive.
            let _ = self.reader.read(&mut [0]);
        }
        request
    }
}

/// Wakes a thread; any number of threads can trigger it.
#[derive(Debug)]
pub(super) struct Waker {
    reader: PipeReader,
    writer: Arc<PipeWriter>,
}

/// Triggers the wake-up.
#[derive(Debug)]
pub(super) struct WakeHandle(Arc<PipeWriter>);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        Ok(Self { reader, writer: Arc::new(writer) })
    }

    pub(super) fn handle(&self) -> WakeHandle {
        WakeHandle(Arc::clone(&self.writer))
    }

    pub(super) fn readable(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Discards all wake-ups so far.
    pub(super) fn drain(&self) {
        let woken = || {
            let mut files = [PollFd::new(self.readable(), PollFlags::POLLIN)];
            poll(&mut files, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        };
        while woken() && (&self.reader).read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    }
}

impl WakeHandle {
    pub(super) fn wake(&self) {
        let _ = (&*self.0).write_all(b".");
    }
}
