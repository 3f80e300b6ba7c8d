//! The RFC 8785 (JCS) bytes of a row and of its personal data, and their hashes.
//!
//! Rows have no binary fractions and no integers over 2^53, and all their keys are ASCII, so writing the
//! fields in ascending order with JSON's minimal escapes gives the same bytes as a general canonicaliser,
//! many times faster. Which fields and in which order is for the row's `schemaVersion` to say ([`crate::schema`]): each
//! has straight-line code of its own, made from one table. Property tests hold this against `serde_json_canonicalizer`.

mod text;
mod writer;

pub(crate) use text::push_rest_of_string;
pub use text::push_string;

use crate::hash::{Hash, sha256, to_hex};
use crate::personal::{SALT, Salt};
use crate::row::{Record, Row, System};
use serde_json::{Map, Value};
use writer::Writer;

/// The largest integer that RFC 8785 writes exactly: 2^53 - 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// What of a row's personal data is written with it.
#[derive(Clone, Copy)]
enum Shown<'a> {
    /// Nothing but their hash: the bytes that are hashed themselves.
    Hashed,
    /// Beside the row, as one member, with the row's hash.
    Nested(&'a Hash),
    /// Among the row's own members, with the row's hash; without a salt they are masked.
    Flat(&'a Hash, Option<Salt>),
}

/// Appends the canonical bytes of `row`, which are hashed, to `out`.
pub fn push_row(row: &Row<'_>, out: &mut Vec<u8>) {
    out.reserve(1280);
    let personal_hash = personal_hash_at_end(row, out);
    push(row, personal_hash.as_ref(), Shown::Hashed, out);
}

/// Appends the row with its `rowHash`, and its personal data as one member: the line of an archive file.
pub fn push_archived(row: &Row<'_>, row_hash: &Hash, out: &mut Vec<u8>) {
    out.reserve(1664);
    let personal_hash = personal_hash_at_end(row, out);
    push(row, personal_hash.as_ref(), Shown::Nested(row_hash), out);
}

/// Appends the row with its `rowHash`, and its personal data and salt among its members: the record of the API.
pub fn push_whole(row: &Row<'_>, row_hash: &Hash, out: &mut Vec<u8>) {
    out.reserve(1664);
    let personal_hash = personal_hash_at_end(row, out);
    push(row, personal_hash.as_ref(), Shown::Flat(row_hash, Some(row.salt)), out);
}

/// Appends a row whose personal data were masked, as [`push_whole`] does, but without the salt. `personal_hash` is that
/// of the true row: `rowHash` still follows.
pub fn push_masked(masked: &Row<'_>, personal_hash: Option<&Hash>, row_hash: &Hash, out: &mut Vec<u8>) {
    out.reserve(1664);
    push(masked, personal_hash, Shown::Flat(row_hash, None), out);
}

/// Appends the bytes of the row's personal data with their salt, in canonical form; nothing if it has none.
pub fn push_personal(row: &Row<'_>, out: &mut Vec<u8>) {
    match &row.record {
        Record::Sms(sms) => writer::push_personal(sms, row.version, row.salt, out),
        Record::System(system) => out.extend(system.personal_with_salt(row.salt).unwrap_or_default()),
    }
}

/// The row's `personalHash`; none if it has no personal data.
pub fn personal_hash(row: &Row<'_>) -> Option<Hash> {
    personal_hash_at_end(row, &mut Vec::with_capacity(384))
}

/// As [`personal_hash`], with the end of `out` as scratch space.
fn personal_hash_at_end(row: &Row<'_>, out: &mut Vec<u8>) -> Option<Hash> {
    let start = out.len();
    push_personal(row, out);
    let hash = (out.len() > start).then(|| sha256(&out[start..]));
    out.truncate(start);
    hash
}

/// `sha256(JCS(row))`, using `scratch` for the canonical bytes.
pub fn row_hash(row: &Row<'_>, scratch: &mut Vec<u8>) -> Hash {
    scratch.clear();
    push_row(row, scratch);
    sha256(scratch)
}

fn push(row: &Row<'_>, personal_hash: Option<&Hash>, shown: Shown<'_>, out: &mut Vec<u8>) {
    match &row.record {
        Record::Sms(sms) => Writer { row, personal_hash, shown }.push_sms(sms, out),
        Record::System(system) => push_system(row, system, personal_hash, shown, out),
    }
}

/// The canonical bytes of any JSON value (RFC 8785), for seals, bodies and anchors.
///
/// # Errors
/// A text that names what could not be written, such as a number that is not finite.
pub fn to_jcs<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, String> {
    serde_json_canonicalizer::to_vec(value).map_err(|e| e.to_string())
}

fn push_system(
    row: &Row<'_>,
    system: &System<'_>,
    personal_hash: Option<&Hash>,
    shown: Shown<'_>,
    out: &mut Vec<u8>,
) {
    if let (Shown::Flat(row_hash, salt), Some(personal)) = (shown, system.personal) {
        return push_flat_system(row, (system, personal), (personal_hash, row_hash, salt), out);
    }
    Writer { row, personal_hash, shown }.push_system(system, out);
}

/// A system row with the members of its personal data among its own: few are read, so the general canonicaliser
/// does.
fn push_flat_system(
    row: &Row<'_>,
    (system, personal): (&System<'_>, &str),
    (personal_hash, row_hash, salt): (Option<&Hash>, &Hash, Option<Salt>),
    out: &mut Vec<u8>,
) {
    let mut bytes = Vec::new();
    Writer { row, personal_hash, shown: Shown::Hashed }.push_system(system, &mut bytes);
    let mut members: Map<String, Value> = serde_json::from_slice(&bytes).unwrap_or_default();
    members.extend(serde_json::from_str::<Map<String, Value>>(personal).unwrap_or_default());
    members.insert("rowHash".to_owned(), to_hex(row_hash).into());
    members.extend(salt.map(|salt| (SALT.to_owned(), salt.to_hex().into())));
    out.extend(to_jcs(&members).unwrap_or_default());
}

/// Appends a JSON integer.
pub fn push_integer(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
