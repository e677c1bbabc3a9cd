//! What is wrong is told together with its remedy.

use super::*;

#[test]
fn bad_input_is_told_with_its_remedy() {
    let url = engine_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below_a_file = format!("{}:/out", file.join("out").display());
    let missing = format!("{}:/in:ro", folder.path().join("scans").display());
    let taken = docker(&["create", "--name", "taken", "tiny"]);
    assert!(taken.status.success());
    let cases: &[&[&str]] = &[
        &["--image", "no/such:image"],
        &["--image", "tiny", "--mount", &missing],
        &["--image", "tiny", "--mount", &below_a_file],
        &["--image", "tiny", "--limit", "5Mi"],
        &["--image", "tiny", "--name", "taken"],
        &["--image", "tiny", "--label", "highwater.owner=me"],
        &["--image", "bare"],
        &["--image", "tiny", "--", "/no/such/program"],
        &["--image", "tiny", "--host", "unix:///no/such.sock"],
        &["--image", "tiny", "--host", "ssh://somewhere"],
        &["--image", "tiny", "--mount", "relative:also"],
    ];
    let mut all = String::new();
    for case in cases {
        let output = run(&[]).args(*case).output().unwrap();
        all.push_str(&format!("$ highwater run {}\n{}{}\n\n", case.join(" "), text(&output.stderr), output.status));
    }
    for image in ["tiny", "flawed"] {
        let output = highwater().args(["processing-container", image]).output().unwrap();
        all.push_str(&format!(
            "$ highwater processing-container {image}\n{}{}\n\n",
            text(&output.stderr),
            output.status
        ));
    }
    assert!(docker(&["rm", "taken"]).status.success());
    let all = all.replace(&folder.path().display().to_string(), "FOLDER").replace(&url, "ENGINE");
    insta::assert_snapshot!(all);
}
