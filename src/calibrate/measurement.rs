//! Measuring one run, with as little ceremony as possible.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::failure::Failure;
use super::monitor::WatchOptions;
use super::workload::{RunOptions, Runnable, Spec, UseCgroup, Workload};
use crate::host::HostRoots;
use crate::host::machine::Machine;
use crate::model::observation::Observation;
use crate::model::units::Bytes;
use crate::runner::process::{Output, Stdin};

/// A run to be measured. The task's output is discarded, and it reads nothing.
///
/// ```
/// use highwater::Measurement;
///
/// let observation = Measurement::command(["sort", "/etc/passwd"]).run()?;
/// assert!(observation.outcome.succeeded());
/// match observation.peak.value() {
///     Some(peak) => println!("{}", peak.words()),
///     None => println!("no peak: without a cgroup, it ended before the first sample"),
/// }
/// # Ok::<(), highwater::Failure>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Measurement {
    spec: Spec,
    options: RunOptions,
    watch: WatchOptions,
}

impl Measurement {
    /// Measures what this says.
    pub fn new(spec: Spec) -> Self {
        let options =
            RunOptions { stdin: Stdin::Null, stdout: Output::Null, stderr: Output::Null, ..RunOptions::default() };
        Self { spec, options, watch: WatchOptions::default() }
    }

    /// Measures a command on this machine.
    pub fn command<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::new(Spec::new(Runnable::Command, words.into_iter().map(Into::into).collect()))
    }

    /// Measures a container of this image; the arguments go to its entrypoint.
    pub fn image<W: Into<OsString>>(name: &str, arguments: impl IntoIterator<Item = W>) -> Self {
        Self::new(Spec::new(Runnable::Image(name.to_owned()), arguments.into_iter().map(Into::into).collect()))
    }

    /// Measures a task.json in a container of its image.
    pub fn task(path: impl Into<PathBuf>) -> Self {
        Self::new(Spec::new(Runnable::Task { path: path.into(), in_container: true }, Vec::new()))
    }

    /// Sets an environment variable of the task.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.spec.container.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Limits memory to this many bytes, at least a page; no swap is used beyond it.
    pub fn limit(mut self, bytes: Bytes) -> Self {
        self.options.limit = Some(bytes);
        self
    }

    /// Ends the task after this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.watch.timeout = Some(timeout);
        self
    }

    /// Fails without a cgroup, instead of sampling: then every peak is exact or says why it is not.
    pub fn only_in_cgroup(mut self) -> Self {
        self.options.cgroup = UseCgroup::Always;
        self
    }

    /// Runs the task once. A task that fails is an observation, too.
    ///
    /// # Errors
    /// If the task could not be started or observed.
    pub fn run(&self) -> Result<Observation, Failure> {
        let machine = Machine::read(HostRoots::default()).map_err(Failure::host)?;
        let workload = Workload::open(&self.spec, &())?;
        workload.require_inputs()?;
        let measured = workload.measure(&machine, (&self.options, &self.watch), workload.about(), None, &mut ())?;
        Ok(measured?)
    }
}
