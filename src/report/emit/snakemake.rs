//! A function for Snakemake's `resources: mem_mb=mem_mb`, whose megabyte is 1,000,000 bytes.

use std::fmt::Write;

use crate::model::fit::{Declaration, Form, Growth};
use crate::model::rule::Mode;

use super::{amounts, identifier, plain, units, words};

/// A function of the wildcards, the input and the attempt; a retried rule gets twice as much.
pub(super) fn emit(declaration: &Declaration) -> String {
    let base = declaration.limit.base.0;
    let mut text = String::new();
    let task = declaration.task.as_deref().map_or_else(String::new, |task| format!("{task}: "));
    let heading = plain(&format!("{task}{}", amounts(&declaration.limit)));
    if declaration.limit.growth.is_empty() {
        let memory = units(declaration.limit.base, 1_000_000);
        let _ = write!(
            text,
            "# {heading}\ndef mem_mb(wildcards, input, attempt):\n    return {memory} * 2 ** (attempt - 1)\n"
        );
        return text;
    }
    text.push_str("import math\nimport os\nfrom pathlib import Path\n\n\n");
    text.push_str(FILES);
    let _ = write!(text, "# {heading}\ndef mem_mb(wildcards, input, attempt):\n");
    let several = declaration.limit.growth.len() > 1;
    let mut parts = Vec::new();
    for (place, growth) in declaration.limit.growth.iter().enumerate() {
        let name = if several { format!("n_{}", identifier(growth, place)) } else { "n".to_owned() };
        let paths = if several { format!("input.{}", identifier(growth, place)) } else { "input".to_owned() };
        let _ = write!(text, "    # {}\n    {name} = {}\n", plain(&counted(growth)), size(growth, &paths));
        let power = if growth.exponent == 1 { name } else { format!("{name} ** {}", growth.exponent) };
        parts.push(format!("math.ceil({} * {power})", growth.coefficient));
    }
    let growth = if let [only] = parts.as_slice() { only.clone() } else { format!("max({})", parts.join(", ")) };
    let needed = match declaration.limit.form {
        Form::Max if several => format!("max({base}, {})", parts.join(", ")),
        Form::Max => format!("max({base}, {growth})"),
        Form::Sum => format!("{base} + {growth}"),
    };
    let _ = write!(text, "    needed = {needed}\n    return -(-needed // 1_000_000) * 2 ** (attempt - 1)\n");
    text
}

/// Snakemake's own `input.size` counts a directory as a few kilobytes.
const FILES: &str = "\
def _files(paths, pattern=\"*\"):
    for path in map(Path, [paths] if isinstance(paths, (str, os.PathLike)) else paths):
        inside = path.rglob(pattern) if path.is_dir() else [path] if path.match(pattern) else []
        yield from (file for file in inside if file.is_file())


";

fn counted(growth: &Growth) -> String {
    format!("n: {} ({})", growth.measure, words(growth.measure.mode))
}

fn size(growth: &Growth, paths: &str) -> String {
    let measure = &growth.measure;
    let pattern = measure.target_glob.as_ref().map_or_else(String::new, |glob| format!(", {}", quoted(glob)));
    let files = format!("_files({paths}{pattern})");
    match measure.mode {
        Mode::Sum => format!("sum(file.stat().st_size for file in {files})"),
        Mode::MaxFileSize => format!("max((file.stat().st_size for file in {files}), default=0)"),
        Mode::MaxItemSum => {
            format!("max((sum(file.stat().st_size for file in _files(item{pattern})) for item in {paths}), default=0)")
        }
    }
}

/// A Python string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
