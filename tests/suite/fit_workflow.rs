//! `highwater fit --all`: the limits of all tasks of a workflow.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use regex::Regex;
use serde_json::{Value, json};

use super::fit_emit::python;
use super::fit_records::{Records, growing, run};

const PROCESSES: usize = 40;
const MIB: u64 = 1 << 20;

fn process(place: usize) -> String {
    format!("LAB_SCANS:STAGE_{}:STEP_{place}", place / 8)
}

/// The highest peak of a process that succeeds.
fn highest(place: usize) -> u64 {
    (200 * place as u64 + 160) * MIB
}

/// The trace of a pipeline, with the line ends of Windows. Of the processes, 3 ran once, 5 failed, 6 was killed in each
/// run and 7 in its first attempts; some runs of 9 have no peak.
fn trace() -> String {
    let mut text = "task_id\tprocess\tname\tstatus\texit\tattempt\tstart\trealtime\tmemory\tpeak_rss\r\n".to_owned();
    let mut row = |place: usize, sample: u64, end: &str, attempt: u64, memory: &str, peak: &str| {
        let process = process(place);
        let _ = write!(
            text,
            "{sample}\t{process}\t{process} (scan {sample})\t{end}\t{attempt}\t2026-03-01 08:00:00.000\t{}m 5s\t{memory}\t{peak}\r\n",
            sample + 1
        );
    };
    for place in 0..PROCESSES {
        for sample in 0..if place == 3 { 1 } else { 9 } {
            let peak = format!("{} MB", highest(place) / MIB - 8 * sample);
            match place {
                5 => row(place, sample, "FAILED\t1", 1, "4 GB", &peak),
                6 => row(place, sample, "FAILED\t137", 1, "4 GB", &peak),
                7 => {
                    row(place, sample, "FAILED\t137", 1, "4 GB", "1.5 GB");
                    row(place, sample, "COMPLETED\t0", 2, "8 GB", &peak);
                }
                9 if sample < 4 => row(place, sample, "COMPLETED\t0", 1, "-", "-"),
                _ => row(place, sample, "COMPLETED\t0", 1, "4 GB", &peak),
            }
        }
    }
    text
}

/// The records of the trace.
fn imported() -> Records {
    let records = Records::new([]);
    fs::write(records.path("trace.txt"), trace()).unwrap();
    let (status, _, stderr) = records.highwater(&["import", "trace.txt", "-o", "trace.jsonl"]);
    assert_eq!(status, 0);
    let said = "highwater: trace.txt: 18 runs with status 137 (SIGKILL): assumed to be killed for lack of memory\n\
                highwater: trace.txt: 4 runs without a peak: not used to fit memory\n";
    assert_eq!(stderr, said);
    records
}

/// The limits in a configuration of Nextflow by selector, in MiB. Accepts what is written here and nothing else.
fn limits(config: &str) -> BTreeMap<String, u64> {
    let block = r"    withName: '((?:[^'\\]|\\.)*)' \{\n        memory = \{ (\d+)\.MB \* 2 \*\* \(task\.attempt - 1\) \}\n    \}\n";
    let comment = r"(?m)^ *//[^\n]*\n";
    let config = Regex::new(comment).unwrap().replace_all(config, "");
    let whole = Regex::new(&format!(r"\Aprocess \{{\n(?:{})*\}}\n\z", block.replace("((?:", "(?:(?:"))).unwrap();
    assert!(whole.is_match(&config), "{config}");
    let blocks = Regex::new(block).unwrap();
    let limits = blocks.captures_iter(&config).map(|found| {
        let selector = found[1].replace("\\\\", "\\").replace("\\'", "'");
        (selector, found[2].parse().unwrap())
    });
    limits.collect()
}

#[test]
fn a_trace_of_forty_processes_becomes_one_configuration() {
    let records = imported();
    let (status, config, stderr) =
        records.highwater(&["fit", "--all", "trace.jsonl", "--emit", "nextflow", "--objective", "safe"]);
    assert_eq!(status, 0, "{stderr}");
    let limits = limits(&config);
    assert_eq!(limits.len(), PROCESSES - 3);
    for place in (0..PROCESSES).filter(|place| ![3, 5, 6].contains(place)) {
        let selected = limits
            .iter()
            .filter(|(selector, _)| Regex::new(&format!("^(?:{selector})$")).unwrap().is_match(&process(place)));
        let selected: Vec<u64> = selected.map(|(_, limit)| *limit).collect();
        let [limit] = selected.as_slice() else { panic!("{}: {selected:?}", process(place)) };
        // The killed runs of process 7 had 4 GiB.
        let needed = if place == 7 { 4097 } else { highest(place) / MIB };
        assert!(*limit >= needed && *limit < 2 * needed, "{}: {limit}", process(place));
    }
    for (place, reason) in [
        (3, "1 run with a usable peak, expected at least 3"),
        (5, "no run with a usable peak: 9 failed"),
        (6, "all 9 runs ran out of memory or reached their limit, so no peak shows the need"),
    ] {
        let line = format!("{}: {reason}", process(place));
        assert!(config.contains(&format!("    //   {line}\n")) && stderr.contains(&line), "{config}{stderr}");
    }
    assert!(config.contains("// at least: the peaks were sampled, so they are lower bounds"), "{config}");
    assert_eq!(config.matches("runs, sampled peaks, no input sizes").count(), PROCESSES - 3);
}

#[test]
fn a_process_without_any_peak_is_named() {
    let records = Records::new([]);
    let mut text = "process\tstatus\texit\trealtime\tpeak_rss\n".to_owned();
    for run in 0..4 {
        let _ = writeln!(text, "SHORT\tCOMPLETED\t0\t5ms\t0\nLONG\tCOMPLETED\t0\t1m\t{} MB", 500 - run);
    }
    fs::write(records.path("trace.txt"), text).unwrap();
    let (status, _, stderr) = records.highwater(&["import", "trace.txt", "-o", "trace.jsonl"]);
    assert_eq!(status, 0, "{stderr}");
    let (status, config, stderr) = records.highwater(&["fit", "--all", "trace.jsonl", "--emit", "nextflow"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(config.contains("//   SHORT: no run with a usable peak: 4 without a peak\n"), "{config}");
    let (status, _, stderr) = records.highwater(&["report", "trace.jsonl"]);
    assert_eq!(status, 0, "{stderr}");
}

#[test]
fn the_table_and_json_say_the_same_as_the_configuration() {
    let records = imported();
    let (status, table, stderr) =
        records.highwater(&["fit", "--all", "trace.jsonl", "--emit", "nextflow", "-o", "memory.config"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(table);
    let config = fs::read_to_string(records.path("memory.config")).unwrap();
    let limits = limits(&config);
    let (status, stdout, _) = records.highwater(&["fit", "--all", "trace.jsonl", "--format", "json"]);
    assert_eq!(status, 0);
    let tasks: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    assert_eq!(tasks.len(), PROCESSES);
    for task in &tasks {
        let limit = limits.get(task["task"].as_str().unwrap());
        match limit {
            Some(limit) => {
                assert_eq!(task["declaration"]["limit"]["base"].as_u64().unwrap().div_ceil(MIB), *limit);
                assert_eq!((&task["lower_bound"], &task["coverage"]), (&json!(true), &Value::Null));
            }
            None => assert_eq!(task["outcome"], "left-alone"),
        }
    }
}

/// Runs of a rule whose inputs are not recorded.
fn unsized_runs(rule: &str, peaks: &[u64]) -> Vec<Value> {
    let run = |peak: &u64| {
        let mut run = run(1, peak * MIB);
        run["inputs"] = json!([]);
        run["subject"]["name"] = json!(rule);
        run
    };
    peaks.iter().map(run).collect()
}

/// The rules of a profile of Snakemake with their expressions.
fn profile(text: &str) -> BTreeMap<String, String> {
    let entry = Regex::new("(?m)^  (\".*\"):\n    mem_mb: (\".*\")$").unwrap();
    let unquoted = |quoted: &str| serde_json::from_str::<String>(quoted).unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).count();
    let entries: BTreeMap<_, _> =
        entry.captures_iter(text).map(|found| (unquoted(&found[1]), unquoted(&found[2]))).collect();
    assert_eq!(lines, 1 + 2 * entries.len(), "{text}");
    entries
}

#[test]
fn snakemake_gets_one_profile() {
    let records = Records::growing(1.8)
        .and(unsized_runs("sort", &[100, 104, 102, 101]))
        .and(unsized_runs("LAB:SORT", &[100, 104, 102, 101]))
        .and(unsized_runs("merge", &[100, 104]));
    let (status, text, stderr) = records.fit(&["--all", "--emit", "snakemake", "--objective", "safe"]);
    assert_eq!(status, 0, "{stderr}");
    insta::assert_snapshot!(text);
    let rules = profile(&text);
    assert_eq!(rules.keys().collect::<Vec<_>>(), ["segment", "sort"]);
    let file = records.path("deep/scan.nii");
    fs::create_dir(records.path("deep")).unwrap();
    for n in [1000_u64, 2_000_000_000] {
        fs::File::create(&file).unwrap().set_len(n).unwrap();
        let program = "import sys\nfor path in sys.argv[2:]:\n    for attempt in [1, 2]:\n        print(eval(sys.argv[1], {'input': [path], 'attempt': attempt}))";
        let Some(said) =
            python(program, &[&rules["segment"], file.to_str().unwrap(), records.path("deep").to_str().unwrap()])
        else {
            return;
        };
        let for_size = records.json(&["--task", "segment", "--objective", "safe", "--for-size", &n.to_string()]);
        let megabytes = for_size["for_sizes"][0]["limit"].as_u64().unwrap().div_ceil(1_000_000);
        assert_eq!(said, format!("{megabytes}\n{}\n{megabytes}\n{}", 2 * megabytes, 2 * megabytes));
    }
}

#[test]
fn a_process_with_sized_inputs_gets_a_closure() {
    let (status, config, stderr) = Records::growing(1.8).fit(&["--all", "--emit", "nextflow"]);
    assert_eq!(status, 0, "{stderr}");
    insta::assert_snapshot!(config);
}

#[test]
fn several_sweeps_are_one_workflow() {
    let records = Records::growing(1.8);
    let other = growing(0.5).map(|(n, peak)| {
        let mut run = run(n, peak);
        run["subject"]["name"] = json!("register");
        format!("{run}\n")
    });
    fs::write(records.path("other.jsonl"), other.collect::<String>()).unwrap();
    let (status, table, stderr) = records.fit(&["other.jsonl", "--all"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(table.contains("segment") && table.contains("register"), "{table}");
    let (status, _, stderr) = records.fit(&["other.jsonl"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("--all"), "{stderr}");
}

#[test]
fn runs_without_sizes_do_not_take_the_sizes_of_others() {
    let mixed = Records::growing(1.8).and(unsized_runs("segment", &[400, 410]));
    let (status, table, stderr) = mixed.fit(&["--all"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(table.contains("*n)") && table.contains("20 of 22"), "{table}");
}

#[test]
fn one_size_only_is_left_alone() {
    let one_size = (0..9).map(|place| run(1 << 30, (500 + place) * MIB));
    let (status, table, stderr) = Records::new(one_size).fit(&["--all"]);
    assert_eq!(status, 5);
    assert!(table.contains("segment") && table.contains("1 size of inputs, expected"), "{table}");
    assert!(stderr.contains("not enough data for a limit of the only task"), "{stderr}");
}

#[test]
fn only_workflow_engines_take_a_whole_workflow() {
    let (status, _, stderr) = Records::growing(1.8).fit(&["--all", "--emit", "slurm"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("slurm has no configuration of a whole workflow"), "{stderr}");
}

/// The configuration of Nextflow for the processes of a trace with these rows, and what was said.
fn config_of(rows: &[&str]) -> (String, String) {
    let records = Records::new([]);
    let header = "process\tname\tstatus\texit\tattempt\trealtime\tmemory\tpeak_rss\n";
    fs::write(records.path("trace.txt"), header.to_owned() + &rows.concat()).unwrap();
    let (status, _, stderr) = records.highwater(&["import", "trace.txt", "-o", "trace.jsonl"]);
    assert_eq!(status, 0, "{stderr}");
    let (status, config, stderr) = records.highwater(&["fit", "--all", "trace.jsonl", "--emit", "nextflow"]);
    assert_eq!(status, 0, "{stderr}");
    (config, stderr)
}

#[test]
fn a_name_that_also_selects_a_process_left_alone_is_left_alone() {
    let of = |process: &str, peak: &str| format!("{process}\t{process} (1)\tCOMPLETED\t0\t1\t1m\t4 GB\t{peak}\n");
    let (sort, map, other) = (of("SORT", "100 MB"), of("MAP", "100 MB"), of("LAB:SORT", "9 GB"));
    let (config, stderr) = config_of(&[&sort, &sort, &sort, &map, &map, &map, &other]);
    assert_eq!(limits(&config).keys().collect::<Vec<_>>(), ["MAP"]);
    assert!(stderr.contains("SORT: its name also selects a process of a subworkflow that is left alone"), "{stderr}");
}

#[test]
fn a_killed_run_without_a_sample_raises_the_limit() {
    let done = "STEP\tSTEP (1)\tCOMPLETED\t0\t1\t1m\t4 GB\t100 MB\n";
    let killed = "STEP\tSTEP (1)\tFAILED\t137\t1\t1m\t4 GB\t-\n";
    let (config, _) = config_of(&[done, done, done, done, killed]);
    assert!(limits(&config)["STEP"] > 4000, "{config}");
}
