//! `fit --on time|cpu|all`: rules for the other resources of the same runs.

use highwater::calibrate::fit::{Group, ResourceFit, calibrate, fit_resource};
use highwater::model::fit::{Documented, FittedRule, Form, Resource};
use highwater::model::units::Bytes;
use highwater::report::emit::{Consumer, emit as emit_memory, emit_resource};

use super::FitArgs;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::run::Format;
use crate::cli::summary::push_row;
use crate::cli::table::{printable, table};

pub(super) fn run(args: &FitArgs) -> Result<Exit, Failure> {
    check_options(args)?;
    let mut json = serde_json::Map::new();
    let (mut text, mut emitted) = (String::new(), String::new());
    let metrics = args.runs.metrics();
    for metric in &metrics {
        let resource = metric.resource();
        let groups = args.runs.read_metric(*metric, &args.predictor)?;
        let value = if resource == Resource::Memory {
            let results =
                super::fitted(&groups, |group| calibrate(group, &args.calibration_options(group, None, None)))?;
            if let Some(emit) = args.emit {
                let declaration = &super::only_one(&results)?.declaration;
                emitted.push_str(&emit_memory(emit.consumer(), declaration, &Documented::default()));
            }
            text.push_str(&super::table::render(&results, None));
            super::json(&results)?
        } else {
            let options = args.options.fit_options_for(resource);
            let results = super::fitted(&groups, |group| fit_resource(group, &options, &args.for_size))?;
            if let Some(emit) = args.emit {
                emitted.push_str(&emitted_by(&results, emit.consumer())?);
            }
            text.push_str(if text.is_empty() { "" } else { "\n" });
            text.push_str(&render(&results));
            super::json(&results)?
        };
        json.insert(resource.to_string(), value);
    }
    match (args.emit, args.format) {
        (Some(_), _) => output::text(&emitted)?,
        (None, Format::Table) => output::text(&text)?,
        (None, Format::Json) if metrics.len() == 1 => output::json(&json.into_iter().next().map(|(_, value)| value))?,
        (None, Format::Json) => output::json(&json)?,
    }
    Ok(Exit::Done)
}

/// Refuses what is about memory alone.
fn check_options(args: &FitArgs) -> Result<(), Failure> {
    let refused = [
        (args.write.is_some(), "--write"),
        (args.against.is_some(), "--against"),
        (args.all, "--all"),
        (args.target_dir.is_some(), "--target-dir"),
    ];
    let Some((_, option)) = refused.into_iter().find(|(is_given, _)| *is_given) else { return Ok(()) };
    let help = "leave out --on, or leave out this option and use --emit".to_owned();
    Err(Failure::new(Exit::Usage, format!("{option} is for memory alone, not for --on time, cpu or all"), Some(help)))
}

/// The amounts in the syntax of another program.
fn emitted_by(results: &[(&Group, ResourceFit)], consumer: Consumer) -> Result<String, Failure> {
    let mut texts = String::new();
    for (group, fit) in results {
        let Some(amount) = fit.amounts.iter().max_by_key(|amount| amount.n) else { continue };
        let of = group.name().map_or_else(String::new, |name| format!("{name}: "));
        let what = match &group.parameter {
            Some(name) => format!("{name} = {}", amount.n.0),
            None => format!("inputs of up to {}", amount.n),
        };
        let purpose = printable(&format!("{of}{} for {what}", fit.resource));
        let text = emit_resource(consumer, fit.resource, amount.limit, amount.typical, &purpose)
            .ok_or_else(|| without_setting(consumer, fit.resource))?;
        texts.push_str(&text);
    }
    Ok(texts)
}

fn without_setting(consumer: Consumer, resource: Resource) -> Failure {
    let error = format!("{} has no setting for {resource}", consumer.name());
    let help = "use --emit slurm, nextflow, snakemake or kubernetes, or --format json".to_owned();
    Failure::new(Exit::Usage, error, Some(help))
}

/// Renders one task in full, several as a table.
fn render(results: &[(&Group, ResourceFit)]) -> String {
    match results {
        [] => String::new(),
        [(group, only)] => one(group, only),
        several => overview(several),
    }
}

fn one(group: &Group, fitted: &ResourceFit) -> String {
    let ResourceFit { resource, fit, inputs, held_out, .. } = fitted;
    let mut rows: Vec<(&str, String)> = Vec::new();
    rows.extend(group.name().map(|name| ("task", name)));
    let limit = match resource {
        Resource::Cpu => "most",
        Resource::Memory | Resource::Time => "limit",
    };
    let (unit, n) = unit_of_n(group, inputs.largest, &fit.predictor);
    let where_n = if fit.rule.exponent > 0 { format!("   where n is {n}") } else { String::new() };
    rows.push((limit, rule(&fit.rule, *resource, unit) + &where_n));
    rows.push(("typical", rule(&fit.request, *resource, unit)));
    let reach = match fitted.enough_for {
        Some(reach) => format!("enough for inputs up to {}", group.describe_n(reach.limit)),
        None => "unknown".to_owned(),
    };
    rows.push(("reach", format!("{reach}; the largest measured is {}", group.describe_n(inputs.largest))));
    let timed_out = match inputs.timed_out {
        0 => String::new(),
        count => format!(", {count} of them timed out"),
    };
    let range = [inputs.smallest, inputs.largest].map(|n| group.describe_n(n)).join(" to ");
    rows.push(("fitted to", format!("{} runs{timed_out}, {} inputs of {range}", inputs.runs, inputs.distinct)));
    rows.push((
        "held out",
        format!(
            "limit/used {:.2} on average, {:.2} to {:.2}; {:.0} of 1000 further runs fail at first",
            held_out.mean_ratio, held_out.smallest_ratio, held_out.largest_ratio, held_out.failures_per_1000
        ),
    ));
    let coverage = (100.0 * fitted.coverage).floor();
    rows.push(("headroom", format!("at least {coverage:.0} % of further inputs fit, with 95 % confidence")));
    for amount in &fitted.amounts {
        let what = match &group.parameter {
            Some(name) => format!("{name} = {}", amount.n.0),
            None => format!("input of {}", amount.n),
        };
        let [limit, typical] = [fit.rule, fit.request].map(|rule| resource.describe(rule.limit(amount.n)));
        rows.push(("", format!("{what}: {limit}, typically {typical}")));
    }
    rows.extend(fitted.warnings.iter().map(|warning| ("warning", warning.clone())));
    let width = output::width_of_stdout().map_or(100, usize::from);
    let mut text = format!("{}\n", title(*resource));
    for (name, value) in rows {
        push_row(&mut text, name, &printable(&value), width);
    }
    text
}

fn overview(results: &[(&Group, ResourceFit)]) -> String {
    let rows = results.iter().map(|(group, fitted)| {
        let ResourceFit { fit, resource, .. } = fitted;
        let largest = fitted.inputs.largest;
        let [limit, typical] = [fit.rule, fit.request].map(|rule| resource.describe(rule.limit(largest)));
        vec![
            group.name().unwrap_or_default(),
            group.describe_n(largest),
            limit,
            typical,
            fitted.inputs.distinct.to_string(),
            format!("{:.2}", fitted.held_out.mean_ratio),
            format!("{:.0}", fitted.held_out.failures_per_1000),
        ]
    });
    let header = ["task", ">largest input", ">limit", ">typical", ">inputs", ">limit/used", ">failures/1000"];
    let title = results.first().map_or("", |(_, fitted)| title(fitted.resource));
    let mut text = format!("{title}\n{}", table(&header, rows.collect()));
    for (group, fitted) in results {
        let name = group.name().unwrap_or_default();
        fitted
            .warnings
            .iter()
            .for_each(|warning| text.push_str(&format!("{}\n", printable(&format!("{name}: {warning}")))));
    }
    text
}

const fn title(resource: Resource) -> &'static str {
    match resource {
        Resource::Memory => "memory",
        Resource::Time => "time: wall time; a run that times out has wasted all of it",
        Resource::Cpu => "cpu: CPU time divided by wall time, over whole runs",
    }
}

/// The unit of n in the text of a rule, in bytes, and n in words.
fn unit_of_n(group: &Group, largest: Bytes, predictor: &str) -> (f64, String) {
    if group.parameter.is_some() {
        return (1.0, predictor.to_owned());
    }
    let units = [("GiB", Bytes::GIB), ("MiB", Bytes::mib(1)), ("KiB", Bytes(1024)), ("bytes", Bytes(1))];
    let (name, unit) = units.into_iter().find(|(_, unit)| largest >= *unit).unwrap_or(("bytes", Bytes(1)));
    (unit.0 as f64, format!("{predictor}, in {name}"))
}

/// A rule with the unit of the resource: `max(12 s, 3.20 s·n)`.
fn rule(rule: &FittedRule, resource: Resource, unit: f64) -> String {
    let base = resource.describe(rule.base_bytes);
    if rule.exponent == 0 {
        return base;
    }
    let per_unit = rule.coefficient * unit.powi(rule.exponent.cast_signed());
    let growth = if per_unit >= 10.0 { resource.describe(Bytes(per_unit as u64)) } else { small(per_unit, resource) };
    let power = if rule.exponent == 1 { String::new() } else { format!("^{}", rule.exponent) };
    match rule.form {
        Form::Max if rule.base_bytes == Bytes::ZERO => format!("{growth}·n{power}"),
        Form::Max => format!("max({base}, {growth}·n{power})"),
        Form::Sum => format!("{base} + {growth}·n{power}"),
    }
}

fn small(counted: f64, resource: Resource) -> String {
    match resource {
        Resource::Time => format!("{counted:.3} µs"),
        Resource::Memory | Resource::Cpu => format!("{:.1e} {}", resource.in_units(counted), resource.unit()),
    }
}
