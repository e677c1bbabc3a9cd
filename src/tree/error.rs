//! Errors of measuring a channel.

use std::io;
use std::path::PathBuf;

use super::excluded::Excluded;

/// Why a survey failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The channel does not exist.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The channel.
        path: PathBuf,
    },
    /// The channel is not a directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The channel.
        path: PathBuf,
    },
    /// The channel is a symbolic link, which the options do not follow.
    #[error("{} is a symbolic link to {}", path.display(), target.display())]
    Link {
        /// The channel.
        path: PathBuf,
        /// The target of the link.
        target: PathBuf,
    },
    /// A `target_dir` goes through a symbolic link out of the channel, which the options do not follow.
    #[error("{} leads out of the channel", path.display())]
    Outside {
        /// The channel with the `target_dir`.
        path: PathBuf,
    },
    /// The channel, or the `target_dir` in it, cannot be read.
    #[error("failed to read the directory {}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// A file in the channel cannot be read.
    #[error("failed to read {}", path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// A regex exceeded the backtracking limit on a path.
    #[error("target_regex {regex:?} gave up on {}: it takes too many steps", path.display())]
    Regex {
        /// The regex.
        regex: String,
        /// The path of the file.
        path: PathBuf,
        /// The error of the regex engine.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The sizes add up to 16 EiB or more.
    #[error("the total size of the files below {} exceeds 64 bits", path.display())]
    Overflow {
        /// The channel.
        path: PathBuf,
    },
    /// A strict survey excluded something.
    #[error("{}", .0.summary())]
    Incomplete(Excluded),
    /// The caller cancelled the survey.
    #[error("the survey was cancelled")]
    Cancelled,
}
