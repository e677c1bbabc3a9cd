//! Why an operation failed: the error, its category and its remedy.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::measure::MeasureError;
use super::predict::PredictError;
use super::resolve::{self, LookupError, ResolveError};
use crate::directory::Refusal;
use crate::model::problem::Flawed;
use crate::runner::StartError;
use crate::runner::container::ContainerError;
use crate::runner::engine::EngineError;
use crate::runner::pod::PodError;
use crate::store::{FolderError, ReadError, StoreError};

/// The remedy for a full disk while recording.
pub const NO_ROOM: &str =
    "make room on the disk (or raise `ulimit -f`), then continue; the existing records are intact";

/// What a user should know when the engine, or the process that supervised a task, is gone.
pub const ENGINE_LOST: &str = "lost the container engine or the highwater process that supervised the task, or it does not respond; measurements \
     up to then are kept. `highwater clean` removes a container left behind once its engine responds";

/// Who has to do something about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Category {
    /// Wrong usage, or an invalid file.
    Usage,
    /// An unsupported host or engine.
    Host,
    /// A system call or a request failed.
    System,
    /// The program of the task does not exist.
    NotFound,
    /// The program of the task cannot be executed.
    NotExecutable,
    /// The task failed.
    TaskFailed,
    /// Too little data for an answer.
    TooLittleData,
    /// Interrupted.
    Interrupted,
}

/// Why an operation failed, and what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// Who has to do something.
    pub category: Category,
    /// What happened.
    pub cause: Cause,
    /// The remedy, if known.
    pub help: Option<String>,
}

/// What happened.
#[derive(Debug)]
pub enum Cause {
    /// An error with its chain of sources.
    Error(Box<dyn Error + Send + Sync>),
    /// A document with problems, each at its position.
    Flawed(Box<Flawed>),
}

impl Failure {
    /// An error, or a message, and, if known, its remedy.
    pub fn new(category: Category, error: impl Into<Box<dyn Error + Send + Sync>>, help: Option<String>) -> Self {
        Self { category, cause: Cause::Error(error.into()), help }
    }

    /// Wrong usage, and its remedy.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>, help: impl Into<String>) -> Self {
        Self::new(Category::Usage, error, Some(help.into()))
    }

    /// A host that cannot do what is wanted.
    pub fn host(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Category::Host, error, None)
    }
}

/// What failed, for the reason of its source.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing}")]
pub struct Failed {
    doing: String,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

impl Failed {
    /// An error while doing this, such as `read the plan sweep/plan.json`.
    pub fn to(doing: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { doing: doing.into(), source: source.into() }
    }

    /// An error while reading this file.
    pub fn reading(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::to(format!("read {}", path.display()), source)
    }

    /// An error while writing this file.
    pub fn writing(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::to(format!("write {}", path.display()), source)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Error(error) => error.fmt(f),
            Cause::Flawed(flawed) => flawed.fmt(f),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Error(error) => error.source(),
            Cause::Flawed(flawed) => flawed.source(),
        }
    }
}

impl From<Flawed> for Failure {
    fn from(flawed: Flawed) -> Self {
        Self { category: Category::Usage, cause: Cause::Flawed(Box::new(flawed)), help: None }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let help = error.remedy();
        Self::new(category_of(&error), error, help)
    }
}

fn category_of(error: &EngineError) -> Category {
    match error {
        EngineError::NotFound { .. }
        | EngineError::NotAllowed { .. }
        | EngineError::Scheme { .. }
        | EngineError::Context(_)
        | EngineError::Unanswered { .. }
        | EngineError::WrongId { .. }
        | EngineError::Runtime(_)
        | EngineError::NotBuilt => Category::Host,
        EngineError::NoFile { .. } | EngineError::ImageName { .. } => Category::Usage,
        EngineError::Request { .. }
        | EngineError::NoImage { .. }
        | EngineError::Pull { .. }
        | EngineError::PullInterrupted { .. } => Category::System,
    }
}

impl From<PodError> for Failure {
    fn from(error: PodError) -> Self {
        let help = error.remedy();
        Self::new(category_of_pod(&error), error, help)
    }
}

fn category_of_pod(error: &PodError) -> Category {
    match error {
        PodError::NotBuilt | PodError::Config { .. } | PodError::Runtime(_) | PodError::NoProbe { .. } => {
            Category::Host
        }
        PodError::Request { .. } | PodError::NotStarted { .. } | PodError::DoesNotFit { .. } => Category::System,
        PodError::Template { .. } | PodError::NoCommand { .. } | PodError::Unsupported { .. } => Category::Usage,
    }
}

impl From<resolve::ReadError> for Failure {
    fn from(error: resolve::ReadError) -> Self {
        match error {
            resolve::ReadError::Flawed(flawed) => flawed.into(),
            error @ (resolve::ReadError::Missing { .. }
            | resolve::ReadError::Folder { .. }
            | resolve::ReadError::TooLarge { .. }
            | resolve::ReadError::Unreadable { .. }) => {
                let help = error.help();
                Self::new(Category::Usage, error, help)
            }
        }
    }
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Engine(source) => match source.downcast::<EngineError>() {
                Ok(error) => (*error).into(),
                Err(source) => Self::host(LookupError::Engine(source)),
            },
            LookupError::Read(resolve::ReadError::Flawed(flawed)) => flawed.into(),
            error @ (LookupError::Read(_) | LookupError::NotGiven) => Self::new(Category::Usage, error, None),
        }
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::UnknownTemplate(flawed) => flawed.into(),
            ResolveError::Lookup { source: LookupError::Read(error), .. } => error.into(),
            ResolveError::Lookup { source: source @ LookupError::Engine(_), .. } => source.into(),
            error @ ResolveError::Lookup { source: LookupError::NotGiven, .. } => Self::usage(
                error,
                "give the file with --processing-container FILE, or start the container engine that has the image",
            ),
        }
    }
}

impl From<PredictError> for Failure {
    fn from(error: PredictError) -> Self {
        let category = match error {
            PredictError::Survey { .. } => Category::Host,
            PredictError::Selection { .. } => Category::Usage,
        };
        Self::new(category, error, None)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let help = match &error {
            ReadError::Newer { .. } => "update highwater",
            ReadError::NotRecords { is_table: true, .. } => {
                "convert a table of runs to records with `highwater import FILE -o FILE.jsonl`"
            }
            ReadError::Unreadable { .. }
            | ReadError::NotRecords { .. }
            | ReadError::LongLine { .. }
            | ReadError::NoRecords(_) => {
                "give a file written by `highwater run --record` or a directory written by `highwater sweep`"
            }
        };
        Self::usage(error, help)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let help = match &error {
            StoreError::Moved { .. } => Some("move it back, then continue; a removed file cannot be recovered"),
            _ if error.is_out_of_space() => Some(NO_ROOM),
            StoreError::Open { path, source } if source.kind() == io::ErrorKind::NotFound => {
                let help =
                    path.parent().map(|parent| format!("create the directory first: mkdir -p {}", parent.display()));
                return Self::new(Category::Host, error, help);
            }
            StoreError::Open { .. } | StoreError::Append { .. } | StoreError::Encode(_) => {
                error.refusal().map(Refusal::remedy)
            }
        };
        Self::new(Category::Host, error, help.map(str::to_owned))
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        if let Some(refusal) = error.refusal() {
            let help = refusal.remedy();
            return Self::usage(error, help);
        }
        let (category, help) = match error {
            FolderError::Read(error) => return error.into(),
            FolderError::Store(error) => return error.into(),
            FolderError::Exists(_) => (Category::Usage, Some("continue that sweep, or choose another directory")),
            FolderError::NotEmpty { .. } => (Category::Usage, Some("choose an empty or new directory")),
            FolderError::NoPlan(_) => (Category::Usage, Some("give a directory created by `highwater sweep`")),
            FolderError::NotAPlan { .. } => (Category::Usage, None),
            FolderError::NewerPlan { .. } => (Category::Usage, Some("update highwater")),
            FolderError::Held { .. } => (
                Category::Host,
                Some("wait for that process or stop it; only one process at a time can write to a directory"),
            ),
            FolderError::Make { .. }
            | FolderError::Lock { .. }
            | FolderError::ReadPlan { .. }
            | FolderError::WritePlan { .. }
            | FolderError::Keep { .. }
            | FolderError::Mend { .. } => (Category::Host, error.is_out_of_space().then_some(NO_ROOM)),
        };
        Self::new(category, error, help.map(str::to_owned))
    }
}

impl From<ContainerError> for Failure {
    fn from(error: ContainerError) -> Self {
        let help = error.remedy();
        Self::new(category_of_container(&error), error, help)
    }
}

fn category_of_container(error: &ContainerError) -> Category {
    match error {
        ContainerError::Engine(error) => category_of(error),
        ContainerError::NoProgram { .. } => Category::NotFound,
        ContainerError::NotExecutable { .. } => Category::NotExecutable,
        ContainerError::SwapBelowLimit { .. } | ContainerError::SwapWithoutLimit => Category::Usage,
        ContainerError::OptionNotKept { .. }
        | ContainerError::TooManyCpus { .. }
        | ContainerError::NoGpus { .. }
        | ContainerError::NoDevice { .. } => Category::Host,
        ContainerError::NoSource { .. }
        | ContainerError::SourceNoText { .. }
        | ContainerError::OutputFolder { .. }
        | ContainerError::LimitTooLow { .. }
        | ContainerError::LimitNotKept { .. }
        | ContainerError::NameTaken { .. }
        | ContainerError::LabelTaken { .. }
        | ContainerError::NothingToRun { .. }
        | ContainerError::NoProbe { .. } => Category::System,
    }
}

impl From<MeasureError> for Failure {
    /// Explains why a run could not be measured.
    fn from(error: MeasureError) -> Self {
        let (category, help) = match &error {
            MeasureError::Start(StartError::NotFound { interpreter, .. }) => {
                let help = if *interpreter {
                    "check the first line of the script, or run `file` on the program"
                } else {
                    "check the spelling; a program in the current directory needs `./` before its name"
                };
                (Category::NotFound, Some(help.to_owned()))
            }
            MeasureError::Start(StartError::NotExecutable { program, source }) => {
                let help = not_executable_help(Path::new(program), source);
                (Category::NotExecutable, help.map(str::to_owned))
            }
            MeasureError::Start(StartError::NoLimit { remedy, .. } | StartError::NoCgroup { remedy, .. }) => {
                (Category::System, Some(remedy.clone()))
            }
            MeasureError::Start(StartError::Container(error)) => (category_of_container(error), error.remedy()),
            MeasureError::Start(StartError::Pod(error)) => (category_of_pod(error), error.remedy()),
            MeasureError::Start(_) | MeasureError::Watch(_) | MeasureError::Finish(_) => (Category::System, None),
        };
        Self::new(category, error, help)
    }
}

fn not_executable_help(program: &Path, source: &io::Error) -> Option<&'static str> {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES) if program.is_dir() => Some("that is a directory; name a program in it"),
        Some(Errno::EACCES) => Some("make it executable with `chmod +x`, or name its interpreter"),
        Some(Errno::ENOEXEC) => {
            Some("it is not a program for this machine; name its interpreter, or build it for this machine")
        }
        Some(Errno::ENOMEM | Errno::E2BIG | Errno::EAGAIN) => {
            Some("if you gave a --limit, it may be too low to start a program at all")
        }
        _ => None,
    }
}
