//! What stands in for a cluster in a build without the feature `kubernetes`: none is ever found.

use std::convert::Infallible;

use super::{ClusterOptions, PodError, PodLaunch};
use crate::host::machine::Machine;
use crate::runner::container::Leftovers;
use crate::runner::patience::Patience;
use crate::runner::{Runner, Running, StartError};

/// A cluster, which this build cannot connect to.
#[derive(Clone, Debug)]
pub struct Cluster(Infallible);

impl Cluster {
    /// Finds no cluster.
    ///
    /// # Errors
    /// Always.
    pub fn open(_options: ClusterOptions, _namespace: Option<&str>) -> Result<Self, PodError> {
        Err(PodError::NotBuilt)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        match self.0 {}
    }

    /// Its version.
    pub fn version(&self) -> &str {
        match self.0 {}
    }

    /// Labels nothing.
    pub fn name_sweep(&self, _name: &str) {
        match self.0 {}
    }

    /// The labels of a run.
    pub fn labels_of_run(&self, _cell: &str, _run: u32) -> Vec<(String, String)> {
        match self.0 {}
    }

    /// The rights that are missing.
    ///
    /// # Errors
    /// Never called: without the feature, no cluster can be opened.
    pub fn missing_rights(&self) -> Result<Vec<String>, PodError> {
        match self.0 {}
    }

    /// The rights that are missing.
    ///
    /// # Errors
    /// Never called: without the feature, no cluster can be opened.
    pub fn missing_for_when_fits(&self) -> Result<Vec<String>, PodError> {
        match self.0 {}
    }

    /// Removes nothing.
    ///
    /// # Errors
    /// Never called: without the feature, no cluster can be opened.
    pub fn remove_leftovers(&self, _look_only: bool, _foreign: bool) -> Result<Leftovers, PodError> {
        match self.0 {}
    }
}

/// A runner that cannot exist, because there is no cluster to give to it.
#[derive(Debug)]
pub struct PodRunner(Cluster);

impl PodRunner {
    /// Creates a runner for this pod.
    pub fn new(_machine: &Machine, cluster: Cluster, _launch: PodLaunch) -> Self {
        Self(cluster)
    }
}

impl Runner for PodRunner {
    fn start(&mut self, _patience: &mut Patience<'_>) -> Result<Box<dyn Running>, StartError> {
        match (self.0).0 {}
    }
}
