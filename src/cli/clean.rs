//! `highwater clean`: removes containers, cgroups and Git worktrees left behind by a killed highwater.

use clap::Args;
use highwater::calibrate::check::remove_worktrees;
use highwater::model::problem::one_line;
use highwater::runner::container::{Leftovers, Removed, remove_leftovers};
use highwater::runner::engine::{Engine, EngineError};
use highwater::runner::pod::Cluster;

use super::exit::Exit;
use super::failure::Failure;
use super::on::{ClusterArgs, PlaceArg};
use super::output;

const EXAMPLES: &str = "\
Examples:
  highwater clean                    remove containers, cgroups and Git worktrees of a killed
                                     highwater
  highwater clean --dry-run          only show them
  highwater clean --on kubernetes    remove pods and ConfigMaps of a killed highwater
  highwater clean --foreign          also remove those of other machines or containers, or from
                                     before a reboot: only if none of them is in use

A highwater that ends by itself, by Ctrl-C or by a signal leaves nothing behind; one that was killed with SIGKILL, or \
that lost its engine, does. Containers are recognized by a label that contains their name: containers of an image \
that was committed from a container of highwater are left alone, and so is everything that belongs to another user. Worktrees of `highwater check --against` are looked for in $TMPDIR, \
or else in /tmp.";

/// Remove containers, cgroups and Git worktrees left behind by a killed highwater.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CleanArgs {
    /// Address of the container engine [default: as for `highwater run`].
    #[arg(long, value_name = "URL")]
    host: Option<String>,
    /// Remove nothing, only show what would be removed.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Where to look: on this machine, or in a namespace of a Kubernetes cluster.
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = PlaceArg::Local)]
    on: PlaceArg,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Also remove what a highwater left behind on another machine, in a container, or before a reboot.
    #[arg(long)]
    foreign: bool,
}

pub(crate) fn run(args: &CleanArgs) -> Result<Exit, Failure> {
    if let Some(options) = args.cluster.options(args.on)? {
        let cluster = Cluster::open(options, None).map_err(Failure::from_library)?;
        let leftovers = cluster.remove_leftovers(args.dry_run, args.foreign).map_err(Failure::from_library)?;
        output::text(&table(&leftovers, args.dry_run, true))?;
        return Ok(tell_failed(&leftovers, false));
    }
    let mut unasked = false;
    let engine = match Engine::find(args.host.as_deref()) {
        Ok(engine) => Some(engine),
        // Without an engine that was named explicitly, clean everything else.
        Err(error) if error.is_nobody_named() => {
            output::say(&format!("highwater: skipped containers: {error}"));
            None
        }
        Err(error @ EngineError::NotAllowed { .. }) => {
            output::say(&format!("highwater: skipped containers: {}", one_line(&error)));
            unasked = true;
            None
        }
        Err(error) => return Err(Failure::from_library(error)),
    };
    let mut leftovers = remove_leftovers(engine.as_ref(), args.dry_run, args.foreign).map_err(Failure::host)?;
    remove_worktrees(args.dry_run, args.foreign, &mut leftovers);
    output::text(&table(&leftovers, args.dry_run, engine.is_some()))?;
    Ok(tell_failed(&leftovers, unasked))
}

/// Reports what could not be removed, and returns the exit status.
fn tell_failed(leftovers: &Leftovers, unasked: bool) -> Exit {
    for failed in &leftovers.failed {
        output::say(&format!("highwater: {failed}"));
    }
    if leftovers.failed.is_empty() && !unasked { Exit::Done } else { Exit::Host }
}

fn table(leftovers: &Leftovers, dry_run: bool, has_engine: bool) -> String {
    let verb = if dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    for removed in &leftovers.removed {
        text.push_str(&format!("{verb} {removed}\n"));
    }
    for left in &leftovers.foreign {
        let reason = match left {
            Removed::Container(_) | Removed::Object { .. } => {
                "created on another machine, in a container, or before the last reboot"
            }
            Removed::Cgroup(_) | Removed::Worktree(_) => "created in another PID namespace",
        };
        text.push_str(&format!("skipped {left}: {reason}\n"));
    }
    for left in &leftovers.of_others {
        text.push_str(&format!("skipped {left}: owned by another user\n"));
    }
    if text.is_empty() {
        text.push_str(if has_engine { "nothing was left behind\n" } else { "no cgroup or worktree was left behind\n" });
    }
    text
}
