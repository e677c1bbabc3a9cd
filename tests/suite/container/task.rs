//! Tasks whose template is in their image.

use std::path::Path;

use super::*;

#[test]
fn a_processing_container_of_each_dialect_runs_from_its_task() {
    engine_or_skip!();
    for image in ["documented", "released"] {
        let folder = tempfile::tempdir().unwrap();
        let (scans, copies) = (folder.path().join("scans"), folder.path().join("made/copies"));
        std::fs::create_dir(&scans).unwrap();
        std::fs::write(scans.join("a.nii"), vec![1; 8 << 20]).unwrap();
        let place = |path: &Path| {
            if image == "documented" {
                format!(r#""input": {{"host_path": {path:?}}}"#)
            } else {
                format!(r#""volume_source": {{"host_path": {path:?}}}"#)
            }
        };
        let version = if image == "documented" { "" } else { r#", "api_version": 1"# };
        let task = folder.path().join("task.json");
        let (scans, place_of_copies) = (place(&scans), place(&copies));
        let json = format!(
            r#"{{"name": "copy", "image": "{image}", "taskTemplate": "copy", "inputs": [{{"name": "scans", {scans}}}],
                "outputs": [{{"name": "copies", {place_of_copies}}}]{version}}}"#
        );
        std::fs::write(&task, json).unwrap();
        let ran = ran(&[task.to_str().unwrap()]);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        let peak = &ran.json["peak"];
        assert_eq!((&peak["source"], &peak["exactness"]["kind"]), (&from_outside().into(), &"exact".into()));
        // The input, and the output while it is in the page cache.
        assert!((8 * MIB..=40 * MIB).contains(&peak["bytes"].as_u64().unwrap()), "{:#}", ran.json);
        assert!(!ran.json["comparison"].is_null(), "{:#}", ran.json);
        assert_eq!(std::fs::metadata(copies.join("copy")).unwrap().len(), 8 << 20);
        let printed = highwater().args(["processing-container", image]).output().unwrap();
        assert!(text(&printed.stdout).contains("\"copier\""), "{printed:?}");
    }
}
