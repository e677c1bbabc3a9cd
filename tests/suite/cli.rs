//! Properties of every command.

use assert_cmd::Command;

#[test]
fn an_unknown_command_is_a_usage_error() {
    Command::new(env!("CARGO_BIN_EXE_highwater")).arg("no-such-command").assert().code(2);
}

#[test]
fn a_wrong_argument_is_shown_with_its_control_characters_spelled_out() {
    let words = ["run", "--limit", "x\n::error::q\r\u{9b}\u{202e}", "--", "true"];
    let output = Command::new(env!("CARGO_BIN_EXE_highwater")).args(words).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("\\u{202e}") && !stderr.contains(['\r', '\u{9b}', '\u{202e}']), "{stderr:?}");
    assert!(!stderr.lines().any(|line| line.starts_with("::")), "{stderr}");
}

#[test]
fn a_forgotten_separator_is_named_with_the_whole_command() {
    let hint = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        stderr.lines().last().unwrap().strip_prefix("help: a command to measure follows `--`: ").map(str::to_owned)
    };
    assert_eq!(hint(&["run", "sort", "a b"]).as_deref(), Some("highwater run -- sort 'a b'"));
    assert_eq!(hint(&["run", "python3", "-c", "1"]).as_deref(), Some("highwater run -- python3 -c 1"));
    let sweep = ["sweep", "-P", "N=1,2", "./work", "{N}", "--fast"];
    assert_eq!(hint(&sweep).as_deref(), Some("highwater sweep -P 'N=1,2' -- ./work '{N}' --fast"));
    for other in [
        &["run", "task.json", "--nosuch"][..],
        &["run", "--nosuch"],
        &["run", "--mesage", "--", "true"],
        &["sweep", "--into", "lungs", "--nosuch"],
    ] {
        assert_eq!(hint(other), None, "{other:?}");
    }
}

#[test]
fn a_variable_is_set_for_a_process() {
    let ran = |words: &[&str]| Command::new(env!("CARGO_BIN_EXE_highwater")).args(words).output().unwrap();
    let output = ran(&["run", "-q", "-e", "GREETING=a b", "--", "sh", "-c", "echo \"$GREETING\""]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a b\n");
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("s");
    let task = ["-P", "N=7", "-e", "LEVEL={N}", "--", "sh", "-c", "test \"$LEVEL\" = {N}"];
    let output = ran(&[&["sweep", "-q", "--into", into.to_str().unwrap()][..], &task].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_option_for_containers_is_refused_for_a_process() {
    for option in [
        &["--mount", "/tmp:/in"][..],
        &["--user", "1"],
        &["--network", "none"],
        &["--name", "x"],
        &["--label", "a=b"],
        &["--entrypoint", "/bin/sh"],
        &["--workdir", "/"],
        &["--probe", "always"],
        &["--idle-peak"],
    ] {
        for command in [&["run"][..], &["floor"], &["sweep", "--dry-run"]] {
            let words = [command, option, &["--", "true"]].concat();
            let output = Command::new(env!("CARGO_BIN_EXE_highwater")).args(&words).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
            let told = format!("{} has no effect on a process", option[0]);
            assert!(stderr.contains(&told) && stderr.contains("help:"), "{words:?}: {stderr}");
        }
    }
}

#[test]
fn the_earlier_name_of_idle_peak_is_still_accepted() {
    let output = Command::new(env!("CARGO_BIN_EXE_highwater")).args(["run", "--noise-floor", "--", "true"]).output();
    let stderr = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(stderr.contains("--idle-peak has no effect on a process"), "{stderr}");
}
