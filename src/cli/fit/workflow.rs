//! `fit --all`: the limits of all tasks of a workflow.

use std::collections::BTreeSet;

use highwater::calibrate::fit::{CalibrationOptions, Target, calibrate_workflow};
use highwater::model::fit::{TaskOutcome, WorkflowTask};
use highwater::model::rule::Dialect;
use highwater::report::emit::{Consumer, WorkflowEngine};

use super::FitArgs;
use super::write::File;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::run::Format;
use crate::cli::table::{paragraph, printable, table};

pub(super) fn run(args: &FitArgs) -> Result<Exit, Failure> {
    let engine = args.emit.map(|emit| engine(emit.consumer())).transpose()?;
    let file = args.write.as_deref().map(|path| File::read(path, args)).transpose()?;
    let groups = args.runs.read_all(&args.more)?;
    let options = CalibrationOptions {
        fit: args.options.fit_options(),
        dialect: Dialect::Complexity,
        target: Target::Docker,
        against: None,
        for_sizes: &[],
    };
    let mut tasks = calibrate_workflow(&groups, &options, args.force);
    if let Some(engine) = engine {
        tasks = tasks.into_iter().map(|task| selectable(task, engine)).collect();
        if engine == WorkflowEngine::Nextflow {
            tasks = without_ambiguous(tasks);
        }
    }
    let is_any_fitted = tasks.iter().any(|task| task.fitted().is_some());
    match (engine.filter(|_| is_any_fitted), &args.output) {
        (Some(engine), None) => {
            left_alone(&tasks).iter().for_each(|[task, reason]| output::say(&printable(&format!("{task}: {reason}"))));
            output::data(&engine.configuration(&tasks))?;
        }
        (Some(engine), Some(path)) => {
            output::data_to(Some(path), &engine.configuration(&tasks))?;
            output::text(&render(&tasks))?;
        }
        (None, _) if args.format == Format::Json => output::json(&tasks)?,
        (None, _) => output::text(&render(&tasks))?,
    }
    if is_any_fitted {
        if let Some(file) = &file {
            if tasks.iter().any(|task| task.fitted().is_some_and(|fitted| fitted.lower_bound)) {
                output::say(
                    "note: some limits are fitted to sampled peaks, which are lower bounds: containers may need more",
                );
            }
            let limit = |task: &WorkflowTask| task.fitted().map(|fitted| fitted.declaration.fixed.limit);
            let needs = tasks.iter().map(|task| (task.task.clone(), limit(task)));
            let diff = file.write_needs(args, &needs.collect::<Vec<_>>())?;
            match args.format {
                Format::Json => output::say(&diff),
                Format::Table => output::text(&format!("\n{diff}"))?,
            }
        }
        return Ok(Exit::Done);
    }
    let of_tasks = if tasks.len() == 1 { "the only task" } else { &format!("any of the {} tasks", tasks.len()) };
    let error = format!("not enough data for a limit of {of_tasks}");
    let help = "a limit takes at least three successful runs of a task".to_owned();
    Err(Failure::new(Exit::TooLittleData, error, Some(help)))
}

/// Leaves a process alone whose name also selects one of a subworkflow that is left alone: to Nextflow, `SORT` is
/// `LAB:SORT`, too.
fn without_ambiguous(tasks: Vec<WorkflowTask>) -> Vec<WorkflowTask> {
    let simple = |task: &WorkflowTask| Some(task.task.rsplit_once(':')?.1.to_owned());
    let left: BTreeSet<String> = tasks.iter().filter(|task| task.fitted().is_none()).filter_map(simple).collect();
    let is_ambiguous = |task: &WorkflowTask| task.fitted().is_some() && left.contains(&task.task);
    let decided = |task: WorkflowTask| match is_ambiguous(&task) {
        true => task.left_alone("its name also selects a process of a subworkflow that is left alone".to_owned()),
        false => task,
    };
    tasks.into_iter().map(decided).collect()
}

/// The engine that reads a configuration of all tasks.
fn engine(consumer: Consumer) -> Result<WorkflowEngine, Failure> {
    consumer.workflow_engine().ok_or_else(|| {
        let error = format!("{} has no configuration of a whole workflow", consumer.name());
        let help = "expected --emit nextflow or snakemake; for others, select a task with --task instead of --all";
        Failure::new(Exit::Usage, error, Some(help.to_owned()))
    })
}

/// Leaves a task alone that the engine cannot select.
fn selectable(task: WorkflowTask, engine: WorkflowEngine) -> WorkflowTask {
    if task.fitted().is_none() || engine.can_select(&task.task) {
        return task;
    }
    task.left_alone(format!("not a name that {} can select", engine.name()))
}

fn left_alone(tasks: &[WorkflowTask]) -> Vec<[&str; 2]> {
    let mut rows = Vec::new();
    for task in tasks {
        if let TaskOutcome::LeftAlone { reason } = &task.outcome {
            rows.push([task.task.as_str(), reason.as_str()]);
        }
    }
    rows
}

fn render(tasks: &[WorkflowTask]) -> String {
    let fitted = || tasks.iter().filter_map(|task| Some((task, task.fitted()?)));
    let rows = fitted().map(|(task, fitted)| {
        let at_least = if fitted.lower_bound { "at least " } else { "" };
        let limit = format!("{at_least}{}", fitted.declaration.limit);
        let runs = if fitted.fitted == task.runs {
            task.runs.to_string()
        } else {
            format!("{} of {}", fitted.fitted, task.runs)
        };
        let coverage = fitted.coverage.map(|content| format!("{:.0} %", (100.0 * content).floor()));
        let coverage = coverage.unwrap_or_else(|| "unknown".to_owned());
        vec![
            task.task.clone(),
            limit,
            runs,
            format!("{}{:.0}", if fitted.lower_bound { "≥ " } else { "" }, fitted.failures_per_1000),
            coverage,
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let mut text = String::new();
    if !rows.is_empty() {
        text.push_str(&table(&["task", "limit", ">runs", ">failures/1000", ">coverage"], rows));
        text.push('\n');
    }
    if fitted().any(|(_, fitted)| fitted.lower_bound) {
        text.push_str(&paragraph("at least: fitted to sampled peaks, which are lower bounds; the need may be higher"));
    }
    if fitted().next().is_some() {
        text.push_str(&paragraph("failures/1000: further runs that fail at first, judged by runs that were held out"));
        text.push_str(&paragraph("coverage: at least this share of further runs fits, with 95 % confidence"));
    }
    let warnings = fitted().flat_map(|(task, fitted)| fitted.warnings.iter().map(|one| (&task.task, one)));
    let warnings: String = warnings.map(|(task, warning)| paragraph(&format!("{task}: {warning}"))).collect();
    if !warnings.is_empty() {
        text.push_str(&format!("\nwarnings:\n{warnings}"));
    }
    let left_alone = left_alone(tasks);
    if !left_alone.is_empty() {
        let rows = left_alone.into_iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        text.push('\n');
        text.push_str(&table(&["left alone", "because"], rows));
    }
    text
}
