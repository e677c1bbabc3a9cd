//! The minimum limit of a container.

use std::process::Output;

use serde_json::Value;

use super::{MIB, highwater, text};

fn floor(words: &[&str]) -> Output {
    highwater().args(["floor", "--network", "none", "--pull", "never"]).args(words).output().unwrap()
}

fn found(words: &[&str]) -> Value {
    let output = floor(&[&["--format", "json"], words].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn bytes(found: &Value, field: &str) -> u64 {
    found[field].as_u64().unwrap_or_else(|| panic!("{field} in {found:#}"))
}

#[test]
fn page_cache_is_in_the_peak_of_a_container_and_not_in_its_floor() {
    engine_or_skip!();
    let folder = crate::process::folder_on_a_disk();
    std::fs::write(folder.path().join("cold"), vec![7_u8; 100 << 20]).unwrap();
    let mount = format!("{}:/data:ro", folder.path().display());
    let found = found(&["--image", "tiny", "--mount", &mount, "--", "/task", "hold", "100", "/data/cold"]);
    assert!(bytes(&found, "peak_bytes") >= 200 * MIB, "{found:#}");
    let floor = bytes(&found, "floor_bytes");
    assert!((100 * MIB..=105 * MIB).contains(&floor), "{found:#}");
    assert!(bytes(&found, "not_enough_bytes") < floor, "{found:#}");
}

#[test]
fn a_container_is_not_limited_below_what_engines_accept() {
    engine_or_skip!();
    let found = found(&["--image", "tiny", "--", "/task", "touch", "0", "0"]);
    let tries = found["tries"].as_array().unwrap();
    assert!(tries.iter().all(|one| bytes(one, "limit_bytes") >= 6 * MIB), "{found:#}");
    // Some versions of runc need more to start a container.
    assert!(bytes(&found, "floor_bytes") <= 32 * MIB, "{found:#}");
}

#[test]
fn a_child_that_is_killed_in_a_container_is_missed() {
    engine_or_skip!();
    let found = found(&["--confirm", "2", "--precision", "10%", "--image", "tiny", "--", "/task", "child", "40"]);
    assert!(bytes(&found, "floor_bytes") >= 40 * MIB, "{found:#}");
    assert!(found["tries"].to_string().contains("child-oom-killed"), "{found:#}");
}

#[test]
fn a_container_that_fails_without_a_limit_has_no_floor() {
    engine_or_skip!();
    let failed = floor(&["--image", "tiny", "--", "/task", "exit", "3"]);
    assert_eq!(failed.status.code(), Some(4), "{failed:?}");
    assert!(text(&failed.stderr).contains("exited with status 3"), "{failed:?}");
    let missing = floor(&["--image", "tiny", "--", "/no/such/program"]);
    assert_eq!(missing.status.code(), Some(4), "{missing:?}");
}
