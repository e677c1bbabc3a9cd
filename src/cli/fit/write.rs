//! `fit --write`: replaces the document with the one that has the rule, and shows the difference.

use std::path::{Path, PathBuf};

use highwater::calibrate::fit::{Calibration, check_document, write_rule};
use highwater::calibrate::resolve::source;
use highwater::model::byte_order_mark;
use highwater::model::document::{Change, EditError, Source, Variables};
use highwater::model::fit::Documented;
use similar::TextDiff;

use super::FitArgs;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::table::printable;
use crate::cli::task::TemplateArgs;
use crate::cli::{output, output_file};

/// The document to edit.
pub(super) struct File {
    path: PathBuf,
    /// The content as read; the file is not overwritten if it has changed since.
    bytes: Vec<u8>,
    pub(super) source: Source,
    variables: Variables,
}

impl File {
    /// Reads and checks the document.
    pub(super) fn read(path: &Path, variables: &TemplateArgs) -> Result<Self, Failure> {
        let variables = variables.variables()?;
        let source = source(path, &variables).map_err(Failure::from_library)?;
        check_document(&source).map_err(Failure::from_library)?;
        let bytes = std::fs::read(path).map_err(|source| output_file::unwritten(path, source))?;
        Ok(Self { path: path.to_owned(), bytes, source, variables })
    }

    /// Inserts the rule and returns a diff.
    pub(super) fn write(
        &self,
        documented: &Documented,
        args: &FitArgs,
        fitted: &Calibration,
    ) -> Result<String, Failure> {
        let change = Change {
            documented,
            template: args.template.as_deref(),
            usual_template: fitted.template.as_deref(),
            channel: args.channel.as_deref(),
            alone: args.drop_other_rules,
        };
        let edited = write_rule(&self.source, &self.variables, &change).map_err(|error| match &error {
            EditError::Flawed(flawed) => Failure::flawed(flawed),
            EditError::Templated { .. } => {
                let help = "insert it by hand; `highwater fit --emit task-api` prints it".to_owned();
                Failure::new(Exit::Usage, &error, Some(help))
            }
            _ => Failure::new(Exit::Usage, &error, None),
        })?;
        for note in &edited.notes {
            output::say(&printable(&format!("note: {note}")));
        }
        let old = byte_order_mark::strip_bytes(&self.bytes);
        let mark = &self.bytes[..self.bytes.len() - old.len()];
        let old = String::from_utf8_lossy(old);
        let name = self.path.display().to_string();
        if old == edited.text {
            return Ok(format!("{name} is already up to date\n"));
        }
        let diff = TextDiff::from_lines(old.as_ref(), &edited.text);
        let diff = diff.unified_diff().context_radius(3).header(&name, &name).to_string();
        if !args.dry_run {
            self.replace(&[mark, edited.text.as_bytes()].concat())?;
        }
        Ok(diff)
    }

    /// Writes the document unless it has changed since it was read.
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
