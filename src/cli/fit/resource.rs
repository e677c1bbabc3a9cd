//! `fit --on time|cpu|gpu|all`: rules for the other resources of the same runs.

use highwater::calibrate::fit::{Group, Metric, ResourceFit, calibrate, fit_resource};
use highwater::model::fit::{Resource, unit_of_size};
use highwater::model::units::Bytes;
use highwater::report::emit::{Consumer, emit_resource};

use super::FitArgs;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::run::Format;
use crate::cli::summary::push_row;
use crate::cli::table::{paragraph, printable, table};

pub(super) fn run(args: &FitArgs) -> Result<Exit, Failure> {
    check_options(args)?;
    let metrics = args.runs.metrics(&args.predictor);
    let is_one = metrics.len() == 1;
    let mut fitted = Vec::new();
    for metric in metrics {
        match fit_one(args, metric) {
            Ok(one) => fitted.push((metric.resource(), one)),
            // The others are worth having without it.
            Err(failure) if !is_one => failure.warn(),
            Err(failure) => return Err(failure),
        }
    }
    if fitted.is_empty() {
        return Err(Failure::new(Exit::TooLittleData, "no rule was found for any resource", None));
    }
    match (args.emit, args.format) {
        (Some(_), _) => output::text(&declared(&fitted))?,
        (None, Format::Table) => {
            let texts: Vec<&str> = fitted.iter().map(|(_, one)| one.text.as_str()).collect();
            output::text(&texts.join("\n"))?;
        }
        // An array of tasks for one resource; for all, an object with such an array for each.
        (None, Format::Json) if is_one => output::json(&fitted.first().map(|(_, one)| &one.json))?,
        (None, Format::Json) => {
            let all = fitted.into_iter().map(|(resource, one)| (resource.to_string(), one.json));
            output::json(&all.collect::<serde_json::Map<_, _>>())?;
        }
    }
    Ok(Exit::Done)
}

/// The rules for one resource.
struct Fitted {
    /// The table, or the declaration with --emit.
    text: String,
    json: serde_json::Value,
}

/// The declarations one after the other; PLATO's element for memory has the cores as well.
fn declared(fitted: &[(Resource, Fitted)]) -> String {
    const ONE: &str = "<cpu>1</cpu>";
    let text = |of: Resource| fitted.iter().find(|(resource, _)| *resource == of).map(|(_, one)| one.text.as_str());
    let cores = text(Resource::Cpu).and_then(|text| text.lines().find(|line| line.starts_with("<cpu>")));
    let cores = cores.filter(|_| text(Resource::Memory).is_some_and(|memory| memory.contains(ONE)));
    let Some(cores) = cores else { return fitted.iter().map(|(_, one)| one.text.as_str()).collect() };
    let others = fitted.iter().filter(|(resource, _)| *resource != Resource::Cpu);
    others.map(|(_, one)| one.text.replace(ONE, cores)).collect()
}

fn fit_one(args: &FitArgs, metric: Metric) -> Result<Fitted, Failure> {
    let groups = args.runs.read_metric(metric, &args.predictor)?;
    let resource = metric.resource();
    if resource == Resource::Memory {
        let results = super::fitted(&groups, |group| calibrate(group, &args.calibration_options(group, None, None)))?;
        let text = match args.emit {
            Some(consumer) => {
                super::check_emitted(&results, args.force)?;
                super::emitted(super::only_one(&results)?, consumer.consumer(), None)?
            }
            None => super::table::render(&results, None),
        };
        return Ok(Fitted { text, json: super::json(&results)? });
    }
    let options = args.options.fit_options_for(resource);
    let results = super::fitted(&groups, |group| fit_resource(group, &options, &args.for_size))?;
    let text = match args.emit {
        Some(consumer) => declaration(&results, consumer.consumer())?,
        None => render(&results),
    };
    Ok(Fitted { text, json: super::json(&results)? })
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
    let help = format!("remove {option}, or fit memory with --on peak");
    Err(Failure::new(Exit::Usage, format!("{option} applies only to memory"), Some(help)))
}

/// The amounts in the syntax of another program; warnings go to stderr.
fn declaration(results: &[(&Group, ResourceFit)], consumer: Consumer) -> Result<String, Failure> {
    let mut texts = String::new();
    for (group, fit) in results {
        fit.warnings
            .iter()
            .for_each(|warning| output::say(&printable(&format!("warning: {}: {warning}", fit.resource))));
        let Some(amount) = fit.amounts.iter().max_by_key(|amount| amount.n) else { continue };
        let task = group.name().map_or_else(String::new, |name| format!("{name}: "));
        let inputs = match &group.parameter {
            Some(name) => format!("{name} = {}", amount.n.0),
            None => format!("inputs of up to {}", amount.n),
        };
        let purpose = format!("{task}{} for {inputs}", fit.resource);
        let text = emit_resource(consumer, fit.resource, amount.limit, amount.typical, &purpose)
            .ok_or_else(|| no_setting(consumer, fit.resource))?;
        texts.push_str(&text);
    }
    Ok(texts)
}

fn no_setting(consumer: Consumer, resource: Resource) -> Failure {
    let error = format!("{} has no setting for {resource}", consumer.name());
    let help = "those that have one: for time and storage slurm, nextflow, snakemake and kubernetes, for time also \
                kaapana-operator; for cpu slurm, nextflow, snakemake, kubernetes and plato; for gpu kaapana-operator";
    Failure::new(Exit::Usage, error, Some(help.to_owned()))
}

/// Renders one task in full, several as a table.
fn render(results: &[(&Group, ResourceFit)]) -> String {
    match results {
        [] => String::new(),
        [(group, only)] => render_task(group, only),
        several => overview(several),
    }
}

fn render_task(group: &Group, fitted: &ResourceFit) -> String {
    let ResourceFit { resource, fit, inputs, held_out, .. } = fitted;
    let mut rows: Vec<(&str, String)> = Vec::new();
    rows.extend(group.name().map(|name| ("task", name)));
    let limit = match resource {
        Resource::Cpu => "most",
        Resource::Memory | Resource::Time | Resource::Gpu | Resource::Storage => "limit",
    };
    let (unit, n) = unit_of_n(group, inputs.largest, &fit.predictor);
    let where_n = if fit.rule.exponent > 0 { format!("   where n is {n}") } else { String::new() };
    rows.push((limit, resource.describe_rule(&fit.rule, unit) + &where_n));
    rows.push(("typical", resource.describe_rule(&fit.request, unit)));
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
            "limit/used {:.2} on average, {:.2} to {:.2}; {:.0} of 1000 further runs {}",
            held_out.mean_ratio,
            held_out.smallest_ratio,
            held_out.largest_ratio,
            held_out.failures_per_1000,
            match resource {
                Resource::Cpu => "use more",
                Resource::Storage => "write more",
                Resource::Memory | Resource::Time | Resource::Gpu => "fail at first",
            }
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
    let mut text = paragraph(title(*resource));
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
    let Some(resource) = results.first().map(|(_, fitted)| fitted.resource) else { return String::new() };
    let above = if resource == Resource::Cpu { ">more/1000" } else { ">failures/1000" };
    let header = ["task", ">largest input", ">limit", ">typical", ">inputs", ">limit/used", above];
    let title = title(resource);
    let mut text = paragraph(title) + &table(&header, rows.collect());
    for (group, fitted) in results {
        let name = group.name().unwrap_or_default();
        text.extend(fitted.warnings.iter().map(|warning| paragraph(&format!("{name}: {warning}"))));
    }
    text
}

const fn title(resource: Resource) -> &'static str {
    match resource {
        Resource::Memory => "memory",
        Resource::Time => "time: wall time; a run that times out has wasted all of it",
        Resource::Cpu => "cpu: CPU time divided by wall time, over whole runs",
        Resource::Gpu => "gpu: memory on the GPU on which a run had most",
        Resource::Storage => {
            "storage: files in outputs and the writable layer at the end of runs; those removed before are not counted"
        }
    }
}

/// The unit of n in the text of a rule, in bytes, and n in words.
fn unit_of_n(group: &Group, largest: Bytes, predictor: &str) -> (f64, String) {
    if group.parameter.is_some() {
        return (1.0, predictor.to_owned());
    }
    let (name, unit) = unit_of_size(largest);
    (unit, format!("{predictor}, in {name}"))
}
