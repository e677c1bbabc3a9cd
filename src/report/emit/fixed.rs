//! Consumers that take one amount for all inputs.

use crate::model::fit::Declaration;
use crate::model::registry;

use super::{Consumer, comment, purpose, units};

/// The megabyte of Kaapana, Docker and Slurm, and the `Mi` of Kubernetes.
const MEBIBYTE: u64 = 1 << 20;

/// Two arguments of `KaapanaBaseOperator`. Without the second, the limit would be 100 MiB above the first.
pub(super) fn kaapana_operator(declaration: &Declaration) -> String {
    let (request, limit) = mebibytes(declaration);
    format!("# {}\nram_mem_mb={request},\nram_mem_mb_lmt={limit},\n", purpose(declaration))
}

/// The element of a container in PLATO's registry. CPUs were not measured, so the element has the minimum.
pub(super) fn plato(declaration: &Declaration) -> String {
    let comment = comment(Consumer::Plato, &purpose(declaration));
    let memory = registry::gib(declaration.fixed.limit);
    format!(
        "{comment}\n<resourceRequirements>\n  <cpu>1</cpu>\n  <gpu>0</gpu>\n  \
         <memory_gb>{memory}</memory_gb>\n</resourceRequirements>\n"
    )
}

/// The `resources` of a container of a pod: YAML to insert below it.
pub(super) fn kubernetes(declaration: &Declaration) -> String {
    let (request, limit) = mebibytes(declaration);
    format!(
        "# {}\nresources:\n  requests:\n    memory: \"{request}Mi\"\n  limits:\n    memory: \"{limit}Mi\"\n",
        purpose(declaration)
    )
}

/// The option for a batch script of Slurm, which is also an option of `sbatch`.
pub(super) fn slurm(declaration: &Declaration) -> String {
    let (_, limit) = mebibytes(declaration);
    format!("# {}\n#SBATCH --mem={limit}M\n", purpose(declaration))
}

/// Options of `docker run`, without swap: a task that swaps does not behave as measured.
pub(super) fn docker(declaration: &Declaration) -> String {
    let (request, limit) = mebibytes(declaration);
    format!("# {}\n--memory={limit}m --memory-swap={limit}m --memory-reservation={request}m\n", purpose(declaration))
}

/// Request and limit.
fn mebibytes(declaration: &Declaration) -> (u64, u64) {
    (units(declaration.fixed.request, MEBIBYTE), units(declaration.fixed.limit, MEBIBYTE))
}
