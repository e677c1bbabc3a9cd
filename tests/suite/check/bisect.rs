//! `check --bisect`: the statuses that `git bisect run` understands.

use super::project::{MIB, Project, SEGMENT, run, three};
use super::repository::has_git;
use super::running::{is_root, workload};

#[test]
fn git_bisect_names_the_commit_that_made_a_task_need_more() {
    if !has_git() || !is_root() {
        return;
    }
    let project = Project::new(&format!(
        "[tasks.touch]\ncommand = [\"sh\", \"-c\", \"exec {} touch $(cat mib) 1\"]\nconfirm = 0\n",
        workload()
    ));
    project.git(&["init", "--quiet"]);
    let mut planted = String::new();
    for number in 1..=20 {
        // The first commit that Git tries cannot be judged: its task fails.
        let mib = match number {
            10 => "none",
            ..13 => "4",
            13.. => "16",
        };
        project.write("mib", mib);
        let id = project.commit(&format!("change {number}"));
        if number == 1 {
            // A baseline in the repository would change with its commits.
            let made = project.check(&["--update-baseline", "--baseline", ".git/good.json", "--quiet"]);
            assert_eq!(made.status(), 0, "{made:?}");
        } else if number == 13 {
            planted = id;
        }
    }
    project.git(&["bisect", "start", "HEAD", "HEAD~19"]);
    let highwater = env!("CARGO_BIN_EXE_highwater");
    let found =
        project.git(&["bisect", "run", highwater, "check", "--bisect", "--baseline", ".git/good.json", "--quiet"]);
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains(&format!("{planted} is the first bad commit")), "planted {planted}: {found}");
    assert!(project.git_line(&["bisect", "log"]).contains("git bisect skip"), "{found}");
}

#[test]
fn a_commit_that_cannot_be_judged_is_neither_good_nor_bad() {
    let then = [three("small", 0, 100), three("large", 0, 200)].concat();
    let project = Project::with_baseline(SEGMENT, &then);
    let status = |runs: &[_]| project.check_runs(runs, &["--bisect"]).status();
    assert_eq!(status(&then), 0);
    assert_eq!(status(&[three("small", 0, 100), three("large", 0, 300)].concat()), 1);
    assert_eq!(status(&three("small", 0, 100)), 125, "a cell has gone");
    assert_eq!(status(&three("small", 0, 200)), 1, "a cell has gone, and another one needs more");
    assert_eq!(status(&[three("small", 0, 100), vec![run("large", 0, 300 * MIB)]].concat()), 125, "a single run");
    let mut failed = then.clone();
    failed[0].outcome = highwater::model::observation::Outcome::OomKilled;
    assert_eq!(status(&failed), 125);
    assert_eq!(project.check(&["--bisect", "--config", "none.toml"]).status(), 125, "no such file");
    let wrong = project.check(&["--bisect", "--runs", "none"]);
    assert_eq!(wrong.status(), 125, "wrong usage: {wrong:?}");
    project.write("highwater.toml", "tasks = 3");
    assert_eq!(project.check(&["--bisect"]).status(), 125, "an invalid file");
}
