//! What is looked for in a folder: which selection, for which of its totals, and how far its patterns are.

use super::glob::Places;
use super::regex::Needs;
use super::selection::Selection;

/// One selection on its way through the folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    /// The index of the selection.
    pub(super) selection: usize,
    pub(super) scope: Scope,
    pub(super) stage: Stage,
}

/// Which totals a file goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of the whole channel.
    Whole,
    /// Those of the item the folder belongs to.
    Item,
    /// Both, where the patterns say the same of a file seen from the channel and from the item.
    Both,
}

impl Scope {
    pub(super) fn counts_for_whole(self) -> bool {
        matches!(self, Self::Whole | Self::Both)
    }

    pub(super) fn counts_for_item(self) -> bool {
        matches!(self, Self::Item | Self::Both)
    }
}

/// Where a watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Above `target_dir`; this component of it comes next.
    Seeking(usize),
    /// In it: files count.
    Counting {
        places: Places,
        /// Where, in the path below the channel, the path that the patterns are about begins.
        base: usize,
    },
}

impl Watch {
    /// Begins at the folder that `target_dir` is relative to, whose files' paths begin at `base`.
    fn begin(selection: usize, scope: Scope, compiled: &Selection, base: usize) -> Self {
        let stage = if compiled.dir.is_empty() {
            Stage::Counting { places: compiled.glob.start(), base }
        } else {
            Stage::Seeking(0)
        };
        Self { selection, scope, stage }
    }

    /// The watch in a `target_dir` that was just reached.
    pub(super) fn arrive(self, compiled: &Selection, base: usize) -> Self {
        Self { stage: Stage::Counting { places: compiled.glob.start(), base }, ..self }
    }

    /// The same watch in a sub-folder; `None` where nothing below it can count.
    fn enter(self, compiled: &Selection, name: &[u8], base: usize) -> Option<Self> {
        let stage = match self.stage {
            Stage::Seeking(next) if *compiled.dir[next] != *name => return None,
            Stage::Seeking(next) if next + 1 < compiled.dir.len() => Stage::Seeking(next + 1),
            Stage::Seeking(_) => return Some(self.arrive(compiled, base)),
            Stage::Counting { .. } if compiled.pattern.needs() == Needs::Name && name.contains(&b'\n') => return None,
            Stage::Counting { places, base } => Stage::Counting { places: compiled.glob.enter(places, name), base },
        };
        Some(Self { stage, ..self })
    }
}

/// What is looked for in the channel itself.
pub(super) fn of_channel(selections: &[Selection]) -> Vec<Watch> {
    let productive = selections.iter().enumerate().filter(|(_, selection)| !selection.glob.is_barren());
    productive.map(|(index, selection)| Watch::begin(index, Scope::Whole, selection, 0)).collect()
}

/// What is looked for in the item `name`, where `watches` are those of the channel. With `may_join` one watch stands
/// for the channel and the item where they agree.
pub(super) fn of_item(watches: &[Watch], selections: &[Selection], name: &[u8], may_join: bool) -> Vec<Watch> {
    let base = name.len() + 1;
    let mut inside = of_sub_folder(watches, selections, name, base);
    for (index, selection) in selections.iter().enumerate() {
        if !selection.items || selection.glob.is_barren() {
            continue;
        }
        let whole = inside.iter_mut().find(|watch| watch.selection == index);
        match whole {
            Some(whole) if may_join && selection.dir.is_empty() && selection.is_about_names() => {
                whole.scope = Scope::Both
            }
            Some(_) | None => inside.push(Watch::begin(index, Scope::Item, selection, base)),
        }
    }
    inside
}

/// What is looked for in a sub-folder `name`, whose files' paths below the channel begin at `base`.
pub(super) fn of_sub_folder(watches: &[Watch], selections: &[Selection], name: &[u8], base: usize) -> Vec<Watch> {
    watches.iter().filter_map(|watch| watch.enter(&selections[watch.selection], name, base)).collect()
}

/// Whether a sub-folder `name` has the very same watches.
pub(super) fn stay_the_same(watches: &[Watch], selections: &[Selection], name: &[u8]) -> bool {
    let is_one_line = !name.contains(&b'\n');
    watches.iter().all(|watch| {
        let selection = &selections[watch.selection];
        matches!(watch.stage, Stage::Counting { .. })
            && selection.glob.is_one_name()
            && (is_one_line || selection.pattern.needs() == Needs::Path)
    })
}

/// Whether any watch has a reason to enter a sub-folder `name`.
pub(super) fn wants(watches: &[Watch], selections: &[Selection], name: &[u8]) -> bool {
    watches.iter().any(|watch| match watch.stage {
        Stage::Counting { .. } => true,
        Stage::Seeking(next) => *selections[watch.selection].dir[next] == *name,
    })
}
