//! `highwater inputs`: its output, its errors, and its exit status.

use std::ffi::OsStr;
use std::fs::{Permissions, set_permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};
use tempfile::TempDir;

fn channel() -> TempDir {
    let channel = tempfile::tempdir().unwrap();
    for (path, size) in [
        ("index.csv", 900),
        ("p1/ct/a.dcm", 1_500),
        ("p1/ct/b.dcm", 70_000),
        ("p1/ct/empty.dcm", 0),
        ("p1/mr/c.dcm", 3_000_000),
        ("p2/ct/d.dcm", 1_700),
        ("p3/notes.txt", 12),
    ] {
        write(channel.path(), path, size);
    }
    channel
}

fn write(root: &Path, path: impl AsRef<Path>, size: u64) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::File::create(path).unwrap().set_len(size).unwrap();
}

/// Runs the command on `channel` and returns its output, with `[DIR]` for the directory of the channel.
fn inputs(channel: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    told(channel, command.arg("inputs").arg(channel).args(arguments))
}

fn told(channel: &Path, command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.env_remove("NO_COLOR").output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let told = format!("{stdout}----- stderr, status {}\n{stderr}", status.code().unwrap());
    told.replace(channel.to_str().unwrap(), "[DIR]")
}

#[test]
fn all_files_of_a_channel_are_summed_up_as_a_table() {
    insta::assert_snapshot!(inputs(channel().path(), &[]));
}

#[test]
fn patterns_and_a_folder_of_each_item_narrow_it_down() {
    insta::assert_snapshot!(inputs(channel().path(), &["--dir=ct", "--glob=*.dcm", "--regex=(?!b).*", "--list"]));
}

#[test]
fn the_files_of_items_are_listed_where_they_decide() {
    insta::assert_snapshot!(inputs(channel().path(), &["--dir=ct", "--mode=max_item_sum", "--list"]));
}

#[test]
fn one_mode_shows_one_number() {
    insta::assert_snapshot!(inputs(channel().path(), &["--glob=*.dcm", "--mode=max_file_size"]));
}

#[test]
fn scripts_get_json() {
    insta::assert_snapshot!(inputs(channel().path(), &["--glob=*.dcm", "--list", "--format=json"]));
}

#[test]
fn json_for_one_mode_has_one_number() {
    insta::assert_snapshot!(inputs(channel().path(), &["--dir=p1", "--mode=sum", "--format=json"]));
}

#[test]
fn json_keeps_the_bytes_of_names_that_are_not_utf8() {
    let channel = tempfile::tempdir().unwrap();
    write(channel.path(), OsStr::from_bytes(b"p\xff/\xfe.dcm"), 7);
    insta::assert_snapshot!(inputs(channel.path(), &["--format=json"]));
}

#[test]
fn names_cannot_do_anything_to_a_terminal() {
    let channel = tempfile::tempdir().unwrap();
    write(channel.path(), "p\u{1b}[31m/a\nb", 7);
    insta::assert_snapshot!(inputs(channel.path(), &["--regex=(?s).*", "--list"]));
}

#[test]
fn an_empty_channel_is_no_error() {
    let channel = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(inputs(channel.path(), &[]));
}

#[test]
fn what_is_left_out_is_listed_with_its_reason() {
    let channel = tempfile::tempdir().unwrap();
    write(channel.path(), "p1/a", 1);
    symlink("/", channel.path().join("everything")).unwrap();
    (0..12).for_each(|number| symlink("nothing", channel.path().join(format!("p1/gone{number:02}"))).unwrap());
    mkfifo(&channel.path().join("p1/fifo"), Mode::S_IRWXU).unwrap();
    insta::assert_snapshot!(inputs(channel.path(), &["--strict"]));
}

#[test]
fn an_unreadable_folder_is_listed_and_fails_only_a_strict_survey() {
    let base = tempfile::tempdir().unwrap();
    set_permissions(base.path(), Permissions::from_mode(0o755)).unwrap();
    let channel = base.path().join("channel");
    write(&channel, "p1/a", 1);
    write(&channel, "secret/b", 10);
    set_permissions(channel.join("secret"), Permissions::from_mode(0o000)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.arg("inputs").arg(&channel).args(arguments);
        if Uid::effective().is_root() {
            // Permissions do not restrict root.
            command.uid(65_534).gid(65_534);
        }
        command
    };
    if run(&[]).output().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
        crate::harness::skip("the build folder is closed to other users, and root is stopped by nothing");
        return;
    }
    insta::assert_snapshot!("unreadable", told(&channel, &mut run(&[])));
    insta::assert_snapshot!("unreadable_strict", told(&channel, &mut run(&["--strict"])));
    set_permissions(channel.join("secret"), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn each_wrong_option_gets_its_place_and_a_remedy() {
    let channel = channel();
    let told = [
        &["--dir=../other", "--glob=/ct/x**", "--regex=ct/(a|b"][..],
        &["--dir=/data"],
        &["--glob=../*.dcm"],
        &["--regex=*.dcm"],
        &["--regex=(?<name>a)"],
        &[r"--regex=\p{L}+"],
        &["--regex=(?<=a+)b"],
        &["--regex=[z-a]"],
        &["--mode=maximum"],
        &["--threads=0"],
    ]
    .map(|arguments| format!("$ {}\n{}", arguments.join(" "), inputs(channel.path(), arguments)));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn suspicious_patterns_are_warned_about() {
    let channel = channel();
    let told = [
        &["--glob=ct/**"][..],
        &["--glob=*.{dcm,nii}"],
        &["--regex=/p1/.*"],
        &["--regex=ct$/.*"],
        &["--glob=*.dcm", r"--regex=.*\.nii"],
    ]
    .map(|arguments| {
        let told = inputs(channel.path(), &[arguments, &["--mode=sum"]].concat());
        format!("$ {}\n{told}", arguments.join(" "))
    });
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_channel_that_cannot_be_used_is_explained() {
    let channel = channel();
    symlink(channel.path(), channel.path().join("self")).unwrap();
    symlink("/", channel.path().join("out")).unwrap();
    let many = format!("{}c", "a".repeat(60));
    write(channel.path(), &many, 1);
    let run = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let told = told(channel.path(), command.arg("inputs").arg(channel.path().join(name)).args(arguments));
        format!("$ {name} {}\n{told}", arguments.join(" "))
    };
    let told =
        [run("missing", &[]), run("index.csv", &[]), run("", &["--dir=out"]), run("", &["--regex=(?=a)(a|aa)+\\1b"])];
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn links_are_followed_when_asked() {
    let channel = channel();
    symlink("p1", channel.path().join("link")).unwrap();
    let outside = channel.path().join("link");
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let told = told(channel.path(), command.arg("inputs").arg(outside).args(["--outside", "--mode=sum"]));
    assert!(told.starts_with("[DIR]/link: 4 files"), "{told}");
}
