//! The CPUs of the runs of a sweep: `--pin`, `--cpus`, and the times of runs beside others.

use std::fs;
use std::thread::available_parallelism;

use highwater::host::cpus::CpuList;
use highwater::model::observation::{Observation, Warning};
use serde_json::Value;

use super::Bench;
use crate::harness::skip;

/// Shows the CPUs of the run, and keeps it going for a while.
const SHOW: &str = "grep Cpus_allowed_list /proc/self/status; nproc; sleep 0.4";

/// The CPUs and the number of them that a run saw, from its output.
fn seen(run: &Observation) -> (CpuList, usize) {
    let text = fs::read_to_string(&run.logs.as_ref().unwrap().stdout).unwrap();
    let mut lines = text.lines();
    let list = lines.next().unwrap().split_once(':').unwrap().1.trim().parse().unwrap();
    (list, lines.next().unwrap().parse().unwrap())
}

/// Whether the two runs overlapped in time.
fn are_beside(one: &Observation, other: &Observation) -> bool {
    let start = |run: &Observation| run.started_at.as_microsecond();
    let end = |run: &Observation| start(run) + i64::try_from(run.wall_us).unwrap();
    start(one) < end(other) && start(other) < end(one)
}

/// The records of a sweep of a command in two cells, with absolute paths of its logs.
fn swept(bench: &Bench, words: &[&str]) -> Vec<Observation> {
    bench.done(&[words, &["-r", "4", "--into", "records", "--", "sh", "-c", SHOW]].concat());
    let mut records = bench.records("records");
    for run in &mut records {
        let logs = run.logs.as_mut().unwrap();
        logs.stdout = bench.path().join(&logs.stdout);
        if !logs.stdout.exists() {
            logs.stdout = bench.path().join("records").join(logs.stdout.strip_prefix(bench.path()).unwrap());
        }
    }
    records
}

#[test]
fn pinned_runs_have_cpus_of_their_own_and_undisturbed_times() {
    if available_parallelism().unwrap().get() < 2 {
        return skip("there is only one CPU");
    }
    let bench = Bench::new();
    let records = swept(&bench, &["--jobs", "2", "--pin"]);
    let mut beside = 0;
    for run in &records {
        let (list, count) = seen(run);
        assert_eq!(count, list.len());
        let conditions = run.conditions.as_ref().unwrap();
        assert_eq!(conditions.cpus, Some(list.to_string()));
        assert!(conditions.load.value().is_some());
        for other in records.iter().filter(|other| !std::ptr::eq(*other, run) && are_beside(run, other)) {
            beside += 1;
            let others = seen(other).0;
            assert!(list.iter().all(|cpu| others.iter().all(|other| other != cpu)), "{list} and {others}");
        }
        // Where the jobs have to share cores, pinning does not keep them from disturbing each other.
        assert_eq!(run.is_time_disturbed(), !conditions.pinned && run.warnings.contains(&Warning::TimeDisturbed));
    }
    assert!(beside > 0, "no run was beside another one");
}

#[test]
fn times_of_runs_beside_others_are_disturbed_and_show_and_fit_say_so() {
    let bench = Bench::new();
    bench.write("a/a.raw", 1 << 20);
    bench.write("b/b.raw", 2 << 20);
    bench.write("c/c.raw", 3 << 20);
    let words = ["--input", "a", "b", "c", "--jobs", "2", "-r", "3", "--into", "records"];
    let ran = bench.done(&[&words[..], &["--", "sh", "-c", "sleep 0.3; cat {input}/* > /dev/null"]].concat());
    let records = bench.records("records");
    let disturbed = |run: &&Observation| run.is_time_disturbed();
    let count = records.iter().filter(disturbed).count();
    for run in &records {
        let is_beside = records.iter().any(|other| !std::ptr::eq(other, run) && are_beside(run, other));
        assert!(run.is_time_disturbed() || !is_beside, "{:?}", run.sweep);
    }
    assert!(count >= 4, "{count}");
    assert!(ran.stdout.contains("the times are disturbed in"), "{}", ran.stdout);
    assert!(ran.stdout.contains("--pin"), "{}", ran.stdout);
    let highwater = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.current_dir(bench.path()).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let time = highwater(&["fit", "records", "--on", "time", "--format", "json"]);
    assert!(time.contains(&format!("{count} of 9 times are disturbed")), "{time}");
    let memory = highwater(&["fit", "records", "--format", "json"]);
    assert!(!memory.contains("disturbed"), "{memory}");
    let report = highwater(&["report", "records", "--format", "markdown"]);
    assert!(report.contains("its time is disturbed"), "{report}");
}

#[test]
fn one_run_at_a_time_is_not_disturbed_and_has_all_cpus() {
    let bench = Bench::new();
    for run in swept(&bench, &[]) {
        assert!(!run.is_time_disturbed());
        let conditions = run.conditions.as_ref().unwrap();
        let allowed = CpuList::allowed().unwrap();
        assert_eq!((conditions.cpus.as_ref(), conditions.pinned), (Some(&allowed.to_string()), false));
        assert_eq!(seen(&run).0, allowed);
    }
}

#[test]
fn cpus_are_a_parameter_and_show_the_speed_up() {
    if available_parallelism().unwrap().get() < 2 {
        return skip("there is only one CPU");
    }
    let bench = Bench::new();
    let script = "nproc; echo {cpus}; sleep 0.$((6 / {cpus}))";
    let words = ["--cpus", "1,2", "-r", "2", "--into", "records", "--", "sh", "-c", script];
    let ran = bench.done(&words);
    for run in bench.records("records") {
        let cpus = &run.sweep.as_ref().unwrap().parameters["cpus"];
        let stdout = bench.path().join("records").join(&run.logs.as_ref().unwrap().stdout);
        let text = fs::read_to_string(&stdout).or_else(|_| fs::read_to_string(&run.logs.as_ref().unwrap().stdout));
        assert_eq!(text.unwrap(), format!("{cpus}\n{cpus}\n"));
        let list: CpuList = run.conditions.unwrap().cpus.unwrap().parse().unwrap();
        assert_eq!(list.len().to_string(), *cpus);
    }
    assert!(ran.stdout.contains("speed-up") && ran.stdout.contains("peak/CPU"), "{}", ran.stdout);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"))
        .current_dir(bench.path())
        .args(["show", "records", "--format", "json"])
        .output();
    let cells: Value = super::json(&String::from_utf8(output.unwrap().stdout).unwrap())["cells"].clone();
    let scaling = &cells[1]["scaling"];
    assert_eq!(
        (&cells[0]["scaling"]["speed_up"], &scaling["cpus"]),
        (&Value::from(1.0), &Value::from(2.0)),
        "{cells:#}"
    );
    let [speed_up, efficiency] = ["speed_up", "efficiency"].map(|name| scaling[name].as_f64().unwrap());
    assert!((1.2..2.2).contains(&speed_up) && (efficiency * 2.0 - speed_up).abs() < 1e-9, "{scaling:#}");
}

#[test]
fn what_cannot_be_had_is_refused_before_anything_runs() {
    let count = CpuList::allowed().unwrap().len();
    let (more, jobs) = ((count + 1).to_string(), format!("--jobs={}", count + 1));
    for (words, status, says) in [
        (
            vec![jobs.as_str(), "--pin"],
            3,
            format!("of {more} jobs CPUs of its own, but highwater may use only {count}"),
        ),
        (vec!["--cpus", &more], 3, format!("--cpus asks for {more} CPUs, but highwater may use only {count}")),
        (vec!["--cpus", "1", "--jobs", "2"], 2, "would give all of them the same CPUs".to_owned()),
        (vec!["--cpus", "1.5"], 2, "a process on this machine gets whole CPUs, such as 2".to_owned()),
        (vec!["--pin", "--on", "slurm"], 2, "--pin does not work on a cluster".to_owned()),
        (vec!["--cpus", "1,2", "--on", "slurm"], 2, "--cpus with several values does not work".to_owned()),
    ] {
        let bench = Bench::new();
        let ran = bench.sweep(&[&words[..], &["--into", "records", "--", "touch", "was-run"]].concat());
        assert_eq!(ran.status, Some(status), "{words:?}: {}", ran.stderr);
        assert!(ran.says(&says), "{words:?}: {}", ran.stderr);
        assert!(!bench.path().join("was-run").exists() && !bench.path().join("records").exists());
    }
    let twice = Bench::new().sweep(&["--cpus", "1", "-P", "cpus=1", "--", "echo", "{cpus}"]);
    assert!(twice.status == Some(2) && twice.says("the parameter cpus is given twice"), "{}", twice.stderr);
}

#[test]
fn a_plan_keeps_the_numbers_of_cpus() {
    let bench = Bench::new();
    bench.done(&["--cpus", "1", "--into", "records", "--", "true"]);
    let ran = bench.done(&["--into", "records"]);
    assert!(ran.stderr.contains("1 run is already recorded"), "{}", ran.stderr);
    let plan = super::json(&fs::read_to_string(bench.path().join("records/plan.json")).unwrap());
    assert_eq!(plan["sweep"]["cpus"], 1);
    assert_eq!(plan["cells"][0]["parameters"], serde_json::json!({"cpus": "1"}), "{plan:#}");
}
