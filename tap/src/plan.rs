//! Encode plans: a mapping and a module put together, flattened, so that a call event costs no look-up by name.
//!
//! A plan is run in two steps. [`Plan::evaluate`] fills one slot for each step with the value of its item, and finds
//! out which groups are there; [`super::ber`] then writes the slots through `rasn`'s encoder.

use super::convert::{Content, Conversion, Given};
use super::error::EncodeError;
use super::mapping::{Condition, Test};
use super::source::{Lookup, Source, Value};
use rasn::types::{Any, Tag};

/// Steps in the order of the wire; a group is followed by what it holds.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    items: Vec<Item>,
    requirements: Vec<Requirement>,
}

/// One item of the wire.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) kind: StepKind,
    /// The group that holds it.
    parent: Option<usize>,
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
    /// If this group is there; always without one.
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
    fn is_absent(self) -> bool {
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
    /// Adds a step and says which it is; [`Plan::close`] comes after everything that is in it.
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

    /// Finds the value of every step.
    ///
    /// # Errors
    /// The first value that can't be written, or a mandatory item that has none.
    pub(super) fn evaluate(
        &self,
        lookup: &Lookup<'_>,
        offsets: &[i16],
        scratch: &mut Scratch,
    ) -> Result<(), EncodeError> {
        scratch.slots.clear();
        scratch.bytes.clear();
        for step in &self.steps {
            let slot = match &step.kind {
                StepKind::Group { always: false, .. } => Slot::Absent,
                StepKind::Group { always: true, .. } | StepKind::Constant(_) => Slot::Present,
                StepKind::Item { item, .. } | StepKind::Encoded { item } => {
                    self.items[*item].evaluate(lookup, &mut scratch.bytes)?
                }
                StepKind::Offsets(element) => each_offset(element, lookup, offsets, &mut scratch.bytes)?,
            };
            scratch.slots.push(slot);
        }
        for (index, step) in self.steps.iter().enumerate().rev() {
            if let Some(parent) = step.parent.filter(|_| !scratch.slots[index].is_absent()) {
                scratch.slots[parent] = Slot::Present;
            }
        }
        self.check(&scratch.slots)
    }

    fn check(&self, slots: &[Slot]) -> Result<(), EncodeError> {
        for requirement in &self.requirements {
            let applies = requirement.within.is_none_or(|group| !slots[group].is_absent());
            if applies && slots[requirement.step].is_absent() {
                let why = "it is mandatory, but the record has nothing for it";
                let fields = self.fields_of(requirement.step);
                return Err(EncodeError::new(&fields, &requirement.path, why));
            }
        }
        Ok(())
    }

    /// The fields from which a step and everything in it come.
    fn fields_of(&self, step: usize) -> String {
        let mut names: Vec<String> = Vec::new();
        for inner in &self.steps[step..self.steps[step].end.max(step + 1)] {
            let (StepKind::Item { item, .. } | StepKind::Encoded { item }) = &inner.kind else { continue };
            for name in self.items[*item].fields() {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names.join(", ")
    }
}

/// One element after the other, encoded.
fn each_offset(
    element: &Plan,
    lookup: &Lookup<'_>,
    offsets: &[i16],
    out: &mut Vec<u8>,
) -> Result<Slot, EncodeError> {
    let start = out.len();
    let mut scratch = Scratch::default();
    for &offset in offsets {
        element.evaluate(&Lookup { offset: Some(offset), ..*lookup }, &[], &mut scratch)?;
        out.extend_from_slice(&super::ber::encode(element, &scratch, Vec::new())?);
    }
    Ok(if out.len() == start { Slot::Absent } else { Slot::Bytes { start, end: out.len() } })
}

impl Item {
    fn fields(&self) -> Vec<String> {
        match &self.from {
            Origin::Fixed(_) => Vec::new(),
            Origin::Sources { sources, .. } => sources.iter().map(|source| source.name()).collect(),
            Origin::Translated { source, .. } => vec![source.name()],
        }
    }

    fn error(&self, why: impl Into<String>) -> EncodeError {
        EncodeError::new(&self.fields().join(", "), &self.path, why)
    }

    fn evaluate(&self, lookup: &Lookup<'_>, out: &mut Vec<u8>) -> Result<Slot, EncodeError> {
        if !holds(&self.when, lookup) {
            return Ok(Slot::Absent);
        }
        let start = out.len();
        out.extend_from_slice(&self.prefix);
        let given = match &self.from {
            Origin::Fixed(fixed) => push_fixed(fixed, out),
            Origin::Sources { sources, conversion } => {
                let values = sources.iter().map(|&source| lookup.get(source));
                match values.into_iter().find(|value| !value.is_absent()) {
                    Some(value) => {
                        conversion.apply(value, self.content, out).map_err(|why| self.error(why))?
                    }
                    None => Given::Nothing,
                }
            }
            Origin::Translated { source, entries, otherwise } => match lookup.get(*source) {
                Value::Text(text) => {
                    let found = entries.iter().find(|(key, _)| key == text).map(|(_, fixed)| fixed);
                    let fixed = found.or(otherwise.as_ref());
                    push_fixed(fixed.ok_or_else(|| self.error(format!("{text} is not in the map")))?, out)
                }
                _ => Given::Nothing,
            },
        };
        match given {
            Given::Integer(number) => Ok(Slot::Integer(number)),
            Given::Nothing => {
                out.truncate(start);
                Ok(Slot::Absent)
            }
            Given::Bytes => {
                let length = out.len() - start;
                match self.size {
                    Some((least, most)) if !(least..=most).contains(&length) => {
                        Err(self.error(format!("{length} octets, but {least} to {most} are allowed")))
                    }
                    _ => Ok(Slot::Bytes { start, end: out.len() }),
                }
            }
        }
    }
}

fn push_fixed(fixed: &Fixed, out: &mut Vec<u8>) -> Given {
    match fixed {
        Fixed::Integer(number) => Given::Integer(*number),
        Fixed::Bytes(bytes) => {
            out.extend_from_slice(bytes);
            Given::Bytes
        }
    }
}

/// True if every condition holds.
pub(super) fn holds(conditions: &[Condition], lookup: &Lookup<'_>) -> bool {
    conditions.iter().all(|condition| {
        let value = lookup.get(condition.source);
        match &condition.test {
            Test::Present => !value.is_absent(),
            Test::Absent => value.is_absent(),
            Test::Changed => condition.source.listed().is_some_and(|listed| lookup.get(listed) != value),
            Test::OneOf(texts) => {
                matches!(value, Value::Text(text) if texts.iter().any(|other| other == text))
            }
        }
    })
}
