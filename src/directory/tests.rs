use std::os::unix::fs::{chown, symlink};

use super::*;

fn refusal<T>(result: io::Result<T>) -> Option<Refusal> {
    result.err().as_ref().and_then(Refusal::behind).cloned()
}

/// A directory, and outside of it a file that must not be changed.
fn planted() -> (tempfile::TempDir, Directory, PathBuf) {
    let above = tempfile::tempdir().unwrap();
    let victim = above.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let directory = Directory::create_own(&above.path().join("a/b")).unwrap();
    (above, directory, victim)
}

#[test]
fn a_link_is_neither_opened_nor_written_through() {
    let (_above, directory, victim) = planted();
    symlink(&victim, directory.path().join("lock")).unwrap();
    symlink("nowhere", directory.path().join("dangling")).unwrap();
    symlink(&victim, directory.path().join("plan.json.new")).unwrap();
    let link = Some(Refusal::Link(directory.path().join("lock")));
    assert_eq!(refusal(directory.open_or_create("lock", false)), link);
    assert_eq!(refusal(directory.read_to_string("lock")), link);
    assert!(matches!(refusal(directory.open_or_create("dangling", true)), Some(Refusal::Link(_))));
    assert_eq!(directory.create_new("lock").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    directory.replace("plan.json", b"new").unwrap();
    directory.create("lock").unwrap().write_all(b"ours").unwrap();
    assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
    assert_eq!(directory.read_to_string("plan.json").unwrap(), "new");
    assert!(!directory.has("plan.json.new"));
}

#[test]
fn nothing_outside_is_reached_by_a_path() {
    let (above, directory, victim) = planted();
    symlink(above.path(), directory.path().join("runs")).unwrap();
    assert!(matches!(refusal(directory.read(Path::new("runs/victim"))), Some(Refusal::Link(_))));
    assert!(matches!(refusal(directory.create_directories(Path::new("runs/x"))), Some(Refusal::Link(_))));
    for outside in [Path::new("../../victim"), Path::new("x/../../victim"), &victim, Path::new("..")] {
        assert!(matches!(refusal(directory.read(outside)), Some(Refusal::Outside { .. })), "{}", outside.display());
    }
}

#[test]
fn a_pipe_does_not_block() {
    let (_above, directory, _) = planted();
    nix::unistd::mkfifo(&directory.path().join("lock"), Mode::S_IRWXU).unwrap();
    assert!(matches!(refusal(directory.open_or_create("lock", false)), Some(Refusal::NotAFile(_))));
    assert!(matches!(refusal(directory.read(Path::new("lock"))), Some(Refusal::NotAFile(_))));
    let opened = Directory::open(&directory.path().join("lock"));
    assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn a_tree_is_removed_without_following_its_links() {
    let (above, directory, victim) = planted();
    let path = directory.path();
    fs::create_dir_all(path.join("tree/deep/closed")).unwrap();
    fs::write(path.join("tree/deep/closed/file"), "").unwrap();
    symlink(above.path(), path.join("tree/deep/link")).unwrap();
    symlink(above.path(), path.join("link")).unwrap();
    for (name, mode) in [("tree/deep/closed", 0o000), ("tree/deep", 0o500), ("tree", 0o400)] {
        fs::set_permissions(path.join(name), Permissions::from_mode(mode)).unwrap();
    }
    for name in ["tree", "link", "missing"] {
        directory.remove_all(name).unwrap();
    }
    assert_eq!(fs::read_dir(path).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
}

#[test]
fn an_open_directory_is_emptied_where_it_is_and_only_removed_by_its_name() {
    let (above, directory, victim) = planted();
    let own = directory.create_directory("own").unwrap();
    fs::write(own.path().join("file"), "").unwrap();
    fs::rename(own.path(), above.path().join("moved")).unwrap();
    symlink(above.path(), own.path()).unwrap();
    own.clear(None).unwrap();
    assert_eq!(fs::read_dir(above.path().join("moved")).unwrap().count(), 0);
    let moved = Some(Refusal::Moved(own.path().to_owned()));
    assert_eq!(refusal(own.check_at(own.path())), moved);
    assert_eq!(refusal(directory.remove_empty("own", &own)), moved);
    assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
    fs::remove_file(own.path()).unwrap();
    fs::rename(above.path().join("moved"), own.path()).unwrap();
    directory.remove_empty("own", &own).unwrap();
    assert!(!directory.has("own"));
}

#[test]
fn root_is_refused_what_belongs_to_others() {
    if !geteuid().is_root() {
        println!("skipped: only root is refused files of others");
        return;
    }
    let (above, directory, _) = planted();
    let path = directory.path().to_owned();
    fs::write(path.join("lock"), "").unwrap();
    chown(path.join("lock"), Some(65534), None).unwrap();
    assert!(matches!(refusal(directory.open_or_create("lock", false)), Some(Refusal::OtherOwner { .. })));
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    fs::write(path.join("linked"), "").unwrap();
    fs::hard_link(path.join("linked"), above.path().join("second")).unwrap();
    assert!(matches!(refusal(directory.open_or_create("linked", false)), Some(Refusal::HardLink(_))));
    symlink(&path, above.path().join("link")).unwrap();
    Directory::open_own(&above.path().join("link")).unwrap();
    std::os::unix::fs::lchown(above.path().join("link"), Some(65534), None).unwrap();
    assert!(matches!(refusal(Directory::open_own(&above.path().join("link"))), Some(Refusal::OtherOwner { .. })));
    chown(&path, Some(65534), None).unwrap();
    assert!(matches!(refusal(Directory::open_own(&path)), Some(Refusal::OtherOwner { .. })));
    assert!(matches!(refusal(Directory::create_own(&path)), Some(Refusal::OtherOwner { .. })));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "nothing is left in it");
}
