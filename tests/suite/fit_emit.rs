//! `highwater fit --emit`: the output for other programs, read by those programs or similar ones.

use std::process::Command;

use super::fit_records::{Records, growing, run};

fn emitted(name: &str, arguments: &[&str]) -> String {
    let (status, stdout, stderr) = Records::growing(1.8).fit(&[&["--emit", name], arguments].concat());
    assert_eq!(status, 0, "{stderr}");
    stdout
}

/// The output of Python; `None` with a message without Python.
pub(crate) fn python(program: &str, arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new("python3").arg("-c").arg(program).args(arguments).output() else {
        crate::harness::skip("there is no python3");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn every_emitter_has_its_form() {
    for name in ["task-api", "kaapana-operator", "plato", "kubernetes", "nextflow", "snakemake", "slurm", "docker"] {
        insta::assert_snapshot!(format!("emit_{name}"), emitted(name, &["--for-size", "20Gi"]));
    }
    insta::assert_snapshot!("emit_task-api_scale-factor", emitted("task-api", &["--dialect", "scale-factor"]));
}

#[test]
fn those_who_cannot_scale_say_what_the_amount_is_for() {
    let (status, _, stderr) = Records::growing(1.8).fit(&["--emit", "slurm", "--for-size", "20Gi"]);
    assert_eq!(status, 0);
    assert!(stderr.contains("slurm cannot scale with the input: the amount is for inputs of up to 20 GiB"), "{stderr}");
    assert!(stderr.contains("times the largest measured input; the result is extrapolated"), "{stderr}");
    let (_, _, stderr) = Records::growing(1.8).fit(&["--emit", "nextflow"]);
    assert!(!stderr.contains("cannot scale"), "{stderr}");
}

#[test]
fn kubernetes_gets_yaml() {
    let program = "import sys, yaml; r = yaml.safe_load(sys.argv[1])['resources']; print(sorted(r), r['limits']['memory'], r['requests']['memory'])";
    if Command::new("python3").args(["-c", "import yaml"]).output().is_ok_and(|output| !output.status.success()) {
        crate::harness::skip("Python has no yaml");
        return;
    }
    let Some(said) = python(program, &[&emitted("kubernetes", &[])]) else { return };
    let amounts: Vec<u64> = said
        .trim_start_matches("['limits', 'requests'] ")
        .split(' ')
        .map(|amount| amount.strip_suffix("Mi").unwrap().parse().unwrap())
        .collect();
    assert!(amounts[0] >= amounts[1] && amounts[1] > 100, "{said}");
}

#[test]
fn plato_gets_xml() {
    let program = "import sys, xml.etree.ElementTree as e; r = e.fromstring(sys.argv[1]); print(r.tag, [(c.tag, float(c.text)) for c in r])";
    let Some(said) = python(program, &[&emitted("plato", &[])]) else { return };
    let memory = said.strip_prefix("resourceRequirements [('cpu', 1.0), ('gpu', 0.0), ('memory_gb', ").unwrap();
    let memory: f64 = memory.trim_end_matches(")]").parse().unwrap();
    assert!((7.4..8.4).contains(&memory), "{said}");
}

#[test]
fn snakemake_gets_a_function_that_gives_what_the_rule_does() {
    let function = emitted("snakemake", &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep/scan.nii");
    std::fs::create_dir(folder.path().join("deep")).unwrap();
    for n in [1000_u64, 2_000_000_000] {
        std::fs::File::create(&file).unwrap().set_len(n).unwrap();
        let program = format!(
            "{function}\nimport sys\nfile, folder = sys.argv[1:]\nprint(mem_mb(None, [file], 1), mem_mb(None, [folder], 1), mem_mb(None, file, 2))"
        );
        let Some(said) = python(&program, &[file.to_str().unwrap(), folder.path().to_str().unwrap()]) else { return };
        let for_size = Records::growing(1.8).json(&["--for-size", &n.to_string()]);
        let megabytes = for_size["for_sizes"][0]["limit"].as_u64().unwrap().div_ceil(1_000_000);
        assert_eq!(said, format!("{megabytes} {megabytes} {}", 2 * megabytes));
    }
}

#[test]
fn a_floor_alone_needs_no_function_of_the_input() {
    let steady = Records::new(growing(1.8).map(|(n, peak)| run(n, 700_000_000 + peak % 1_000_000)));
    for (name, expected) in [("snakemake", "return 7"), ("nextflow", "memory { 6"), ("slurm", "--mem=6")] {
        let (status, stdout, stderr) = steady.fit(&["--emit", name]);
        assert_eq!(status, 0, "{stderr}");
        assert!(stdout.contains(expected), "{stdout}");
    }
}

#[test]
fn docker_takes_its_option() {
    let text = emitted("docker", &[]);
    let memory = regex::Regex::new(r"(?m)^--memory=\d+m --memory-swap=\d+m --memory-reservation=\d+m$").unwrap();
    assert!(memory.is_match(&text), "{text}");
}

#[test]
fn a_python_function_call_takes_kaapanas_arguments() {
    let program = format!(
        "def operator(ram_mem_mb, ram_mem_mb_lmt): print(ram_mem_mb <= ram_mem_mb_lmt)\noperator(\n{})",
        emitted("kaapana-operator", &[])
    );
    let Some(said) = python(&program, &[]) else { return };
    assert_eq!(said, "True");
}
