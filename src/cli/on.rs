//! Where runs take place.

use clap::ValueEnum;

/// Where runs take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnArg {
    /// On this machine.
    Local,
    /// On the nodes of a cluster, as job arrays of Slurm.
    Slurm,
}
