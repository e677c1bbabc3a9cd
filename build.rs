//! Builds the probe that is put into containers and steps of batch jobs: the C library alone, linked statically so that it
//! runs in images without a C library. Where it cannot be linked, highwater is built without it and says so when asked.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "src/runner/probe/program.rs";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=src/runner/probe/program");
    println!("cargo::rerun-if-changed=build.rs");
    let folder = env::var("OUT_DIR").map_err(io::Error::other)?;
    let probe = Path::new(&folder).join("probe");
    if let Err(reason) = build(&probe) {
        println!(
            "cargo::warning=built without the probe for containers and steps of Slurm (is a static libc there?): {reason}"
        );
        fs::write(&probe, [])?;
    }
    Ok(())
}

fn build(probe: &Path) -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(["--crate-name", "probe", "--edition", "2024", "--crate-type", "bin", "--target", &variable("TARGET")?]);
    for option in [
        "opt-level=z",
        "lto=fat",
        "panic=abort",
        "strip=symbols",
        "target-feature=+crt-static",
        "relocation-model=static",
    ] {
        rustc.args(["-C", option]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    let output = rustc.arg("-o").arg(probe).arg(SOURCE).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(errors.lines().find(|line| line.starts_with("error")).unwrap_or("rustc failed").to_owned())
}
