//! What holds for every command.

use assert_cmd::Command;

#[test]
fn an_unknown_command_is_a_usage_error() {
    Command::new(env!("CARGO_BIN_EXE_highwater")).arg("no-such-command").assert().code(2);
}
