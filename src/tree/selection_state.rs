//! The states of selections in a directory: for which totals its files count, and how far the patterns have matched.

use crate::model::selection::{Needs, Places, Selection};

/// A selection on its way through the directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SelectionState {
    /// The index of the selection.
    pub(super) selection: usize,
    pub(super) scope: Scope,
    pub(super) stage: Stage,
}

/// The totals that a file is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of the whole channel.
    Whole,
    /// Those of the item that contains the directory.
    Item,
    /// Both, if the patterns give the same result for a file relative to the channel and to the item.
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

/// The stage of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Above `target_dir`; this component of it is next.
    Seeking(usize),
    /// Inside `target_dir`: files count.
    Counting {
        places: Places,
        /// The start, in the path relative to the channel, of the path that the patterns apply to.
        base: usize,
    },
}

impl SelectionState {
    /// Begins in the directory that `target_dir` is relative to, whose files' paths begin at `base`.
    fn begin(selection: usize, scope: Scope, compiled: &Selection, base: usize) -> Self {
        let stage = if compiled.dir.is_empty() {
            Stage::Counting { places: compiled.glob.start(), base }
        } else {
            Stage::Seeking(0)
        };
        Self { selection, scope, stage }
    }

    /// The state in a `target_dir` that was just reached.
    pub(super) fn arrive(self, compiled: &Selection, base: usize) -> Self {
        Self { stage: Stage::Counting { places: compiled.glob.start(), base }, ..self }
    }

    /// The same state in a subdirectory; `None` if nothing below it can count.
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

    /// The same state in a directory behind the symbolic link `name`, where a glob goes through it.
    fn enter_link(self, compiled: &Selection, name: &[u8]) -> Option<Self> {
        let Stage::Counting { places, base } = self.stage else { return None };
        if compiled.pattern.needs() == Needs::Name && name.contains(&b'\n') {
            return None;
        }
        let places = compiled.glob.enter_link(places, name)?;
        Some(Self { stage: Stage::Counting { places, base }, ..self })
    }
}

/// The states in the channel itself.
pub(super) fn of_channel(selections: &[Selection]) -> Vec<SelectionState> {
    let productive = selections.iter().enumerate().filter(|(_, selection)| !selection.glob.is_barren());
    productive.map(|(index, selection)| SelectionState::begin(index, Scope::Whole, selection, 0)).collect()
}

/// The states in the item `name`, where `states` are those of the channel. With `may_join` one state represents the
/// channel and the item if they agree.
pub(super) fn of_item(
    states: &[SelectionState],
    selections: &[Selection],
    name: &[u8],
    may_join: bool,
) -> Vec<SelectionState> {
    let mut inside = of_subdirectory(states, selections, name, name.len() + 1);
    for item in of_linked_item(selections, name) {
        let selection = &selections[item.selection];
        let whole = inside.iter_mut().find(|state| state.selection == item.selection);
        match whole {
            Some(whole) if may_join && selection.dir.is_empty() && selection.is_about_names() => {
                whole.scope = Scope::Both
            }
            Some(_) | None => inside.push(item),
        }
    }
    inside
}

/// The states for the totals of the item `name` alone: a symbolic link is an item, but not part of the channel.
pub(super) fn of_linked_item(selections: &[Selection], name: &[u8]) -> impl Iterator<Item = SelectionState> {
    let counted = selections.iter().enumerate().filter(|(_, selection)| selection.items && !selection.glob.is_barren());
    counted.map(move |(index, selection)| SelectionState::begin(index, Scope::Item, selection, name.len() + 1))
}

/// The states in a subdirectory `name`, whose files' paths relative to the channel begin at `base`.
pub(super) fn of_subdirectory(
    states: &[SelectionState],
    selections: &[Selection],
    name: &[u8],
    base: usize,
) -> Vec<SelectionState> {
    states.iter().filter_map(|state| state.enter(&selections[state.selection], name, base)).collect()
}

/// The states in a directory behind the symbolic link `name`.
pub(super) fn of_link(states: &[SelectionState], selections: &[Selection], name: &[u8]) -> Vec<SelectionState> {
    states.iter().filter_map(|state| state.enter_link(&selections[state.selection], name)).collect()
}

/// Whether a subdirectory `name` has identical states.
pub(super) fn stay_the_same(states: &[SelectionState], selections: &[Selection], name: &[u8]) -> bool {
    let is_one_line = !name.contains(&b'\n');
    states.iter().all(|state| {
        let selection = &selections[state.selection];
        matches!(state.stage, Stage::Counting { .. })
            && selection.glob.is_one_name()
            && (is_one_line || selection.pattern.needs() == Needs::Path)
    })
}

/// Whether any selection needs to enter a subdirectory `name`.
pub(super) fn wants(states: &[SelectionState], selections: &[Selection], name: &[u8]) -> bool {
    states.iter().any(|state| match state.stage {
        Stage::Counting { .. } => true,
        Stage::Seeking(next) => *selections[state.selection].dir[next] == *name,
    })
}
