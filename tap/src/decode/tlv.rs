//! Tags, lengths and contents out of a stream.

use crate::asn1::Tag;
use crate::error::DecodeError;
use cdr_core::Hash;
use sha2::{Digest, Sha256};
use std::io::{ErrorKind, Read};

/// Identifier and length octets of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) tag: Tag,
    pub(super) is_constructed: bool,
    /// Octets of the content.
    pub(super) length: u64,
    /// Where the item begins in the file.
    pub(super) offset: u64,
    /// Octets of the header itself.
    pub(super) octets: usize,
}

impl Header {
    pub(super) fn need_constructed(&self, path: &str) -> Result<(), DecodeError> {
        self.is_constructed
            .then_some(())
            .ok_or_else(|| DecodeError::at(self.offset, format!("{path} is primitive")))
    }

    pub(super) fn need_tag(&self, tag: Tag) -> Result<(), DecodeError> {
        let why = || format!("{} is found where {tag} is expected", self.tag);
        (self.tag == tag).then_some(()).ok_or_else(|| DecodeError::at(self.offset, why()))
    }
}

/// Reads a header out of `bytes`, which stand at `offset` of the file.
pub(super) fn header(bytes: &[u8], offset: u64) -> Result<Header, DecodeError> {
    let mut rest = bytes;
    let mut next = || {
        let (&byte, tail) =
            rest.split_first().ok_or_else(|| DecodeError::at(offset, "the item is cut off"))?;
        rest = tail;
        Ok(byte)
    };
    let header = parse(offset, &mut next)?;
    let octets = bytes.len() - rest.len();
    if header.length > rest.len() as u64 {
        return Err(DecodeError::at(offset, "the item is longer than the one that contains it"));
    }
    Ok(Header { octets, ..header })
}

fn parse(offset: u64, next: &mut dyn FnMut() -> Result<u8, DecodeError>) -> Result<Header, DecodeError> {
    let wrong = |why: &str| Err(DecodeError::at(offset, why));
    let first = next()?;
    let mut number = u32::from(first & 0x1f);
    if number == 0x1f {
        number = 0;
        loop {
            let byte = next()?;
            if number == 0 && byte == 0x80 || number > u32::MAX >> 7 {
                return wrong("the tag is not written in its shortest form, or too large");
            }
            number = number << 7 | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
        }
        if number < 0x1f {
            return wrong("the tag is not written in its shortest form");
        }
    }
    let first_length = next()?;
    let length = match first_length {
        0..0x80 => u64::from(first_length),
        0x80 => return wrong("the length is indefinite"),
        0x81..=0x88 => {
            let mut length = 0;
            for place in 0..first_length & 0x7f {
                let byte = next()?;
                if place == 0 && byte == 0 {
                    return wrong("the length is not written in its shortest form");
                }
                length = length << 8 | u64::from(byte);
            }
            if length < 0x80 {
                return wrong("the length is not written in its shortest form");
            }
            length
        }
        _ => return wrong("the length has more than eight octets"),
    };
    let tag = Tag { class: first >> 6, number };
    Ok(Header { tag, is_constructed: first & 0x20 != 0, length, offset, octets: 0 })
}

/// A file that is read from front to back.
pub(super) struct Input<R> {
    inner: R,
    hasher: Sha256,
    offset: u64,
    header_bytes: Vec<u8>,
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), offset: 0, header_bytes: Vec::new() }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes of the last header.
    pub(super) fn header_bytes(&self) -> &[u8] {
        &self.header_bytes
    }

    /// Reads the header of an item that ends at `end` or before.
    pub(super) fn header(&mut self, end: u64) -> Result<Header, DecodeError> {
        let start = self.offset;
        self.header_bytes.clear();
        let (inner, bytes) = (&mut self.inner, &mut self.header_bytes);
        let mut next = || {
            let mut byte = [0];
            read_exact(inner, &mut byte, start + bytes.len() as u64)?;
            bytes.push(byte[0]);
            Ok(byte[0])
        };
        let header = parse(start, &mut next)?;
        self.hasher.update(&self.header_bytes);
        self.offset += self.header_bytes.len() as u64;
        match self.offset.checked_add(header.length) {
            Some(item_end) if item_end <= end => Ok(Header { octets: self.header_bytes.len(), ..header }),
            _ => Err(DecodeError::at(start, "the item is longer than the one that contains it")),
        }
    }

    /// Reads the content of an item of up to `most` bytes.
    pub(super) fn content(&mut self, header: Header, most: u64) -> Result<Vec<u8>, DecodeError> {
        if header.length > most {
            return Err(DecodeError::at(
                header.offset,
                format!("an item of {} bytes is too large", header.length),
            ));
        }
        let mut content = vec![0; header.length as usize];
        read_exact(&mut self.inner, &mut content, self.offset)?;
        self.hasher.update(&content);
        self.offset += header.length;
        Ok(content)
    }

    pub(super) fn need_end(&self, end: u64) -> Result<(), DecodeError> {
        (self.offset == end)
            .then_some(())
            .ok_or_else(|| DecodeError::at(self.offset, "something follows in the item"))
    }

    /// SHA-256 and size of the file, which must end here.
    pub(super) fn finish(&mut self) -> Result<(Hash, u64), DecodeError> {
        let mut byte = [0];
        match read_exact(&mut self.inner, &mut byte, self.offset) {
            Ok(()) => Err(DecodeError::at(self.offset, "something follows the file")),
            Err(DecodeError::Malformed { .. }) => Ok((self.hasher.clone().finalize().into(), self.offset)),
            Err(error) => Err(error),
        }
    }
}

fn read_exact(input: &mut impl Read, bytes: &mut [u8], offset: u64) -> Result<(), DecodeError> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => DecodeError::at(offset, "the file ends in the middle of an item"),
        _ => DecodeError::Io(error),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn headers_in_one_form_only() {
        let read = |bytes: &[u8]| {
            header(bytes, 0).map(|h| (h.tag.class, h.tag.number, h.is_constructed, h.length, h.octets))
        };
        assert_eq!(read(&[0x5f, 0x81, 0x44, 1, 7]).unwrap(), (1, 196, false, 1, 4));
        assert_eq!(read(&[0x61, 0]).unwrap(), (1, 1, true, 0, 2));
        let long = [&[0x04, 0x81, 0x80][..], &[0; 128]].concat();
        assert_eq!(read(&long).unwrap(), (0, 4, false, 128, 3));
        for (bytes, part) in [
            (&[0x61, 0x80, 0, 0][..], "indefinite"),
            (&[0x61, 0x81, 0x05, 0, 0, 0, 0, 0], "shortest"),
            (&[0x61, 0x82, 0x00, 0x80], "shortest"),
            (&[0x5f, 0x1e, 0], "shortest"),
            (&[0x5f, 0x80, 0x44, 0], "shortest"),
            (&[0x5f, 0xff, 0xff, 0xff, 0xff, 0x7f, 0], "too large"),
            (&[0x61, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1], "eight octets"),
            (&[0x61, 3, 0], "longer than"),
            (&[0x61], "cut off"),
            (&[0x5f, 0x81], "cut off"),
        ] {
            assert!(read(bytes).unwrap_err().to_string().contains(part), "{bytes:x?}");
        }
    }
}
