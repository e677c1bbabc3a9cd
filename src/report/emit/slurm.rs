//! Slurm's batch scripts, whose `M` is 1,048,576 bytes.

use crate::model::fit::Declaration;

use super::{purpose, units};

/// The option for a batch script, which is also an option of `sbatch`.
pub(super) fn emit(declaration: &Declaration) -> String {
    format!("# {}\n#SBATCH --mem={}M\n", purpose(declaration), units(declaration.fixed.limit, 1 << 20))
}
