//! The CPUs of the runs of a sweep: `--pin`, `--cpus`, and which runs were beside others.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::options::SweepOptions;
use super::subject::Subject;
use crate::calibrate::failure::{Category, Failure};
use crate::calibrate::feedback::Feedback;
use crate::calibrate::workload::RunCpus;
use crate::host::cpus::{CpuList, Share, divide};
use crate::host::machine::Machine;
use crate::model::observation::Warning;
use crate::model::plan::CPUS;
use crate::runner::container::{ContainerResources, ContainerRunner, Cpus};

/// Hands out the CPUs, a share to each run.
pub(super) struct SweepCpus {
    /// With `--pin`, a share for each job; with `--cpus` for processes, a single one. Empty if the runs are on all CPUs.
    shares: Vec<Share>,
    is_pinned: bool,
    is_process: bool,
    /// Whether the runs are elsewhere, where they do not disturb each other.
    is_elsewhere: bool,
    /// For each share, or each run at a time: whether it is in use, and whether other runs were beside that one.
    turns: Mutex<Vec<Option<bool>>>,
}

impl SweepCpus {
    /// Divides the CPUs among the jobs.
    ///
    /// # Errors
    /// If they are too few, or the runs are not on CPUs of this machine.
    pub(super) fn new(
        options: &SweepOptions,
        subject: &Subject<'_>,
        machine: &Machine,
        feedback: &dyn Feedback,
    ) -> Result<Self, Failure> {
        let is_process = subject.is_process();
        let is_elsewhere = subject.cluster().is_some();
        let mut this =
            Self { shares: Vec::new(), is_pinned: options.pin, is_process, is_elsewhere, turns: Mutex::default() };
        let most = options.cpus.iter().copied().max_by_key(|cpus| cpus.nano);
        if let (Some(engine), true) = (subject.engine(), most.is_some() || options.pin) {
            let resources = ContainerResources { cpus: most, ..ContainerResources::default() };
            ContainerRunner::require(engine, &resources)?;
            if options.pin {
                ContainerRunner::require_cpuset(engine)?;
            }
        }
        if !options.pin && (!is_process || most.is_none()) {
            return Ok(this);
        }
        let Some(allowed) = CpuList::allowed() else {
            let error = "failed to read on which CPUs highwater may run (sched_getaffinity)";
            return Err(Failure::new(Category::Host, error, Some("remove --pin and --cpus".to_owned())));
        };
        let jobs = usize::try_from(options.jobs).unwrap_or(usize::MAX);
        if jobs > 1 && most.is_some() && !options.pin {
            let help = "add --pin, or run one at a time with --jobs 1";
            return Err(Failure::usage("--cpus with several --jobs would give all of them the same CPUs", help));
        }
        let count = allowed.len();
        let Some(shares) = divide(&machine.roots, &allowed, jobs) else {
            let error = format!("--pin gives each of {jobs} jobs CPUs of its own, but highwater may use only {count}");
            let help = format!("use at most --jobs {count}, or remove --pin: times are marked as disturbed then");
            return Err(Failure::new(Category::Host, error, Some(help)));
        };
        let each = shares.iter().map(|share| share.cpus().len()).min().unwrap_or_default();
        if let Some(most) = most.filter(|most| most.nano > each as u64 * 1_000_000_000) {
            let jobs = if jobs > 1 { format!(", which are {each} for each of {jobs} jobs") } else { String::new() };
            let error = format!("--cpus asks for {most} CPUs, but highwater may use only {count}{jobs}");
            let help = "ask for fewer, use fewer --jobs, or a machine with more CPUs".to_owned();
            return Err(Failure::new(Category::Host, error, Some(help)));
        }
        if shares.iter().any(|share| share.shares_core) {
            feedback.note(&format!(
                "{jobs} jobs are more than there are cores: pinned runs share cores (SMT), so that their times are \
                 marked as disturbed nevertheless"
            ));
        }
        this.shares = shares;
        Ok(this)
    }

    fn turns(&self) -> MutexGuard<'_, Vec<Option<bool>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start of a run with these parameters.
    pub(super) fn enter(&self, parameters: &BTreeMap<String, String>) -> Turn<'_> {
        let wanted = parameters.get(CPUS).and_then(|cpus| cpus.parse::<Cpus>().ok());
        let mut turns = self.turns();
        let place = turns.iter().position(Option::is_none).unwrap_or(turns.len());
        if place == turns.len() {
            turns.push(None);
        }
        let is_alone = turns.iter().all(Option::is_none);
        turns.iter_mut().flatten().for_each(|is_beside| *is_beside = true);
        turns[place] = Some(!is_alone);
        Turn { cpus: self, place, wanted }
    }
}

/// A run in progress.
pub(super) struct Turn<'a> {
    cpus: &'a SweepCpus,
    place: usize,
    wanted: Option<Cpus>,
}

impl Turn<'_> {
    /// The CPUs of the run; `None` if it may use all.
    pub(super) fn cpus(&self) -> Option<RunCpus> {
        let share = self.cpus.shares.get(self.place)?;
        let whole = |wanted: Cpus| usize::try_from(wanted.nano / 1_000_000_000).unwrap_or(usize::MAX);
        // A container is limited by the engine, in its share.
        let wanted = self.wanted.filter(|_| self.cpus.is_process);
        let list = wanted.and_then(|wanted| share.first(whole(wanted))).unwrap_or_else(|| share.cpus());
        let pinned = self.cpus.is_pinned && !share.shares_core;
        Some(RunCpus { list, numa_node: share.numa_node, pinned })
    }

    /// The limit of CPU time for a container.
    pub(super) fn limit(&self) -> Option<Cpus> {
        self.wanted.filter(|_| !self.cpus.is_process)
    }

    /// A warning if other runs were on the same CPUs meanwhile.
    pub(super) fn disturbance(&self) -> Option<Warning> {
        let has_own = self.cpus.is_pinned && self.cpus.shares.iter().all(|share| !share.shares_core);
        let was_beside = self.cpus.turns().get(self.place).copied().flatten().unwrap_or_default();
        (was_beside && !has_own && !self.cpus.is_elsewhere).then_some(Warning::TimeDisturbed)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.cpus.turns().get_mut(self.place) {
            *turn = None;
        }
    }
}

/// Checks what can be checked before anything is read.
///
/// # Errors
/// If the runs are on a cluster, which gives them their CPUs.
pub(super) fn check(options: &SweepOptions, subject: &Subject<'_>, is_batch: bool) -> Result<(), Failure> {
    let is_cluster = is_batch || subject.cluster().is_some();
    let help = if is_batch {
        "remove it; request CPUs with --slurm, such as \"--cpus-per-task=2\""
    } else {
        "remove it; request CPUs in the pod, with --pod"
    };
    match (is_cluster, options.pin, options.cpus.is_empty()) {
        (true, true, _) => Err(Failure::usage("--pin does not work on a cluster, which gives each run its CPUs", help)),
        (true, false, false) => Err(Failure::usage(
            "--cpus with several values does not work on a cluster, which gives each run its CPUs",
            help,
        )),
        _ => Ok(()),
    }
}
