//! Declarations of a calibrated task for the programs that run it.
//!
//! Every emitter is a pure function. Amounts are rounded up to the consumer's unit, which differs: a megabyte has
//! 1,000,000 bytes for Snakemake, but 1,048,576 for Kaapana, Nextflow, Slurm and Docker.

mod fixed;
mod nextflow;
mod resource;
mod snakemake;
mod task_api;
mod workflow;

use crate::model::escape::is_unsafe;
use crate::model::fit::{Declaration, Documented, Growth, WorkflowTask};
use crate::model::rule::Mode;
use crate::model::units::Bytes;

pub use resource::emit_resource;
pub use task_api::snippet;

/// The program that runs the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consumer {
    /// A platform that reads task.json and processing-container.json.
    TaskApi,
    /// A new processing-container.json for such a platform.
    ProcessingContainer,
    /// Kaapana's operators, in Python.
    KaapanaOperator,
    /// PLATO's registry of task types, in XML.
    Plato,
    /// Kubernetes, in YAML.
    Kubernetes,
    /// Nextflow, in Groovy.
    Nextflow,
    /// Snakemake, in Python.
    Snakemake,
    /// Slurm's batch scripts.
    Slurm,
    /// Docker's command line.
    Docker,
}

impl Consumer {
    /// All consumers.
    pub const ALL: [Self; 9] = [
        Self::TaskApi,
        Self::ProcessingContainer,
        Self::KaapanaOperator,
        Self::Plato,
        Self::Kubernetes,
        Self::Nextflow,
        Self::Snakemake,
        Self::Slurm,
        Self::Docker,
    ];

    /// The name of the consumer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TaskApi => "task-api",
            Self::ProcessingContainer => "processing-container",
            Self::KaapanaOperator => "kaapana-operator",
            Self::Plato => "plato",
            Self::Kubernetes => "kubernetes",
            Self::Nextflow => "nextflow",
            Self::Snakemake => "snakemake",
            Self::Slurm => "slurm",
            Self::Docker => "docker",
        }
    }

    /// Whether it can give each input its own amount; otherwise one amount covers all.
    pub const fn scales(self) -> bool {
        match self {
            Self::TaskApi | Self::ProcessingContainer | Self::Nextflow | Self::Snakemake => true,
            Self::KaapanaOperator | Self::Plato | Self::Kubernetes | Self::Slurm | Self::Docker => false,
        }
    }
}

/// The declaration for a consumer. `documented` is the same for the Task API, whose platforms add their own margin.
pub fn emit(consumer: Consumer, declaration: &Declaration, documented: &Documented) -> String {
    match consumer {
        Consumer::TaskApi => snippet(documented),
        Consumer::ProcessingContainer => task_api::container(declaration, documented),
        Consumer::KaapanaOperator => fixed::kaapana_operator(declaration),
        Consumer::Plato => fixed::plato(declaration),
        Consumer::Kubernetes => fixed::kubernetes(declaration),
        Consumer::Nextflow => nextflow::emit(declaration),
        Consumer::Snakemake => snakemake::emit(declaration),
        Consumer::Slurm => fixed::slurm(declaration),
        Consumer::Docker => fixed::docker(declaration),
    }
}

/// A workflow engine, which reads the limits of all tasks from one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkflowEngine {
    /// Nextflow.
    Nextflow,
    /// Snakemake.
    Snakemake,
}

impl Consumer {
    /// The workflow engine, if it is one.
    pub const fn workflow_engine(self) -> Option<WorkflowEngine> {
        match self {
            Self::Nextflow => Some(WorkflowEngine::Nextflow),
            Self::Snakemake => Some(WorkflowEngine::Snakemake),
            Self::TaskApi
            | Self::KaapanaOperator
            | Self::Plato
            | Self::Kubernetes
            | Self::Slurm
            | Self::Docker
            | Self::ProcessingContainer => None,
        }
    }
}

impl WorkflowEngine {
    /// Its name, as `--emit` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nextflow => Consumer::Nextflow.name(),
            Self::Snakemake => Consumer::Snakemake.name(),
        }
    }

    /// The configuration of these tasks.
    pub fn configuration(self, tasks: &[WorkflowTask]) -> String {
        match self {
            Self::Nextflow => nextflow::config(tasks),
            Self::Snakemake => snakemake::profile(tasks),
        }
    }

    /// Whether its configuration can select a task of this name.
    pub fn can_select(self, name: &str) -> bool {
        match self {
            Self::Nextflow => !name.is_empty(),
            Self::Snakemake => snakemake::is_rule_name(name),
        }
    }
}

/// The number of units, rounded up.
const fn units(amount: Bytes, unit: u64) -> u64 {
    amount.0.div_ceil(unit)
}

/// A one-line comment on which inputs the amounts cover.
fn purpose(declaration: &Declaration) -> String {
    let inputs = &declaration.fixed.inputs;
    let text = match &declaration.task {
        Some(task) => format!("{task}: for {inputs}"),
        None => format!("for {inputs}"),
    };
    plain(&text)
}

/// Text that neither ends the comment that contains it nor is a command to a CI system.
fn plain(text: &str) -> String {
    let text: String = text.chars().map(|char| if is_unsafe(char) { ' ' } else { char }).collect();
    text.replace("##[", "# #[")
}

/// A line of comment in the syntax of a consumer.
fn comment(consumer: Consumer, text: &str) -> String {
    let text = plain(text);
    match consumer {
        Consumer::Nextflow => format!("// {text}"),
        // Two hyphens would end the comment.
        Consumer::Plato => format!("<!-- {} -->", text.replace("--", "- -").replace('<', "‹").replace('&', "+")),
        _ => format!("# {text}"),
    }
}

/// A variable name for the input of a channel: letters, digits and underscores.
fn identifier(growth: &Growth, place: usize) -> String {
    let name = growth.measure.channel.as_deref().unwrap_or("input_data");
    let name: String = name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect();
    match name.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => name,
        Some(_) | None => format!("input_{place}_{name}"),
    }
}

/// Describes a mode.
const fn words(mode: Mode) -> &'static str {
    match mode {
        Mode::Sum => "all files together",
        Mode::MaxFileSize => "the largest file",
        Mode::MaxItemSum => "the directory with the largest sum",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fit::{Fixed, Form, Measure, Scaled};

    pub(super) fn declaration() -> Declaration {
        let growth = Growth {
            measure: Measure::all("scans", Mode::Sum),
            coefficient: 1.83,
            exponent: 1,
            largest: Bytes(4 << 30),
        };
        let limit = Scaled { form: Form::Max, base: Bytes((512 << 20) + 1), growth: vec![growth.clone()] };
        let request =
            Scaled { growth: vec![Growth { coefficient: 1.5, ..growth }], base: Bytes::mib(400), ..limit.clone() };
        let fixed = Fixed {
            limit: Bytes(7_859_790_152),
            request: Bytes(6_442_450_944),
            inputs: "inputs of up to 4 GiB (sum of scans)".to_owned(),
        };
        Declaration { task: Some("segment".to_owned()), limit, request, fixed }
    }

    #[test]
    fn fractions_of_a_unit_are_rounded_up() {
        let of = |consumer| emit(consumer, &declaration(), &Documented::default());
        assert!(of(Consumer::KaapanaOperator).contains("ram_mem_mb=6144,\nram_mem_mb_lmt=7496,\n"));
        assert!(of(Consumer::Plato).contains("<memory_gb>7.33</memory_gb>"));
        assert!(of(Consumer::Kubernetes).contains("memory: \"7496Mi\""));
        assert!(of(Consumer::Slurm).contains("#SBATCH --mem=7496M"));
        assert!(of(Consumer::Docker).contains("--memory=7496m"));
    }

    #[test]
    fn those_who_cannot_scale_are_told_what_it_is_enough_for() {
        for consumer in Consumer::ALL.into_iter().filter(|consumer| !consumer.scales()) {
            let text = emit(consumer, &declaration(), &Documented::default());
            assert!(text.contains("segment: for inputs of up to 4 GiB (sum of scans)"), "{text}");
        }
    }

    #[test]
    fn a_name_cannot_end_its_comment() {
        let hostile = Declaration { task: Some("a\nrm -rf --> \u{1b}[0m".to_owned()), ..declaration() };
        // JSON has no comments.
        for consumer in Consumer::ALL.into_iter().filter(|consumer| *consumer != Consumer::ProcessingContainer) {
            let text = emit(consumer, &hostile, &Documented::default());
            assert!(text.lines().all(|line| !line.starts_with("rm")), "{text}");
            assert!(!text.contains('\u{1b}') && text.matches("-->").count() <= 1, "{text}");
        }
    }
}
