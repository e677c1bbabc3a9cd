//! The batch job that this process is part of.

use std::env;

use crate::model::observation::Batch;

/// The job, as its batch system describes it in the environment.
pub fn current() -> Option<Batch> {
    slurm(|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

fn slurm(variable: impl Fn(&str) -> Option<String>) -> Option<Batch> {
    let number = |name: &str| variable(name)?.parse().ok();
    let job = variable("SLURM_ARRAY_JOB_ID").or_else(|| variable("SLURM_JOB_ID"))?;
    Some(Batch { restarts: number("SLURM_RESTART_COUNT"), ..Batch::slurm(job, number("SLURM_ARRAY_TASK_ID")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Batch> {
        slurm(|name| Some(variables.iter().find(|(known, _)| *known == name)?.1.to_owned()))
    }

    #[test]
    fn a_task_of_an_array_has_the_job_of_the_array() {
        let task = [("SLURM_JOB_ID", "13"), ("SLURM_ARRAY_JOB_ID", "12"), ("SLURM_ARRAY_TASK_ID", "1")];
        assert_eq!(of(&task), Some(Batch::slurm("12", Some(1))));
        assert_eq!(of(&task[..1]), Some(Batch::slurm("13", None)));
        assert_eq!(of(&[("SLURM_RESTART_COUNT", "1")]), None);
    }

    #[test]
    fn restarts_are_counted() {
        let batch = of(&[("SLURM_JOB_ID", "13"), ("SLURM_RESTART_COUNT", "2")]);
        assert_eq!(batch.and_then(|batch| batch.restarts), Some(2));
    }
}
