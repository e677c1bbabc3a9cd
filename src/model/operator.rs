//! Operators of Kaapana: the memory that a call in a Python file gives to `KaapanaBaseOperator`.
//!
//! `ram_mem_mb` is the request in MiB, which is also the number of slots that the task takes in its pool in Airflow.
//! `ram_mem_mb_lmt` is the limit; if unset, the limit is 100 MiB above the request.

mod edit;
#[cfg(feature = "operators")]
mod python;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::problem::{Flawed, Problem, Severity, line_column};
use super::spelling::{nearest, quote};
use super::units::Bytes;

/// The argument with the request.
const REQUEST: &str = "ram_mem_mb";
/// The argument with the limit.
const LIMIT: &str = "ram_mem_mb_lmt";
/// The class whose defaults are known.
const BASE: &str = "KaapanaBaseOperator";
/// What `KaapanaBaseOperator` requests if `ram_mem_mb` is not given, in MiB.
const DEFAULT_REQUEST: u64 = 500;
/// The distance between the request and a limit that is not given, in MiB.
const IMPLIED_HEADROOM: u64 = 100;

/// A Python file, and which of its operators is meant: `SomeOperator.py`, `dag.py::segment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPath {
    /// The file.
    pub path: PathBuf,
    /// The class of the operator, or the variable that it is assigned to.
    pub name: Option<String>,
}

impl OperatorPath {
    /// The operator that a path stands for; `None` if it is not a Python file.
    pub fn from_path(path: &Path) -> Option<Self> {
        match path.to_str() {
            Some(text) => Self::parse(text),
            None => is_python(path).then(|| Self { path: path.to_owned(), name: None }),
        }
    }

    /// The same for text.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, name) = match text.rsplit_once(".py::") {
            Some((stem, name)) => (format!("{stem}.py"), Some(name.to_owned())),
            None => (text.to_owned(), None),
        };
        is_python(Path::new(&path)).then(|| Self { path: path.into(), name })
    }
}

impl fmt::Display for OperatorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.name.iter().try_for_each(|name| write!(f, "::{name}"))
    }
}

fn is_python(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "py")
}

/// The memory of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorMemory {
    /// The request.
    pub request: Bytes,
    /// The limit.
    pub limit: Bytes,
}

/// An operator in a Python file.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The origin of the text.
    name: String,
    text: String,
    call: Call,
    /// The first place that may set the memory which the call passes on with `**`.
    elsewhere: Option<Range<usize>>,
}

/// A call that creates an operator, or with which its class calls that of its base.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "operators"), allow(dead_code, reason = "only the parser makes calls"))]
struct Call {
    /// The class of the operator.
    class: String,
    /// The variable that the operator is assigned to.
    variable: Option<String>,
    /// Whether the call goes to `KaapanaBaseOperator` itself.
    is_base: bool,
    /// The function that is called.
    function: Range<usize>,
    /// The arguments with their parentheses.
    parentheses: Range<usize>,
    arguments: Vec<Argument>,
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "operators"), allow(dead_code, reason = "only the parser makes calls"))]
struct Argument {
    kind: Kind,
    span: Range<usize>,
    /// The value.
    value: Range<usize>,
    literal: Option<Literal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "operators"), allow(dead_code, reason = "only the parser makes calls"))]
enum Kind {
    Positional,
    Keyword(String),
    /// `*args` or `**kwargs`.
    Splat,
}

/// A value that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "operators"), allow(dead_code, reason = "only the parser makes calls"))]
enum Literal {
    Integer(u64),
    /// `None`: as if the argument were absent.
    Nothing,
}

impl Operator {
    /// The maximum size of a file. Its syntax tree takes many times as much memory.
    pub const MOST_BYTES: usize = 1 << 20;

    /// Finds an operator in the text of a Python file. `wanted` is its class or variable, for a file with several.
    ///
    /// # Errors
    /// If the text is not valid Python, has no such operator or several, or computes its memory.
    pub fn parse(name: impl Into<String>, text: impl Into<String>, wanted: Option<&str>) -> Result<Self, Flawed> {
        let (name, text) = (name.into(), text.into());
        if text.len() > Self::MOST_BYTES {
            let message = format!("the file is larger than {} MiB, the limit for an operator", Self::MOST_BYTES >> 20);
            return Err(Flawed::new(name, String::new(), vec![Problem::error("too-large", message)]));
        }
        let found = calls(&text).and_then(|calls| {
            let call = chosen(&text, &calls, wanted)?;
            let elsewhere = elsewhere(&text, &calls, &call);
            Ok((call, elsewhere))
        });
        match found {
            Ok((call, elsewhere)) => {
                let operator = Self { name, text, call, elsewhere };
                operator.check()?;
                Ok(operator)
            }
            Err(problem) => Err(Flawed::new(name, text, vec![problem])),
        }
    }

    /// Its name for people: the variable that it is assigned to, or its class.
    pub fn label(&self) -> &str {
        self.call.label()
    }

    /// The memory that the platform gives to its pod.
    ///
    /// # Errors
    /// If the call does not set it, and the default of the class is unknown or may be replaced elsewhere in the file.
    pub fn memory(&self) -> Result<OperatorMemory, Flawed> {
        if let Some((_, problem)) = self.set_elsewhere().filter(|(name, _)| self.call.keyword(name).is_none()) {
            return Err(self.flawed(problem));
        }
        let request = match self.integer(REQUEST) {
            Some(request) => request,
            None if self.call.is_base && self.call.keyword(REQUEST).is_none() => DEFAULT_REQUEST,
            None => {
                let message = format!("{} does not set `{REQUEST}`", quote(self.label()));
                let problem = Problem::error("unset-memory", message)
                    .at(self.call.function.clone())
                    .label("expected an integer in the arguments of this call")
                    .help("the class that is called may set it: give the file of that class");
                return Err(self.flawed(problem));
            }
        };
        let limit = self.integer(LIMIT).unwrap_or(request.saturating_add(IMPLIED_HEADROOM));
        let bytes = |mebibytes: u64| Bytes(mebibytes.saturating_mul(1 << 20));
        Ok(OperatorMemory { request: bytes(request), limit: bytes(limit) })
    }

    /// Refuses memory that an edit of two numbers could not change.
    fn check(&self) -> Result<(), Flawed> {
        for name in [REQUEST, LIMIT] {
            if let Some(argument) = self.call.keyword(name).filter(|argument| argument.literal.is_none()) {
                let is_string = self.text.get(argument.value.clone()).is_some_and(|text| text.starts_with(['"', '\'']));
                let (what, help) = match is_string {
                    true => ("a string", "remove the quotes"),
                    false => ("computed", "replace the expression with a number"),
                };
                let problem = Problem::error("computed-memory", format!("the value of `{name}` is {what}"))
                    .at(argument.value.clone())
                    .label("expected an integer such as 4000, in MiB")
                    .help(help);
                return Err(self.flawed(problem));
            }
        }
        let resources = self.call.keyword("pod_resources");
        if let Some(argument) = resources.filter(|argument| argument.literal != Some(Literal::Nothing)) {
            let problem =
                Problem::error("pod-resources", format!("`pod_resources` replaces `{REQUEST}` and `{LIMIT}`"))
                    .at(argument.span.clone())
                    .label("the memory of the pod is set elsewhere")
                    .help("remove it, or set the memory where these resources are made");
            return Err(self.flawed(problem));
        }
        Ok(())
    }

    /// What is suspicious about its memory.
    pub fn lint(&self) -> Option<Flawed> {
        if let Some((_, problem)) = self.set_elsewhere() {
            return Some(self.flawed(Problem { severity: Severity::Warning, ..problem }));
        }
        let OperatorMemory { request, limit } = self.memory().ok()?;
        let mut problems = Vec::new();
        if let Some(argument) = self.call.keyword(LIMIT).filter(|_| limit < request) {
            let message = format!("the limit, {limit}, is below the request, {request}: Kubernetes refuses such a pod");
            let problem = Problem::warning("limit-below-request", message).at(argument.span.clone());
            problems
                .push(problem.label("expected at least the request").help(format!("raise it, or lower `{REQUEST}`")));
        }
        if let Some((argument, passed)) = self.passed().filter(|_| self.call.keyword(REQUEST).is_none()) {
            let message =
                format!("{passed} may set `{REQUEST}`, which this call does not: {request}, the default, is assumed");
            let problem = Problem::warning("passed-on-memory", message).at(argument.span.clone());
            problems.push(problem.help(format!("set `{REQUEST}` here, and remove it from what is passed on")));
        }
        (!problems.is_empty()).then(|| Flawed::new(&self.name, &self.text, problems))
    }

    /// The argument that is set elsewhere in the file and may be passed on to the call, and the problem with that.
    fn set_elsewhere(&self) -> Option<(&'static str, Problem)> {
        let (place, (_, passed)) = self.elsewhere.clone().zip(self.passed())?;
        let name = if self.text[place.clone()].contains(LIMIT) { LIMIT } else { REQUEST };
        let line = line_column(&self.text, self.call.function.start).map(|(line, _)| format!(" in line {line}"));
        let call = format!("the call{}", line.unwrap_or_default());
        let problem = Problem::error("memory-elsewhere", format!("{passed} may pass this `{name}` on to {call}"))
            .at(place)
            .label("Python refuses an argument that is given twice")
            .help(format!("set `{name}` in {call} instead, to a number, and remove it here"));
        Some((name, problem))
    }

    /// `**kwargs`, with its text. It may set what the call does not.
    fn passed(&self) -> Option<(&Argument, String)> {
        let splats = self.call.arguments.iter().filter(|argument| argument.kind == Kind::Splat);
        let mut splats = splats.map(|argument| (argument, &self.text[argument.span.clone()]));
        let (argument, text) = splats.find(|(_, text)| text.starts_with("**"))?;
        Some((argument, quote(text)))
    }

    fn integer(&self, name: &str) -> Option<u64> {
        match self.call.keyword(name)?.literal? {
            Literal::Integer(value) => Some(value),
            Literal::Nothing => None,
        }
    }

    fn flawed(&self, problem: Problem) -> Flawed {
        Flawed::new(&self.name, &self.text, vec![problem])
    }
}

impl Call {
    fn label(&self) -> &str {
        self.variable.as_deref().unwrap_or(&self.class)
    }

    fn keyword(&self, name: &str) -> Option<&Argument> {
        self.arguments.iter().find(|argument| matches!(&argument.kind, Kind::Keyword(found) if found == name))
    }

    fn is_named(&self, name: &str) -> bool {
        self.class == name || self.variable.as_deref() == Some(name)
    }
}

/// The calls of operators in a Python file.
fn calls(text: &str) -> Result<Vec<Call>, Problem> {
    #[cfg(feature = "operators")]
    return python::calls(text);
    #[cfg(not(feature = "operators"))]
    {
        let _ = text;
        let problem = Problem::error("python", "this program cannot read Python files".to_owned());
        Err(problem.help("build highwater with the feature `operators`"))
    }
}

/// The first place that may set the memory of a call which does not do so itself.
fn elsewhere(text: &str, calls: &[Call], call: &Call) -> Option<Range<usize>> {
    // What creates an operator passes its arguments to the call in the class.
    let is_init = text[call.function.clone()].ends_with("__init__");
    let others = calls.iter().filter(|other| is_init && !other.is_base && other.function != call.function);
    let arguments = others.flat_map(|other| [REQUEST, LIMIT].into_iter().filter_map(|name| other.keyword(name)));
    let spans = arguments.map(|argument| argument.span.clone());
    #[cfg(feature = "operators")]
    let spans = spans.chain(python::memory_outside_of_calls(text));
    spans.min_by_key(|span| span.start)
}

/// The call that is meant.
fn chosen(text: &str, calls: &[Call], wanted: Option<&str>) -> Result<Call, Problem> {
    let place = |call: &Call| match line_column(text, call.function.start) {
        Some((line, _)) => format!("{} in line {line}", quote(call.label())),
        None => quote(call.label()),
    };
    let named: Vec<&Call> = calls.iter().filter(|call| wanted.is_none_or(|name| call.is_named(name))).collect();
    match (named.as_slice(), wanted) {
        ([only], _) => Ok((*only).clone()),
        ([], Some(wanted)) if !calls.is_empty() => {
            let known: Vec<&str> = calls.iter().map(Call::label).collect();
            let message = format!("no operator is called {}", quote(wanted));
            let problem = Problem::error("unknown-operator", message);
            Err(match nearest(wanted, known.iter().copied()) {
                Some(meant) => problem.help(format!("did you mean {}?", quote(meant))),
                None => problem.help(format!("expected one of: {}", listed(calls, place))),
            })
        }
        ([], _) => {
            let message = "found no operator: neither a class derived from one nor a call of one";
            let help = format!("give a file with a class such as `class SegmentOperator({BASE})`");
            Err(Problem::error("no-operator", message).help(help))
        }
        ([first, second, ..], _) => {
            let message = format!("found {} operators, expected one", named.len());
            let problem = Problem::error("several-operators", message).at(second.function.clone());
            let help = format!("name one, as in FILE.py::{}: {}", first.label(), listed(calls, place));
            Err(problem.label("not the only one").help(help))
        }
    }
}

/// The most operators to list in a message.
const MOST_LISTED: usize = 10;

fn listed(calls: &[Call], place: impl Fn(&Call) -> String) -> String {
    let mut listed: Vec<String> = calls.iter().take(MOST_LISTED).map(place).collect();
    if calls.len() > MOST_LISTED {
        listed.push("others".to_owned());
    }
    listed.join(", ")
}

#[cfg(feature = "operators")]
#[cfg(test)]
mod tests;
