//! Encode plans: a mapping and a module put together, flattened, so that a call event costs no look-up by name.
//!
//! A plan is run in two steps. [`Plan::evaluate`] fills one slot for each step with the value of its item, and finds
//! out which groups are present; [`super::ber`] then writes the slots through `rasn`'s encoder.

use super::convert::{Content, Conversion};
use super::mapping::Condition;
use super::source::Source;
use rasn::types::{Any, Tag};

/// Steps in the order of the wire; a group is followed by what it holds.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) items: Vec<Item>,
    pub(super) requirements: Vec<Requirement>,
}

/// One item of the wire.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) kind: StepKind,
    /// The group that holds it.
    pub(super) parent: Option<usize>,
    /// The step after it and everything in it.
    pub(super) end: usize,
}

/// What a step writes.
#[derive(Debug)]
pub(super) enum StepKind {
    /// A constructed item; written if something in it is, or always.
    Group { tag: Tag, always: bool },
    /// An item that is the same in every file, encoded when the variant was loaded.
    Constant(Any),
    /// A primitive item: index of its rule.
    Item { tag: Tag, item: usize },
    /// An item that is encoded already: index of its rule.
    Encoded { item: usize },
    /// One element for each offset from UTC that occurs in the file.
    Offsets(Plan),
}

/// How the content of a primitive item is found.
#[derive(Debug)]
pub(super) struct Item {
    /// Names from the root, as errors say them.
    pub(super) path: String,
    pub(super) when: Vec<Condition>,
    pub(super) prefix: Vec<u8>,
    pub(super) content: Content,
    pub(super) size: Option<(usize, usize)>,
    pub(super) from: Origin,
}

/// Where the content of an item comes from.
#[derive(Debug)]
pub(super) enum Origin {
    Fixed(Fixed),
    Sources { sources: Vec<Source>, conversion: Conversion },
    Translated { source: Source, entries: Vec<(String, Fixed)>, otherwise: Option<Fixed> },
}

/// A constant in the form in which it is written.
#[derive(Clone, Debug)]
pub(super) enum Fixed {
    Integer(i128),
    Bytes(Vec<u8>),
}

/// Something that must be there.
#[derive(Debug)]
pub(super) struct Requirement {
    /// One of these steps.
    pub(super) step: usize,
    /// If this group is present; always without one.
    pub(super) within: Option<usize>,
    pub(super) path: String,
}

/// The value of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Absent,
    Present,
    Integer(i128),
    Bytes { start: usize, end: usize },
}

impl Slot {
    pub(super) fn is_absent(self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// Room for the values of a plan, used again for each call event.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) slots: Vec<Slot>,
    pub(super) bytes: Vec<u8>,
}

impl Plan {
    /// Adds a step and returns which it is; [`Plan::close`] comes after everything that is in it.
    pub(super) fn open(&mut self, kind: StepKind, parent: Option<usize>) -> usize {
        self.steps.push(Step { kind, parent, end: 0 });
        self.steps.len() - 1
    }

    pub(super) fn close(&mut self, step: usize) {
        self.steps[step].end = self.steps.len();
    }

    pub(super) fn add_item(&mut self, item: Item) -> usize {
        self.items.push(item);
        self.items.len() - 1
    }

    pub(super) fn require(&mut self, requirement: Requirement) {
        self.requirements.push(requirement);
    }
}
