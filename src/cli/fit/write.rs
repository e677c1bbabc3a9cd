//! `fit --write`: replaces the file with the one that has the rule, and shows the difference.

use std::path::{Path, PathBuf};

use highwater::calibrate::fit::{Calibration, check_document, write_rule};
use highwater::calibrate::resolve;
use highwater::model::byte_order_mark;
use highwater::model::document::{Change, EditError, Source, Variables};
use highwater::model::fit::FittedRule;
use highwater::model::operator::{Operator, OperatorPath};
use highwater::model::registry::Registry;
use highwater::model::rule::Dialect;
use highwater::model::units::Bytes;
use similar::TextDiff;

use super::FitArgs;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::table::printable;
use crate::cli::{output, output_file};

/// The file to edit.
pub(super) struct File {
    path: PathBuf,
    /// The content as read; the file is not overwritten if it has changed since.
    bytes: Vec<u8>,
    content: Content,
}

/// What a rule can be written into.
enum Content {
    /// A document of the Task API.
    Document(Box<Source>, Variables),
    /// An operator of Kaapana.
    Operator(Operator),
    /// PLATO's registry of task types.
    Registry(Registry),
}

impl File {
    /// Reads and checks the file.
    pub(super) fn read(path: &Path, args: &FitArgs) -> Result<Self, Failure> {
        let (path, content) = match OperatorPath::from_path(path) {
            _ if Registry::is_at(path) => {
                refuse_options_of_documents(args)?;
                let read = resolve::registry(path).map_err(Failure::from_library)?;
                (path.to_owned(), Content::Registry(read))
            }
            Some(operator) => {
                refuse_options_of_documents(args)?;
                let read = resolve::operator(&operator).map_err(Failure::from_library)?;
                (operator.path, Content::Operator(read))
            }
            None => {
                let variables = args.variables.variables()?;
                let source = resolve::source(path, &variables).map_err(Failure::from_library)?;
                check_document(&source).map_err(Failure::from_library)?;
                (path.to_owned(), Content::Document(Box::new(source), variables))
            }
        };
        let bytes = std::fs::read(&path).map_err(|source| output_file::unwritten(&path, source))?;
        Ok(Self { path, bytes, content })
    }

    /// The dialect of a document; `None` if unknown.
    pub(super) fn dialect(&self) -> Option<Dialect> {
        match &self.content {
            Content::Document(source, _) => source.dialect(),
            Content::Operator(_) | Content::Registry(_) => None,
        }
    }

    /// The limit that an operator has now; `None` if unknown, or with a document, whose rules the records have.
    pub(super) fn limit(&self) -> Option<FittedRule> {
        match &self.content {
            Content::Document(..) | Content::Registry(_) => None,
            Content::Operator(operator) => operator.memory().ok().map(|memory| FittedRule::constant(memory.limit)),
        }
    }

    /// Inserts the rule and returns a diff.
    pub(super) fn write(&self, args: &FitArgs, fitted: &Calibration) -> Result<String, Failure> {
        let (text, notes) = match &self.content {
            Content::Document(source, variables) => edit_document(source, variables, args, fitted)?,
            Content::Operator(operator) => {
                let fixed = &fitted.declaration.fixed;
                let edited = operator.edit(fixed.request, fixed.limit).map_err(|flawed| Failure::flawed(&flawed))?;
                (
                    edited.text,
                    [
                        vec![format!("an operator has one amount for all inputs: this one is for {}", fixed.inputs)],
                        edited.notes,
                    ]
                    .concat(),
                )
            }
            Content::Registry(_) => {
                let error = "a registry sets the memory of containers, and a container may run several tasks";
                let help = "add --all, so that each container gets the largest need of its tasks";
                return Err(Failure::new(Exit::Usage, error, Some(help.to_owned())));
            }
        };
        self.put(args, &text, &notes)
    }

    /// Writes what these tasks need into a registry, and returns a diff.
    pub(super) fn write_needs(&self, args: &FitArgs, needs: &[(String, Option<Bytes>)]) -> Result<String, Failure> {
        let Content::Registry(registry) = &self.content else {
            let error = "--all writes into PLATO's task_type_registry.xml, not into the file of one task";
            return Err(Failure::new(
                Exit::Usage,
                error,
                Some("select the task with --task instead of --all".to_owned()),
            ));
        };
        let edited = registry.with_needs(needs).map_err(|flawed| Failure::flawed(&flawed))?;
        self.put(args, &edited.text, &edited.notes)
    }

    /// Says the notes, writes the text unless it is there, and returns a diff.
    fn put(&self, args: &FitArgs, text: &str, notes: &[String]) -> Result<String, Failure> {
        for note in notes {
            output::say(&printable(&format!("note: {note}")));
        }
        let old = byte_order_mark::strip_bytes(&self.bytes);
        let mark = &self.bytes[..self.bytes.len() - old.len()];
        let old = String::from_utf8_lossy(old);
        let name = self.path.display().to_string();
        if old == text {
            return Ok(format!("{name} is already up to date\n"));
        }
        let diff = TextDiff::from_lines(old.as_ref(), text);
        let diff = diff.unified_diff().context_radius(3).header(&name, &name).to_string();
        if !args.dry_run {
            self.replace(&[mark, text.as_bytes()].concat())?;
        }
        Ok(diff)
    }

    /// Writes the file unless it has changed since it was read.
    fn replace(&self, bytes: &[u8]) -> Result<(), Failure> {
        let unwritten = |source| output_file::unwritten(&self.path, source);
        let failed = |state: &str, help: &str| {
            Failure::new(Exit::Host, format!("{} {state}", self.path.display()), Some(help.to_owned()))
        };
        // Root could write to a read-only file.
        if std::fs::metadata(&self.path).map_err(unwritten)?.permissions().readonly() {
            let help = "make it writable with `chmod u+w`, or preview with --dry-run";
            return Err(failed("is read-only", help));
        }
        if std::fs::read(&self.path).map_err(unwritten)? != self.bytes {
            return Err(failed("changed while its rule was being fitted", "run the command again"));
        }
        output_file::write(&self.path, bytes)
    }
}

fn edit_document(
    source: &Source,
    variables: &Variables,
    args: &FitArgs,
    fitted: &Calibration,
) -> Result<(String, Vec<String>), Failure> {
    let change = Change {
        documented: super::documented(fitted)?,
        template: args.template.as_deref(),
        usual_template: fitted.template.as_deref(),
        channel: args.channel.as_deref(),
        alone: args.drop_other_rules,
    };
    let edited = write_rule(source, variables, &change).map_err(|error| match &error {
        EditError::Flawed(flawed) => Failure::flawed(flawed),
        EditError::Templated { .. } => {
            let help = "insert it by hand; `highwater fit --emit task-api` prints it".to_owned();
            Failure::new(Exit::Usage, &error, Some(help))
        }
        _ => Failure::new(Exit::Usage, &error, None),
    })?;
    Ok((edited.text, edited.notes))
}

/// An operator has neither templates nor channels.
fn refuse_options_of_documents(args: &FitArgs) -> Result<(), Failure> {
    let given = [
        ("--template", args.template.is_some()),
        ("--channel", args.channel.is_some()),
        ("--drop-other-rules", args.drop_other_rules),
    ];
    let Some((option, _)) = given.into_iter().find(|(_, is_given)| *is_given) else { return Ok(()) };
    let error =
        format!("{option} is for a processing-container.json or a task.json, not for an operator or a registry");
    Err(Failure::new(Exit::Usage, error, Some("remove it".to_owned())))
}
