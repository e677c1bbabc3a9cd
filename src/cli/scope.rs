//! An ordinary user's way to a cgroup: a scope of the own systemd user manager.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use highwater::host::machine::Machine;
use highwater::model::observation::CgroupVersion;
use highwater::runner::placement::Placement;
use nix::unistd::geteuid;

/// Set for the highwater inside of the scope, so that it does not ask again.
pub(crate) const INSIDE: &str = "HIGHWATER_SCOPE";

/// Starts this program again inside of a scope of its own, where that gives it cgroups that it would not have otherwise.
///
/// Returns where there is no need, or no way. The process number stays the same, and with it signals and terminal.
pub(crate) fn enter_if_needed(machine: &Machine) {
    if geteuid().is_root() || env::var_os(INSIDE).is_some() || !has_user_manager() {
        return;
    }
    let mut placement = Placement::new(machine);
    if placement.version != Some(CgroupVersion::V2) || usable(&mut placement) || !scope_works() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let error = systemd_run()
        .arg(format!("--description=highwater {}", std::process::id()))
        .arg("--")
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    tracing::debug!("systemd-run could not be started: {error}");
}

/// Whether a cgroup can be made without a scope, and be entered: only below a cgroup that is ours can we move.
fn usable(placement: &mut Placement) -> bool {
    placement.try_out().is_some()
        && placement.nearest().is_some_and(|place| {
            nix::unistd::access(&place.path.join("cgroup.procs"), nix::unistd::AccessFlags::W_OK).is_ok()
        })
}

fn has_user_manager() -> bool {
    runtime_dir().is_some_and(|folder| folder.join("systemd/private").exists() || folder.join("bus").exists())
}

fn runtime_dir() -> Option<PathBuf> {
    env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).or_else(|| Some(format!("/run/user/{}", geteuid()).into()))
}

/// Whether the manager grants scopes at all: once the program has been replaced by `systemd-run` there is no way back.
fn scope_works() -> bool {
    systemd_run()
        .args(["--", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn systemd_run() -> Command {
    let mut command = Command::new("systemd-run");
    command.args(["--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes"]);
    if let (None, Some(folder)) = (env::var_os("XDG_RUNTIME_DIR"), runtime_dir()) {
        command.env("XDG_RUNTIME_DIR", folder);
    }
    command
}
