//! `highwater predict`: the limits defined by the contract.

use crate::tasks::{Folder, fixtures};

#[test]
fn the_documented_dialect_is_predicted() {
    let folder = Folder::with_inputs();
    insta::assert_snapshot!(folder.run("predict complexity.json"));
    let json = folder.json("predict complexity.json --format json");
    // 2 × (300 + 1200 + 10 + 5) MiB.
    assert_eq!(json["docker"]["limit"]["bytes"], 3030u64 << 20);
    assert_eq!(json["kubernetes"]["limit"]["written"], "3.3Gi");
    assert_eq!(json["kubernetes"]["limit"]["asked"], 3030u64 << 20);
    assert_eq!(json["kubernetes"]["request"], serde_json::Value::Null);
}

#[test]
fn the_released_dialect_is_predicted() {
    let folder = Folder::with_inputs();
    insta::assert_snapshot!(folder.run("predict scale-factor.json --target kubernetes"));
    let json = folder.json("predict scale-factor.json --format json");
    assert_eq!(json["docker"]["limit"]["bytes"], 15u64 << 29);
    assert_eq!(json["docker"]["limit"]["decided_by"]["from"], "resources");
    // 1.1 × 7.5 = 8.25, and 1.1 × 3 × 1200 MiB.
    assert_eq!(json["kubernetes"]["limit"]["written"], "8.2Gi");
    assert_eq!(json["kubernetes"]["request"]["written"], "3.9Gi");
    assert_eq!(json["kubernetes"]["request"]["asked"], 3600u64 << 20);
}

#[test]
fn a_mix_of_both_dialects_is_predicted() {
    let folder = Folder::with_inputs();
    insta::assert_snapshot!(folder.run("predict mixed.json"));
    let json = folder.json("predict mixed.json --format json");
    // The task's rule of the weights overrides the template's: 40, not 4.
    assert_eq!(json["channels"][1]["rule"]["scale_rule"]["scale_factor"], 40);
    assert_eq!(json["channels"][0]["rule"]["scale_rule"]["complexity"], "2n");
    assert_eq!(json["docker"]["limit"]["bytes"], 3600u64 << 20);
}

#[test]
fn a_template_is_looked_up_in_the_document_of_the_image() {
    let folder = Folder::with_inputs();
    let words = "predict lung-task.json --processing-container lung-container.json";
    insta::assert_snapshot!(folder.run(words));
    insta::assert_snapshot!(folder.run("predict lung-task.json"));
}

#[test]
fn the_json_form_is_stable() {
    let folder = Folder::with_inputs();
    std::os::unix::fs::symlink("/nowhere", folder.path("scans/broken")).unwrap();
    let shown = folder.run("predict lung-task.json --processing-container lung-container.json --format json");
    assert_eq!((shown.status, shown.stderr.as_str()), (0, ""));
    let root = folder.path("").display().to_string();
    insta::assert_snapshot!(shown.stdout.replace(&root, "/…/"));
}

#[test]
fn a_template_gets_its_variables() {
    let folder = Folder::with_inputs();
    let words = "predict templated.json --set patient=p1 --set device=tpu --processing-container lung-container.json";
    let shown = folder.run(words);
    insta::assert_snapshot!(shown);
    let json = folder.json(&format!("{words} --format json"));
    assert_eq!(json["task"]["image"], "registry.example:5000/lung:1.2");
    assert_eq!(json["warnings"][0]["code"], "outside-choices");
    assert_eq!(json["warnings"][0]["line"], 13);
    assert_eq!(folder.run(&format!("{words} --deny warnings")).status, 2);
}

#[test]
fn an_unknown_template_lists_those_there_are() {
    let folder = Folder::with_inputs();
    std::fs::copy(fixtures().join("bad/unknown-template.json"), folder.path("task.json")).unwrap();
    insta::assert_snapshot!(folder.run("predict task.json --processing-container lung-container.json"));
}

#[test]
fn without_its_inputs_a_rule_has_no_value() {
    let folder = Folder::new();
    let json = folder.json("predict complexity.json --format json");
    assert_eq!(json["complete"], false);
    assert_eq!(json["channels"][0]["size"]["state"], "unknown");
    assert_eq!(json["channels"][0]["rule"]["n"], serde_json::Value::Null);
    assert_eq!(json["channels"][0]["rule"]["value"], serde_json::Value::Null);
    assert_eq!(json["warnings"][0]["code"], "input-missing");
    let shown = folder.run("predict complexity.json");
    assert_eq!(shown.status, 2);
    assert!(shown.stdout.contains("these amounts are lower bounds"), "{shown}");
}

#[test]
fn what_cannot_be_read_is_counted_and_refused_when_strict() {
    let folder = Folder::with_inputs();
    std::fs::create_dir(folder.path("scans/p3")).unwrap();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(folder.path("scans/p3"), mode(0o000)).unwrap();
    if std::fs::read_dir(folder.path("scans/p3")).is_ok() {
        crate::harness::skip("this user may read everything");
        return;
    }
    let json = folder.json("predict complexity.json --format json");
    assert_eq!(json["channels"][0]["size"]["left_out"][0]["reason"], "unreadable");
    assert_eq!(folder.run("predict complexity.json --strict").status, 3);
    std::fs::set_permissions(folder.path("scans/p3"), mode(0o700)).unwrap();
}

#[test]
fn a_rule_that_comes_to_nothing_says_why() {
    let folder = Folder::with_inputs();
    folder.sparse("loose/a.nii", 1 << 20);
    let text = std::fs::read_to_string(folder.path("complexity.json")).unwrap();
    let text = text.replace("\"mode\": \"sum\"", "\"mode\": \"max_item_sum\"").replace("./scans", "./loose");
    folder.write("loose.json", &text);
    insta::assert_snapshot!(folder.run("predict loose.json"));
    folder.write("negative.json", text.replace("2*n", "-2*n").replace("max_item_sum", "sum"));
    insta::assert_snapshot!(folder.run("predict negative.json"));
    folder.write("overflow.json", text.replace("2*n", "n**9").replace("max_item_sum", "sum"));
    let shown = folder.run("predict overflow.json");
    assert_eq!(shown.status, 2, "{shown}");
}

#[test]
fn a_channel_behind_a_link_is_followed_as_an_engine_does() {
    let folder = Folder::with_inputs();
    std::fs::rename(folder.path("scans"), folder.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", folder.path("scans")).unwrap();
    let json = folder.json("predict complexity.json --format json");
    assert_eq!(json["docker"]["limit"]["bytes"], 3030u64 << 20);
}

#[test]
fn names_of_files_do_nothing_to_a_terminal() {
    let folder = Folder::with_inputs();
    std::os::unix::fs::symlink("/nowhere", folder.path("scans/\u{1b}[31mred")).unwrap();
    let shown = folder.run("predict complexity.json");
    assert!(!shown.stdout.contains('\u{1b}') && shown.stdout.contains("\\u{1b}[31mred"), "{shown}");
}

#[test]
fn the_documents_in_each_other_s_place_are_told_apart() {
    let folder = Folder::with_inputs();
    let swapped = folder.run("predict lung-container.json --processing-container lung-task.json");
    assert_eq!(swapped.status, 2, "{swapped}");
    assert!(swapped.stderr.contains("this is a processing-container, not a task"), "{swapped}");
    let twice = folder.run("predict lung-task.json --processing-container lung-task.json");
    assert_eq!(twice.status, 2, "{twice}");
    assert!(twice.stderr.contains("this is a task, not a processing-container"), "{twice}");
}
