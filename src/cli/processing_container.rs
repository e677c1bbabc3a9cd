//! `highwater processing-container`: prints the document in an image without running the image.

use clap::Args;
use highwater::calibrate::workload::Images;
use highwater::model::document::Document;

use super::engine::EngineArgs;
use super::exit::Exit;
use super::failure::{self, Failure};
use super::feedback::Terminal;
use super::output;
use super::task::TemplateArgs;

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
    let options = args.engine.options();
    let engine = options.engine()?;
    let feedback = Terminal::default();
    let images =
        Images { engine: &engine, options: &options, variables: args.template.variables()?, feedback: &feedback };
    let source = images.source(&args.image).map_err(Failure::from_library)?;
    let text = source.json().trim_end_matches('\n').to_owned();
    let document = Document::processing_container(source).map_err(|flawed| Failure::flawed(&flawed))?;
    output::json_text(&format!("{text}\n"))?;
    if let Some(flawed) = document.flawed() {
        failure::report_problems(&flawed);
    }
    Ok(Exit::Done)
}
