//! The quality of the numbers of a sweep.

use std::process::Command;

use highwater::model::observation::{Cache, Exactness, Observation};

use super::{Bench, MIB, json};
use crate::harness::skip;

/// The memory that the workload of the demonstration keeps for an input of this size.
fn need(input: u64) -> u64 {
    (24 * MIB).max(3 * input)
}

fn is_exact(records: &[Observation]) -> bool {
    let exact = |run: &Observation| {
        run.peak.as_ref().value().is_some_and(|peak| matches!(peak.exactness, Exactness::Exact { .. }))
    };
    records.iter().all(exact)
}

#[test]
fn medians_follow_the_known_formula() {
    let bench = Bench::with_items(16, 2 * MIB);
    let program = env!("CARGO_BIN_EXE_highwater");
    let words = ["--input", "scans", "--items", "1,2,4,8,all", "-r", "3", "--into", "records", "--"];
    bench.done(&[&words[..], &[program, "workload", "{input}"]].concat());
    let records = bench.records("records");
    assert_eq!(records.len(), 15);
    if !is_exact(&records) {
        return skip("no peak is exact here");
    }
    let show = Command::new(program).current_dir(bench.path()).args(["show", "records", "--format", "json"]).output();
    let cells = json(&String::from_utf8(show.unwrap().stdout).unwrap())["cells"].as_array().unwrap().clone();
    assert_eq!(cells.len(), 5);
    for cell in &cells {
        let input = cell["input_bytes"].as_u64().unwrap();
        let median = cell["peak_bytes"]["median"].as_f64().unwrap() as u64;
        let need = need(input);
        assert!((need..need + 8 * MIB).contains(&median), "{median} is not about {need}: {cell:#}");
    }
    let sizes: Vec<_> = cells.iter().map(|cell| cell["input_bytes"].as_u64().unwrap() / MIB).collect();
    assert_eq!(sizes, [2, 4, 8, 16, 32]);
}

/// The most concurrent runs.
fn most_at_once(records: &[Observation]) -> usize {
    let span = |run: &Observation| {
        let start = run.started_at.as_microsecond();
        start..start + i64::try_from(run.wall_us).unwrap()
    };
    let at_start = |run: &Observation| records.iter().filter(|other| span(other).contains(&span(run).start)).count();
    records.iter().map(at_start).max().unwrap_or_default()
}

#[test]
fn runs_at_the_same_time_never_need_more_than_there_is_and_peak_as_alone() {
    let bench = Bench::new();
    bench.write("data/a.raw", 8 * MIB);
    let words = |jobs, into| {
        let program = env!("CARGO_BIN_EXE_highwater");
        // Two of about 24 MiB with a headroom of a tenth fit, three do not.
        let options = ["--input", "data", "-r", "8", "--jobs", jobs, "--memory", "72MiB", "--into", into];
        let script = format!("{program} workload {{input}} && sleep 0.3");
        let command: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        [command, ["--", "sh", "-c", &script].map(str::to_owned).to_vec()].concat()
    };
    for (jobs, into) in [("4", "four"), ("1", "one")] {
        let words = words(jobs, into);
        bench.done(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let (four, one) = (bench.records("four"), bench.records("one"));
    assert_eq!((four.len(), one.len()), (8, 8));
    assert_eq!(most_at_once(&one), 1);
    if !is_exact(&four) {
        return skip("no peak is exact here");
    }
    assert_eq!(most_at_once(&four), 2);
    let median = |records: &[Observation]| {
        let mut peaks: Vec<u64> =
            records.iter().filter_map(|run| run.peak.as_ref().value()).map(|peak| peak.bytes.0).collect();
        peaks.sort_unstable();
        peaks[peaks.len() / 2]
    };
    assert!(median(&four).abs_diff(median(&one)) <= MIB, "{} and {}", median(&four), median(&one));
}

#[test]
fn runs_go_on_until_their_peaks_agree() {
    let bench = Bench::new();
    bench.done(&["--min-runs", "3", "--max-runs", "9", "--precision", "50%", "--into", "r", "--", "true"]);
    let agreed = bench.records("r").len();
    assert!((3..=9).contains(&agreed), "{agreed}");
    // Every run needs more than the one before.
    let script =
        "n=$(cat n 2>/dev/null || echo 1); echo $((n * 2)) > n; head -c ${n}M /dev/zero | tail -c ${n}M > /dev/null";
    bench.done(&["--min-runs", "2", "--max-runs", "4", "--precision", "1%", "--into", "s", "--", "sh", "-c", script]);
    assert_eq!(bench.records("s").len(), 4);
}

#[test]
fn cost_is_bounded_and_what_is_left_can_be_made_later() {
    let bench = Bench::new();
    let words = ["-r", "6", "--into", "r", "--max-cost", "500ms", "--", "sleep", "0.2"];
    let ran = bench.done(&words);
    assert!(ran.stderr.contains("reached --max-cost"), "{}", ran.stderr);
    let made = bench.records("r").len();
    assert!((1..=2).contains(&made), "{made}");
    bench.done(&["-r", "3", "--into", "r", "--", "sleep", "0.2"]);
    assert_eq!(bench.records("r").len(), 3);
}

#[test]
fn a_sweep_that_chooses_its_sizes_is_bounded_by_its_cost() {
    let bench = Bench::new();
    let words = ["-P", "N=1,2,4,8,16,32", "--into", "r", "--until", "900ms", "--", "sh", "-c", "sleep 0.2; : {N}"];
    let ran = bench.done(&words);
    assert!(ran.stderr.contains("reached --until"), "{}", ran.stderr);
    let values = || -> Vec<String> {
        bench.records("r").iter().map(|run| run.sweep.as_ref().unwrap().parameters["N"].clone()).collect()
    };
    let made = values();
    // After one run, a size that is 32 times as large seems too expensive; another that can be paid for shows that it is not.
    assert!((1..6).contains(&made.len()) && made[0] == "1", "{made:?}");
    bench.done(&words);
    assert!(values().len() > made.len(), "the same command goes on");
    let both = [&["--max-cost", "1h"], words.as_slice()].concat();
    let ran = bench.sweep(&both);
    assert!(ran.stderr.contains("both `max-cost` and `until` limit the cost"), "{}", ran.stderr);
}

#[test]
fn the_state_of_the_page_cache_is_in_the_record() {
    let bench = Bench::with_items(1, MIB);
    for (state, is_cold) in [("cold", true), ("warm", false)] {
        bench.done(&["--input", "scans", "--cache", state, "--into", state, "--", "cat", "{input}/p01/ct.raw"]);
        let records = bench.records(state);
        let cache = records[0].cache.unwrap();
        assert_eq!(matches!(cache, Cache::Cold { .. }), is_cold, "{cache:?}");
    }
}

#[test]
fn a_warm_cache_takes_one_run_more_for_each_choice_of_parameters() {
    let bench = Bench::with_items(2, 1);
    let started = |more: &[&str], into: &str| {
        let task = format!("echo >> started.{into}; : {{input}} {{A}}");
        let input = ["--input", "scans", "--items", "1,2", "-P", "A=x,y", "--into", into];
        bench.done(&[&input, more, &["--", "sh", "-c", &task]].concat());
        let lines = std::fs::read_to_string(bench.path().join(format!("started.{into}"))).unwrap().lines().count();
        (lines, bench.records(into).len())
    };
    assert_eq!(started(&["--cache", "warm"], "warm"), (6, 4));
    assert_eq!(started(&["--cache", "warm", "--warmup", "2"], "warmed"), (12, 4), "it is warm already");
}

#[test]
fn a_peak_that_was_sampled_is_not_told_as_if_it_were_exact() {
    let bench = Bench::new();
    let ran = bench.done(&["--cgroup", "never", "--into", "r", "--", "sleep", "0.1"]);
    let line = ran.stderr.lines().find(|line| line.starts_with("1/1 run 1: peak ")).unwrap();
    assert!(line.contains(" or more, "), "{line}");
}
