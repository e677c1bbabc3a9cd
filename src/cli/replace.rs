//! Files that take the place of others as a whole.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The folder for a temporary file that takes the place of `path`; `None` for a device or a pipe, which stays itself.
pub(crate) fn place_for(path: &Path) -> io::Result<Option<&Path>> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) if !metadata.is_file() => Ok(None),
        Ok(_) | Err(_) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK)?;
            Ok(Some(folder))
        }
    }
}

/// Writes a file as a whole or not at all: whoever looks sees the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// The same with what `write` writes, piece by piece.
pub(crate) fn replace_with(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let Some(folder) = place_for(path)? else {
        let mut file = BufWriter::new(OpenOptions::new().write(true).open(path)?);
        return write(&mut file).and_then(|()| file.flush());
    };
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    let mut buffered = BufWriter::new(&mut file);
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
