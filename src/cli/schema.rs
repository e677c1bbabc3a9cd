//! `highwater schema`: the JSON Schemas of what highwater writes.

use clap::{Args, ValueEnum};
use highwater::model::observation::Observation;
use highwater::report::model::Report;
use schemars::schema_for;

use super::exit::Exit;
use super::failure::Failure;
use super::output;
use super::predict::Predicted;

const EXAMPLES: &str = "\
Examples:
  highwater schema observation         a line of `run --record`, or of a sweep's observations.jsonl
  highwater schema prediction          `predict --format json`
  highwater schema report              `report --format json`

The schemas follow JSON Schema 2020-12. Fields may be added at any time; the schema_version of a document increases \
when a field changes its meaning or is removed.";

/// Print the JSON Schema of something that highwater writes.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SchemaArgs {
    /// Document to describe.
    #[arg(value_enum, value_name = "NAME")]
    name: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The record of one run.
    Observation,
    /// What the scale rules of a task predict.
    Prediction,
    /// What recorded runs show.
    Report,
}

pub(crate) fn run(args: &SchemaArgs) -> Result<Exit, Failure> {
    let schema = match args.name {
        Name::Observation => schema_for!(Observation),
        Name::Prediction => schema_for!(Predicted<'_>),
        Name::Report => schema_for!(Report),
    };
    output::json(&schema)?;
    Ok(Exit::Done)
}
