//! What the items of a file say: header values, totals, charge and time of a call event.

use super::Decoded;
use crate::asn1::NodeId;
use crate::compile::Reader;
use crate::convert::{self, Conversion};
use crate::error::DecodeError;
use crate::header::LocalTime;
use crate::mapping::FileKind;
use crate::source::{Change, Field, FileValue, Source, Total, Totals};
use crate::variant::Variant;
use cdr_core::Hash;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// A value read back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    Text(String),
    Integer(i128),
    /// Local time as digits.
    Local(Vec<u8>),
    Offset(i16),
}

/// Header values and totals of a file.
pub(super) struct FrameValues<'a> {
    readers: &'a [Reader],
    found: Vec<(Source, Read)>,
}

impl<'a> FrameValues<'a> {
    pub(super) fn new(readers: &'a [Reader]) -> Self {
        Self { readers, found: Vec::new() }
    }

    /// Takes note of a primitive item.
    pub(super) fn see(&mut self, node: NodeId, content: &[u8], offset: u64) -> Result<(), DecodeError> {
        for reader in self.readers.iter().filter(|reader| reader.node == node) {
            if matches!(reader.source, Source::File(_) | Source::Total(_)) {
                self.found.push((reader.source, read(reader.conversion, content, offset)?));
            }
        }
        Ok(())
    }

    fn integer(&self, source: Source) -> Option<i128> {
        self.found.iter().find_map(|(other, read)| match read {
            Read::Integer(number) if *other == source => Some(*number),
            Read::Text(text) if *other == source => text.parse().ok(),
            _ => None,
        })
    }

    fn text(&self, value: FileValue) -> Option<String> {
        self.found.iter().find_map(|(other, read)| match read {
            Read::Text(text) if *other == Source::File(value) => Some(text.clone()),
            _ => None,
        })
    }

    fn time(&self, source: Source) -> Option<LocalTime> {
        let of = |wanted: fn(&Read) -> bool| {
            self.found.iter().find(|(other, read)| *other == source && wanted(read)).map(|(_, read)| read)
        };
        match (of(|read| matches!(read, Read::Local(_))), of(|read| matches!(read, Read::Offset(_)))) {
            (Some(Read::Local(local)), Some(Read::Offset(offset))) => convert::local_time(local, *offset),
            _ => None,
        }
    }

    /// Compares the file's totals with those of its call events.
    pub(super) fn compare(&self, totals: &Totals, has_list: bool) -> Result<(), DecodeError> {
        if has_list && totals.calls == 0 {
            return differ("the list of call events", &"there", &"none: it must not be present and empty");
        }
        let calls = self.integer(Source::Total(Total::Calls));
        if let Some(stated) = calls.filter(|stated| *stated != i128::from(totals.calls)) {
            return differ("the number of call events", &stated, &totals.calls);
        }
        let charge = self.integer(Source::Total(Total::Charge));
        if let Some(stated) = charge.filter(|stated| *stated != totals.charge) {
            return differ("the total charge", &stated, &totals.charge);
        }
        for (what, total, found) in [
            ("the first time", Total::Earliest, totals.earliest),
            ("the last time", Total::Latest, totals.latest),
        ] {
            let stated = self.time(Source::Total(total));
            if let (Some(stated), Some(found)) = (stated, found)
                && stated != found
            {
                return differ(what, &stated, &found);
            }
        }
        Ok(())
    }

    pub(super) fn decoded(
        &self,
        kind: FileKind,
        totals: &Totals,
        is_notification: bool,
        sha256: Hash,
        bytes: u64,
    ) -> Result<Decoded, DecodeError> {
        let file = |value| self.integer(Source::File(value));
        let time = |value| self.time(Source::File(value));
        let wrong = |what: &str| DecodeError::at(0, format!("{what} is out of range"));
        let sequence = file(FileValue::Sequence).map(u32::try_from).transpose();
        let places = file(FileValue::DecimalPlaces).map(u8::try_from).transpose();
        Ok(Decoded {
            kind,
            is_notification,
            sender: self.text(FileValue::Sender),
            recipient: self.text(FileValue::Recipient),
            sequence: sequence.map_err(|_| wrong("the file sequence number"))?,
            currency: self.text(FileValue::Currency),
            decimal_places: places.map_err(|_| wrong("the number of decimal places"))?,
            created: time(FileValue::Created),
            cut_off: time(FileValue::CutOff),
            available: time(FileValue::Available),
            calls: totals.calls,
            total_charge: totals.charge,
            earliest: totals.earliest,
            latest: totals.latest,
            sha256,
            bytes,
        })
    }
}

fn differ(what: &str, stated: &dyn Debug, found: &dyn Debug) -> Result<(), DecodeError> {
    let (stated, found) = (format!("{stated:?}"), format!("{found:?}"));
    Err(DecodeError::Totals { what: what.to_owned(), stated, found })
}

/// What an item of a call event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Charge,
    Local,
    OffsetCode,
    Offset,
}

/// Charge and time of one call event after the other.
pub(super) struct CallRoles {
    roles: BTreeMap<NodeId, Role>,
    charge: Option<i128>,
    local: Option<Vec<u8>>,
    offset: Option<i16>,
}

impl CallRoles {
    /// The roles of items in call events; in a RAP file, of those in the call events that it returns.
    pub(super) fn new(variant: &Variant, kind: FileKind) -> Self {
        let tap = &variant.tap.compiled;
        let mut roles = BTreeMap::new();
        let role = |reader: &Reader| match (reader.source, reader.conversion) {
            (Source::Charge, _) => Some(Role::Charge),
            (Source::Record(Field::EVENT_TIME), Conversion::LocalTime) => Some(Role::Local),
            (Source::Record(Field::EVENT_TIME), Conversion::UtcOffsetCode) => Some(Role::OffsetCode),
            (Source::Record(Field::EVENT_TIME), Conversion::UtcOffset) => Some(Role::Offset),
            _ => None,
        };
        let listed = tap.readers.iter().filter_map(|reader| Some((reader.node, role(reader)?)));
        match kind {
            FileKind::Tap => roles.extend(listed),
            FileKind::Rap => {
                let rap = &variant.rap.compiled;
                let carriers = rap.readers.iter().filter(|r| r.source == Source::Change(Change::TapCall));
                let below = format!("{}[]", tap.shape.node(tap.list).path);
                for (carrier, (node, role)) in
                    carriers.flat_map(|carrier| listed.clone().map(move |listed| (carrier, listed)))
                {
                    let path = tap.shape.node(node).path.strip_prefix(&below).unwrap_or_default();
                    let path = format!("{}{path}", rap.shape.node(carrier.node).path);
                    roles.extend(rap.shape.find(&path).map(|node| (node, role)));
                }
            }
        }
        Self { roles, charge: None, local: None, offset: None }
    }

    /// A call event begins.
    pub(super) fn begin(&mut self) {
        (self.charge, self.local, self.offset) = (None, None, None);
    }

    /// Takes note of a primitive item.
    pub(super) fn see(&mut self, node: NodeId, content: &[u8], offset: u64) -> Result<(), DecodeError> {
        match self.roles.get(&node) {
            Some(Role::Charge) if self.charge.is_some() => {
                return Err(DecodeError::at(offset, "the call event has a second charge"));
            }
            Some(Role::Charge) => self.charge = Some(integer(content, offset)?),
            Some(Role::Local) => self.local = Some(content.to_vec()),
            Some(Role::OffsetCode) => {
                let code = convert::offset_of_code(integer(content, offset)?);
                self.offset =
                    Some(code.ok_or_else(|| DecodeError::at(offset, "the code is not one of an offset"))?);
            }
            Some(Role::Offset) => self.offset = convert::offset_of_text(content),
            None => {}
        }
        Ok(())
    }

    /// Charge and time of the call event with that index.
    pub(super) fn end(&self, index: u64) -> Result<(i64, Option<LocalTime>), DecodeError> {
        let wrong = |why: &str| DecodeError::Call { index, why: why.to_owned() };
        let charge = self.charge.ok_or_else(|| wrong("it has no charge"))?;
        let charge = i64::try_from(charge).ok().filter(|charge| *charge >= 0);
        let at = match (&self.local, self.offset) {
            (Some(local), Some(offset)) => {
                Some(convert::local_time(local, offset).ok_or_else(|| wrong("its time is not a time"))?)
            }
            _ => None,
        };
        Ok((charge.ok_or_else(|| wrong("its charge is negative or too large"))?, at))
    }
}

/// The number in the content of an INTEGER, in its shortest form.
fn integer(content: &[u8], offset: u64) -> Result<i128, DecodeError> {
    let is_padded = matches!(content, [0x00, second, ..] if second & 0x80 == 0)
        || matches!(content, [0xff, second, ..] if second & 0x80 != 0);
    if content.is_empty() || content.len() > 16 || is_padded {
        return Err(DecodeError::at(offset, "the number is not written in its shortest form"));
    }
    let start = if content[0] & 0x80 == 0 { 0 } else { -1 };
    Ok(content.iter().fold(start, |number, byte| number << 8 | i128::from(*byte)))
}

fn read(conversion: Conversion, content: &[u8], offset: u64) -> Result<Read, DecodeError> {
    let text =
        || String::from_utf8(content.to_vec()).map_err(|_| DecodeError::at(offset, "the text is not ASCII"));
    Ok(match conversion {
        Conversion::Integer => Read::Integer(integer(content, offset)?),
        Conversion::LocalTime => Read::Local(content.to_vec()),
        Conversion::UtcOffset => {
            let minutes = convert::offset_of_text(content);
            Read::Offset(
                minutes.ok_or_else(|| DecodeError::at(offset, "the offset from UTC is not an offset"))?,
            )
        }
        Conversion::UtcOffsetCode => {
            let minutes = convert::offset_of_code(integer(content, offset)?);
            Read::Offset(minutes.ok_or_else(|| DecodeError::at(offset, "the code is not one of an offset"))?)
        }
        _ => Read::Text(text()?),
    })
}
