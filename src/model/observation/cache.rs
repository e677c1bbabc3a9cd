//! The page cache before a run.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was done to the page cache before a run. Files that a task reads are charged to it only if they are not in the
/// cache yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cache {
    /// The inputs were read once.
    Warm,
    /// Pages were dropped.
    Cold {
        /// Which.
        dropped: Dropped,
    },
}

/// What was dropped from the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Dropped {
    /// All clean pages of the machine, including programs and libraries.
    Everything,
    /// The pages of the input files; programs and libraries are still cached.
    Inputs,
}

impl Cache {
    /// The state that a warning of schema version 1 stands for, which had no field for it.
    pub(super) fn from_version_1(warning: &str) -> Option<Self> {
        match warning {
            "cache: warm, the inputs were read before the run" => Some(Self::Warm),
            "cache: cold, the page cache of the whole machine was dropped before the run" => {
                Some(Self::Cold { dropped: Dropped::Everything })
            }
            "cache: cold, that of the input files was dropped before the run; programs and libraries stayed (dropping \
             all needs root)" => Some(Self::Cold { dropped: Dropped::Inputs }),
            _ => None,
        }
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warm => "cache: warm, the inputs were read before the run",
            Self::Cold { dropped: Dropped::Everything } => {
                "cache: cold, the page cache of the whole machine was dropped before the run"
            }
            Self::Cold { dropped: Dropped::Inputs } => {
                "cache: cold, that of the input files was dropped before the run; programs and libraries stayed \
                 (dropping all needs root)"
            }
        })
    }
}
