//! What a container leaves on disk.

use super::{MIB, ran};

#[test]
fn the_writable_layer_is_what_the_task_wrote_outside_of_mounts() {
    engine_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), vec![7_u8; 8 << 20]).unwrap();
    let mount = format!("{}:/in:ro", folder.path().display());
    for probe in ["never", "always"] {
        let copied = ran(&["--image", "tiny", "--probe", probe, "--mount", &mount, "--", "/task", "copy", "/in", "/"]);
        let storage = &copied.json["storage"];
        let bytes = storage["writable_layer_bytes"].as_u64().unwrap_or_else(|| panic!("{}", copied.stderr));
        // Mount points, and what the probe reports.
        assert!((8 * MIB..8 * MIB + 65536).contains(&bytes), "--probe {probe}: {bytes}");
        assert_eq!(storage["outputs_bytes"], "unsupported", "a run measures no outputs");
    }
}
