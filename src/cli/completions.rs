//! `highwater completions`: shell completions.

use clap::{Arg, Args, Command, CommandFactory, ValueHint};
use clap_complete::Shell;

use super::exit::Exit;
use super::failure::Failure;
use super::{Cli, output};

const EXAMPLES: &str = "\
Examples:
  highwater completions bash > ~/.local/share/bash-completion/completions/highwater
  highwater completions zsh > ~/.zfunc/_highwater
  highwater completions fish > ~/.config/fish/completions/highwater.fish";

/// Write shell completions to stdout.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete in.
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(), "highwater", &mut script);
    output::data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// What the names of values contain that can be paths.
const PATHS: [&str; 10] = ["FILE", "DIR", "PATH", "RECORD", "REPORTS", "TASK", "RULE", "CMD", "COMMAND", "PROGRAM"];

/// The command line without hidden commands, which would otherwise be completed, as would file names for any value.
fn shown() -> Command {
    let all = Cli::command();
    Command::new("highwater")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .args(all.get_arguments().cloned())
        .subcommands(all.get_subcommands().filter(|command| !command.is_hide_set()).cloned().map(hinted))
}

fn hinted(command: Command) -> Command {
    command.mut_args(|arg: Arg| {
        let names = arg.get_value_names().unwrap_or_default();
        let is_path = names.iter().any(|name| PATHS.iter().any(|path| name.contains(path)));
        if is_path || !arg.get_action().takes_values() { arg } else { arg.value_hint(ValueHint::Other) }
    })
}
