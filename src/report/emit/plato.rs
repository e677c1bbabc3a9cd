//! PLATO's registry of task types.

use crate::model::fit::Declaration;

use super::{purpose, units};

/// The element of a task type. Gigabytes are read as 10⁹ bytes: were they meant as 2³⁰, it would be too much, never too
/// little. Processors were not measured: what stands there is the least.
pub(super) fn emit(declaration: &Declaration) -> String {
    // Two hyphens would end the comment.
    let purpose = purpose(declaration).replace("--", "- -").replace('<', "‹").replace('&', "+");
    let memory = units(declaration.fixed.limit, 1_000_000_000);
    format!(
        "<!-- {purpose} -->\n<resourceRequirements>\n  <cpu>1</cpu>\n  <gpu>0</gpu>\n  \
         <memory_gb>{memory}</memory_gb>\n</resourceRequirements>\n"
    )
}
