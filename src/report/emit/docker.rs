//! Docker's command line, whose `m` is 1,048,576 bytes.

use crate::model::fit::Declaration;

use super::{purpose, units};

/// Options of `docker run`, without swap: a task that swaps does not behave as measured.
pub(super) fn emit(declaration: &Declaration) -> String {
    let memory = units(declaration.fixed.limit, 1 << 20);
    let reservation = units(declaration.fixed.request, 1 << 20);
    format!(
        "# {}\n--memory={memory}m --memory-swap={memory}m --memory-reservation={reservation}m\n",
        purpose(declaration)
    )
}
