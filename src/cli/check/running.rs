//! The runs of a check: signals, the live line, records and a line for each run.

use highwater::calibrate::check::Session;
use highwater::calibrate::failure;
use highwater::calibrate::monitor::{Cancel, Observer};
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::observation::Observation;
use highwater::model::reading::Reading;
use highwater::model::units::duration;
use highwater::store::Record;

use super::{CheckArgs, absolute};
use crate::cli::failure::Failure;
use crate::cli::live::Live;
use crate::cli::run::append;
use crate::cli::signals::Signals;
use crate::cli::{output, records, scope};

/// Shows and records the runs of a check.
pub(super) struct Runs {
    quiet: bool,
    signals: Signals,
    record: Option<Record>,
}

impl Runs {
    pub(super) fn new(args: &CheckArgs) -> Result<Self, Failure> {
        let record = records::open_record(args.record.as_deref().map(absolute).as_deref())?;
        let signals = Signals::block().map_err(Failure::host)?;
        Ok(Self { quiet: args.quiet, signals, record })
    }
}

impl Session for Runs {
    fn cancel(&mut self) -> &mut dyn Cancel {
        &mut self.signals
    }

    fn observer(&self) -> Box<dyn Observer> {
        Box::new(Live::new(!self.quiet))
    }

    fn is_interrupted(&mut self) -> bool {
        self.signals.ended_by().is_some()
    }

    fn keep(&mut self, observation: &Observation) -> Result<(), failure::Failure> {
        Ok(append(self.record.as_mut(), observation)?)
    }

    fn ran(&mut self, task: &str, cell: &str, number: u32, observation: &Observation) {
        if self.quiet {
            return;
        }
        let peak = match &observation.peak {
            Reading::Value(peak) => peak.words(),
            Reading::Unsupported | Reading::Gone => "no peak".to_owned(),
        };
        let outcome = match observation.outcome.succeeded() {
            true => String::new(),
            false => format!(", {}", observation.outcome.words()),
        };
        let time = duration(observation.wall_us);
        output::say(&format!("{task}/{cell} run {number}: {peak} in {time}{outcome}"));
    }
}

/// Enters a scope with a cgroup if there is none to run in. This restarts the program, so call it first.
pub(super) fn enter_scope() -> Result<(), Failure> {
    scope::enter_if_needed(&machine()?);
    Ok(())
}

pub(super) fn machine() -> Result<Machine, Failure> {
    Machine::read(HostRoots::default()).map_err(Failure::host)
}
