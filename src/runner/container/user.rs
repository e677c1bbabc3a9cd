//! The host user that a container runs as.

use std::os::unix::fs::MetadataExt;

use nix::unistd::Uid;

use crate::runner::engine::{Engine, UserMapping};

/// The host user who owns the files that a container of the image writes as `user`: a name or id with an optional `:`
/// and group; root if absent. `None` if that cannot be determined.
pub(crate) fn user_on_host(engine: &Engine, image: &str, user: Option<&str>) -> Option<Uid> {
    if !engine.facts.seems_local() {
        return None;
    }
    let name = user.unwrap_or_default().split(':').next().unwrap_or_default();
    let uid = match name.parse() {
        Ok(uid) => uid,
        Err(_) if name.is_empty() => 0,
        Err(_) => in_passwd(&engine.file_of_image(image, "/etc/passwd").ok()?, name)?,
    };
    match engine.facts.users {
        UserMapping::Identity => Some(Uid::from_raw(uid)),
        UserMapping::Offset(first) => first.checked_add(uid).map(Uid::from_raw),
        UserMapping::Rootless if uid == 0 => runs_as(engine),
        UserMapping::Rootless => None,
    }
}

/// The user who runs a rootless engine of this host.
pub(crate) fn runs_as(engine: &Engine) -> Option<Uid> {
    let socket = std::fs::metadata(engine.address.socket()?).ok()?;
    Some(Uid::from_raw(socket.uid()))
}

fn in_passwd(text: &[u8], name: &str) -> Option<u32> {
    let text = String::from_utf8_lossy(text);
    let fields =
        text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name));
    fields?.get(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_among_the_users_of_the_image() {
        let passwd = b"root:x:0:0::/:/bin/sh\nuser:x:1000:1001::/:\nbroken\nword:x:many::\n";
        assert_eq!(
            ["root", "user", "us", "broken", "word"].map(|name| in_passwd(passwd, name)),
            [Some(0), Some(1000), None, None, None]
        );
    }
}
