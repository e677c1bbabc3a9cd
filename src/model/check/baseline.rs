//! The reference of a check: a small JSON file, sorted and reproducible for the same runs, meant to be committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::resource_samples::ResourceSamples;
use super::samples::{Sample, Samples};
use crate::model::byte_order_mark;
use crate::model::escape;
use crate::model::fit::{FittedRule, Form, Resource};
use crate::model::observation::{CgroupVersion, Observation, RunnerKind};
use crate::model::units::Bytes;

/// The version of the file; a reader rejects a higher one and accepts every lower one.
pub const SCHEMA_VERSION: u32 = 1;

/// What tasks needed when their baseline was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The version of highwater that wrote it.
    pub tool_version: String,
    /// By name.
    pub tasks: BTreeMap<String, BaselineTask>,
}

/// What one task needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineTask {
    /// Where it was measured.
    pub host: BaselineHost,
    /// The rule fitted to its runs, if there were enough sizes.
    pub rule: Option<BaselineRule>,
    /// By name.
    pub cells: BTreeMap<String, BaselineCell>,
}

/// The properties of a host and runner that affect a peak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineHost {
    /// The release of the kernel that charged the memory; absent if unknown.
    pub kernel: Option<String>,
    /// The architecture, as in `uname -m`.
    pub architecture: Option<String>,
    /// The cgroup version; absent without a memory controller.
    pub cgroup: Option<CgroupVersion>,
    /// The kind of runner.
    pub runner: RunnerKind,
    /// The container engine and its version, if there was one.
    pub engine: Option<String>,
    /// Online CPUs, which determine the kernel's batching and the pool sizes of many programs.
    pub cpus: Option<u32>,
    /// Whether all peaks are exact; otherwise `at_most_bytes` shows which are lower bounds. A baseline without this
    /// field was written before they were distinguished: all of its peaks are treated as lower bounds.
    pub exact: bool,
}

/// A fitted rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineRule {
    /// The predictor, n.
    pub predictor: String,
    /// The limit including the margin, as `highwater fit` computes it on the safe side.
    pub limit: FittedRule,
    /// The need of its inputs, no more and no less: later checks compare with this.
    pub typical: FittedRule,
    /// The largest deviation of a cell from `typical`, as a share.
    pub deviation: f64,
    /// The smallest input measured.
    #[serde(rename = "smallest_bytes")]
    pub smallest: Bytes,
    /// The largest input measured.
    #[serde(rename = "largest_bytes")]
    pub largest: Bytes,
}

/// What one cell needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineCell {
    /// The sizes of its input, by predictor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sizes: BTreeMap<String, Bytes>,
    /// Its peaks.
    #[serde(flatten)]
    pub samples: Samples,
    /// Its amounts of other resources, if they are compared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<Resource, ResourceSamples>,
}

impl BaselineRule {
    /// The need of its inputs, for users.
    pub fn words(&self) -> String {
        words(&self.typical)
    }
}

/// A rule for users: amounts in binary units, and three digits of its coefficient, because further ones vary from run
/// to run.
pub fn words(rule: &FittedRule) -> String {
    if rule.coefficient <= 0.0 {
        return rule.base_bytes.to_string();
    }
    let coefficient: f64 = format!("{:.2e}", rule.coefficient).parse().unwrap_or(rule.coefficient);
    let coefficient = if coefficient < 1e-3 { format!("{coefficient:e}") } else { coefficient.to_string() };
    let growth = match rule.exponent {
        1 => format!("{coefficient}*n"),
        exponent => format!("{coefficient}*n**{exponent}"),
    };
    match rule.form {
        _ if rule.base_bytes == Bytes::ZERO => growth,
        Form::Max => format!("max({}, {growth})", rule.base_bytes),
        Form::Sum => format!("{} + {growth}", rule.base_bytes),
    }
}

impl BaselineHost {
    /// The host of a run.
    pub fn from_observation(observation: &Observation, exact: bool) -> Self {
        let host = observation.host.as_ref().value();
        let engine = observation.container.as_ref().map(|container| &container.engine);
        Self {
            // A remote engine has a kernel of its own, which does the counting.
            kernel: engine.and_then(|engine| engine.kernel.clone()).or_else(|| host.map(|host| host.kernel.clone())),
            architecture: host.map(|host| host.architecture.clone()),
            cgroup: engine.and_then(|engine| engine.cgroup).or_else(|| host.and_then(|host| host.cgroup)),
            runner: observation.runner,
            engine: engine.map(|engine| match &engine.version {
                Some(version) => format!("{} {version}", engine.name),
                None => engine.name.clone(),
            }),
            cpus: host.map(|host| host.cpus),
            exact,
        }
    }

    /// The differences between two hosts, each as `what: then, now`.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let cgroup = |version: Option<CgroupVersion>| match version {
            Some(CgroupVersion::V1) => "v1".to_owned(),
            Some(CgroupVersion::V2) => "v2".to_owned(),
            None => "none".to_owned(),
        };
        let runner = |kind: RunnerKind| match kind {
            RunnerKind::Process => "a process".to_owned(),
            RunnerKind::Container => "a container".to_owned(),
            RunnerKind::Pod => "a pod".to_owned(),
            RunnerKind::Imported => "another program".to_owned(),
        };
        let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".to_owned());
        let engine = |engine: &Option<String>| engine.clone().unwrap_or_else(|| "none".to_owned());
        let cpus = |cpus: Option<u32>| cpus.map_or_else(|| "unknown".to_owned(), |cpus| cpus.to_string());
        let facts = [
            ("kernel", known(&self.kernel), known(&now.kernel)),
            ("architecture", known(&self.architecture), known(&now.architecture)),
            ("cgroup", cgroup(self.cgroup), cgroup(now.cgroup)),
            ("runner", runner(self.runner), runner(now.runner)),
            ("engine", engine(&self.engine), engine(&now.engine)),
            ("CPUs", cpus(self.cpus), cpus(now.cpus)),
        ];
        let other = facts.into_iter().filter(|(_, then, now)| then != now);
        other.map(|(what, then, now)| format!("{what} was {then}, is {now}")).collect()
    }
}

/// Why a baseline is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// A newer highwater wrote it.
    #[error("the baseline {name} has schema version {found}, this highwater supports up to {SCHEMA_VERSION}")]
    Newer {
        /// The file.
        name: String,
        /// The version found.
        found: u64,
    },
    /// It is not a baseline.
    #[error("{name}:{}:{}: invalid baseline", source.line(), source.column())]
    Malformed {
        /// The file.
        name: String,
        /// What was found, and where.
        #[source]
        source: serde_json::Error,
    },
    /// It is a baseline, but its samples are invalid.
    #[error("{name}: the cell {cell} of {task} has no samples, or a different number of upper bounds")]
    BadSamples {
        /// The file.
        name: String,
        /// The task.
        task: String,
        /// The cell.
        cell: String,
    },
}

impl BaselineError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Newer { .. } => "update highwater, or recreate the baseline with `highwater check --update-baseline`",
            Self::Malformed { .. } | Self::BadSamples { .. } => {
                "undo edits or merges of the file, or recreate it with `highwater check --update-baseline`"
            }
        }
    }
}

impl Baseline {
    /// Creates a baseline without tasks.
    pub fn empty() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            tasks: BTreeMap::new(),
        }
    }

    /// Reads a baseline; `name` identifies it in errors. Medians and spreads are recomputed from the samples.
    ///
    /// # Errors
    /// If it is not a baseline, or one of a newer version.
    pub fn parse(name: &str, text: &str) -> Result<Self, BaselineError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u64,
        }
        let text = byte_order_mark::strip(text);
        if let Ok(Version { schema_version: found }) = serde_json::from_str(text)
            && found > u64::from(SCHEMA_VERSION)
        {
            return Err(BaselineError::Newer { name: name.to_owned(), found });
        }
        let mut baseline: Self =
            serde_json::from_str(text).map_err(|source| BaselineError::Malformed { name: name.to_owned(), source })?;
        for (task, of) in &mut baseline.tasks {
            let told_apart = of.host.exact || of.cells.values().any(|cell| !cell.samples.is_exact());
            if !told_apart {
                // It may have been fitted to lower bounds.
                of.rule = None;
            }
            for (cell, of) in &mut of.cells {
                let are_amounts = of.resources.iter().all(|(resource, samples)| samples.counted(*resource).is_some());
                of.samples = samples(&of.samples, told_apart).filter(|_| are_amounts).ok_or_else(|| {
                    let (name, task, cell) = (name.to_owned(), task.clone(), cell.clone());
                    BaselineError::BadSamples { name, task, cell }
                })?;
            }
        }
        Ok(baseline)
    }

    /// The content of the file: names in alphabetical order, samples in ascending order, nothing that depends on the
    /// time.
    ///
    /// # Errors
    /// If a coefficient cannot be represented in JSON.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| escape::json(&text) + "\n")
    }
}

/// The samples of a file, sorted and with recomputed statistics.
fn samples(read: &Samples, told_apart: bool) -> Option<Samples> {
    let peaks = read.peaks.iter().copied();
    let samples = match (told_apart, read.at_most.len()) {
        (false, _) => peaks.map(|peak| Sample::lower_bound(peak, None)).collect(),
        (true, 0) => peaks.map(Sample::exact).collect(),
        (true, count) if count == read.peaks.len() => {
            peaks.zip(&read.at_most).map(|(peak, most)| Sample::lower_bound(peak, *most)).collect()
        }
        (true, _) => return None,
    };
    Samples::new(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A baseline of one cell with two samples.
    fn baseline(exact: bool, at_most: &str) -> Result<BaselineTask, BaselineError> {
        let text = format!(
            r#"{{"schema_version": 1, "tool_version": "0.1.0", "tasks": {{"t": {{
                "host": {{"kernel": null, "architecture": null, "cgroup": null, "runner": "process", "engine": null,
                          "cpus": null, "exact": {exact}}},
                "rule": {{"predictor": "n", "deviation": 0.0, "smallest_bytes": 1, "largest_bytes": 2,
                          "limit": {{"form": "max", "base_bytes": 9, "coefficient": 0.0, "exponent": 0}},
                          "typical": {{"form": "max", "base_bytes": 9, "coefficient": 0.0, "exponent": 0}}}},
                "cells": {{"c": {{"median_bytes": 7, "spread_bytes": 0, "samples_bytes": [7, 5]{at_most}}}}}}}}}}}"#
        );
        Baseline::parse("b.json", &text).map(|mut baseline| baseline.tasks.remove("t").unwrap())
    }

    #[test]
    fn a_baseline_tells_lower_bounds_from_needs() {
        let words = |task: &BaselineTask| task.cells["c"].samples.words();
        let exact = baseline(true, "").unwrap();
        assert_eq!((words(&exact).as_str(), exact.rule.is_some()), ("6 B", true));
        let bounded = baseline(false, r#", "at_most_bytes": [9, 5]"#).unwrap();
        assert_eq!((words(&bounded).as_str(), bounded.rule.is_some()), ("at least 6 B and at most 7 B", true));
        let unbounded = baseline(false, r#", "at_most_bytes": [null, 5]"#).unwrap();
        assert_eq!(words(&unbounded), "at least 6 B");
        let error = baseline(false, r#", "at_most_bytes": [9]"#).unwrap_err();
        assert!(error.to_string().contains("a different number of upper bounds"), "{error}");
    }

    #[test]
    fn the_peaks_of_an_old_baseline_that_are_not_all_exact_are_lower_bounds() {
        let old = baseline(false, "").unwrap();
        assert_eq!((old.cells["c"].samples.words().as_str(), old.rule), ("at least 6 B", None));
    }

    #[test]
    fn a_newer_baseline_is_refused() {
        let error = Baseline::parse("b.json", "{\"schema_version\": 2, \"wonderful\": {}}").unwrap_err();
        assert_eq!(error.to_string(), "the baseline b.json has schema version 2, this highwater supports up to 1");
    }

    #[test]
    fn a_broken_baseline_is_refused_with_its_place() {
        let error = Baseline::parse("b.json", "{\"schema_version\": 1,\n<<<<<<< HEAD\n").unwrap_err();
        assert_eq!(error.to_string(), "b.json:2:1: invalid baseline");
    }

    #[test]
    fn an_empty_baseline_survives() {
        let text = Baseline::empty().text().unwrap();
        assert_eq!(Baseline::parse("b.json", &text).unwrap(), Baseline::empty());
    }
}
