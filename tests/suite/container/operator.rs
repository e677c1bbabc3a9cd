//! Operators of Kaapana, from a batch to the memory in their Python files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{containers_with, highwater, text};
use crate::operators::OPERATOR;

/// Every path below a directory, with the bytes of the files.
fn all(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all(&path));
        }
        found.insert(path.clone(), std::fs::read(path).ok());
    }
    found
}

#[test]
fn an_operator_that_writes_into_its_input_is_calibrated_in_three_commands() {
    engine_or_skip!();
    let bench = crate::process::folder_on_a_disk();
    // Not in the order of their names, and not as large as the sum of those before.
    for (item, mib) in [("a", 8), ("b", 20), ("c", 9), ("d", 44), ("e", 26), ("f", 36)] {
        let input = bench.path().join("batch").join(item).join("scans");
        std::fs::create_dir_all(&input).unwrap();
        std::fs::write(input.join("ct.raw"), vec![7_u8; mib << 20]).unwrap();
    }
    let python = bench.path().join("SegmentOperator.py");
    let old = OPERATOR.replace("ram_mem_mb=500,", "ram_mem_mb=50,");
    std::fs::write(&python, &old).unwrap();
    let batch = all(&bench.path().join("batch"));
    let done = |words: &str| {
        let output = highwater().current_dir(bench.path()).args(words.split(' ')).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words}: {}", text(&output.stderr));
        text(&output.stdout) + &text(&output.stderr)
    };
    done("operator batch --in-dir scans --out-dir masks --image operator --name segment -o task.json");
    // Without private input, it fails and changes nothing.
    let mut read_only = highwater();
    read_only.current_dir(bench.path()).args(["run", "task.json", "--pull", "never", "--network", "none"]);
    let refused = text(&read_only.output().unwrap().stderr);
    assert!(refused.contains("Read-only file system"), "{refused}");
    done(
        "sweep task.json --input-access private --items 1,2,3,4,5,6 --pick smallest -r 3 --pull never --network none \
         --label of=operator",
    );
    let said = done("fit segment.sweep --write SegmentOperator.py");
    assert!(said.contains("where n is max_item_sum of batch in scans"), "{said}");
    let new = std::fs::read_to_string(&python).unwrap();
    let number = |name: &str| -> u64 {
        let pattern = regex::Regex::new(&format!("{name}=([0-9]+),")).unwrap();
        pattern.captures(&new).unwrap()[1].parse().unwrap()
    };
    // It needs four times its largest item, which has 44 MiB. The request is that for the median of the inputs.
    let (request, limit) = (number("ram_mem_mb"), number("ram_mem_mb_lmt"));
    assert!((80..140).contains(&request) && (176..210).contains(&limit), "{new}");
    let changed = format!("ram_mem_mb={request},  # a guess\n            ram_mem_mb_lmt={limit},\n");
    assert_eq!(new.replace(&changed, "ram_mem_mb=50,  # a guess\n"), old);
    for line in [
        "-            ram_mem_mb=50,  # a guess".to_owned(),
        format!("+            ram_mem_mb={request},  # a guess"),
        format!("+            ram_mem_mb_lmt={limit},"),
    ] {
        assert!(said.contains(&format!("\n{line}\n")), "{line} in {said}");
    }
    assert_eq!(all(&bench.path().join("batch")), batch);
    assert!(!bench.path().join("segment.sweep/staging").exists());
    assert_eq!(containers_with("of=operator"), "");
}
