//! `highwater doctor`: what this machine can measure, how exactly, and how to improve that.

use clap::Args;
use highwater::host::HostRoots;
use highwater::host::gpu::{self, GpuFacts};
use highwater::host::machine::{self, Machine};
use highwater::model::observation::{CgroupVersion, Host};
use highwater::model::problem::one_line;
use highwater::model::reading::Reading;
use highwater::model::units::Bytes;
use highwater::runner::engine::{self, Address, Answer};
use highwater::runner::placement::{Placement, Refusal};
use highwater::runner::pod::{Cluster, ClusterOptions};
use highwater::runner::process::try_step;
use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::on::{ClusterArgs, PlaceArg};
use super::output::{self, OutputArg};
use super::run::Format;
use super::scope;
use super::table::{printable, wrapped};

const EXAMPLES: &str = "\
Examples:
  highwater doctor                   what can be measured here, and how exactly
  highwater doctor --format json     the same as JSON
  highwater doctor --on kubernetes   what can be measured in a cluster

GPU memory is read through NVIDIA's library, libnvidia-ml.so.1. The variable HIGHWATER_NVML names another file; if it is \
empty, none is loaded.

Exit status: 0 peaks are exact, 3 peaks are only lower bounds, or rights are missing in the cluster.";

/// Report what this machine can measure, how exactly, and what would improve it.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    output: OutputArg,
    /// What to report on: this machine, or the rights in a namespace of a Kubernetes cluster.
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = PlaceArg::Local)]
    on: PlaceArg,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The findings on a cluster; the stable form of `--on kubernetes --format json`.
#[derive(Debug, Serialize)]
struct ClusterFindings<'a> {
    schema_version: u32,
    version: &'a str,
    namespace: &'a str,
    missing_rights: Vec<String>,
    missing_for_when_fits: Vec<String>,
}

/// The findings; the stable form of `--format json`.
#[derive(Debug, Serialize)]
struct Findings {
    schema_version: u32,
    host: Host,
    available_bytes: Reading<Bytes>,
    memory_controller: MemoryController,
    process_runner: Method,
    engines: Vec<Engine>,
    /// Absent without NVIDIA's library.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpus: Option<Gpus>,
}

/// What NVIDIA's library says.
#[derive(Debug, Serialize)]
struct Gpus {
    devices: Vec<GpuFacts>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct MemoryController {
    mount_point: Option<String>,
    read_only: Option<bool>,
    problem: Option<String>,
}

/// The method a runner would use to measure.
#[derive(Debug, Serialize)]
struct Method {
    way: &'static str,
    exact: bool,
    noise_bytes: Option<Bytes>,
    below: Option<String>,
    refused: Vec<Refused>,
    remedy: Option<String>,
}

#[derive(Debug, Serialize)]
struct Refused {
    cgroup: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Engine {
    #[serde(flatten)]
    address: Address,
    answer: Answer,
}

/// Reports what a user may do in a cluster.
fn on_cluster(options: ClusterOptions, args: &DoctorArgs) -> Result<Exit, Failure> {
    let cluster = Cluster::open(options, None).map_err(Failure::from_library)?;
    let missing_rights = cluster.missing_rights().map_err(Failure::from_library)?;
    let (version, namespace) = (cluster.version(), cluster.namespace());
    let missing_for_when_fits = cluster.missing_for_when_fits().map_err(Failure::from_library)?;
    let findings = ClusterFindings { schema_version: 1, version, namespace, missing_rights, missing_for_when_fits };
    match args.format {
        Format::Json => args.output.json(&findings)?,
        Format::Table => {
            let mut text = format!("cluster           Kubernetes {version}, namespace {namespace}\n");
            match &findings.missing_rights[..] {
                [] => text += "rights            all that are needed\n",
                missing => {
                    text += &format!("missing rights    {}\n", missing.join(", "));
                    text += "                  docs/clusters.md has a Role with all that are needed\n";
                }
            }
            text += &match &findings.missing_for_when_fits[..] {
                [] => "--when-fits       possible\n".to_owned(),
                missing => format!(
                    "--when-fits       not possible, missing in the whole cluster: {} (docs/clusters.md has a ClusterRole)\n",
                    missing.join(", ")
                ),
            };
            args.output.text(&text)?;
        }
    }
    Ok(if findings.missing_rights.is_empty() { Exit::Done } else { Exit::Host })
}

pub(crate) fn run(args: &DoctorArgs) -> Result<Exit, Failure> {
    args.output.check()?;
    if let Some(options) = args.cluster.options(args.on)? {
        return on_cluster(options, args);
    }
    let machine = Machine::read(HostRoots::default()).map_err(Failure::host)?;
    scope::enter_if_needed(&machine);
    let findings = Findings {
        schema_version: 1,
        available_bytes: machine::available(&machine.roots),
        memory_controller: memory_controller(&machine),
        process_runner: process_runner(&machine),
        engines: engines().map_err(Failure::host)?,
        gpus: gpu::devices().map(|(devices, problems)| Gpus { devices, problems }),
        host: machine.facts,
    };
    match args.format {
        Format::Table => args.output.text(&table(&findings))?,
        Format::Json => args.output.json(&findings)?,
    }
    Ok(if findings.process_runner.exact { Exit::Done } else { Exit::Host })
}

fn memory_controller(machine: &Machine) -> MemoryController {
    match &machine.memory {
        Ok(hierarchy) => MemoryController {
            mount_point: Some(hierarchy.mount_point.display().to_string()),
            read_only: Some(hierarchy.read_only),
            problem: None,
        },
        Err(problem) => MemoryController { mount_point: None, read_only: None, problem: Some(problem.clone()) },
    }
}

fn process_runner(machine: &Machine) -> Method {
    let mut placement = Placement::new(machine);
    let tried = placement.try_out();
    let refused = placement
        .refusals
        .iter()
        .map(|Refusal { path, obstacle }| Refused { cgroup: path.display().to_string(), reason: obstacle.to_string() })
        .collect();
    let below = placement.nearest().map(|place| place.path.display().to_string());
    match tried {
        Some(true) => Method {
            way: "a cgroup per run",
            exact: true,
            noise_bytes: Some(machine::error_bound(&machine.facts)),
            below,
            refused,
            remedy: None,
        },
        Some(false) => Method {
            way: "polling the usage of a cgroup per run",
            exact: false,
            noise_bytes: None,
            below,
            refused,
            remedy: Some("use Linux 5.19 or newer, where cgroup v2 keeps a peak".to_owned()),
        },
        None => {
            let step = try_step(machine);
            let (noise_bytes, refusal) = step.map_or((None, None), |step| (step.as_ref().ok().copied(), step.err()));
            let exact = noise_bytes.is_some();
            let remedy = match refusal {
                Some(reason) => {
                    format!("make `srun --overlap true` work in the job; no step could be started: {reason}")
                }
                None => placement.remedy(),
            };
            Method {
                way: if exact { "a step of the Slurm job per run" } else { "sampling the process tree" },
                exact,
                noise_bytes,
                below: None,
                refused,
                remedy: (!exact).then_some(remedy),
            }
        }
    }
}

fn gpu_rows(gpus: Option<&Gpus>, row: &mut impl FnMut(&str, &str)) {
    let Some(Gpus { devices, problems }) = gpus else {
        return row("gpus", "none: NVIDIA's driver with its library was not found");
    };
    if devices.is_empty() && problems.is_empty() {
        row("gpus", "none");
    }
    for problem in problems {
        row("gpus", &format!("unknown: {problem}"));
    }
    for (number, gpu) in devices.iter().enumerate() {
        let memory = gpu.memory.map(|memory| format!(", {memory}")).unwrap_or_default();
        row(if number == 0 { "gpus" } else { "" }, &format!("{} ({}){memory}", gpu.model, gpu.uuid));
        let exactness = match (&gpu.instance_of, gpu.accounting) {
            (Some(device), _) => format!("lower bound (sampled): an instance of {device} (MIG) has no accounting mode"),
            (None, Some(true)) => "exact (the driver's accounting mode is on)".to_owned(),
            (None, Some(false)) => "lower bound (sampled): the driver's accounting mode is off".to_owned(),
            (None, None) => "lower bound (sampled): the driver has no accounting mode for it".to_owned(),
        };
        row("", &exactness);
        if gpu.accounting == Some(false) {
            row(
                "",
                &format!(
                    "to get the exact peak of each process, also of short ones: `nvidia-smi -i {} -am 1` as root; it holds for \
                     the whole machine, until the driver is unloaded",
                    gpu.uuid
                ),
            );
        }
    }
}

fn engines() -> Result<Vec<Engine>, std::io::Error> {
    let (addresses, broken) = engine::addresses();
    let broken = broken.map(|error| {
        let address = Address { url: "-".to_owned(), origin: "docker context".to_owned() };
        Engine { address, answer: Answer::Unreachable { reason: one_line(&error) } }
    });
    let answers = engine::ask_all(&addresses)?;
    let asked = addresses.into_iter().zip(answers).map(|(address, answer)| Engine { address, answer });
    Ok(broken.into_iter().chain(asked).collect())
}

fn table(findings: &Findings) -> String {
    let width = output::width_of_stdout().map_or(100, usize::from);
    let mut text = String::new();
    let mut row = |name: &str, value: &str| wrapped(&mut text, &format!("{name:<18}"), &printable(value), width);
    let host = &findings.host;
    row("kernel", &format!("Linux {} on {}, {} CPUs", host.kernel, host.architecture, host.cpus));
    row("memory", &format!("{}, {} available, {} swap", host.memory_bytes, findings.available_bytes, host.swap_bytes));
    let version = match host.cgroup {
        Some(CgroupVersion::V1) => "cgroup v1 (memory.max_usage_in_bytes)",
        Some(CgroupVersion::V2) => "cgroup v2 (memory.peak)",
        None => "none",
    };
    row("memory controller", version);
    match &findings.memory_controller {
        MemoryController { mount_point: Some(mount_point), read_only, .. } => {
            let mode = if *read_only == Some(true) { ", read-only" } else { "" };
            row("", &format!("mounted at {mount_point}{mode}"));
        }
        MemoryController { problem, .. } => row("", problem.as_deref().unwrap_or("not found")),
    }
    let process = &findings.process_runner;
    row("commands", process.way);
    match process.noise_bytes {
        Some(noise) => row("", &format!("exact (never too low, at most {noise} too high)")),
        None => row("", "lower bound (peaks between two samples are missed)"),
    }
    if let Some(below) = &process.below {
        row("", &format!("created below {below}"));
    }
    for Refused { cgroup, reason } in &process.refused {
        row("", &format!("cannot use {cgroup}: {reason}"));
    }
    if let Some(remedy) = &process.remedy {
        row("", &format!("to get exact peaks: {remedy}"));
    }
    for (number, engine) in findings.engines.iter().enumerate() {
        let name = if number == 0 { "engines" } else { "" };
        let answer = match &engine.answer {
            Answer::Reachable { engine, api: Some(api) } => format!("{engine}, API {api}"),
            Answer::Reachable { engine, api: None } => engine.clone(),
            Answer::Unreachable { reason } => format!("unreachable: {reason}"),
        };
        row(name, &format!("{} ({}): {answer}", engine.address.url, engine.address.origin));
    }
    gpu_rows(findings.gpus.as_ref(), &mut row);
    text
}
