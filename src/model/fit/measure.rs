//! Measures: ways to map an input to a number n.

use std::fmt;

use serde::Serialize;

use crate::model::rule::{Mode, ScaleRule};

/// How n is computed from the files of a channel, as in a scale rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Measure {
    /// The channel; `None` if unspecified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// How the sizes of the files are combined.
    pub mode: Mode,
    /// The directory below the channel's root to search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_dir: Option<String>,
    /// The glob for the files that count; all files if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_glob: Option<String>,
    /// The regex for their relative paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_regex: Option<String>,
}

/// Which measures of the input to consider: those that agree with all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeasureFilter {
    /// The input channel.
    pub channel: Option<String>,
    /// How the sizes of the files are combined.
    pub mode: Option<Mode>,
    /// The glob for the files that count, such as `*.nii.gz`.
    pub glob: Option<String>,
    /// The regex for their relative paths.
    pub regex: Option<String>,
}

impl MeasureFilter {
    /// Whether the measures are restricted by anything but the channel.
    pub fn chooses_files(&self) -> bool {
        self.mode.is_some() || self.glob.is_some() || self.regex.is_some()
    }

    /// Whether a measure is to be considered.
    pub fn matches(&self, measure: &Measure) -> bool {
        let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        same(&self.channel, &measure.channel)
            && self.mode.is_none_or(|mode| mode == measure.mode)
            && same(&self.glob, &measure.target_glob)
            && same(&self.regex, &measure.target_regex)
    }
}

impl Measure {
    /// All files of a channel.
    pub fn all(channel: impl Into<String>, mode: Mode) -> Self {
        Self { channel: Some(channel.into()), mode, target_dir: None, target_glob: None, target_regex: None }
    }

    /// The files of a channel that a rule counts, in this mode.
    pub fn counted_by(rule: &ScaleRule, channel: impl Into<String>, mode: Mode) -> Self {
        // An empty string is the same as an absent field.
        let said =
            |text: &Option<String>, nothing: &str| text.clone().filter(|text| !text.is_empty() && text != nothing);
        Self {
            target_dir: said(&rule.target_dir, "."),
            target_glob: said(&rule.target_glob, "*"),
            target_regex: said(&rule.target_regex, ".*"),
            ..Self::all(channel, mode)
        }
    }

    /// The measure of a table column, according to its name: `input_bytes.scans.max_file_size` is a channel and a mode,
    /// `input_bytes.max_file_size` a mode, anything else the sum of a channel.
    pub fn of_column(name: &str) -> Self {
        let rest = name.split_once('.').map_or("", |(_, rest)| rest);
        let (channel, last) = rest.rsplit_once('.').unwrap_or(("", rest));
        let (channel, mode) = match last.parse() {
            Ok(mode) => (channel, mode),
            Err(_) => (rest, Mode::Sum),
        };
        let channel = Some(channel.to_owned()).filter(|channel| !channel.is_empty());
        Self { channel, mode, target_dir: None, target_glob: None, target_regex: None }
    }

    /// Whether it counts only some of the files.
    pub fn is_narrowed(&self) -> bool {
        self.target_dir.is_some() || self.target_glob.is_some() || self.target_regex.is_some()
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mode)?;
        if let Some(channel) = &self.channel {
            write!(f, " of {channel}")?;
        }
        if let Some(dir) = &self.target_dir {
            write!(f, " in {dir}")?;
        }
        if let Some(glob) = &self.target_glob {
            write!(f, ", files {glob}")?;
        }
        if let Some(regex) = &self.target_regex {
            write!(f, ", paths like {regex}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_name_a_channel_and_a_mode() {
        let read = |name: &str| Measure::of_column(name).to_string();
        assert_eq!(read("input_bytes"), "sum");
        assert_eq!(read("input_bytes.max_file_size"), "max_file_size");
        assert_eq!(read("input_bytes.scans.max_item_sum"), "max_item_sum of scans");
        assert_eq!(read("input_bytes.weights"), "sum of weights");
    }

    #[test]
    fn a_measure_is_told_in_words() {
        let glob = Some("*.nii.gz".to_owned());
        let measure = Measure { target_glob: glob, ..Measure::all("scans", Mode::MaxFileSize) };
        assert_eq!(measure.to_string(), "max_file_size of scans, files *.nii.gz");
    }
}
