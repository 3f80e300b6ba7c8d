//! The compact encoding of commands, drafts and state, behind one version byte.
//!
//! Nothing here is hashed; hashes are taken from canonical JSON only. The encoding can therefore be
//! exchanged: a new version gets a new first byte, and this module keeps reading the old one. A draft has the
//! `schemaVersion` of its row in that place.

use crate::row::Draft;
use crate::rules::{Build, NeedsBuild};
use bincode::error::DecodeError;
use bincode::{BorrowDecode, Encode};

/// First byte of everything that this module writes.
pub const FORMAT_VERSION: u8 = 1;

/// Upper bound for one decoded value, against lengths that corrupt bytes could claim.
const LIMIT_BYTES: usize = 64 << 20;

/// Bytes that can't be read as what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The version byte is missing or unknown.
    #[error(
        "encoding version {found:?} is unknown, this build reads version {FORMAT_VERSION}; use a build that reads it"
    )]
    Version {
        /// The byte found, if any.
        found: Option<u8>,
    },
    /// Something that another build wrote.
    #[error(transparent)]
    NeedsBuild(#[from] NeedsBuild),
    /// A choice that this build does not have.
    #[error("{what} has a kind that is not known: {why}")]
    Variant {
        /// What was being read.
        what: &'static str,
        /// The decoder's words.
        why: String,
    },
    /// The bytes do not decode.
    #[error("{what} can't be decoded: {why}; the bytes are damaged")]
    Damaged {
        /// What was being read.
        what: &'static str,
        /// The decoder's words.
        why: String,
    },
    /// A value could not be encoded.
    #[error("{what} can't be encoded: {why}")]
    Encode {
        /// What was being written.
        what: &'static str,
        /// The encoder's words.
        why: String,
    },
}

/// Encodes `value` behind the version byte.
///
/// # Errors
/// [`CodecError::Encode`].
pub fn encode<T: Encode>(what: &'static str, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![FORMAT_VERSION];
    encode_bare(what, value, &mut out)?;
    Ok(out)
}

/// Decodes what [`encode`] wrote; every byte must be used.
///
/// # Errors
/// [`CodecError::Version`] or [`CodecError::Damaged`].
pub fn decode<'a, T: BorrowDecode<'a, ()>>(what: &'static str, bytes: &'a [u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&FORMAT_VERSION, rest)) => decode_bare(what, rest),
        found => Err(CodecError::Version { found: found.map(|(version, _)| *version) }),
    }
}

/// Appends `value` without a version byte, for parts of a container that has one.
///
/// # Errors
/// [`CodecError::Encode`].
pub fn encode_bare<T: Encode>(what: &'static str, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::encode_into_std_write(value, out, bincode::config::standard())
        .map(|_| ())
        .map_err(|e| CodecError::Encode { what, why: e.to_string() })
}

/// Decodes what [`encode_bare`] wrote; every byte must be used.
///
/// # Errors
/// [`CodecError::Damaged`] or [`CodecError::Variant`].
pub fn decode_bare<'a, T: BorrowDecode<'a, ()>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, CodecError> {
    decode_in(what, bytes, ())
}

/// As [`decode_bare`], of a value whose parts depend on `context`.
pub(crate) fn decode_in<'a, C, T: BorrowDecode<'a, C>>(
    what: &'static str,
    bytes: &'a [u8],
    context: C,
) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<LIMIT_BYTES>();
    let (value, used) =
        bincode::borrow_decode_from_slice_with_context(bytes, config, context).map_err(|error| {
            let why = error.to_string();
            match error {
                DecodeError::UnexpectedVariant { .. } => CodecError::Variant { what, why },
                _ => CodecError::Damaged { what, why },
            }
        })?;
    if used != bytes.len() {
        return Err(CodecError::Damaged { what, why: format!("{} bytes too many", bytes.len() - used) });
    }
    Ok(value)
}

/// Appends a draft behind the `schemaVersion` of the row that it becomes.
///
/// # Errors
/// [`CodecError::Encode`].
pub fn encode_draft(draft: &Draft<'_>, out: &mut Vec<u8>) -> Result<(), CodecError> {
    draft.encode(out)
}

/// Decodes what [`encode_draft`] wrote, of whatever version; under which rules a version is legal is for
/// [`Draft::allowed_under`] to say.
///
/// # Errors
/// [`CodecError::NeedsBuild`], [`CodecError::Damaged`] or [`CodecError::Variant`].
pub fn decode_draft(bytes: &[u8]) -> Result<Draft<'_>, CodecError> {
    Draft::decode(bytes, Build::NEXT)
}

/// As [`decode_draft`], but of the versions that `build` knows.
///
/// # Errors
/// As [`decode_draft`].
pub fn decode_draft_as(bytes: &[u8], build: Build) -> Result<Draft<'_>, CodecError> {
    Draft::decode(bytes, build)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn unknown_versions_and_trailing_bytes_are_refused() {
        let mut bytes = encode("number", &7u64).unwrap();
        assert_eq!(decode::<u64>("number", &bytes), Ok(7));
        bytes.push(0);
        assert!(matches!(decode::<u64>("number", &bytes), Err(CodecError::Damaged { .. })));
        bytes[0] = 9;
        assert_eq!(decode::<u64>("number", &bytes), Err(CodecError::Version { found: Some(9) }));
        assert_eq!(decode::<u64>("number", &[]), Err(CodecError::Version { found: None }));
    }
}
