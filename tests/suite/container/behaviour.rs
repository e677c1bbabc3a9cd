//! A task behaves under the probe as it does without.

use super::*;

#[test]
fn containers_behave_under_the_probe_as_without() {
    engine_or_skip!();
    let cases: &[(&str, &[&str], i32)] = &[
        ("tiny", &[], 0),
        ("bare", &["/task", "exit", "7"], 7),
        ("exec-form", &[], 0),
        ("shell-form", &[], 1),
        ("entrypoint", &[], 0),
        ("entrypoint", &["facts", "of", "the", "caller"], 0),
        ("entrypoint", &["exit", "0"], 0),
        ("entrypoint", &["exit", "1"], 1),
        ("entrypoint", &["exit", "137"], 137),
        ("entrypoint", &["fault"], 139),
        ("path", &[], 0),
        ("as-user", &[], 0),
        ("as-number", &[], 0),
        ("workdir", &[], 0),
        ("exec-form", &["/no/such/program"], 127),
        ("exec-form", &["no-such-program"], 127),
        ("exec-form", &["/etc/passwd"], 126),
    ];
    for (image, words, status) in cases {
        let [plain, probed] =
            ["never", "always"].map(|probe| ran(&[&["--image", image, "--probe", probe, "--"], *words].concat()));
        assert_eq!(plain.status, Some(*status), "{image} {words:?}: {}", plain.stderr);
        assert_eq!(probed.status, Some(*status), "{image} {words:?} under the probe: {}", probed.stderr);
        assert_eq!(probed.stdout, plain.stdout, "{image} {words:?}");
        // Podman does not report to docker's client how a container ended; an emulated processor takes too long for it.
        if is_docker() && std::env::var_os("MACHINE").is_none() {
            let theirs = docker(&[&["run", "--rm", "--network", "host", image], *words].concat());
            assert_eq!((plain.status, plain.stdout), (theirs.status.code(), text(&theirs.stdout)), "{image} {words:?}");
        }
    }
}

#[test]
fn the_documented_run_shows_what_comes_out() {
    engine_or_skip!();
    // The page shows Docker.
    if !is_docker() {
        return;
    }
    let output = run(&["--idle-peak", "--image", "tiny", "--", "/task", "touch", "20", "300"]).output().unwrap();
    crate::documentation::consoles::assert_shows("docs/tasks.md run --idle-peak", &text(&output.stderr));
}
