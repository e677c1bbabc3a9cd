//! The task of the demonstration as its author would declare it, and its inputs.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use highwater::calibrate::resolve::{NoContainer, resolve};
use highwater::model::document::{Document, Source};
use highwater::model::task::Task;
use highwater::model::units::Bytes;
use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;

/// The declared rule: slightly more than the task needs.
pub(crate) const COMPLEXITY: &str = "3.5*n";
/// The declared minimum.
pub(crate) const FLOOR: &str = "32Mi";

/// Builds the task on this input, parsed from a document like any other.
pub(super) fn on(input: &Path) -> Result<Task, Failure> {
    let rule = json!({"complexity": COMPLEXITY, "type": "limit", "mode": "sum"});
    let document = json!({
        "name": "demo",
        "image": "highwater/demo",
        "taskTemplate": {
            "identifier": "demo",
            "description": "Keeps memory in proportion to its input.",
            "inputs": [{"name": "input", "mounted_path": "/input", "scale_rule": rule}],
            "outputs": [],
            "env": [],
            "command": ["highwater", "workload", "/input"],
            "resources": {"limits": {"memory": FLOOR}},
        },
        "inputs": [{"name": "input", "input": {"host_path": input}}],
        "outputs": [],
    });
    let source = Source::plain("the task of the demonstration", format!("{document:#}"));
    let document = Document::task(source).map_err(|flawed| Failure::flawed(&flawed))?;
    let base = input.parent().unwrap_or(input);
    let resolution = resolve(&document, &NoContainer, base).map_err(|error| Failure::new(Exit::Usage, &error, None))?;
    Ok(resolution.task)
}

/// Creates a directory with one file of this size.
pub(super) fn generate(folder: &Path, size: Bytes) -> io::Result<()> {
    std::fs::create_dir(folder)?;
    let mut file = File::create(folder.join("scan.raw"))?;
    let block = vec![0x5a; 1 << 20];
    let mut left = size.0;
    while left > 0 {
        let length = left.min(block.len() as u64);
        file.write_all(block.get(..length as usize).unwrap_or(&block))?;
        left -= length;
    }
    Ok(())
}
