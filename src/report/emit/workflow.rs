//! What the configuration of a workflow says of its tasks.

use crate::model::fit::{FittedTask, TaskOutcome, WorkflowTask};

/// Above the tasks that a configuration leaves alone.
pub(super) const LEFT_ALONE: &str = "left alone (too little data):";

/// What the configuration is.
pub(super) fn heading(tasks: &[WorkflowTask]) -> Vec<String> {
    let fitted: Vec<&FittedTask> = tasks.iter().filter_map(WorkflowTask::fitted).collect();
    let mut lines = vec![format!(
        "memory of {} of {} tasks, fitted to recorded runs by highwater; a retried task gets twice as much",
        fitted.len(),
        tasks.len()
    )];
    if fitted.iter().any(|fitted| fitted.lower_bound) {
        lines.push(
            "at least: the peaks were sampled, so they are lower bounds; the need may be higher, and the limit too low"
                .to_owned(),
        );
    }
    lines
}

/// What the limit of a task is based on.
pub(super) fn basis(fitted: &FittedTask) -> String {
    let limit = &fitted.declaration.limit;
    let runs = if fitted.fitted == 1 { "1 run" } else { &format!("{} runs", fitted.fitted) };
    let mut text = match fitted.lower_bound {
        true => format!("at least {limit}: {runs}, sampled peaks"),
        false => format!("{limit}: {runs}"),
    };
    if !fitted.sized {
        text.push_str(", no input sizes");
    }
    if fitted.exceeded > 0 {
        text.push_str(&format!("; {} of them needed more and would be retried", fitted.exceeded));
    }
    text
}

/// The tasks that are left alone, each with the reason.
pub(super) fn left_alone(tasks: &[WorkflowTask]) -> Vec<String> {
    let reason = |task: &WorkflowTask| match &task.outcome {
        TaskOutcome::LeftAlone { reason } => Some(format!("{}: {reason}", task.task)),
        TaskOutcome::Fitted(_) => None,
    };
    tasks.iter().filter_map(reason).collect()
}
