//! Notes about a resolved task.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use crate::model::problem::Problem;
use crate::model::spelling::quote;
use crate::model::task::{ChannelKind, EnvType};

/// A note about something that the user did not ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The finding.
    pub seen: Finding,
    /// The document it is about.
    pub origin: Origin,
    /// The location in the document's JSON, in bytes.
    pub span: Option<Range<usize>>,
}

/// Which document a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The task.json.
    Task,
    /// The document of the image.
    ProcessingContainer,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A channel that the template does not have.
    ChannelOnlyInTask {
        /// The channel.
        channel: String,
        /// The direction of its data.
        kind: ChannelKind,
        /// The channel that was probably meant.
        meant: Option<String>,
    },
    /// A channel that the task does not have.
    ChannelOnlyInTemplate {
        /// The channel.
        channel: String,
        /// The direction of its data.
        kind: ChannelKind,
    },
    /// The value is not one of the choices.
    OutsideChoices {
        /// The variable.
        variable: String,
        /// The value.
        value: String,
        /// The choices.
        choices: Vec<String>,
    },
    /// A value that does not match the type of its variable.
    WrongType {
        /// The variable.
        variable: String,
        /// The value.
        value: String,
        /// The type.
        kind: EnvType,
    },
    /// A variable that must not be changed was changed.
    NotAdjustable {
        /// The variable.
        variable: String,
        /// The value it has in the template.
        default: String,
    },
    /// The template does not have the variable, but a similar one.
    NearVariable {
        /// The variable.
        variable: String,
        /// The variable of the template.
        meant: String,
    },
    /// The command is an empty array.
    EmptyCommand,
    /// Resources of the template that the task's resources silently replace.
    ResourcesDropped {
        /// For example `limits.memory 4Gi`.
        dropped: Vec<String>,
    },
    /// The directory of an input does not exist.
    InputMissing {
        /// The channel.
        channel: String,
        /// The directory.
        path: PathBuf,
        /// The path resolved against the directory of the task.json, if that exists.
        beside: Option<PathBuf>,
    },
    /// The path of an input is not a directory.
    InputNotAFolder {
        /// The channel.
        channel: String,
        /// The path.
        path: PathBuf,
    },
    /// The directory of an input cannot be read.
    InputUnreadable {
        /// The channel.
        channel: String,
        /// The directory.
        path: PathBuf,
        /// The system error.
        error: String,
    },
    /// An output has the directory of an input.
    OutputIsInput {
        /// The output.
        output: String,
        /// The input.
        input: String,
        /// The directory.
        path: PathBuf,
    },
    /// Two inputs, or two outputs, have the same directory.
    SharedFolder {
        /// The first.
        first: String,
        /// The second.
        second: String,
        /// The directory.
        path: PathBuf,
    },
    /// The data of a channel are on a volume of a cluster.
    OnVolume {
        /// The channel.
        channel: String,
        /// The direction of its data.
        kind: ChannelKind,
    },
}

impl Note {
    /// The note as a warning, with a stable code.
    pub fn problem(&self) -> Problem {
        let problem = Problem::warning(self.seen.code(), self.seen.to_string());
        let problem = match self.seen.label() {
            Some(label) => problem.label(label),
            None => problem,
        };
        let problem = match self.seen.help() {
            Some(help) => problem.help(help),
            None => problem,
        };
        match &self.span {
            Some(span) => problem.at(span.clone()),
            None => problem,
        }
    }
}

impl Finding {
    /// Whether it is about directories on this machine.
    pub fn is_about_data(&self) -> bool {
        match self {
            Self::InputMissing { .. }
            | Self::InputNotAFolder { .. }
            | Self::InputUnreadable { .. }
            | Self::OutputIsInput { .. }
            | Self::SharedFolder { .. }
            | Self::OnVolume { .. } => true,
            Self::ChannelOnlyInTask { .. }
            | Self::ChannelOnlyInTemplate { .. }
            | Self::OutsideChoices { .. }
            | Self::WrongType { .. }
            | Self::NotAdjustable { .. }
            | Self::NearVariable { .. }
            | Self::EmptyCommand
            | Self::ResourcesDropped { .. } => false,
        }
    }

    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ChannelOnlyInTask { .. } => "channel-only-in-task",
            Self::ChannelOnlyInTemplate { .. } => "channel-only-in-template",
            Self::OutsideChoices { .. } => "outside-choices",
            Self::WrongType { .. } => "env-type",
            Self::NotAdjustable { .. } => "not-adjustable",
            Self::NearVariable { .. } => "near-variable",
            Self::EmptyCommand => "empty-command",
            Self::ResourcesDropped { .. } => "resources-dropped",
            Self::InputMissing { .. } => "input-missing",
            Self::InputNotAFolder { .. } => "input-not-a-folder",
            Self::InputUnreadable { .. } => "input-unreadable",
            Self::OutputIsInput { .. } => "output-is-input",
            Self::SharedFolder { .. } => "shared-folder",
            Self::OnVolume { .. } => "on-volume",
        }
    }

    fn label(&self) -> Option<String> {
        match self {
            Self::ChannelOnlyInTask { .. } => Some("not mounted".to_owned()),
            Self::ChannelOnlyInTemplate { .. } => Some("not mounted".to_owned()),
            Self::OutsideChoices { choices, .. } => {
                let quoted: Vec<String> = choices.iter().map(|choice| quote(choice)).collect();
                Some(format!("expected one of {}", quoted.join(", ")))
            }
            Self::WrongType { kind, .. } => Some(format!("expected {}", kind.expectation())),
            Self::NotAdjustable { default, .. } => Some(format!("the template has {}", quote(default))),
            Self::NearVariable { .. } => Some("added to the environment".to_owned()),
            Self::InputMissing { .. } | Self::InputNotAFolder { .. } | Self::InputUnreadable { .. } => {
                Some("its size is unknown".to_owned())
            }
            Self::OutputIsInput { .. } => Some("mounted once, read-only".to_owned()),
            Self::SharedFolder { .. } => Some("the same directory again".to_owned()),
            Self::OnVolume { kind: ChannelKind::Input, .. } => Some("its size is unknown here".to_owned()),
            Self::OnVolume { kind: ChannelKind::Output, .. } => None,
            Self::EmptyCommand => Some("no words".to_owned()),
            Self::ResourcesDropped { .. } => Some("replaces all resources of the template".to_owned()),
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::ChannelOnlyInTask { meant: Some(meant), .. } => Some(format!("did you mean `{meant}`?")),
            Self::ChannelOnlyInTask { meant: None, .. } => {
                Some("only the template can define where a channel is mounted".to_owned())
            }
            Self::ChannelOnlyInTemplate { kind: ChannelKind::Input, .. } => {
                Some("give the path of its data in the task's \"inputs\"".to_owned())
            }
            Self::ChannelOnlyInTemplate { kind: ChannelKind::Output, .. } => {
                Some("give a path in the task's \"outputs\", otherwise its data is lost with the container".to_owned())
            }
            Self::NotAdjustable { .. } => Some("remove it from the task, or ask the author of the image".to_owned()),
            Self::NearVariable { meant, .. } => Some(format!("did you mean `{meant}`?")),
            Self::EmptyCommand => Some("remove \"command\" to run the command of the template".to_owned()),
            Self::ResourcesDropped { .. } => Some("repeat in the task what should be kept".to_owned()),
            Self::InputMissing { beside: Some(beside), .. } => {
                Some(format!("paths are relative to the current directory; did you mean {}?", beside.display()))
            }
            Self::InputMissing { beside: None, .. } => Some(
                "create the directory, or correct \"host_path\"; relative paths start in the current \
                 directory"
                    .to_owned(),
            ),
            Self::InputNotAFolder { .. } => Some("give the directory of the file".to_owned()),
            Self::InputUnreadable { .. } => Some("give this user read permission".to_owned()),
            Self::OutputIsInput { .. } => Some("give the output its own directory to make it writable".to_owned()),
            Self::SharedFolder { .. } => Some("the platform mounts such a directory only once".to_owned()),
            Self::OutsideChoices { .. } | Self::WrongType { .. } | Self::OnVolume { .. } => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChannelOnlyInTask { channel, kind, .. } => {
                write!(f, "the template has no {kind} {}: the channel is dropped", quote(channel))
            }
            Self::ChannelOnlyInTemplate { channel, kind } => {
                write!(f, "the task has no {kind} {}: the channel is dropped", quote(channel))
            }
            Self::OutsideChoices { variable, value, .. } => {
                write!(f, "{} is not one of the choices of {}", quote(value), quote(variable))
            }
            Self::WrongType { variable, value, kind } => {
                write!(f, "{} does not match the type {kind} of {}", quote(value), quote(variable))
            }
            Self::NotAdjustable { variable, .. } => {
                write!(f, "{} is changed, but the template declares it as not adjustable", quote(variable))
            }
            Self::NearVariable { variable, meant } => {
                write!(f, "the template has no variable {}, but {}", quote(variable), quote(meant))
            }
            Self::EmptyCommand => f.write_str("the task's command is empty, so the image's own command runs"),
            Self::ResourcesDropped { dropped } => {
                write!(f, "the task's resources replace the template's, which lose {}", dropped.join(", "))
            }
            Self::InputMissing { channel, path, .. } => {
                write!(f, "the directory of the input {} does not exist: {}", quote(channel), path.display())
            }
            Self::InputNotAFolder { channel, path } => {
                write!(f, "the path of the input {} is not a directory: {}", quote(channel), path.display())
            }
            Self::InputUnreadable { channel, path, error } => {
                write!(f, "the directory of the input {} is not readable: {}: {error}", quote(channel), path.display())
            }
            Self::OutputIsInput { output, input, path } => {
                write!(
                    f,
                    "the output {} and the input {} share the directory {}",
                    quote(output),
                    quote(input),
                    path.display()
                )
            }
            Self::SharedFolder { first, second, path } => {
                write!(f, "the channels {} and {} share the directory {}", quote(first), quote(second), path.display())
            }
            Self::OnVolume { channel, kind } => {
                write!(f, "the {kind} {} is on a volume of a cluster", quote(channel))
            }
        }
    }
}
