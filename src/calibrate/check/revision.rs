//! Another revision of the repository, checked out beside the working tree, and the command that prepares a tree.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

use super::Session;
use crate::calibrate::failure::{Category, Failed, Failure};
use crate::model::check::config::Config;
use crate::model::check::report::Against;
use crate::model::problem::one_line;
use crate::runner::container::{Leftovers, Removed};
use crate::runner::{CgroupOwner, unblock_signals_in};
use crate::store::bounded;

/// How often to look whether the command that prepares a tree has ended.
const LOOK: Duration = Duration::from_millis(50);

/// The worktree in its temporary directory.
const TREE: &str = "tree";

/// A temporary Git worktree of a revision, removed when dropped.
///
/// The checkout of the user is never touched. The repository knows the worktree until it is removed.
#[derive(Debug)]
pub struct Revision {
    against: Against,
    /// The checkout of the user.
    repository: PathBuf,
    /// The directory in the worktree that corresponds to the one of the configuration.
    directory: PathBuf,
    worktree: PathBuf,
    folder: TempDir,
}

impl Revision {
    /// Checks out a revision of the repository that contains `directory`.
    ///
    /// # Errors
    /// If Git is not installed, this is not a repository, the revision does not exist, or it lacks the directory.
    pub fn check_out(directory: &Path, revision: &str) -> Result<Self, Failure> {
        let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let top = git(here, &["rev-parse", "--show-toplevel"]).map_err(|error| {
            Failure::usage(error, "run the check in a Git repository with Git installed, or compare with a baseline")
        })?;
        let prefix = git(here, &["rev-parse", "--show-prefix"]).map_err(Failure::host)?;
        let named = format!("{revision}^{{commit}}");
        let commit = git(here, &["rev-parse", "--verify", "--quiet", "--end-of-options", &named]);
        let commit = commit.map_err(|_| {
            let help =
                "name a branch, tag or commit; a shallow clone has only the last one: run `git fetch --unshallow`";
            Failure::usage(format!("the repository has no revision `{revision}`"), help)
        })?;
        let create = |source: io::Error| Failure::host(Failed::to("create a temporary directory", source));
        let owner = format!("{}.", CgroupOwner::this().cgroup(0));
        let folder = tempfile::Builder::new().prefix(&owner).tempdir().map_err(create)?;
        // Git stores the name without symbolic links.
        let worktree = folder.path().canonicalize().map_err(create)?.join(TREE);
        let checked_out = Self {
            against: Against { revision: revision.to_owned(), commit: commit.clone() },
            repository: PathBuf::from(top),
            directory: worktree.join(prefix.trim_end_matches('/')),
            worktree,
            folder,
        };
        let path = checked_out.worktree.to_string_lossy().into_owned();
        // Hooks are for the checkouts of the user.
        let add = ["-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", &path, &commit];
        git(here, &add).map_err(Failure::host)?;
        if !checked_out.directory.is_dir() {
            let error = format!("{} has no directory {prefix}", checked_out.against.name());
            return Err(Failure::usage(error, "compare with a revision that has the directory of the configuration"));
        }
        Ok(checked_out)
    }

    /// What was checked out.
    pub fn against(&self) -> &Against {
        &self.against
    }

    /// The directory in it that corresponds to the one of the configuration.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Revision {
    fn drop(&mut self) {
        if remove_worktree(&self.repository, &self.worktree).is_err() {
            // It may not have been created, or not completely.
            let _ = std::fs::remove_dir_all(self.folder.path());
            let _ = git(&self.repository, &["worktree", "prune"]);
        }
    }
}

fn remove_worktree(repository: &Path, worktree: &Path) -> Result<String, Failed> {
    git(repository, &["worktree", "remove", "--force", "--force", &worktree.to_string_lossy()])
}

/// Removes the worktrees that killed comparisons of this user left in the directory for temporary files. With `look_only`
/// nothing is removed; `foreign` includes those whose owner cannot be checked from here.
pub fn remove_worktrees(look_only: bool, foreign: bool, leftovers: &mut Leftovers) {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| CgroupOwner::parse(name.split_once('.')?.0));
        let Some((owner, metadata)) = owner.zip(entry.metadata().ok().filter(Metadata::is_dir)) else { continue };
        let found = Removed::Worktree(entry.path());
        // Git runs what the owner has configured for the repository, so not even root removes worktrees of other users.
        let of_another_user = metadata.uid() != geteuid().as_raw();
        if !leftovers.is_to_be_removed(&found, owner.is_gone(), of_another_user, foreign) {
            continue;
        }
        if !look_only && let Err(source) = remove_leftover(&entry.path()) {
            leftovers.failed.push(one_line(&Failed::to(format!("remove {found}"), source)));
            continue;
        }
        leftovers.removed.push(found);
    }
}

/// Removes a worktree with its temporary directory, also if its repository is gone.
fn remove_leftover(folder: &Path) -> io::Result<()> {
    let tree = folder.join(TREE);
    // `gitdir: REPOSITORY/worktrees/NAME`
    let link = bounded::read_text(&tree.join(".git")).unwrap_or_default();
    let repository = link.trim_end().strip_prefix("gitdir: ").and_then(|path| Path::new(path).ancestors().nth(2));
    if let Some(repository) = repository {
        let _ = remove_worktree(repository, &tree);
    }
    std::fs::remove_dir_all(folder)
}

/// The configuration for another tree: the same tasks on the same inputs, which only the working tree has to contain.
///
/// # Errors
/// The current directory is gone, and `directory` is relative.
pub fn with_inputs_from(config: &Config, directory: &Path) -> Result<Config, Failure> {
    let mut config = config.clone();
    let inputs = config.tasks.iter_mut().flat_map(|task| &mut task.inputs);
    for path in inputs.flat_map(|input| input.path.iter_mut().chain(input.channels.values_mut())) {
        let absolute = std::path::absolute(directory.join(&*path));
        *path = absolute.map_err(|source| Failure::host(Failed::to(format!("find {}", path.display()), source)))?;
    }
    Ok(config)
}

/// Runs the `setup` command of the configuration in a tree, which errors call `tree`.
///
/// # Errors
/// It cannot be started, fails, or is interrupted.
pub fn set_up(config: &Config, directory: &Path, tree: &str, session: &mut dyn Session) -> Result<(), Failure> {
    let Some((program, arguments)) = config.setup.split_first() else { return Ok(()) };
    let words = config.setup.join(" ");
    let mut command = Command::new(program);
    // The report goes to stdout.
    command.args(arguments).stdin(Stdio::null()).stdout(io::stderr());
    if !directory.as_os_str().is_empty() {
        command.current_dir(directory);
    }
    unblock_signals_in(&mut command);
    let help = || Some("correct `setup` in highwater.toml, or what it runs".to_owned());
    let failed = |source: io::Error| {
        Failure::new(Category::Host, Failed::to(format!("run the setup command `{words}` in {tree}"), source), help())
    };
    let mut child = command.spawn().map_err(failed)?;
    let mut is_interrupted = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        wait_for_request(session);
        if !is_interrupted && session.is_interrupted() {
            is_interrupted = true;
            // Ctrl-C in a terminal has reached it already.
            let pid = i32::try_from(child.id()).map_err(|_| failed(Errno::ERANGE.into()))?;
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    };
    if is_interrupted || session.is_interrupted() {
        return Err(interrupted());
    }
    if !status.success() {
        let error = format!("the setup command `{words}` failed in {tree} with {status}");
        return Err(Failure::new(Category::Host, error, help()));
    }
    Ok(())
}

fn wait_for_request(session: &mut dyn Session) {
    let requested = session.cancel().requested();
    let mut fds = [PollFd::new(requested, PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO));
}

pub(super) fn interrupted() -> Failure {
    let help = "no result was computed and no file was written".to_owned();
    Failure::new(Category::Interrupted, "interrupted", Some(help))
}

/// Runs Git in a directory and returns what it prints.
fn git(directory: &Path, arguments: &[&str]) -> Result<String, Failed> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(arguments).stdin(Stdio::null());
    // Hooks and `git bisect run` set these for the checkout that they work on.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    unblock_signals_in(&mut command);
    let output = command.output().map_err(|source| Failed::to("start git", source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said = if said.is_empty() { output.status.to_string() } else { said };
    let what = arguments.iter().find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or(&"");
    Err(Failed::to(format!("run git {what}"), said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::monitor::Never;

    #[test]
    fn a_setup_command_that_fails_names_the_tree() {
        let config = Config { setup: ["sh", "-c", "exit 7"].map(str::to_owned).to_vec(), ..Config::default() };
        let failure = set_up(&config, Path::new("/"), "main (1a2b3c4)", &mut Never::new().unwrap()).unwrap_err();
        let message = "the setup command `sh -c exit 7` failed in main (1a2b3c4) with exit status: 7";
        assert_eq!((failure.category, failure.to_string().as_str()), (Category::Host, message));
        let missing = Config { setup: vec!["./no-such-program".to_owned()], ..Config::default() };
        assert!(set_up(&missing, Path::new("/"), "main", &mut Never::new().unwrap()).is_err());
    }

    #[test]
    fn relative_inputs_stay_those_of_the_working_tree() {
        let text = "[tasks.a]\ncommand = [\"./a\", \"{input}\"]\n[[tasks.a.inputs]]\npath = \"data/x\"\n";
        let config = Config::parse("highwater.toml", text).unwrap();
        let other = with_inputs_from(&config, Path::new("/project")).unwrap();
        assert_eq!(other.tasks[0].inputs[0].path.as_deref(), Some(Path::new("/project/data/x")));
        assert_eq!(other.tasks[0].inputs[0].name, config.tasks[0].inputs[0].name);
    }
}
