//! `highwater collect` on reports that the probe has written in jobs.

use super::*;

/// A production job as in docs/production.md: what it is to run replaces the last line.
fn script(last: &str) -> String {
    format!(
        "#!/bin/bash\nexport HIGHWATER_ANNOTATIONS=\"task=segment input.scans=$(du -sb scans | cut -f1)\"\n{last}\n"
    )
}

fn collect(bench: &Bench) -> Ran {
    let words = ["collect", "--on", "slurm", "reports", "--record", "segment.jsonl"];
    Ran::of(&bench.command(Path::new(env!("CARGO_BIN_EXE_highwater")), &words).output().unwrap())
}

fn records(bench: &Bench) -> Vec<Observation> {
    let text = fs::read_to_string(bench.path("segment.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn probe_in(bench: &Bench) {
    let words = ["probe", "probe"];
    assert!(bench.command(Path::new(env!("CARGO_BIN_EXE_highwater")), &words).status().unwrap().success());
    fs::create_dir(bench.path("reports")).unwrap();
}

#[test]
fn reports_of_production_jobs_become_records_once() {
    let bench = cluster_or_skip!();
    probe_in(&bench);
    bench.write("segment", WORK);
    bench.write("step.sh", &script("srun ./probe reports/$SLURM_JOB_ID -- ./segment scans"));
    bench.write("script.sh", &script("./probe reports/$SLURM_JOB_ID -- ./segment scans/p1"));
    bench.write("oom.sh", &script("srun ./probe reports/$SLURM_JOB_ID -- ./segment scans"));
    let submit = |words: &[&str]| {
        let words = [&["--parsable", "--output=/dev/null"], words].concat();
        let output = bench.command(Path::new("sbatch"), &words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let jobs = [
        submit(&["--mem=200M", "--array=3", "step.sh"]),
        submit(&["--mem=200M", "script.sh"]),
        submit(&["--mem=50M", "oom.sh"]),
    ];
    wait_until("the jobs have ended", || {
        let listed = ["--noheader", "--jobs", &jobs.join(",")];
        let output = bench.command(Path::new("squeue"), &listed).output().unwrap();
        output.stdout.trim_ascii().is_empty()
    });
    fs::write(bench.path("reports/notes"), "hello\n").unwrap();
    fs::write(bench.path("reports/cut"), "highwater-probe 1\nslurm_job 999999\n").unwrap();
    let ran = collect(&bench);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 report: not a report of the probe: reports/notes"), "{}", ran.stderr);
    assert!(ran.stderr.contains("the probe was killed before it read the peak: reports/cut"), "{}", ran.stderr);
    let of = |job: &str| {
        let mut of_job = records(&bench).into_iter().filter(|run| run.batch.as_ref().unwrap().job == job);
        of_job.next().unwrap_or_else(|| panic!("job {job} has no record: {}", ran.stderr))
    };
    let step = of(&jobs[0]);
    let peak = step.peak.as_ref().value().unwrap();
    assert!(matches!(peak.exactness, Exactness::Exact { .. }), "{peak:?}");
    // Four files, and Python.
    assert!((80 << 20..100 << 20).contains(&peak.bytes.0), "{peak:?}");
    assert_eq!((step.subject.name.as_deref(), step.batch.as_ref().unwrap().array_task), (Some("segment"), Some(3)));
    assert!(step.inputs[0].all.sum.0 >= 400_000 && step.batch.as_ref().unwrap().node.is_some(), "{step:#?}");
    assert_eq!(step.subject.command, ["./segment", "scans"]);
    let in_script = of(&jobs[1]);
    assert!((20 << 20..50 << 20).contains(&in_script.peak.as_ref().value().unwrap().bytes.0), "{in_script:#?}");
    let oom = of(&jobs[2]);
    assert_eq!((oom.outcome, oom.censored), (Outcome::OomKilled, true), "{oom:#?}");
    let again = collect(&bench);
    assert!(
        again.stderr.contains("added 0 runs") && again.stderr.contains("3 runs already recorded"),
        "{}",
        again.stderr
    );
    assert_eq!(records(&bench).len(), 3);
}
