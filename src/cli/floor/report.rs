//! The result of a search as a table or JSON.

use highwater::calibrate::floor::{End, SearchLimits, SearchResult, Success, Try, TryResult};
use highwater::model::observation::{Breakdown, Observation, Outcome, Peak, Subject};
use highwater::model::reading::Reading;
use highwater::model::runtime::RuntimeLimit;
use highwater::model::units::{Bytes, duration};
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::summary::{parts, push_row};
use crate::cli::table::table;

/// The version of the JSON.
const SCHEMA_VERSION: u32 = 1;

/// Slowdown under the floor that is worth a note: a factor, and microseconds.
const SLOW: f64 = 1.5;
const SLOW_US: f64 = 5e5;

/// The result as JSON. Amounts are bytes, times are microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    schema_version: u32,
    tool_version: &'static str,
    subject: &'a Subject,
    /// `settled`, `gave-up`, `interrupted` or `engine-lost`.
    end: &'static str,
    /// The smallest limit under which the task succeeds; null if the search did not settle.
    floor_bytes: Option<Bytes>,
    /// The lowest limit known to be enough; equals the floor if the search settled.
    enough_bytes: Option<Bytes>,
    /// The highest limit below it that was not enough; null if the least possible limit is enough.
    not_enough_bytes: Option<Bytes>,
    /// The number of successful runs under `enough_bytes`.
    confirmed: u32,
    precision: f64,
    slowdown: Option<f64>,
    /// The highest peak without a limit.
    peak_bytes: Option<Bytes>,
    /// The same peak with its source and exactness.
    peak: Option<&'a Peak>,
    /// The breakdown of memory at the largest sample.
    breakdown: Option<Breakdown>,
    /// The part of the peak that the task can do without: mostly page cache, which the kernel reclaims.
    reclaimable_bytes: Option<Bytes>,
    /// The median wall time of the runs without a limit.
    wall_us: Option<u64>,
    /// The limits by which runtimes of the task, such as a JVM, sized themselves under `enough_bytes`: the floor is for
    /// these.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    runtime_limits: &'a [RuntimeLimit],
    tries: Vec<TryReport>,
    /// Notes on these numbers for the reader.
    notes: Vec<String>,
    #[serde(skip)]
    found: &'a SearchResult,
    #[serde(skip)]
    terms: SearchLimits,
}

/// One try in JSON.
#[derive(Debug, Serialize)]
struct TryReport {
    limit_bytes: Bytes,
    enough: bool,
    /// `enough`, `oom-killed`, `child-oom-killed`, `failed`, `signalled`, `too-slow`, `timed-out` or `not-started`.
    result: &'static str,
    /// The exit status, the number of the signal, or why the task did not start.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    peak_bytes: Option<Bytes>,
    wall_us: Option<u64>,
}

impl<'a> Report<'a> {
    pub(super) fn new(subject: &'a Subject, terms: SearchLimits, success: Success, found: &'a SearchResult) -> Self {
        let highest = found.highest();
        let peak = highest.and_then(|run| run.peak.as_ref().value());
        let breakdown = highest.and_then(|run| run.breakdown.value());
        let mut walls: Vec<u64> = found.unlimited.iter().map(|run| run.wall_us).collect();
        walls.sort_unstable();
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION"),
            subject,
            end: match found.end {
                End::Settled => "settled",
                End::GaveUp => "gave-up",
                End::Interrupted { .. } => "interrupted",
                End::EngineLost => "engine-lost",
            },
            floor_bytes: found.floor(),
            enough_bytes: found.enough,
            not_enough_bytes: found.not_enough,
            confirmed: found.confirmed,
            precision: terms.precision,
            slowdown: success.slowdown,
            peak_bytes: peak.map(|peak| peak.bytes),
            peak,
            breakdown,
            reclaimable_bytes: peak.zip(found.floor()).map(|(peak, floor)| peak.bytes.saturating_sub(floor)),
            wall_us: walls.get(walls.len() / 2).copied(),
            runtime_limits: found.runtime_limits(),
            tries: found.tries.iter().map(TryReport::new).collect(),
            notes: notes(found, highest, terms),
            found,
            terms,
        }
        .with_slowness()
    }

    /// Adds a note if the task is slow under a floor that was found without a bound on time.
    fn with_slowness(mut self) -> Self {
        if let (None, Some(without), Some(under)) = (self.slowdown, self.wall_us, self.slowest_under_floor())
            && under as f64 > SLOW * without as f64 + SLOW_US
        {
            let note = "the task is slow under the floor because page cache is evicted; --slowdown 1.2 finds the \
                        smallest limit under which it is not";
            self.notes.push(note.to_owned());
        }
        self
    }

    pub(super) fn json(&self) -> Result<String, Failure> {
        let json = serde_json::to_string_pretty(self).map_err(Failure::host)?;
        Ok(json + "\n")
    }

    pub(super) fn table(&self) -> String {
        let mut rows = vec![("floor", self.floor())];
        rows.extend(self.runtime_limits.iter().map(|limit| ("with", with(limit, self.enough_bytes))));
        if let Some(peak) = self.peak_bytes {
            rows.push(("peak", format!("{peak}   without a limit{}", self.beyond_floor(peak))));
        }
        if let Some(breakdown) = &self.breakdown {
            rows.push(("of which", parts(breakdown)));
            rows.extend(lag(breakdown).map(|text| ("", text)));
        }
        rows.extend(self.times().map(|text| ("time", text)));
        rows.extend(self.notes.iter().map(|note| ("note", note.clone())));
        let mut text = String::new();
        let width = usize::from(output::width_of_stdout().unwrap_or(100));
        for (name, value) in rows {
            push_row(&mut text, name, &value, width);
        }
        if !self.tries.is_empty() {
            let rows = self.found.tries.iter().zip(&self.tries).map(|(one, report)| row(one, report)).collect();
            text += "\n";
            text += &table(&[">Limit", "Result", ">Peak", ">Time"], rows);
        }
        text
    }

    /// The floor, or its bounds.
    fn floor(&self) -> String {
        let precision = format!("{} %", (self.terms.precision * 1e4).round() / 1e2);
        match (self.found.end, self.enough_bytes, self.not_enough_bytes) {
            (End::Settled, Some(enough), Some(not_enough)) => format!(
                "{enough}   succeeded in {} of {} runs; {not_enough} is not enough (precision {precision})",
                self.confirmed, self.confirmed
            ),
            (End::Settled, Some(enough), None) => {
                format!("{enough} or less   succeeded in {0} of {0} runs; lower limits are not tried", self.confirmed)
            }
            (_, Some(enough), Some(not_enough)) => {
                format!("not settled   between {not_enough} (not enough) and {enough}")
            }
            (_, Some(enough), None) => format!("not settled   at most {enough}"),
            (_, None, Some(not_enough)) => format!("not settled   more than {not_enough}"),
            (_, None, None) => "not settled".to_owned(),
        }
    }

    /// The share of the peak that the task can do without.
    fn beyond_floor(&self, peak: Bytes) -> String {
        match (self.floor_bytes.and_then(|floor| peak.ratio(floor)), self.reclaimable_bytes) {
            (Some(times), Some(reclaimable)) if times >= 1.0 + self.terms.precision => format!(
                ", {times:.2} × the floor; the kernel can reclaim {reclaimable} of it ({:.0} %)",
                (1.0 - 1.0 / times) * 100.0
            ),
            (Some(_), _) => "; almost none of it is reclaimable".to_owned(),
            (None, _) => String::new(),
        }
    }

    /// The longest wall time of the successful runs under the floor.
    fn slowest_under_floor(&self) -> Option<u64> {
        let tries = self.found.tries.iter();
        let under = tries.filter(|one| Some(one.limit) == self.floor_bytes && one.result == TryResult::Enough);
        under.filter_map(|one| one.wall_us).max()
    }

    fn times(&self) -> Option<String> {
        let without = self.wall_us?;
        Some(match self.slowest_under_floor() {
            Some(slowest) => format!(
                "{} without a limit, at most {} under the floor ({:.2} ×)",
                duration(without),
                duration(slowest),
                slowest as f64 / without.max(1) as f64
            ),
            None => format!("{} without a limit", duration(without)),
        })
    }
}

/// The setting that belongs to the floor.
fn with(limit: &RuntimeLimit, enough: Option<Bytes>) -> String {
    let other = match (&limit.setting, limit.bytes) {
        (None, _) => "set it to keep it: -Xmx, or -XX:MaxRAMPercentage",
        (Some(_), Some(bytes)) if enough.is_some_and(|enough| bytes >= enough) => {
            "the task did not use all of it; one that does needs more than this floor"
        }
        (Some(_), _) => "the floor is for this setting",
    };
    format!("{limit}   {other}")
}

/// Some kernels update the breakdown seconds late.
fn lag(breakdown: &Breakdown) -> Option<String> {
    let parts = [breakdown.anon, breakdown.file, breakdown.shmem, breakdown.kernel];
    let sum: Bytes = parts.into_iter().filter_map(Reading::value).sum();
    let known = sum.ratio(breakdown.current)?;
    (known < 0.9).then(|| "the parts are too low: this kernel updates them later than the total".to_owned())
}

fn notes(found: &SearchResult, highest: Option<&Observation>, terms: SearchLimits) -> Vec<String> {
    let mut notes = Vec::new();
    if let (1.., Some(not_enough)) = (found.contradictions, found.not_enough) {
        let (tries, verb) = if found.contradictions == 1 { ("try", "was") } else { ("tries", "were") };
        notes.push(format!(
            "{} {tries} with {not_enough} or less {verb} enough, others were not: the need of the task varies between \
             runs, or it adapts to its limit. The floor is above every limit that failed",
            found.contradictions
        ));
    }
    if found.end == End::GaveUp {
        notes.push(if found.enough.is_none() {
            format!("the task succeeds without a limit, but under no limit up to {}", terms.most)
        } else {
            format!("the tries contradict each other; gave up after {}", found.tries.len())
        });
    }
    if let Some(run) = highest {
        if let (Reading::Value(Some(limit)), true) = (run.limit.effective, run.censored) {
            notes.push(format!("without a limit of its own, the task reached an enclosing limit of {limit}"));
        }
        notes.extend(run.notes());
    }
    notes
}

impl TryReport {
    fn new(one: &Try) -> Self {
        let (result, detail) = match &one.result {
            TryResult::Enough => ("enough", None),
            TryResult::OomKilled => ("oom-killed", None),
            TryResult::ChildOomKilled => ("child-oom-killed", None),
            TryResult::Failed(status) => ("failed", Some(status.to_string())),
            TryResult::Signalled(signal) => ("signalled", Some(signal.to_string())),
            TryResult::TooSlow => ("too-slow", None),
            TryResult::TimedOut => ("timed-out", None),
            TryResult::NotStarted(reason) => ("not-started", Some(reason.clone())),
        };
        Self {
            limit_bytes: one.limit,
            enough: one.result == TryResult::Enough,
            result,
            detail,
            peak_bytes: one.peak,
            wall_us: one.wall_us,
        }
    }
}

fn row(one: &Try, report: &TryReport) -> Vec<String> {
    let result = match &one.result {
        TryResult::Enough => "enough".to_owned(),
        TryResult::OomKilled => Outcome::OomKilled.words(),
        TryResult::ChildOomKilled => "one of its processes was killed: out of memory".to_owned(),
        TryResult::Failed(status) => Outcome::Exited { status: *status }.words(),
        TryResult::Signalled(signal) => Outcome::Signalled { signal: *signal }.words(),
        TryResult::TooSlow => "too slow".to_owned(),
        TryResult::TimedOut => "stopped: it took far too long".to_owned(),
        TryResult::NotStarted(_) => "failed to start".to_owned(),
    };
    let time = report.wall_us.map(duration);
    let peak = report.peak_bytes.map(|peak| peak.to_string());
    vec![one.limit.to_string(), result, peak.unwrap_or("-".to_owned()), time.unwrap_or("-".to_owned())]
}
