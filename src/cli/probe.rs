//! `highwater probe`: writes the probe, for the commands of production runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use highwater::calibrate::failure::Failed;
use highwater::runner::probe;

use super::exit::Exit;
use super::failure::Failure;
use super::{output, output_file};

const EXAMPLES: &str = "\
Examples:
  highwater probe /opt/highwater/probe        an executable file, for a shared directory or an image
  highwater probe --config-map highwater | kubectl apply --server-side -f -
                                              a ConfigMap with the file `probe`

The probe is statically linked and needs nothing in an image. In front of a command, it writes the peak to a file when \
the command has ended, and ends as the command does:

  probe RESULT [TIMEOUT_MS KILL_AFTER_MS] -- COMMAND [ARGUMENT …]

It has the architecture of this machine. `highwater collect` makes records of the results.";

/// Write the probe that measures production runs, as a file or a ConfigMap.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ProbeArgs {
    /// File to write; an existing one is replaced.
    #[arg(value_name = "FILE", required_unless_present = "config_map")]
    file: Option<PathBuf>,
    /// Write a ConfigMap of this name to stdout instead, as JSON.
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    config_map: Option<String>,
}

pub(crate) fn run(args: &ProbeArgs) -> Result<Exit, Failure> {
    let program = probe::program().map_err(|reason| Failure::new(Exit::Host, reason, None))?;
    if let Some(path) = &args.file {
        output_file::write(path, program)?;
        make_executable(path)?;
    }
    if let Some(name) = &args.config_map {
        output::json(&serde_json::json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "binaryData": {"probe": BASE64_STANDARD.encode(program)},
        }))?;
    }
    Ok(Exit::Done)
}

fn make_executable(path: &Path) -> Result<(), Failure> {
    let failed =
        |source| Failure::new(Exit::Host, Failed::to(format!("make {} executable", path.display()), source), None);
    let found = fs::metadata(path).map_err(failed)?;
    // A pipe has no mode.
    if found.is_file() {
        fs::set_permissions(path, Permissions::from_mode(found.permissions().mode() | 0o111)).map_err(failed)?;
    }
    Ok(())
}
