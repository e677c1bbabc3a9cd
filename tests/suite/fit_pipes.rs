//! `highwater fit` and `highwater backtest` on runs from a pipe.

use std::fs;

use assert_cmd::Command;

use crate::fit_records::Records;

/// Runs highwater with this input, from a pipe.
fn piped(arguments: &[String], input: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = command.args(arguments).write_stdin(input).env_remove("HIGHWATER_LOG").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn highwater(records: &Records, arguments: &[String]) -> (i32, String, String) {
    records.highwater(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

const FORMS: [&[&str]; 5] = [
    &["fit", "FILE", "--format", "json"],
    &["fit", "FILE", "--on", "all", "--format", "json"],
    &["fit", "--all", "FILE", "--format", "json"],
    &["backtest", "FILE", "--rule", "2*n", "--format", "json"],
    &["backtest", "FILE", "--protocol", "--calibrate-on", "10", "--on", "time", "--format", "json"],
];

#[test]
fn a_pipe_gives_the_same_result_as_a_file() {
    let records = Records::growing(3.0);
    let table: String = crate::fit_records::growing(3.0).map(|(n, peak)| format!("{n},{peak},60\n")).collect();
    let table = format!("input_bytes,peak_bytes,wall_seconds\n{table}");
    fs::write(records.path("runs.csv"), &table).unwrap();
    for form in FORMS {
        for file in ["runs.jsonl", "runs.csv"] {
            let of = |name: &str| form.iter().map(|word| word.replace("FILE", name)).collect::<Vec<_>>();
            let from_file = highwater(&records, &of(file));
            let input = fs::read_to_string(records.path(file)).unwrap();
            for (path, name) in [("/dev/stdin", "/dev/stdin"), ("-", "standard input")] {
                let (status, stdout, stderr) = from_file.clone();
                assert_eq!(piped(&of(path), &input), (status, stdout, stderr.replace(file, name)), "{form:?} {path}");
            }
        }
    }
}

#[test]
fn no_runs_are_too_little_data() {
    for input in ["", "\n", "\u{feff}", "input_bytes,peak_bytes\n"] {
        for form in FORMS {
            let arguments: Vec<String> = form.iter().map(|word| word.replace("FILE", "-")).collect();
            let (status, stdout, stderr) = piped(&arguments, input);
            assert_eq!((status, stdout.as_str()), (5, ""), "{form:?} {stderr}");
            assert!(stderr.contains("the records contain no runs"), "{form:?} {stderr}");
        }
    }
    let records = Records::new([]);
    let (status, _, stderr) = records.fit(&[]);
    assert_eq!(status, 5);
    assert!(stderr.contains("the records contain no runs"), "{stderr}");
}
