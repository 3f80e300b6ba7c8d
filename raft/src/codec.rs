//! The encoding of everything that is stored in the Raft log or sent between replicas.
//!
//! One byte of format version, then bincode 2 (variable-length integers, little endian). Nothing else in
//! this crate names bincode, so that it can be exchanged under another version byte.

use bincode::config;
use bincode::error::{DecodeError, EncodeError};
use serde::{Serialize, de::DeserializeOwned};

/// Version of the encoding. Readers refuse any other.
pub const FORMAT_VERSION: u8 = 1;

/// The largest thing that is encoded or decoded, in bytes: a guard against lengths made of noise.
pub const MAX_ENCODED_BYTES: usize = 64 << 20;

/// Why bytes could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Nothing there.
    #[error("no bytes to decode")]
    Empty,
    /// Written by another build.
    #[error(
        "encoding {0} is not known to this build, which reads encoding {FORMAT_VERSION}: install the build that wrote it"
    )]
    Version(u8),
    /// Written by another build.
    #[error("a record of kind {0} is not known to this build: install the build that wrote it")]
    Kind(u8),
    /// The bytes are not what they should be.
    #[error("cannot decode: {0}")]
    Decode(#[from] DecodeError),
    /// More bytes than the value has.
    #[error("{0} bytes are left over after the value")]
    Trailing(usize),
    /// The value cannot be encoded.
    #[error("cannot encode: {0}")]
    Encode(#[from] EncodeError),
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// Encodes a value, version byte first.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(64);
    encode_into(value, &mut out)?;
    Ok(out)
}

/// Appends an encoded value to `out`; on failure `out` may hold a part of it.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.push(FORMAT_VERSION);
    bincode::serde::encode_into_std_write(value, out, config::standard())?;
    Ok(())
}

/// Decodes a value that takes up all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (&version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if version != FORMAT_VERSION {
        return Err(CodecError::Version(version));
    }
    let limited = config::standard().with_limit::<MAX_ENCODED_BYTES>();
    let (value, read) = bincode::serde::decode_from_slice(body, limited)?;
    match body.len() - read {
        0 => Ok(value),
        rest => Err(CodecError::Trailing(rest)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::{CommandBytes, Entry, LogId};
    use openraft::EntryPayload;

    fn entry() -> Entry {
        let command = CommandBytes(bytes::Bytes::from_static(b"abc"));
        Entry { log_id: LogId::new_term_index(3, 7), payload: EntryPayload::Normal(command) }
    }

    #[test]
    fn an_entry_has_these_bytes() {
        // version, term, index, kind of payload, length, command
        assert_eq!(encode(&entry()).unwrap(), [1, 3, 7, 1, 3, b'a', b'b', b'c']);
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let decoded: Entry = decode(&encode(&entry()).unwrap()).unwrap();
        assert_eq!(decoded, entry());
    }

    #[test]
    fn bad_bytes_are_errors() {
        let good = encode(&entry()).unwrap();
        for len in 0..good.len() {
            assert!(decode::<Entry>(&good[..len]).is_err(), "cut at {len}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(matches!(decode::<Entry>(&longer), Err(CodecError::Trailing(1))));
        let mut newer = good;
        newer[0] = 2;
        assert!(matches!(decode::<Entry>(&newer), Err(CodecError::Version(2))));
    }

    #[test]
    fn a_length_made_of_noise_allocates_nothing() {
        // an entry whose command claims to be 2^60 bytes long
        let bytes = [1, 3, 7, 1, 253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(matches!(decode::<Entry>(&bytes), Err(CodecError::Decode(_))));
    }
}
