//! `highwater processing-container`: prints the document in an image without running the image.

use clap::Args;
use highwater::calibrate::resolve::{LookupError, ReadError};
use highwater::model::document::Document;

use super::engine::{self, EngineArgs, Images};
use super::exit::Exit;
use super::failure::{self, Failure};
use super::output;
use super::task::{TemplateArgs, read_failure};

const EXAMPLES: &str = "\
Examples:
  highwater processing-container registry/segment:1.2      what the image says about itself
  highwater processing-container segment > processing-container.json
  highwater processing-container --pull never segment      only if the engine has the image

The file is /processing-container.json at the root of the image. It is checked as by `highwater validate`. The exit \
status is 2 if it cannot be used.";

/// Print and check the processing-container.json of an image, without running the image.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ProcessingContainerArgs {
    /// Name of the image.
    #[arg(value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

pub(crate) fn run(args: &ProcessingContainerArgs) -> Result<Exit, Failure> {
    let engine = args.engine.engine()?;
    let images = Images { engine: &engine, args: &args.engine, variables: args.template.variables()? };
    let source = images.source(&args.image).map_err(|error| match &error {
        LookupError::Engine(source) => match source.downcast_ref() {
            Some(error) => engine::failed_elsewhere(error),
            None => lookup_failure(&error),
        },
        LookupError::Read(_) | LookupError::NotGiven => lookup_failure(&error),
    })?;
    let text = source.json().trim_end_matches('\n').to_owned();
    let document = Document::processing_container(source).map_err(|flawed| Failure::flawed(&flawed))?;
    output::json_text(&format!("{text}\n"))?;
    if let Some(flawed) = document.flawed() {
        failure::report_problems(&flawed);
    }
    Ok(Exit::Done)
}

/// The document could not be read.
pub(crate) fn lookup_failure(error: &LookupError) -> Failure {
    match error {
        LookupError::Engine(source) => match source.downcast_ref() {
            Some(error) => engine::failed(error),
            None => Failure::new(Exit::Host, error, None),
        },
        LookupError::Read(error @ ReadError::Flawed(_)) => read_failure(error),
        LookupError::Read(_) | LookupError::NotGiven => Failure::new(Exit::Usage, error, None),
    }
}
