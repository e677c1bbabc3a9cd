//! Plans the mounts of a root that shows the host with additions.
//!
//! A target that exists on the host is mounted over. For one that does not, the nearest existing directory is replaced
//! by a tmpfs, with everything in it mounted again beside the target.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, FileType};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{Mount, Overlay, ViewError};

/// The path of the host while the new root is assembled.
pub(super) const OLD: &str = "/old";
/// The path where the new root is assembled.
pub(super) const NEW: &str = "/new";

/// A step towards the new root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Directory {
        at: CString,
    },
    File {
        at: CString,
    },
    Link {
        at: CString,
        to: CString,
    },
    /// Mounts an empty tmpfs.
    Memory {
        at: CString,
        options: CString,
    },
    /// Makes a tmpfs read-only: what a task wrote there would count as its memory.
    Close {
        at: CString,
    },
    Overlay {
        at: CString,
        options: CString,
    },
    Bind {
        source: CString,
        at: CString,
        read_only: bool,
        may_be_gone: bool,
    },
}

/// The steps, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) operations: Vec<Operation>,
    /// Directories of the host that are replaced by a writable tmpfs.
    pub(super) in_memory: Vec<PathBuf>,
}

/// A path of the new root.
#[derive(Debug, Default)]
struct Node {
    mount: Option<Source>,
    children: BTreeMap<OsString, Node>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    is_directory: bool,
    read_only: bool,
}

/// Lays out the overlays and the mounts over the current host. A directory that is missing in a writable source is
/// created there.
pub(super) fn lay_out(mounts: &[Mount], overlays: &[Overlay]) -> Result<Layout, ViewError> {
    let host = Source { path: PathBuf::from("/"), is_directory: true, read_only: false };
    let mut root = Node { mount: Some(host), children: BTreeMap::new() };
    let mut writable: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut targets = Vec::new();
    for Mount { source, target, read_only } in mounts {
        let resolved = resolve(target)?;
        let path = source.canonicalize().map_err(failed("find", source))?;
        let metadata = path.metadata().map_err(failed("read", &path))?;
        if !read_only && metadata.is_dir() {
            writable.push((resolved.clone(), path.clone()));
        }
        let mut node = &mut root;
        for component in resolved.components().skip(1) {
            node = node.children.entry(component.as_os_str().to_owned()).or_default();
        }
        // Of two at one path the first wins, as with the paths in a command.
        node.mount.get_or_insert(Source { path, is_directory: metadata.is_dir(), read_only: *read_only });
        targets.push(resolved);
    }
    for (target, source) in writable {
        for below in targets.iter().filter_map(|other| other.strip_prefix(&target).ok()) {
            let path = source.join(below);
            fs::create_dir_all(&path).map_err(failed("make", &path))?;
        }
    }
    // Mounts over the old root, made first, show in the new one, too.
    let operations = overlays.iter().map(Overlay::operation).collect::<Result<_, _>>()?;
    let mut layout = Layout { operations, ..Layout::default() };
    layout.show(&root, None, Path::new(NEW), false)?;
    Ok(layout)
}

/// The target with the symbolic links in its existing part resolved.
fn resolve(target: &Path) -> Result<PathBuf, ViewError> {
    let refuse = |reason| ViewError::Target { target: target.to_owned(), reason };
    if !target.is_absolute() {
        return Err(refuse("it is not an absolute path"));
    }
    if target.components().any(|component| component == Component::ParentDir) {
        return Err(refuse("it contains `..`"));
    }
    let resolved = target
        .ancestors()
        .find_map(|there| Some(there.canonicalize().ok()?.join(target.strip_prefix(there).ok()?)))
        .unwrap_or_else(|| target.to_owned());
    if resolved.parent().is_none() {
        return Err(refuse("it would hide all other files"));
    }
    Ok(resolved)
}

impl Overlay {
    fn operation(&self) -> Result<Operation, ViewError> {
        let mut options = OsString::new();
        for (name, path) in [("lowerdir", &self.lower), (",upperdir", &self.upper), (",workdir", &self.work)] {
            if path.as_os_str().as_bytes().iter().any(|byte| b",:\\".contains(byte)) {
                return Err(ViewError::Target {
                    target: path.clone(),
                    reason: "it contains a comma, colon or backslash",
                });
            }
            options.push(name);
            options.push("=");
            options.push(on_host(path));
        }
        Ok(Operation::Overlay { at: text(on_host(&self.target))?, options: text(options)? })
    }
}

/// The path of a host path while the new root is assembled.
fn on_host(path: &Path) -> OsString {
    let mut at = OsString::from(OLD);
    at.push(if path == Path::new("/") { OsStr::new("") } else { path.as_os_str() });
    at
}

impl Node {
    /// Whether there is something at this path of the host that it can be mounted over.
    fn fits(&self, path: &Path) -> bool {
        let is_directory = self.mount.as_ref().is_none_or(|mount| mount.is_directory);
        fs::symlink_metadata(path).is_ok_and(|there| if is_directory { there.is_dir() } else { there.is_file() })
    }
}

impl Layout {
    /// Shows a node at `at`, where the directory `visible` of the host is already visible, or a new one that is empty.
    fn show(&mut self, node: &Node, visible: Option<&Path>, at: &Path, read_only: bool) -> Result<(), ViewError> {
        let read_only = node.mount.as_ref().map_or(read_only, |mount| mount.read_only);
        let Some(directory) = node.mount.as_ref().map(|mount| mount.path.as_path()).or(visible) else {
            return node.children.iter().try_for_each(|(name, child)| {
                let at = at.join(name);
                self.make(child.mount.as_ref().is_none_or(|mount| mount.is_directory), &at)?;
                self.show(child, None, &at, read_only)
            });
        };
        if node.children.iter().all(|(name, child)| child.fits(&directory.join(name))) {
            if node.mount.is_some() {
                self.bind(directory, at, read_only, false)?;
            }
            return node.children.iter().try_for_each(|(name, child)| {
                self.show(child, Some(&directory.join(name)), &at.join(name), read_only)
            });
        }
        let mode = directory.metadata().map_err(failed("read", directory))?.permissions().mode();
        let options = format!("mode={:o}", mode & 0o7777);
        self.operations.push(Operation::Memory { at: text(at)?, options: text(&options)? });
        let mut entries = list(directory)?;
        for (name, child) in &node.children {
            let (at, path) = (at.join(name), directory.join(name));
            let kind = entries.remove(name);
            if child.mount.is_none() && kind.is_some_and(|kind| kind.is_dir()) {
                self.show_again(&path, kind, &at, read_only)?;
                self.show(child, Some(&path), &at, read_only)?;
            } else {
                self.make(child.mount.as_ref().is_none_or(|mount| mount.is_directory), &at)?;
                self.show(child, None, &at, read_only)?;
            }
        }
        for (name, kind) in entries {
            self.show_again(&directory.join(&name), Some(kind), &at.join(&name), read_only)?;
        }
        // Directories such as /tmp are world-writable: programs rely on it.
        if mode & 0o002 != 0 && !read_only {
            self.in_memory.push(directory.to_owned());
        } else {
            self.operations.push(Operation::Close { at: text(at)? });
        }
        Ok(())
    }

    /// Shows again an entry of a directory that was replaced by a tmpfs.
    fn show_again(&mut self, path: &Path, kind: Option<FileType>, at: &Path, read_only: bool) -> Result<(), ViewError> {
        if kind.is_some_and(|kind| kind.is_symlink()) {
            let to = match fs::read_link(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                result => result.map_err(failed("read", path))?,
            };
            self.operations.push(Operation::Link { at: text(at)?, to: text(to.as_os_str())? });
            return Ok(());
        }
        self.make(kind.is_some_and(|kind| kind.is_dir()), at)?;
        self.bind(path, at, read_only, true)
    }

    /// Creates a mount point.
    fn make(&mut self, directory: bool, at: &Path) -> Result<(), ViewError> {
        let at = text(at)?;
        self.operations.push(if directory { Operation::Directory { at } } else { Operation::File { at } });
        Ok(())
    }

    fn bind(&mut self, path: &Path, at: &Path, read_only: bool, may_be_gone: bool) -> Result<(), ViewError> {
        self.operations.push(Operation::Bind { source: text(on_host(path))?, at: text(at)?, read_only, may_be_gone });
        Ok(())
    }
}

/// The entries of a directory; none if this user cannot access anything in it.
fn list(directory: &Path) -> Result<BTreeMap<OsString, FileType>, ViewError> {
    let entries = match fs::read_dir(directory) {
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied && access(directory, AccessFlags::X_OK).is_err() =>
        {
            return Ok(BTreeMap::new());
        }
        result => result.map_err(failed("list", directory))?,
    };
    let entries = entries.map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))));
    entries.collect::<io::Result<_>>().map_err(failed("list", directory))
}

fn text(path: impl AsRef<OsStr>) -> Result<CString, ViewError> {
    let path = path.as_ref();
    CString::new(path.as_bytes())
        .map_err(|_| ViewError::Target { target: PathBuf::from(path), reason: "it contains a NUL byte" })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ViewError + use<> {
    let path = path.to_owned();
    move |source| ViewError::Host { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory with `there/a`, a link `link` to `there` and a file `file`, and a source beside it.
    struct Host {
        folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl Host {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().canonicalize().unwrap().join("host");
            fs::create_dir_all(path.join("there/a")).unwrap();
            fs::create_dir(path.with_file_name("source")).unwrap();
            fs::write(path.join("file"), "").unwrap();
            symlink("there", path.join("link")).unwrap();
            Self { folder, path }
        }

        fn mount(&self, source: &str, target: &str) -> Mount {
            Mount { source: self.folder.path().join(source), target: self.path.join(target), read_only: true }
        }

        /// The operations, one per line, with the directories of the test redacted.
        fn laid_out(&self, mounts: &[Mount]) -> String {
            let layout = lay_out(mounts, &[]).unwrap();
            let mut lines = String::new();
            for operation in layout.operations {
                let path = |text: &CString| text.to_str().unwrap().to_owned();
                lines.push_str(&match operation {
                    Operation::Directory { at } => format!("directory {}\n", path(&at)),
                    Operation::File { at } => format!("file {}\n", path(&at)),
                    Operation::Link { at, to } => format!("link {} to {}\n", path(&at), path(&to)),
                    Operation::Memory { at, .. } => format!("memory {}\n", path(&at)),
                    Operation::Close { at } => format!("close {}\n", path(&at)),
                    Operation::Overlay { at, options } => format!("overlay {} {}\n", path(&at), path(&options)),
                    Operation::Bind { source, at, read_only, .. } => {
                        let how = if read_only { " read-only" } else { "" };
                        format!("bind {} at {}{how}\n", path(&source), path(&at))
                    }
                });
            }
            lines.replace(self.path.parent().unwrap().to_str().unwrap(), "")
        }
    }

    #[test]
    fn what_is_there_is_mounted_over() {
        let host = Host::new();
        insta::assert_snapshot!(host.laid_out(&[host.mount("source", "there/a")]), @r"
        bind /old at /new
        bind /old/source at /new/host/there/a read-only
        ");
        // A link in the path resolves as on the host.
        insta::assert_snapshot!(host.laid_out(&[host.mount("source", "link/a")]), @r"
        bind /old at /new
        bind /old/source at /new/host/there/a read-only
        ");
    }

    #[test]
    fn where_nothing_is_there_the_directory_above_is_put_together_again() {
        let host = Host::new();
        insta::assert_snapshot!(host.laid_out(&[host.mount("source", "data/in"), host.mount("source", "there/a")]), @r"
        bind /old at /new
        memory /new/host
        directory /new/host/data
        directory /new/host/data/in
        bind /old/source at /new/host/data/in read-only
        directory /new/host/there
        bind /old/host/there at /new/host/there
        bind /old/source at /new/host/there/a read-only
        file /new/host/file
        bind /old/host/file at /new/host/file
        link /new/host/link to there
        close /new/host
        ");
    }

    #[test]
    fn a_file_or_a_dangling_link_in_the_way_is_hidden() {
        let host = Host::new();
        symlink("nowhere", host.path.join("dangling")).unwrap();
        for name in ["file", "dangling"] {
            let laid_out = host.laid_out(&[host.mount("source", name)]);
            assert!(laid_out.contains(&format!("directory /new/host/{name}\nbind /old/source")), "{laid_out}");
        }
    }

    #[test]
    fn channels_may_lie_in_each_other() {
        let host = Host::new();
        let input = host.mount("source", "there");
        let mut output = host.mount("output", "there/out");
        output.read_only = false;
        fs::create_dir(&output.source).unwrap();
        fs::write(host.folder.path().join("source/x"), "").unwrap();
        insta::assert_snapshot!(host.laid_out(&[input.clone(), output.clone()]), @r"
        bind /old at /new
        memory /new/host/there
        directory /new/host/there/out
        bind /old/output at /new/host/there/out
        file /new/host/there/x
        bind /old/source/x at /new/host/there/x read-only
        close /new/host/there
        ");
        // A directory can be created below an output: what is written there is kept.
        let within = Mount { target: host.path.join("there/out/in"), ..input };
        insta::assert_snapshot!(host.laid_out(&[output, within]), @r"
        bind /old at /new
        memory /new/host/there
        directory /new/host/there/out
        bind /old/output at /new/host/there/out
        bind /old/source at /new/host/there/out/in read-only
        directory /new/host/there/a
        bind /old/host/there/a at /new/host/there/a
        close /new/host/there
        ");
    }

    #[test]
    fn a_directory_that_anybody_writes_to_stays_writable_and_is_named() {
        let host = Host::new();
        fs::set_permissions(&host.path, fs::Permissions::from_mode(0o1777)).unwrap();
        let layout = lay_out(&[host.mount("source", "data")], &[]).unwrap();
        assert_eq!(layout.in_memory, [host.path.as_path()]);
        assert!(!layout.operations.iter().any(|operation| matches!(operation, Operation::Close { .. })));
    }

    #[test]
    fn targets_that_make_no_sense_are_refused() {
        let host = Host::new();
        for (target, words) in [("data", "not an absolute path"), ("/a/../b", "`..`"), ("/", "hide all other")] {
            let mount = Mount { target: PathBuf::from(target), ..host.mount("source", "") };
            assert!(lay_out(&[mount], &[]).unwrap_err().to_string().contains(words), "{target}");
        }
        let error = lay_out(&[host.mount("missing", "data")], &[]).unwrap_err();
        assert!(error.to_string().starts_with("failed to find /"), "{error}");
    }
}
