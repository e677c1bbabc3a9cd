//! Runs by task and cell.

use std::collections::BTreeMap;

use super::cells::{self, TaskRuns, called};
use crate::model::check::baseline::BaselineHost;
use crate::model::check::config::{Config, TaskConfig};
use crate::model::observation::Observation;

/// A run, with the name of its task in highwater.toml.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The task.
    pub task: String,
    /// The observation of the run.
    pub observation: Observation,
    /// The last lines of its stderr, if it failed and they are known.
    pub stderr: Option<String>,
}

/// Runs grouped by checked task and by cell. Stores only what the verdict needs, so that a million runs fit in memory.
#[derive(Clone, Debug, Default)]
pub struct SortedRuns {
    pub(super) tasks: BTreeMap<String, TaskRuns>,
    /// The number of runs of tasks that are not checked, by the task names in their records.
    others: BTreeMap<String, usize>,
}

impl SortedRuns {
    /// Groups batches of runs. The first batch covers all cells, each further one the suspects of the previous one.
    pub fn of_batches(config: &Config, batches: &[Vec<Run>]) -> Self {
        let mut runs = Self::default();
        for (round, batch) in batches.iter().enumerate() {
            for run in batch {
                if let Some(task) = config.tasks.iter().find(|task| task.name == run.task) {
                    runs.add(task, round, &run.observation, run.stderr.as_deref());
                }
            }
        }
        runs
    }

    /// Adds a record to its task, if that is checked. `names` maps the name of a checked task to the name in its
    /// task.json.
    pub fn add_record(&mut self, config: &Config, names: &BTreeMap<String, String>, observation: &Observation) {
        match cells::task_of(config, names, observation) {
            Some(task) => self.add(task, 0, observation, None),
            None => *self.others.entry(called(observation)).or_default() += 1,
        }
    }

    fn add(&mut self, task: &TaskConfig, round: usize, observation: &Observation, stderr: Option<&str>) {
        match self.tasks.get_mut(&task.name) {
            Some(runs) => runs.add(task, round, observation, stderr),
            None => self.tasks.entry(task.name.clone()).or_default().add(task, round, observation, stderr),
        }
    }

    /// The names of the tasks that have runs.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }

    /// The hosts of the runs of a task, each once, that of the first run first.
    pub fn hosts(&self, task: &str) -> &[BaselineHost] {
        self.tasks.get(task).map_or(&[], |runs| &runs.hosts)
    }

    /// The number of runs of tasks that are not checked, by the task names in their records.
    pub fn others(&self) -> &BTreeMap<String, usize> {
        &self.others
    }

    /// Moves the runs of tasks that are not checked to the others.
    pub fn retain(&mut self, config: &Config) {
        let is_checked = |name: &String| config.tasks.iter().any(|task| task.name == *name);
        let (kept, others) = std::mem::take(&mut self.tasks).into_iter().partition(|(name, _)| is_checked(name));
        self.tasks = kept;
        self.others.extend(others.into_iter().map(|(name, runs): (String, TaskRuns)| (name, runs.count)));
    }
}
