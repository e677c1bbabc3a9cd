//! Invalid input leads to one clear error before anything is run, and leaves no incomplete files.

use std::fs;

use super::project::{Project, SEGMENT, three};

fn told(project: &Project, arguments: &[&str]) -> String {
    let text = project.check(arguments).all();
    text.replace(project.folder().to_str().unwrap(), "[FOLDER]")
}

#[test]
fn each_bad_input_is_told_with_its_place_and_a_remedy() {
    let runs = three("small", 0, 200);
    let good = Project::with_baseline(SEGMENT, &runs);
    let with = |toml: &str| Project::new(toml);
    let baseline = |text: &str| {
        let project = Project::new(SEGMENT);
        project.write("highwater-baseline.json", text);
        project.record("then.jsonl", &runs);
        project
    };
    let mut other = runs.clone();
    other.iter_mut().for_each(|run| run.subject.name = Some("convert".to_owned()));
    good.record("other.jsonl", &other);
    good.write("empty.jsonl", "");
    let records = ["--records", "then.jsonl"];
    let merged = "{\"schema_version\": 1,\n<<<<<<< HEAD\n";
    let cases = [
        ("no highwater.toml", told(&good, &["--config", "none.toml"])),
        ("a highwater.toml that is a folder", told(&good, &["--config", "."])),
        ("no TOML", told(&with("[tasks.segment\n"), &[])),
        (
            "unknown keys",
            told(&with(&format!("runns = 3\n{SEGMENT}bugdet = \"1Gi\"\n[thresholds]\nrelativ = 3\n")), &[]),
        ),
        ("thresholds without sense", {
            told(&with(&format!("{SEGMENT}[thresholds]\nrelative = -1\nabsolute = \"lots\"\nmin-samples = 9\n")), &[])
        }),
        ("a task that is two", told(&with("[tasks.a]\ntask = \"task.json\"\nimage = \"x\"\n"), &[])),
        ("a rule that is none", told(&with(&format!("{SEGMENT}rule = \"2*m\"\n")), &[])),
        ("a threshold on the command line", told(&good, &["--relative", "0"])),
        ("a newer baseline", told(&baseline("{\"schema_version\": 7}\n"), &records)),
        ("a baseline with a conflict of a merge", told(&baseline(merged), &records)),
        ("a baseline without samples", {
            let text = good.read("highwater-baseline.json");
            let start = text.find("\"samples_bytes\": [").unwrap() + "\"samples_bytes\": [".len();
            let end = start + text[start..].find(']').unwrap();
            told(&baseline(&format!("{}{}", &text[..start], &text[end..])), &records)
        }),
        ("a baseline that is not there", told(&good, &["--baseline", "none.json"])),
        ("a task that is not there", told(&good, &["--task", "segmnt"])),
        ("records of another task", told(&good, &["--records", "other.jsonl"])),
        ("records without a run", told(&good, &["--records", "empty.jsonl"])),
        ("records that are not there", told(&good, &["--records", "none.jsonl"])),
        ("two results on stdout", told(&good, &["--github", "--format", "json"])),
        ("a channel that is not there", {
            let toml = "[tasks.segment]\ntask = \"task.json\"\nrunner = \"process\"\n[[tasks.segment.inputs]]\nname = \"a\"\n\
                        channels = { scnas = \"data\" }\n";
            let project = with(toml);
            project.write("task.json", TASK);
            told(&project, &[])
        }),
        ("an input that is not there", {
            told(&with(&format!("{SEGMENT}[[tasks.segment.inputs]]\npath = \"data/none\"\n")), &[])
        }),
        ("a program that is not there", told(&with(SEGMENT), &[])),
    ];
    let all: String = cases.iter().map(|(name, told)| format!("# {name}\n{told}\n")).collect();
    insta::assert_snapshot!(all);
}

const TASK: &str = r#"{
  "name": "segment", "image": "segment:1", "taskTemplate": {
    "identifier": "segment", "description": "", "inputs": [{"name": "scans", "mounted_path": "/in"}], "outputs": [],
    "env": [], "command": ["true"]
  },
  "inputs": [{"name": "scans", "input": {"host_path": "data"}}], "outputs": []
}"#;

#[test]
fn an_output_that_cannot_be_written_is_found_before_the_runs_and_nothing_is_left() {
    let project =
        Project::with_baseline("[tasks.segment]\ncommand = [\"touch\", \"was-run\"]\n", &three("default", 0, 200));
    let before = project.files();
    for option in ["--junit", "--markdown", "--gitlab", "--bmf", "--customsmallerisbetter"] {
        for path in ["none/out", ".", "/proc/out"] {
            let checked = project.check(&["--markdown", "good.md", option, path]);
            let checked = if option == "--markdown" { project.check(&[option, path]) } else { checked };
            assert_eq!(checked.status(), 3, "{option} {path}: {checked:?}");
            assert_eq!(project.files(), before, "{option} {path}");
        }
    }
    assert_eq!(project.check(&["--update-baseline", "--baseline", "none/b.json"]).status(), 3);
    let summary =
        project.command(&["check", "--github"]).env("GITHUB_STEP_SUMMARY", "none/summary.md").output().unwrap();
    assert_eq!(summary.status.code(), Some(3), "{summary:?}");
    assert_eq!(project.files(), before);
}

#[test]
fn a_baseline_that_cannot_be_used_is_replaced_when_it_is_updated() {
    for broken in ["{\n<<<<<<< HEAD\n", "", "\u{0}", "{\"schema_version\": 2}", "{\"schema_version\": 1, \"tasks\": 3}"]
    {
        let project = Project::with_baseline(SEGMENT, &three("default", 0, 200));
        let whole = project.read("highwater-baseline.json");
        project.write("highwater-baseline.json", broken);
        let updated = project.check(&["--records", "then.jsonl", "--update-baseline"]);
        assert_eq!((updated.status(), project.read("highwater-baseline.json")), (0, whole), "{broken}: {updated:?}");
        assert!(updated.stderr().contains("replacing this unusable baseline"), "{updated:?}");
        assert!(!updated.stderr().contains("help:"), "{updated:?}");
    }
    // A file that is not text is replaced as well; a directory is not.
    let project = Project::with_baseline(SEGMENT, &three("default", 0, 200));
    fs::write(project.path("highwater-baseline.json"), b"\xff\xfe").unwrap();
    let updated = project.check(&["--records", "then.jsonl", "--update-baseline"]);
    assert_eq!(updated.status(), 0, "{updated:?}");
    fs::remove_file(project.path("highwater-baseline.json")).unwrap();
    fs::create_dir(project.path("highwater-baseline.json")).unwrap();
    let updated = project.check(&["--records", "then.jsonl", "--update-baseline"]);
    assert_eq!(updated.status(), 3, "{updated:?}");
}

#[test]
fn init_overwrites_nothing_unasked() {
    let project = Project::new("# mine\n");
    let init = |arguments: &[&str]| project.command(&[&["init"], arguments].concat()).output().unwrap();
    let refused = init(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"), "{refused:?}");
    assert_eq!(project.read("highwater.toml"), "# mine\n");
    project.write("task.json", TASK);
    assert_eq!(init(&["task.json", "--force"]).status.code(), Some(0));
    insta::assert_snapshot!(project.read("highwater.toml"));
    // The configuration is valid: what fails is the missing engine or image.
    let checked = project.check(&["--host", "unix:///nowhere.sock"]);
    assert_eq!(checked.status(), 3, "{checked:?}");
}

#[test]
fn init_names_the_task_from_its_own_folder_and_keeps_what_was_set() {
    let project = Project::new("");
    project.write("tasks/task.json", &TASK.replace("segment:1", "segment:{{ custom.site.a }}"));
    fs::create_dir(project.path("ci")).unwrap();
    let arguments = ["init", "tasks/task.json", "--output=ci/check.toml", "--set=site.a=1", "--set=site.a=2"];
    let written = project.command(&arguments).output().unwrap();
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    let text = project.read("ci/check.toml");
    assert!(text.contains("\ntask = \"../tasks/task.json\"\n"), "{text}");
    assert!(text.contains("\nset = { \"site.a\" = \"2\" }\n"), "{text}");
    let checked = project.check(&["--config", "ci/check.toml", "--host", "unix:///nowhere.sock"]);
    assert_eq!(checked.status(), 3, "{checked:?}");
}

#[test]
fn a_wrong_option_of_a_task_is_told_with_its_line() {
    for (option, expected) in [
        ("--netwrk=none", "unknown option `--netwrk`: did you mean `--network`?"),
        ("--user", "`--user` needs a value"),
        ("--pull=often", "invalid value 'often' for `pull`: expected always, missing, never"),
        ("--network=none", "--network has no effect on a process on this machine"),
    ] {
        let toml = format!("# A check.\n[tasks.list]\ncommand = [\"ls\", \"/\"]\noptions = [\"{option}\"]\n");
        let checked = Project::new(&toml).check(&[]);
        assert_eq!(checked.status(), 2, "{checked:?}");
        let said = checked.stderr().replace("\n  │ ", " ");
        assert!(said.contains(expected), "{said}");
        assert!(option.ends_with("none") && !option.contains("wrk") || said.contains("line 2"), "{said}");
    }
}
