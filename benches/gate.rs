//! False alarms and misses of `check` under noise, by simulation: baselines and checks of tasks whose peaks scatter as
//! those of real programs do, judged by the library.
//!
//!     cargo bench --bench gate [-- CHECKS]     default 2000 for each number

#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::error::Error;

use fastrand::Rng;
use highwater::calibrate::check::{Judgement, Run, SortedRuns, cell_name, judge};
use highwater::model::check::baseline::Baseline;
use highwater::model::check::config::{Config, TaskConfig};
use highwater::model::check::report::Verdict;
use highwater::model::check::{Repeats, Thresholds};
use highwater::model::observation::{InputSizes, Observation, SweepRun};
use highwater::model::prediction::Sizes;
use highwater::model::reading::Reading;
use highwater::model::units::Bytes;

const MIB: f64 = 1_048_576.0;
/// Checks that share a baseline, as commits do.
const PER_BASELINE: usize = 10;

/// A run without a peak.
const RUN: &str = r#"{
  "schema_version": 1, "tool_version": "0.1.0", "started_at": "2026-01-01T00:00:00Z",
  "subject": {"name": "task", "command": ["./task"]}, "runner": "process",
  "outcome": {"kind": "exited", "status": 0}, "wall_us": 1000,
  "peak": {"bytes": 0, "source": "own-cgroup", "exactness": {"kind": "exact", "noise_bytes": 524288}},
  "breakdown": "gone", "swap": {"peak": "gone", "highest_sampled": "gone"},
  "limit": {"own": null, "effective": null}, "censored": false, "events": "gone", "cpu": "gone", "io": "gone",
  "pids_peak": "gone", "pressure": "gone", "leftover_processes": 0, "series": {"taken": 0, "samples": []},
  "host": {"kernel": "6.1.0", "architecture": "x86_64", "cpus": 2, "page_bytes": 4096, "memory_bytes": 1, "swap_bytes": 0,
           "cgroup": "v2"}
}"#;

/// How the peaks of repeated runs scatter. Beside it, the kernel charges in batches.
#[derive(Clone, Copy)]
enum Noise {
    /// Normally, by this share.
    Normal(f64),
    /// By 2 %, and one run in ten is higher by this share.
    Seldom(f64),
    /// By 0.2 %, but the third cell by this share.
    OneCell(f64),
}

const NOISES: [(&str, Noise); 7] = [
    ("none", Noise::Normal(0.0)),
    ("1 %", Noise::Normal(0.01)),
    ("5 %", Noise::Normal(0.05)),
    ("JVM-like, 10 %", Noise::Normal(0.1)),
    ("20 %", Noise::Normal(0.2)),
    ("2 %, one run in ten +30 %", Noise::Seldom(0.3)),
    ("0.2 %, one cell 10 %", Noise::OneCell(0.1)),
];

impl Noise {
    fn peak(self, cell: usize, need: f64, random: &mut Rng) -> f64 {
        // Twelve uniform numbers have a variance of one.
        let mut normal = |share: f64| share * ((0..12).map(|_| random.f64()).sum::<f64>() - 6.0);
        let share = match self {
            Self::Normal(share) => normal(share),
            Self::Seldom(higher) => normal(0.02) + if random.u8(0..10) == 0 { higher } else { 0.0 },
            Self::OneCell(share) => normal(if cell == 2 { share } else { 0.002 }),
        };
        need * (1.0 + share).max(0.1) + random.f64() * 0.5 * MIB
    }
}

/// A task, by the needs of its cells in MiB, and what becomes of them.
struct Change {
    name: &'static str,
    needs: &'static [f64],
    after: fn(usize, f64) -> f64,
}

const USUAL: &[f64] = &[160.0, 160.0, 200.0, 400.0, 800.0];
const SMALL: &[f64] = &[3.0];
const SINGLE: &[f64] = &[200.0];

const CHANGES: [Change; 9] = [
    Change { name: "false alarms", needs: USUAL, after: |_, need| need },
    Change { name: "missed +10 %", needs: USUAL, after: |_, need| 1.1 * need },
    Change { name: "missed +20 %", needs: USUAL, after: |_, need| 1.2 * need },
    Change { name: "missed +20 % of one", needs: USUAL, after: |cell, need| if cell == 1 { 1.2 * need } else { need } },
    Change { name: "missed +50 % of one", needs: USUAL, after: |cell, need| if cell == 1 { 1.5 * need } else { need } },
    Change { name: "single cell: false alarms", needs: SINGLE, after: |_, need| need },
    Change { name: "single cell: missed +50 %", needs: SINGLE, after: |_, need| 1.5 * need },
    Change { name: "3 MiB: false alarms", needs: SMALL, after: |_, need| need },
    Change { name: "3 MiB: missed × 2", needs: SMALL, after: |_, need| 2.0 * need },
];

struct Gate {
    config: Config,
    run: Observation,
}

impl Gate {
    fn new() -> Result<Self, Box<dyn Error>> {
        let task = TaskConfig::of_records("task".to_owned(), Thresholds::default(), Repeats::default());
        let config = Config { tasks: vec![task], ..Config::default() };
        Ok(Self { config, run: serde_json::from_str(RUN)? })
    }

    fn runs(&self, cell: usize, peaks: impl Iterator<Item = f64>) -> Vec<Run> {
        let mut observation = self.run.clone();
        let name = format!("cell {cell}");
        observation.sweep = Some(SweepRun::new(name.as_str(), name.as_str(), 1));
        let mut sizes = Sizes::default();
        (sizes.files, sizes.sum) = (1, Bytes(1 << (24 + cell)));
        observation.inputs = vec![InputSizes::new("input", sizes)];
        let run = |peak: f64| {
            let mut observation = observation.clone();
            if let Reading::Value(of) = &mut observation.peak {
                of.bytes = Bytes(peak as u64);
            }
            run_of(observation)
        };
        peaks.map(run).collect()
    }

    fn measure(&self, change: &Change, is_changed: bool, noise: Noise, times: u32, random: &mut Rng) -> Vec<Run> {
        let mut runs = Vec::new();
        for (cell, need) in change.needs.iter().enumerate() {
            let need = MIB * if is_changed { (change.after)(cell, *need) } else { *need };
            runs.extend(self.runs(cell, (0..times).map(|_| noise.peak(cell, need, random))));
        }
        runs
    }

    fn judge(&self, baseline: Option<&Baseline>, batches: &[Vec<Run>]) -> Judgement {
        judge(&self.config, baseline, &SortedRuns::of_batches(&self.config, batches))
    }

    /// A complete check: run, judge, and run the suspects again.
    fn fails(&self, baseline: &Baseline, change: &Change, noise: Noise, random: &mut Rng) -> bool {
        let repeats = self.config.tasks[0].repeats;
        let mut batches = vec![self.measure(change, true, noise, repeats.runs, random)];
        for round in 0.. {
            let judgement = self.judge(Some(baseline), &batches);
            if judgement.suspects.is_empty() || round == repeats.confirm {
                return judgement.report.verdict == Verdict::Failed;
            }
            let is_suspect = |run: &Run| {
                let cell = cell_name(&self.config.tasks[0], &run.observation);
                judgement.suspects.iter().any(|(_, suspect)| *suspect == cell)
            };
            let again = self.measure(change, true, noise, repeats.runs, random);
            batches.push(again.into_iter().filter(is_suspect).collect());
        }
        unreachable!("a check ends")
    }

    /// The share of failed checks.
    fn rate(&self, change: &Change, noise: Noise, checks: usize, random: &mut Rng) -> f64 {
        let mut failed = 0;
        for _ in 0..checks.div_ceil(PER_BASELINE) {
            let runs = self.measure(change, false, noise, self.config.tasks[0].repeats.baseline_runs, random);
            let baseline = self.judge(None, &[runs]).report.baseline(None);
            failed += (0..PER_BASELINE).filter(|_| self.fails(&baseline, change, noise, random)).count();
        }
        failed as f64 / (checks.div_ceil(PER_BASELINE) * PER_BASELINE) as f64
    }
}

fn run_of(observation: Observation) -> Run {
    Run { task: "task".to_owned(), observation, stderr: None }
}

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds an option of its own.
    let checks = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(2000);
    let gate = Gate::new()?;
    println!(
        "{checks} checks each, of five cells unless said otherwise: 6 runs for the baseline, 3 for a check, twice confirmed\n"
    );
    println!("| noise | {} |", CHANGES.map(|change| change.name).join(" | "));
    println!("| --- |{}", " ---: |".repeat(CHANGES.len()));
    for (place, (name, noise)) in NOISES.into_iter().enumerate() {
        let rates = CHANGES.map(|change| {
            let random = &mut Rng::with_seed(place as u64);
            let is_changed = (0..5).any(|cell| (change.after)(cell, 1.0) > 1.0);
            let failed = gate.rate(&change, noise, checks, random);
            format!("{:.2} %", 100.0 * if is_changed { 1.0 - failed } else { failed })
        });
        println!("| {name} | {} |", rates.join(" | "));
    }
    Ok(())
}
