//! Checks in the sources which modules may use which, and which may access the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// The rooms of the library, and the rooms each may look into.
const MAY_KNOW: [(&str, &[&str]); 9] = [
    ("model", &[]),
    ("directory", &[]),
    ("stats", &["model"]),
    ("host", &["model"]),
    ("tree", &["model"]),
    ("store", &["model", "directory"]),
    ("report", &["model"]),
    ("runner", &["model", "directory", "host"]),
    ("calibrate", &["model", "directory", "stats", "host", "tree", "runner", "store", "report"]),
];

/// Where files, processes and sockets may be used; elsewhere only in tests.
const MAY_TOUCH: [&str; 11] = [
    "directory",
    "host",
    "tree",
    "runner",
    "store",
    "calibrate/resolve",
    "calibrate/check/bench",
    "calibrate/check/revision",
    "calibrate/workload",
    "calibrate/sweep",
    "cli",
];

/// Patterns of using them.
const TOUCHING: &str = r"(?x)
    \b std :: (fs|net|process) \b
    | \b unix :: (net|fs) \b
    | \b tokio :: (fs|net|process) \b
    | \b (bollard|procfs) ::
    | \b nix :: (fcntl|mount|dir|sys :: (socket|stat)) \b
    | \b (File|OpenOptions|Command|TcpStream|UnixStream) :: \w";

#[test]
fn modules_know_only_whom_they_may_know() {
    let allowed = BTreeMap::from(MAY_KNOW);
    let mut complaints = Vec::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        let Some(may_know) = allowed.get(room) else {
            complaints.push(format!("{}: no rule for the room `{room}`: give it one in {}", source.path, file!()));
            continue;
        };
        for (line, known) in source.knows() {
            if known != room && allowed.contains_key(known.as_str()) && !may_know.contains(&known.as_str()) {
                let list = if may_know.is_empty() { "nothing of ours".to_owned() } else { may_know.join(", ") };
                complaints
                    .push(format!("{}:{line}: `{room}` must not know `{known}`; it may know {list}", source.path));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Circles of imports between neighbours that are there for a reason.
const CIRCLES: [&str; 1] = [
    // A note on a process names the containers started beside it, reading an image's document takes a container, and a
    // container's cgroup is read as that of a process.
    "runner: container, engine, process",
];

/// Neighbours are the modules of one directory, each with what is below it. Their parent may use all of them, and they
/// may use their parent.
#[test]
fn neighbours_do_not_use_each_other_in_circles() {
    let sources = sources();
    let modules = modules(&sources);
    // What each neighbour uses, by parent.
    let mut uses: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for source in &sources {
        let user = source.modules();
        for used in source.uses(&modules) {
            let common = user.iter().zip(&used).take_while(|(a, b)| a == b).count();
            if let (Some(user), Some(neighbour)) = (user.get(common), used.get(common)) {
                let neighbours = uses.entry(used[..common].to_vec()).or_default();
                neighbours.entry((*user).to_owned()).or_default().insert(neighbour.clone());
            }
        }
    }
    let circles: Vec<String> = uses
        .iter()
        .flat_map(|(parent, neighbours)| {
            circles(neighbours).into_iter().map(|circle| format!("{}: {}", parent.join("/"), circle.join(", ")))
        })
        .filter(|circle| !CIRCLES.contains(&circle.as_str()))
        .collect();
    assert!(circles.is_empty(), "\n{}\nmove what both use into a module of its own\n", circles.join("\n"));
}

#[test]
fn a_circle_is_found_however_it_is_imported() {
    let sources = [
        Source::new("src/model/a.rs", "use super::{b::{self, B}, c};\nuse super::super::host;\n"),
        Source::new("src/model/a/deep.rs", "use crate::model::{d, e::E as _};\n"),
        Source::new("src/model/b.rs", "fn f() { crate::model::a::deep::g() }\n"),
        Source::new("src/model/c.rs", "use self::own::Own;\n"),
        Source::new("src/model/d.rs", ""),
        Source::new("src/model/e.rs", ""),
    ];
    let modules = modules(&sources);
    let used = |index: usize| sources[index].uses(&modules).iter().map(|used| used.join("/")).collect::<Vec<_>>();
    assert_eq!(
        [used(0), used(1), used(2)],
        [vec!["model/b", "model/c"], vec!["model/d", "model/e"], vec!["model/a/deep"]]
    );
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let neighbours = [("a", names(&["b", "d"])), ("b", names(&["c"])), ("c", names(&["a"])), ("d", names(&[]))];
    let neighbours = neighbours.into_iter().map(|(user, used)| (user.to_owned(), used)).collect();
    assert_eq!(circles(&neighbours), BTreeSet::from([["a", "b", "c"].map(str::to_owned).to_vec()]));
}

/// The modules, from the root of the crate.
fn modules(sources: &[Source]) -> BTreeSet<Vec<String>> {
    sources.iter().map(|source| source.modules().into_iter().map(str::to_owned).collect()).collect()
}

/// The groups of modules that all use each other, directly or not.
fn circles(uses: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let reached = |from: &String| {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&String> = uses.get(from).into_iter().flatten().collect();
        while let Some(name) = next.pop() {
            if reached.insert(name) {
                next.extend(uses.get(name).into_iter().flatten());
            }
        }
        reached
    };
    let reached: BTreeMap<&String, BTreeSet<&String>> = uses.keys().map(|name| (name, reached(name))).collect();
    let in_circle = reached.iter().filter(|(name, others)| others.contains(*name));
    in_circle
        .map(|(name, others)| {
            let back = others.iter().filter(|other| reached.get(**other).is_some_and(|others| others.contains(name)));
            back.map(|name| (*name).clone()).collect()
        })
        .collect()
}

#[test]
fn files_processes_and_sockets_are_touched_only_where_they_belong() {
    let touching = Regex::new(TOUCHING).unwrap();
    let mut complaints = Vec::new();
    for source in sources() {
        let place = source.path.trim_start_matches("src/").trim_end_matches(".rs");
        let belongs = |room: &str| place == room || place.starts_with(&format!("{room}/"));
        if source.room().is_none() || MAY_TOUCH.iter().any(|room| belongs(room)) {
            continue;
        }
        for found in touching.find_iter(&source.code) {
            complaints.push(format!(
                "{}:{}: `{}` is not for `{place}`",
                source.path,
                source.line(found.start()),
                found.as_str()
            ));
        }
    }
    let places = MAY_TOUCH.join(", ");
    assert!(complaints.is_empty(), "\n{}\nthe machine is touched in {places} only\n", complaints.join("\n"));
}

#[test]
fn the_binary_knows_no_kernel_file_no_engine_and_no_format_of_records() {
    let known = Regex::new(
        r#""/(proc|sys)/|\b(bollard|tokio|hyper|procfs)::|\b(Unix|Tcp)(Stream|Listener)\b|serde_json::from_\w+::<Observation"#,
    )
    .unwrap();
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/cli")) {
        for found in known.find_iter(&source.code) {
            complaints.push(format!("{}:{}: `{}`", source.path, source.line(found.start()), found.as_str()));
        }
    }
    assert!(complaints.is_empty(), "\n{}\nthe library has functions for that\n", complaints.join("\n"));
}

#[test]
fn the_library_neither_prints_nor_exits() {
    let forbidden = Regex::new(r"\bprocess::(exit|abort)\b|\be?print(ln)?!").unwrap();
    let mut complaints = Vec::new();
    // A separate program, built by build.rs.
    let is_program = |source: &Source| source.path == "src/runner/probe/program.rs";
    for source in sources().iter().filter(|source| source.room().is_some() && !is_program(source)) {
        for found in forbidden.find_iter(&source.code) {
            complaints.push(format!("{}:{}: `{}`", source.path, source.line(found.start()), found.as_str()));
        }
    }
    assert!(complaints.is_empty(), "\n{}\nonly the binary talks and ends the program\n", complaints.join("\n"));
}

#[test]
fn public_items_name_no_type_of_a_library_that_only_the_inside_needs() {
    let imported = Regex::new(r"\buse (nix|jiff|procfs|bollard|tokio|hyper)::[^;]*;").unwrap();
    let name = Regex::new(r"\b[A-Z]\w*").unwrap();
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.room().is_some()) {
        let mut foreign = vec![r"(?:nix|jiff|procfs|bollard|tokio|hyper)::".to_owned()];
        for import in imported.find_iter(&source.code) {
            foreign.extend(name.find_iter(import.as_str()).map(|name| format!(r"{}\b", name.as_str())));
        }
        let foreign = Regex::new(&format!(r"\b(?:{})", foreign.join("|"))).unwrap();
        for (at, item) in source.public_items() {
            if let Some(found) = foreign.find(item) {
                complaints.push(format!("{}:{}: `{}`", source.path, source.line(at + found.start()), found.as_str()));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}\nthe model has types for that\n", complaints.join("\n"));
}

#[test]
fn imports_are_understood_however_they_are_written() {
    let source = Source::new(
        "src/model/rule/parse.rs",
        "use crate::{host::{self, files}, tree};\nuse super::super::super::store::Record;\nuse super::super::units::Bytes;\n\
         // use crate::report;\nfn f() -> crate::runner::Run {}\n#[cfg(test)]\nmod tests {\n    use crate::calibrate;\n}\n",
    );
    let known: Vec<_> = source.knows().into_iter().filter(|(_, name)| name != "units").collect();
    let expected = [(1, "host"), (1, "tree"), (5, "runner"), (2, "store")];
    assert_eq!(known, expected.map(|(line, name)| (line, name.to_owned())));
}

/// A source file without its comments and tests; the remaining code keeps its lines.
struct Source {
    path: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
        let code = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
        Self { path: path.to_owned(), code }
    }

    /// The path of this module from the root of the crate.
    fn modules(&self) -> Vec<&str> {
        self.path.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect()
    }

    /// The top-level module it is in; `None` for the roots of library and binary, which name all modules, and for the
    /// binary.
    fn room(&self) -> Option<&str> {
        let room = *self.modules().first()?;
        (!["lib", "main", "cli"].contains(&room)).then_some(room)
    }

    /// The modules that are imported or named by a path from `crate`, `self` or `super`.
    fn uses(&self, modules: &BTreeSet<Vec<String>>) -> BTreeSet<Vec<String>> {
        static IMPORT: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\buse\s+((?:crate|self|super)::[^;]+);").unwrap());
        static NAMED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(?:crate|self|super)(?:::\w+)+").unwrap());
        let imported = IMPORT.captures_iter(&self.code).flat_map(|found| paths(&found[1]));
        let named = NAMED.find_iter(&self.code).flat_map(|found| paths(found.as_str()));
        imported.chain(named).filter_map(|path| self.module_of(path, modules)).collect()
    }

    /// The module that a path leads into.
    fn module_of(&self, path: Vec<String>, modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
        let mut at: Vec<String> = self.modules().into_iter().map(str::to_owned).collect();
        for step in path {
            match step.as_str() {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" => {}
                _ => at.push(step),
            }
        }
        while !at.is_empty() && !modules.contains(&at) {
            at.pop();
        }
        (!at.is_empty()).then_some(at)
    }

    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// What a user of the library sees: signatures of functions, fields, and the variants of enums.
    fn public_items(&self) -> Vec<(usize, &str)> {
        let all = |text, pattern: &str| -> Vec<(usize, &str)> {
            let pattern = Regex::new(pattern).unwrap();
            let found = pattern.find_iter(text).collect::<Vec<regex::Match<'_>>>();
            found.into_iter().map(|found| (found.start(), found.as_str())).collect()
        };
        let mut items =
            all(&self.code, r"\bpub (?:const |async |unsafe )*fn [^{;]*|\bpub \w+: [^\n]*|\bpub type [^;]*");
        items.extend(all(&self.code, r"(?m)^pub enum [^{]*\{(?s:.*?)\n\}|[(,]\s*pub [A-Z][^,)]*"));
        for (start, body) in all(&self.code, r"(?m)^pub trait [^{]*\{(?s:.*?)\n\}") {
            items.extend(all(body, r"\bfn [^{;]*").into_iter().map(|(at, item)| (start + at, item)));
        }
        items
    }

    /// The top-level names that are used, with their lines.
    fn knows(&self) -> Vec<(usize, String)> {
        let from_root = Regex::new(r"\bcrate::(\w+|\{[^;]*\})").unwrap();
        let upwards = Regex::new(r"\b((?:super::)+)(\w+|\{[^;]*\})").unwrap();
        let depth = self.modules().len();
        let rooted = from_root.captures_iter(&self.code).filter_map(|found| found.get(1));
        let climbed = upwards
            .captures_iter(&self.code)
            .filter(|found| found[1].matches("super::").count() >= depth)
            .filter_map(|found| found.get(2));
        rooted
            .chain(climbed)
            .flat_map(|found| first_names(found.as_str()).into_iter().map(move |name| (found.start(), name)))
            .map(|(at, name)| (self.line(at), name))
            .collect()
    }
}

/// The paths of an import: `[a, b]` and `[a, c]` of `a::{b, c}`.
fn paths(tree: &str) -> Vec<Vec<String>> {
    fn steps(path: &str) -> impl Iterator<Item = String> {
        path.split("::").map(|step| step.split(" as ").next().unwrap_or(step).trim().to_owned())
    }
    let Some((above, group)) = tree.split_once('{') else { return vec![steps(tree).collect()] };
    let above: Vec<String> = steps(above).filter(|step| !step.is_empty()).collect();
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let below = split(group).into_iter().flat_map(paths);
    below.map(|below| above.iter().cloned().chain(below).collect()).collect()
}

/// `a` of `a`; `a` and `c` of `{a::{b, d}, c}`.
fn first_names(tree: &str) -> Vec<String> {
    let Some(group) = tree.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return vec![tree.to_owned()];
    };
    let names = split(group).into_iter().filter_map(|part| part.split("::").next());
    names.map(str::to_owned).collect()
}

/// The parts between the commas that are in no inner group.
fn split(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = group.split(|letter| {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join("src"), &mut paths);
    assert!(paths.len() > 5, "the sources were not found below {}", root.display());
    paths.sort();
    paths
        .iter()
        .map(|path| Source::new(path.strip_prefix(root).unwrap().to_str().unwrap(), &fs::read_to_string(path).unwrap()))
        .collect()
}
