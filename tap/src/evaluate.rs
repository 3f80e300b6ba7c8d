//! The values of a plan's steps, for one record.

use super::ber;
use super::convert::Given;
use super::error::EncodeError;
use super::mapping::{Condition, Test};
use super::plan::{Fixed, Item, Origin, Plan, Scratch, Slot, StepKind};
use super::source::{Lookup, Value};

impl Plan {
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
        out.extend_from_slice(&ber::encode(element, &scratch, Vec::new())?);
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
