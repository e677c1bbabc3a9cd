//! Sweeps of processing containers.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Output;

use highwater::model::observation::Observation;
use highwater::model::reading::Reading;
use highwater::store;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use super::{MIB, containers_with, highwater, text};
use crate::sweep::unchanged::{Row, SHOW_WRITTEN, WRITES_INTO_ITEMS, assert_written_into_items, attacked};

/// A directory with an input of so many items of 4 MiB.
pub(crate) fn scans(items: usize) -> tempfile::TempDir {
    let bench = crate::process::folder_on_a_disk();
    for item in 1..=items {
        let path = bench.path().join(format!("scans/p{item}"));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("ct.raw"), vec![7_u8; 4 << 20]).unwrap();
    }
    bench
}

/// A task that reads all of its input into memory.
fn bench(items: usize) -> tempfile::TempDir {
    let bench = scans(items);
    let task = json!({
        "name": "copy-scans", "image": "documented", "taskTemplate": "copy",
        "inputs": [{"name": "scans", "input": {"host_path": "scans"}}],
        "outputs": [{"name": "copies", "input": {"host_path": "copies"}}],
    });
    std::fs::write(bench.path().join("task.json"), task.to_string()).unwrap();
    bench
}

fn sweep(folder: &Path, words: &[&str]) -> Output {
    let mut command = highwater();
    command.current_dir(folder).args(["sweep", "task.json", "--network", "none", "--pull", "never"]).args(words);
    command.output().unwrap()
}

fn done(folder: &Path, words: &[&str]) -> (String, Vec<Observation>) {
    let output = sweep(folder, words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    (text(&output.stderr), store::read(&folder.join("copy-scans.sweep")).unwrap().observations)
}

#[test]
fn a_processing_container_is_swept_over_its_items() {
    engine_or_skip!();
    let bench = bench(8);
    let (_, records) = done(bench.path(), &["--items", "1,2,4,all", "-r", "2", "--jobs", "2", "--label", "of=eight"]);
    assert_eq!(records.len(), 8);
    for run in &records {
        let input = run.inputs[0].all.sum.0;
        let outputs = run.storage.map(|storage| storage.outputs_bytes);
        assert_eq!(outputs, Some(Reading::Value(run.inputs[0].all.sum)), "the output is a copy of the input");
        let peak = run.peak.as_ref().value().unwrap().bytes.0;
        // The input is in memory once, and once more in the page cache of the output; the capacity of the vector that
        // it is read into may be twice as large.
        assert!((input..3 * input + 24 * MIB).contains(&peak), "{peak} for {input}");
        let prediction = run.prediction.as_ref().unwrap();
        assert_eq!(prediction.docker.limit.as_ref().unwrap().bytes.0, (2 * input).max(16 * MIB));
        assert!(run.container.as_ref().unwrap().image_id.is_some());
    }
    assert!(!bench.path().join("copies").exists(), "outputs of a sweep go to a folder of their own");
    assert!(!bench.path().join("copy-scans.sweep/staging").exists());
    assert_eq!(containers_with("of=eight"), "");
}

#[test]
fn items_that_cannot_be_linked_are_mounted_one_by_one() {
    engine_or_skip!();
    let bench = bench(3);
    let disk = bench.path().join("copy-scans.sweep");
    std::fs::create_dir(&disk).unwrap();
    mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=64m")).unwrap();
    let result = std::panic::catch_unwind(|| done(bench.path(), &["--items", "2", "--keep-outputs"]));
    let _ = umount2(&disk, MntFlags::MNT_DETACH);
    let (said, records) = result.unwrap();
    assert!(!said.contains("copied"), "{said}");
    assert_eq!((records.len(), records[0].inputs[0].all.sum.0), (1, 8 * MIB));
}

#[test]
fn what_a_container_writes_to_belongs_to_its_user_and_is_closed_to_others() {
    engine_or_skip!();
    let bench = crate::process::folder_on_a_disk();
    let script = "stat -c %u:%a /out; echo written > /out/by-$(id -u); sleep {N}";
    let sweep = |image: &str, more: &[&str]| {
        let mut command = highwater();
        command.current_dir(bench.path()).args(["sweep", "-q", "--into", image, "--keep-outputs", "--pull", "never"]);
        command.args(["--network", "none", "--mount", "{output}:/out", "--image", image, "--entrypoint", "/bin/sh"]);
        command.args(more).args(["-P", "N=0", "--", "-c", script]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{image} {more:?}: {}", text(&output.stderr));
        let run = store::read(&bench.path().join(image)).unwrap().observations.remove(0);
        let stdout = bench.path().join(image).join(run.logs.unwrap().stdout);
        let kept = stdout.with_file_name("outputs");
        (std::fs::read_to_string(&stdout).unwrap(), kept)
    };
    // The image names `user`, who is only known in the container; the command line names an id.
    for (image, more, user) in [("as-user", vec![], 1000), ("exec-form", vec!["--user", "1234:5"], 1234)] {
        let (said, kept) = sweep(image, &more);
        assert_eq!(said, format!("{user}:755\n"), "{image}");
        assert_eq!(std::fs::read_to_string(kept.join(format!("by-{user}"))).unwrap(), "written\n");
        let found = std::fs::metadata(kept).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (nix::unistd::geteuid().as_raw(), 0o755), "{image}");
    }
}

#[test]
fn a_command_in_a_container_finds_its_input_and_output() {
    engine_or_skip!();
    let bench = crate::process::folder_on_a_disk();
    let scans = bench.path().join("sc:ans");
    for name in ["a", "b"] {
        std::fs::create_dir_all(scans.join(name)).unwrap();
        std::fs::write(scans.join(name).join("x"), name).unwrap();
    }
    let sweep = |into: &str, more: &[&str], script: &str| {
        let mut command = highwater();
        command.current_dir(bench.path()).args(["sweep", "-q", "--into", into, "--keep-outputs", "--pull", "never"]);
        command.args(["--network", "none", "--image", "path", "--entrypoint", "busybox", "--input", "sc:ans"]);
        let output = command.args(more).args(["--", "sh", "-c", script]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{more:?}: {}", text(&output.stderr));
        let run = store::read(&bench.path().join(into)).unwrap().observations.remove(0);
        let stdout = bench.path().join(into).join(run.logs.unwrap().stdout);
        let kept = stdout.with_file_name("outputs").join("made");
        (std::fs::read_to_string(&stdout).unwrap(), std::fs::read_to_string(kept).unwrap_or_default())
    };
    let at_their_paths = sweep("own", &[], "cat {input}/a/x {input}/b/x; echo done > {output}/made");
    assert_eq!(at_their_paths, ("ab".to_owned(), "done\n".to_owned()));
    let (said, _) = sweep("subset", &["--items", "1"], "cat {input}/*/x");
    assert!(["a", "b"].contains(&said.as_str()), "{said}");
    let mounted = ["--mount", "{input}:/in:ro", "--env", "PLACE={input}"];
    assert_eq!(sweep("mounted", &mounted, "cat {input}/a/x; echo $PLACE").0, "a/in\n");
    let by_fields = format!("type=bind,source={},target=/scans,readonly", scans.display());
    assert_eq!(sweep("colon", &["--mount", &by_fields], "cat {input}/a/x /scans/b/x").0, "ab");
}

/// Containers that see the data at `/in`, and also through other files of the host at `/host`.
const ATTACKING: &str = "--pull never --network none --image path --workdir /tmp --entrypoint busybox --env GROUND=/host \
     --mount ../../attack.sh:/attack.sh:ro --mount ..:/host --mount '{input}:/in' -- sh /attack.sh /in";

#[test]
fn containers_leave_the_data_as_they_are() {
    engine_or_skip!();
    let private = ["--input-access private", "--items 1 --input-access private"];
    for cells in [&["", "--items 1", "--size 3", "--input-access watched"][..], &private].concat() {
        for (is_root, is_on_tmpfs) in [(true, false), (true, true), (false, true)] {
            let words: &'static str = format!("sweep --into r --input ../scans {cells} {ATTACKING}").leak();
            let row = Row { is_root, is_on_tmpfs, has_other_owner: !is_on_tmpfs, is_in_container: true, words };
            let Some((_, said)) = attacked(row, "", "") else { return };
            assert!(said.contains("run 1: peak"), "nothing was run in {row:?}: {said}");
            assert!(said.ends_with("unchanged\n"), "{row:?}: {said}");
        }
    }
}

#[test]
fn a_killed_sweep_of_containers_leaves_the_data_as_they_are() {
    engine_or_skip!();
    for (number, pause) in [0.2, 0.5, 0.8, 1.1].into_iter().enumerate() {
        let words: &'static str = format!(
            "sweep --quiet --into r -r 20 --input ../scans --items 1,all {ATTACKING} & sleep {pause}; kill -9 $!; wait"
        )
        .leak();
        let row = Row {
            is_root: number % 2 == 0,
            is_on_tmpfs: number % 3 == 0,
            has_other_owner: true,
            is_in_container: true,
            words,
        };
        // The container goes on for a moment.
        let Some((_, said)) = attacked(row, "", "sleep 1; ../../highwater clean") else { return };
        assert!(said.ends_with("unchanged\n"), "{row:?}: {said}");
    }
}

#[test]
fn a_container_that_writes_into_the_directories_of_its_items_is_swept_with_private_input() {
    engine_or_skip!();
    let words: &'static str = format!(
        "sweep --into r --input ../scans --items 1,2 -r 2 --input-access private --keep-outputs --cache cold \
         --pull never --network none --image path --entrypoint busybox --mount '{{input}}:/in' -- \
         sh -c '{WRITES_INTO_ITEMS}' /in"
    )
    .leak();
    let row = Row { is_root: true, is_on_tmpfs: false, has_other_owner: false, is_in_container: true, words };
    let Some(swept) = attacked(row, "", SHOW_WRITTEN) else { return };
    assert_written_into_items(row, &swept);
}
