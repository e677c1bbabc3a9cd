//! `highwater export` and `highwater import`: records as a table, and tables as records.

use std::fs;

use assert_cmd::Command;
use highwater::model::observation::{Cache, Exactness, Observation, RunnerKind, Warning};
use highwater::model::reading::Reading;
use highwater::model::timestamp::Timestamp;
use highwater::model::units::Bytes;
use highwater::store::import::blank;
use highwater::store::{self, Source, table};
use proptest::prelude::*;
use serde_json::Value;

use crate::store::fixtures;

fn highwater(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = command.args(arguments).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn import(text: &str, arguments: &[&str]) -> (i32, Vec<Observation>, String) {
    let (status, stdout, stderr) = highwater(&[&["import", "-"], arguments].concat(), text);
    (status, stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), stderr)
}

/// Without the samples of memory over time, which tables do not contain.
fn without_samples(mut observation: Observation) -> Observation {
    observation.series.samples.clear();
    observation
}

fn recorded() -> Vec<Observation> {
    store::read(&fixtures()).unwrap().observations.into_iter().map(without_samples).collect()
}

#[test]
fn an_exported_table_is_imported_as_the_same_observations() {
    let records = fixtures().display().to_string();
    let (status, csv, stderr) = highwater(&["export", &records], "");
    assert_eq!((status, stderr.as_str()), (0, ""));
    let (status, imported, stderr) = import(&csv, &[]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(imported, recorded());
    // The fit is the same as for the records.
    let fitted = |file: &str, input: &str| highwater(&["fit", file, "--task", "stitch", "--format", "json"], input);
    assert_eq!(fitted("-", &csv), fitted(&records, ""));
}

#[test]
fn warnings_and_the_cache_survive_the_table_in_either_form() {
    let records = fixtures().join("warnings.jsonl").display().to_string();
    let (_, csv, _) = highwater(&["export", &records], "");
    let mut runs: Vec<Observation> =
        store::read(records.as_ref()).unwrap().observations.into_iter().map(without_samples).collect();
    runs[0].warnings.push(Warning::SwappedOut { bytes: Bytes(4096) });
    assert_eq!(import(&csv, &[]).1[1..], runs[1..]);
    let table = exported(&runs[0]);
    assert_eq!(import(&table, &[]).1, runs[..1]);
    // The texts are for people, and count only in a table without the values.
    let texts = r#""[""1 process was still running when the main process ended, and killed"",""up to 4 KiB were swapped out and are not included in the peak""]""#;
    assert!(table.contains(texts), "{table}");
    let (_, imported, _) = import(&table.replace("warning_values", "other"), &[]);
    assert_eq!(imported[0].notes().collect::<Vec<_>>(), runs[0].notes().collect::<Vec<_>>());
}

#[test]
fn a_table_of_an_older_highwater_keeps_its_warnings() {
    let table = "peak_bytes,wall_seconds,schema_version,warnings\n5,1,1,\"[\"\"it swapped\"\",\"\"cache: warm, the inputs were read before the run\"\"]\"\n";
    let (status, runs, stderr) = import(table, &[]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(runs[0].cache, Some(Cache::Warm));
    assert_eq!(runs[0].warnings, [Warning::Text { text: "it swapped".to_owned() }]);
}

#[test]
fn every_field_of_an_observation_has_a_column() {
    let columns: Vec<&str> = table::columns().iter().map(|column| column.name).collect();
    let mut unique = columns.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), columns.len());
    assert!(table::columns().iter().all(|column| !column.holds.is_empty()));
    let (_, csv, _) = highwater(&["export", &fixtures().display().to_string()], "");
    let header = csv.lines().next().unwrap().to_owned();
    insta::assert_snapshot!(header.replace(',', "\n"));
}

#[test]
fn columns_of_numbers_hold_numbers_or_nothing() {
    let runs: Vec<_> = recorded().into_iter().chain([blank(Timestamp::UNIX_EPOCH)]).collect();
    for run in runs {
        let csv = exported(&run);
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let header = reader.headers().unwrap().clone();
        let row = reader.records().next().unwrap().unwrap();
        for (name, cell) in header.iter().zip(&row) {
            if name.ends_with("_bytes") || name.ends_with("_seconds") || name.ends_with("_peak") {
                assert!(cell.is_empty() || cell.parse::<f64>().is_ok(), "{name}: {cell}");
            }
        }
    }
}

#[test]
fn one_column_of_several_that_belong_together_is_enough() {
    let text = "peak_bytes,wall_seconds,storage_outputs_bytes\n1000,1,5\n";
    let (read, left_out) = table::parse("table", text, &blank(Timestamp::UNIX_EPOCH)).unwrap();
    assert_eq!((read.len(), left_out.len()), (1, 0));
    assert_eq!(read[0].storage.unwrap().outputs_bytes.value().unwrap().0, 5);
    // JSON with blanks, as other programs write it.
    let text = "peak_bytes,wall_seconds,unread\n,1,\"{ \"\"peak_bytes\"\" : \"\"gone\"\" }\"\n";
    let (read, left_out) = table::parse("table", text, &blank(Timestamp::UNIX_EPOCH)).unwrap();
    assert_eq!((read.len(), left_out.len()), (1, 0));
}

/// Fields that may be `unsupported` or `gone`.
const READINGS: [&str; 25] = [
    "/peak",
    "/breakdown",
    "/breakdown/anon",
    "/breakdown/file",
    "/breakdown/shmem",
    "/breakdown/kernel",
    "/breakdown/swap",
    "/swap/peak",
    "/swap/highest_sampled",
    "/limit/own",
    "/limit/effective",
    "/events",
    "/events/limit_hits",
    "/events/ooms",
    "/events/oom_kills",
    "/cpu",
    "/io",
    "/pids_peak",
    "/pressure",
    "/leftover_processes",
    "/host",
    "/host/memory_bytes",
    "/host/swap_bytes",
    "/cpu",
    "/io",
];

/// Fields that may be absent.
const OPTIONAL: [&str; 13] = [
    "sweep",
    "inputs",
    "prediction",
    "container",
    "logs",
    "warnings",
    "subject/name",
    "container/image_id",
    "container/engine/version",
    "container/noise_floor",
    "container/unanswered",
    "series/file",
    "peak/file",
];

fn exported(observation: &Observation) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&mut file, observation).unwrap();
    let mut csv = Vec::new();
    let unusable = table::write(&[Source::open(file.path()).unwrap()], table::Format::Csv, &mut csv).unwrap();
    assert_eq!(unusable, []);
    String::from_utf8(csv).unwrap()
}

proptest! {
    #[test]
    fn whatever_could_not_be_read_survives_the_table(
        row in 0..10_usize,
        words in prop::collection::vec((0..READINGS.len(), any::<bool>()), 0..6),
        missing in prop::collection::vec(0..OPTIONAL.len(), 0..4),
        case in "[ a-z,\"\n;é=-]{1,12}",
        wall in any::<u64>(),
    ) {
        let mut value = serde_json::to_value(&recorded()[row]).unwrap();
        for (place, gone) in words {
            if let Some(reading) = value.pointer_mut(READINGS[place]) {
                *reading = if gone { "gone" } else { "unsupported" }.into();
            }
        }
        for place in missing {
            let path = format!("/{}", OPTIONAL[place]);
            let (above, name) = path.rsplit_once('/').unwrap();
            if let Some(Value::Object(object)) = value.pointer_mut(above) {
                object.remove(name);
            }
        }
        value["wall_us"] = wall.into();
        let mut observation: Observation = serde_json::from_value(value).unwrap();
        if let Some(sweep) = &mut observation.sweep {
            sweep.case = case;
        }
        let csv = exported(&observation);
        let read = table::parse("table", &csv, &blank(Timestamp::UNIX_EPOCH)).unwrap();
        prop_assert_eq!(read, (vec![observation], vec![]));
    }

    #[test]
    fn no_table_makes_it_panic(text in "(peak_bytes|wall_seconds|input_bytes|peak_rss|realtime|max_rss|s|[a-z.]{0,3}|,|\t|\"|\r|\n|ä|[0-9.e-]{0,4}|gone|none){0,60}") {
        let about = store::import::About { name: "table", task: None, written_at: Timestamp::UNIX_EPOCH };
        let _ = store::import::import(&text, None, &about);
        for header in ["peak_bytes,wall_seconds,", "peak_rss\trealtime\t", "s\tmax_rss\t"] {
            let _ = store::import::import(&format!("{header}{text}"), None, &about);
        }
    }
}

#[test]
fn json_has_the_same_with_numbers_as_numbers() {
    let (_, json, _) = highwater(&["export", &fixtures().display().to_string(), "--format", "json"], "");
    let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len(), 13);
    assert_eq!(rows[0]["peak_bytes"], 260 << 20);
    assert_eq!(rows[0]["wall_seconds"], 9.1);
    assert_eq!(rows[0]["input_bytes.tiles.sum"], 100 << 20);
    assert_eq!(rows[0]["extension_bytes.tiles[*.nii.gz].sum"], (100 << 20) - 1000);
    assert_eq!(rows[0]["parameter.LEVELS"], "4");
    assert_eq!(rows[0]["command"][1], "stitch.py");
    assert_eq!(rows[6]["censored"], "oom");
    assert_eq!(rows[0].get("censored"), None);
}

#[test]
fn a_table_with_a_few_columns_will_do() {
    let text = "input_bytes,peak_bytes,wall_seconds,censored\n1000,2000,1.5,\n2000,4000,3,limit\n";
    let (status, runs, stderr) = import(text, &["--task", "lungs"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(runs[0].runner, RunnerKind::Imported);
    assert_eq!(runs[0].subject.name.as_deref(), Some("lungs"));
    assert_eq!((runs[0].wall_us, runs[0].inputs[0].all.sum.0, runs[0].censored), (1_500_000, 1000, false));
    assert!(runs[1].censored);
    let Reading::Value(peak) = &runs[0].peak else { panic!("{:?}", runs[0].peak) };
    assert!(matches!(peak.exactness, Exactness::LowerBound { .. }), "nobody said how it was measured");
    assert_eq!(runs[0].host, Reading::Unsupported);
}

#[test]
fn parameters_of_a_table_without_cells_are_kept() {
    let text = "\
task,parameter.B,parameter.A,input_bytes,peak_bytes,wall_seconds,started_at
map,2,1,1000,2000,1,2026-01-02T03:04:05Z
map,2,9,1000,5000,1,2026-01-02T03:04:05Z
map,2,1,1000,2100,1,2026-01-02T03:04:05Z
map,2,1,3000,6000,1,2026-01-02T03:04:05Z
map,,,1000,7,1,2026-01-02T03:04:05Z
";
    let (status, runs, stderr) = import(text, &[]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let cells: Vec<_> =
        runs.iter().map(|run| run.sweep.as_ref().map(|sweep| (sweep.cell.as_str(), sweep.run))).collect();
    let expected = [
        Some(("map,input=1000,A=1,B=2", 1)),
        Some(("map,input=1000,A=9,B=2", 1)),
        Some(("map,input=1000,A=1,B=2", 2)),
        Some(("map,input=3000,A=1,B=2", 1)),
        None,
    ];
    assert_eq!(cells, expected);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("map.jsonl").display().to_string();
    let (_, records, _) = highwater(&["import", "-", "-o", &file], text);
    assert_eq!(records, "");
    let (_, shown, _) = highwater(&["show", &file], "");
    insta::assert_snapshot!(shown);
    let (_, _, stderr) = highwater(&["fit", &file], "");
    assert!(stderr.starts_with("fitting a rule to each of 3 parameter combinations"), "{stderr}");
    // Exporting it again gives the same, including the cells.
    let (_, csv, _) = highwater(&["export", &file], "");
    let (_, again, _) = import(&csv, &[]);
    assert_eq!(again, store::read(file.as_ref()).unwrap().observations);
    let (_, again, _) = import("cell,parameter.A,peak_bytes,wall_seconds\nx,1,5,1\nx,1,6,1\n", &[]);
    let cells: Vec<_> = again.iter().filter_map(|run| run.sweep.as_ref()).map(|it| (&*it.cell, it.run)).collect();
    assert_eq!(cells, [("x", 1), ("x", 2)]);
}

#[test]
fn a_row_without_a_peak_or_a_time_is_no_run() {
    let text = "task,peak_bytes,wall_seconds\na,,1\nb,1000,\nc,1000,0.5\n";
    let (status, runs, stderr) = import(text, &[]);
    assert_eq!((status, runs.len(), runs[0].wall_us), (0, 1, 500_000));
    let (status, _, none) = import("peak_bytes,wall_seconds\n1000,\n", &[]);
    assert_eq!(status, 5);
    insta::assert_snapshot!(stderr + &none);
}

#[test]
fn a_negative_size_is_told_with_its_place_and_a_negative_status_is_read() {
    let (status, runs, stderr) =
        import("peak_bytes,wall_seconds,outcome,exit_status\n5,1,exited,-1\n5,1,exited,137.0\n", &[]);
    assert_eq!((status, runs.len()), (0, 2), "{stderr}");
    let text = "peak_bytes,wall_seconds,cell,run,peak_exactness\n-5,1,a,1,\n5,1,a,-1,\n5,1,a,1,exact\n";
    let (status, _, stderr) = import(text, &[]);
    assert_eq!(status, 2);
    insta::assert_snapshot!(stderr);
}

const TRACE: &str = "\
task_id\thash\tnative_id\tname\tstatus\texit\tsubmit\tduration\trealtime\t%cpu\tpeak_rss\tpeak_vmem\trchar\twchar
4\tfb/cc864e\t58589\tALIGN:MAP (sample2)\tCOMPLETED\t0\t2025-05-25 12:13:14.094\t650ms\t1m 30s\t34.4%\t1.5 GB\t4.6 MB\t193.5 KB\t540 B
5\t8b/2b5695\t58627\tALIGN:MAP (sample3)\tFAILED\t137\t2025-05-25 12:13:14.178\t730ms\t194ms\t28.7%\t3.1 MB\t4.6 MB\t177 KB\t3.3 KB
6\t24/5f3856\t58596\tQC (sample3)\tCACHED\t0\t2025-05-25 12:13:14.128\t697ms\t173ms\t46.2%\t3.4 MB\t4.6 MB\t193.5 KB\t540 B
7\t24/5f3857\t58597\tQC (sample4)\tABORTED\t-\t2025-05-25 12:13:14.128\t-\t-\t-\t-\t-\t-\t-
8\t24/5f3858\t58598\tQC (sample5)\tCOMPLETED\t0\t2025-05-25 12:13:14.128\t12ms\t5ms\t0.0%\t0\t0\t0\t0
";

#[test]
fn a_trace_of_nextflow_becomes_lower_bounds() {
    let (status, runs, stderr) = import(TRACE, &[]);
    assert_eq!(status, 0);
    insta::assert_snapshot!(stderr);
    assert_eq!(runs.len(), 4);
    let mut first = runs[0].clone();
    first.tool_version = "…".to_owned();
    insta::assert_json_snapshot!(first);
    let peaks: Vec<u64> = runs.iter().filter_map(|run| run.peak.as_ref().value()).map(|peak| peak.bytes.0).collect();
    assert_eq!(peaks, [3 << 29, 3_250_586, 3_565_159]);
    assert!(runs[1].censored && !runs[1].outcome.succeeded());
    let raw = "name\tstatus\texit\trealtime\tpeak_rss\tstart\nMAP\tCOMPLETED\t0\t90000\t1073741825\t1748175194094\n";
    let (_, runs, _) = import(raw, &[]);
    assert_eq!((runs[0].wall_us, runs[0].peak.as_ref().value().unwrap().bytes.0), (90_000_000, (1 << 30) + 1));
}

#[test]
fn a_benchmark_of_snakemake_becomes_lower_bounds() {
    let text = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n\
                12.3456\t0:00:12\t100.50\t900.00\t90.00\t95.00\t1.00\t2.50\t98.00\t12.00\n\
                0.1000\t0:00:00\t-\t-\t-\t-\t-\t-\t0.00\t0.00\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("map_reads.tsv");
    fs::write(&file, text).unwrap();
    let (status, stdout, stderr) = highwater(&["import", file.to_str().unwrap()], "");
    assert_eq!(status, 0);
    assert!(stderr.ends_with("map_reads.tsv: 1 run without a peak: not used to fit memory\n"), "{stderr}");
    let (run, short) = stdout.trim().split_once('\n').unwrap();
    let [run, short]: [Observation; 2] = [run, short].map(|line| serde_json::from_str(line).unwrap());
    assert_eq!((short.peak, short.wall_us), (Reading::Unsupported, 100_000));
    assert_eq!(run.subject.name.as_deref(), Some("map_reads"));
    let Reading::Value(peak) = &run.peak else { panic!("{:?}", run.peak) };
    assert_eq!((peak.bytes.0, run.wall_us), (105_381_888, 12_345_600));
    assert!(matches!(&peak.exactness, Exactness::LowerBound { reason, .. } if reason.contains("Snakemake")));
}

#[test]
fn what_is_wrong_with_a_table_is_told_with_its_place() {
    let told: Vec<String> = [
        "a,b\n1,2\n",
        "",
        "peak_bytes,input_bytes\n5,1\n",
        "peak_bytes,wall_seconds,censored,schema_version\nmany,soon,perhaps,7\n5,1\n",
        "peak_rss\trealtime\n1 XB\t5 parsecs\n",
        "s\tmax_rss\nlong\t-5\n",
    ]
    .into_iter()
    .map(|text| {
        let (status, runs, stderr) = import(text, &[]);
        assert!(runs.is_empty());
        format!("{text}\nstatus {status}\n{stderr}")
    })
    .collect();
    insta::assert_snapshot!(told.join("\n---\n"));
    let (status, _, stderr) = import("s\tmax_rss\n1\t-\n", &[]);
    assert_eq!(status, 5, "{stderr}");
}

#[test]
fn a_column_that_is_named_twice_is_told_with_its_place() {
    let told: Vec<String> = [
        "peak_bytes,peak_bytes,wall_seconds\n5,6,1\n",
        "peak_rss\trealtime\tpeak_rss\n1 KB\t5s\t2 KB\n",
        "s\tmax_rss\ts\n1\t5\t2\n",
    ]
    .into_iter()
    .map(|text| {
        let (status, runs, stderr) = import(text, &[]);
        assert_eq!((status, runs.len()), (2, 0));
        stderr
    })
    .collect();
    insta::assert_snapshot!(told.join("\n---\n"));
}

#[test]
fn a_quote_that_is_never_closed_is_told_where_it_opens() {
    let (status, runs, stderr) = import("peak_bytes,wall_seconds,case\n5,1,a\n5,1,\"b\n5,1,c\n", &[]);
    assert_eq!((status, runs.len()), (2, 0));
    assert!(stderr.contains("standard input:3:5: unclosed quote"), "{stderr}");
}

#[test]
fn records_from_a_pipe_make_the_same_table() {
    let records = fs::read(fixtures().join(store::OBSERVATIONS)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let from_pipe = command.args(["export", "/dev/stdin"]).write_stdin(records).output().unwrap();
    let (status, from_file, _) = highwater(&["export", &fixtures().display().to_string()], "");
    assert_eq!((from_pipe.status.code(), status), (Some(0), 0));
    assert_eq!(String::from_utf8(from_pipe.stdout).unwrap(), from_file);
}

#[test]
fn rows_without_any_peak_are_written_although_they_are_too_little_data() {
    let table = "process\tstatus\texit\trealtime\tpeak_rss\nALIGN\tCOMPLETED\t0\t10s\t-\n";
    let (status, runs, stderr) = import(table, &[]);
    assert_eq!((status, runs.len()), (5, 1), "{stderr}");
    assert!(stderr.contains("no row contains a measured run"), "{stderr}");
    let (status, help, _) = highwater(&["import", "--help"], "");
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        status == 0 && help.contains("5 no row contains a measured run (rows without a peak are written"),
        "{help}"
    );
}

#[test]
fn records_are_no_table_to_import() {
    let records = fs::read_to_string(fixtures().join(store::OBSERVATIONS)).unwrap();
    let (status, runs, stderr) = import(&records, &[]);
    assert_eq!((status, runs.len()), (2, 0));
    assert!(stderr.contains("found JSON instead of a table") && !stderr.contains("column `"), "{stderr}");
}
