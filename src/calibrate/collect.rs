//! Production runs as evidence: records of runs that others started with the probe in front of the command.

mod annotations;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use self::annotations::{Described, PREFIX};
use super::measure::{RunContext, observation};
use super::monitor::Watched;
use crate::model::observation::{Observation, RunnerKind, Subject, SweepRun};
use crate::model::reading::Reading;
use crate::runner::pod::{PodEvent, ProductionPod};
use crate::runner::production::{Missing, ProductionRun};

/// The most pods or reports of a reason that are named.
const MOST_NAMED: usize = 5;
/// The most characters of what an engine says, which is not to be trusted.
const MOST_SAID: usize = 160;

/// Makes records of production runs, each once.
#[derive(Debug, Default)]
pub struct Collector {
    /// The hashes of the runs that are recorded.
    recorded: HashSet<u64>,
    /// The runs of each cell with parameters.
    runs: HashMap<String, u32>,
    /// The pods whose runs have not all ended, by UID.
    live: HashMap<String, Live>,
    /// The hashes of what is in `missing`.
    counted: HashSet<u64>,
    missing: BTreeMap<&'static str, Tally>,
    added: u64,
    already: u64,
    without_sizes: u64,
}

#[derive(Debug)]
struct Live {
    name: String,
    missing: Vec<Missing>,
    /// Whether it was seen since the last list began.
    is_seen: bool,
}

/// Pods or reports without a record for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Their number.
    pub count: u64,
    /// The first of them, each with what it says.
    pub first: Vec<String>,
}

impl Tally {
    fn add(&mut self, name: &str, detail: &str) {
        self.count += 1;
        if self.first.len() < MOST_NAMED {
            let detail: String = detail.chars().take(MOST_SAID).collect();
            self.first.push(if detail.is_empty() { name.to_owned() } else { format!("{name} ({detail})") });
        }
    }
}

/// What was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The runs that were recorded.
    pub added: u64,
    /// The runs whose record existed.
    pub already: u64,
    /// The runs among the added ones without a size of an input.
    pub without_sizes: u64,
    /// The pods without a record, by reason.
    pub missing: Vec<(&'static str, Tally)>,
}

impl Collector {
    /// Takes note of a record that exists.
    pub fn note(&mut self, record: &Observation) {
        self.recorded.extend(key(record));
        if let Some(sweep) = &record.sweep {
            let run = self.runs.entry(sweep.cell.clone()).or_default();
            *run = sweep.run.max(*run);
        }
    }

    /// Takes what is seen of the pods; returns new records.
    pub fn take(&mut self, event: PodEvent) -> Vec<Observation> {
        match event {
            PodEvent::Pod(pod) => return self.pod(*pod),
            PodEvent::Listing => self.live.values_mut().for_each(|live| live.is_seen = false),
            PodEvent::Listed => {
                let gone = self.live.extract_if(|_, live| !live.is_seen).collect::<Vec<_>>();
                for (uid, Live { name, .. }) in gone {
                    let missing = Missing::new("deleted while the API server could not be watched", "");
                    self.count(&uid, &name, &[missing]);
                }
            }
        }
        Vec::new()
    }

    fn pod(&mut self, pod: ProductionPod) -> Vec<Observation> {
        let ProductionPod { uid, name, annotations, runs, missing, is_live, .. } = pod;
        if is_live {
            self.live.insert(uid, Live { name: name.clone(), missing, is_seen: true });
        } else {
            self.live.remove(&uid);
            self.count(&uid, &name, &missing);
        }
        let of_pod = annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str())));
        let of_pod: Vec<(&str, &str)> = of_pod.collect();
        runs.into_iter().filter_map(|run| self.add(&name, run, &of_pod)).collect()
    }

    /// Takes the report of a job in this file; returns a new record.
    pub fn report(&mut self, file: &str, read: Result<ProductionRun, Missing>) -> Option<Observation> {
        match read {
            Ok(run) => self.add(file, run, &[]),
            Err(missing) => {
                self.count(file, file, &[missing]);
                None
            }
        }
    }

    /// Makes a record, unless there is one.
    fn add(&mut self, name: &str, run: ProductionRun, of_pod: &[(&str, &str)]) -> Option<Observation> {
        let own = run.annotations.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // A later one counts: the run knows itself better than its pod does.
        let described = Described::read(of_pod.iter().copied().chain(own));
        let (parameters, problems) = (described.parameters, described.problems);
        let subject = Subject::new(described.task, run.command);
        let context = RunContext { subject, inputs: described.inputs, ..RunContext::default() };
        let kind = if run.pod.is_some() { RunnerKind::Pod } else { RunnerKind::Process };
        let began = (kind, run.started_at);
        let mut record = observation(context, began, Reading::Unsupported, Watched::default(), (run.finished, None));
        record.batch = run.batch;
        record.container = record.container.filter(|_| kind == RunnerKind::Pod);
        let key = key(&record);
        // A later list or event shows a pod again.
        if key.is_some_and(|key| !self.recorded.insert(key)) {
            self.already += u64::from(self.counted.insert(hash(&key)));
            return None;
        }
        self.counted.insert(hash(&key));
        if !parameters.is_empty() {
            let cell = cell(&record, &parameters);
            let number = self.runs.entry(cell.clone()).or_default();
            *number += 1;
            let sizes = record.inputs.iter().map(|input| format!("{} {}", input.channel, input.all.sum));
            let case = sizes.collect::<Vec<_>>().join(", ");
            record.sweep = Some(SweepRun { parameters, ..SweepRun::new(cell, case, *number) });
        }
        self.added += 1;
        self.without_sizes += u64::from(record.inputs.is_empty());
        for problem in &problems {
            self.missing.entry(PROBLEM).or_default().add(name, problem);
        }
        Some(record)
    }

    fn count(&mut self, uid: &str, name: &str, missing: &[Missing]) {
        for Missing { reason, detail, .. } in missing {
            if self.counted.insert(hash(&(uid, reason))) {
                self.missing.entry(reason).or_default().add(name, detail);
            }
        }
    }

    /// What was collected so far.
    pub fn summary(&self) -> Summary {
        let mut missing = self.missing.clone();
        for live in self.live.values() {
            for Missing { reason, detail, .. } in &live.missing {
                missing.entry(reason).or_default().add(&live.name, detail);
            }
        }
        Summary {
            added: self.added,
            already: self.already,
            without_sizes: self.without_sizes,
            missing: missing.into_iter().collect(),
        }
    }
}

/// The reason of an annotation that cannot be used; its run is recorded.
pub const PROBLEM: &str = "recorded, but ignored an invalid annotation";

/// What identifies a run that was collected.
fn key(record: &Observation) -> Option<u64> {
    let pod = record.pod.as_ref().filter(|pod| pod.uid.is_some());
    let of_pod = pod.map(|pod| hash(&(&pod.uid, &pod.container, pod.restarts)));
    of_pod.or_else(|| {
        // Job numbers begin again, and a job may have several steps.
        let batch = record.batch.as_ref()?;
        let job = (&batch.job, batch.array_task, batch.restarts);
        Some(hash(&(job, record.started_at, record.wall_us, &record.subject.command)))
    })
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A name for all runs of a task on inputs of the same sizes with the same parameters.
fn cell(record: &Observation, parameters: &BTreeMap<String, String>) -> String {
    let name = record.subject.name.as_ref().or(record.subject.command.first()).cloned();
    let image = record.container.as_ref().map(|container| container.image.clone());
    let sizes = record.inputs.iter().map(|input| format!("{}={}", input.channel, input.all.sum.0));
    let parameters = parameters.iter().map(|(name, value)| format!("{name}={value}"));
    name.into_iter().chain(image).chain(sizes).chain(parameters).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
