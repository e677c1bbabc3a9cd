//! The `resources` of a container of a pod.

use crate::model::fit::Declaration;

use super::{purpose, units};

/// YAML to insert below a container.
pub(super) fn emit(declaration: &Declaration) -> String {
    let [request, limit] = [declaration.fixed.request, declaration.fixed.limit].map(|amount| units(amount, 1 << 20));
    format!(
        "# {}\nresources:\n  requests:\n    memory: \"{request}Mi\"\n  limits:\n    memory: \"{limit}Mi\"\n",
        purpose(declaration)
    )
}
