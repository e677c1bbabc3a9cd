//! `highwater probe-image`: the image with the probe, for a registry or for nodes.

use std::path::PathBuf;

use clap::Args;
use highwater::runner::pod::PodError;
use highwater::runner::probe;

use super::exit::Exit;
use super::failure::Failure;
use super::{output, output_file};

const EXAMPLES: &str = "\
Examples:
  highwater probe-image -o probe.tar --name registry.example.org/highwater-probe:1
  docker load -i probe.tar && docker push registry.example.org/highwater-probe:1
  ctr --namespace k8s.io images import probe.tar      or without a registry, on each node
  highwater run --on kubernetes --probe-image registry.example.org/highwater-probe:1 --image segment -- ./segment";

/// Write an image with the probe alone, for `--probe-image` on Kubernetes. Needs no container engine.
///
/// The file is an archive as of `docker save`, with the program /probe, statically linked, for the architecture of this
/// machine. The same highwater writes the same bytes.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ProbeImageArgs {
    /// File to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Name of the image [default: highwater-probe:VERSION].
    #[arg(long, value_name = "IMAGE")]
    name: Option<String>,
}

pub(crate) fn run(args: &ProbeImageArgs) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let name = match &args.name {
        // A name without a tag would be lost when the archive is loaded.
        Some(name) if !name.rsplit('/').next().unwrap_or_default().contains(':') => format!("{name}:{version}"),
        Some(name) => name.clone(),
        None => format!("highwater-probe:{version}"),
    };
    let image = probe::image(&name).map_err(|reason| Failure::from_library(PodError::NoProbe { reason }))?;
    output_file::write(&args.output, &image)?;
    output::say(&format!("wrote the image {name} to {}", args.output.display()));
    Ok(Exit::Done)
}
