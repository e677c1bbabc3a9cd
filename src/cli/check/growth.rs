//! The thresholds of resources other than memory on the command line.

use clap::Args;
use highwater::calibrate::check::GrowthOptions;
use highwater::model::scalar::{cores, microseconds, relative_share};
use highwater::model::units::Bytes;

/// Each of these makes the check compare its resource.
#[derive(Debug, Args)]
pub(super) struct GrowthArgs {
    /// Compare wall time, too, and ignore growth by less than SHARE [default: 10% if time is compared].
    ///
    /// Growth also has to exceed what the scatter of the runs explains, measured over those of the baseline and the current
    /// ones. Time and cores are not compared with a baseline from another host: use --against.
    #[arg(long, value_name = "SHARE", value_parser = relative_share)]
    time_relative: Option<f64>,
    /// Compare wall time, too, and ignore growth by less than DURATION [default: 100ms if time is compared].
    #[arg(long, value_name = "DURATION", value_parser = microseconds)]
    time_absolute: Option<Bytes>,
    /// Compare cores (CPU time by wall time), too, and ignore growth by less than SHARE [default: 10% if cores are compared].
    #[arg(long, value_name = "SHARE", value_parser = relative_share)]
    cpu_relative: Option<f64>,
    /// Compare cores, too, and ignore growth by less than CORES, such as 0.5 [default: 0.1 if cores are compared].
    #[arg(long, value_name = "CORES", value_parser = cores)]
    cpu_absolute: Option<Bytes>,
}

impl GrowthArgs {
    pub(super) fn options(&self) -> GrowthOptions {
        let mut options = GrowthOptions::default();
        options.time_relative = self.time_relative;
        options.time_absolute = self.time_absolute;
        options.cpu_relative = self.cpu_relative;
        options.cpu_absolute = self.cpu_absolute;
        options
    }
}
