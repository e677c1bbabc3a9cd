//! Gives an ordinary user a cgroup: a scope of the user's own systemd manager.
//!
//! Only from a login session. A batch job must stay in its cgroup even if its user has a running manager: otherwise its
//! limits would not apply, and cancelling it would not stop the task.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use highwater::calibrate::workload::INSIDE_SCOPE;
use highwater::host::cgroup::{Cgroup, memory_cgroup};
use highwater::host::machine::Machine;
use highwater::model::observation::CgroupVersion;
use highwater::runner::placement::{Limits, Placement};
use nix::unistd::geteuid;

/// Restarts this program inside a scope, if that gives it cgroups that it would not have otherwise.
///
/// Returns if there is no need or no way. The restart keeps the PID, and with it signals and terminal.
pub(crate) fn enter_if_needed(machine: &Machine) {
    if geteuid().is_root() || env::var_os(INSIDE_SCOPE).is_some() || !has_user_manager() {
        return;
    }
    let Some(limits) = limits_of_session(machine) else { return };
    let mut placement = Placement::new(machine);
    if placement.version != Some(CgroupVersion::V2) || usable(&mut placement) || !scope_works(&limits) {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let error = systemd_run(&limits)
        .arg(format!("--description=highwater {}", std::process::id()))
        .arg("--")
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE_SCOPE, "1")
        .exec();
    tracing::debug!("failed to start systemd-run: {error}");
}

/// The limits of the current login session, which must apply to the scope, too; `None` outside of a session.
///
/// Session and scope are both below `user.slice/user-UID.slice`, so limits from there on upwards apply anyway.
fn limits_of_session(machine: &Machine) -> Option<Limits> {
    let own = memory_cgroup(&machine.roots, "self").ok()?;
    let slice = format!("user-{}.slice", geteuid());
    let is_slice = |cgroup: &Cgroup| cgroup.path.file_name().is_some_and(|name| *name == *slice);
    own.ancestry().find(is_slice)?;
    let below = own.ancestry().take_while(|cgroup| !is_slice(cgroup));
    Some(below.fold(Limits::default(), |limits, cgroup| limits.and(Limits::read(&cgroup))))
}

/// Whether a cgroup can be created and entered without a scope: processes can only move below a cgroup they own.
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

/// Whether the manager grants scopes at all: once `systemd-run` has replaced the program there is no way back.
fn scope_works(limits: &Limits) -> bool {
    systemd_run(limits)
        .args(["--", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn systemd_run(limits: &Limits) -> Command {
    let mut command = Command::new("systemd-run");
    command.args(["--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes"]);
    command.args(limits.properties().iter().map(|property| format!("--property={property}")));
    if let (None, Some(folder)) = (env::var_os("XDG_RUNTIME_DIR"), runtime_dir()) {
        command.env("XDG_RUNTIME_DIR", folder);
    }
    command
}
