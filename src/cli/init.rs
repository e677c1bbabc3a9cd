//! `highwater init`: writes a starter highwater.toml.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use highwater::calibrate::resolve::task;
use highwater::model::check::config::FILE;
use highwater::model::task::TaskSpec;

use super::exit::Exit;
use super::failure::Failure;
use super::task::TemplateArgs;
use super::{output, output_file};

const EXAMPLES: &str = "\
Examples:
  highwater init task.json               a highwater.toml that checks this task
  highwater init -- ./segment {input}    one that checks a command on files or directories
  highwater init                         one to fill in

The file contains every key; optional ones are commented out. Adapt its inputs, then create the baseline with \
`highwater check --update-baseline`, and commit both.";

/// Write a commented highwater.toml for `highwater check`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct InitArgs {
    /// The task.json to check.
    #[arg(value_name = "TASK", conflicts_with = "command")]
    task: Option<PathBuf>,
    #[command(flatten)]
    template: TemplateArgs,
    /// Command to check, with {input} in place of its input.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
    /// File to write.
    #[arg(short, long, value_name = "FILE.toml", default_value = FILE)]
    output: PathBuf,
    /// Overwrite an existing file.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &InitArgs) -> Result<Exit, Failure> {
    let path = &args.output;
    if path.exists() && !output_file::is_stream(path) && !args.force {
        let help = "edit the file, or overwrite it with --force".to_owned();
        return Err(Failure::new(Exit::Usage, format!("{} already exists", path.display()), Some(help)));
    }
    output_file::check_writable(path)?;
    let text = match &args.task {
        Some(file) => {
            let spec = task(file, &args.template.variables()?).map_err(Failure::from_library)?.content;
            let file = from_folder(output_file::folder_of(path), file)
                .map_err(|source| output_file::unwritten(path, source))?;
            text(&of_task(&file, &args.template.set(), &spec))
        }
        None => text(&of_command(&args.command)),
    };
    output_file::write(path, text.as_bytes())?;
    let next = "review its inputs, then create the baseline with `highwater check --update-baseline`";
    output::say(&format!("highwater: wrote {}: {next}", path.display()));
    Ok(Exit::Done)
}

/// The path of a file relative to the directory of the file that mentions it.
fn from_folder(folder: &Path, file: &Path) -> io::Result<PathBuf> {
    let (start, end) = (folder.canonicalize()?, file.parent().unwrap_or(file).join(".").canonicalize()?);
    let shared = start.components().zip(end.components()).take_while(|(one, other)| one == other).count();
    let upwards = start.components().skip(shared).map(|_| Component::ParentDir);
    Ok(upwards.chain(end.components().skip(shared)).collect::<PathBuf>().join(file.file_name().unwrap_or_default()))
}

fn of_task(file: &Path, set: &BTreeMap<&str, &str>, spec: &TaskSpec) -> String {
    let channels: Vec<&str> = spec.inputs.iter().map(|input| input.name.value.as_str()).collect();
    let of = |folder: &str| {
        let folders = channels.iter().map(|name| format!("{} = {}", key(name), quoted(&format!("{folder}/{name}"))));
        folders.collect::<Vec<_>>().join(", ")
    };
    format!(
        "[tasks.{name}]
task = {file}
# Runner: its image as a \"container\", or its command as a \"process\" on this machine.
runner = \"container\"
# The image's processing-container.json, if the task names its template and no engine should be asked:
# processing-container = \"processing-container.json\"
# Variables that Jinja in the task reads as custom.KEY:
{set}
{common}
# Cells. Without any, there is one, `default`: the task unchanged. With three sizes or more, `check` fits a rule and
# reports when it changes. The directories replace those of the task, by channel:
# [[tasks.{name}.inputs]]
# name = \"small\"
# channels = {{ {small} }}
#
# [[tasks.{name}.inputs]]
# name = \"large\"
# channels = {{ {large} }}
# budget = \"4GiB\"
",
        name = key(&spec.name),
        file = quoted(&file.display().to_string()),
        set = set_line(set),
        common = COMMON,
        small = of("data/small"),
        large = of("data/large"),
    )
}

fn set_line(set: &BTreeMap<&str, &str>) -> String {
    if set.is_empty() {
        return "# set = { patient = \"0042\" }".to_owned();
    }
    let set: Vec<String> = set.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
    format!("set = {{ {} }}", set.join(", "))
}

fn of_command(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let name = words.first().and_then(|word| Path::new(word).file_stem()?.to_str().map(str::to_owned));
    let words = if words.is_empty() { vec!["./program".to_owned(), "{input}".to_owned()] } else { words };
    let name = key(&name.unwrap_or_else(|| "program".to_owned()));
    let list = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
    // A command without {input} needs no input.
    let hash = if words.iter().any(|word| word.contains("{input}")) { "" } else { "# " };
    format!(
        "[tasks.{name}]
# {{input}} is the path of the input, {{NAME}} one of its parameters.
command = [{list}]
# Memory rule for an input of n bytes:
# rule = \"max(512MiB, 1.5*n)\"
{COMMON}
# Cells. Without any, there is one, `default`. With three sizes or more, `check` fits a rule and reports its changes.
{hash}[[tasks.{name}.inputs]]
{hash}name = \"small\"
{hash}path = \"data/small\"

{hash}[[tasks.{name}.inputs]]
{hash}name = \"large\"
{hash}path = \"data/large\"
# parameters = {{ NAME = \"value\" }}
# size = \"64MiB\"          # for an input that is not a file
# budget = \"4GiB\"
"
    )
}

const COMMON: &str = "\
# Memory budget of every cell:
# budget = \"2GiB\"
# env = { OMP_NUM_THREADS = \"2\" }
# timeout = \"10m\"
# Further options of `highwater run`:
# options = [\"--network=none\"]";

fn text(task: &str) -> String {
    format!(
        "# What `highwater check` checks. Paths are relative to the directory of this file.

# The baseline to compare with; create it with `highwater check --update-baseline`, and commit it.
# baseline = \"highwater-baseline.json\"

# A command to run before the first run, such as a build; with --against, in both revisions.
# setup = [\"make\"]

# Runs per cell, runs per cell for a baseline, and how often to re-run a suspected regression before failing.
# runs = 3
# baseline-runs = 6
# confirm = 2

[thresholds]
# Growth must exceed both; below 40 MiB, `absolute` is proportionally less.
# relative = \"3%\"
# absolute = \"4MiB\"
# Runs needed, now and in the baseline, to compare:
# min-samples = 3
# Compare fitted rules up to this many times the largest input:
# horizon = 4
# Report a limit above this many times the highest peak as wasteful:
# wasteful = 2
# A cell that only the baseline has, and one that it does not have: \"fail\", \"warn\" or \"ignore\".
# vanished = \"fail\"
# new = \"warn\"
# A task without a baseline, for which only budgets and limits can be checked; \"fail\" exits with status 5. Use
# \"ignore\" if you only check budgets.
# no-baseline = \"fail\"
# A lower bound as peak, where only an exact peak or an upper bound would show that the task stays within its budget,
# limit or baseline; \"fail\" exits with status 5.
# not-verified = \"fail\"

{task}"
    )
}

/// A name as a TOML key.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || "-_".contains(char));
    if bare { name.to_owned() } else { quoted(name) }
}

/// A TOML string. JSON's escapes are also TOML's, except that TOML escapes DEL.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use highwater::model::check::config::{Config, WorkloadSpec};

    use super::*;

    fn read(text: &str) -> Config {
        Config::parse("highwater.toml", text).unwrap_or_else(|flawed| panic!("{flawed:?}"))
    }

    #[test]
    fn what_is_written_can_be_read_with_and_without_its_comments() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for command in [words(&[]), words(&["./seg ment", "--in", "{input}/\"x\""]), words(&["true"])] {
            let text = text(&of_command(&command));
            let config = read(&text);
            assert_eq!(config.tasks.len(), 1);
            let bare: Vec<&str> = text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
            let keys = bare.iter().filter(|line| line.contains(" = ") && !line.contains("OMP")).count();
            assert!(keys > 15, "{text}");
        }
        let config = read(&text(&of_command(&words(&["a b", "{input}"]))));
        assert_eq!(config.tasks[0].name, "a b");
        assert_eq!(config.tasks[0].workload, WorkloadSpec::Command(vec!["a b".to_owned(), "{input}".to_owned()]));
        assert_eq!(config.tasks[0].inputs.len(), 2);
    }

    #[test]
    fn every_key_that_is_commented_out_is_known() {
        let uncommented = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") && !rest.contains(':') => rest.to_owned(),
            Some(_) => String::new(),
            None => line.to_owned(),
        };
        let text = text(&of_command(&["./x", "{input}"].map(OsString::from)));
        let text: String = text.lines().map(|line| uncommented(line) + "\n").collect();
        read(&text);
    }
}
