//! Nextflow's `memory` directive, whose `B` is a byte and whose `MB` is 1,048,576 bytes.

use std::fmt::Write;

use crate::model::fit::{Declaration, Form, Growth};
use crate::model::rule::Mode;

use super::{amounts, identifier, plain, units, words};

/// A directive with a closure that is evaluated for each task; a retried task gets twice as much.
pub(super) fn emit(declaration: &Declaration) -> String {
    let base = declaration.limit.base;
    let task = declaration.task.as_deref().map_or_else(String::new, |task| format!("{task}: "));
    let mut text = format!("// {}\n", plain(&format!("{task}{}", amounts(&declaration.limit))));
    if declaration.limit.growth.is_empty() {
        let _ = writeln!(text, "memory {{ {}.MB * 2 ** (task.attempt - 1) }}", units(base, 1 << 20));
        return text;
    }
    let mut body = String::new();
    let mut parts = Vec::new();
    for (place, growth) in declaration.limit.growth.iter().enumerate() {
        let path = identifier(growth, place);
        let n = format!("n{}", if place == 0 { String::new() } else { place.to_string() });
        let _ = writeln!(
            text,
            "// {n}: {} ({}); `{path}` is the name of that path in the process's inputs",
            plain(&growth.measure.to_string()),
            words(growth.measure.mode)
        );
        let _ = writeln!(body, "    def {n} = {}", size(growth, &path));
        let power = vec![n; usize::try_from(growth.exponent).unwrap_or(1)].join(" * ");
        parts.push(format!("Math.ceil({}d * {power}) as long", growth.coefficient));
    }
    let growth = parts.iter().map(|part| format!("({part})")).reduce(|a, b| format!("Math.max({a}, {b})"));
    let growth = growth.unwrap_or_default();
    let needed = match declaration.limit.form {
        Form::Max => format!("Math.max({}L, {growth})", base.0),
        Form::Sum => format!("{}L + {growth}", base.0),
    };
    let _ = write!(
        text,
        "memory {{\n{body}    def needed = {needed}\n    (needed as MemoryUnit) * 2 ** (task.attempt - 1)\n}}\n"
    );
    text
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
    format!("'glob:{}'", glob.replace('\\', "\\\\").replace('\'', "\\'"))
}
