//! PLATO's registry of task types: which containers there are, what each requests, and which tasks run in which.
//!
//! A container runs one task at a time, so it requests what its largest task needs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use roxmltree::{Document, Node, ParsingOptions};

use super::document::Edited;
use super::problem::{Flawed, Problem, Severity};
use super::spelling::{nearest, quote};
use super::units::Bytes;

/// The most elements, attributes and texts of a file.
const MOST_NODES: u32 = 100_000;
const ROOT: &str = "task_type_registry";
/// The element with the memory of a container, in GiB: the platform multiplies it by 1024 Mi.
const MEMORY: &str = "memory_gb";
/// The name that stands for all containers.
const ALL: &str = "all";
const GIB: u64 = 1 << 30;
/// The most problems for which a similar name is looked for.
const MOST_GUESSES: usize = 20;

/// A registry of task types.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry {
    name: String,
    text: String,
    containers: Vec<Container>,
    tasks: Vec<TaskType>,
    warnings: Vec<Problem>,
}

/// A container of the registry.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The memory that it requests, which is also its limit.
    pub memory: Bytes,
    /// The text of the amount.
    span: Range<usize>,
}

/// A type of tasks.
#[derive(Clone, Debug, PartialEq)]
struct TaskType {
    name: String,
    /// The names of its containers, with their places.
    containers: Vec<(String, Range<usize>)>,
}

impl TaskType {
    fn runs_in(&self, container: &str) -> bool {
        self.containers.iter().any(|(name, _)| name == container || name == ALL)
    }
}

impl Registry {
    /// Whether a path is that of an XML file.
    pub fn is_at(path: &std::path::Path) -> bool {
        path.extension().is_some_and(|extension| extension == "xml")
    }

    /// Reads a registry.
    ///
    /// # Errors
    /// If it is not XML, is not a registry, or is one that the platform could not use.
    pub fn read(name: &str, text: &str) -> Result<Self, Flawed> {
        let flawed = |problems| Flawed::new(name, text, problems);
        let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text, options).map_err(|error| {
            let at = place(text, error.pos());
            let problem = Problem::error("xml", format!("failed to read the XML: {error}")).at(at);
            flawed(vec![problem.help("the whole file has to be well-formed, without a DTD")])
        })?;
        let root = document.root_element();
        if !root.has_tag_name(ROOT) {
            let found = quote(root.tag_name().name());
            let problem = Problem::error("not-a-registry", format!("the root element is {found}")).at(tag(&root));
            return Err(flawed(vec![problem.label(format!("expected `{ROOT}`"))]));
        }
        let mut reader = Reader::default();
        let (containers, tasks) = (reader.containers(&root), reader.tasks(&root));
        reader.check_names(&containers, &tasks);
        if reader.problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(flawed(reader.problems));
        }
        Ok(Self { name: name.to_owned(), text: text.to_owned(), containers, tasks, warnings: reader.problems })
    }

    /// Its containers, in the order of the file.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// The memory of a container, or of a task: a task may run in any of its containers, so it has the memory of the
    /// smallest. A container comes before a task of the same name.
    ///
    /// # Errors
    /// If there is neither.
    pub fn memory(&self, name: &str) -> Result<Bytes, Flawed> {
        let named = self.containers.iter().find(|container| container.name == name).map(|container| container.memory);
        let memory = named.or_else(|| self.memory_of(self.tasks.iter().find(|task| task.name == name)?));
        memory.ok_or_else(|| {
            let tasks = self.tasks.iter().map(|task| task.name.as_str());
            let names = self.containers.iter().map(|container| container.name.as_str()).chain(tasks);
            let message = format!("the registry has neither a container nor a task {}", quote(name));
            let problem = Problem::error("unknown-name", message);
            let help = nearest(name, names).map_or_else(
                || "name one, as in task_type_registry.xml::NAME".to_owned(),
                |meant| format!("did you mean {}?", quote(meant)),
            );
            Flawed::new(&self.name, &self.text, vec![problem.help(help)])
        })
    }

    /// The names of its tasks, each with the memory of its smallest container.
    pub fn tasks(&self) -> impl Iterator<Item = (&str, Bytes)> {
        self.tasks.iter().filter_map(|task| Some((task.name.as_str(), self.memory_of(task)?)))
    }

    fn memory_of(&self, task: &TaskType) -> Option<Bytes> {
        let containers = self.containers.iter().filter(|container| task.runs_in(&container.name));
        containers.map(|container| container.memory).min()
    }

    /// What is suspicious in it.
    pub fn lint(&self) -> Option<Flawed> {
        (!self.warnings.is_empty()).then(|| Flawed::new(&self.name, &self.text, self.warnings.clone()))
    }

    /// The registry with the memory that these tasks need; the need of some may be unclear. A container gets the largest
    /// need of its tasks, those of all containers included. It gets less than it has only if the needs of all of them are
    /// known. Everything else in the file stays.
    ///
    /// # Errors
    /// If it does not have one of the tasks.
    pub fn with_needs(&self, needs: &[(String, Option<Bytes>)]) -> Result<Edited, Flawed> {
        let (mut largest, mut unclear) = (BTreeMap::<&str, Bytes>::new(), BTreeSet::new());
        for (task, need) in needs {
            if !self.tasks.iter().any(|known| known.name == *task) {
                return Err(Flawed::new(&self.name, &self.text, vec![self.unknown(task)]));
            }
            match need {
                Some(need) => {
                    let known = largest.entry(task).or_default();
                    *known = (*known).max(*need);
                }
                None => drop(unclear.insert(task.as_str())),
            }
        }
        let (mut text, mut notes) = (self.text.clone(), Vec::new());
        for container in self.containers.iter().rev() {
            let tasks = self.tasks.iter().filter(|task| task.runs_in(&container.name));
            let measured = tasks.filter_map(|task| Some((largest.get(task.name.as_str())?, &task.name)));
            let Some((need, task)) = measured.max() else { continue };
            let may_need_more = |task: &&TaskType| {
                let name = task.name.as_str();
                task.runs_in(&container.name) && (unclear.contains(name) || !largest.contains_key(name))
            };
            let missing: Vec<String> = self.tasks.iter().filter(may_need_more).map(|task| quote(&task.name)).collect();
            if *need < container.memory && !missing.is_empty() {
                notes.push(format!(
                    "kept {} of {}, although {} needs {need}: {} also runs {}, whose {} not known",
                    container.memory,
                    quote(&container.name),
                    quote(task),
                    quote(&container.name),
                    missing.join(", "),
                    if missing.len() == 1 { "need is" } else { "needs are" }
                ));
                continue;
            }
            notes.push(format!("{} gets what {} needs, {need}", quote(&container.name), quote(task)));
            text.replace_range(container.span.clone(), &gib(*need));
        }
        notes.reverse();
        Ok(Edited { text, notes })
    }

    fn unknown(&self, task: &str) -> Problem {
        let names = self.tasks.iter().map(|known| known.name.as_str());
        let problem = Problem::error("unknown-task", format!("the registry has no task {}", quote(task)));
        match nearest(task, names) {
            Some(meant) => problem.help(format!("name the runs as the registry does; did you mean {}?", quote(meant))),
            None => problem.help("add the task to the registry, or name the runs as the registry does"),
        }
    }
}

/// An amount as a registry has it: gibibytes with at most two decimals, rounded up.
pub fn gib(amount: Bytes) -> String {
    let hundredths = (u128::from(amount.0) * 100).div_ceil(u128::from(GIB));
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads the parts of a registry, and collects what is wrong.
#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
    /// The names of all containers, those with problems included.
    names: BTreeSet<String>,
}

impl Reader {
    fn containers(&mut self, root: &Node<'_, '_>) -> Vec<Container> {
        let items = self.items(root, "containers", "container");
        items.into_iter().filter_map(|item| self.container(&item)).collect()
    }

    fn container(&mut self, item: &Node<'_, '_>) -> Option<Container> {
        let (name, span) = self.text(item, "name")?;
        if name == ALL {
            let problem = Problem::error("reserved-name", "a container is called `all`").at(span);
            self.problems.push(problem.label("this name stands for all containers"));
        }
        self.names.insert(name.clone());
        let requirements = self.child(item, "resourceRequirements")?;
        let numbers = ["cpu", "gpu", MEMORY].map(|field| self.number(&requirements, field));
        let [Some(_), Some(_), Some((gibibytes, span))] = numbers else { return None };
        if gibibytes == 0.0 {
            self.problems.push(Problem::error("no-memory", "a container without memory").at(span.clone()));
        }
        let memory = Bytes((gibibytes * GIB as f64).ceil() as u64);
        Some(Container { name, memory, span })
    }

    fn tasks(&mut self, root: &Node<'_, '_>) -> Vec<TaskType> {
        let items = self.items(root, "tasks", "task");
        let read = |item: Node<'_, '_>| {
            let (name, _) = self.text(&item, "name")?;
            let containers: Vec<_> = item.children().filter(|child| child.has_tag_name("container")).collect();
            if containers.is_empty() {
                self.missing(&item, "container");
            }
            let containers = containers.iter().filter_map(|child| self.text_of(child)).collect();
            Some(TaskType { name, containers })
        };
        items.into_iter().filter_map(read).collect()
    }

    fn check_names(&mut self, containers: &[Container], tasks: &[TaskType]) {
        for task in tasks {
            for (name, span) in &task.containers {
                if name == ALL || self.names.contains(name) {
                    continue;
                }
                let problem = Problem::error("unknown-container", format!("there is no container {}", quote(name)));
                let problem = problem.at(span.clone());
                // A guess takes time, and many are of no use.
                let guesses = if self.problems.len() < MOST_GUESSES { usize::MAX } else { 0 };
                self.problems.push(match nearest(name, self.names.iter().map(String::as_str).take(guesses)) {
                    Some(meant) => problem.help(format!("did you mean {}?", quote(meant))),
                    None => problem.help("add it to `containers`, or name another one"),
                });
            }
        }
        let containers_by_name = containers.iter().map(|it| ("container", it.name.as_str(), it.span.clone()));
        let tasks_by_name = tasks.iter().map(|task| {
            let span = task.containers.first().map(|(_, span)| span.clone()).unwrap_or_default();
            ("task", task.name.as_str(), span)
        });
        let mut seen = BTreeSet::new();
        for (kind, name, span) in containers_by_name.chain(tasks_by_name) {
            if !seen.insert((kind, name)) {
                let problem = Problem::error("duplicate-name", format!("a second {kind} {}", quote(name)));
                self.problems.push(problem.at(span).help("the platform uses the last one; remove the others"));
            }
        }
        let used: BTreeSet<&str> =
            tasks.iter().flat_map(|task| &task.containers).map(|(name, _)| name.as_str()).collect();
        if used.contains(ALL) {
            return;
        }
        let idle = containers.iter().filter(|container| !used.contains(container.name.as_str()));
        self.problems.extend(idle.map(|container| {
            let message = format!("no task runs in the container {}", quote(&container.name));
            Problem::warning("idle-container", message).at(container.span.clone())
        }));
    }

    /// The items of a list.
    fn items<'a, 'input>(&mut self, root: &Node<'a, 'input>, list: &str, item: &str) -> Vec<Node<'a, 'input>> {
        let Some(list) = self.child(root, list) else { return Vec::new() };
        list.children().filter(|child| child.has_tag_name(item)).collect()
    }

    fn child<'a, 'input>(&mut self, parent: &Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
        let mut found = parent.children().filter(|child| child.has_tag_name(name));
        let child = found.next();
        if child.is_none() {
            self.missing(parent, name);
        }
        if let Some(second) = found.next() {
            let problem = Problem::error("duplicate-element", format!("a second element `{name}`")).at(tag(&second));
            self.problems.push(problem.help("remove one of them"));
        }
        child
    }

    fn text(&mut self, parent: &Node<'_, '_>, name: &str) -> Option<(String, Range<usize>)> {
        let child = self.child(parent, name)?;
        self.text_of(&child)
    }

    /// The text of an element that has nothing else, without the white space around it, and its place.
    fn text_of(&mut self, element: &Node<'_, '_>) -> Option<(String, Range<usize>)> {
        let mut children = element.children().filter(|child| !child.is_comment());
        let (first, others) = (children.next(), children.next());
        let text = first.filter(|child| child.is_text() && others.is_none());
        let found = text.and_then(|text| Some((text.range(), text.text()?.trim().to_owned())));
        let Some((range, trimmed)) = found.filter(|(_, text)| !text.is_empty()) else {
            let name = element.tag_name().name();
            let problem = Problem::error("no-text", format!("the element `{name}` has no text")).at(tag(element));
            self.problems.push(problem);
            return None;
        };
        // As it is written, without its entities.
        let raw = element.document().input_text().get(range.clone()).unwrap_or_default();
        let start = range.start + (raw.len() - raw.trim_start().len());
        Some((trimmed, start..start + raw.trim().len()))
    }

    fn number(&mut self, parent: &Node<'_, '_>, name: &str) -> Option<(f64, Range<usize>)> {
        let (text, span) = self.text(parent, name)?;
        let number = text.parse::<f64>().ok().filter(|number| (0.0..1e9).contains(number));
        // Only what is written as it is read can be replaced.
        let number = number.filter(|_| parent.document().input_text().get(span.clone()) == Some(text.as_str()));
        if number.is_none() {
            let problem = Problem::error("not-a-number", format!("`{name}` is {}", quote(&text))).at(span.clone());
            self.problems.push(problem.label("expected a number that is not negative, such as 8 or 0.5"));
        }
        Some((number?, span))
    }

    fn missing(&mut self, parent: &Node<'_, '_>, name: &str) {
        let of = parent.tag_name().name();
        let problem = Problem::error("missing-element", format!("the element `{of}` has no `{name}`"));
        self.problems.push(problem.at(tag(parent)));
    }
}

/// The name in the start tag of an element.
fn tag(element: &Node<'_, '_>) -> Range<usize> {
    let start = element.range().start;
    start..start + 1 + element.tag_name().name().len()
}

/// The byte of a place in lines and characters.
fn place(text: &str, position: roxmltree::TextPos) -> Range<usize> {
    let line = usize::try_from(position.row).unwrap_or(1).saturating_sub(1);
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let column = usize::try_from(position.col).unwrap_or(1).saturating_sub(1);
    let rest = text.get(before..).unwrap_or_default();
    let at = before + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at);
    at..at
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "<?xml version=\"1.0\"?>\r\n<task_type_registry>\r\n  <!-- kept -->\n  <containers>
    <container><name>base</name><resourceRequirements><cpu>1</cpu><gpu>0</gpu><memory_gb> 8 </memory_gb></resourceRequirements></container>
    <container>
      <name>fast</name>
      <resourceRequirements><cpu>20</cpu><gpu>0</gpu><memory_gb>2.5</memory_gb></resourceRequirements>
    </container>
  </containers>
  <tasks>
    <task><name>wait</name><container>all</container></task>
    <task><name>search</name><container>fast</container></task>
    <task><name>fold</name><container>fast</container><container>base</container></task>
  </tasks>
</task_type_registry>\n";

    fn registry() -> Registry {
        Registry::read("registry.xml", REGISTRY).unwrap()
    }

    fn need(task: &str, mebibytes: u64) -> (String, Option<Bytes>) {
        (task.to_owned(), Some(Bytes(mebibytes << 20)))
    }

    #[test]
    fn containers_have_memory_in_gibibytes() {
        let memory = registry().containers().iter().map(|it| (it.name.clone(), it.memory.0)).collect::<Vec<_>>();
        assert_eq!(memory, [("base".to_owned(), 8 << 30), ("fast".to_owned(), 5 << 29)]);
    }

    #[test]
    fn a_container_gets_the_largest_need_of_its_tasks_and_all_else_stays() {
        let needs = [need("search", 3 * 1024), need("fold", 1100), need("fold", 900), need("wait", 1)];
        let edited = registry().with_needs(&needs).unwrap();
        let expected = REGISTRY.replace("> 8 <", "> 1.08 <").replace(">2.5<", ">3<");
        assert_eq!(edited.text, expected);
        insta::assert_snapshot!(edited.notes.join("\n"), @r"
        `base` gets what `fold` needs, 1.1 GiB
        `fast` gets what `search` needs, 3 GiB
        ");
    }

    #[test]
    fn a_container_keeps_its_memory_while_some_of_its_tasks_are_unknown() {
        let edited = registry().with_needs(&[need("search", 1024), need("wait", 1)]).unwrap();
        assert_eq!(edited.text, REGISTRY);
        insta::assert_snapshot!(edited.notes.join("\n"), @r"
        kept 8 GiB of `base`, although `wait` needs 1 MiB: `base` also runs `fold`, whose need is not known
        kept 2.5 GiB of `fast`, although `search` needs 1 GiB: `fast` also runs `fold`, whose need is not known
        ");
        let raised = registry().with_needs(&[need("search", 2600)]).unwrap();
        assert_eq!(raised.text, REGISTRY.replace(">2.5<", ">2.54<"));
    }

    #[test]
    fn tasks_of_all_containers_count_in_each() {
        let edited = registry().with_needs(&[need("wait", 9 * 1024)]).unwrap();
        assert_eq!(edited.text, REGISTRY.replace("> 8 <", "> 9 <").replace(">2.5<", ">9<"));
    }

    #[test]
    fn a_task_of_all_containers_whose_need_is_not_known_lowers_none() {
        let known = [need("fold", 1024), need("search", 1024)];
        let unclear = [&known[..], &[("wait".to_owned(), None)]].concat();
        for needs in [&known[..], &unclear] {
            let edited = registry().with_needs(needs).unwrap();
            assert_eq!(edited.text, REGISTRY);
            assert!(edited.notes[1].ends_with("`fast` also runs `wait`, whose need is not known"), "{edited:?}");
        }
        let all = [&known[..], &[need("wait", 1)]].concat();
        assert_eq!(
            registry().with_needs(&all).unwrap().text,
            REGISTRY.replace("> 8 <", "> 1 <").replace(">2.5<", ">1<")
        );
    }

    #[test]
    fn each_problem_has_its_place() {
        let problems = |text: &str| {
            let flawed = Registry::read("registry.xml", text).unwrap_err();
            let lines = flawed.problems.iter().map(|problem| {
                let (line, column) = flawed.line_column(problem).unwrap();
                format!("{line}:{column} {} {}", problem.message, problem.label.as_deref().unwrap_or_default())
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        let texts = [
            REGISTRY.replace("<container>fast<", "<container>fats<"),
            REGISTRY.replace("2.5", "lots"),
            REGISTRY.replace("2.5", ""),
            REGISTRY.replace("2.5", "2<![CDATA[.5]]>"),
            REGISTRY.replace("<gpu>0</gpu>", ""),
            REGISTRY.replace("<name>fold", "<name>wait"),
            REGISTRY.replace("<name>fast", "<name>base"),
            REGISTRY.replace("</tasks>", ""),
            "<registry/>".to_owned(),
            "<!DOCTYPE x [<!ENTITY a 'b'>]><task_type_registry/>".to_owned(),
        ];
        insta::assert_snapshot!(texts.map(|text| problems(&text)).join("\n"));
    }

    #[test]
    fn a_task_that_the_registry_does_not_have_is_named() {
        let error = registry().with_needs(&[need("serach", 1)]).unwrap_err();
        assert_eq!(error.to_string(), "registry.xml: the registry has no task `serach`");
        assert!(error.problems[0].help.as_deref().unwrap().ends_with("did you mean `search`?"));
    }
}
