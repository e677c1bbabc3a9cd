//! Writes a rule into the text of its document.

use crate::calibrate::resolve::render;
use crate::model::document::{Change, Document, EditError, Edited, Schema, Source, Variables};
use crate::model::problem::{Flawed, Severity};

/// The text of a document with a rule written into it; everything else in it stays. The result is a valid document.
///
/// # Errors
/// See [`Source::edit`].
pub fn write_rule(source: &Source, variables: &Variables, change: &Change<'_>) -> Result<Edited, EditError> {
    let edited = source.edit(variables, change)?;
    check_document(&render(source.name(), edited.text.clone(), variables)?)?;
    Ok(edited)
}

/// Checks that a rule can be written into a document: it has to be valid. Its warnings are ignored.
///
/// # Errors
/// The errors of the document.
pub fn check_document(source: &Source) -> Result<(), Flawed> {
    let flawed = match Schema::detect(source) {
        Some(Schema::ProcessingContainer) => Document::processing_container(source.clone()).err(),
        Some(Schema::Task) | None => Document::task(source.clone()).err(),
    };
    let Some(mut flawed) = flawed else { return Ok(()) };
    flawed.problems.retain(|problem| problem.severity == Severity::Error);
    Err(flawed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::fit::{CalibrationOptions, FitOptions, Metric, Target, calibrate, group_records};
    use crate::model::rule::Dialect;
    use crate::store;

    #[test]
    fn a_calibration_is_written_into_its_document() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/records/segment/");
        let records = store::read(root.as_ref()).unwrap();
        let groups = group_records(&records.observations, Metric::Peak, false);
        let options = CalibrationOptions {
            fit: FitOptions::default(),
            dialect: Dialect::Complexity,
            target: Target::Docker,
            against: None,
            for_sizes: &[],
        };
        let calibration = calibrate(&groups[0], &options).unwrap();
        let task = include_str!("../../../fixtures/records/segment/task.json");
        let variables = Variables::default();
        let source = render("task.json", task, &variables).unwrap();
        let documented = calibration.documented.as_ref().unwrap();
        let change = Change { documented, template: None, usual_template: None, channel: None, alone: false };
        let edited = write_rule(&source, &variables, &change).unwrap();
        assert!(edited.text.contains(&calibration.complexity.unwrap()), "{}", edited.text);
        let again = render("task.json", edited.text.clone(), &variables).unwrap();
        assert_eq!(write_rule(&again, &variables, &change).unwrap().text, edited.text);
    }
}
