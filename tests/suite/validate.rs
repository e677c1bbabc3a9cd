//! `highwater validate`: all problems, with their locations.

use highwater::model::document::{Document, Source, Variables};
use highwater::model::problem::Flawed;
use proptest::prelude::*;

use crate::tasks::{Folder, fixtures, run};

#[test]
fn good_documents_validate() {
    let good = fixtures().join("good");
    let names = "example-container.json example-task.json lung-container.json lung-task.json complexity.json \
                 mixed.json scale-factor.json";
    insta::assert_snapshot!(run(&good, ["validate"].into_iter().chain(names.split_whitespace()), ""));
    let templated = run(&good, ["validate", "templated.json", "--set", "patient=p1", "--set", "device=gpu"], "");
    assert_eq!((templated.status, templated.stdout.as_str()), (0, "templated.json: ok (task)\n"));
}

#[test]
fn every_bad_document_is_explained_with_all_places() {
    let bad = fixtures().join("bad");
    let mut names: Vec<String> =
        bad.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names {
        let shown = run(&bad, ["validate", &name], "");
        let expected = if name == "unknown-fields.json" || name == "unknown-template.json" { 0 } else { 2 };
        assert_eq!(shown.status, expected, "{name}");
        insta::assert_snapshot!(format!("bad-{}", name.trim_end_matches(".json")), shown);
    }
}

#[test]
fn places_of_rendered_text_are_places_of_the_file() {
    let bad = fixtures().join("bad");
    let set = ["validate", "jinja-made.json", "--set", "memory=12Q", "--set", "batch=4"];
    insta::assert_snapshot!(run(&bad, set, ""));
    insta::assert_snapshot!(run(&bad, ["validate", "jinja-quotes.json", "--set", "patient=\"Ada\""], ""));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let good = fixtures().join("good");
    let set = |first, second| run(&good, ["validate", "lung-task.json", "--set", first, "--set", second], "");
    insta::assert_snapshot!(format!("{}\n{}", set("patient", "a=b"), set("a.b=1", "a=2")));
}

#[test]
fn warnings_can_be_denied() {
    let bad = fixtures().join("bad");
    assert_eq!(run(&bad, ["validate", "unknown-fields.json"], "").status, 0);
    assert_eq!(run(&bad, ["validate", "unknown-fields.json", "--deny", "warnings"], "").status, 2);
}

#[test]
fn scripts_get_every_problem_of_every_file() {
    let bad = fixtures().join("bad");
    let args = ["validate", "--format", "json", "rule.json", "../good/lung-task.json", "no-such-file.json"];
    let shown = run(&bad, args, "");
    assert_eq!((shown.status, shown.stderr.as_str()), (2, ""));
    insta::assert_snapshot!(shown.stdout.replace(&bad.display().to_string(), "/…/bad"));
}

#[test]
fn files_that_are_no_documents_are_refused() {
    let folder = Folder::new();
    folder.write("latin1.json", b"{\"name\": \"M\xfcller\"}");
    folder.write("utf16.json", b"\xff\xfe{\0}\0");
    folder.write("deep.json", "[".repeat(100_000));
    folder.sparse("huge.json", 17 << 20);
    std::fs::create_dir(folder.path("folder")).unwrap();
    std::fs::copy(folder.path("lung-task.json"), folder.path("folder/task.json")).unwrap();
    for name in ["latin1.json", "utf16.json", "deep.json", "huge.json", "folder", "lungs-task.json", "nothing.json"] {
        let shown = folder.run(&format!("validate {name}"));
        assert_eq!(shown.status, 2, "{name}");
        // The name of the directory differs from run to run.
        let text = shown.to_string();
        let text = match text.find("relative to the current directory") {
            Some(at) => format!("{}relative to the current directory …", &text[..at]),
            None => text,
        };
        insta::assert_snapshot!(format!("unusable-{}", name.trim_end_matches(".json")), text);
    }
}

#[test]
fn a_terminal_has_colours_unless_it_wants_none() {
    let folder = Folder::new();
    let has_colours = |no_color: &str| {
        let command = format!("NO_COLOR={no_color} '{}' validate none.json", env!("CARGO_BIN_EXE_highwater"));
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--return", "--command", &command, "/dev/null"]).current_dir(folder.path(""));
        let output = script.stdin(std::process::Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("file not found: none.json"), "{text:?}");
        text.contains("\u{1b}[")
    };
    assert_eq!([has_colours(""), has_colours("1")], [true, false]);
}

#[test]
fn a_link_that_leads_nowhere_is_not_what_was_meant() {
    let folder = Folder::new();
    std::os::unix::fs::symlink("gone", folder.path("my.json")).unwrap();
    std::fs::create_dir(folder.path("mu.json")).unwrap();
    let shown = folder.run("validate my.json");
    assert_eq!(shown.status, 2, "{shown}");
    assert!(!shown.stderr.contains("did you mean"), "{shown}");
}

#[test]
fn a_file_with_thousands_of_problems_names_a_hundred() {
    let folder = Folder::new();
    let fields: Vec<String> = (0..5000).map(|number| format!("\"f{number}\": 1")).collect();
    folder.write("many.json", format!("{{\"taskTemplate\": 1, {}}}", fields.join(", ")));
    let shown = folder.run("validate many.json");
    assert_eq!((shown.status, shown.stdout.as_str()), (2, "many.json: 3 errors, 101 warnings (task)\n"), "{shown}");
    assert!(shown.stderr.contains("4900 more problems are not shown"), "{shown}");
}

#[test]
fn a_byte_order_mark_and_stdin_are_fine() {
    let folder = Folder::new();
    let text = std::fs::read_to_string(folder.path("lung-task.json")).unwrap();
    folder.write("bom.json", format!("\u{feff}{text}"));
    assert_eq!(folder.run("validate bom.json").stdout, "bom.json: ok (task)\n");
    let shown = run(&fixtures(), ["validate", "-"], &text);
    assert_eq!((shown.status, shown.stdout.as_str()), (0, "-: ok (task)\n"));
}

#[test]
fn nothing_in_a_file_reaches_the_terminal_as_it_is_or_at_any_length() {
    let folder = Folder::new();
    let text = std::fs::read_to_string(folder.path("scale-factor.json")).unwrap();
    folder.write("a\u{1b}[2J.json", text.replace("\"scans\"", r#""sc\u001b[31mns""#));
    for command in ["validate", "predict"] {
        let shown = folder.run(&format!("{command} a\u{1b}[2J.json")).to_string();
        assert!(!shown.contains('\u{1b}') && shown.contains(r"sc\u{1b}[31mns"), "{shown}");
    }
    folder.write("long.json", text.replace("7.5Gi", &format!("0.{}1Gi", "0".repeat(10_000))));
    let shown = folder.run("validate long.json").to_string();
    assert!(shown.contains("`0.00000000000000000000000000000000000000…` is 1 B") && shown.len() < 3000, "{shown}");
    let shown = folder.run("validate gone\u{1b}[2J.json").to_string();
    assert!(!shown.contains('\u{1b}') && shown.contains(r"gone\u{1b}[2J.json: cannot be read"), "{shown}");
}

#[test]
fn the_schema_can_be_said() {
    let good = fixtures().join("good");
    let shown = run(&good, ["validate", "--schema", "pc", "lung-task.json"], "");
    assert_eq!(shown.status, 2);
    assert!(shown.stderr.contains("a processing container has no `templates`"), "{shown}");
}

/// Reads a text as both documents; all spans have to be in the text.
fn read(text: String, variables: &Variables) {
    let check = |flawed: Flawed| {
        for problem in &flawed.problems {
            let Some(span) = problem.span.clone() else { continue };
            assert!(flawed.text.get(span.clone()).is_some(), "{span:?} of {problem:?} in {:?}", flawed.text);
            assert!(flawed.line_column(problem).is_some());
        }
    };
    match Source::render("a file", text, variables) {
        Ok(source) => {
            match Document::task(source.clone()) {
                Ok(document) => document.flawed().into_iter().for_each(check),
                Err(flawed) => check(flawed),
            }
            match Document::processing_container(source) {
                Ok(document) => document.flawed().into_iter().for_each(check),
                Err(flawed) => check(flawed),
            }
        }
        Err(flawed) => check(flawed),
    }
}

fn variables() -> Variables {
    let mut variables = Variables::with_env([("REGISTRY".to_owned(), "ü\"\\\n".to_owned())]);
    variables.set("patient=p{{1}}").unwrap();
    variables
}

/// A good document with some parts replaced.
fn damaged() -> impl Strategy<Value = String> {
    const NAMES: [&str; 5] = ["lung-container", "lung-task", "mixed", "scale-factor", "templated"];
    let text = proptest::sample::select(&NAMES[..])
        .prop_map(|name| std::fs::read_to_string(fixtures().join(format!("good/{name}.json"))).unwrap());
    let piece = proptest::sample::select(
        &[
            "",
            "\"",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "{{",
            "}}",
            "{%",
            "{#",
            "\\u00e4",
            "\\ud83d\\ude00",
            "ü",
            "null",
            "1e9",
            "-",
            "\t",
            "\0",
            "../",
            "**",
            "n",
            "(?",
            "[!",
            "{{ env.REGISTRY }}",
            "{%- if x %}",
            "true",
            "\u{fdd0}1\u{fdd1}",
        ][..],
    );
    (text, proptest::collection::vec((any::<proptest::sample::Index>(), 0..12usize, piece), 1..6)).prop_map(
        |(mut text, edits)| {
            for (index, removed, piece) in edits {
                let chars: Vec<(usize, char)> = text.char_indices().collect();
                if chars.is_empty() {
                    continue;
                }
                let start = chars[index.index(chars.len())].0;
                let end = text[start..].char_indices().nth(removed).map_or(text.len(), |(at, _)| start + at);
                text.replace_range(start..end, piece);
            }
            text
        },
    )
}

proptest! {

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        read(text, &variables());
    }

    #[test]
    fn no_damaged_document_makes_the_reader_panic(text in damaged()) {
        read(text, &variables());
    }

    #[test]
    fn json_without_jinja_is_never_mangled(pieces in proptest::collection::vec("[{}#%$]{1,3}|\\PC{0,3}", 0..20)) {
        let script = pieces.concat().replace('{', "{ ").replace("{ #", "{#");
        let text = serde_json::json!({"command": ["sh", "-c", script], "a": {"b": {}}}).to_string();
        let source = Source::render("a file", text.clone(), &variables()).unwrap();
        prop_assert_eq!(source.json(), text);
    }
}
