//! Where links lead, and that nothing leads out of a channel unless requested.

use std::fs::{self, hard_link};

use highwater::model::selection::Selection;
use highwater::tree::{Counted, Options, Reason, TreeError};

use super::super::planted::{file, link, with_files};
use super::{below, everything, left_out, numbers, survey_of, threads};

#[test]
fn a_link_to_the_root_of_the_machine_is_not_entered() {
    let channel = with_files(&[("p1/a", 1)]);
    link(channel.path(), "p1/all", "/");
    link(channel.path(), "item", "/");
    let survey = survey_of(channel.path(), &everything(), &threads(2)).unwrap();
    assert_eq!(numbers(&survey), [1, 1, 1, 1]);
    assert_eq!(survey.totals[0].items, 1);
    assert_eq!(left_out(&survey), [("item".into(), Reason::LinkedFolder), ("p1/all".into(), Reason::LinkedFolder)]);
    assert_eq!(survey.excluded.troubles(), 0, "this is what the contract says");
}

#[test]
fn loops_end() {
    let channel = with_files(&[("p1/a", 1)]);
    link(channel.path(), "p1/up", "..");
    link(channel.path(), "p1/self", "self");
    link(channel.path(), "p1/one", "other");
    link(channel.path(), "p1/other", "one");
    let survey = survey_of(channel.path(), &everything(), &threads(1)).unwrap();
    assert_eq!(numbers(&survey), [1, 1, 1, 1]);
    let dangling = |name: &str| (format!("p1/{name}").into(), Reason::DanglingLink);
    let expected = [dangling("one"), dangling("other"), dangling("self"), ("p1/up".into(), Reason::LinkedFolder)];
    assert_eq!(left_out(&survey), expected);
}

#[test]
fn links_that_no_pattern_asks_about_are_left_out_without_a_word() {
    let channel = with_files(&[("a.dcm", 1)]);
    link(channel.path(), "gone.txt", "nothing");
    link(channel.path(), "gone.dcm", "nothing");
    let selection = Selection::compile(None, Some("*.dcm"), None).unwrap();
    let survey = survey_of(channel.path(), &selection, &threads(1)).unwrap();
    assert_eq!(left_out(&survey), [("gone.dcm".into(), Reason::DanglingLink)]);
}

#[test]
fn a_channel_that_is_a_link_is_followed_only_when_asked() {
    let elsewhere = with_files(&[("p1/a", 1)]);
    let here = with_files(&[]);
    link(here.path(), "channel", elsewhere.path());
    for name in ["channel", "channel/", "channel/."] {
        let channel = here.path().join(name);
        let refused = survey_of(&channel, &everything(), &threads(1));
        assert!(matches!(&refused, Err(TreeError::Link { target, .. }) if target == elsewhere.path()), "{refused:?}");
        let asked = Options { outside: true, ..threads(1) };
        assert_eq!(numbers(&survey_of(&channel, &everything(), &asked).unwrap()), [1, 1, 1, 1]);
    }
}

#[test]
fn a_target_dir_that_leads_out_of_the_channel_is_followed_only_when_asked() {
    let elsewhere = with_files(&[("a", 1)]);
    let channel = with_files(&[("p1/ct/b", 10)]);
    link(channel.path(), "out", elsewhere.path());
    link(channel.path(), "up", "../..");
    for dir in ["out", "up", "up/proc"] {
        let refused = survey_of(channel.path(), &below(dir), &threads(1));
        assert!(matches!(refused, Err(TreeError::Outside { .. })), "{refused:?}");
    }
    let asked = Options { outside: true, ..threads(1) };
    assert_eq!(numbers(&survey_of(channel.path(), &below("out"), &asked).unwrap()), [1, 1, 1, 0]);
}

#[test]
fn an_item_whose_target_dir_leads_out_of_the_channel_is_named() {
    let elsewhere = with_files(&[("a", 1000)]);
    let channel = with_files(&[("p1/ct/b", 10), ("p2/mr/c", 100)]);
    link(channel.path(), "p2/ct", elsewhere.path());
    let survey = survey_of(channel.path(), &below("ct"), &threads(1)).unwrap();
    assert_eq!(numbers(&survey), [0, 0, 0, 10]);
    assert_eq!(left_out(&survey), [("p2/ct".into(), Reason::Outside)]);
    assert_eq!(survey.excluded.troubles(), 1);
    let asked = Options { outside: true, ..threads(1) };
    assert_eq!(numbers(&survey_of(channel.path(), &below("ct"), &asked).unwrap()), [0, 0, 0, 1000]);
}

#[test]
fn a_folder_that_becomes_a_link_while_reading_is_not_entered() {
    let elsewhere = with_files(&[("a", 1000)]);
    let channel = with_files(&[("first", 1), ("sub/b", 10)]);
    let swap = |_: Counted<'_>| {
        fs::remove_dir_all(channel.path().join("sub")).unwrap();
        link(channel.path(), "sub", elsewhere.path());
    };
    let options = Options { counted: Some(&swap), ..threads(1) };
    let survey = survey_of(channel.path(), &everything(), &options).unwrap();
    assert_eq!(numbers(&survey)[1], 1);
    assert_eq!(left_out(&survey), [("sub".into(), Reason::Vanished)]);
}

#[test]
fn files_that_vanish_while_reading_are_named() {
    let channel = with_files(&[("a", 1), ("b", 1), ("c", 1)]);
    let clear = |counted: Counted<'_>| {
        for name in ["a", "b", "c"].iter().filter(|name| counted.path != std::path::Path::new(name)) {
            fs::remove_file(channel.path().join(name)).unwrap();
        }
    };
    let options = Options { counted: Some(&clear), ..threads(1) };
    let survey = survey_of(channel.path(), &everything(), &options).unwrap();
    assert_eq!(numbers(&survey), [1, 1, 1, 0]);
    assert_eq!(survey.excluded.counts[&Reason::Vanished], 2);
}

#[test]
fn each_inode_counts_once_when_asked() {
    let channel = with_files(&[("p1/a", 1), ("p2/b", 10)]);
    hard_link(channel.path().join("p1/a"), channel.path().join("p1/again")).unwrap();
    hard_link(channel.path().join("p1/a"), channel.path().join("p2/again")).unwrap();
    link(channel.path(), "p2/link", "b");
    let every = survey_of(channel.path(), &everything(), &threads(1)).unwrap();
    assert_eq!(numbers(&every), [5, 23, 10, 21]);
    let once = Options { count_each_inode_once: true, ..threads(1) };
    let once = survey_of(channel.path(), &everything(), &once).unwrap();
    // Once in the whole channel, and once in each item.
    assert_eq!(numbers(&once), [2, 11, 10, 11]);
}

#[test]
fn one_file_system_stays_on_one() {
    let options = Options { one_file_system: true, ..threads(1) };
    let survey = survey_of("/dev".as_ref(), &everything(), &options).unwrap();
    let mounted = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        let device = |path: &str| fs::metadata(path).map(|folder| folder.dev()).ok();
        device(&format!("/dev/{name}")).filter(|other| Some(*other) != device("/dev")).map(|_| name.to_owned())
    };
    let expected: Vec<String> = ["pts", "shm"].into_iter().filter_map(mounted).collect();
    if expected.is_empty() {
        crate::harness::skip("nothing is mounted below /dev");
    }
    for name in expected {
        assert!(left_out(&survey).contains(&(name.into(), Reason::OtherFileSystem)), "{survey:?}");
    }
}

#[test]
fn a_file_in_place_of_the_channel_is_an_error() {
    let channel = with_files(&[]);
    file(channel.path(), "a", 1);
    let no_folder = survey_of(&channel.path().join("a"), &everything(), &threads(1));
    assert!(matches!(no_folder, Err(TreeError::NotADirectory { .. })), "{no_folder:?}");
    let missing = survey_of(&channel.path().join("b"), &everything(), &threads(1));
    assert!(matches!(missing, Err(TreeError::Missing { .. })), "{missing:?}");
    let empty = survey_of("".as_ref(), &everything(), &threads(1));
    assert!(matches!(empty, Err(TreeError::Missing { .. })), "{empty:?}");
}
