//! A function for Snakemake's `resources: mem_mb=mem_mb`, and a profile with expressions that do the same. A megabyte of
//! Snakemake has 1,000,000 bytes.

use std::fmt::Write;

use crate::model::escape::json;
use crate::model::fit::{Declaration, FittedTask, Form, Growth, WorkflowTask};
use crate::model::rule::Mode;

use super::workflow::{LEFT_ALONE, basis, heading, left_alone};
use super::{identifier, plain, units, words};

/// A function of the wildcards, the input and the attempt; a retried rule gets twice as much.
pub(super) fn emit(declaration: &Declaration) -> String {
    let base = declaration.limit.base.0;
    let mut text = String::new();
    let task = declaration.task.as_deref().map_or_else(String::new, |task| format!("{task}: "));
    let heading = plain(&format!("{task}{}", declaration.limit));
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

/// A profile with the memory of each rule.
pub(super) fn profile(tasks: &[WorkflowTask]) -> String {
    let mut text = String::new();
    heading(tasks).iter().for_each(|line| text.push_str(&comment("", line)));
    text.push_str(&comment("", "use: config.yaml in DIRECTORY, snakemake --workflow-profile DIRECTORY --retries 2"));
    text.push_str("set-resources:\n");
    for (task, fitted) in tasks.iter().filter_map(|task| Some((task, task.fitted()?))) {
        text.push_str(&entry(task, fitted));
    }
    let left_alone = left_alone(tasks);
    if !left_alone.is_empty() {
        text.push_str(&comment("", LEFT_ALONE));
        left_alone.iter().for_each(|line| text.push_str(&comment("", &format!("  {line}"))));
    }
    text
}

fn entry(task: &WorkflowTask, fitted: &FittedTask) -> String {
    let mut text = comment("  ", &basis(fitted));
    fitted.warnings.iter().for_each(|warning| text.push_str(&comment("  ", &format!("warning: {warning}"))));
    fitted.declaration.limit.growth.iter().for_each(|growth| text.push_str(&comment("  ", &counted(growth))));
    let expression = quoted(&expression(&fitted.declaration));
    let _ = write!(text, "  {}:\n    mem_mb: {expression}\n", quoted(&task.task));
    text
}

fn comment(indent: &str, text: &str) -> String {
    format!("{indent}# {}\n", plain(text))
}

/// Whether a rule of Snakemake can have this name.
pub(super) fn is_rule_name(name: &str) -> bool {
    let is_part = |char: char| char == '_' || char.is_alphanumeric();
    name.chars().all(is_part) && name.chars().next().is_some_and(|first| !first.is_numeric())
}

/// The same as the function, in one expression. A file that is not there yet is an error that Snakemake knows: it
/// evaluates the expression again later. Without that, the file would count as empty.
fn expression(declaration: &Declaration) -> String {
    let base = declaration.limit.base;
    let several = declaration.limit.growth.len() > 1;
    let parts = declaration.limit.growth.iter().enumerate().map(|(place, growth)| {
        let paths = match several {
            true => format!("([{0}] if isinstance({0}, str) else {0})", format!("input.{}", identifier(growth, place))),
            false => "input".to_owned(),
        };
        let power = if growth.exponent == 1 { String::new() } else { format!(" ** {}", growth.exponent) };
        format!("__import__('math').ceil({} * {}{power})", growth.coefficient, size_of(growth, &paths))
    });
    let parts: Vec<String> = parts.collect();
    let needed = match (declaration.limit.form, parts.as_slice()) {
        (_, []) => return format!("{} * 2 ** (attempt - 1)", units(base, 1_000_000)),
        (Form::Max, parts) => format!("max({}, {})", base.0, parts.join(", ")),
        (Form::Sum, [only]) => format!("({} + {only})", base.0),
        (Form::Sum, parts) => format!("({} + max({}))", base.0, parts.join(", ")),
    };
    format!("-(-{needed} // 1000000) * 2 ** (attempt - 1)")
}

/// The value of n as an expression over paths.
fn size_of(growth: &Growth, paths: &str) -> String {
    let pattern = growth.measure.target_glob.as_deref();
    // Snakemake replaces variables of the environment in expressions.
    let pattern = pattern.map(|glob| quoted(glob).replace('$', "\\x24"));
    let inside = pattern.as_deref().unwrap_or("'*'");
    let single =
        pattern.as_ref().map_or_else(|| "[p]".to_owned(), |glob| format!("[q for q in [p] if q.match({glob})]"));
    let files = format!("([f for f in p.rglob({inside}) if f.is_file()] if p.is_dir() else {single})");
    let all = format!("for p in map(__import__('pathlib').Path, {paths})");
    match growth.measure.mode {
        Mode::Sum => format!("sum(f.stat().st_size {all} for f in {files})"),
        Mode::MaxFileSize => format!("max((f.stat().st_size {all} for f in {files}), default=0)"),
        Mode::MaxItemSum => format!("max((sum(f.stat().st_size for f in {files}) {all}), default=0)"),
    }
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

/// A string of Python, which is also one of YAML.
fn quoted(text: &str) -> String {
    json(&serde_json::Value::from(text).to_string())
}
