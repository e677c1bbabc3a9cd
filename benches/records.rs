//! What many records cost: the peak memory and the CPU time of every command that reads records, on 100,000 and on a
//! million of them (1.1 GB).
//!
//! To be kept: 300 MB for each command at a million records. The records are synthetic: a sweep of cells with 20 runs each
//! over inputs of random size, whose peak is 3.6 times the input and a tenth of noise.
//!
//! `HIGHWATER=FILE` measures another build of the program. Other counts of records are arguments:
//! `cargo bench --bench records -- 10000`.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark that cannot run says why and ends")]

mod measured;

use std::env;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use measured::{Measured, measure};

const RUNS_OF_A_CELL: usize = 20;
const MOST_BYTES: u64 = 300_000_000;
const COUNTS: [usize; 2] = [100_000, 1_000_000];

/// The fields of a record that are the same in all of them.
const HOST: &str = r#""host":{"kernel":"6.12.57","architecture":"x86_64","cpus":16,"page_bytes":4096,"memory_bytes":68719476736,"swap_bytes":0,"cgroup":"v2"}"#;
const COUNTERS: &str =
    r#""io":{"read":2101248,"written":0},"pids_peak":1,"pressure":{"some_us":0,"full_us":0},"leftover_processes":0"#;

fn line(cell: usize, run: usize, input: u64, random: &mut fastrand::Rng) -> String {
    let seconds = cell * RUNS_OF_A_CELL + run;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let day = 1 + seconds / 86_400;
    let peak = (input as f64 * 3.6 * (1.0 + 0.1 * random.f64())) as u64 + (8 << 20);
    let wall = 1_000_000 + input / 1000 + random.u64(0..50_000);
    let fate = random.u64(0..100);
    let (outcome, own, censored) = match fate {
        0 => (r#"{"kind":"exited","status":1}"#, "null".to_owned(), false),
        1 => (r#"{"kind":"oom-killed"}"#, (peak / 2).to_string(), true),
        _ => (r#"{"kind":"exited","status":0}"#, "null".to_owned(), false),
    };
    let peak = if censored { peak / 2 } else { peak };
    let anon = peak / 10 * 9;
    let sizes = format!(
        r#"{{"files":1,"sum":{input},"largest_file":{{"path":"scan.nii","bytes":{input}}},"items":0,"largest_item":null}}"#
    );
    format!(
        r#"{{"schema_version":1,"tool_version":"0.1.0","started_at":"2026-11-{day:02}T{hour:02}:{minute:02}:{second:02}.853945Z","subject":{{"command":["segment","{{input}}","{{output}}"]}},"sweep":{{"cell":"{cell:016x}","case":"case {cell}","run":{run}}},"inputs":[{{"channel":"input","all":{sizes}}}],"runner":"process","outcome":{outcome},"wall_us":{wall},"peak":{{"bytes":{peak},"source":"own-cgroup","exactness":{{"kind":"exact","noise_bytes":524288}}}},"breakdown":{{"at_us":900000,"current":{peak},"anon":{anon},"file":4096,"shmem":0,"kernel":4096,"swap":0}},"swap":{{"peak":0,"highest_sampled":0}},"limit":{{"own":{own},"effective":{own}}},"censored":{censored},"events":{{"limit_hits":0,"ooms":0,"oom_kills":0}},"cpu":{{"user_us":{wall},"system_us":{run},"source":"cgroup"}},{COUNTERS},"series":{{"taken":20,"samples":[]}},{HOST},"logs":{{"stdout":"runs/{cell:016x}-{run}/stdout","stderr":"runs/{cell:016x}-{run}/stderr"}}}}"#
    )
}

/// A sweep's directory with all records, and two files with a half of them each.
fn records(folder: &Path, count: usize) {
    let file = |name: &str| BufWriter::new(File::create(folder.join(name)).expect("a file of records"));
    let mut all = file("observations.jsonl");
    let mut halves = [file("odd.jsonl"), file("even.jsonl")];
    let mut random = fastrand::Rng::with_seed(7);
    let cells = count / RUNS_OF_A_CELL;
    for cell in 0..cells {
        let input = (1 << 20) + random.u64(0..1 << 30);
        for run in 1..=RUNS_OF_A_CELL {
            let line = line(cell, run, input, &mut random);
            for file in [&mut all, &mut halves[run % 2]] {
                writeln!(file, "{line}").expect("a record is written");
            }
        }
    }
    let keys: Vec<String> = (0..cells).map(|cell| format!(r#"{{"key":"{cell:016x}"}}"#)).collect();
    fs::write(folder.join("plan"), format!(r#"{{"schema_version":1,"cells":[{}]}}"#, keys.join(","))).expect("a plan");
    let last = folder.join(format!("runs/{:016x}-{RUNS_OF_A_CELL}", cells - 1));
    fs::create_dir_all(&last).expect("the folder of a run");
    for name in ["stdout", "stderr"] {
        fs::write(last.join(name), "done\n").expect("the output of a run");
    }
}

/// The commands, each with its arguments. `{}` is the sweep.
const COMMANDS: [(&str, &[&str]); 11] = [
    ("show", &["show", "{}"]),
    ("show, JSON", &["show", "{}", "--format", "json"]),
    ("fit", &["fit", "{}"]),
    ("check --records", &["check", "--records", "{}"]),
    ("logs", &["logs", "{}"]),
    ("export", &["export", "{}"]),
    ("export, JSON", &["export", "{}", "--format", "json"]),
    ("export to a file", &["export", "{}", "--output", "{}/table.csv"]),
    ("merge", &["merge", "{}/odd.jsonl", "{}/even.jsonl", "--plan", "{}/plan", "--into", "{}/merged"]),
    ("report, HTML", &["report", "{}", "--output", "{}/report.html"]),
    ("report, a table", &["report", "{}"]),
];

fn main() {
    let program = env::var("HIGHWATER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_highwater").to_owned());
    let counts: Vec<usize> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    let only = env::var("COMMANDS").unwrap_or_default();
    let mut too_much = Vec::new();
    for count in if counts.is_empty() { COUNTS.to_vec() } else { counts } {
        let folder = tempfile::tempdir().expect("a temporary folder");
        records(folder.path(), count);
        let bytes = fs::metadata(folder.path().join("observations.jsonl")).expect("the records").len();
        println!("{count} records, {} MB", bytes / 1_000_000);
        println!("{:<18} {:>10} {:>10} {:>10} {:>7}", "command", "peak", "CPU time", "wall time", "status");
        for (name, arguments) in COMMANDS.iter().filter(|(name, _)| name.starts_with(&only)) {
            let mut command = Command::new(&program);
            command.args(arguments.iter().map(|word| word.replace("{}", &folder.path().display().to_string())));
            let Measured { memory, cpu, wall, status } = measure(command.current_dir(folder.path()));
            let status = status.map_or_else(|| "killed".to_owned(), |status| status.to_string());
            println!("{name:<18} {:>7} MB {cpu:>8.2} s {wall:>8.2} s {status:>7}", memory / 1_000_000);
            if count <= 1_000_000 && memory > MOST_BYTES {
                too_much.push(format!("{name} at {count} records"));
            }
        }
    }
    assert!(too_much.is_empty(), "more than 300 MB: {}", too_much.join(", "));
}
