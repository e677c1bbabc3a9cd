//! The threads that communicate with a container engine or a cluster.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::{Either, pending, select};
use nix::sys::signal::SigSet;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle, Runtime};

use super::patience::Patience;

/// A runtime. Dropping it does not wait for its threads: a host name lookup can take minutes.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// Starts them.
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            // Only the thread that waits for signals may receive them.
            .on_thread_start(|| {
                // A failure is harmless: the thread might then receive a signal that is meant for another one.
                let _ = SigSet::all().thread_block();
            })
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Waits for a future as long as `patience` allows, and `most` at most.
    pub(super) fn wait<T>(
        &self,
        patience: &mut Patience<'_>,
        most: Duration,
        wanted: impl Future<Output = T>,
    ) -> Option<T> {
        let started = Instant::now();
        self.handle.block_on(async {
            let mut wanted = pin!(wanted);
            loop {
                let left = patience.left(most.saturating_sub(started.elapsed()));
                let was_requested = {
                    let requested = pin!(readable(patience.requested()));
                    match tokio::time::timeout(left, select(wanted.as_mut(), requested)).await {
                        Ok(Either::Left((answer, _))) => return Some(answer),
                        Ok(Either::Right(_)) => true,
                        Err(_) => return None,
                    }
                };
                if was_requested {
                    patience.note();
                }
            }
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits until the file is readable; forever without a file.
pub(super) async fn readable(file: Option<BorrowedFd<'_>>) {
    let registered = file.and_then(|file| {
        // SAFETY: the file is borrowed for longer than it is registered, which is until this function ends.
        unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }.ok()
    });
    match registered {
        Some(file) => drop(file.readable().await),
        None => pending().await,
    }
}
