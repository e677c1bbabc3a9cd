//! What commands that use a container engine share.

use std::cell::OnceCell;
use std::ops::ControlFlow;

use clap::{Args, ValueEnum};
use highwater::calibrate::resolve::{LookupError, ProcessingContainers, ReadError, render};
use highwater::model::byte_order_mark;
use highwater::model::document::{Document, Source, Variables};
use highwater::model::task::ProcessingContainer;
use highwater::runner::engine::{Engine, EngineError, Image, Progress, PullPolicy};
use indicatif::{ProgressBar, ProgressStyle};

use super::exit::Exit;
use super::failure::Failure;
use super::table::printable;

/// The file in an image that describes its templates.
pub(crate) const PROCESSING_CONTAINER: &str = "/processing-container.json";

/// Which engine, and what it may do.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineArgs {
    /// Address of the container engine, such as unix:///run/podman/podman.sock or tcp://host:2375.
    ///
    /// By default, highwater tries DOCKER_HOST, then the current docker context, then the sockets of Docker, rootless
    /// Docker, Podman and rootless Podman.
    #[arg(long, value_name = "URL")]
    pub(crate) host: Option<String>,
    /// When to pull the image; missing: if the engine does not have it.
    #[arg(long, value_enum, default_value_t = Pull::Missing, value_name = "WHEN")]
    pub(crate) pull: Pull,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    Always,
    Missing,
    Never,
}

impl EngineArgs {
    /// Finds the engine.
    pub(crate) fn engine(&self) -> Result<Engine, Failure> {
        Engine::find(self.host.as_deref()).map_err(|error| failed(&error))
    }

    /// Finds or pulls the image; a bar on a terminal shows the progress of a pull.
    pub(crate) fn image(&self, engine: &Engine, name: &str) -> Result<Image, EngineError> {
        let policy = match self.pull {
            Pull::Always => PullPolicy::Always,
            Pull::Missing => PullPolicy::Missing,
            Pull::Never => PullPolicy::Never,
        };
        let bar = OnceCell::new();
        let mut tell = |progress: Progress| {
            let bar = bar.get_or_init(|| new_bar(name));
            bar.set_length(progress.total);
            bar.set_position(progress.loaded);
            bar.tick();
            ControlFlow::Continue(())
        };
        let image = engine.image(name, policy, &mut tell);
        if let Some(bar) = bar.get() {
            bar.finish_and_clear();
        }
        image
    }
}

fn new_bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{spinner} pulling {msg}: {bytes} of {total_bytes} {wide_bar}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(printable(name));
    bar
}

/// An error of an engine in `run`: status 3 if there is no usable engine, 125 if a request failed.
pub(crate) fn failed(error: &EngineError) -> Failure {
    Failure::new(exit_of(error), error, error.remedy())
}

/// An error of an engine in all other commands: status 3 if a request failed.
pub(crate) fn failed_elsewhere(error: &EngineError) -> Failure {
    match exit_of(error) {
        Exit::Usage => failed(error),
        _ => failed(error).with_exit(Exit::Host),
    }
}

/// The exit status for an error of an engine.
pub(crate) fn exit_of(error: &EngineError) -> Exit {
    match error {
        EngineError::NotFound { .. }
        | EngineError::NotAllowed { .. }
        | EngineError::Scheme { .. }
        | EngineError::Context(_)
        | EngineError::Unanswered { .. }
        | EngineError::WrongId { .. }
        | EngineError::Runtime(_) => Exit::Host,
        EngineError::NoFile { .. } | EngineError::ImageName { .. } => Exit::Usage,
        EngineError::Request { .. }
        | EngineError::NoImage { .. }
        | EngineError::Pull { .. }
        | EngineError::PullInterrupted { .. } => Exit::Task(125),
    }
}

/// Reads documents from images.
#[derive(Debug)]
pub(crate) struct Images<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) args: &'a EngineArgs,
    pub(crate) variables: Variables,
}

impl Images<'_> {
    /// The source of the document at the root of an image.
    pub(crate) fn source(&self, image: &str) -> Result<Source, LookupError> {
        let failed = |error: EngineError| LookupError::Engine(Box::new(error));
        self.args.image(self.engine, image).map_err(failed)?;
        let bytes = self.engine.file_of_image(image, PROCESSING_CONTAINER).map_err(failed)?;
        let name = format!("{image}:{PROCESSING_CONTAINER}");
        let text = String::from_utf8_lossy(&bytes);
        render(name, byte_order_mark::strip(&text), &self.variables)
            .map_err(|flawed| LookupError::Read(ReadError::Flawed(flawed)))
    }
}

impl ProcessingContainers for Images<'_> {
    fn of_image(&self, image: &str) -> Result<Document<ProcessingContainer>, LookupError> {
        Document::processing_container(self.source(image)?)
            .map_err(|flawed| LookupError::Read(ReadError::Flawed(flawed)))
    }
}
