//! Directories that are here and in the volume of a PersistentVolumeClaim.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// A directory of this machine whose contents pods find in the volume of a PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimedDirectory {
    /// The directory here, without symbolic links.
    pub directory: PathBuf,
    /// The name of the claim, in the namespace of the pods.
    pub claim: String,
    /// The same directory in the volume; empty for the root.
    pub sub_path: String,
}

/// Why a text does not name a claimed directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// It has no `=`, or nothing before or after it.
    #[error("expected DIR=CLAIM or DIR=CLAIM/PATH, such as `/mnt/scans=data/scans`")]
    Form,
    /// The directory does not exist here.
    #[error("failed to find the directory `{}`: the sizes of the input are read there", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The name cannot be that of a claim.
    #[error("`{0}` is not the name of a PersistentVolumeClaim: expected lowercase letters, digits, `-` and `.`")]
    Name(String),
    /// The path in the volume leads out of it.
    #[error("the path `{0}` does not stay in the volume: expected a relative path without `..`")]
    SubPath(String),
}

impl FromStr for ClaimedDirectory {
    type Err = ClaimError;

    /// Reads `DIR=CLAIM` or `DIR=CLAIM/PATH`.
    fn from_str(text: &str) -> Result<Self, ClaimError> {
        // A directory may have a `=` in its name, a claim may not.
        let (directory, volume) = text.rsplit_once('=').ok_or(ClaimError::Form)?;
        if directory.is_empty() || volume.is_empty() {
            return Err(ClaimError::Form);
        }
        let (claim, sub_path) = volume.split_once('/').unwrap_or((volume, ""));
        let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if claim.is_empty() || claim.len() > 253 || !claim.bytes().all(is_of_name) {
            return Err(ClaimError::Name(claim.to_owned()));
        }
        let sub_path = sub_path.trim_end_matches('/');
        if Path::new(sub_path).components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(ClaimError::SubPath(sub_path.to_owned()));
        }
        let path = PathBuf::from(directory);
        let directory = path.canonicalize().and_then(|found| match found.is_dir() {
            true => Ok(found),
            false => Err(io::ErrorKind::NotADirectory.into()),
        });
        let directory = directory.map_err(|source| ClaimError::Missing { path, source })?;
        Ok(Self { directory, claim: claim.to_owned(), sub_path: sub_path.to_owned() })
    }
}

impl ClaimedDirectory {
    /// The path of this file or directory in the volume; `None` if it is not below the directory, or not UTF-8.
    pub(crate) fn path_in_volume(&self, path: &Path) -> Option<String> {
        let below = path.strip_prefix(&self.directory).ok()?.to_str()?;
        let parts = [self.sub_path.as_str(), below].into_iter().filter(|part| !part.is_empty());
        Some(parts.collect::<Vec<_>>().join("/"))
    }

    /// Whether pods find this path in the volume of one of these claims.
    pub(crate) fn any_has(claims: &[Self], path: &Path) -> bool {
        Self::of(claims, path).is_some()
    }

    /// The claim whose volume has this path, by its index, and the path in it. Of nested directories the innermost counts.
    pub(crate) fn of(claims: &[Self], path: &Path) -> Option<(usize, String)> {
        // What does not exist yet is created in the volume.
        let found =
            path.ancestors().find_map(|there| Some((there.canonicalize().ok()?, path.strip_prefix(there).ok()?)));
        let path = match found {
            Some((there, rest)) if rest.as_os_str().is_empty() => there,
            Some((there, rest)) => there.join(rest),
            None => path.to_owned(),
        };
        let found = claims.iter().enumerate().filter_map(|(index, claim)| Some((index, claim.path_in_volume(&path)?)));
        found.max_by_key(|(index, _)| claims[*index].directory.components().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Result<ClaimedDirectory, String> {
        text.parse().map_err(|error: ClaimError| error.to_string())
    }

    #[test]
    fn a_directory_is_a_path_in_the_volume() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("a=b")).unwrap();
        let outer = claim(&format!("{}=data/scans/", root.display())).unwrap();
        let inner = claim(&format!("{}/a=b=other", root.display())).unwrap();
        assert_eq!((inner.claim.as_str(), inner.sub_path.as_str()), ("other", ""));
        let of = |path: &str| ClaimedDirectory::of(&[outer.clone(), inner.clone()], &root.join(path));
        assert_eq!(of(""), Some((0, "scans".to_owned())));
        assert_eq!(of("new/p1"), Some((0, "scans/new/p1".to_owned())));
        assert_eq!(of("a=b"), Some((1, String::new())));
        assert_eq!(ClaimedDirectory::of(&[inner], &root), None);
        let links = tempfile::tempdir().unwrap();
        let link = links.path().join("link");
        std::os::unix::fs::symlink(&root, &link).unwrap();
        let found = ClaimedDirectory::of(&[outer], &link.join("new/out"));
        assert_eq!(found, Some((0, "scans/new/out".to_owned())));
    }

    #[test]
    fn invalid_claims_are_named() {
        let texts = ["scans", "/tmp=", "/tmp=Data", "/tmp=data/../up", "/tmp=data//etc", "/nowhere/at/all=data"];
        let errors = texts.map(|text| claim(text).unwrap_err());
        insta::assert_snapshot!(errors.join("\n"));
    }
}
