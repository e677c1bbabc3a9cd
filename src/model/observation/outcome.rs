//! How a run ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::units::duration;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// The first process exited by itself.
    Exited {
        /// Its exit status.
        status: i32,
    },
    /// The first process exited with the status by which the task says that there was nothing to do.
    Skipped {
        /// That status.
        status: i32,
    },
    /// A signal not sent by highwater ended the first process.
    Signalled {
        /// The number of the signal.
        signal: i32,
    },
    /// The kernel killed it because its memory reached a limit.
    OomKilled,
    /// It timed out.
    TimedOut {
        /// The time it had.
        after_us: u64,
    },
    /// It was stopped because highwater was asked to stop.
    Interrupted {
        /// The signal that highwater received.
        signal: i32,
    },
    /// The container engine disappeared or does not answer, or another client removed the container: how it would have
    /// ended is unknown.
    EngineLost,
    /// Its job on a cluster ended, or disappeared, without a result.
    Lost,
}

impl Outcome {
    /// Whether the task succeeded.
    pub const fn succeeded(self) -> bool {
        matches!(self, Self::Exited { status: 0 })
    }

    /// Whether it neither succeeded nor had nothing to do.
    pub const fn has_failed(self) -> bool {
        !self.succeeded() && !matches!(self, Self::Skipped { .. })
    }

    /// The status that a shell would show: the task's own, 128 + n for signal n, 124 after a time-out as with
    /// `timeout`, 3 if the engine or the job was lost.
    pub fn status(self) -> u8 {
        let signalled = |signal: i32| u8::try_from(128 + signal).unwrap_or(u8::MAX);
        match self {
            Self::Exited { status } | Self::Skipped { status } => u8::try_from(status & 0xff).unwrap_or(u8::MAX),
            Self::Signalled { signal } | Self::Interrupted { signal } => signalled(signal),
            Self::OomKilled => signalled(9),
            Self::TimedOut { .. } => 124,
            Self::EngineLost | Self::Lost => 3,
        }
    }

    /// Describes it, for example `exited with status 3`.
    pub fn words(self) -> String {
        match self {
            Self::Exited { status: 0 } => "succeeded".to_owned(),
            Self::Exited { status } => format!("exited with status {status}"),
            Self::Skipped { status } => format!("skipped: nothing to do (status {status})"),
            Self::Signalled { signal } => format!("killed by {}", signal_name(signal)),
            Self::OomKilled => "out of memory".to_owned(),
            Self::TimedOut { after_us } => format!("timed out after {}", duration(after_us)),
            Self::Interrupted { signal } => format!("interrupted by {}", signal_name(signal)),
            Self::EngineLost => "lost with the container engine or the supervising highwater process".to_owned(),
            Self::Lost => "lost: it ended without a result".to_owned(),
        }
    }
}

fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |name| format!("{name} (signal {number})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_name_and_number() {
        assert_eq!(Outcome::Signalled { signal: 11 }.words(), "killed by SIGSEGV (signal 11)");
        assert_eq!(Outcome::Interrupted { signal: 40 }.words(), "interrupted by signal 40");
    }
}
