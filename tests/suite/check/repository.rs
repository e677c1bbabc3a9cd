//! A project in a Git repository.

use std::process::{Command, Output};

use super::project::Project;
use crate::harness::skip;

/// Whether there is a Git. CI must have it.
pub(super) fn has_git() -> bool {
    if Command::new("git").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "git is missing");
    skip("there is no git");
    false
}

impl Project {
    /// Runs Git in the project, with a configuration of its own.
    pub(super) fn git(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]);
        command.args(["-c", "commit.gpgsign=false", "-c", "advice.detachedHead=false"]).args(arguments);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("NO_COLOR", "1");
        let output = command.current_dir(self.folder()).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        output
    }

    /// What Git prints, without the line break at its end.
    pub(super) fn git_line(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.git(arguments).stdout).unwrap().trim_end().to_owned()
    }

    /// Commits everything and returns the id of the commit.
    pub(super) fn commit(&self, subject: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", subject]);
        self.git_line(&["rev-parse", "HEAD"])
    }
}
