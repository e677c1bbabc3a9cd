//! Who is compared.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use highwater::model::selection::Selection;
use highwater::tree::{Options, Survey, survey};

use super::floor::{self, Found};

pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    /// The most of the floor's wall and CPU time.
    pub(crate) goal: Option<(f64, f64)>,
    /// How many rounds it takes part in.
    pub(crate) rounds: usize,
    /// What it found, where it says so.
    pub(crate) run: Box<dyn Fn() -> Option<Found>>,
    /// Something to say beside its times.
    pub(crate) note: Option<Box<dyn Fn() -> String>>,
}

/// What the contract says, for the same glob and the default regex.
const RGLOB: &str = "import sys, pathlib, re
root, regex = pathlib.Path(sys.argv[1]), re.compile('.*')
found = (p for p in root.rglob('*.dcm') if p.is_file() and regex.fullmatch(str(p.relative_to(root))))
sizes = [p.stat().st_size for p in found]
print(len(sizes), sum(sizes), max(sizes))";

impl Peer {
    fn new(name: &'static str, version: String, run: impl Fn() -> Option<Found> + 'static) -> Self {
        Self { name, version, goal: None, rounds: usize::MAX, run: Box::new(run), note: None }
    }

    fn goal(self, wall: f64, cpu: f64) -> Self {
        Self { goal: Some((wall, cpu)), ..self }
    }
}

/// The floor first, then ours, then the others; those that this machine lacks are named and skipped.
pub(crate) fn all(root: &Path) -> Vec<Peer> {
    let root = root.to_owned();
    let mut peers = vec![
        in_process(&root, "floor: getdents64 + fstatat", String::new(), floor::walk),
        in_process(&root, "control: two floors at once", String::new(), two_floors),
        ours(&root, "highwater, one thread", Ours::new(1)).goal(1.10, 1.10),
        ours(&root, "highwater, one thread, regex on the path", Ours::with_regex(1, r"(.*/)?im\d+\.dcm"))
            .goal(1.20, 1.20),
        ours(&root, "highwater, one thread, look-ahead on the path", Ours::with_regex(1, r"(?!.*/\.).*im\d+\.dcm")),
        ours(&root, "highwater, one thread, three rules", Ours::three_rules(1)),
        ours(&root, "highwater, two threads", Ours::new(2)).goal(0.62, 1.15),
        whole_program(&root),
        in_process(&root, "std read_dir", rustc(), std_read_dir),
        in_process(&root, "walkdir + glob + regex", locked("walkdir"), walkdir_glob_regex),
        in_process(&root, "ignore, two threads", locked("ignore"), ignore_two_threads),
        in_process(&root, "jwalk, two threads", locked("jwalk"), jwalk_two_threads),
    ];
    peers.extend(program(&root, "du -sb", "du", &["-sb"]));
    peers.extend(program(&root, "diskus -b -j 2", "diskus", &["-b", "-j", "2"]));
    peers.extend(
        program(&root, "Python: rglob, is_file, fullmatch, stat", "python3", &["-c", RGLOB])
            .map(|peer| Peer { rounds: 2, ..peer }),
    );
    peers
}

fn in_process(root: &Path, name: &'static str, version: String, walk: fn(&Path) -> Found) -> Peer {
    let root = root.to_owned();
    Peer::new(name, version, move || Some(walk(&root)))
}

/// highwater with its settings.
pub(crate) struct Ours {
    selections: Vec<Selection>,
    threads: NonZeroUsize,
}

impl Ours {
    pub(crate) fn new(threads: usize) -> Self {
        Self::with_regex(threads, ".*")
    }

    fn with_regex(threads: usize, regex: &str) -> Self {
        let selection = Selection::compile(None, Some("*.dcm"), Some(regex)).expect("the patterns are valid");
        Self { selections: vec![selection], threads: NonZeroUsize::new(threads).expect("at least one thread") }
    }

    fn three_rules(threads: usize) -> Self {
        let mut ours = Self::new(threads);
        for (glob, regex) in [("*", ".*"), ("series*/*.dcm", r".*[05]\.dcm")] {
            ours.selections.push(Selection::compile(None, Some(glob), Some(regex)).expect("the patterns are valid"));
        }
        ours
    }

    pub(crate) fn survey(&self, root: &Path) -> Survey {
        let options = Options { threads: Some(self.threads), ..Options::default() };
        survey(root, &self.selections, &options).expect("the tree can be read")
    }
}

fn ours(root: &Path, name: &'static str, ours: Ours) -> Peer {
    let root = root.to_owned();
    Peer::new(name, env!("CARGO_PKG_VERSION").to_owned(), move || {
        let totals = ours.survey(&root).totals.swap_remove(0);
        let max = totals.largest_file.map_or(0, |file| file.size.0);
        Some(Found { files: totals.files, sum: totals.sum.0, max })
    })
}

/// `highwater inputs`, started anew each time, with the peak of its memory.
fn whole_program(root: &Path) -> Peer {
    let arguments = |root: &Path| vec!["inputs".into(), root.to_owned(), "--glob=*.dcm".into(), "--threads=2".into()];
    let program = env!("CARGO_BIN_EXE_highwater");
    let (timed, root) = (root.to_owned(), root.to_owned());
    let run = move || {
        quiet(Command::new(program).args(arguments(&root)));
        None
    };
    let peak = move || peak_memory(program, &arguments(&timed));
    Peer {
        note: Some(Box::new(peak)),
        ..Peer::new("highwater inputs --threads 2", env!("CARGO_PKG_VERSION").to_owned(), run)
    }
}

/// A child inherits the high-water mark of a large parent: `time` is a small one.
fn peak_memory(program: &str, arguments: &[PathBuf]) -> String {
    let timed = Command::new("/usr/bin/time").args(["-f", "%M", program]).args(arguments).output();
    match timed {
        Ok(output) if output.status.success() => {
            let kib = String::from_utf8_lossy(&output.stderr).trim().parse().unwrap_or(u64::MAX);
            let verdict = if kib <= 8 * 1024 { "within" } else { "MISSED" };
            format!("peak {:.1} MiB: {verdict} 8 MiB", kib as f64 / 1024.0)
        }
        Ok(_) | Err(_) => "no /usr/bin/time to measure the peak with".to_owned(),
    }
}

fn two_floors(root: &Path) -> Found {
    thread::scope(|scope| {
        let other = scope.spawn(|| floor::walk(root));
        let found = floor::walk(root);
        assert_eq!(other.join().ok(), Some(found), "both found the same");
        found
    })
}

fn std_read_dir(root: &Path) -> Found {
    let mut found = Found::default();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder can be read") {
            let entry = entry.expect("a folder can be read");
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name().as_encoded_bytes().ends_with(b".dcm") {
                found.add(entry.metadata().expect("a file has a size").len());
            }
        }
    }
    found
}

fn walkdir_glob_regex(root: &Path) -> Found {
    let glob = glob::Pattern::new("*.dcm").expect("the glob is valid");
    let regex = regex::Regex::new(r"\A(?:.*)\z").expect("the regex is valid");
    let mut found = Found::default();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.expect("a folder can be read");
        let matches = |path: &str| glob.matches(path.rsplit('/').next().unwrap_or(path)) && regex.is_match(path);
        let relative = entry.path().strip_prefix(root).ok().and_then(Path::to_str);
        if entry.file_type().is_file() && relative.is_some_and(matches) {
            found.add(entry.metadata().expect("a file has a size").len());
        }
    }
    found
}

fn ignore_two_threads(root: &Path) -> Found {
    /// Adds its part to the whole when its thread is done with it.
    struct Part<'a>(Found, &'a Mutex<Found>);
    impl Drop for Part<'_> {
        fn drop(&mut self) {
            let mut whole = self.1.lock().expect("no thread panics");
            *whole = whole.merge(self.0);
        }
    }
    let whole = Mutex::new(Found::default());
    ignore::WalkBuilder::new(root).standard_filters(false).threads(2).build_parallel().run(|| {
        let mut part = Part(Found::default(), &whole);
        Box::new(move |entry| {
            // Moves the whole part in, not a copy of what it has found so far.
            let part = &mut part;
            let entry = entry.expect("a folder can be read");
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            if is_file && entry.file_name().as_encoded_bytes().ends_with(b".dcm") {
                part.0.add(entry.metadata().expect("a file has a size").len());
            }
            ignore::WalkState::Continue
        })
    });
    whole.into_inner().expect("no thread panics")
}

fn jwalk_two_threads(root: &Path) -> Found {
    let sized = jwalk::WalkDirGeneric::<((), Option<u64>)>::new(root)
        .skip_hidden(false)
        .parallelism(jwalk::Parallelism::RayonNewPool(2))
        .process_read_dir(|_, _, (), entries| {
            for entry in entries.iter_mut().flatten() {
                let is_file = entry.file_type.is_file() && entry.file_name.as_encoded_bytes().ends_with(b".dcm");
                entry.client_state = is_file.then(|| entry.metadata().expect("a file has a size").len());
            }
        });
    let mut found = Found::default();
    sized.into_iter().flatten().filter_map(|entry| entry.client_state).for_each(|size| found.add(size));
    found
}

/// A program that is found on the `PATH`, or in the directory that `HIGHWATER_BENCH_PEERS` names.
fn program(root: &Path, name: &'static str, program: &'static str, arguments: &'static [&str]) -> Option<Peer> {
    let beside = std::env::var_os("HIGHWATER_BENCH_PEERS").map(|folder| PathBuf::from(folder).join(program));
    let program = beside.filter(|path| path.exists()).unwrap_or_else(|| program.into());
    let Ok(answer) = Command::new(&program).arg("--version").output() else {
        println!("{name}: left out, {} is not installed", program.display());
        return None;
    };
    let version = String::from_utf8_lossy(&answer.stdout).lines().next().unwrap_or_default().to_owned();
    let root = root.to_owned();
    Some(Peer::new(name, version, move || {
        quiet(Command::new(&program).args(arguments).arg(&root));
        None
    }))
}

fn quiet(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().expect("the program starts");
    assert!(status.success(), "{command:?} ended with {status}");
}

fn rustc() -> String {
    let version = Command::new("rustc").arg("--version").output();
    version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The version of a dependency as `Cargo.lock` has it.
fn locked(name: &str) -> String {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let lock = include_str!("../../Cargo.lock");
    let version = lock.split_once(&entry).and_then(|(_, rest)| rest.split_once('"'));
    version.map(|(version, _)| version.to_owned()).unwrap_or_default()
}
