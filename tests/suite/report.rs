//! `highwater report`: its formats, and its errors.

mod browser;
mod driver;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The recorded sweep.
pub(crate) fn segment() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/records/segment/observations.jsonl")
}

/// A directory for reports.
struct Folder(TempDir);

/// How a command ended, and its output.
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn report(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.current_dir(self.0.path()).env_clear().arg("report").args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { status: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn html(&self, records: &Path, name: &str) -> PathBuf {
        let ended = self.report(&[records.to_str().unwrap(), "-o", name]);
        assert_eq!(ended.status, 0, "{}", ended.stderr);
        self.path(name)
    }

    /// The recorded sweep with a change in each line.
    fn changed(&self, name: &str, change: impl Fn(usize, &mut Value)) -> PathBuf {
        let text = fs::read_to_string(segment()).unwrap();
        let lines = text.lines().enumerate().map(|(place, line)| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            change(place, &mut record);
            format!("{record}\n")
        });
        self.write(name, &lines.collect::<String>())
    }
}

fn ok(ended: Ended) -> String {
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    ended.stdout
}

fn segment_as(format: &str) -> String {
    shared(&ok(Folder::new().report(&[segment().to_str().unwrap(), "--format", format])))
}

/// The text without the place of this checkout.
fn shared(text: &str) -> String {
    text.replace(env!("CARGO_MANIFEST_DIR"), "/checkout")
}

#[test]
fn the_table_has_the_verdict_the_rules_and_the_cases() {
    insta::assert_snapshot!(segment_as("table"));
}

#[test]
fn markdown_is_fit_for_a_pull_request() {
    insta::assert_snapshot!(segment_as("markdown"));
}

#[test]
fn the_csv_can_be_fitted_again() {
    let folder = Folder::new();
    let csv = segment_as("csv");
    assert_eq!(csv.lines().count(), 31);
    folder.write("runs.csv", &csv);
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let fitted = command.current_dir(folder.0.path()).args(["fit", "runs.csv", "--format", "json"]).output().unwrap();
    let fitted: Value = serde_json::from_slice(&fitted.stdout).unwrap();
    let report: Value = serde_json::from_str(&segment_as("json")).unwrap();
    assert_eq!(fitted[0]["coefficient"], report["tasks"][0]["fitted"]["rule"]["coefficient"]);
}

#[test]
fn the_ending_of_the_output_chooses_the_format() {
    let folder = Folder::new();
    let records = segment();
    for (name, begins) in [
        ("r.html", "<!doctype html>"),
        ("r.md", "## Memory of segment"),
        ("r.csv", "task,case,"),
        ("r.json", "{"),
        ("r.txt", "segment"),
    ] {
        ok(folder.report(&[records.to_str().unwrap(), "-o", name]));
        assert!(fs::read_to_string(folder.path(name)).unwrap().starts_with(begins), "{name}");
    }
}

#[test]
fn plots_come_as_svg_and_png() {
    let folder = Folder::new();
    ok(folder.report(&[segment().to_str().unwrap(), "--plots", "plots"]));
    let mut names: Vec<String> = fs::read_dir(folder.path("plots"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = ["peaks", "predicted", "residuals", "timeline"];
    assert_eq!(names, expected.map(|name| [format!("{name}.png"), format!("{name}.svg")]).concat());
    for name in expected {
        let svg = fs::read_to_string(folder.path("plots").join(format!("{name}.svg"))).unwrap();
        assert!(svg.contains("<title>") && svg.contains("<desc>") && svg.ends_with("</svg>\n"), "{name}");
        let png = fs::read(folder.path("plots").join(format!("{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{name}");
    }
}

#[test]
fn identical_records_give_identical_bytes() {
    let write = |zone: &str| {
        let folder = Folder::new();
        let records = segment();
        for format in ["html", "markdown", "csv", "json", "table"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
            command
                .current_dir(folder.0.path())
                .env("TZ", zone)
                .env("LC_ALL", "de_DE.UTF-8")
                .arg("report")
                .arg(&records);
            command.args(["--format", format, "-o", format]);
            if format == "html" {
                command.args(["--plots", "plots"]);
            }
            command.assert().success();
        }
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for entry in walkdir::WalkDir::new(folder.0.path()).sort_by_file_name() {
            let entry = entry.unwrap();
            if entry.file_type().is_file() {
                let name = entry.path().strip_prefix(folder.0.path()).unwrap().to_owned();
                files.push((name, fs::read(entry.path()).unwrap()));
            }
        }
        files
    };
    let (one, other) = (write("UTC"), write("Asia/Tokyo"));
    assert_eq!(one.len(), 13);
    for ((name, bytes), (_, others)) in one.iter().zip(&other) {
        assert!(bytes == others, "{}", name.display());
    }
}

#[test]
fn nothing_from_records_is_taken_for_markup() {
    let folder = Folder::new();
    let evil = "<script>alert(1)</script>&\"'|`*_[x](y)\u{1b}[31m";
    let records = folder.changed("evil.jsonl", |_, record| {
        record["subject"]["name"] = json!(evil);
        record["sweep"]["case"] = json!(evil);
        record["sweep"]["parameters"] = json!({evil: evil});
        record["warnings"] = json!([evil, {"code": evil, evil: evil}, {"code": "unreadable", "reason": evil}]);
        record["host"]["kernel"] = json!(evil);
        record["prediction"]["task"]["image"] = json!(evil);
    });
    let records = records.to_str().unwrap();
    let html = ok(folder.report(&[records, "--format", "html", "--plots", "plots"]));
    assert_eq!(html.matches("<script").count(), 1, "the one of the report");
    assert!(!html.contains("alert(1)</script>"));
    let svg = fs::read_to_string(folder.path("plots/peaks.svg")).unwrap();
    assert!(!svg.contains("<script"));
    let markdown = ok(folder.report(&[records, "--format", "markdown"]));
    assert!(!markdown.contains("<script") && !markdown.contains("[x](y)") && !markdown.contains('\u{1b}'));
    let table = ok(folder.report(&[records]));
    assert!(!table.contains('\u{1b}'));
}

#[test]
fn warnings_of_runs_that_differ_only_in_amounts_are_one() {
    let folder = Folder::new();
    let records = folder.changed("warned.jsonl", |number, record| {
        record["schema_version"] = json!(2);
        record["cache"] = json!({"state": "warm"});
        let reason = if number == 0 { "failed to read a" } else { "failed to read b" };
        record["warnings"] = json!([
            {"code": "swapped-out", "bytes": (number + 1) << 20},
            {"code": "unreadable", "reason": reason},
        ]);
    });
    let count = fs::read_to_string(&records).unwrap().lines().count();
    let report: Value =
        serde_json::from_str(&ok(folder.report(&[records.to_str().unwrap(), "--format", "json"]))).unwrap();
    let warnings = report["tasks"][0]["warnings"].as_array().unwrap();
    for (text, runs) in [
        ("cache: warm, the inputs were read before the run", count),
        ("up to 1 MiB were swapped out and are not included in the peak", count),
        ("failed to read a", 1),
        ("failed to read b", count - 1),
    ] {
        assert!(warnings.contains(&json!({"text": text, "runs": runs})), "{text}: {warnings:#?}");
    }
    assert!(!warnings.iter().any(|warning| warning["text"].to_string().contains("2 MiB")), "{warnings:#?}");
}

#[test]
fn a_warning_with_a_fixed_text_is_one_in_records_of_both_versions() {
    let folder = Folder::new();
    let text = "the task changed its input, which was a copy of the data";
    let records = folder.changed("mixed.jsonl", |number, record| {
        record["schema_version"] = json!(1 + number % 2);
        record["warnings"] = if number % 2 == 0 { json!([text]) } else { json!([{"code": "copy-changed"}]) };
    });
    let count = fs::read_to_string(&records).unwrap().lines().count();
    let report: Value =
        serde_json::from_str(&ok(folder.report(&[records.to_str().unwrap(), "--format", "json"]))).unwrap();
    let mut warnings: Vec<&Value> = report["tasks"][0]["warnings"].as_array().unwrap().iter().collect();
    warnings.retain(|warning| warning["text"] == text);
    assert_eq!(warnings, [&json!({"text": text, "runs": count})]);
}

#[test]
fn two_sweeps_are_compared_case_by_case() {
    let folder = Folder::new();
    // A tenth more memory from 50 MiB on, one case removed and one added.
    let newer = folder.changed("newer.jsonl", |_, record| {
        let n = record["inputs"][0]["all"]["sum"].as_u64().unwrap();
        if n >= 50 << 20 {
            let peak = record["peak"]["bytes"].as_u64().unwrap();
            record["peak"]["bytes"] = json!(peak + peak / 10);
        }
        if record["sweep"]["case"] == "2 MiB" {
            record["sweep"]["case"] = json!("2 MiB again");
        }
    });
    let (old, new) = (segment(), newer);
    let arguments = [old.to_str().unwrap(), new.to_str().unwrap()];
    let table = ok(folder.report(&arguments));
    let place = folder.0.path().to_str().unwrap();
    insta::assert_snapshot!(shared(&table).replace(place, "/folder"));
    let html = ok(folder.report(&[arguments[0], arguments[1], "--format", "html"]));
    assert!(html.contains("Since the earlier sweep") && html.contains("+10.0"));
    let together = ok(folder.report(&[arguments[0], arguments[1], "--together", "--format", "csv"]));
    assert_eq!(together.lines().count(), 61);
}

#[test]
fn two_sweeps_are_compared_by_the_same_sizes() {
    let folder = Folder::new();
    let old = folder.changed("old.jsonl", |_, record| {
        let largest = record["inputs"][0]["all"]["largest_file"]["bytes"].as_u64().unwrap();
        record["peak"]["bytes"] = json!(20 * largest);
    });
    let new = segment();
    let arguments = [old.to_str().unwrap(), new.to_str().unwrap(), "--format", "json"];
    let report: Value = serde_json::from_str(&ok(folder.report(&arguments))).unwrap();
    let task = &report["tasks"][0];
    assert_eq!(task["predictor"], "sum of scans");
    let before = &task["before"];
    assert!(before["words"].as_str().unwrap().ends_with(" where n is max_file_size of scans"), "{}", before["words"]);
    assert_eq!(before["fitted"], Value::Null);
    // Each case is named after the total size of its files.
    let sizes: Vec<u64> = before["peaks"].as_array().unwrap().iter().map(|peak| peak["n"].as_u64().unwrap()).collect();
    assert!(sizes.contains(&(2 << 20)) && sizes.contains(&(128 << 20)), "{sizes:?}");
}

#[test]
fn the_verdict_comes_first_then_what_to_do_then_the_evidence() {
    let html = segment_as("html").replace("&#x2f;", "/");
    let markdown = segment_as("markdown");
    let table = segment_as("table");
    let orders: [(&str, &[&str]); 3] = [
        (&html, &["<strong>too low</strong>", ">What to do<", "<code>highwater fit ", ">Plots<", ">Rules<", ">Runs<"]),
        (&markdown, &["**too low**", "```sh\nhighwater fit ", "| rule |", "| case |", "<details>"]),
        (&table, &["TOO LOW", "    highwater fit ", "\nrule ", "\ncase ", "held out:"]),
    ];
    for (text, order) in orders {
        let places: Vec<Option<usize>> = order.iter().map(|part| text.find(part)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{order:?}: {places:?}");
    }
    for fact in ["2026-11-21, 06:41 to 06:50 UTC", "segment.pl /data/… MiB /data/masks", "scans: 1 to 8 files"] {
        assert!(html.contains(fact) && table.contains(fact), "{fact}");
    }
}

#[test]
fn the_advised_command_works() {
    let folder = Folder::new();
    let records = folder.write("a sweep.jsonl", &fs::read_to_string(segment()).unwrap());
    let task = segment().with_file_name("task.json");
    fs::copy(task, folder.path("task.json")).unwrap();
    let report = ok(folder.report(&[records.file_name().unwrap().to_str().unwrap()]));
    let command = report.lines().find_map(|line| line.strip_prefix("    highwater ")).unwrap();
    assert_eq!(command, "fit 'a sweep.jsonl' --write task.json");
    let script = format!("exec {} {command}", env!("CARGO_BIN_EXE_highwater"));
    Command::new("sh").args(["-c", &script]).current_dir(folder.0.path()).assert().success();
    let written = fs::read_to_string(folder.path("task.json")).unwrap();
    assert!(!written.contains("\"3.4*n\""), "{written}");

    // With several tasks in the records, each command names its own.
    let two = folder.changed("two.jsonl", |place, record| {
        let name = if place % 2 == 0 { "one task" } else { "other" };
        record["subject"]["name"] = json!(name);
        record["prediction"]["task"]["name"] = json!(name);
    });
    let report = ok(folder.report(&[two.to_str().unwrap()]));
    for name in ["'one task'", "other"] {
        let option = format!(" --task {name}\n");
        let command = report.lines().find(|line| format!("{line}\n").ends_with(&option)).unwrap();
        let script = format!("exec {}{} --dry-run", env!("CARGO_BIN_EXE_highwater"), &command["    highwater".len()..]);
        Command::new("sh").args(["-c", &script]).current_dir(folder.0.path()).assert().success();
    }
}

#[test]
fn advice_suits_the_verdict() {
    let folder = Folder::new();
    let advice = |name: &str, change: &dyn Fn(&mut Value)| {
        let records = folder.changed(name, |_, record| change(record));
        let report = ok(folder.report(&[records.to_str().unwrap(), "--format", "json"]));
        let report: Value = serde_json::from_str(&report).unwrap();
        let advice = report["tasks"][0]["advice"][0].clone();
        (advice["text"].as_str().unwrap().to_owned(), advice["command"].as_str().unwrap_or_default().to_owned())
    };
    let limited = |record: &mut Value, bytes: u64| record["prediction"]["docker"]["limit"]["bytes"] = json!(bytes);
    let (text, _) = advice("wasteful.jsonl", &|record| limited(record, 8 << 30));
    assert!(text.starts_with("To save memory, replace the rule"), "{text}");
    let (text, command) = advice("bare.jsonl", &|record| {
        record.as_object_mut().unwrap().remove("prediction");
    });
    assert!(text.starts_with("Limit further runs") && command.ends_with("--for-size 128MiB"), "{text} {command}");
    let (text, command) = advice("one.jsonl", &|record| {
        record["inputs"][0]["all"]["sum"] = json!(1 << 20);
        record["inputs"][0]["all"]["largest_file"]["bytes"] = json!(1 << 20);
        record["prediction"]["channels"][0]["rule"] = Value::Null;
    });
    assert!(text.contains("three different sizes") && command.starts_with("highwater sweep"), "{text} {command}");
    let (text, command) = advice("failed.jsonl", &|record| record["outcome"] = json!({"kind": "exited", "status": 3}));
    assert!(text.starts_with("Find out why 30 runs failed") && command.starts_with("highwater logs"), "{text}");
}

#[test]
fn a_run_can_be_chosen_for_the_plot_over_time() {
    let folder = Folder::new();
    let records = segment();
    let chosen = ok(folder.report(&[records.to_str().unwrap(), "--run", "50 MiB #2", "--format", "html"]));
    assert!(chosen.contains("Memory over time of segment, 50 MiB #2"));
    let ended = folder.report(&[records.to_str().unwrap(), "--run", "50 MiB #22"]);
    assert_eq!(ended.status, 2);
    insta::assert_snapshot!(ended.stderr);
}

#[test]
fn what_cannot_be_written_is_said_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let records = segment();
    let ended = folder.report(&[records.to_str().unwrap(), "-o", "no/such/folder/r.html"]);
    assert_eq!(ended.status, 3);
    insta::assert_snapshot!(ended.stderr);
    folder.write("kept.html", "as it was");
    let ended = folder.report(&["missing.jsonl", "-o", "kept.html"]);
    assert_eq!(ended.status, 2);
    assert_eq!(fs::read_to_string(folder.path("kept.html")).unwrap(), "as it was");
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1);
}

#[test]
fn records_without_runs_are_too_little() {
    let folder = Folder::new();
    folder.write("empty.jsonl", "");
    let ended = folder.report(&["empty.jsonl"]);
    assert_eq!(ended.status, 5);
    insta::assert_snapshot!(ended.stderr);
    let records = segment();
    let path = records.to_str().unwrap();
    let ended = folder.report(&[path, path, path]);
    assert_eq!(ended.status, 2);
    assert!(ended.stderr.contains("--together"), "{}", ended.stderr);
}

#[test]
fn torn_lines_are_told_in_the_report() {
    let folder = Folder::new();
    let text = fs::read_to_string(segment()).unwrap();
    folder.write("torn.jsonl", &text[..text.len() - 300]);
    let ended = folder.report(&["torn.jsonl", "--format", "html"]);
    assert_eq!(ended.status, 0);
    assert!(ended.stdout.contains("1 line was skipped"));
}

#[test]
fn runs_that_say_nothing_about_the_need_still_make_a_report() {
    let folder = Folder::new();
    let failed = folder.changed("failed.jsonl", |_, record| record["outcome"] = json!({"kind": "exited", "status": 3}));
    let text = ok(folder.report(&[failed.to_str().unwrap()]));
    assert!(text.contains("TOO LITTLE DATA: None of 30 runs shows what segment needs"), "{text}");
    ok(folder.report(&[failed.to_str().unwrap(), "--format", "html", "--plots", "plots"]));
    let bare = folder.changed("bare.jsonl", |_, record| {
        for field in ["inputs", "prediction", "sweep"] {
            record.as_object_mut().unwrap().remove(field);
        }
        record["peak"] = json!("unsupported");
        record["breakdown"] = json!("gone");
        record["series"] = json!({"taken": 0, "samples": []});
    });
    ok(folder.report(&[bare.to_str().unwrap(), "--format", "html", "--plots", "plots"]));
    ok(folder.report(&[bare.to_str().unwrap()]));
}

#[test]
fn a_long_sweep_makes_a_small_page_that_says_what_it_leaves_out() {
    let folder = Folder::new();
    let lines: Vec<Value> =
        fs::read_to_string(segment()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut text = String::new();
    for place in 0..3000_u64 {
        let mut record = lines[place as usize % lines.len()].clone();
        let n = (1 << 20) + (place * 7919 % 3000) * 40_000;
        record["sweep"] = json!({"cell": place.to_string(), "case": format!("{place} files"), "run": 1});
        record["inputs"][0]["all"]["sum"] = json!(n);
        record["prediction"]["channels"][0]["rule"]["n"] = json!(n);
        record["prediction"]["channels"][0]["rule"]["selected"]["sum"] = json!(n);
        record["peak"]["bytes"] = json!(n * 3 + (place % 11) * (1 << 20) + (9 << 20));
        text.push_str(&format!("{record}\n"));
    }
    let path = folder.write("long.jsonl", &text);
    let html = ok(folder.report(&[path.to_str().unwrap(), "--format", "html"]));
    assert!(html.len() < 4_000_000, "{}", html.len());
    for thinned in
        ["Thinned to 1000 of 3000 runs", "from 3000 cases", "runs; each removed mark", "thinned: tasks with more than"]
    {
        assert!(html.contains(thinned), "{thinned}");
    }
    let killed = html.matches("out of memory at").count();
    assert_eq!(killed, 200, "what is remarkable is not thinned");
    let csv = ok(folder.report(&[path.to_str().unwrap(), "--format", "csv"]));
    assert_eq!(csv.lines().count(), 3001);
}

#[test]
fn of_very_many_runs_the_cells_are_shown() {
    let folder = Folder::new();
    let short = folder.changed("short.jsonl", |_, record| {
        record["series"]["samples"].as_array_mut().unwrap().truncate(2);
    });
    let records = folder.write("many.jsonl", &fs::read_to_string(short).unwrap().repeat(334));
    let ended = folder.report(&[records.to_str().unwrap(), "--format", "json"]);
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("There are more than 10000 runs"), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let task = &report["tasks"][0];
    let cells = task["cells"].as_array().unwrap();
    assert_eq!((task["all_runs"].as_u64(), cells[0]["runs"].as_u64()), (Some(334 * 30), Some(334 * 3)));
    // The run with memory over time is included, too.
    let runs = task["runs"].as_array().unwrap().len();
    assert!((cells.len()..=cells.len() + 1).contains(&runs), "{runs} of {}", cells.len());
    // The rule is the one fitted to the runs, whatever their number.
    let few = folder.report(&[segment().to_str().unwrap(), "--format", "json"]);
    let few: Value = serde_json::from_str(&few.stdout).unwrap();
    assert_eq!(task["fitted"]["words"], few["tasks"][0]["fitted"]["words"]);
    let ended = folder.report(&[records.to_str().unwrap(), "--run", "2 MiB #9"]);
    assert_eq!(ended.status, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("the records contain no run"), "{}", ended.stderr);
}

#[test]
fn memory_over_time_is_read_beside_a_record_that_is_named_by_a_relative_path() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("mine/runs/a")).unwrap();
    folder.write("mine/runs/a/series.json", r#"{"taken": 0, "samples": []}"#);
    folder.changed("mine/observations.jsonl", |_, record| record["series"]["file"] = json!("runs/a/series.json"));
    let report = ok(folder.report(&["mine/observations.jsonl", "--format", "json"]));
    assert!(!report.contains("few samples"), "{report}");
}

#[test]
fn a_fitted_rule_that_no_run_can_judge_does_not_cover_them() {
    let folder = Folder::new();
    let bound = |record: &mut Value| {
        record["peak"]["exactness"] = json!({"kind": "lower-bound", "reason": "sampled", "remedy": "root"})
    };
    let sentence = |path: &Path| {
        let report = ok(folder.report(&[path.to_str().unwrap(), "--rule", "64Mi", "--format", "json"]));
        let report: Value = serde_json::from_str(&report).unwrap();
        report["tasks"][0]["verdict"]["sentence"].as_str().unwrap().to_owned()
    };
    // A limit above a lower bound may still be too low.
    let sampled = sentence(&folder.changed("sampled.jsonl", |_, record| bound(record)));
    assert!(sampled.contains("too low") && sampled.contains("; the fitted rule is at least max("), "{sampled}");
    assert!(!sampled.contains("covers"), "{sampled}");
    let mixed = sentence(&folder.changed("mixed.jsonl", |place, record| {
        if place % 10 == 9 {
            bound(record);
        }
    }));
    assert!(mixed.contains("that show the need at"), "{mixed}");
}

#[test]
fn runs_that_were_skipped_or_not_measured_have_not_failed() {
    let folder = Folder::new();
    let skipped = |record: &mut Value| record["outcome"] = json!({"kind": "skipped", "status": 126});
    let unmeasured = |record: &mut Value| record["peak"] = json!("gone");
    let failed = |record: &mut Value| record["outcome"] = json!({"kind": "exited", "status": 1});
    let first = |name: &str, changes: &[&dyn Fn(&mut Value)]| {
        let records = folder.changed(name, |place, record| {
            record["censored"] = json!(false);
            changes[place % changes.len()](record);
        });
        let text = fs::read_to_string(records).unwrap();
        let few: Vec<&str> = text.lines().take(changes.len()).collect();
        let path = folder.write(name, &(few.join("\n") + "\n"));
        let report = ok(folder.report(&[path.to_str().unwrap(), "--format", "json"]));
        let report: Value = serde_json::from_str(&report).unwrap();
        let task = &report["tasks"][0];
        assert_eq!(task["verdict"]["level"], "too-little", "{name}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&task["verdict"]["sentence"]), text(&task["advice"][0]["text"]))
    };
    for (name, changes, because, advice) in [
        ("one.jsonl", &[&skipped as &dyn Fn(&mut Value)][..], "it was skipped", "Run the task on inputs"),
        ("two.jsonl", &[&skipped, &skipped], "all were skipped", "Run the task on inputs"),
        ("none.jsonl", &[&unmeasured, &unmeasured], "all have no peak", "Measure the task with highwater"),
        (
            "mixed.jsonl",
            &[&failed, &skipped, &unmeasured],
            "1 failed or reached a limit, 1 was skipped, 1 has no peak",
            "Find out why 1 run failed or reached a limit",
        ),
        ("failed.jsonl", &[&failed, &failed], "all failed or reached a limit", "Find out why 2 runs failed"),
    ] {
        let (sentence, first) = first(name, changes);
        assert!(sentence.ends_with(&format!("segment needs: {because}.")), "{sentence}");
        assert!(first.starts_with(advice), "{first}");
    }
    let html = ok(folder.report(&["mixed.jsonl", "--format", "html"]));
    assert!(html.contains("skipped") && html.contains("without a peak"));
}
