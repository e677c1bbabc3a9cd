//! Nextflow's `memory` directive, whose `B` is a byte and whose `MB` is 1,048,576 bytes.

use std::fmt::Write;

use crate::model::escape::is_unsafe;
use crate::model::fit::{Declaration, FittedTask, Form, Growth, WorkflowTask};
use crate::model::rule::Mode;

use super::workflow::{LEFT_ALONE, basis, heading, left_alone};
use super::{identifier, plain, units, words};

/// A directive with a closure that is evaluated for each task; a retried task gets twice as much.
pub(super) fn emit(declaration: &Declaration) -> String {
    let task = declaration.task.as_deref().map_or_else(String::new, |task| format!("{task}: "));
    let mut text = comment("", &format!("{task}{}", declaration.limit));
    for input in inputs(declaration) {
        text.push_str(&comment("", &input));
    }
    let _ = writeln!(text, "memory {}", closure(declaration, ""));
    text
}

/// A configuration with a block for each process. Nextflow takes a selector as a regular expression for the qualified
/// name of a process.
pub(super) fn config(tasks: &[WorkflowTask]) -> String {
    let mut text = String::new();
    heading(tasks).iter().for_each(|line| text.push_str(&comment("", line)));
    text.push_str(&comment("", "use: nextflow run … -c FILE; a retry needs errorStrategy 'retry' and maxRetries"));
    let grows = |fitted: &FittedTask| !fitted.declaration.limit.growth.is_empty();
    if tasks.iter().filter_map(WorkflowTask::fitted).any(grows) {
        text.push_str(&comment(
            "",
            "n is the size of an input: check that the process has the input that is named there",
        ));
    }
    text.push_str("process {\n");
    for (task, fitted) in tasks.iter().filter_map(|task| Some((task, task.fitted()?))) {
        text.push_str(&block(task, fitted));
    }
    let left_alone = left_alone(tasks);
    if !left_alone.is_empty() {
        text.push_str(&comment("    ", LEFT_ALONE));
        left_alone.iter().for_each(|line| text.push_str(&comment("    ", &format!("  {line}"))));
    }
    text.push_str("}\n");
    text
}

fn block(task: &WorkflowTask, fitted: &FittedTask) -> String {
    let mut text = comment("    ", &basis(fitted));
    fitted.warnings.iter().for_each(|warning| text.push_str(&comment("    ", &format!("warning: {warning}"))));
    let _ = writeln!(text, "    withName: {} {{", selector(&task.task));
    inputs(&fitted.declaration).iter().for_each(|input| text.push_str(&comment("        ", input)));
    let _ = writeln!(text, "        memory = {}\n    }}", closure(&fitted.declaration, "        "));
    text
}

/// A one-line comment. Groovy reads `\u000a` as the end of a line even there.
fn comment(indent: &str, text: &str) -> String {
    format!("{indent}// {}\n", plain(text).replace("\\u", "\\ u"))
}

/// A regular expression that matches this name, as a Groovy string without interpolation.
fn selector(name: &str) -> String {
    let mut pattern = String::new();
    for char in name.chars() {
        match char {
            _ if is_unsafe(char) => {
                let _ = write!(pattern, "\\x{{{:x}}}", u32::from(char));
            }
            '_' | ':' => pattern.push(char),
            _ if char.is_ascii() && !char.is_ascii_alphanumeric() => pattern.extend(['\\', char]),
            _ => pattern.push(char),
        }
    }
    format!("'{}'", escaped(&pattern))
}

/// What each n counts.
fn inputs(declaration: &Declaration) -> Vec<String> {
    let input = |(place, growth): (usize, &Growth)| {
        format!(
            "{}: {} ({}); replace `{}` with the name of that path in the process's inputs",
            n_of(place),
            growth.measure,
            words(growth.measure.mode),
            identifier(growth, place)
        )
    };
    declaration.limit.growth.iter().enumerate().map(input).collect()
}

fn n_of(place: usize) -> String {
    format!("n{}", if place == 0 { String::new() } else { place.to_string() })
}

/// The amount as a closure; its lines but the first begin with `indent`.
fn closure(declaration: &Declaration, indent: &str) -> String {
    let base = declaration.limit.base;
    if declaration.limit.growth.is_empty() {
        return format!("{{ {}.MB * 2 ** (task.attempt - 1) }}", units(base, 1 << 20));
    }
    let mut body = String::new();
    let mut parts = Vec::new();
    for (place, growth) in declaration.limit.growth.iter().enumerate() {
        let n = n_of(place);
        let _ = writeln!(body, "{indent}    def {n} = {}", size(growth, &identifier(growth, place)));
        let power = vec![n; usize::try_from(growth.exponent).unwrap_or(1)].join(" * ");
        parts.push(format!("Math.ceil({}d * {power}) as long", growth.coefficient));
    }
    let growth = parts.iter().map(|part| format!("({part})")).reduce(|a, b| format!("Math.max({a}, {b})"));
    let growth = growth.unwrap_or_default();
    let needed = match declaration.limit.form {
        Form::Max => format!("Math.max({}L, {growth})", base.0),
        Form::Sum => format!("{}L + {growth}", base.0),
    };
    format!(
        "{{\n{body}{indent}    def needed = {needed}\n{indent}    (needed as MemoryUnit) * 2 ** (task.attempt - 1)\n\
         {indent}}}"
    )
}

/// Nextflow's own `size` counts a directory as a few kilobytes, and a list by its length.
fn size(growth: &Growth, path: &str) -> String {
    let filter = growth.measure.target_glob.as_deref().map_or_else(String::new, |glob| {
        format!(
            ".findAll {{ f -> java.nio.file.FileSystems.default.getPathMatcher({}).matches(f.toPath().fileName) }}",
            quoted(glob)
        )
    });
    let files = |of: &str| {
        let walked = "{ p -> def all = []; p.toFile().isDirectory() ? p.toFile().eachFileRecurse(groovy.io.FileType.FILES) { f -> all << f } : all << p.toFile(); all }";
        format!("[{of}].flatten().collectMany {walked}{filter}")
    };
    match growth.measure.mode {
        Mode::Sum => format!("{}.sum(0L) {{ f -> f.length() }}", files(path)),
        Mode::MaxFileSize => format!("({}.collect {{ f -> f.length() }} + [0L]).max()", files(path)),
        Mode::MaxItemSum => {
            format!(
                "([{path}].flatten().collect {{ item -> {}.sum(0L) {{ f -> f.length() }} }} + [0L]).max()",
                files("item")
            )
        }
    }
}

/// A glob as a Groovy string without interpolation.
fn quoted(glob: &str) -> String {
    format!("'glob:{}'", escaped(glob))
}

/// Text between single quotes of Groovy.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_matches_its_name_only() {
        assert_eq!(selector("LAB:ALIGN:MAP_2"), "'LAB:ALIGN:MAP_2'");
        assert_eq!(selector("!a.b|c$(d)"), r"'\\!a\\.b\\|c\\$\\(d\\)'");
        assert_eq!(selector("it's\n"), r"'it\\\'s\\x{a}'");
        assert_eq!(selector(r"a\u0027"), r"'a\\\\u0027'");
    }

    #[test]
    fn a_comment_ends_with_its_line() {
        assert_eq!(comment("  ", "a\nb\\u000a}"), "  // a b\\ u000a}\n");
    }
}
