//! Docker's command line: `m` has 1,048,576 bytes.

use crate::model::fit::Declaration;

use super::{purpose, units};

/// The option of `docker run`, with no swap beside the memory: a task that swaps is not one that was measured.
pub(super) fn emit(declaration: &Declaration) -> String {
    let memory = units(declaration.fixed.limit, 1 << 20);
    let reservation = units(declaration.fixed.request, 1 << 20);
    format!(
        "# {}\n--memory={memory}m --memory-swap={memory}m --memory-reservation={reservation}m\n",
        purpose(declaration)
    )
}
