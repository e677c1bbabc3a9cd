//! `highwater inputs`: shows which files of a channel a scale rule counts.

mod json;
mod table;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;

use clap::Args;
use highwater::calibrate::feedback::Feedback;
use highwater::calibrate::resolve::followed;
use highwater::model::problem::Flawed;
use highwater::model::rule::Mode;
use highwater::model::selection::{Field, Flaw, Selection, SelectionError};
use highwater::tree::{Counted, File, Options, Survey, TreeError, survey};

use super::exit::Exit;
use super::failure::{self, Failure};
use super::feedback::Terminal;
use super::output::{self, OutputArg};
use super::run::Format;

const EXAMPLES: &str = "\
Examples:
  highwater inputs scans/                      all files of a channel, and its items
  highwater inputs scans/ --glob '*.dcm'       files with this extension, at any depth
  highwater inputs scans/ --glob 'ct/*.dcm'    files directly in a directory named ct
  highwater inputs scans/ --dir ct --mode max_item_sum
                                               the item with the largest directory ct
  highwater inputs scans/ --regex '(?!.*/derived/).*\\.nii(\\.gz)?'
                                               no files below a directory named derived
  highwater inputs scans/ --glob '*.dcm' --list
                                               list the files
  highwater inputs scans/ --format json | jq .n_bytes.sum

What counts: regular files at any depth, including hidden ones; a symbolic link to a file, with the size of its \
target; a symbolic link to a directory is followed only where a component of the glob other than ** matches its name, as in \
'ct/*.dcm', and as an item, if it leads to a directory below DIR; a file with several hard links, once per link. The glob is Python's Path.rglob, \
the regex Python's re.fullmatch on the path below DIR (or below --dir).

The JSON contains: schema_version (1), channel, target_dir, target_glob, target_regex, mode (or null), files, n_bytes \
with one number per mode, largest_file (path, bytes; or null), items (count, empty, files, largest: name, files, \
bytes; or null), histogram (from_bytes, below_bytes, files, bytes), left_out (complete, counts by reason, named: \
path, reason), folders_read, and with --list listing (path, bytes). In a name that is not UTF-8, U+FFFD replaces what \
cannot be shown; path_hex, name_hex or channel_hex contains its bytes in hexadecimal.

Exit status: 0 done, 1 --strict was given and something was skipped, 2 DIR or a pattern cannot be used, 3 DIR cannot \
be read.";

/// Show which files of a channel a scale rule counts, how large they are, and the resulting n.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct InputsArgs {
    /// Directory of the channel: the `host_path` of a task's input.
    #[arg(value_name = "DIR")]
    channel: PathBuf,
    /// Count only files below this directory, like `target_dir`; for items, below this directory of each item.
    #[arg(long = "dir", value_name = "DIR")]
    target_dir: Option<String>,
    /// Count only files whose path matches, like `target_glob`: '*.dcm' or 'ct/*.dcm', for example.
    #[arg(long = "glob", value_name = "GLOB")]
    target_glob: Option<String>,
    /// Count only files whose whole path below the directory matches, like `target_regex`.
    #[arg(long = "regex", value_name = "REGEX")]
    target_regex: Option<String>,
    /// Show only the n of this mode: sum, max_file_size or max_item_sum.
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// List every file that counts, sorted by path.
    #[arg(long)]
    list: bool,
    /// Fail if anything was skipped that should have been counted, such as an unreadable directory.
    #[arg(long)]
    strict: bool,
    /// Count each file once, however many links lead to it. A scale rule counts every link.
    #[arg(long)]
    once: bool,
    /// Do not enter directories on other file systems than DIR's. A scale rule crosses mount points.
    #[arg(short = 'x', long)]
    one_file_system: bool,
    /// Follow --dir if it leads through a symbolic link out of DIR.
    #[arg(long)]
    outside: bool,
    /// Maximum number of reading threads [default: the number of CPUs, at most 8].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    output: OutputArg,
}

/// What to show.
struct Report<'a> {
    survey: &'a Survey,
    selection: &'a Selection,
    mode: Option<Mode>,
    listing: Option<&'a [File]>,
}

pub(crate) fn run(args: &InputsArgs) -> Result<Exit, Failure> {
    args.output.check()?;
    let patterns = (args.target_dir.as_deref(), args.target_glob.as_deref(), args.target_regex.as_deref());
    let selection = Selection::compile(patterns.0, patterns.1, patterns.2).map_err(|error| unusable(&error))?;
    let selection = match args.mode {
        Some(Mode::Sum | Mode::MaxFileSize) => selection.without_items(),
        Some(Mode::MaxItemSum) | None => selection,
    };
    let (survey, listing) = read(args, &selection)?;
    if survey.totals.iter().all(|totals| totals.files == 0 && totals.item_files == 0) {
        // If any files match, the patterns are not hopeless.
        let warnings: Vec<Flaw> = selection.warnings().into_iter().chain(selection.hopeless_regex()).collect();
        texts(&warnings).iter().for_each(failure::report_problems);
    }
    let shown = Report { survey: &survey, selection: &selection, mode: args.mode, listing: listing.as_deref() };
    match args.format {
        Format::Table => args.output.text(&table::render(&shown, output::width_of_stdout()))?,
        Format::Json => args.output.json_text(&json::render(&shown).map_err(Failure::host)?)?,
    }
    Ok(Exit::Done)
}

fn read(args: &InputsArgs, selection: &Selection) -> Result<(Survey, Option<Vec<File>>), Failure> {
    let listing = Mutex::new(Vec::new());
    let keep = |counted: Counted<'_>| {
        let is_asked_for = match args.mode {
            Some(Mode::Sum | Mode::MaxFileSize) => counted.for_channel,
            Some(Mode::MaxItemSum) => counted.for_item,
            None => true,
        };
        if let Some(mut listing) = listing.lock().ok().filter(|_| is_asked_for) {
            listing.push(File { path: counted.path.to_owned(), size: counted.size });
        }
    };
    let feedback = Terminal::default();
    let tell = |progress| feedback.reading(Some(progress));
    let options = Options {
        threads: args.threads,
        strict: args.strict,
        count_each_inode_once: args.once,
        one_file_system: args.one_file_system,
        outside: args.outside,
        progress: feedback.shows_reading().then_some(&tell),
        counted: args.list.then_some(&keep),
        cancel: None,
    };
    let mut survey =
        survey(&followed(&args.channel.components().collect::<PathBuf>()), std::slice::from_ref(selection), &options)
            .map_err(|error| explain(&error))?;
    survey.root.clone_from(&args.channel);
    feedback.reading(None);
    let mut listing = listing.into_inner().unwrap_or_default();
    listing.sort_unstable_by(|one: &File, other| one.path.cmp(&other.path));
    // A file may count for both the channel and its item.
    listing.dedup();
    Ok((survey, args.list.then_some(listing)))
}

fn explain(error: &TreeError) -> Failure {
    let (exit, help) = match error {
        TreeError::Missing { .. } => (Exit::Usage, Some("check the spelling")),
        TreeError::NotADirectory { .. } => {
            (Exit::Usage, Some("give the directory of the file, and select the file with --glob"))
        }
        TreeError::Outside { .. } => {
            (Exit::Usage, Some("give a directory inside the channel, or follow the link with --outside"))
        }
        TreeError::Regex { .. } => {
            (Exit::Usage, Some("avoid nested repetitions such as `(a+)+` together with look-around"))
        }
        TreeError::Overflow { .. } => (Exit::Usage, None),
        TreeError::Incomplete(left_out) => {
            output::say(&table::left_out(left_out));
            (Exit::CheckFailed, Some("make them readable, or remove --strict"))
        }
        TreeError::Cancelled => (Exit::Interrupted, None),
        _ => (Exit::Host, None),
    };
    Failure::new(exit, error, help.map(str::to_owned))
}

/// Reports the flaws of the options, each with its position.
fn unusable(error: &SelectionError) -> Failure {
    let mut texts = texts(&error.flaws);
    match texts.pop() {
        Some(last) => {
            texts.iter().for_each(failure::report_problems);
            Failure::flawed(&last)
        }
        None => Failure::new(Exit::Usage, error, None),
    }
}

/// One source for each flawed option.
fn texts(flaws: &[Flaw]) -> Vec<Flawed> {
    let mut texts = SelectionError { flaws: flaws.to_vec() }.flawed();
    for text in &mut texts {
        for (field, option) in [(Field::Dir, "--dir"), (Field::Glob, "--glob"), (Field::Regex, "--regex")] {
            if text.name == field.name() {
                text.name = option.to_owned();
            }
        }
    }
    texts
}
