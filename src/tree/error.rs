//! Why a channel has no size.

use std::io;
use std::path::PathBuf;

use super::left_out::LeftOut;

/// Why a survey came to no result.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The channel is not there.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The channel.
        path: PathBuf,
    },
    /// The channel is no folder.
    #[error("{} is not a directory", path.display())]
    NotAFolder {
        /// The channel.
        path: PathBuf,
    },
    /// The channel is a symbolic link, and nobody asked to follow it.
    #[error("{} is a symbolic link to {}", path.display(), target.display())]
    Link {
        /// The channel.
        path: PathBuf,
        /// What the link holds.
        target: PathBuf,
    },
    /// A `target_dir` leads through a symbolic link out of the channel, and nobody asked to follow it.
    #[error("{} leads out of the channel", path.display())]
    Outside {
        /// The channel with the `target_dir`.
        path: PathBuf,
    },
    /// The channel, or the `target_dir` in it, cannot be read.
    #[error("failed to read the directory {}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file in the channel cannot be read.
    #[error("failed to read {}", path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A regex gave up on a path: it needs more back-tracking than is allowed.
    #[error("target_regex {regex:?} gave up on {}: it takes too many steps", path.display())]
    Regex {
        /// The regex.
        regex: String,
        /// The file it was matched with.
        path: PathBuf,
        /// What the regex engine said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The sizes add up to 16 EiB or more.
    #[error("the total size of the files below {} exceeds 64 bits", path.display())]
    Overflow {
        /// The channel.
        path: PathBuf,
    },
    /// Something was left out of a strict survey.
    #[error("{}", .0.summary())]
    Incomplete(LeftOut),
    /// The caller cancelled.
    #[error("the survey was cancelled")]
    Cancelled,
}
