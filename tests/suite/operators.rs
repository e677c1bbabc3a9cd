//! Operators of Kaapana: the memory in their Python files is written, and judged like any rule.

use std::os::unix::fs::PermissionsExt;

use super::fit_records::{Records, growing, run, sizes};
use serde_json::{Value, json};

pub(crate) const OPERATOR: &str = "\
# Finds things in scans.
from kaapana.operators.KaapanaBaseOperator import KaapanaBaseOperator


class SegmentOperator(KaapanaBaseOperator):
    def __init__(self, dag, name=\"segment\", env_vars=None, *args, **kwargs):
        envs = {\"THREADS\": \"4\"}  # ram_mem_mb=1 would be too little
        envs.update(env_vars or {})
        super().__init__(
            dag=dag,
            name=name,
            image=f\"{REGISTRY}/segment:{VERSION}\",
            env_vars=envs,
            ram_mem_mb=500,  # a guess
            *args,
            **kwargs,
        )
";

/// Records of max(500 MB, 1.8·n) beside an operator, `SegmentOperator.py`.
fn operator(text: &str) -> Records {
    let records = Records::growing(1.8);
    std::fs::write(records.path("SegmentOperator.py"), text).unwrap();
    records
}

fn text(records: &Records) -> String {
    std::fs::read_to_string(records.path("SegmentOperator.py")).unwrap()
}

fn failure(records: &Records, arguments: &[&str]) -> String {
    let (status, stdout, stderr) = records.highwater(arguments);
    assert_eq!(status, 2, "{stdout}{stderr}");
    stderr
}

#[test]
fn the_difference_is_just_the_memory() {
    let windows = OPERATOR.replace('\n', "\r\n");
    let number = regex::Regex::new("ram_mem_mb=[0-9]+,  # a guess").unwrap();
    for old in [OPERATOR, &windows, &format!("\u{feff}{OPERATOR}")] {
        let records = operator(old);
        let file = records.path("SegmentOperator.py");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o750)).unwrap();
        let (status, stdout, stderr) = records.fit(&["--write", "SegmentOperator.py"]);
        assert_eq!(status, 0, "{stderr}");
        if old == OPERATOR {
            insta::assert_snapshot!(format!("{}\n{stderr}", &stdout[stdout.find("--- Segment").unwrap()..]));
        }
        let fit = records.json(&[]);
        let largest = fit["inputs"]["largest"].as_u64().unwrap() as f64;
        let limit = (fit["coefficient"].as_f64().unwrap() * largest / f64::from(1 << 20)).ceil();
        let new = text(&records);
        let line = if old == windows { "\r\n" } else { "\n" };
        let written = format!("ram_mem_mb_lmt={limit},{line}            *args");
        assert!(new.contains(&written), "{written} in {new}");
        let back = new.replace(&format!("ram_mem_mb_lmt={limit},{line}            "), "");
        assert_eq!(number.replace(&back, "ram_mem_mb=500,  # a guess"), old);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o750);
        let (_, stdout, _) = records.fit(&["--write", "SegmentOperator.py"]);
        assert!(stdout.ends_with("SegmentOperator.py is already up to date\n"), "{stdout}");
    }
}

#[test]
fn a_dry_run_shows_and_writes_nothing() {
    let records = operator(OPERATOR);
    let (status, stdout, stderr) = records.fit(&["--write", "SegmentOperator.py", "--dry-run"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("-            ram_mem_mb=500,  # a guess"), "{stdout}");
    // The operator's limit, 100 MiB above its request, is compared with the new rule.
    assert!(stdout.contains("600 MiB"), "{stdout}");
    assert_eq!(text(&records), OPERATOR);
}

#[test]
fn what_cannot_be_written_is_refused_with_its_place() {
    let computed = operator(&OPERATOR.replace("ram_mem_mb=500", "ram_mem_mb=2 * GIGABYTE"));
    insta::assert_snapshot!(failure(&computed, &["fit", "runs.jsonl", "--write", "SegmentOperator.py"]));
    let twice = operator(&format!(
        "{OPERATOR}\n\nclass OtherOperator(SegmentOperator):\n    def __init__(self):\n        super().__init__(dag=None)\n"
    ));
    insta::assert_snapshot!(failure(&twice, &["fit", "runs.jsonl", "--write", "SegmentOperator.py"]));
    let (status, _, stderr) = twice.fit(&["--write", "SegmentOperator.py::SegmentOperator", "--dry-run"]);
    assert_eq!(status, 0, "{stderr}");
    let stderr = failure(&twice, &["fit", "runs.jsonl", "--write", "SegmentOperator.py::SegmentOperater"]);
    assert!(stderr.contains("did you mean `SegmentOperator`?"), "{stderr}");
    let stderr = failure(&twice, &["fit", "runs.jsonl", "--write", "SegmentOperator.py", "--channel", "scans"]);
    assert!(stderr.contains("--channel is for a processing-container.json"), "{stderr}");
    let stderr = failure(&twice, &["fit", "runs.jsonl", "--write", "SegmentOperators.py"]);
    assert!(stderr.contains("did you mean SegmentOperator.py?"), "{stderr}");
}

#[test]
fn memory_that_is_set_elsewhere_in_the_file_is_not_set_twice() {
    let unset = OPERATOR.replace("            ram_mem_mb=500,  # a guess\n", "");
    let before = |line: &str| unset.replace("        super()", &format!("        {line}\n        super()"));
    for text in [
        unset.replace("**kwargs,\n", "**{\"ram_mem_mb\": 5},\n"),
        before("opts = dict(ram_mem_mb=4000)").replace("            **kwargs", "            **opts"),
        before("kwargs[\"ram_mem_mb\"] = 4000"),
        before("kwargs.setdefault('ram_mem_mb', 4000)"),
        before("kwargs.update(ram_mem_mb_lmt=4000)"),
        format!(
            "{unset}\n\nclass AOperator(SegmentOperator):\n    def __init__(self):\n        super().__init__(ram_mem_mb=4000)\n"
        ),
    ] {
        let records = operator(&text);
        let name =
            if text.contains("AOperator") { "SegmentOperator.py::SegmentOperator" } else { "SegmentOperator.py" };
        let stderr = failure(&records, &["fit", "runs.jsonl", "--write", name]);
        assert!(stderr.contains("may pass this `ram_mem_mb") && stderr.contains("help: set `ram_mem_mb"), "{stderr}");
        assert_eq!(self::text(&records), text);
    }
    let records = operator(&before("kwargs[\"ram_mem_mb\"] = 4000"));
    let (status, stdout, stderr) = records.highwater(&["validate", "SegmentOperator.py"]);
    assert_eq!(status, 0, "{stderr}");
    insta::assert_snapshot!(format!("{stdout}{stderr}"));
    let stderr = failure(&records, &["report", "runs.jsonl", "--rule", "SegmentOperator.py"]);
    assert!(stderr.contains("may pass this `ram_mem_mb` on"), "{stderr}");
    for line in ["kwargs.pop(\"ram_mem_mb\", None)", "# kwargs[\"ram_mem_mb\"] = 4000", "\"\"\"Sets ram_mem_mb.\"\"\""]
    {
        let (status, _, stderr) = operator(&before(line)).fit(&["--write", "SegmentOperator.py"]);
        assert_eq!(status, 0, "{line}: {stderr}");
    }
}

#[test]
fn an_operator_is_judged_like_a_rule() {
    // A check needs three runs of each size.
    let again = || growing(1.8).map(|(n, peak)| run(n, peak));
    let records = operator(OPERATOR).and(again()).and(again());
    let (status, stdout, stderr) = records.highwater(&["report", "runs.jsonl", "--rule", "SegmentOperator.py"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("The rule in use, 600 MiB (SegmentOperator.py), is too low for 27 of 60 runs"), "{stdout}");
    assert!(stdout.contains("highwater fit runs.jsonl --write SegmentOperator.py"), "{stdout}");
    let backtest = |rule: &str| {
        let (status, stdout, stderr) =
            records.highwater(&["backtest", "runs.jsonl", "--rule", rule, "--format", "json"]);
        assert_eq!(status, 0, "{stderr}");
        serde_json::from_str::<Value>(&stdout).unwrap()
    };
    assert_eq!(backtest("SegmentOperator.py"), backtest("600Mi"));
    std::fs::write(
        records.path("highwater.toml"),
        "[thresholds]\nno-baseline = \"ignore\"\n[tasks.segment]\ncommand = [\"segment\"]\nrule = \"SegmentOperator.py\"\n",
    )
    .unwrap();
    let (status, stdout, stderr) = records.highwater(&["check", "--records", "runs.jsonl"]);
    assert_eq!(status, 1, "{stderr}");
    assert!(stdout.contains("600 MiB"), "{stdout}");
    assert_eq!(records.fit(&["--write", "SegmentOperator.py"]).0, 0);
    let (status, stdout, stderr) = records.highwater(&["check", "--records", "runs.jsonl"]);
    assert_eq!(status, 0, "{stdout}{stderr}");
}

#[test]
fn validate_tells_the_memory_of_an_operator() {
    let records = operator(OPERATOR);
    let (status, stdout, stderr) = records.highwater(&["validate", "SegmentOperator.py"]);
    assert_eq!(
        (status, stdout.as_str()),
        (0, "SegmentOperator.py: ok (operator: request 500 MiB, limit 600 MiB)\n"),
        "{stderr}"
    );
    let unset = OPERATOR.replace("            ram_mem_mb=500,  # a guess\n", "");
    std::fs::write(records.path("SegmentOperator.py"), &unset).unwrap();
    let (status, stdout, stderr) = records.highwater(&["validate", "SegmentOperator.py"]);
    assert_eq!(status, 0, "{stderr}");
    insta::assert_snapshot!(format!("{stdout}{stderr}"));
    let (status, _, stderr) = records.fit(&["--write", "SegmentOperator.py", "--dry-run"]);
    assert_eq!(status, 0, "{stderr}");
    let note = "remove `ram_mem_mb` and `ram_mem_mb_lmt` from DAGs that pass them to SegmentOperator: Python refuses";
    assert!(stderr.contains(note), "{stderr}");
    let low = OPERATOR.replace("mb=500,", "mb=500, ram_mem_mb_lmt=400,");
    std::fs::write(records.path("SegmentOperator.py"), low).unwrap();
    let (status, stdout, stderr) = records.highwater(&["validate", "SegmentOperator.py"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("SegmentOperator.py: 1 warning"), "{stdout}");
    assert!(stderr.contains("SegmentOperator.py:14:29: the limit, 400 MiB, is below the request, 500 MiB"), "{stderr}");
}

#[test]
fn an_operator_becomes_a_processing_container() {
    // Four items, of which the largest has half of the bytes.
    let batch = |n: u64, peak: u64| {
        let mut run = run(n, peak);
        run["inputs"][0]["all"] = sizes(4, 2 * n, 2);
        run
    };
    let records = Records::new(growing(1.8).map(|(n, peak)| batch(n, peak)));
    let arguments = ["--mode", "max_item_sum", "--to", "processing-container", "--target-dir", "initial-input"];
    let (status, stdout, stderr) = records.fit(&arguments);
    assert_eq!(status, 0, "{stderr}");
    let document: Value = serde_json::from_str(&stdout).unwrap();
    let template = &document["templates"][0];
    assert_eq!((&document["name"], &template["identifier"]), (&json!("segment"), &json!("segment")));
    let input = &template["inputs"][0];
    assert_eq!((&input["name"], &input["mounted_path"]), (&json!("scans"), &json!("/in/scans")));
    let rule = &input["scale_rule"];
    assert_eq!((&rule["mode"], &rule["target_dir"]), (&json!("max_item_sum"), &json!("initial-input")));
    assert!(rule["complexity"].as_str().unwrap().starts_with("1.8"), "{rule}");
    std::fs::write(records.path("processing-container.json"), &stdout).unwrap();
    let (status, stdout, stderr) = records.highwater(&["validate", "processing-container.json", "--deny", "warnings"]);
    assert_eq!(status, 0, "{stdout}{stderr}");
    // A later fit finds the rule in it.
    let (status, _, stderr) = records.fit(&["--mode", "max_item_sum", "--write", "processing-container.json"]);
    assert_eq!(status, 0, "{stderr}");
    let stderr = failure(&records, &["fit", "runs.jsonl", "--to", "processing-container", "--target-dir", "../up"]);
    assert!(stderr.contains("target_dir"), "{stderr}");
}

#[test]
fn a_batch_becomes_a_task_whose_n_is_the_largest_item() {
    let records = Records::new([]);
    let write = |path: &str, bytes: usize| {
        let path = records.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![0; bytes]).unwrap();
    };
    write("run/conf/conf.json", 2);
    write("run/batch/first/scans/a.dcm", 3000);
    write("run/batch/second/scans/a.dcm", 2000);
    write("run/batch/second/scans/b.dcm", 2000);
    // An earlier operator's output is not its input.
    write("run/batch/first/other/c.nrrd", 9000);
    let batch = ["run/batch", "--in-dir", "scans", "--out-dir", "masks"];
    let arguments =
        [&["operator"], &batch[..], &["--image", "registry:5000/x/segment:1.2", "-o", "task.json"]].concat();
    let (status, _, stderr) = records.highwater(&arguments);
    assert_eq!(status, 0, "{stderr}");
    let document = std::fs::read_to_string(records.path("task.json")).unwrap();
    let folder = records.path("run").canonicalize().unwrap();
    insta::assert_snapshot!(document.replace(folder.to_str().unwrap(), "[run]"));
    let (status, stdout, stderr) = records.highwater(&["validate", "task.json", "--deny", "warnings"]);
    assert_eq!(status, 0, "{stdout}{stderr}");
    let (status, stdout, stderr) = records.highwater(&["predict", "task.json", "--format", "json"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let prediction: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(prediction["channels"][0]["rule"]["n"], 4000);
    assert_eq!(prediction["docker"]["limit"], Value::Null);
    let stderr = failure(&records, &[&["operator"], &["nowhere"], &batch[1..], &["--image", "x"]].concat());
    assert!(stderr.contains("nowhere is not a directory"), "{stderr}");
    let refused = |batch: &str, [input, output]: [&str; 2], expected: &str| {
        let words = ["operator", batch, "--in-dir", input, "--out-dir", output, "--image", "x", "-o", "other.json"];
        let stderr = failure(&records, &words);
        assert!(stderr.contains(expected), "{input} {output}: {stderr}");
        assert!(!records.path("other.json").exists());
    };
    refused("run/batch", ["scns", "masks"], "--in-dir is `scns`, a directory that no item of run/batch has");
    refused("run/batch", ["scns", "masks"], "did you mean `scans`?");
    refused("run/batch", ["mri", "masks"], "name a directory in run/batch/ITEM");
    refused("run/batch", ["scans/", "scans"], "--in-dir and --out-dir are both `scans/`");
    for bad in ["", ".", "/abs", "../../x"] {
        refused("run/batch", [bad, "masks"], &format!("--in-dir is `{bad}`, expected a directory in each item"));
        refused("run/batch", ["scans", bad], &format!("--out-dir is `{bad}`, expected a directory in each item"));
    }
    refused("run/conf", ["scans", "masks"], "the batch run/conf has no items");
    // Some items may have no input.
    let some = ["operator", "run/batch", "--in-dir", "other", "--out-dir", "masks", "-o", "p.json", "--", "python3"];
    let (status, _, stderr) = records.highwater(&some);
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("`highwater sweep p.json --input-access private --runner process`"), "{stderr}");
}
