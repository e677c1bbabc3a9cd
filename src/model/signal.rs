//! Signals that end a run.

use std::fmt;

/// A signal by its number on Linux.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(pub i32);

impl Signal {
    /// The terminal is gone.
    pub const SIGHUP: Self = Self(1);
    /// Ctrl-C.
    pub const SIGINT: Self = Self(2);
    /// Ctrl-\.
    pub const SIGQUIT: Self = Self(3);
    /// An end that no process can refuse.
    pub const SIGKILL: Self = Self(9);
    /// A request to end.
    pub const SIGTERM: Self = Self(15);
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::SIGHUP => "SIGHUP",
            Self::SIGINT => "SIGINT",
            Self::SIGQUIT => "SIGQUIT",
            Self::SIGKILL => "SIGKILL",
            Self::SIGTERM => "SIGTERM",
            Self(number) => return write!(f, "signal {number}"),
        })
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
