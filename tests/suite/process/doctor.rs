//! `doctor` reports the truth about the machine.

use std::fs;

use super::trial::Host;

#[test]
fn doctor_finds_the_memory_controller_that_the_kernel_names() {
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["doctor", "--format", "json"])
        .output()
        .unwrap();
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (version, mount_point) = memory_controller().unzip();
    assert_eq!(findings["host"]["cgroup"], serde_json::json!(version), "{findings:#}");
    assert_eq!(findings["memory_controller"]["mount_point"], serde_json::json!(mount_point), "{findings:#}");
    let exact = Host::here().is_exact();
    assert_eq!(findings["process_runner"]["exact"], exact, "{findings:#}");
    assert_eq!(output.status.code(), Some(if exact { 0 } else { 3 }), "{findings:#}");
    assert_eq!(findings["process_runner"]["remedy"].is_null(), exact, "{findings:#}");
}

/// The cgroup version of the memory controller and its mount point, from the kernel's list of mounts; `None` where it
/// is not mounted.
fn memory_controller() -> Option<(&'static str, String)> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let (mut v1, mut v2) = (None, None);
    for mount in mounts {
        match mount[2] {
            "cgroup" if mount[3].split(',').any(|option| option == "memory") => v1 = v1.or(Some(mount[1].to_owned())),
            "cgroup2" => v2 = v2.or(Some(mount[1].to_owned())),
            _ => {}
        }
    }
    v1.map(|point| ("v1", point)).or(v2.map(|point| ("v2", point)))
}
