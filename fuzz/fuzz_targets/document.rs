//! Documents with templates: whatever they hold, reading them ends, and what is wrong has a place.
#![no_main]

use highwater::calibrate::resolve::render;
use highwater::model::document::{Document, Schema, Variables};
use highwater::model::problem::Flawed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(flawed) = read(text) {
        for span in flawed.problems.iter().filter_map(|problem| problem.span.clone()) {
            assert!(flawed.text.get(span.clone()).is_some(), "{span:?} is outside of {:?}", flawed.text);
        }
    }
});

fn read(text: &str) -> Result<(), Flawed> {
    let mut variables = Variables::with_env([("HOME".to_owned(), "/home/ada".to_owned())]);
    variables.set("model.size=large").expect("a name and a value");
    let source = render("document", text, &variables)?;
    match Schema::detect(&source) {
        Some(Schema::ProcessingContainer) => drop(Document::processing_container(source)?),
        Some(Schema::Task) | None => drop(Document::task(source)?),
    }
    Ok(())
}
