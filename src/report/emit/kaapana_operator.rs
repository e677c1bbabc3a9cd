//! Kaapana's operators, whose megabytes become the `Mi` of Kubernetes.

use crate::model::fit::Declaration;

use super::{purpose, units};

/// Two arguments of `KaapanaBaseOperator`. Without the second, the limit would be 100 MiB above the first.
pub(super) fn emit(declaration: &Declaration) -> String {
    let [request, limit] = [declaration.fixed.request, declaration.fixed.limit].map(|amount| units(amount, 1 << 20));
    format!("# {}\nram_mem_mb={request},\nram_mem_mb_lmt={limit},\n", purpose(declaration))
}
