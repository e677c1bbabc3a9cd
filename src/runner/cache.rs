//! Caches facts that are slow to determine below `$XDG_CACHE_HOME/highwater` or `~/.cache/highwater`.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::directory::create_file;

/// The file for a fact of this kind and name; `None` without a home directory.
pub(super) fn file(kind: &str, name: &str) -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))?;
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' };
    Some(cache.join("highwater").join(kind).join(name.chars().map(safe).collect::<String>()))
}

/// Replaces the file. A fact that cannot be cached is determined again next time.
pub(super) fn write(path: &Path, text: &str) {
    let temporary = path.with_extension(std::process::id().to_string());
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| create_file(&temporary)?.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        tracing::debug!("failed to write {}: {error}", path.display());
    }
}
