//! The source of an input.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::model::units::Bytes;

/// The source of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputSource {
    /// An unchanged directory.
    Directory(PathBuf),
    /// Some of the direct children of a directory.
    Units {
        /// The directory.
        root: PathBuf,
        /// The children, with their names in the input.
        units: Vec<Unit>,
    },
    /// A file of a number of bytes.
    Bytes {
        /// The number.
        size: Bytes,
        /// The files that the bytes are taken from, repeated if there are too few; random bytes without files.
        from: Vec<PathBuf>,
    },
}

impl InputSource {
    /// The directory it is taken from, unless it is a file of bytes.
    pub fn root(&self) -> Option<&Path> {
        match self {
            Self::Directory(root) | Self::Units { root, .. } => Some(root),
            Self::Bytes { .. } => None,
        }
    }
}

/// A direct child of a directory, and its name in the staged directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its original name.
    pub name: OsString,
    /// Its name in the staged directory.
    pub staged_as: OsString,
}

impl Unit {
    /// A unit that keeps its name.
    pub fn same(name: OsString) -> Self {
        Self { staged_as: name.clone(), name }
    }
}
