//! Special files, odd names, patterns that never end, and callers that cancel.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater::model::selection::Selection;
use highwater::tree::{Counted, Options, Reason, TreeError};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;

use super::super::planted::{file, link, with_files};
use super::{everything, left_out, numbers, survey_of, threads};

#[test]
fn fifos_and_sockets_are_named_and_nobody_waits_for_them() {
    let channel = with_files(&[("p1/a", 1)]);
    mkfifo(&channel.path().join("p1/fifo"), Mode::S_IRWXU).unwrap();
    mknod(&channel.path().join("p1/socket"), SFlag::S_IFSOCK, Mode::S_IRWXU, 0).unwrap();
    link(channel.path(), "p1/to fifo", "fifo");
    let survey = survey_of(channel.path(), &everything(), &threads(1)).unwrap();
    assert_eq!(numbers(&survey), [1, 1, 1, 1]);
    let special = |name: &str| (format!("p1/{name}").into(), Reason::Special);
    assert_eq!(left_out(&survey), [special("fifo"), special("socket"), special("to fifo")]);
}

#[test]
fn names_that_are_not_utf8_keep_their_bytes() {
    let channel = with_files(&[]);
    let path = Path::new(OsStr::from_bytes(b"p\xff/\xfe.dcm"));
    file(channel.path(), path, 7);
    let survey = survey_of(channel.path(), &everything(), &threads(1)).unwrap();
    let totals = &survey.totals[0];
    assert_eq!(totals.largest_file.as_ref().map(|file| file.path.as_path()), Some(path));
    assert_eq!(totals.largest_item().map(|item| item.name.as_os_str().as_bytes()), Some(&b"p\xff"[..]));
}

#[test]
fn a_regex_that_takes_too_many_steps_names_the_file() {
    let name = format!("{}c", "a".repeat(60));
    let channel = with_files(&[(&name, 1)]);
    let selection = Selection::compile(None, None, Some(r"(?=a)(a|aa)+\1b")).unwrap();
    let answer = survey_of(channel.path(), &selection, &threads(1));
    let Err(error @ TreeError::Regex { .. }) = answer else { panic!("{answer:?}") };
    assert!(error.to_string().contains(&name), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn look_ahead_at_the_beginning_needs_no_back_tracking() {
    let name = "a".repeat(200);
    let channel = with_files(&[(&name, 1)]);
    for (regex, files) in
        [(r"(?!(a|aa)+b)a*", 1), (r"(?=(a|aa)+b)a*", 0), (r"^(?=a)(?!.*c)(a|aa)+", 1), (r"(?!a)|a+", 1)]
    {
        let selection = Selection::compile(None, None, Some(regex)).unwrap();
        let survey = survey_of(channel.path(), &selection, &threads(1)).unwrap();
        assert_eq!(survey.totals[0].files, files, "{regex}");
    }
}

#[test]
fn a_linear_regex_has_no_such_bound() {
    let name = "a".repeat(200);
    let channel = with_files(&[(&name, 1)]);
    let selection = Selection::compile(None, None, Some(r"(a|aa)+b|(a*)*")).unwrap();
    assert_eq!(numbers(&survey_of(channel.path(), &selection, &threads(1)).unwrap()), [1, 1, 1, 0]);
}

#[test]
fn the_caller_may_cancel_before_and_while_reading() {
    let channel = with_files(&[("a", 1), ("p1/b", 1)]);
    let cancel = AtomicBool::new(true);
    let options = Options { cancel: Some(&cancel), ..threads(1) };
    assert!(matches!(survey_of(channel.path(), &everything(), &options), Err(TreeError::Cancelled)));
    cancel.store(false, Ordering::Relaxed);
    let change_mind = |_: Counted<'_>| cancel.store(true, Ordering::Relaxed);
    let options = Options { counted: Some(&change_mind), ..options };
    assert!(matches!(survey_of(channel.path(), &everything(), &options), Err(TreeError::Cancelled)));
}

#[test]
fn every_file_that_counts_is_told_once_for_each_selection() {
    let channel = with_files(&[("a.dcm", 1), ("p1/b.dcm", 10), ("p1/c.nii", 100)]);
    let selections = ["*.dcm", "*"].map(|glob| Selection::compile(None, Some(glob), None).unwrap());
    let told = Mutex::new(Vec::new());
    let keep = |file: Counted<'_>| {
        assert_eq!((file.for_channel, file.for_item), (true, file.path.starts_with("p1")));
        told.lock().unwrap().push((file.selection, file.path.to_str().unwrap().to_owned(), file.size.0));
    };
    let options = Options { counted: Some(&keep), ..threads(1) };
    highwater::tree::survey(channel.path(), &selections, &options).unwrap();
    let mut told = told.into_inner().unwrap();
    told.sort();
    let expected = [(0, "a.dcm", 1), (0, "p1/b.dcm", 10), (1, "a.dcm", 1), (1, "p1/b.dcm", 10), (1, "p1/c.nii", 100)];
    assert_eq!(told, expected.map(|(selection, path, size)| (selection, path.to_owned(), size)));
}

#[test]
fn all_of_what_is_left_out_is_counted_and_a_thousand_are_named() {
    let channel = with_files(&[]);
    (0..1200).for_each(|name| link(channel.path(), format!("{name:04}"), "nothing"));
    let survey = survey_of(channel.path(), &everything(), &threads(1)).unwrap();
    assert_eq!(survey.excluded.counts[&Reason::DanglingLink], 1200);
    let named = left_out(&survey);
    assert_eq!((named.len(), named[999].0.to_str()), (1000, Some("0999")));
}

#[test]
fn no_selection_at_all_is_no_error() {
    let channel = with_files(&[("p1/a", 1)]);
    let survey = highwater::tree::survey(channel.path(), &[], &threads(1)).unwrap();
    assert_eq!((survey.totals.len(), survey.excluded.is_empty()), (0, true));
}
