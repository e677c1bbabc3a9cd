//! Names of tasks, cases, channels, parameters, files and commands may contain anything: no output lets them affect a
//! terminal, a CI system, a browser or a spreadsheet.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use highwater::model::escape::is_unsafe;
use highwater::store::read;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A name that tries everything, and is longer than any line.
const HOSTILE: &str = "=1+1\u{1b}]0;title\u{7}\u{9b}31m\n::error::line \
    a-name-that-is-longer-than-a-line-has-room-for-and-so-has-to-be-broken-at-its-blanks-somewhere-here-or-there \
    ::error file=a,line=1::broken ##[error]old <b>tag</b> | [link](x) \u{202e}\u{2028}\r`x` \"'";

/// The recorded sweep, in which every string that a user or an engine chose is hostile.
fn records(folder: &Path) -> std::path::PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/records/segment/observations.jsonl");
    let path = folder.join("observations.jsonl");
    let hostile = |text: &str| Value::from(format!("{HOSTILE}{text}"));
    let text = fs::read_to_string(source).unwrap();
    let lines = text.lines().map(|line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record["subject"] = json!({"name": HOSTILE, "command": [HOSTILE, HOSTILE]});
        let case = record["sweep"]["case"].as_str().unwrap().to_owned();
        record["sweep"]["case"] = hostile(&case);
        record["sweep"]["parameters"] = json!({HOSTILE: HOSTILE});
        record["tool_version"] = HOSTILE.into();
        record["host"]["kernel"] = HOSTILE.into();
        for input in record["inputs"].as_array_mut().unwrap() {
            input["channel"] = HOSTILE.into();
            input["all"]["largest_file"]["path"] = HOSTILE.into();
        }
        for channel in record["prediction"]["channels"].as_array_mut().unwrap() {
            channel["name"] = hostile(if channel["kind"] == "output" { "out" } else { "" });
        }
        record["prediction"]["task"] = json!({"name": HOSTILE, "image": HOSTILE, "template": HOSTILE, "digest": "0"});
        record["peak"]["exactness"] = json!({"kind": "lower-bound", "reason": HOSTILE, "remedy": HOSTILE});
        record.to_string() + "\n"
    });
    fs::write(&path, lines.collect::<String>()).unwrap();
    assert!(read(&path).unwrap().unusable.is_empty());
    path
}

/// The output of a command, stdout and stderr, and the files that it created.
fn outputs(folder: &Path, arguments: &[&str]) -> Vec<(String, String)> {
    let before: Vec<_> = files(folder);
    let output = Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("GITHUB_STEP_SUMMARY", folder.join("summary.md"))
        .output()
        .unwrap();
    let name = arguments.join(" ");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let mut all =
        vec![(format!("{name}: stdout"), text(output.stdout)), (format!("{name}: stderr"), text(output.stderr))];
    for path in files(folder).into_iter().filter(|path| !before.contains(path)) {
        if let Ok(text) = fs::read_to_string(&path) {
            all.push((format!("{name}: {}", path.display()), text));
        }
    }
    all
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Contains nothing that a terminal or GitHub Actions interprets.
fn assert_harmless(name: &str, text: &str) {
    for line in text.split('\n') {
        assert!(!line.replace('\t', "").contains(is_unsafe), "{name}: a control character: {line:?}");
        assert!(!line.contains("##["), "{name}: a command: {line:?}");
        let is_ours = name.starts_with("check")
            && ["::error file=", "::error title=", "::warning title=", "::notice title="]
                .iter()
                .any(|start| line.starts_with(start) && line.matches("::").count() >= 2);
        assert!(is_ours || !line.trim_start().starts_with("::"), "{name}: a command: {line:?}");
    }
    let is_markup = name.ends_with("html") || name.ends_with("md") || name.ends_with("svg") || name.ends_with("xml");
    assert!(!is_markup || !text.contains("<b>"), "{name}: a tag");
}

fn assert_no_formula(text: &str) {
    for row in csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes()).records() {
        for cell in &row.unwrap() {
            let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
            assert!(!is_formula, "{cell:?}");
        }
    }
}

#[test]
fn no_command_on_records_lets_a_name_act() {
    let folder = TempDir::new().unwrap();
    let records = records(folder.path()).display().to_string();
    let run = |arguments: &[&str]| {
        for (name, text) in outputs(folder.path(), arguments) {
            assert_harmless(&name, &text);
        }
    };
    for words in [
        "show",
        "show --format json",
        "fit",
        "fit --format json",
        "backtest --rule n",
        "backtest --rule n --format json",
        "export --format json -o e.json",
        "export -o e.csv",
        "report",
        "report -o r.html",
        "report -o r.md",
        "report -o r.csv",
        "report -o r.json",
        "report -o r.txt",
        "report --plots plots",
        "report --format csv",
        "report --format markdown",
    ] {
        let words: Vec<&str> = words.split(' ').chain([records.as_str()]).collect();
        run(&words);
    }
    run(&["fit", "--all", &records]);
    for consumer in ["nextflow", "snakemake"] {
        run(&["fit", "--all", "--emit", consumer, &records]);
    }
    for consumer in ["task-api", "plato", "kubernetes", "nextflow", "snakemake", "slurm", "docker"] {
        run(&["fit", "--emit", consumer, &records]);
    }
    run(&["check", "--records", &records, "--baseline", "b.json", "--update-baseline"]);
    run(&["check", "--records", &records, "--format", "json"]);
    run(&[
        "check",
        "--records",
        &records,
        "--github",
        "--junit",
        "junit.xml",
        "--markdown",
        "c.md",
        "--gitlab",
        "m.txt",
        "--bmf",
        "bmf.json",
        "--customsmallerisbetter",
        "s.json",
    ]);
    run(&["import", "e.csv"]);
    for table in ["e.csv", "r.csv"] {
        assert_no_formula(&fs::read_to_string(folder.path().join(table)).unwrap());
    }
}

#[test]
fn an_exported_table_gives_back_what_was_exported() {
    let folder = TempDir::new().unwrap();
    let records = records(folder.path());
    let run = |arguments: &[&str]| assert!(!outputs(folder.path(), arguments).is_empty());
    run(&["export", &records.display().to_string(), "-o", "e.csv"]);
    run(&["import", "e.csv", "-o", "back.jsonl"]);
    let mut expected = read(&records).unwrap().observations;
    expected.iter_mut().for_each(|observation| observation.series.samples.clear());
    let mut found = read(&folder.path().join("back.jsonl")).unwrap().observations;
    found.iter_mut().for_each(|observation| observation.series.samples.clear());
    assert_eq!(found, expected);
}

#[test]
fn no_command_on_documents_and_files_lets_a_name_act() {
    let folder = TempDir::new().unwrap();
    // A path can be as hostile as 255 bytes allow.
    let name: String = HOSTILE.replace('/', "_").chars().take(60).collect();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("data").join(&name)).unwrap();
    fs::write(path("data").join(&name).join(&name), "x").unwrap();
    fs::write(path(&name), "{\"name\": 1").unwrap();
    let task = json!({
        "name": HOSTILE, HOSTILE: 1, "api_version": HOSTILE,
        "image": HOSTILE,
        "taskTemplate": {
            "identifier": HOSTILE, "description": HOSTILE, "command": [HOSTILE],
            "inputs": [{"name": HOSTILE, "path": format!("/{name}"), "description": HOSTILE, "mounted_path": format!("/{name}"),
                "scale_rule": {"complexity": HOSTILE, "type": HOSTILE, "mode": HOSTILE, "target_glob": HOSTILE, "target_regex": HOSTILE}}],
            "outputs": [], "env": [{"name": HOSTILE, "value": HOSTILE}],
            "resources": {"limits": {"memory": HOSTILE}},
        },
        "inputs": [{"name": HOSTILE, "volume_source": {"host_path": format!("data/{name}")}}],
    });
    fs::write(path("task.json"), task.to_string()).unwrap();
    fs::write(path("template.json"), format!("{{\"name\": \"{{{{ env['{HOSTILE}'] }}}}\"}}")).unwrap();
    fs::write(path("table.csv"), format!("peak_bytes,wall_seconds,{name}\n{name},1\n")).unwrap();
    fs::write(path("records.jsonl"), format!("{{\"schema_version\": 1, \"runner\": {}}}\n", Value::from(HOSTILE)))
        .unwrap();
    fs::write(
        path("highwater.toml"),
        format!("[tasks.{}]\ncommand = [{}]\n", Value::from("x\u{1b}y"), Value::from("x\u{1b}")),
    )
    .unwrap();
    let commands: &[&[&str]] = &[
        &["validate", "task.json"],
        &["validate", "task.json", "--format", "json"],
        &["validate", "template.json", &name],
        &["predict", "task.json"],
        &["predict", &name],
        &["inputs", "data", "--list"],
        &["inputs", "data", "--format", "json"],
        &["inputs", "data", "--glob", &name],
        &["inputs", "data", "--regex", &name],
        &["init", "task.json", "-o", "made.toml"],
        &["show", "records.jsonl"],
        &["show", &name],
        &["fit", "table.csv"],
        &["import", "table.csv"],
        &["merge", &name, "--into", "merged"],
        &["check"],
        &["check", "--config", &name],
        &["run", "--", &name],
        &["run", "--name", HOSTILE, "--", "true", HOSTILE],
        &["run", "--format", "json", "--", "true", HOSTILE],
        &["sweep", "--dry-run", "--input", &format!("data/{name}"), "--", "true", HOSTILE, "{input}"],
        &[
            "sweep",
            "--input",
            &format!("data/{name}"),
            "--param",
            &format!("P={name}"),
            "-o",
            "swept",
            "--",
            "true",
            "{P}",
            "{input}",
        ],
        &["show", "swept"],
        &["sweep", "--file", &name],
        &["logs", &name],
        &["backtest", "--fit", &name, "table.csv"],
        &["report", &name],
    ];
    for arguments in commands {
        for (called, text) in outputs(folder.path(), arguments).into_iter().take(2) {
            assert_harmless(&called.replace("check", "a check"), &text);
        }
    }
}
