//! Mappings as they are written: which field goes where, what is mandatory, how files are named and numbered.
//! `tap-schemas/README.md` explains every key; here they are read and checked one by one. Whether they fit the module
//! is seen when both are put together.

mod read;

use super::convert::{Content, Conversion};
pub(super) use super::doc::Lined;
use super::source::Source;
pub(super) use read::{is_module, read};
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// Which kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// Call events, TAP 3.12.
    Tap,
    /// Returned call events, RAP 1.5.
    Rap,
}

impl FileKind {
    /// The kind as `exportType` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tap => "TAP_3_12",
            Self::Rap => "RAP_1_5",
        }
    }

    /// The kind of a text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Tap, Self::Rap].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What is counted apart in file sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Each recording entity (US-CDR-010).
    RecordingEntity,
    /// Each pair of sender and recipient, test files apart, as the standard has it.
    SenderAndRecipient,
}

/// How files are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// What is counted apart.
    pub per: Per,
    /// The first number.
    pub first: u32,
    /// The last number.
    pub last: u32,
    /// True if the first number follows the last; otherwise there is none after it.
    pub wraps: bool,
}

impl Numbering {
    /// The number after `last`, the first without one; none where the numbers are used up.
    pub fn next(&self, last: Option<u32>) -> Option<u32> {
        match last {
            None => Some(self.first),
            Some(last) if last < self.last => Some((last + 1).max(self.first)),
            Some(_) => self.wraps.then_some(self.first),
        }
    }
}

/// A mapping.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) file: String,
    pub(super) kind: FileKind,
    pub(super) modules: Vec<Lined>,
    pub(super) root: Lined,
    pub(super) content: BTreeMap<String, Content>,
    pub(super) live_name: Lined,
    pub(super) test_name: Lined,
    pub(super) numbering: Numbering,
    pub(super) recipient: Lined,
    pub(super) senders: BTreeMap<String, String>,
    pub(super) currency: String,
    pub(super) decimal_places: u8,
    pub(super) exchange_rates: BTreeMap<String, Decimal>,
    pub(super) texts: BTreeMap<String, Texts>,
    pub(super) batch: Section,
    pub(super) empty: Option<Section>,
    pub(super) calls: Vec<Call>,
}

/// A part of a file: items below one item of the root.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) path: Lined,
    pub(super) mandatory: Vec<Lined>,
    pub(super) items: Vec<(Lined, ItemRule)>,
}

/// A call event and the records that become one.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) when: Vec<Condition>,
    pub(super) section: Section,
}

/// A named list of texts `TAG=value`.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) mandatory: Vec<Lined>,
    pub(super) fields: Vec<(Lined, ItemRule)>,
}

/// What is put into an item.
#[derive(Clone, Debug)]
pub(super) struct ItemRule {
    pub(super) line: usize,
    pub(super) when: Vec<Condition>,
    pub(super) what: What,
}

/// Where the content of an item comes from.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Always the same.
    Constant(Constant),
    /// The first of some sources that has a value.
    From(From),
    /// A named list of texts.
    Texts(String),
    /// Every call event of the file.
    Calls,
    /// Nothing, but the item is written even when empty.
    Always,
}

/// Sources and what is done with their value.
#[derive(Clone, Debug)]
pub(super) struct From {
    pub(super) sources: Vec<Source>,
    pub(super) conversion: Option<Conversion>,
    pub(super) width: Option<usize>,
    pub(super) map: Option<Translation>,
}

/// A table from texts of a source to constants.
#[derive(Clone, Debug)]
pub(super) struct Translation {
    pub(super) entries: Vec<(String, Constant)>,
    pub(super) otherwise: Option<Constant>,
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Constant {
    Integer(i64),
    Text(String),
}

/// A condition on a value.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) source: Source,
    pub(super) line: usize,
    pub(super) test: Test,
}

/// What is required of a value.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Present,
    Absent,
    /// Another than in the listed record.
    Changed,
    OneOf(Vec<String>),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_wrap_or_end() {
        let mut numbering = Numbering { per: Per::RecordingEntity, first: 1, last: 99_999, wraps: false };
        assert_eq!(numbering.next(None), Some(1));
        assert_eq!(numbering.next(Some(1)), Some(2));
        assert_eq!(numbering.next(Some(99_998)), Some(99_999));
        assert_eq!(numbering.next(Some(99_999)), None);
        numbering.wraps = true;
        assert_eq!(numbering.next(Some(99_999)), Some(1));
    }
}
