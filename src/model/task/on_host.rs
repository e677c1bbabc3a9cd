//! Converts a task for running outside of its container: paths in the container become paths of the host.

use std::fmt;
use std::path::PathBuf;

use super::{ChannelKind, Task};

/// What a process runner starts in place of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnHost {
    /// The command, never empty; `None` if only the image defines it.
    pub command: Option<Vec<String>>,
    /// The environment variables in addition to the caller's.
    pub env: Vec<(String, String)>,
    /// The working directory; `None` for the caller's.
    pub working_dir: Option<PathBuf>,
    /// The replacements, for a message.
    pub replacements: Vec<Replacement>,
    /// Mounted paths of channels with a directory on the host that command, environment and working directory do not
    /// mention: if the task uses them, it uses paths of the host.
    pub unnamed: Vec<(ChannelKind, String)>,
}

/// A path of the container that was replaced by a path of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Its location.
    pub place: Replaced,
    /// The channel.
    pub channel: String,
    /// The path in the container.
    pub mounted_path: String,
    /// The path on the host.
    pub host_path: PathBuf,
}

/// The location of a replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// A word of the command, counted from 0.
    Word(usize),
    /// The value of an environment variable.
    Env(String),
    /// The working directory.
    WorkingDir,
}

impl fmt::Display for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} ", self.mounted_path, self.host_path.display())?;
        match &self.place {
            Replaced::Word(0) => f.write_str("in the program"),
            Replaced::Word(word) => write!(f, "in argument {word}"),
            Replaced::Env(name) => write!(f, "in {name}"),
            Replaced::WorkingDir => f.write_str("in the working directory"),
        }
    }
}

impl Task {
    /// Converts the task to a process of the host: if the command, the environment or the working directory contains a
    /// path below the `mounted_path` of a channel, it is replaced by the directory of the host.
    ///
    /// Only whole paths are replaced: they begin at the start of a word or after a character that ends a path (`=`,
    /// `:`, `,`, `;`, white space, quotes, brackets, `<`, `>`, `|`, `&`), and extend to the end, a `/` or such a
    /// character. With nested channels the longest path counts. A channel that is mounted at `/`, that is on a volume
    /// of a cluster, or whose path on the host is not UTF-8, is not replaced.
    pub fn on_host(&self) -> OnHost {
        let paths = Paths::new(self);
        let mut replacements = Vec::new();
        let mut replace = |text: &str, place: Replaced| paths.replace(text, &place, &mut replacements);
        let command = self
            .command
            .as_ref()
            .map(|words| words.iter().enumerate().map(|(index, word)| replace(word, Replaced::Word(index))).collect());
        let env =
            self.env.iter().map(|(name, value)| (name.clone(), replace(value, Replaced::Env(name.clone())))).collect();
        let working_dir = self.working_dir.as_ref().map(|dir| match dir.to_str() {
            Some(text) => PathBuf::from(replace(text, Replaced::WorkingDir)),
            None => dir.clone(),
        });
        let is_named = |path: &str| replacements.iter().any(|named| named.mounted_path == path.trim_end_matches('/'));
        let unnamed = self.channels.iter().filter(|channel| channel.host_path.is_some());
        let unnamed = unnamed.filter(|channel| !is_named(&channel.mounted_path));
        let unnamed = unnamed.map(|channel| (channel.kind, channel.mounted_path.clone())).collect();
        OnHost { command, env, working_dir, replacements, unnamed }
    }
}

/// The channels' paths, longest first.
struct Paths<'a>(Vec<ChannelPath<'a>>);

struct ChannelPath<'a> {
    mounted: &'a str,
    channel: &'a str,
    host: &'a str,
}

impl<'a> Paths<'a> {
    fn new(task: &'a Task) -> Self {
        let mut paths: Vec<_> = task
            .channels
            .iter()
            .filter_map(|channel| {
                let mounted = channel.mounted_path.trim_end_matches('/');
                let host = channel.host_path.as_deref()?.to_str()?;
                (!mounted.is_empty()).then_some(ChannelPath { mounted, channel: &channel.name, host })
            })
            .collect();
        // Stable: of two channels at the same path the first counts.
        paths.sort_by_key(|known| std::cmp::Reverse(known.mounted.len()));
        Self(paths)
    }

    fn replace(&self, text: &str, place: &Replaced, replacements: &mut Vec<Replacement>) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        let mut at_start = true;
        while let Some(char) = rest.chars().next() {
            let found = if at_start { self.at_start_of(rest) } else { None };
            if let Some(&ChannelPath { mounted, channel, host }) = found {
                replaced.push_str(host);
                replacements.push(Replacement {
                    place: place.clone(),
                    channel: channel.to_owned(),
                    mounted_path: mounted.to_owned(),
                    host_path: PathBuf::from(host),
                });
                rest = &rest[mounted.len()..];
                at_start = false;
            } else {
                replaced.push(char);
                rest = &rest[char.len_utf8()..];
                at_start = ends_path(char);
            }
        }
        replaced
    }

    fn at_start_of(&self, text: &str) -> Option<&ChannelPath<'a>> {
        self.0.iter().find(|known| {
            let behind = text.strip_prefix(known.mounted).map(|rest| rest.chars().next());
            behind.is_some_and(|next| next.is_none_or(|char| char == '/' || ends_path(char)))
        })
    }
}

fn ends_path(char: char) -> bool {
    char.is_whitespace() || "=:,;'\"`()[]{}<>|&".contains(char)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::Channel;

    fn task(channels: &[(&str, &str)]) -> Task {
        let mut task = Task::bare(vec!["run".to_owned()]);
        task.channels = channels
            .iter()
            .map(|(mounted, host)| Channel {
                name: mounted.trim_matches('/').replace('/', "-"),
                kind: ChannelKind::Input,
                host_path: Some(PathBuf::from(host)),
                mounted_path: (*mounted).to_owned(),
                rule: None,
            })
            .collect();
        task
    }

    fn replaced(word: &str) -> String {
        let mut task = task(&[("/data", "/host/all"), ("/data/in/", "/host/in put"), ("/", "/host/root")]);
        task.command = Some(vec![word.to_owned()]);
        task.on_host().command.unwrap().remove(0)
    }

    #[test]
    fn whole_paths_are_replaced_where_they_stand() {
        assert_eq!(replaced("/data/in"), "/host/in put");
        assert_eq!(replaced("/data/in/a.nii"), "/host/in put/a.nii");
        assert_eq!(replaced("/data/other"), "/host/all/other");
        assert_eq!(replaced("--in=/data/in:/data"), "--in=/host/in put:/host/all");
        assert_eq!(
            replaced("cat </data/in/a >'/data/b'; ls /data"),
            "cat </host/in put/a >'/host/all/b'; ls /host/all"
        );
    }

    #[test]
    fn other_paths_are_left_alone() {
        for word in ["/database", "/data.bak", "/my/data", "x/data", "data", "/", "/etc/passwd", "$X/data", ""] {
            assert_eq!(replaced(word), word);
        }
    }

    #[test]
    fn what_was_replaced_is_said() {
        let mut task = task(&[("/in", "/host/in")]);
        task.command = Some(vec!["/in/tool".to_owned(), "--from".to_owned(), "/in".to_owned()]);
        task.env = vec![("SCANS".to_owned(), "/in/scans".to_owned()), ("PATH".to_owned(), "/bin".to_owned())];
        task.working_dir = Some(PathBuf::from("/in"));
        let on_host = task.on_host();
        assert_eq!(on_host.env[0].1, "/host/in/scans");
        assert_eq!(on_host.working_dir, Some(PathBuf::from("/host/in")));
        let said: Vec<String> = on_host.replacements.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "/in is /host/in in the program",
                "/in is /host/in in argument 2",
                "/in is /host/in in SCANS",
                "/in is /host/in in the working directory",
            ]
        );
    }

    #[test]
    fn channels_that_nothing_names_are_listed() {
        let mut task = task(&[("/in/", "/host/in"), ("/atlas", "/host/atlas"), ("/volume", "/")]);
        task.channels[2].host_path = None;
        task.command = Some(vec!["start.py".to_owned(), "--in=/in/a".to_owned()]);
        assert_eq!(task.on_host().unnamed, [(ChannelKind::Input, "/atlas".to_owned())]);
    }

    #[test]
    fn a_volume_of_a_cluster_has_no_path_here() {
        let mut task = task(&[("/in", "/host/in")]);
        task.channels[0].host_path = None;
        task.command = Some(vec!["/in/tool".to_owned()]);
        assert_eq!(task.on_host().command.unwrap(), ["/in/tool"]);
    }
}
