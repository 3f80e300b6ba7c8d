//! The bytes of a segment file.
//!
//! All integers are little-endian. A file is named by its first sequence, `<20 digits>.seg`.
//!
//! ```text
//! header   magic "CDRBUS\0\x01" | created_ms i64 | first_sequence u64 | crc32 of the 24 bytes before
//! record   length u32 | crc32 u32, of the body | body of that length
//! body     sequence u64 | stored_ms i64 | message id, string | header count u16 | (name, value: strings)… |
//!          subject, string | payload, to the end
//! string   length u32 | UTF-8; the message id has length 0 where there is none
//! ```

use bytes::Bytes;

use crate::{Headers, Outgoing, StoredMessage};

/// First bytes of a file; the last one is the format version.
pub(super) const MAGIC: [u8; 8] = *b"CDRBUS\0\x01";
/// Length of a file's header.
pub(super) const HEADER_BYTES: u64 = 28;
/// Length and checksum before a record's body.
pub(super) const FRAME_BYTES: usize = 8;
/// No body is longer; more means damage.
const MAX_BODY_BYTES: usize = 256 << 20;

/// The header of a file.
pub(super) fn header(created_ms: i64, first_sequence: u64) -> [u8; HEADER_BYTES as usize] {
    let mut out = [0; HEADER_BYTES as usize];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&created_ms.to_le_bytes());
    out[16..24].copy_from_slice(&first_sequence.to_le_bytes());
    let crc = crc32fast::hash(&out[..24]);
    out[24..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Appends a record.
pub(super) fn push_record(out: &mut Vec<u8>, sequence: u64, stored_ms: i64, message: &Outgoing) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&stored_ms.to_le_bytes());
    push_string(out, message.message_id.as_deref().unwrap_or_default());
    out.extend_from_slice(&(message.headers.len() as u16).to_le_bytes());
    for (name, value) in &message.headers {
        push_string(out, name);
        push_string(out, value);
    }
    push_string(out, &message.subject);
    out.extend_from_slice(&message.payload);
    let body = start + FRAME_BYTES;
    let length = (out.len() - body) as u32;
    let crc = crc32fast::hash(&out[body..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..body].copy_from_slice(&crc.to_le_bytes());
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// What lies at the beginning of some bytes of a file.
pub(super) enum Frame {
    /// A whole record, with this many bytes of frame and body.
    Whole(usize),
    /// A record begins, and needs this many bytes.
    Partial(usize),
    /// No record.
    Damaged(&'static str),
}

/// Looks at the record at the beginning of `bytes` and checks its sum.
pub(super) fn frame(bytes: &[u8]) -> Frame {
    let Some((length, crc)) = le_u32(bytes, 0).zip(le_u32(bytes, 4)) else {
        return Frame::Partial(FRAME_BYTES);
    };
    let length = length as usize;
    if length > MAX_BODY_BYTES {
        return Frame::Damaged("a record's length is beyond any message");
    }
    match bytes.get(FRAME_BYTES..FRAME_BYTES + length) {
        None => Frame::Partial(FRAME_BYTES + length),
        Some(body) if crc32fast::hash(body) == crc => Frame::Whole(FRAME_BYTES + length),
        Some(_) => Frame::Damaged("a record's checksum differs"),
    }
}

/// A record, borrowing from a file's bytes.
pub(super) struct Record<'a> {
    pub(super) sequence: u64,
    pub(super) stored_ms: i64,
    pub(super) message_id: Option<&'a str>,
    pub(super) subject: &'a str,
    pub(super) payload: &'a [u8],
    headers: &'a [u8],
    header_count: u16,
}

impl<'a> Record<'a> {
    /// Reads the body of a [`Frame::Whole`]; `None` if its parts don't fit together.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let sequence = u64::from_le_bytes(body.get(0..8)?.try_into().ok()?);
        let stored_ms = i64::from_le_bytes(body.get(8..16)?.try_into().ok()?);
        let (message_id, rest) = string(body.get(16..)?)?;
        let header_count = u16::from_le_bytes(rest.get(0..2)?.try_into().ok()?);
        let headers = rest.get(2..)?;
        let mut rest = headers;
        for _ in 0..u32::from(header_count) * 2 {
            rest = string(rest)?.1;
        }
        let headers = &headers[..headers.len() - rest.len()];
        let (subject, payload) = string(rest)?;
        let message_id = (!message_id.is_empty()).then_some(message_id);
        Some(Self { sequence, stored_ms, message_id, subject, payload, headers, header_count })
    }

    /// The message, its payload sharing `file`, from which the record was read.
    pub(super) fn to_stored(&self, file: &Bytes) -> StoredMessage {
        let mut headers = Headers::with_capacity(usize::from(self.header_count) + 1);
        let mut rest = self.headers;
        while let Some(((name, after_name), (value, after_value))) =
            string(rest).and_then(|name| Some((name, string(name.1)?)))
        {
            debug_assert!(after_value.len() < after_name.len());
            headers.push((name.to_owned(), value.to_owned()));
            rest = after_value;
        }
        if let Some(id) = self.message_id {
            headers.push((crate::MESSAGE_ID_HEADER.to_owned(), id.to_owned()));
        }
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        StoredMessage {
            sequence: self.sequence,
            subject: self.subject.to_owned(),
            payload: file.slice_ref(self.payload),
            headers,
        }
    }
}

fn string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = 4usize.checked_add(le_u32(bytes, 0)? as usize)?;
    Some((std::str::from_utf8(bytes.get(4..end)?).ok()?, &bytes[end..]))
}

fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
