//! `highwater completions`: what a shell needs to complete commands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::exit::Exit;
use super::failure::Failure;
use super::{Cli, output};

const EXAMPLES: &str = "\
Examples:
  highwater completions bash > ~/.local/share/bash-completion/completions/highwater
  highwater completions zsh > ~/.zfunc/_highwater
  highwater completions fish > ~/.config/fish/completions/highwater.fish";

/// Writes the completions of a shell to stdout.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "highwater", &mut script);
    output::data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
