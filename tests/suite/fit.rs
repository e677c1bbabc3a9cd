//! `highwater fit` and `highwater backtest` on the command line.

use assert_cmd::Command;
use serde_json::Value;

fn highwater(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = command.args(arguments).write_stdin(input).env_remove("HIGHWATER_LOG").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(arguments: &[&str], input: &str) -> Value {
    let (status, stdout, stderr) = highwater(arguments, input);
    assert_eq!(status, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// Twenty runs of max(500 MB, 1.8·n), up to 1 % above or below it.
fn growing() -> String {
    let rows = (0..20u64).map(|i| {
        let n = 1e6 * 2_f64.powf(i as f64 / 2.0);
        let peak = (1.8 * n).max(5e8) * (0.99 + 0.001 * (i * 7 % 20) as f64);
        format!("{},{},{}\n", n as u64, peak as u64, 10 + i)
    });
    format!("input_bytes,peak_bytes,wall_seconds\n{}", rows.collect::<String>())
}

/// Two tasks of a workflow, and one that ran only once.
fn several() -> String {
    let rows = (1..=12u64).map(|i| {
        let (grown, steady) = (i * 30_000_000, 700_000_000 + i * 7919 % 13 * 100_000);
        format!("w,grows,{},{grown},1\nw,stays,{},{steady},1\n", i * 10_000_000, i * 10_000_000)
    });
    format!("workflow,task,input_bytes,peak_bytes,wall_seconds\n{}w,once,1,2,3\n", rows.collect::<String>())
}

#[test]
fn the_rule_is_told_with_what_speaks_for_it() {
    let (status, stdout, stderr) =
        highwater(&["fit", "-", "--against", "max(2Gi, 3*n)", "--for-size", "4Gi"], &growing());
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}

#[test]
fn several_tasks_are_told_side_by_side() {
    let (status, stdout, stderr) = highwater(&["fit", "-"], &several());
    assert_eq!(status, 0);
    assert_eq!(stderr, "w/once: not enough data: found 1 of 3 input sizes that differ by more than 1 %\n");
    insta::assert_snapshot!(stdout);
}

#[test]
fn each_of_several_tasks_gets_its_amounts() {
    let (status, stdout, _) = highwater(&["fit", "-", "--for-size", "4Gi", "--for-size", "1Gi"], &several());
    assert_eq!(status, 0);
    let amounts = stdout.split("request").last().unwrap();
    let rows: Vec<_> =
        amounts.lines().filter_map(|line| line.split_once("GiB")).map(|(first, _)| first.trim().to_owned()).collect();
    let rows: Vec<_> = rows.iter().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(rows, ["w/grows 4", "w/grows 1", "w/stays 4", "w/stays 1"], "{stdout}");
}

#[test]
fn scripts_get_form_base_coefficient_and_exponent() {
    let fit = &json(&["fit", "-", "--format", "json"], &growing())[0];
    assert_eq!(fit["form"], "max");
    assert_eq!(fit["exponent"], 1);
    let (base, coefficient) = (fit["base_bytes"].as_u64().unwrap(), fit["coefficient"].as_f64().unwrap());
    assert!((500_000_000..530_000_000).contains(&base), "{base}");
    assert!((1.78..1.9).contains(&coefficient), "{coefficient}");
    assert_eq!(fit["inputs"]["distinct"], 20);
    let list = json(&["fit", "-", "--format", "json"], &several());
    assert_eq!((&list[0]["task"], &list[1]["exponent"]), (&Value::from("grows"), &Value::from(0)));
}

#[test]
fn a_sum_is_fitted_where_it_is_asked_for() {
    let rows: String = (1..=20u64).map(|i| format!("{},{}\n", i * 1_000_000, 300_000_000 + i * 5_000_000)).collect();
    let fit = &json(&["fit", "-", "--form", "sum", "--format", "json"], &format!("input_bytes,peak_bytes\n{rows}"))[0];
    assert_eq!(fit["form"], "sum");
    assert!((fit["coefficient"].as_f64().unwrap() - 5.0).abs() < 0.25, "{fit}");
    assert_eq!(fit["warnings"][0]["kind"], "untimed");
}

#[test]
fn a_whole_factor_for_kubernetes_has_its_margin_once() {
    let arguments = ["fit", "-", "--dialect", "scale-factor", "--target", "kubernetes", "--format", "json"];
    let fit = &json(&arguments, &growing())[0];
    assert_eq!(fit["scale_factor"], 2);
    assert_eq!(fit["effective"]["coefficient"], 2.2);
    let plain = &json(&["fit", "-", "--format", "json"], &growing())[0];
    let ratio = plain["base_bytes"].as_f64().unwrap() / fit["base_bytes"].as_f64().unwrap();
    // The platform rounds to one decimal as well.
    assert!((1.095..1.105).contains(&ratio), "{ratio}");
    assert_eq!(fit["recorded"]["failures"], 0);
}

#[test]
fn too_little_data_has_a_status_of_its_own() {
    for (input, said) in [
        ("input_bytes,peak_bytes\n1,2\n1,3\n2,4\n", "found 2 of 3 input sizes that differ by more than 1 %"),
        ("input_bytes,peak_bytes,censored\n1,2,limit\n2,3,oom\n3,4,limit\n", "all 3 runs are censored"),
    ] {
        let (status, stdout, stderr) = highwater(&["fit", "-"], input);
        assert_eq!((status, stdout.as_str()), (5, ""), "{input}");
        assert!(stderr.contains(&format!("not enough data: {said}")), "{stderr}");
    }
}

#[test]
fn a_file_that_is_not_as_it_should_be_is_told_with_its_places() {
    let (status, _, stderr) = highwater(&["fit", "-"], "input_bytes,peak_bytes\n12,many\n,3\n5\n");
    assert_eq!(status, 2);
    insta::assert_snapshot!(stderr);
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_place() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output =
        command.args(["fit", "-"]).write_stdin(b"input_bytes,peak_bytes\n1,\xff\n".as_slice()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("standard input:2:3: invalid UTF-8"), "{stderr}");
}

#[test]
fn absurd_times_do_not_hide_the_peaks() {
    let fit = json(
        &["fit", "-", "--format", "json"],
        "input_bytes,peak_bytes,wall_seconds\n1,5,1e308\n2,5,1e308\n3,9,1e308\n",
    );
    assert!(fit[0]["base_bytes"].as_u64() >= Some(9), "{fit}");
}

#[test]
fn a_table_of_other_columns_is_refused() {
    let (status, _, stderr) = highwater(&["fit", "-"], "size;peak\n1;2\n");
    assert_eq!(status, 2);
    insta::assert_snapshot!(stderr);
}

#[test]
fn rules_are_tried_side_by_side() {
    let (status, stdout, _) = highwater(&["backtest", "-", "--rule", "1Gi", "--rule", "256Mi + 1.6*n"], &growing());
    assert_eq!(status, 0);
    insta::assert_snapshot!(stdout);
}

#[test]
fn a_fitted_rule_warns_of_inputs_it_was_not_fitted_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fit.json");
    let rows = growing();
    let known: String = rows.lines().take(11).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, highwater(&["fit", "-", "--format", "json"], &known).1).unwrap();
    let (status, _, stderr) = highwater(&["backtest", "-", "--fit", path.to_str().unwrap()], &rows);
    assert_eq!(status, 0);
    assert!(stderr.starts_with("warning: 10 runs lie outside the sizes that "), "{stderr}");
}

#[test]
fn fitting_itself_can_be_evaluated() {
    let rows: String = (0..60u64)
        .map(|i| format!("w,t,{},{},9\n", 1_000_000 + i * 50_000, 90_000_000 + i * 7919 % 61 * 300_000))
        .collect();
    let input = format!("workflow,task,input_bytes,peak_bytes,wall_seconds\n{rows}");
    let scores = json(&["backtest", "-", "--protocol", "--seeds", "3", "--format", "json"], &input);
    let ratio = scores["total"]["total_ratio"].as_f64().unwrap();
    assert!((0.99..2.0).contains(&ratio), "{ratio}");
    assert_eq!(scores["workflows"][0]["workflow"], "w");
    let arguments = ["backtest", "-", "--protocol", "--order", "small-first", "--format", "json"];
    let scores = json(&arguments, &input);
    assert_eq!(
        (&scores["tasks"][0]["outside"], &scores["tasks"][0]["seeds_warned"]),
        (&Value::from(40), &Value::from(1))
    );
}

#[test]
fn a_rule_that_cannot_be_read_is_a_usage_error() {
    let (status, _, stderr) = highwater(&["backtest", "-", "--rule", "max(8Gi, 2*m)"], &growing());
    assert_eq!(status, 2);
    assert!(stderr.contains("`2*m` is not a rule such as `1.5*n` or `2*n**2`"), "{stderr}");
}
