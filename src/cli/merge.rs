//! `highwater merge`: joins the records of one sweep in one directory.

use std::path::{Path, PathBuf};

use clap::Args;
use highwater::calibrate::failure::Failed;
use highwater::directory::Refusal;
use highwater::model::byte_order_mark;
use highwater::model::plan::Plan;
use highwater::store::{self, MergeError, bounded};

use super::exit::Exit;
use super::failure::Failure;
use super::{output, records};

const EXAMPLES: &str = "\
Examples:
  highwater merge node1/ node2/ --into lungs/  two directories of the same sweep
  highwater merge cells/*.jsonl --into lungs/  what `highwater sweep --cell-index` has recorded
  highwater merge cells/*.jsonl --plan plan.json --into new/
                                               if no directory has the plan

Without --partial, merge ends with status 5 if a cell of the plan has no record, and names the cell. Nothing is \
duplicated: a record is skipped if one of the same cell and run with the same content is already there, so \
merging twice equals merging once. The result does not depend on the order of the sources. Output and series of the \
runs are copied along. The sources are not changed and may be in use; the target must not be.";

/// Merge the records of one sweep from several directories and files, without duplicates.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct MergeArgs {
    /// Directories of the sweep, and files of its records.
    #[arg(value_name = "RECORDS", required = true)]
    places: Vec<PathBuf>,
    /// Directory to merge into; created if absent.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// The sweep's plan.json, if none of the directories has it.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Accept that cells of the plan have no record yet.
    #[arg(long)]
    partial: bool,
}

pub(crate) fn run(args: &MergeArgs) -> Result<Exit, Failure> {
    let plan = args.plan.as_ref().map(|path| {
        let unread = |source| {
            let error = Failed::to(format!("read the plan {}", path.display()), source);
            Failure::new(Exit::Usage, &error, None)
        };
        bounded::read_text(path).map(|text| byte_order_mark::strip(&text).to_owned()).map_err(unread)
    });
    let plan = plan.transpose()?;
    if let (Some(path), Some(plan)) = (&args.plan, &plan) {
        store::check_plan(path, plan).map_err(records::unusable_folder)?;
    }
    let merged = store::merge(&args.places, plan.as_deref(), &args.into).map_err(failure)?;
    merged.unusable.iter().for_each(|(path, unusable)| records::say_unusable(path, unusable));
    let store::Merged { added, doubled, total, missing, .. } = merged;
    let doubled = match doubled {
        0 => String::new(),
        several => format!(" {several} already existed;"),
    };
    let verb = if added == 1 { "record was" } else { "records were" };
    output::say(&format!("{added} {verb} added;{doubled} {} now has {total}", args.into.display()));
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    output::say(&describe_missing(&missing, &args.into));
    Ok(if args.partial { Exit::Done } else { Exit::TooLittleData })
}

/// The most cells without a record that are named.
const MOST_NAMED: usize = 10;

fn describe_missing(missing: &[(usize, String)], into: &Path) -> String {
    let plan = store::read_plan(into).ok().and_then(|plan| serde_json::from_str::<Plan>(&plan).ok());
    let named = missing.iter().take(MOST_NAMED).map(|(index, key)| {
        let title = plan.as_ref().and_then(|plan| plan.cells.get(*index)).map(|cell| cell.title());
        let title = title.filter(|title| !title.is_empty()).map(|title| format!(", {title}")).unwrap_or_default();
        format!("{index} ({}{title})", key.chars().take(8).collect::<String>())
    });
    let more = match missing.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let cells = if missing.len() == 1 {
        "1 cell of the plan has".to_owned()
    } else {
        format!("{} cells of the plan have", missing.len())
    };
    format!("{cells} no record: {}{more}", named.collect::<Vec<_>>().join(", "))
}

fn failure(error: MergeError) -> Failure {
    let (exit, help) = match error {
        MergeError::Read(error) => return records::unreadable(error),
        MergeError::Folder(error) => return records::unusable_folder(error),
        MergeError::NoPlan => (Exit::Usage, "include the directory of the sweep, or give its plan with --plan"),
        MergeError::OtherPlan { .. } => {
            (Exit::Usage, "merge only records of the same plan; `highwater show` can show several sweeps")
        }
        MergeError::OtherTask { .. } => (Exit::Usage, "merge records of the same task on the same inputs only"),
        MergeError::NoSweep { .. } => (Exit::Usage, "concatenate records of `highwater run --record` with `cat`"),
        MergeError::Outside { .. } => {
            (Exit::Usage, "check what wrote that record; highwater does not write such paths")
        }
        MergeError::Copy { ref source, .. } if let Some(refusal) = Refusal::behind(source) => {
            (Exit::Usage, refusal.remedy())
        }
        MergeError::Copy { .. } => (Exit::Host, "make sure that the file is readable and the disk has room for it"),
        MergeError::Encode(_) => (Exit::Usage, "remove that file"),
        _ => return Failure::new(Exit::Host, &error, None),
    };
    Failure::new(exit, &error, Some(help.to_owned()))
}
