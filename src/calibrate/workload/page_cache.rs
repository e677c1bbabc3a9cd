//! The page cache before a run.

use std::path::Path;

use crate::calibrate::failure::{Failed, Failure};
use crate::model::observation::Cache;
use crate::runner::staging::{drop_caches, read_all};

/// The page cache before a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheState {
    /// Dropped.
    Cold,
    /// The inputs are read once, and programs and libraries are read by a run that is not recorded.
    Warm,
    /// Nothing is done.
    #[default]
    AsIs,
}

impl CacheState {
    /// The name of this state in the key of a cell; `None` if nothing is done.
    pub(crate) fn in_key(self) -> Option<String> {
        match self {
            Self::Cold => Some("cold".to_owned()),
            Self::Warm => Some("warm".to_owned()),
            Self::AsIs => None,
        }
    }

    /// Prepares the page cache for a run with these inputs, and says what was done.
    pub(crate) fn prepare<'a>(self, inputs: impl IntoIterator<Item = &'a Path>) -> Result<Option<Cache>, Failure> {
        let failed = |source| Failure::host(Failed::to("read the inputs to prepare the page cache", source));
        match self {
            Self::AsIs => Ok(None),
            Self::Warm => read_all(inputs).map_err(failed).map(|()| Some(Cache::Warm)),
            Self::Cold => drop_caches(inputs).map_err(failed).map(|dropped| Some(Cache::Cold { dropped })),
        }
    }
}
