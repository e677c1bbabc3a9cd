use super::*;

const TWO: &str = r#"
baseline = "ci/memory.json"
runs = 5

[thresholds]
relative = "4%"
absolute = "8MiB"

[tasks.segment]
task = "task.json"
set = { patient = "0042" }
budget = "2GiB"

[[tasks.segment.inputs]]
name = "small"
channels = { scans = "data/small" }

[tasks.convert]
command = ["./convert", "{input}", "--level", "{level}"]
rule = "max(64MiB, 1.5*n)"
confirm = 4
timeout = "90s"
thresholds.relative = 0.1

[[tasks.convert.inputs]]
path = "data/one.bin"
parameters = { level = 9 }
budget = "100MiB"
"#;

#[test]
fn a_file_says_what_is_checked() {
    let config = Config::parse("highwater.toml", TWO).unwrap();
    assert_eq!(config.baseline, Some("ci/memory.json".into()));
    let [segment, convert] = config.tasks.as_slice() else { panic!("{config:?}") };
    assert_eq!((segment.name.as_str(), segment.line), ("segment", Some(9)));
    assert_eq!(segment.workload, WorkloadSpec::Task("task.json".into()));
    assert_eq!(segment.repeats, Repeats { runs: 5, baseline_runs: 10, confirm: 2 });
    assert_eq!(segment.thresholds, Thresholds { relative: 0.04, absolute: Bytes::mib(8), ..Thresholds::default() });
    assert_eq!(segment.budget_of("small"), Some(Bytes(2 << 30)));
    assert_eq!(convert.thresholds.relative, 0.1);
    assert_eq!(convert.repeats.confirm, 4);
    assert_eq!(convert.timeout, Some(Duration::from_secs(90)));
    assert_eq!(convert.inputs[0].parameters, BTreeMap::from([("level".to_owned(), "9".to_owned())]));
    assert_eq!(convert.budget_of("data/one.bin"), Some(Bytes::mib(100)));
}

/// The problems as `line:column code message | label | help`.
fn problems(text: &str) -> Vec<String> {
    let flawed = Config::parse("highwater.toml", text).unwrap_err();
    let told = |problem: &Problem| {
        let (line, column) = flawed.line_column(problem).unwrap_or_default();
        let label = problem.label.as_deref().unwrap_or("-");
        format!(
            "{line}:{column} {} {} | {label} | {}",
            problem.code,
            problem.message,
            problem.help.as_deref().unwrap_or("-")
        )
    };
    flawed.problems.iter().map(told).collect()
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest_known_one() {
    let text =
        "runns = 3\n[tasks.a]\ncommand = [\"true\"]\nbuget = \"1GiB\"\ncolour = 7\n[thresholds]\nmin_samples = 3\n";
    assert_eq!(
        problems(text),
        [
            "1:1 unknown-field highwater.toml has no key `runns` | unknown key | did you mean `runs`?",
            "4:1 unknown-field a task has no key `buget` | unknown key | did you mean `budget`?",
            "5:1 unknown-field a task has no key `colour` | unknown key | it has `task`, `command`, `image`, `runner`, \
             `processing-container`, `set`, `env`, `mount`, `options`, `budget`, `rule`, `timeout`, `thresholds`, \
             `inputs`, `runs`, `baseline-runs`, `confirm`",
            "7:1 unknown-field the table `thresholds` has no key `min_samples` | unknown key | did you mean \
             `min-samples`?",
        ]
    );
}

#[test]
fn thresholds_that_make_no_sense_are_told_with_their_place() {
    let with = |thresholds: &str| problems(&format!("[tasks.a]\ncommand = [\"true\"]\n[thresholds]\n{thresholds}\n"));
    assert_eq!(
        with("relative = -0.1"),
        [
            "4:12 bad-value `thresholds.relative` is `-0.1` | expected a share from 0.1% to 1000%, such as 3% or 0.03 | -"
        ]
    );
    assert_eq!(
        with("absolute = 0"),
        ["4:12 quantity-too-small `0` is too little | expected a positive amount, such as 4MiB | write a positive \
          amount, such as 4MiB"]
    );
    assert_eq!(
        with("relative = \"some\""),
        [
            "4:12 bad-value `thresholds.relative` is `some` | expected a share from 0.1% to 1000%, such as 3% or 0.03 | -"
        ]
    );
    assert_eq!(
        with("relative = 3"),
        ["4:12 bad-value `thresholds.relative` is `3` | expected a share from 0.1% to 1000%, such as 3% or 0.03 | -"]
    );
    assert!(problems("runs = 0\n[tasks.a]\ncommand = [\"true\"]\n")[0].starts_with("1:8 bad-value `runs` is `0`"));
    assert!(with("min-samples = 9")[0].contains("9 samples are required, but each cell runs only 3 times"));
    assert!(with("min-samples = 1")[0].contains("1 samples cannot distinguish"));
    assert!(with("horizon = nan")[0].starts_with("4:11 bad-threshold the horizon is NaN"));
    assert!(with("vanished = \"fali\"")[0].ends_with("did you mean `fail`?"));
}

#[test]
fn what_is_run_is_said_once() {
    assert!(problems("")[0].contains("no task defined"));
    assert!(problems("[tasks.a]\n")[0].starts_with("1:1 missing-field the task a has no `task`, `command` or `image`"));
    assert!(problems("[tasks.a]\ntask = \"t\"\nimage = \"i\"\n")[0].starts_with("3:9 conflict"));
    assert!(problems("[tasks.a]\ncommand = []\n")[0].contains("the command has no program"));
    assert_eq!(
        problems("[tasks.a]\ncommand = \"ls -l\"\n"),
        ["2:11 wrong-type `tasks.a.command` is a string | expected an array of strings | write [\"ls\", \"-l\"]"]
    );
    assert!(problems("[tasks.a]\ntask = \"t\"\nrunner = \"proces\"\n")[0].ends_with("did you mean `process`?"));
}

#[test]
fn inputs_have_names_of_their_own() {
    let with = |inputs: &str| problems(&format!("[tasks.a]\ncommand = [\"true\"]\n{inputs}"));
    assert!(with("inputs = 3")[0].contains("expected tables: [[tasks.a.inputs]]"));
    assert!(with("[[tasks.a.inputs]]\nsize = \"1Mi\"\n")[0].contains("neither `name` nor `path`"));
    let twice = "[[tasks.a.inputs]]\nname = \"x\"\n[[tasks.a.inputs]]\nname = \"x\"\n";
    assert_eq!(
        with(twice),
        ["6:8 duplicate duplicate name of the input: `x` | name already used | rename one of them, or remove it"]
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let told = problems("[tasks.a]\ncommand = [\"true\"\nruns = 3\n");
    assert!(told[0].starts_with("3:") || told[0].starts_with("2:"), "{told:?}");
    assert!(told[0].contains("not-toml"), "{told:?}");
}
