//! Sweeps a command across sizes, fits a rule to the peaks, and checks a budget, through the library alone.

#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::error::Error;

use highwater::calibrate::check::{Bench, CheckOptions};
use highwater::calibrate::fit::{FitOptions, Metric, fit_group, group_records};
use highwater::calibrate::monitor::Never;
use highwater::model::check::config::Config;
use highwater::store::Source;
use highwater::{Bytes, Machine, Runnable, Spec, Sweep, SweepOptions, SweepSettings};

fn main() -> Result<(), Box<dyn Error>> {
    let (machine, folder) = (Machine::read(Default::default())?, tempfile::tempdir()?);
    let command = ["sort", "-o", "/dev/null", "{input}"].map(Into::into).to_vec();
    let mut options = SweepOptions::new(Spec::new(Runnable::Command, command));
    options.size = [4, 8, 16, 32].map(Bytes::mib).to_vec();
    options.into = Some(folder.path().join("sort"));
    let sweep = Sweep::plan(&options, &SweepSettings::default(), &())?;
    let records = sweep.run(&machine, &mut Never::new()?, &mut (), &())?.records;

    let mut observations = Vec::new();
    Source::open(&records)?.each(|observation| observations.push(observation))?;
    for group in group_records(&observations, Metric::default(), false) {
        let fit = fit_group(&group, &FitOptions::default())?;
        println!("limit: {}, where n is {}", fit.rule, fit.predictor);
    }

    // Without a baseline, the budget alone decides.
    let toml = "thresholds.no-baseline = \"ignore\"\n[tasks.list]\ncommand = [\"ls\", \"/\"]\nbudget = \"64MiB\"\n";
    let config = Config::parse("highwater.toml", toml)?;
    let mut bench = Bench::new(&config, |_| true, &CheckOptions::default(), &machine, &())?;
    let judgement = bench.check(&config, None, &mut Never::new()?, |_| Ok(()))?;
    println!("check: {:?}", judgement.report.verdict);
    Ok(())
}
