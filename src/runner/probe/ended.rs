//! How a task ended and what it needed, from the report of the probe and from what its engine says.

use std::time::Duration;

use super::Report;
use crate::host::machine::{Machine, error_bound};
use crate::model::observation::{CgroupVersion, Container, Engine, Exactness, Host, Limits, Peak, PeakSource, Warning};
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::{Contained, End, Finished};

/// The end of a task that was started by the probe.
#[derive(Debug)]
pub(in crate::runner) struct ProbedEnd {
    /// The report, if it could be read.
    pub(in crate::runner) report: Option<Report>,
    /// The exit status that the engine reports.
    pub(in crate::runner) status: Option<i32>,
    /// Whether the kernel killed the probe together with the task, because memory ran out.
    pub(in crate::runner) killed_with_probe: bool,
    /// Why the task did not end by itself.
    pub(in crate::runner) loss: Option<String>,
    /// The limit that the engine was told to set, `None` for none.
    pub(in crate::runner) limit: Reading<Option<Bytes>>,
    pub(in crate::runner) notes: Vec<Warning>,
}

impl ProbedEnd {
    /// An end known only from the probe's report, if there is one.
    pub(in crate::runner) fn new(report: Option<Report>) -> Self {
        let limit = Reading::Unsupported;
        Self { report, status: None, killed_with_probe: false, loss: None, limit, notes: Vec::new() }
    }

    /// The measurements, and what is known of the container: all but its engine, image and pod. A time-out of the probe
    /// has the length zero, because the probe does not report it.
    pub(in crate::runner) fn finished(mut self, machine: &Machine) -> (Finished, Contained) {
        let report = self.report.take();
        let end = match (&self.loss, report.as_ref().and_then(|report| report.end), self.status) {
            (Some(reason), ..) => {
                self.notes.push(Warning::EndUnknown { reason: reason.clone() });
                End::Lost
            }
            (None, Some(end), _) => end,
            (None, None, _) if self.killed_with_probe => End::Signalled(9),
            (None, None, Some(status)) if status > 128 => End::Signalled(status - 128),
            (None, None, Some(status)) => End::Exited(status),
            (None, None, None) => End::Lost,
        };
        if report.as_ref().is_some_and(|report| report.end.is_none()) {
            self.notes.push(Warning::ProbeKilled);
        }
        let peak = self.peak(report.as_ref(), machine);
        let limit = |of_probe: Option<Reading<Option<Bytes>>>| match of_probe {
            Some(limit @ Reading::Value(_)) => limit,
            Some(Reading::Unsupported | Reading::Gone) | None => self.limit,
        };
        let mut finished = Finished {
            limit: Limits {
                own: limit(report.as_ref().map(|report| report.own_limit)),
                effective: limit(report.as_ref().map(|report| report.limit)),
                copied_from: None,
            },
            problems: self.notes,
            ..Finished::new(end, peak)
        };
        if let Some(report) = &report {
            report.fill(&mut finished);
        }
        let contained = Contained {
            container: container(report.as_ref()),
            logs: None,
            wall: report.as_ref().and_then(|report| report.wall),
            oom_killed: self.killed_with_probe,
            timed_out: report.is_some_and(|report| report.timed_out).then_some(Duration::ZERO),
            pod: None,
        };
        (finished, contained)
    }

    fn peak(&mut self, report: Option<&Report>, machine: &Machine) -> Reading<Peak> {
        let peak = |bytes, file, exactness| {
            Reading::Value(Peak { bytes, source: PeakSource::Probe, file, exactness, upper_bound: None })
        };
        let Some(report) = report else { return Reading::Gone };
        if let Some((bytes, file)) = report.peak() {
            let cpus = report.cpus.unwrap_or(machine.facts.cpus);
            let bound = error_bound(&Host { cpus, ..machine.facts.clone() });
            let exactness = Exactness::Exact { error_bound_bytes: bound.saturating_add(report.own) };
            return peak(bytes, Some(file), exactness);
        }
        match report.limit {
            // The kubelet of a newer Kubernetes has all processes of a container killed together.
            Reading::Value(Some(limit)) if self.killed_with_probe && report.end.is_none() => {
                let reason =
                    "the kernel killed the probe together with the task, at this limit unless the node itself \
                              ran out of memory"
                        .to_owned();
                peak(limit, None, Exactness::LowerBound { reason, remedy: "raise the limit".to_owned() })
            }
            Reading::Value(_) | Reading::Unsupported | Reading::Gone => {
                self.notes.push(Warning::NoPeak {
                    reason: "the probe could not read the peak".to_owned(),
                    remedy: "use nodes with cgroup v1, or cgroup v2 and Linux 5.19 or newer".to_owned(),
                });
                Reading::Unsupported
            }
        }
    }
}

/// What the report says of the container.
fn container(report: Option<&Report>) -> Container {
    let file = report.and_then(Report::peak).map(|(_, file)| file);
    let cgroup = file.map(|file| if file.ends_with("memory.peak") { CgroupVersion::V2 } else { CgroupVersion::V1 });
    Container {
        image: String::new(),
        image_id: None,
        image_digests: Vec::new(),
        engine: Engine {
            name: String::new(),
            version: None,
            cgroup_driver: None,
            cgroup,
            kernel: report.and_then(|report| report.kernel.clone()),
        },
        idle_peak: None,
        options: Vec::new(),
        unanswered: Vec::new(),
    }
}
