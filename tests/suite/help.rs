//! The output of `--help`, for every command.

use assert_cmd::Command;

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_highwater")).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands in the help of the program.
pub(crate) fn commands() -> Vec<String> {
    let text = help(&[]);
    let listed = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A wrapped description continues further to the right.
    let listed = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_help_lists_every_command() {
    insta::assert_snapshot!(help(&[]));
}

#[test]
fn every_command_explains_itself_with_examples() {
    let commands = commands();
    assert!(commands.len() >= 7, "{commands:?}");
    for command in commands {
        let text = help(&[&command]);
        let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{command} has no {words}"));
        assert!(at("\n\nExamples:\n") < at("\n\nUsage: "), "{command}");
        insta::assert_snapshot!(format!("help_of_{command}"), text);
    }
}

#[test]
fn no_line_of_the_help_is_wider_than_120_columns() {
    for command in commands() {
        let text = help(&[&command]);
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(120), "{command}: {widest:?}");
    }
}

#[test]
fn a_shell_and_a_manual_reader_are_served() {
    let highwater = || Command::new(env!("CARGO_BIN_EXE_highwater"));
    for shell in ["bash", "zsh", "fish"] {
        let output = highwater().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8_lossy(&output.stdout);
        assert!(script.contains("predict") && script.contains("verbose"), "{shell}");
        assert!(!script.contains("workload"), "{shell} completes a hidden command");
    }
    let completed = |words: &str| {
        let script = format!(
            "source <('{}' completions bash);  COMP_WORDS=({words} ''); set -- {words};
             COMP_CWORD=$#; _highwater highwater '' \"${{@: -1}}\"; echo \"${{COMPREPLY[*]}}\"",
            env!("CARGO_BIN_EXE_highwater")
        );
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed("highwater sweep --pick"), "", "a value that is not a file");
    assert!(completed("highwater sweep --file").contains("Cargo.toml"), "a file");
    let folder = tempfile::tempdir().unwrap();
    highwater().args(["man", "--dir"]).arg(folder.path()).assert().success();
    let page = std::fs::read_to_string(folder.path().join("highwater-run.1")).unwrap();
    assert!(
        page.contains(r"\fBhighwater run\fR [OPTIONS] [TASK] [\-\- <CMD>...]"),
        "the synopsis is not that of --help"
    );
    for command in commands() {
        let page = std::fs::read_to_string(folder.path().join(format!("highwater-{command}.1"))).unwrap();
        for section in ["NAME", "SYNOPSIS", "OPTIONS", "EXAMPLES\n.PP\n.nf", "\"EXIT STATUS\"", "\"SEE ALSO\""] {
            assert!(page.contains(&format!("\n.SH {section}\n")), "{command}: {section}");
        }
        assert!(page.contains(concat!("highwater ", env!("CARGO_PKG_VERSION"))), "{command}");
    }
}
