//! The parts of the text below the options of a command: examples, notes, and the exit status.

use clap::Command;
use highwater::model::layout;

use super::output;

/// What precedes the meaning of the statuses.
const STATUS: &str = "Exit status: ";

/// The parts of a command's long help that are not generated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Lines of a command and what it does.
    pub(crate) examples: String,
    /// Paragraphs about the command.
    pub(crate) notes: String,
    /// The statuses that the command ends with.
    pub(crate) status: String,
}

impl Parts {
    /// Takes the text apart that the command has below its options.
    pub(crate) fn of(command: &Command) -> Self {
        command.get_after_long_help().map_or_else(Self::default, |text| Self::parse(&text.to_string()))
    }

    fn parse(text: &str) -> Self {
        let (text, status) = text.rsplit_once(STATUS).map_or((text, ""), |(before, status)| (before, status));
        let Some(examples) = text.strip_prefix("Examples:\n") else {
            return Self { examples: String::new(), notes: text.trim().to_owned(), status: status.to_owned() };
        };
        // Examples may have blank lines between them.
        let is_end = |(at, _): &(usize, &str)| !examples.get(at + 2..).is_some_and(|rest| rest.starts_with(' '));
        let end = examples.match_indices("\n\n").find(is_end).map_or(examples.len(), |(at, _)| at);
        let (examples, notes) = examples.split_at(end);
        Self {
            examples: examples.trim_end().to_owned(),
            notes: notes.trim().to_owned(),
            status: status.trim_end().to_owned(),
        }
    }
}

/// Puts the examples of all subcommands before their options.
pub(crate) fn examples_first(mut command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|subcommand| subcommand.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |subcommand| {
            let Parts { examples, notes, status } = Parts::of(&subcommand);
            let about = subcommand.get_long_about().or_else(|| subcommand.get_about()).cloned().unwrap_or_default();
            let status = if status.is_empty() { status } else { format!("{STATUS}{status}") };
            let below = [notes, status].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n");
            // Where a line does not fit, what an example does is below it instead of beside it.
            let is_too_wide = |width: &usize| examples.lines().any(|line| layout::columns(line) > *width);
            let width = output::width_of_stdout().map(usize::from).filter(is_too_wide);
            let examples = width.map_or_else(|| examples.clone(), |width| narrow(&examples, width));
            subcommand.long_about(format!("{about}\n\nExamples:\n{examples}")).after_long_help(below)
        });
    }
    command
}

/// Puts what each example does below its command.
fn narrow(examples: &str, width: usize) -> String {
    let mut text = String::new();
    let mut about = String::new();
    let flush = |text: &mut String, about: &mut String| {
        if !about.is_empty() {
            text.push_str(&layout::wrapped(about, "      ", "      ", width));
            about.clear();
        }
    };
    for line in examples.lines() {
        let words = line.trim_start();
        // Of an example, only what it does is indented by more than this.
        let is_more = line.len() - words.len() > 8 && !text.is_empty();
        let (command, does) = if is_more { ("", words) } else { words.split_once("  ").unwrap_or((words, "")) };
        if !is_more {
            flush(&mut text, &mut about);
            text.push_str(&layout::wrapped(command, "  ", "    ", width));
        }
        about.push_str(if about.is_empty() { "" } else { " " });
        about.push_str(does.trim_start());
    }
    flush(&mut text, &mut about);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_below_the_options_is_taken_apart() {
        let parts = Parts::parse("Examples:\n  one\n\n  two\n\nNotes. More.\n\nLast. Exit status: 0 done.");
        assert_eq!((parts.examples.as_str(), parts.notes.as_str()), ("  one\n\n  two", "Notes. More.\n\nLast."));
        assert_eq!(parts.status, "0 done.");
        let alone = Parts::parse("Examples:\n  one");
        assert_eq!((alone.examples.as_str(), alone.notes.as_str(), alone.status.as_str()), ("  one", "", ""));
    }

    #[test]
    fn in_a_narrow_terminal_examples_are_explained_below_them() {
        let wide = "  run a              what it does\n  run a-longer --one\n                     that is more to\n                     say\n\n  run";
        assert_eq!(
            narrow(wide, 20),
            "  run a\n      what it does\n  run a-longer --one\n      that is more\n      to say\n\n  run"
        );
    }
}
