//! The exit statuses, documented in docs/commands.md and in `--help`.

use std::process::ExitCode;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Done,
    /// 1: a check failed.
    CheckFailed,
    /// 2: wrong usage, or an invalid file.
    Usage,
    /// 3: an unsupported host or engine, or a file that could not be written.
    Host,
    /// 4: the task failed.
    TaskFailed,
    /// 5: too little data for an answer.
    TooLittleData,
    /// 130: interrupted.
    Interrupted,
    /// 125: `check --bisect` only: this commit cannot be judged, and `git bisect run` skips it.
    Skip,
    /// `run` only: the status of the task, passed on as `env` and `docker run` do.
    Task(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::CheckFailed => 1,
            Exit::Usage => 2,
            Exit::Host => 3,
            Exit::TaskFailed => 4,
            Exit::TooLittleData => 5,
            Exit::Skip => 125,
            Exit::Interrupted => 130,
            Exit::Task(status) => status,
        })
    }
}
