//! The job arrays of a sweep, as `slurm/jobs.json` in its directory keeps them. It is rewritten with each array, and so
//! the keys of the cells, which the jobs read, too, are only in a file of each array.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::calibrate::failure::{Category, Failed, Failure};
use crate::directory::{Directory, Refusal};
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;

/// The subdirectory of the sweep.
pub(super) const SLURM: &str = "slurm";
/// The directory in it with the keys of each array's cells, one per line.
pub(super) const ARRAYS: &str = "arrays";
/// The file in it.
const JOBS: &str = "jobs.json";
/// The version of the file. Version 1 had the keys of the cells as well.
const VERSION: u32 = 2;

/// The job arrays of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Jobs {
    schema_version: u32,
    /// The directory in which the jobs run: relative paths of the command start there.
    pub(super) directory: PathBuf,
    /// Options for `sbatch`.
    pub(super) options: Vec<String>,
    /// The most memory of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_mem: Option<Bytes>,
    /// All that were submitted.
    pub(super) arrays: Vec<JobArray>,
}

/// A job array.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct JobArray {
    /// Its name, unique. Written before it is submitted, so that it is found even if highwater was killed just then.
    pub(super) name: String,
    /// Its ID, once it is submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<String>,
    /// The memory of each task; absent if the cluster decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<Bytes>,
    pub(super) submitted_at: Timestamp,
    /// Whether these cells ran out of memory before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) lacked: bool,
    /// The key of the cell of each task, in the file of the array.
    #[serde(skip)]
    pub(super) cells: Vec<String>,
    /// The number of records that each of these cells had.
    pub(super) recorded: Vec<usize>,
    /// The tasks that have ended and are accounted for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) closed: BTreeSet<usize>,
}

impl JobArray {
    /// The tasks that are not accounted for.
    pub(super) fn open(&self) -> impl Iterator<Item = usize> {
        (0..self.cells.len()).filter(|task| !self.closed.contains(task))
    }
}

impl Jobs {
    /// The jobs of a sweep; `None` if it never had any.
    pub(super) fn read(sweep: &Path) -> Result<Option<Self>, Failure> {
        let path = sweep.join(SLURM).join(JOBS);
        let unread = |path: &Path, source: io::Error| {
            let help = Refusal::behind(&source).map(|refusal| refusal.remedy().to_owned());
            Failure::new(Category::Usage, Failed::reading(path, source), help)
        };
        let slurm = match Directory::open(sweep).and_then(|sweep| sweep.directory(SLURM)) {
            Ok(slurm) => slurm,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(unread(&path, source)),
        };
        let text = match slurm.read_to_string(JOBS) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(unread(&path, source)),
        };
        let help = "remove the file if none of the sweep's jobs is in the queue any more; records are not lost by that";
        let invalid = |error: String| Failure::usage(format!("{} is invalid: {error}", path.display()), help);
        let mut jobs: Self = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        if jobs.schema_version > VERSION {
            let found = jobs.schema_version;
            return Err(invalid(format!("schema version {found}, this highwater supports up to {VERSION}")));
        }
        // The keys become names of files.
        let plain = |text: &String| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        for array in &mut jobs.arrays {
            let foreign = || invalid(format!("the array `{}` is not one that highwater writes", array.name));
            if !plain(&array.name) || !array.job.iter().all(plain) {
                return Err(foreign());
            }
            match slurm.directory(ARRAYS).and_then(|arrays| arrays.read_to_string(&array.name)) {
                Ok(keys) => array.cells = keys.lines().map(str::to_owned).collect(),
                // It was given up, and highwater was killed just then.
                Err(error) if array.job.is_none() && error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(unread(&path.with_file_name(ARRAYS).join(&array.name), source)),
            }
            if array.recorded.len() != array.cells.len() || !array.cells.iter().all(plain) {
                return Err(foreign());
            }
        }
        Ok(Some(jobs))
    }

    /// Without any array, for jobs in this directory.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { schema_version: VERSION, directory, options: Vec::new(), max_mem: None, arrays: Vec::new() }
    }

    /// Writes them into the directory `slurm`, atomically.
    pub(super) fn write(&self, slurm: &Directory) -> Result<(), Failure> {
        let text = serde_json::to_string(self).map_err(Failure::host)? + "\n";
        let path = slurm.path().join(JOBS);
        let written = slurm.replace(JOBS, text.as_bytes());
        written.map_err(|source| Failure::host(Failed::writing(&path, source)))
    }
}
