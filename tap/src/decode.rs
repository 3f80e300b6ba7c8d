//! Reading files back, driven by the same modules as writing: for `verify-export`, in bounded memory.
//!
//! The reader is strict. Every length is definite and the shortest possible, every item is one that the module knows, in
//! its order and within its size, nothing follows the file, and the file's totals are those of its call events.

mod tlv;
mod values;
mod walk;

use super::asn1::{Kind, NodeId, Shape};
use super::error::DecodeError;
use super::header::LocalTime;
use super::mapping::FileKind;
use super::source::Totals;
use super::variant::Variant;
use cdr_core::Hash;
use std::io::Read;
use tlv::Input;
use values::{CallRoles, FrameValues};
use walk::Walker;

/// The largest item besides the list of call events, and the largest call event.
const MAX_ITEM_BYTES: u64 = 16 * 1024 * 1024;

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Its kind.
    pub kind: FileKind,
    /// True for a file without a call event.
    pub is_notification: bool,
    /// Sender, where the variant writes it.
    pub sender: Option<String>,
    /// Recipient, where the variant writes it.
    pub recipient: Option<String>,
    /// File sequence number, where the variant writes it.
    pub sequence: Option<u32>,
    /// Currency, where the variant writes it.
    pub currency: Option<String>,
    /// Decimal places, where the variant writes them.
    pub decimal_places: Option<u8>,
    /// When the file was opened, to the second.
    pub created: Option<LocalTime>,
    /// Until when records were ingested, to the second.
    pub cut_off: Option<LocalTime>,
    /// When the file was there for the recipient, to the second.
    pub available: Option<LocalTime>,
    /// Number of call events: counted, and compared with what the file says.
    pub calls: u64,
    /// Sum of their charges: added up, and compared with what the file says.
    pub total_charge: i128,
    /// Time of the first call event, to the second.
    pub earliest: Option<LocalTime>,
    /// Time of the last one, to the second.
    pub latest: Option<LocalTime>,
    /// SHA-256 of the file.
    pub sha256: Hash,
    /// Its size.
    pub bytes: u64,
}

/// A call event that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodedCall<'a> {
    /// Its place in the file, from 0.
    pub index: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Its charge in units of the last decimal place. In a RAP file: the charge that is returned.
    pub charge: i64,
    /// When it happened, to the second; where the variant writes it.
    pub at: Option<LocalTime>,
}

/// Reads a file of `variant`, and shows each call event to `on_call`.
///
/// # Errors
/// [`DecodeError`] on the first thing that is not as it should be, or what `on_call` says.
pub fn decode(
    variant: &Variant,
    kind: FileKind,
    input: impl Read,
    on_call: &mut dyn FnMut(DecodedCall<'_>) -> Result<(), DecodeError>,
) -> Result<Decoded, DecodeError> {
    let format = variant.format(kind);
    let compiled = &format.compiled;
    let mut reader = FileReader {
        shape: &compiled.shape,
        list: compiled.list,
        input: Input::new(input),
        frame: FrameValues::new(&compiled.readers),
        roles: CallRoles::new(variant, kind),
        totals: Totals::default(),
        has_list: false,
        on_call,
    };
    reader.root()?;
    let (sha256, bytes) = reader.input.finish()?;
    let (frame, totals, has_list) = (reader.frame, reader.totals, reader.has_list);
    frame.compare(&totals, has_list)?;
    frame.decoded(kind, &totals, !has_list, sha256, bytes)
}

/// A file on its way in.
struct FileReader<'a, R> {
    shape: &'a Shape,
    list: NodeId,
    input: Input<R>,
    frame: FrameValues<'a>,
    roles: CallRoles,
    totals: Totals,
    has_list: bool,
    on_call: &'a mut dyn FnMut(DecodedCall<'_>) -> Result<(), DecodeError>,
}

impl<R: Read> FileReader<'_, R> {
    fn root(&mut self) -> Result<(), DecodeError> {
        let header = self.input.header(u64::MAX)?;
        let node = self.shape.alternative(Shape::ROOT, header.tag).ok_or_else(|| {
            DecodeError::at(
                header.offset,
                format!("{} does not begin any kind of file that the module defines", header.tag),
            )
        })?;
        self.item(node, 0, header)
    }

    /// Reads an item whose header was read; `depth` of its tags were read before.
    fn item(&mut self, node: NodeId, depth: usize, header: tlv::Header) -> Result<(), DecodeError> {
        let end = self.input.offset() + header.length;
        if !self.shape.is_on_way(node, self.list) {
            return self.whole(node, depth, header);
        }
        header.need_constructed(&self.shape.node(node).path)?;
        if depth + 1 < self.shape.node(node).tags.len() {
            let inner = self.input.header(end)?;
            let expected = self.shape.node(node).tags[depth + 1];
            inner.need_tag(expected)?;
            self.item(node, depth + 1, inner)?;
            return self.input.need_end(end);
        }
        if node == self.list {
            self.has_list = true;
            while self.input.offset() < end {
                self.call(end)?;
            }
            return Ok(());
        }
        let mut position = 0;
        while self.input.offset() < end {
            let header = self.input.header(end)?;
            let (member, next) = walk::member(self.shape, node, position, header.tag, header.offset)?;
            position = next;
            self.item(member, 0, header)?;
        }
        walk::nothing_missing(self.shape, node, position, end)?;
        self.input.need_end(end)
    }

    /// Reads an item without call events as a whole.
    fn whole(&mut self, node: NodeId, depth: usize, header: tlv::Header) -> Result<(), DecodeError> {
        let content = self.input.content(header, MAX_ITEM_BYTES)?;
        let frame = &mut self.frame;
        let mut seen = |node, content: &[u8], offset| frame.see(node, content, offset);
        Walker { shape: self.shape, seen: &mut seen }.content(node, depth, header, &content)
    }

    fn call(&mut self, end: u64) -> Result<(), DecodeError> {
        let header = self.input.header(end)?;
        let Kind::SequenceOf(element) = self.shape.node(self.list).kind else { return Ok(()) };
        let content = self.input.content(header, MAX_ITEM_BYTES)?;
        self.roles.begin();
        let roles = &mut self.roles;
        let mut seen = |node, content: &[u8], offset| roles.see(node, content, offset);
        Walker { shape: self.shape, seen: &mut seen }.item(element, header, &content)?;
        let index = self.totals.calls;
        let (charge, at) = self.roles.end(index)?;
        let bytes = [self.input.header_bytes(), &content].concat();
        (self.on_call)(DecodedCall { index, bytes: &bytes, charge, at })?;
        match at {
            Some(at) => self.totals.add(charge.into(), at),
            None => self.totals.add_untimed(charge.into()),
        }
        Ok(())
    }
}
