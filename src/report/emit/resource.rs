//! Time, cores and GPU memory for the programs that run a task.

use crate::model::fit::Resource;

use super::{Consumer, comment, units};
use crate::model::units::Bytes;

/// Average use this little above a whole number of cores does not need another core.
const SLACK: f64 = 0.05;

/// The declaration of a time limit, cores or GPU memory; `None` if the consumer has no such setting, or another unit of work.
///
/// A time limit is in seconds, rounded up to the consumer's unit, and doubled for each retry where the consumer retries.
/// Cores are those of a typical run. GPU memory is that of one device. `purpose` says what the amounts are for.
pub fn emit_resource(
    consumer: Consumer,
    resource: Resource,
    limit: f64,
    typical: f64,
    purpose: &str,
) -> Option<String> {
    let declared = match resource {
        Resource::Memory => None,
        Resource::Time => time(consumer, limit.ceil().max(1.0) as u64),
        Resource::Cpu => cores(consumer, typical),
        Resource::Gpu => gpu(consumer, limit.ceil().max(1.0) as u64),
        Resource::Storage => storage(consumer, limit, typical),
    }?;
    Some(format!("{}\n{declared}", comment(consumer, purpose)))
}

fn time(consumer: Consumer, seconds: u64) -> Option<String> {
    let minutes = seconds.div_ceil(60);
    match consumer {
        Consumer::Slurm => Some(format!("#SBATCH --time={}:{:02}:00\n", minutes / 60, minutes % 60)),
        Consumer::Nextflow => Some(format!("time {{ {seconds}.s * 2 ** (task.attempt - 1) }}\n")),
        Consumer::Snakemake => Some(format!(
            "# in resources of the rule:\nruntime=lambda wildcards, attempt: {minutes} * 2 ** (attempt - 1),\n"
        )),
        Consumer::Kubernetes => Some(format!("# in the spec of the pod or job:\nactiveDeadlineSeconds: {seconds}\n")),
        Consumer::KaapanaOperator => Some(format!("execution_timeout=timedelta(seconds={seconds}),\n")),
        Consumer::TaskApi | Consumer::ProcessingContainer | Consumer::Plato | Consumer::Docker => None,
    }
}

fn cores(consumer: Consumer, typical: f64) -> Option<String> {
    let whole = (typical - SLACK).ceil().max(1.0) as u64;
    match consumer {
        Consumer::Slurm => Some(format!("#SBATCH --cpus-per-task={whole}\n")),
        Consumer::Nextflow => Some(format!("cpus {whole}\n")),
        Consumer::Snakemake => Some(format!("threads: {whole}\n")),
        Consumer::Kubernetes => {
            let millicores = (1000.0 * typical).ceil().max(1.0) as u64;
            Some(format!("# in resources.requests of the container:\ncpu: \"{millicores}m\"\n"))
        }
        Consumer::Plato => Some(format!("<cpu>{whole}</cpu>\n")),
        Consumer::TaskApi | Consumer::ProcessingContainer | Consumer::KaapanaOperator | Consumer::Docker => None,
    }
}

fn gpu(consumer: Consumer, bytes: u64) -> Option<String> {
    match consumer {
        Consumer::KaapanaOperator => Some(format!("gpu_mem_mb={},\n", units(Bytes(bytes), Bytes::mib(1).0))),
        Consumer::TaskApi
        | Consumer::ProcessingContainer
        | Consumer::Plato
        | Consumer::Kubernetes
        | Consumer::Nextflow
        | Consumer::Snakemake
        | Consumer::Slurm
        | Consumer::Docker => None,
    }
}

/// What a run may write to the disks of its node: its limit, and for Kubernetes also a request.
fn storage(consumer: Consumer, limit: f64, typical: f64) -> Option<String> {
    let mebibytes = |bytes: f64| (bytes / 1_048_576.0).ceil().max(1.0) as u64;
    let (limit, request) = (mebibytes(limit), mebibytes(typical.min(limit)));
    // A lower bound: what was removed before the end of a run is not in it.
    match consumer {
        Consumer::Slurm => Some(format!("#SBATCH --tmp={limit}M\n")),
        Consumer::Nextflow => Some(format!("disk {{ {limit}.MB * 2 ** (task.attempt - 1) }}\n")),
        Consumer::Snakemake => {
            // Snakemake counts in units of 1,000,000 bytes.
            let megabytes = (limit * 1_048_576).div_ceil(1_000_000);
            Some(format!(
                "# in resources of the rule:\ndisk_mb=lambda wildcards, attempt: {megabytes} * 2 ** (attempt - 1),\n"
            ))
        }
        Consumer::Kubernetes => Some(format!(
            "# in resources.requests of the container; files on volumes of their own need none of it:\n\
             ephemeral-storage: \"{request}Mi\"\n# in resources.limits of the container:\n\
             ephemeral-storage: \"{limit}Mi\"\n"
        )),
        Consumer::TaskApi
        | Consumer::ProcessingContainer
        | Consumer::KaapanaOperator
        | Consumer::Plato
        | Consumer::Docker => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(consumer: Consumer, resource: Resource, amount: f64) -> Option<String> {
        emit_resource(consumer, resource, amount, amount, "sort")
    }

    #[test]
    fn a_time_limit_is_rounded_up_to_the_unit_of_its_consumer() {
        let time = |consumer| emitted(consumer, Resource::Time, 3661.2).unwrap();
        assert_eq!(time(Consumer::Slurm), "# sort\n#SBATCH --time=1:02:00\n");
        assert_eq!(time(Consumer::Nextflow), "// sort\ntime { 3662.s * 2 ** (task.attempt - 1) }\n");
        assert_eq!(
            time(Consumer::Kubernetes),
            "# sort\n# in the spec of the pod or job:\nactiveDeadlineSeconds: 3662\n"
        );
        assert_eq!(time(Consumer::KaapanaOperator), "# sort\nexecution_timeout=timedelta(seconds=3662),\n");
        assert_eq!(emitted(Consumer::Docker, Resource::Time, 1.0), None);
    }

    #[test]
    fn gpu_memory_has_a_setting_in_kaapana_alone() {
        let of = |consumer| emitted(consumer, Resource::Gpu, 300.2 * f64::from(1 << 20));
        assert_eq!(of(Consumer::KaapanaOperator).unwrap(), "# sort\ngpu_mem_mb=301,\n");
        assert_eq!(Consumer::ALL.into_iter().filter_map(of).count(), 1);
    }

    #[test]
    fn storage_is_a_request_and_a_limit_for_kubernetes() {
        let storage = |consumer| emit_resource(consumer, Resource::Storage, 3_000_000.0, 1_000_000.0, "sort");
        let kubernetes = storage(Consumer::Kubernetes).unwrap();
        assert!(kubernetes.contains("need none of it:\nephemeral-storage: \"1Mi\"\n"), "{kubernetes}");
        assert!(kubernetes.ends_with("limits of the container:\nephemeral-storage: \"3Mi\"\n"), "{kubernetes}");
        assert_eq!(storage(Consumer::Slurm).unwrap(), "# sort\n#SBATCH --tmp=3M\n");
        assert!(storage(Consumer::Snakemake).unwrap().contains("disk_mb=lambda wildcards, attempt: 4 *"));
        assert!(storage(Consumer::Nextflow).unwrap().contains("disk { 3.MB *"));
        assert_eq!(storage(Consumer::Docker), None);
    }

    #[test]
    fn a_little_above_whole_cores_is_not_another_core() {
        let slurm = |cores| emitted(Consumer::Slurm, Resource::Cpu, cores).unwrap();
        assert_eq!(slurm(0.2), "# sort\n#SBATCH --cpus-per-task=1\n");
        assert_eq!(slurm(1.04), "# sort\n#SBATCH --cpus-per-task=1\n");
        assert_eq!(slurm(3.6), "# sort\n#SBATCH --cpus-per-task=4\n");
        let kubernetes = emitted(Consumer::Kubernetes, Resource::Cpu, 1.0401).unwrap();
        assert_eq!(kubernetes, "# sort\n# in resources.requests of the container:\ncpu: \"1041m\"\n");
        let plato = emitted(Consumer::Plato, Resource::Cpu, 2.0).unwrap();
        assert_eq!(plato, "<!-- sort -->\n<cpu>2</cpu>\n");
    }
}
