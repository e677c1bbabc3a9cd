//! Runs the steps of `action.yml` and of the examples in fixtures/ci as CI does, with the archive of a release at a URL of
//! this machine. `tests/dist` runs these tests in a clean Debian root; without it they run on this host.

mod place;
mod workflow;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use self::place::Place;
use self::workflow::{Job, steps};
use super::project::python;

/// A YAML file as CI reads it, by its path in the repository.
fn yaml(file: &str) -> Option<Value> {
    let program = "import json, sys, yaml; json.dump(yaml.load(open(sys.argv[1]), yaml.BaseLoader), sys.stdout)";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let output = Command::new(python()?).args(["-c", program]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

const WRONG: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What `large` fails for when it sorts a tenth more.
fn has_reason(text: &str) -> bool {
    let growth = text.lines().find(|line| line.contains("large: the peak has grown from"));
    growth.is_some_and(|line| [", +9.", ", +10.", ", +11."].iter().any(|share| line.contains(share)))
}

#[test]
fn the_action_for_github_works() {
    let (Some(action), Some(workflow)) = (yaml("action.yml"), yaml("fixtures/ci/github/memory.yml")) else { return };
    let Some(place) = Place::with_release() else { return };
    let steps_of_workflow = workflow["jobs"]["memory"]["steps"].as_array().unwrap();
    let uses = steps_of_workflow.iter().find(|step| step["id"] == "memory").unwrap();
    // The action of the release that the example names is the action here.
    let releases = action["inputs"]["releases"]["default"].as_str().unwrap();
    let repository = releases.strip_prefix("https://github.com/").unwrap().strip_suffix("/releases/download").unwrap();
    assert_eq!(uses["uses"], format!("{repository}@v{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(action["inputs"]["version"]["default"], env!("CARGO_PKG_VERSION"));
    assert_eq!(uses["with"].as_object().unwrap().keys().collect::<Vec<_>>(), ["sha256"]);

    let run = |sha256: &str, args: &str| {
        let (url, version) = (place.releases(), &place.version);
        let with = [("releases", url.as_str()), ("version", version), ("sha256", sha256), ("args", args)];
        Job::new(&place, &action).run(&with)
    };
    let stopped = run(WRONG, "");
    assert!(!stopped.succeeded, "{}", stopped.log);
    assert!(stopped.log.contains(&format!("expected {WRONG}; nothing was run")), "{}", stopped.log);
    assert_eq!((stopped.steps.as_slice(), stopped.results), (["Install highwater".to_owned()].as_slice(), None));

    let passed = run(&place.sha256, "");
    assert!(passed.succeeded, "{}", passed.log);
    let posted = place.read("gh.log");
    assert!(posted.contains("--method POST repos/owner/project/issues/7/comments"), "{posted}");

    place.plant_growth();
    let failed = run(&place.sha256, "");
    assert!(!failed.succeeded && has_reason(&failed.log), "{}", failed.log);
    assert!(failed.log.contains("::error"), "no annotation: {}", failed.log);
    let results = failed.results.unwrap();
    let comment = place.read("comment");
    println!("the comment:\n{comment}");
    assert_eq!(comment, format!("<!-- highwater check: . -->\n{}", place.read(&format!("{results}/memory.md"))));
    assert!(comment.contains("Memory check failed") && has_reason(&comment), "{comment}");
    assert!(place.read("gh.log").contains("--method PATCH repos/owner/project/issues/comments/41"));
    assert!(place.read("summary.md").contains("### ❌ Memory check failed"));
    let junit = place.read(&format!("{results}/junit.xml"));
    assert!(junit.contains("<failure type=\"growth\""), "{junit}");
    for file in ["memory.json", "runs.jsonl"] {
        assert!(!place.read(&format!("{results}/{file}")).is_empty(), "{file}");
    }
    // The example keeps that directory.
    let upload = steps_of_workflow.iter().find(|step| step["name"] == "Keep the results").unwrap();
    assert_eq!(upload["with"]["path"], "${{ steps.memory.outputs.results }}");

    // On a pull request of a fork, GitHub refuses the comment.
    place.refuse_comments();
    let fork = run(&place.sha256, "--task sort --confirm 0");
    assert!(!fork.succeeded && has_reason(&fork.log), "{}", fork.log);
    let refused = "::notice title=highwater::failed to comment on the pull request: gh: Resource not accessible";
    assert!(fork.log.contains(refused), "{}", fork.log);
}

/// The requests that reach a server which accepts everything.
fn server() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut request, mut buffer) = (String::new(), [0; 65536]);
            // A short request: its head, and a body of the length that it says.
            loop {
                let count = stream.read(&mut buffer).unwrap();
                request += &String::from_utf8_lossy(&buffer[..count]);
                assert_ne!(count, 0, "{request}");
                let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
                if body.len() >= length.parse::<usize>().unwrap() {
                    break;
                }
            }
            stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
            let _ = sender.send(request);
        }
    });
    (url, requests)
}

#[test]
fn the_job_for_gitlab_works() {
    let (Some(pipeline), Some(place)) = (yaml("fixtures/ci/gitlab/memory.yml"), Place::with_release()) else { return };
    let job = &pipeline["memory"];
    assert_eq!(job["variables"]["HIGHWATER_VERSION"], env!("CARGO_PKG_VERSION"));
    let script = |keys: &[&str]| -> String {
        let lines = keys.iter().flat_map(|key| job[key].as_array().unwrap());
        lines.map(|line| line.as_str().unwrap().to_owned() + "\n").collect()
    };
    let (url, releases) = (place.releases(), server());
    let shell = |script: &str, sha256: &str| {
        let variables = [
            ("HIGHWATER_RELEASES", url.as_str()),
            ("HIGHWATER_VERSION", &place.version),
            ("HIGHWATER_SHA256", sha256),
            ("HIGHWATER_TOKEN", "secret"),
            ("CI_MERGE_REQUEST_IID", "7"),
            ("CI_PROJECT_ID", "3"),
            ("CI_API_V4_URL", &releases.0),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        place.bash(script, &variables.into(), false)
    };
    let text = |output: &Output| String::from_utf8_lossy(&[&*output.stdout, &output.stderr].concat()).into_owned();
    let check = script(&["before_script", "script"]);

    let stopped = shell(&check, WRONG);
    assert_eq!(stopped.status.code(), Some(1), "{stopped:?}");
    assert!(text(&stopped).contains(&format!("expected {WRONG}; nothing was run\n")), "{}", text(&stopped));
    assert!(shell(&script(&["after_script"]), WRONG).status.success());

    let passed = shell(&check, &place.sha256);
    assert!(passed.status.success(), "{}", text(&passed));
    assert!(place.path(job["cache"]["paths"][0].as_str().unwrap()).exists());

    place.plant_growth();
    // The cache has the archive by now.
    fs::remove_dir_all(place.path("releases")).unwrap();
    let failed = shell(&check, &place.sha256);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
    assert!(has_reason(&text(&failed)), "{}", text(&failed));
    let after = shell(&script(&["after_script"]), &place.sha256);
    assert!(text(&after).contains("Memory check failed") && after.status.success(), "{}", text(&after));
    let comment = releases.1.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    assert!(comment.starts_with("POST /projects/3/merge_requests/7/notes HTTP"), "{comment}");
    assert!(comment.contains("PRIVATE-TOKEN: secret") && comment.contains("body=%23%23%23"), "{comment}");
    let reports = job["artifacts"]["reports"].as_object().unwrap().values();
    for file in job["artifacts"]["paths"].as_array().unwrap().iter().chain(reports) {
        assert!(!place.read(file.as_str().unwrap()).is_empty(), "{file}");
    }
    assert!(place.read("junit.xml").contains("<failure type=\"growth\""));
}

#[test]
fn a_release_is_drafted_from_what_the_machines_have_packed() {
    let (Some(release), Some(place)) = (yaml(".github/workflows/release.yml"), Place::new()) else { return };
    let steps = steps(&release["jobs"]["draft"]);
    let script = steps.iter().find_map(|step| step["run"].as_str()).unwrap();
    for (machine, file) in [("x86", "highwater-1-x86_64-linux.tar.gz"), ("arm", "highwater-1-aarch64-linux.tar.gz")] {
        place.write(&format!("dist/{machine}/{file}"), machine);
        place.write(&format!("dist/{machine}/highwater"), "not of the release");
        let sum = format!("cd dist/{machine} && sha256sum -- *.tar.gz > SHA256SUMS");
        assert!(place.bash(&sum, &Default::default(), true).status.success());
    }
    let variables = [("GITHUB_REF_NAME".to_owned(), "v1".to_owned())];
    let drafted = place.bash(script, &variables.clone().into(), true);
    assert!(drafted.status.success(), "{drafted:?}");
    assert_eq!(
        place.read("gh.log"),
        "release create v1 --draft --verify-tag --title highwater 1 SHA256SUMS \
         dist/arm/highwater-1-aarch64-linux.tar.gz dist/x86/highwater-1-x86_64-linux.tar.gz\n"
    );
    assert_eq!(place.read("SHA256SUMS").lines().count(), 2);
}

#[test]
fn the_url_of_releases_stands_in_one_place() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let url = regex::Regex::new(r"https?://\S*/highwater\b|releases/download").unwrap();
    let entries = ignore::WalkBuilder::new(top).hidden(false).filter_entry(|entry| entry.file_name() != ".git").build();
    let paths =
        entries.map(|entry| entry.unwrap().into_path()).filter(|path| !path.ends_with("tests/suite/check/ci.rs"));
    let named = paths.filter(|path| fs::read_to_string(path).is_ok_and(|text| url.is_match(&text)));
    assert_eq!(named.collect::<Vec<_>>(), [top.join("action.yml")]);
}
