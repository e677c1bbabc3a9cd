use super::*;
use crate::model::observation::{self, Breakdown, Cache, Cpu, CpuSource, Dropped, PeakSource, Swap, SweepRun};
use crate::store::import::blank;

fn observed(number: u32, peak: u64, wall_us: u64) -> Observation {
    let exactness = Exactness::Exact { error_bound_bytes: Bytes(1000) };
    Observation {
        sweep: Some(SweepRun {
            cell: "c".to_owned(),
            case: "4 items".to_owned(),
            run: number,
            parameters: BTreeMap::new(),
            synthetic: false,
        }),
        peak: Reading::Value(Peak {
            bytes: Bytes(peak),
            source: PeakSource::OwnCgroup,
            file: None,
            exactness,
            upper_bound: None,
        }),
        wall_us,
        cpu: Reading::Value(Cpu { user_us: 900_000, system_us: 0, source: CpuSource::Cgroup }),
        ..blank(Timestamp::from_second(i64::from(number)).unwrap())
    }
}

fn cells(observations: &[Observation]) -> Vec<Cell> {
    let mut cells = Cells::default();
    observations.iter().for_each(|observation| cells.add(observation));
    cells.finish()
}

fn only(observations: &[Observation]) -> Cell {
    let mut cells = cells(observations);
    assert_eq!(cells.len(), 1, "{cells:#?}");
    cells.remove(0)
}

#[test]
fn cells_come_in_the_order_of_their_numbers() {
    let runs: Vec<_> = ["10", "high", "9", "1e1", "-1", "9.5", "2 GB", "9"]
        .iter()
        .map(|value| {
            let mut run = observed(1, 1000, 1000);
            let sweep = run.sweep.as_mut().unwrap();
            sweep.cell = (*value).to_owned();
            sweep.parameters = [("A".to_owned(), "x".to_owned()), ("N".to_owned(), (*value).to_owned())].into();
            run
        })
        .collect();
    let found: Vec<_> = cells(&runs).into_iter().map(|cell| cell.parameters["N"].clone()).collect();
    assert_eq!(found, ["-1", "9", "9.5", "10", "1e1", "2 GB", "high"]);
}

#[test]
fn one_odd_run_does_not_move_the_middle() {
    let mut runs: Vec<_> = (1..=7).map(|run| observed(run, 100_000 + u64::from(run) * 10, 1_000_000)).collect();
    runs[3] = observed(4, 900_000, 1_000_000);
    let cell = only(&runs);
    let peak = cell.peak_bytes.unwrap();
    assert!((100_000.0..100_100.0).contains(&peak.median));
    assert!(peak.relative().unwrap() < 0.001);
    let odd: Vec<_> = cell.outliers.iter().map(|odd| (odd.run, odd.what, odd.reason)).collect();
    assert_eq!(odd, [(4, OutlierKind::Peak, Reason::Unknown)]);
}

#[test]
fn differences_within_the_noise_are_no_outliers() {
    let peaks = [100_000, 100_000, 100_000, 100_000, 100_900];
    let runs: Vec<_> = peaks.iter().zip(1..).map(|(peak, run)| observed(run, *peak, 1_000_000)).collect();
    assert_eq!(only(&runs).outliers, []);
}

#[test]
fn reasons_are_found_in_the_record() {
    let mut runs: Vec<_> = (1..=6).map(|run| observed(run, 100_000, 1_000_000)).collect();
    runs[0].wall_us = 3_000_000;
    runs[2].wall_us = 2_000_000;
    let mut swapping = observed(7, 50_000, 4_000_000);
    swapping.swap = Swap { peak: Reading::Value(Bytes(60_000)), highest_sampled: Reading::Unsupported };
    runs.push(swapping);
    let found: Vec<_> = only(&runs).outliers.iter().map(|odd| (odd.run, odd.what, odd.reason)).collect();
    let expected = [
        (7, OutlierKind::Peak, Reason::Swapped),
        (1, OutlierKind::Time, Reason::First),
        (3, OutlierKind::Time, Reason::Waited),
        (7, OutlierKind::Time, Reason::Swapped),
    ];
    assert_eq!(found, expected);
}

#[test]
fn page_cache_of_a_cold_run_is_named() {
    let mut runs: Vec<_> = (1..=3).map(|run| observed(run, 100_000, 1_000_000)).collect();
    for (run, file) in runs.iter_mut().zip([120_000, 0, 0]) {
        let mut breakdown = Breakdown::new(0, Bytes(100_000 + file));
        breakdown.file = Reading::Value(Bytes(file));
        run.breakdown = Reading::Value(breakdown);
    }
    if let Reading::Value(peak) = &mut runs[0].peak {
        peak.bytes = Bytes(220_000);
    }
    let cell = only(&runs);
    assert_eq!(cell.outliers.iter().map(|odd| (odd.run, odd.reason)).collect::<Vec<_>>(), [(1, Reason::PageCache)]);
    assert_eq!(cell.warnings, [Warning::PageCache { runs: 1, most_bytes: Bytes(120_000) }]);
}

#[test]
fn ordinary_scatter_of_three_repeats_has_no_outliers() {
    // Two of three values are often close together, which makes nothing of the third.
    let cells_of = |walls: [[u64; 3]; 4]| {
        let runs = walls.into_iter().enumerate().flat_map(|(cell, walls)| {
            walls.into_iter().zip(1..).map(move |(wall, run)| {
                let mut one = observed(run, 100_000, wall * 1000);
                one.sweep.as_mut().unwrap().cell = cell.to_string();
                one
            })
        });
        cells(&runs.collect::<Vec<_>>())
    };
    let usual = [[1000, 1001, 1090], [1000, 1070, 1030], [1000, 1060, 960], [1000, 1001, 900]];
    assert!(cells_of(usual).iter().all(|cell| cell.outliers.is_empty()));
    let odd = [[1000, 1001, 1900], [1000, 1070, 1030], [1000, 1060, 960], [1000, 1001, 900]];
    assert_eq!(cells_of(odd).iter().map(|cell| cell.outliers.len()).collect::<Vec<_>>(), [1, 0, 0, 0]);
}

#[test]
fn runs_that_failed_are_counted_and_nothing_else() {
    let mut runs: Vec<_> = (1..=3).map(|run| observed(run, 100_000, 1_000_000)).collect();
    runs[1].outcome = Outcome::Exited { status: 1 };
    runs[1].peak = Reading::Gone;
    let cell = only(&runs);
    assert_eq!((cell.runs, cell.failed, cell.peak_bytes.unwrap().count), (3, 1, 2));
    assert!(cell.warnings.iter().any(|warning| matches!(warning, Warning::Failed { runs: 1 })));
}

#[test]
fn interrupted_runs_call_for_nothing() {
    let mut runs: Vec<_> = (1..=3).map(|run| observed(run, 100_000, 1_000_000)).collect();
    runs[1].outcome = Outcome::Interrupted { signal: 2 };
    let cell = only(&runs);
    assert_eq!((cell.runs, cell.failed), (3, 1));
    assert_eq!(cell.warnings, []);
}

#[test]
fn a_run_that_reached_its_limit_does_not_move_the_middle() {
    let mut runs: Vec<_> = [100_000, 101_000, 60_000].map(|peak| observed(1, peak, 1_000_000)).into();
    runs[2].censored = true;
    assert_eq!(only(&runs).peak_bytes.unwrap().median, 100_500.0);
    runs.iter_mut().for_each(|run| run.censored = true);
    assert_eq!(only(&runs).peak_bytes.unwrap().median, 100_000.0);
}

#[test]
fn lost_runs_are_told_with_the_reason_of_the_first() {
    let mut runs: Vec<_> = (1..=3).map(|run| observed(run, 100_000, 1_000_000)).collect();
    for lost in &mut runs[1..] {
        lost.outcome = Outcome::Lost;
        lost.warnings = vec![observation::Warning::EndUnknown { reason: format!("run {}", lost.started_at) }];
    }
    let reason = runs[1].warnings[0].to_string();
    assert_eq!(only(&runs).warnings, [Warning::Lost { runs: 2, reason }]);
}

#[test]
fn cold_caches_are_no_reason_where_all_runs_had_them() {
    let mut runs: Vec<_> = (1..=4).map(|run| observed(run, 100_000, 1_000_000)).collect();
    runs[0].wall_us = 3_000_000;
    let told = |runs: &[Observation]| {
        let cell = only(runs);
        (cell.outliers[0].reason, cell.warnings.iter().map(Warning::word).collect::<Vec<_>>())
    };
    assert_eq!(told(&runs), (Reason::First, vec!["first slower"]));
    for run in &mut runs {
        run.cache = Some(Cache::Cold { dropped: Dropped::Everything });
    }
    assert_eq!(told(&runs), (Reason::Waited, vec!["other load"]));
}

#[test]
fn runs_of_no_sweep_are_told_apart_by_what_was_run() {
    let mut runs: Vec<_> = (1..=3).map(|run| Observation { sweep: None, ..observed(run, 100_000, 1) }).collect();
    runs[2].subject.command = vec!["other".to_owned()];
    assert_eq!(cells(&runs).iter().map(|cell| cell.runs).collect::<Vec<_>>(), [2, 1]);
}
