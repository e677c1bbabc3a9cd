//! What recording costs: appending to a record that gets long, and going on with one that is.
//!
//! To be kept: going on with 100,000 records starts in less than 1 s; the last thousand of 100,000 is appended as fast as
//! the first. Beside them the least there is: as many bytes, appended and synced; as many bytes, read.
//!
//! `cargo bench --bench store` appends 100,000 lines without waiting for the disk, then 1,000 as a sweep does;
//! `cargo bench --bench store -- --synced` waits for each of them.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark that cannot run says why and ends")]

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use highwater::model::observation::{Exactness, Observation, Peak, PeakSource, SweepRun};
use highwater::model::reading::Reading;
use highwater::model::timestamp::Timestamp;
use highwater::model::units::Bytes;
use highwater::store::{Folder, OBSERVATIONS, index, read};

const RECORDS: u32 = 100_000;
const PLAN: &str = "{\"schema_version\":1}";

/// A run as sweeps record them, from the records that are kept for tests.
fn observed(like: &Observation, number: u32) -> Observation {
    let exactness = Exactness::Exact { error_bound_bytes: Bytes(4096) };
    let bytes = Bytes(100_000_000 + u64::from(number));
    let (cell, run) = (format!("{:08x}", number / 10), number % 10 + 1);
    let mut observation = like.clone();
    observation.sweep = Some(SweepRun::new(cell, "4 items", run));
    observation.peak = Reading::Value(Peak::new(bytes, PeakSource::OwnCgroup, exactness));
    observation.started_at = Timestamp::UNIX_EPOCH;
    observation
}

fn append(folder: &mut Folder, like: &Observation, numbers: std::ops::Range<u32>) -> Duration {
    let lines: Vec<Observation> = numbers.map(|number| observed(like, number)).collect();
    let start = Instant::now();
    lines.iter().for_each(|line| folder.append(line).expect("a line is appended"));
    start.elapsed()
}

/// As many bytes by a program that knows nothing of records.
fn peer(path: &Path, line: &str, count: u32) -> Duration {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
    let start = Instant::now();
    for _ in 0..count {
        file.write_all(line.as_bytes()).expect("written");
        file.sync_data().expect("synced");
    }
    start.elapsed()
}

fn main() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/records/v1");
    let like = read(&fixtures).expect("the records of the tests").observations.remove(0);
    let above = tempfile::tempdir().expect("a temporary folder");
    let path = above.path().join("sweep");
    let record = path.join(OBSERVATIONS);
    let synced = std::env::args().any(|argument| argument == "--synced");
    let mut folder = Folder::create(&path, PLAN).expect("a folder");
    let line = serde_json::to_string(&observed(&like, 0)).expect("a line") + "\n";
    let thousand = 1000;
    println!("a line has {} bytes", line.len());

    // The disk is not the same from one second to the next: each is measured next to its peer.
    let plain = peer(&above.path().join("plain"), &line, thousand);
    let first = append(&mut folder, &like, 0..thousand);
    if synced {
        append(&mut folder, &like, thousand..RECORDS - thousand);
    } else {
        drop(folder);
        let mut file = BufWriter::new(OpenOptions::new().append(true).open(&record).expect("the record"));
        for number in thousand..RECORDS - thousand {
            serde_json::to_writer(&mut file, &observed(&like, number)).expect("a line");
            file.write_all(b"\n").expect("a line");
        }
        file.into_inner().expect("all lines").sync_all().expect("synced");
        folder = Folder::open(&path).expect("the folder");
    }
    let plain_again = peer(&above.path().join("plain"), &line, thousand);
    let last = append(&mut folder, &like, RECORDS - thousand..RECORDS);
    let (ratio, plain_ratio) =
        (last.as_secs_f64() / first.as_secs_f64(), plain_again.as_secs_f64() / plain.as_secs_f64());
    println!(
        "first thousand lines  {first:9.1?}   {:.2} x plain, synced appends",
        first.as_secs_f64() / plain.as_secs_f64()
    );
    println!("last thousand lines   {last:9.1?}   {:.2} x plain", last.as_secs_f64() / plain_again.as_secs_f64());
    println!("last to first         {ratio:9.2}   plain: {plain_ratio:.2}");
    drop(folder);

    let mut fastest = [Duration::MAX; 3];
    for _ in 0..5 {
        let start = Instant::now();
        let mut bytes = Vec::new();
        File::open(&record).and_then(|mut file| file.read_to_end(&mut bytes)).expect("the record");
        fastest[0] = fastest[0].min(start.elapsed());
        drop(bytes);
        let start = Instant::now();
        assert_eq!(index(&record).expect("the index").recorded.len(), RECORDS as usize);
        fastest[1] = fastest[1].min(start.elapsed());
        let start = Instant::now();
        let folder = Folder::open(&path).expect("the folder");
        assert_eq!(folder.recorded().len(), RECORDS as usize);
        fastest[2] = fastest[2].min(start.elapsed());
    }
    let [plain, index, open] = fastest;
    let mebibytes = std::fs::metadata(&record).map(|record| record.len() >> 20).unwrap_or_default();
    println!("{RECORDS} records, {mebibytes} MiB");
    println!("reading the file      {plain:9.1?}");
    println!("index                 {index:9.1?}");
    println!("resume starts in      {open:9.1?}   {:.1} x reading the file", open.as_secs_f64() / plain.as_secs_f64());
    assert!(open < Duration::from_secs(1), "resuming takes too long");
}
