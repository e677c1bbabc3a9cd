//! Finds the calls of operators in the text of a Python file.

use std::ops::{ControlFlow, Range};

use tree_sitter::{Node, ParseOptions, Parser, Tree};

use super::{Argument, BASE, Call, Kind, LIMIT, Literal, REQUEST};
use crate::model::problem::Problem;

/// The parser reports progress once per 100 steps. A file of Python takes about one step per byte, broken text may take
/// much longer.
const MOST_REPORTS_PER_BYTE: usize = 1;
/// The number of reports that a text of any size may take.
const LEAST_REPORTS: usize = 10_000;

/// The calls that create operators, and those with which a class of operators calls its base class.
pub(super) fn calls(text: &str) -> Result<Vec<Call>, Problem> {
    let tree = parse(text)?;
    if tree.root_node().has_error() {
        return Err(syntax_error(&tree, text));
    }
    let mut calls = Vec::new();
    let mut classes: Vec<Class> = Vec::new();
    let mut assigned: Option<(usize, String)> = None;
    each(&tree, |node| {
        while classes.last().is_some_and(|class| class.end <= node.start_byte()) {
            classes.pop();
        }
        match node.kind() {
            "class_definition" => classes.extend(Class::read(node, text)),
            // `segment = SegmentOperator(…)`: the assignment comes before its call.
            "assignment" => {
                let target = node.child_by_field_name("left").filter(|target| target.kind() == "identifier");
                let value = node.child_by_field_name("right");
                assigned = value.zip(target).map(|(value, target)| (value.id(), of(target, text).to_owned()));
            }
            "call" => {
                let variable = assigned.take_if(|(id, _)| *id == node.id()).map(|(_, variable)| variable);
                calls.extend(call(node, text, classes.last(), variable));
            }
            _ => {}
        }
    });
    Ok(calls)
}

/// The first place outside of calls of operators that may set the memory of one: a key such as `"ram_mem_mb"`, or an
/// argument such as that of `dict(ram_mem_mb=4000)`.
pub(super) fn memory_outside_of_calls(text: &str) -> Option<Range<usize>> {
    let tree = parse(text).ok()?;
    let is_memory = |name: &str| name == REQUEST || name == LIMIT;
    let function = |list: Node<'_>| {
        let call = list.parent().filter(|call| call.kind() == "call")?;
        last_name(call.child_by_field_name("function")?, text)
    };
    let mut first = None;
    each(&tree, |node| {
        let target = || node.parent().and_then(function).unwrap_or_default();
        let sets_memory = match node.kind() {
            // `kwargs.pop("ram_mem_mb", None)` keeps it from being passed on.
            "string" => is_memory(of(node, text).trim_matches(['"', '\''])) && !matches!(target(), "pop" | "get"),
            "keyword_argument" => {
                node.child_by_field_name("name").is_some_and(|name| is_memory(of(name, text)))
                    && target() != "__init__"
                    && !is_operator(target())
            }
            _ => false,
        };
        if sets_memory && first.is_none() {
            first = Some(node.byte_range());
        }
    });
    first
}

fn parse(text: &str) -> Result<Tree, Problem> {
    let failed =
        || Problem::error("python", "failed to parse the file as Python: it is too large or too deeply nested");
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_python::LANGUAGE.into()).map_err(|_| failed())?;
    let mut reports = 0;
    let most = LEAST_REPORTS + MOST_REPORTS_PER_BYTE * text.len();
    let mut progress = |_: &_| {
        reports += 1;
        if reports > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = ParseOptions::new().progress_callback(&mut progress);
    let bytes = text.as_bytes();
    let tree = parser.parse_with_options(&mut |at, _| bytes.get(at..).unwrap_or_default(), None, Some(options));
    tree.ok_or_else(failed)
}

/// Visits each node before those inside of it, without recursion.
fn each<'t>(tree: &'t Tree, mut visit: impl FnMut(Node<'t>)) {
    let mut cursor = tree.walk();
    loop {
        visit(cursor.node());
        if cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return;
            }
        }
    }
}

/// The first place that is not Python.
fn syntax_error(tree: &Tree, text: &str) -> Problem {
    let mut first: Option<Range<usize>> = None;
    each(tree, |node| {
        if first.is_none() && (node.is_error() || node.is_missing()) {
            first = Some(node.byte_range());
        }
    });
    let problem = Problem::error("not-python", "the file is not valid Python")
        .help("check that Python can compile it: python3 -m py_compile FILE.py");
    let Some(place) = first else { return problem };
    // Only its first line: an error may reach to the end of the file.
    let line = text[place.clone()].find('\n').map_or(place.end, |end| place.start + end);
    problem.at(place.start..line).label("this could not be parsed")
}

/// A class around a call.
struct Class {
    name: String,
    is_operator: bool,
    /// Whether it is derived from `KaapanaBaseOperator` itself.
    is_derived_from_base: bool,
    end: usize,
}

impl Class {
    fn read(node: Node<'_>, text: &str) -> Option<Self> {
        let name = of(node.child_by_field_name("name")?, text);
        let mut bases = Vec::new();
        if let Some(list) = node.child_by_field_name("superclasses") {
            bases.extend(list.named_children(&mut list.walk()).filter_map(|base| last_name(base, text)));
        }
        Some(Self {
            name: name.to_owned(),
            is_operator: bases.iter().any(|base| is_operator(base)),
            is_derived_from_base: bases.contains(&BASE),
            end: node.end_byte(),
        })
    }
}

/// Whether a class is an operator of Kaapana, by its name. `BaseOperator` is Airflow's.
fn is_operator(name: &str) -> bool {
    name.ends_with("Operator") && name != "BaseOperator"
}

fn call(node: Node<'_>, text: &str, class: Option<&Class>, variable: Option<String>) -> Option<Call> {
    let function = node.child_by_field_name("function")?;
    let list = node.child_by_field_name("arguments").filter(|list| list.kind() == "argument_list")?;
    let (class, is_base) = match (last_name(function, text)?, class) {
        ("__init__", Some(class)) if class.is_operator => {
            let object = function.child_by_field_name("object")?;
            // `super().__init__(…)`, or `SomeOperator.__init__(self, …)`.
            let target = match object.kind() {
                "call" => last_name(object.child_by_field_name("function")?, text)?,
                _ => last_name(object, text)?,
            };
            let is_base = target == BASE || (target == "super" && class.is_derived_from_base);
            (target == "super" || is_operator(target)).then(|| (class.name.clone(), is_base))?
        }
        (name, _) if is_operator(name) => (name.to_owned(), name == BASE),
        _ => return None,
    };
    let mut cursor = list.walk();
    let arguments = list.named_children(&mut cursor).filter(|child| !child.is_extra());
    let arguments = arguments.map(|child| argument(child, text)).collect();
    Some(Call { class, variable, is_base, function: function.byte_range(), parentheses: list.byte_range(), arguments })
}

fn argument(node: Node<'_>, text: &str) -> Argument {
    let field = |name| node.child_by_field_name(name);
    let (kind, value) = match (node.kind(), field("name"), field("value")) {
        ("keyword_argument", Some(name), Some(value)) => (Kind::Keyword(of(name, text).to_owned()), value),
        ("list_splat" | "dictionary_splat", _, _) => (Kind::Splat, node),
        _ => (Kind::Positional, node),
    };
    let literal = match value.kind() {
        "integer" => integer(of(value, text)).map(Literal::Integer),
        "none" => Some(Literal::Nothing),
        _ => None,
    };
    Argument { kind, span: node.byte_range(), value: value.byte_range(), literal }
}

/// An integer as Python writes it: `4000`, `4_000`, `0xfa0`.
fn integer(text: &str) -> Option<u64> {
    let digits = text.replace('_', "").to_ascii_lowercase();
    let radix = |prefix: &str, radix| Some(u64::from_str_radix(digits.strip_prefix(prefix)?, radix).ok());
    radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)).unwrap_or_else(|| digits.parse().ok())
}

/// The name of a class or function, without its module.
fn last_name<'t>(node: Node<'_>, text: &'t str) -> Option<&'t str> {
    match node.kind() {
        "identifier" => Some(of(node, text)),
        "attribute" => Some(of(node.child_by_field_name("attribute")?, text)),
        _ => None,
    }
}

fn of<'t>(node: Node<'_>, text: &'t str) -> &'t str {
    text.get(node.byte_range()).unwrap_or_default()
}
