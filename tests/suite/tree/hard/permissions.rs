//! What this user may not read.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use highwater::tree::{Options, Reason, Survey, TreeError};
use nix::unistd::{Uid, setfsgid, setfsuid};

use super::super::planted::{file, with_files};
use super::{below, everything, left_out, numbers, survey_of, threads};

/// Runs `test` as a user who is restricted by permissions; the kernel changes this for one thread only.
fn as_nobody<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if Uid::effective().is_root() {
                setfsgid(65_534.into());
                setfsuid(65_534.into());
            }
            test()
        });
        thread.join().unwrap()
    })
}

fn mode(root: &Path, path: &str, mode: u32) {
    set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_unreadable_folder_is_named_and_the_rest_is_counted() {
    let channel = with_files(&[("p1/a", 1), ("p1/secret/b", 10), ("p2/c", 100)]);
    mode(channel.path(), "", 0o755);
    mode(channel.path(), "p1/secret", 0o000);
    let survey = as_nobody(|| survey_of(channel.path(), &everything(), &threads(1))).unwrap();
    mode(channel.path(), "p1/secret", 0o755);
    assert_eq!(numbers(&survey), [2, 101, 100, 100]);
    assert_eq!(left_out(&survey), [("p1/secret".into(), Reason::Unreadable)]);
    assert_eq!(survey.excluded.troubles(), 1);
}

#[test]
fn a_strict_survey_fails_and_names_what_it_would_leave_out() {
    let channel = with_files(&[("a", 1), ("secret/b", 10)]);
    mode(channel.path(), "", 0o755);
    mode(channel.path(), "secret", 0o000);
    let strict =
        |survey: &dyn Fn(&Options<'_>) -> Result<Survey, TreeError>| survey(&Options { strict: true, ..threads(1) });
    let answer = as_nobody(|| strict(&|options| survey_of(channel.path(), &everything(), options)));
    mode(channel.path(), "secret", 0o755);
    let Err(error @ TreeError::Incomplete(_)) = answer else { panic!("{answer:?}") };
    assert_eq!(error.to_string(), "secret was skipped");
}

#[test]
fn files_of_a_folder_that_can_be_listed_only_are_named_one_by_one() {
    let channel = with_files(&[("p1/a", 1), ("p1/b", 10), ("c", 100)]);
    mode(channel.path(), "", 0o755);
    mode(channel.path(), "p1", 0o444);
    let survey = as_nobody(|| survey_of(channel.path(), &everything(), &threads(1))).unwrap();
    mode(channel.path(), "p1", 0o755);
    assert_eq!(numbers(&survey), [1, 100, 100, 0]);
    assert_eq!(left_out(&survey), [("p1/a".into(), Reason::Unreadable), ("p1/b".into(), Reason::Unreadable)]);
}

#[test]
fn a_target_dir_is_found_in_a_folder_that_cannot_be_listed() {
    let channel = with_files(&[("p1/ct/a", 1), ("p2/ct/b", 10)]);
    mode(channel.path(), "", 0o755);
    mode(channel.path(), "p1", 0o711);
    mode(channel.path(), "p2", 0o000);
    let survey = as_nobody(|| survey_of(channel.path(), &below("ct"), &threads(1))).unwrap();
    mode(channel.path(), "p2", 0o755);
    assert_eq!(numbers(&survey), [0, 0, 0, 1]);
    assert_eq!(left_out(&survey), [("p2/ct".into(), Reason::Unreadable)]);
}

#[test]
fn a_channel_that_cannot_be_read_is_an_error() {
    let channel = with_files(&[("a", 1)]);
    mode(channel.path(), "", 0o700);
    let answer = as_nobody(|| survey_of(channel.path(), &everything(), &threads(1)));
    if Uid::effective().is_root() {
        assert!(matches!(answer, Err(TreeError::Unreadable { .. })), "{answer:?}");
    }
}

#[test]
fn an_unreadable_file_has_a_size_all_the_same() {
    let channel = with_files(&[]);
    file(channel.path(), "a", 7);
    mode(channel.path(), "", 0o755);
    mode(channel.path(), "a", 0o000);
    let survey = as_nobody(|| survey_of(channel.path(), &everything(), &threads(1))).unwrap();
    assert_eq!(numbers(&survey), [1, 7, 7, 0]);
}
