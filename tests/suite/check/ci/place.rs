//! Where the steps of CI are run: a project with a baseline, the archive of a release, and a stand-in for `gh`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::check::project::Project;
use crate::harness::skip;

/// Has one comment once it was posted, of id 41, and refuses everything in a directory with a file `refuse`.
const GH: &str = r#"#!/bin/bash
echo "$*" >> gh.log
[ ! -e refuse ] || { echo "gh: Resource not accessible by integration (HTTP 403)" >&2; exit 1; }
case "$*" in
  *--method*) text=${!#}; cat "${text#body=@}" > comment ;;
  "api --paginate"*) [ ! -e comment ] || echo 41 ;;
esac
"#;

pub(super) struct Place {
    project: Project,
    /// The clean root in which all this is, or `/`.
    root: PathBuf,
    pub(super) version: String,
    pub(super) sha256: String,
}

impl Place {
    /// `None` reports that the test is skipped.
    pub(super) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip("no peak is exact here");
            return None;
        }
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ci/project");
        // tests/dist sets TMPDIR to a directory below that root.
        let root = PathBuf::from(std::env::var_os("HIGHWATER_TEST_ROOT").unwrap_or_else(|| "/".into()));
        let project = Project::new(&fs::read_to_string(fixtures.join("highwater.toml")).unwrap());
        fs::set_permissions(project.folder(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::copy(fixtures.join("sort.sh"), project.path("sort.sh")).unwrap();
        project.write("bin/gh", GH);
        fs::set_permissions(project.path("bin/gh"), fs::Permissions::from_mode(0o755)).unwrap();
        Some(Self { project, root, version: String::new(), sha256: String::new() })
    }

    /// The same with a release, and a baseline that its program has made.
    pub(super) fn with_release() -> Option<Self> {
        let mut place = Self::new()?;
        place.add_release();
        let made = place.bash("unpacked/*/highwater check --update-baseline --runs 3", &BTreeMap::new(), false);
        assert!(made.status.success(), "{made:?}");
        Some(place)
    }

    /// Puts the archive of tests/dist where a release would have it, or one of the program under test.
    fn add_release(&mut self) {
        let pack = match std::env::var("HIGHWATER_TEST_ARCHIVE") {
            Ok(archive) => format!("cp {archive} ."),
            Err(_) => format!(
                "name=highwater-{}-$(uname -m)-linux; mkdir $name; strip -o $name/highwater {}; tar -c $name | gzip -1 > $name.tar.gz; rm -r $name",
                env!("CARGO_PKG_VERSION"),
                env!("CARGO_BIN_EXE_highwater")
            ),
        };
        let script = format!(
            "{pack}; archive=$(echo *.tar.gz); version=${{archive#highwater-}}; version=${{version%-*-linux.tar.gz}}
             mkdir -p unpacked releases/v$version; tar -C unpacked -xzf $archive; mv $archive releases/v$version
             echo $version $(sha256sum < releases/v$version/$archive)"
        );
        let output = Command::new("bash").args(["-ec", &script]).current_dir(self.project.folder()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let mut words = stdout.split_whitespace().map(str::to_owned);
        (self.version, self.sha256) = (words.next().unwrap(), words.next().unwrap());
    }

    /// A path of the project as the steps see it.
    pub(super) fn inside(&self, name: &str) -> String {
        let path = self.project.path(name);
        Path::new("/").join(path.strip_prefix(&self.root).unwrap()).to_str().unwrap().to_owned()
    }

    pub(super) fn releases(&self) -> String {
        format!("file://{}", self.inside("releases"))
    }

    /// A path that a step has named, or a name in the project.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        match path.strip_prefix('/') {
            Some(path) => self.root.join(path),
            None => self.project.path(path),
        }
    }

    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        self.project.write(name, text);
    }

    /// The change of a pull request: the task keeps a tenth more.
    pub(super) fn plant_growth(&self) {
        let before = self.read("sort.sh");
        let after = before.replace("lines=\"$1\"", "lines=\"$(($1 * 11 / 10))\"");
        assert_ne!(before, after);
        fs::write(self.path("sort.sh"), after).unwrap();
    }

    pub(super) fn refuse_comments(&self) {
        self.write("refuse", "");
    }

    /// Runs a script in the project with these variables alone, as CI starts bash. In the clean root, GitHub's steps are
    /// those of a user who may use sudo.
    pub(super) fn bash(&self, script: &str, variables: &BTreeMap<String, String>, as_runner: bool) -> Output {
        let is_clean = self.root != Path::new("/");
        let mut words = vec!["env", "-i", "NO_COLOR=1", "LANG=C.UTF-8", "HOME=/tmp"];
        let path = format!("PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.inside("bin"));
        let variables: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.push(&path);
        words.extend(variables.iter().map(String::as_str));
        let (inside, script) = (self.inside(""), format!("cd \"$0\"\n{script}"));
        words.extend(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", &script, &inside]);
        let mut command = Command::new("chroot");
        if is_clean && as_runner {
            command.arg("--userspec=runner:runner");
        }
        command.arg(&self.root).args(words).output().unwrap()
    }
}
