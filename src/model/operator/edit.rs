//! Edits the memory of an operator in the text of its file and leaves everything else unchanged.

use std::ops::Range;

use super::{Argument, Call, IMPLIED_HEADROOM, Kind, LIMIT, Literal, Operator, REQUEST, calls};
use crate::model::document::Edited;
use crate::model::problem::{Flawed, Problem};
use crate::model::spelling::quote;
use crate::model::units::Bytes;

impl Operator {
    /// The text of the file with this memory, rounded up to MiB. A limit that the platform would give anyway is not
    /// added.
    ///
    /// # Errors
    /// If the result would not be the expected one, or an argument that the file sets elsewhere would be given twice.
    pub fn edit(&self, request: Bytes, limit: Bytes) -> Result<Edited, Flawed> {
        if let Some((_, problem)) = self.set_elsewhere() {
            return Err(self.flawed(problem));
        }
        let request = request.0.div_ceil(1 << 20);
        let limit = limit.0.div_ceil(1 << 20).max(request);
        let is_implied = limit == request.saturating_add(IMPLIED_HEADROOM) && self.call.keyword(LIMIT).is_none();
        let mut notes = Vec::new();
        let mut edits = Vec::new();
        let mut new: Vec<(&str, u64)> = Vec::new();
        for (name, amount) in [(REQUEST, request), (LIMIT, limit)] {
            match self.call.keyword(name) {
                Some(argument) if argument.literal == Some(Literal::Integer(amount)) => {}
                Some(argument) => edits.push((argument.value.clone(), amount.to_string())),
                None if name == LIMIT && is_implied => {
                    let unless = self.passed().map(|(_, passed)| format!(", unless {passed} sets it"));
                    notes.push(format!("`{LIMIT}` stays unset: without it, the limit is {limit} MiB, {IMPLIED_HEADROOM} MiB above `{REQUEST}`{}", unless.unwrap_or_default()));
                }
                None => new.push((name, amount)),
            }
        }
        if !new.is_empty() {
            edits.extend(insertion(&self.text, &self.call, &new));
            notes.extend(self.passed_on(&new));
        }
        if self.call.keyword("pool").is_none() {
            notes.push(format!("each run takes {request} slots of its pool in Airflow, as many as `{REQUEST}` says"));
        }
        edits.sort_by_key(|(place, _)| (place.start, place.end));
        let mut text = self.text.clone();
        for (place, new) in edits.into_iter().rev() {
            text.replace_range(place, &new);
        }
        self.verify(&text, request, limit, new.len())?;
        Ok(Edited { text, notes })
    }

    /// Python refuses an argument that is given twice, or that a function does not know.
    fn passed_on(&self, new: &[(&str, u64)]) -> Vec<String> {
        let names: Vec<String> = new.iter().map(|(name, _)| quote(name)).collect();
        let (them, names) = (if names.len() == 1 { "it" } else { "them" }, names.join(" and "));
        let (class, is_init) = (&self.call.class, self.text[self.call.function.clone()].ends_with("__init__"));
        let mut notes = Vec::new();
        if !is_init && !self.call.is_base {
            notes.push(format!("check that {class} passes {names} to its base class, and does not set {them} itself"));
        }
        if let Some((_, passed)) = self.passed() {
            let owner = if is_init {
                format!("DAGs that pass {them} to {class}")
            } else {
                format!("{passed}, if it has {them}")
            };
            notes.push(format!("remove {names} from {owner}: Python refuses an argument that is given twice"));
        }
        notes
    }

    /// Checks that the new text has the same calls, with the expected memory.
    fn verify(&self, text: &str, request: u64, limit: u64, added: usize) -> Result<(), Flawed> {
        let unchanged = |call: &Call| {
            let others = call.arguments.iter().filter(|argument| !sets_memory(argument)).map(|argument| &argument.kind);
            (call.class.clone(), call.variable.clone(), others.cloned().collect::<Vec<_>>())
        };
        let same_place = |call: &&Call| call.function == self.call.function;
        let new = calls(text).ok().and_then(|calls| calls.iter().find(same_place).cloned());
        let new = new.filter(|new| unchanged(new) == unchanged(&self.call));
        let new = new.filter(|new| new.arguments.len() == self.call.arguments.len() + added);
        let new = new.map(|call| Self { call, name: self.name.clone(), text: text.to_owned(), elsewhere: None });
        let is_expected = new.is_some_and(|new| {
            let limits = new.integer(LIMIT).unwrap_or(request.saturating_add(IMPLIED_HEADROOM));
            new.integer(REQUEST) == Some(request) && limits == limit
        });
        if is_expected {
            return Ok(());
        }
        let problem = Problem::error("unusual-call", "failed to add arguments to this call")
            .at(self.call.function.clone())
            .label("expected one argument per line")
            .help(format!("edit it by hand: {REQUEST}={request}, {LIMIT}={limit}"));
        Err(self.flawed(problem))
    }
}

fn sets_memory(argument: &Argument) -> bool {
    matches!(&argument.kind, Kind::Keyword(name) if name == REQUEST || name == LIMIT)
}

/// The edits that add arguments to a call, laid out like those that it has.
fn insertion(text: &str, call: &Call, new: &[(&str, u64)]) -> Vec<(Range<usize>, String)> {
    let arguments = &call.arguments;
    let position = |name: &str| {
        arguments.iter().position(|argument| matches!(&argument.kind, Kind::Keyword(found) if found == name))
    };
    // The request stands before the limit, and both before `*args` and `**kwargs`. A positional argument may not follow.
    let before = match (position(LIMIT), position(REQUEST)) {
        (Some(limit), _) => Some(limit),
        (None, Some(request)) => Some(request + 1),
        (None, None) => arguments.iter().position(|argument| argument.kind == Kind::Splat),
    };
    let is_allowed = |index: &usize| arguments[*index..].iter().all(|argument| argument.kind != Kind::Positional);
    match before.filter(|index| *index < arguments.len()).filter(is_allowed) {
        Some(index) => {
            let next = arguments[index].span.start;
            let gap = own_line(text, next).unwrap_or_else(|| " ".to_owned());
            let inserted = new.iter().map(|(name, amount)| format!("{name}={amount},{gap}"));
            vec![(next..next, inserted.collect())]
        }
        None => appended(text, call, new),
    }
}

/// The edits that add arguments after the last one.
fn appended(text: &str, call: &Call, new: &[(&str, u64)]) -> Vec<(Range<usize>, String)> {
    let new: Vec<String> = new.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    let Some(last) = call.arguments.last() else {
        let open = call.parentheses.start + 1;
        return vec![(open..open, new.join(", "))];
    };
    let end = last.span.end;
    let close = call.parentheses.end.saturating_sub(1).max(end);
    let comma = comma(&text[end..close]).map(|at| end + at);
    let after = comma.map_or(end, |at| at + 1);
    let ending = if comma.is_some() { "," } else { "" };
    let line_end = text[after..close].find('\n').map(|at| after + at);
    match own_line(text, last.span.start).zip(line_end) {
        Some((gap, line_end)) => {
            let line_end = if text[..line_end].ends_with('\r') { line_end - 1 } else { line_end };
            let lines = format!("{gap}{}{ending}", new.join(&format!(",{gap}")));
            let comma = if comma.is_none() { "," } else { "" };
            if line_end == end {
                return vec![(end..end, format!("{comma}{lines}"))];
            }
            vec![(end..end, comma.to_owned()), (line_end..line_end, lines)]
        }
        None => {
            let separator = if comma.is_some() { " " } else { ", " };
            vec![(after..after, format!("{separator}{}{ending}", new.join(", ")))]
        }
    }
}

/// The trailing comma in the text between the last argument and the closing parenthesis, outside of comments.
fn comma(text: &str) -> Option<usize> {
    let mut in_comment = false;
    text.bytes().position(|byte| {
        in_comment = (in_comment || byte == b'#') && byte != b'\n';
        byte == b',' && !in_comment
    })
}

/// The line break and indentation before a place that is the first on its line.
fn own_line(text: &str, at: usize) -> Option<String> {
    let line = text[..at].rfind('\n')? + 1;
    let indentation = &text[line..at];
    let is_first = indentation.chars().all(|char| matches!(char, ' ' | '\t' | '\x0c'));
    let newline = if text[..line].ends_with("\r\n") { "\r\n" } else { "\n" };
    is_first.then(|| format!("{newline}{indentation}"))
}
