//! What an input is made of.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::model::units::Bytes;

/// What an input is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// A folder as it is.
    Folder(PathBuf),
    /// Some of what lies directly in a folder.
    Units {
        /// The folder.
        root: PathBuf,
        /// What is taken of it, under which names.
        units: Vec<Unit>,
    },
    /// A file with so many bytes.
    Bytes {
        /// How many.
        size: Bytes,
        /// The files that they are taken from, again and again where they are too few; random bytes where there is none.
        from: Vec<PathBuf>,
    },
}

/// A file or folder that lies directly in another folder, and its name in the staged one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name where it is.
    pub name: OsString,
    /// Its name in the staged folder.
    pub staged_as: OsString,
}

impl Unit {
    /// A unit that keeps its name.
    pub fn same(name: OsString) -> Self {
        Self { staged_as: name.clone(), name }
    }
}
