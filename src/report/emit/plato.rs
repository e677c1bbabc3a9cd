//! PLATO's registry of task types.

use crate::model::fit::Declaration;

use super::{purpose, units};

/// The element of a task type. Gigabytes are taken as 10⁹ bytes, so that a platform that means 2³⁰ gives too much,
/// never too little. CPUs were not measured, so the element has the minimum.
pub(super) fn emit(declaration: &Declaration) -> String {
    // Two hyphens would end the comment.
    let purpose = purpose(declaration).replace("--", "- -").replace('<', "‹").replace('&', "+");
    let memory = units(declaration.fixed.limit, 1_000_000_000);
    format!(
        "<!-- {purpose} -->\n<resourceRequirements>\n  <cpu>1</cpu>\n  <gpu>0</gpu>\n  \
         <memory_gb>{memory}</memory_gb>\n</resourceRequirements>\n"
    )
}
