//! Slurm's batch scripts: `M` has 1,048,576 bytes.

use crate::model::fit::Declaration;

use super::{purpose, units};

/// The option in a batch script; as an option of `sbatch` it is the same.
pub(super) fn emit(declaration: &Declaration) -> String {
    format!("# {}\n#SBATCH --mem={}M\n", purpose(declaration), units(declaration.fixed.limit, 1 << 20))
}
