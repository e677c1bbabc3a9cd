//! The exact peak in every run.

use std::process::Command;

use super::*;

#[expect(clippy::print_stderr, reason = "the numbers are what is to be seen")]
fn every_run_is_exact(source: &str, more: &[&str]) {
    let count = runs().to_string();
    for (mib, words) in [(200, ["/task", "touch", "200", "5"]), (0, ["/task", "touch", "0", "0"])] {
        let words = [&["-r", count.as_str(), "--image", "exec-form"], more, &["--"], &words].concat();
        let ran = ran(&words);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        assert_eq!(ran.all.len(), runs());
        let peaks: Vec<u64> = ran.all.iter().map(|run| assert_exact(run, source, mib)).collect();
        let (least, most) = (peaks.iter().min().unwrap(), peaks.iter().max().unwrap());
        eprintln!(
            "{count} of {count} exact through {source}, {mib} MiB touched: {least} to {most} bytes, stated to be at \
             most {} too high",
            ran.json["peak"]["exactness"]["noise_bytes"]
        );
    }
}

#[test]
fn every_run_is_exact_through_a_cgroup_around_the_container() {
    engine_or_skip!();
    every_run_is_exact(from_outside(), &[]);
}

#[test]
fn every_run_is_exact_through_the_probe_alone() {
    engine_or_skip!();
    every_run_is_exact("probe", &["--probe", "always"]);
}

#[test]
fn every_run_is_exact_beside_busy_neighbours() {
    engine_or_skip!();
    let mut hogs: Vec<_> =
        (0..4).map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()).collect();
    let result = std::panic::catch_unwind(|| {
        every_run_is_exact(from_outside(), &[]);
        every_run_is_exact("probe", &["--probe", "always"]);
    });
    for hog in &mut hogs {
        hog.kill().unwrap();
        hog.wait().unwrap();
    }
    result.unwrap();
}

#[test]
fn runs_at_the_same_time_do_not_see_each_other() {
    engine_or_skip!();
    let sizes = [40, 120];
    let threads = sizes.map(|mib| {
        std::thread::spawn(move || {
            let mib_text = mib.to_string();
            (0..3).for_each(|_| {
                let ran = ran(&["--image", "tiny", "--", "/task", "touch", &mib_text, "200"]);
                assert_exact(&ran.json, from_outside(), mib);
            });
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
