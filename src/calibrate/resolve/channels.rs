//! Checks the directories of a task's channels.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::task::{Channel, ChannelKind, Task, TaskSpec, Volume, VolumeSource};

use super::note::{Finding, Note, Origin};

/// Reports inputs that do not exist or cannot be read, and directories that are used twice. `document` is the name of
/// the task.json.
pub(super) fn look_at(task: &Task, spec: &TaskSpec, document: &str, notes: &mut Vec<Note>) {
    for channel in &task.channels {
        let volume = volume(spec, channel);
        if let Some(seen) = trouble(channel, volume, document) {
            notes.push(note(seen, volume));
        }
    }
    shared(task, spec, notes);
}

/// The directory behind a channel that is a symbolic link: container engines mount it, and its size is measured.
pub fn followed(path: &Path) -> PathBuf {
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let target = if is_link { fs::canonicalize(path).ok() } else { None };
    target.unwrap_or_else(|| path.to_owned())
}

fn volume<'a>(spec: &'a TaskSpec, channel: &Channel) -> Option<&'a Volume> {
    let volumes = match channel.kind {
        ChannelKind::Input => &spec.inputs,
        ChannelKind::Output => &spec.outputs,
    };
    volumes.iter().find(|volume| volume.name.value == channel.name)
}

fn note(seen: Finding, volume: Option<&Volume>) -> Note {
    let span = volume.map(|volume| match &volume.source {
        VolumeSource::Host(path) => path.span.clone(),
        VolumeSource::Kubernetes(_) => volume.name.span.clone(),
    });
    Note { seen, origin: Origin::Task, span }
}

fn trouble(channel: &Channel, volume: Option<&Volume>, document: &str) -> Option<Finding> {
    let name = channel.name.clone();
    let Some(path) = channel.host_path.clone() else {
        return Some(Finding::OnVolume { channel: name, kind: channel.kind });
    };
    if channel.kind == ChannelKind::Output {
        return None;
    }
    let error = fs::read_dir(&path).err()?;
    Some(match error.kind() {
        io::ErrorKind::NotFound => {
            Finding::InputMissing { channel: name, path, beside: volume.and_then(|volume| beside(volume, document)) }
        }
        io::ErrorKind::NotADirectory => Finding::InputNotAFolder { channel: name, path },
        _ => Finding::InputUnreadable { channel: name, path, error: error.to_string() },
    })
}

/// A relative path resolved against the directory of the document.
fn beside(volume: &Volume, document: &str) -> Option<PathBuf> {
    let VolumeSource::Host(path) = &volume.source else { return None };
    let directory = Path::new(document).parent()?;
    Some(directory.join(&path.value)).filter(|beside| path.value.is_relative() && beside.is_dir())
}

fn shared(task: &Task, spec: &TaskSpec, notes: &mut Vec<Note>) {
    let mut seen: Vec<&Channel> = Vec::new();
    for channel in &task.channels {
        let Some(path) = &channel.host_path else { continue };
        match seen.iter().find(|known| known.host_path.as_ref() == Some(path)) {
            Some(first) if first.kind != channel.kind => {
                let (output, input) = (channel.name.clone(), first.name.clone());
                notes.push(note(Finding::OutputIsInput { output, input, path: path.clone() }, volume(spec, channel)));
            }
            Some(first) => {
                let (first, second) = (first.name.clone(), channel.name.clone());
                notes.push(note(Finding::SharedFolder { first, second, path: path.clone() }, volume(spec, channel)));
            }
            None => seen.push(channel),
        }
    }
}
