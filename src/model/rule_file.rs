//! Files whose amounts of memory count as rules.

use std::fmt;
use std::path::{Path, PathBuf};

use super::operator::OperatorPath;
use super::registry::Registry;

/// A file with an amount of memory, given in place of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleFile {
    /// An operator of Kaapana: `SegmentOperator.py`, `dag.py::segment`.
    Operator(OperatorPath),
    /// PLATO's registry of task types: `task_type_registry.xml::search`.
    Registry {
        /// The file.
        path: PathBuf,
        /// A container or a task; `None` for that with the name of the task that is judged.
        name: Option<String>,
    },
}

impl RuleFile {
    /// The file that a text names; `None` if it is a rule.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(operator) = OperatorPath::parse(text) {
            return Some(Self::Operator(operator));
        }
        let (path, name) = match text.rsplit_once(".xml::") {
            Some((stem, name)) => (format!("{stem}.xml"), Some(name.to_owned())),
            None => (text.to_owned(), None),
        };
        let path = PathBuf::from(path);
        Registry::is_at(&path).then_some(Self::Registry { path, name })
    }

    /// The same file, with a path relative to this directory.
    #[must_use]
    pub fn below(&self, directory: &Path) -> Self {
        match self.clone() {
            Self::Operator(OperatorPath { path, name }) => {
                Self::Operator(OperatorPath { path: directory.join(path), name })
            }
            Self::Registry { path, name } => Self::Registry { path: directory.join(path), name },
        }
    }

    /// The file for `fit --write`.
    pub fn written(&self) -> String {
        match self {
            Self::Operator(operator) => operator.to_string(),
            Self::Registry { path, .. } => path.display().to_string(),
        }
    }
}

impl fmt::Display for RuleFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written())?;
        match self {
            Self::Registry { name: Some(name), .. } => write!(f, "::{name}"),
            Self::Registry { name: None, .. } | Self::Operator(_) => Ok(()),
        }
    }
}
