//! The data that a user names as input are the same before and after, whatever a task does to them.
//!
//! Everything happens in a mount namespace, in a shell script: it creates the data, records names, types, modes,
//! owners, sizes, times and content of all of them, runs highwater with a task that does its worst, and compares.

use std::process::Command;

use crate::harness::skip;

/// A directory `ground` with the data in `scans`: two items, one of them with links to files and directories in `store`, and
/// with another file system mounted in it. `second` is a link to the data and `bound` shows them by a bind mount.
const DATA: &str = r#"
set -e
cd "$GROUND"
if [ "$FILE_SYSTEM" = tmpfs ]; then mount -t tmpfs -o nosuid,nodev,noexec,mode=755 data "$GROUND"; cd "$GROUND"; fi
mkdir -p scans/p01/sub scans/p02 store/folder bound work
mount -t tmpfs -o nosuid,nodev sub scans/p01/sub
for file in scans/p01/ct.raw scans/p01/sub/below.raw scans/p02/ct.raw store/linked.raw store/folder/far.raw; do
    echo "$file" > "$file"
done
ln -s ../../store/linked.raw scans/p01/linked.raw
ln -s ../../store/folder scans/p01/folder
ln -s scans second
chown -R "$OWNER" scans store
chown "$ID" . work
chmod 777 scans/p02
chmod 664 scans/p01/ct.raw
mount --bind scans bound
state() {
    find scans store -printf '%p %y %m %U %G %s %T@ %l\n' | sort
    find scans store -type f -exec cksum {} + | sort
}
"#;

/// Does its worst to the data at `$1`.
const ATTACK: &str = r#"
# An image with nothing but busybox.
command -v truncate > /dev/null || { busybox --install -s /tmp; PATH=/tmp; cd /tmp; }
attack() {
    for file in "$1"/p01/ct.raw "$1"/p02/ct.raw "$1"/p01/sub/below.raw "$1"/p01/linked.raw "$1"/p01/folder/far.raw; do
        echo x > "$file"
        echo x >> "$file"
        truncate -s 0 "$file"
        chmod 777 "$file"
        chown 1:1 "$file"
        touch "$file"
        ln "$file" hard && echo x > hard
        mv "$file" "$file.moved"
        rm -f "$file"
    done
    for folder in "$1" "$1"/p01 "$1"/p02 "$1"/p01/sub "$1"/p01/folder; do
        echo x > "$folder/new"
        mkdir "$folder/made"
        chmod 700 "$folder"
        touch "$folder"
        mv "$folder" moved
        rm -rf "$folder"
    done
}
"#;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Whether highwater runs as root.
    pub(crate) is_root: bool,
    pub(crate) is_on_tmpfs: bool,
    pub(crate) has_other_owner: bool,
    /// Whether an engine has to see the data, which it cannot in a mount namespace of the test.
    pub(crate) is_in_container: bool,
    pub(crate) words: &'static str,
}

impl Row {
    /// A process of root, with the data on a disk.
    const PROCESS: Self =
        Self { is_root: true, is_on_tmpfs: false, has_other_owner: false, is_in_container: false, words: "" };
}

/// If everything is done on the host.
const CLEAN_UP: &str = r#"trap 'cd /; umount -l "$GROUND/bound" "$GROUND/scans/p01/sub"
if [ "$FILE_SYSTEM" = tmpfs ]; then umount -l "$GROUND"; fi' EXIT"#;

const ROOT: &str = "0:0";
const ORDINARY: &str = "65534:65534";

/// Runs `highwater` with a task that attacks the data at every path; `before` and `after` are lines of the shell around it.
/// `None` where no mount namespace can be had.
pub(crate) fn attacked(row: Row, before: &str, after: &str) -> Option<(i32, String)> {
    if !may_mount() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    // The build directory may be inaccessible to other users.
    let program = folder.path().join("highwater");
    let built = env!("CARGO_BIN_EXE_highwater");
    std::fs::hard_link(built, &program).or_else(|_| std::fs::copy(built, &program).map(drop)).unwrap();
    let ground = folder.path().join("ground");
    std::fs::create_dir(&ground).unwrap();
    let id = if row.is_root { ROOT } else { ORDINARY };
    let owner = if row.has_other_owner { "1234:2345" } else { id };
    let attack = format!(
        "{ATTACK}\nattack \"$1\"; attack /data\nfor name in scans second bound; do attack \"$GROUND/$name\"; done\n\
         echo x > \"$GROUND/store/linked.raw\"; rm -rf \"$GROUND/store/linked.raw\" \"$GROUND/store/folder\"; true\n"
    );
    std::fs::write(folder.path().join("attack.sh"), attack).unwrap();
    let become_user = match (row.is_root, row.is_in_container) {
        (true, _) => "",
        (false, true) => "setpriv --reuid 65534 --regid 65534 --groups $(stat -c %g ${DOCKER_HOST#unix://})",
        (false, false) => "setpriv --reuid 65534 --regid 65534 --clear-groups",
    };
    let script = format!(
        "{DATA}\n{before}\nstate > ../before\ncd work\nset +e\n{become_user} ../../highwater {} 2>&1\nstatus=$?\n{after}\ncd ..\n\
         state > ../after; diff ../before ../after && echo unchanged; exit $status",
        row.words
    );
    let mut command = if row.is_in_container {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{CLEAN_UP}\n{script}")]);
        command
    } else {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        command
    };
    command.env("GROUND", &ground).env("ID", id).env("OWNER", owner);
    command.env("FILE_SYSTEM", if row.is_on_tmpfs { "tmpfs" } else { "disk" });
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.code().unwrap(), said))
}

fn may_mount() -> bool {
    let output = Command::new("unshare").args(["--mount", "true"]).output();
    let may = nix::unistd::geteuid().is_root() && output.is_ok_and(|output| output.status.success());
    if !may {
        skip("this takes root");
    }
    may
}

/// These options have to leave everything unchanged: for each user, file system and owner of the data, with all pairs
/// of them.
#[track_caller]
fn all_unchanged(words: &[&'static str]) {
    for words in words {
        for (is_root, is_on_tmpfs) in [(false, false), (false, true), (true, false), (true, true)] {
            let row = Row { is_root, is_on_tmpfs, has_other_owner: is_root == is_on_tmpfs, words, ..Row::PROCESS };
            let Some((_, said)) = attacked(row, "", "") else { return };
            assert!(said.contains("run 1: "), "nothing was run in {row:?}: {said}");
            assert!(said.ends_with("unchanged\n"), "{row:?}: {said}");
        }
    }
}

#[test]
fn cells_with_whole_folders_leave_the_data_as_they_are() {
    all_unchanged(&["sweep --into r --input ../scans -- sh ../../attack.sh {input}"]);
}

#[test]
fn cells_with_subsets_leave_the_data_as_they_are() {
    all_unchanged(&[
        "sweep --into r --input ../scans --items 1 -- sh ../../attack.sh {input}",
        "sweep --into r --input ../scans --size 3 -- sh ../../attack.sh {input}",
    ]);
}

#[test]
fn private_copies_leave_the_data_as_they_are() {
    all_unchanged(&[
        "sweep --into r --input ../scans --input-access private -- sh ../../attack.sh {input}",
        "sweep --into r --input ../scans --items 1 --input-access private -- sh ../../attack.sh {input}",
    ]);
}

#[test]
fn commands_around_runs_leave_the_data_as_they_are() {
    all_unchanged(&["sweep --into r --input ../scans --items 1 --prepare 'sh ../../attack.sh {input}; true' --setup \
                     'sh ../../attack.sh {input}; true' -- ls {input}"]);
}

/// A task.json whose command names its input, and one whose command does not.
const TASKS: &str = r#"
chown "$ID" work
for command in /data hidden; do
    cat > "work/$(basename $command).json" <<END
{"name": "attack", "image": "none", "taskTemplate": {"identifier": "attack", "description": "Attacks.",
 "inputs": [{"name": "scans", "mounted_path": "/data"}], "outputs": [{"name": "masks", "mounted_path": "/masks"}],
 "env": [], "command": ["sh", "../../attack.sh", "$command", "/masks"]},
 "inputs": [{"name": "scans", "input": {"host_path": "$GROUND/scans"}}],
 "outputs": [{"name": "masks", "input": {"host_path": "$GROUND/work/masks"}}]}
END
done
"#;

#[test]
fn tasks_leave_their_input_as_it_is() {
    for words in [
        "run --runner process data.json",
        "run --runner process hidden.json",
        "run --runner process --input-access private -r 2 data.json",
        "run --runner process --input-access private hidden.json",
        "sweep --runner process data.json",
    ] {
        for is_root in [true, false] {
            let row = Row { is_root, words, ..Row::PROCESS };
            let Some((_, said)) = attacked(row, TASKS, "") else { return };
            assert!(said.ends_with("unchanged\n"), "{row:?}: {said}");
            assert!(said.contains("peak"), "nothing was run in {row:?}: {said}");
        }
    }
}

#[test]
fn a_killed_sweep_leaves_the_data_as_they_are() {
    let words = "sweep --quiet --into r -r 200 --input ../scans --items 1,all -- sh ../../attack.sh {input} &\n\
                 sleep 0.$(od -An -N1 -tu1 /dev/urandom | tr -d ' '); kill -9 $!; wait";
    for number in 0..10 {
        let row = Row { is_root: number % 2 == 0, is_on_tmpfs: number % 3 == 0, words, ..Row::PROCESS };
        // The reaper of the killed highwater ends what is left of the task.
        let Some((_, said)) = attacked(row, "", "sleep 1") else { return };
        // Its reaper may say afterwards what it has removed.
        assert!(said.lines().any(|line| line == "unchanged"), "{row:?}: {said}");
    }
}

/// Changes that no mount prevents.
#[test]
fn what_can_only_be_watched_ends_the_sweep_and_is_named() {
    let write = |path: &str| format!("-- sh -c 'echo more >> {path}; ls {{input}}'");
    let table = [
        // Without mount namespaces, by the original path.
        (true, "--input-access watched", write("../scans/p01/ct.raw")),
        (false, "--input-access watched", write("../scans/p01/ct.raw")),
        (false, "--input-access watched --items 1", write("../scans/p01/ct.raw")),
        (true, "--input-access watched", "-- sh ../../attack.sh {input}".to_owned()),
        // Even what is in no item of the cell.
        (false, "--input-access watched --items 1", write("../scans/p02/ct.raw")),
        // A hard link elsewhere.
        (true, "", write("other-name")),
        (true, "--items 1", write("other-name")),
        (false, "", write("other-name")),
        // Root enters the mount namespace of another process.
        (true, "", "-- sh -c 'echo more >> /proc/$PPID/root/$GROUND/scans/p01/ct.raw; ls {input}'".to_owned()),
    ];
    for (is_root, options, task) in table {
        let words: &'static str = format!("sweep --into r -r 2 --input ../scans {options} {task}").leak();
        let row = Row { is_root, words, ..Row::PROCESS };
        let Some((status, said)) = attacked(row, "ln scans/p01/ct.raw work/other-name", "wc -l r/observations.jsonl")
        else {
            return;
        };
        assert_eq!(status, 4, "{row:?}: {said}");
        assert!(said.contains("the input changed during the run"), "{row:?}: {said}");
        assert!(said.contains("1 r/observations.jsonl"), "another run was made: {said}");
        assert!(!said.ends_with("unchanged\n"), "the row shows nothing: {row:?}");
    }
}

#[test]
fn without_a_mount_namespace_each_run_finds_its_staged_input_as_it_was() {
    let words = "sweep --into r -r 2 --input ../scans --items 1 --input-access watched -- sh -c 'ls $0/p01; rm -rf $0/p01' {input}";
    for is_root in [true, false] {
        let row = Row { is_root, words, ..Row::PROCESS };
        let Some((status, said)) =
            attacked(row, "umount scans/p01/sub; rm scans/p01/folder", "cat r/runs/*/stdout.log")
        else {
            return;
        };
        assert_eq!(status, 0, "{said}");
        assert_eq!(said.matches("ct.raw\n").count(), 2, "{said}");
        assert!(said.ends_with("unchanged\n"), "{said}");
    }
}

/// Like operators of Kaapana, which write their results beside the input in the directory of each item.
pub(crate) const WRITES_INTO_ITEMS: &str =
    "for item in $0/*; do mkdir $item/result; cat $item/ct.raw > $item/result/mask; done";

/// The expected output of a sweep of such a task, after it has printed its kept outputs and its record.
#[track_caller]
pub(crate) fn assert_written_into_items(row: Row, (status, said): &(i32, String)) {
    assert_eq!(*status, 0, "{row:?}: {said}");
    assert!(said.contains("kept: scans/p01/ct.raw"), "{row:?}: {said}");
    assert!(said.contains(r#"{"code":"private-input""#), "{row:?}: {said}");
    assert!(said.contains(r#""cache":{"state":"cold""#), "{row:?}: {said}");
    assert!(said.ends_with("unchanged\n"), "{row:?}: {said}");
}

pub(crate) const SHOW_WRITTEN: &str =
    "echo kept: $(cat r/runs/*-2/inputs/input/p01/result/mask); cat r/observations.jsonl; ls r/staging 2>&1";

#[test]
fn a_task_that_writes_into_the_directories_of_its_items_is_swept_with_private_input() {
    let words: &'static str = format!(
        "sweep --into r --input ../scans --items 1,2 -r 2 --input-access private --keep-outputs --cache cold -- \
         sh -c '{WRITES_INTO_ITEMS}' {{input}}"
    )
    .leak();
    for (is_root, is_on_tmpfs) in [(true, true), (true, false), (false, false)] {
        let row = Row { is_root, is_on_tmpfs, words, ..Row::PROCESS };
        // An overlay cannot show another file system in the input.
        let before = if is_on_tmpfs { "" } else { "umount scans/p01/sub" };
        let Some(swept) = attacked(row, before, SHOW_WRITTEN) else { return };
        assert_written_into_items(row, &swept);
        if is_root && !is_on_tmpfs {
            assert!(swept.1.contains("an overlay") || swept.1.contains("clones"), "{}", swept.1);
        }
    }
}

/// Replaces highwater by a program that starts it without permission to create mount namespaces.
const WITHOUT_NAMESPACES: &str = r#"
mv ../highwater ../real
cat > ../highwater <<'END'
#!/bin/sh
exec unshare --user --map-root-user sh -c 'echo 0 > /proc/sys/user/max_mnt_namespaces && exec "$0" "$@"' ../../real "$@"
END
chmod +x ../highwater
"#;

#[test]
fn where_no_mount_namespace_can_be_had_the_data_are_watched() {
    let table = [
        (4, "-- sh -c 'echo more >> ../scans/p02/ct.raw; ls {input}'", "p02/ct.raw was changed"),
        (4, "--items 1 -- sh -c 'rm ../scans/p01/ct.raw; ls {input}'", "p01/ct.raw was removed"),
        (0, "--items 1 -- sh -c 'rm {input}/p01/ct.raw'", "copied"),
        (0, "--items 1 --input-access private -- sh -c 'rm {input}/p01/ct.raw'", "copies"),
    ];
    for (expected, words, means) in table {
        let words: &'static str = format!("sweep --into r -r 2 --input ../scans {words}").leak();
        let row = Row { words, ..Row::PROCESS };
        let before = format!("{WITHOUT_NAMESPACES}\numount scans/p01/sub; rm scans/p01/folder");
        let Some((status, said)) = attacked(row, &before, "cat r/observations.jsonl") else { return };
        if said.contains("max_mnt_namespaces") || said.contains("unshare: ") {
            return skip("there are no user namespaces");
        }
        assert_eq!(status, expected, "{row:?}: {said}");
        assert!(said.contains("are not protected from the task, only checked"), "{row:?}: {said}");
        assert!(said.contains(means), "{row:?}: {said}");
        assert_eq!(said.ends_with("unchanged\n"), expected == 0, "{row:?}: {said}");
    }
}
