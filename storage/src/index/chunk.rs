//! A chunk: format version `u8` = 1, then entries, `u64` little-endian, strictly ascending.

use super::geometry::{mask, offset, partition};
use super::record::Run;
use super::{damaged, keys};
use crate::error::StoreError;

const VERSION: u8 = 1;

/// Encodes a chunk into `out`, which is cleared first.
pub(super) fn encode(entries: &[u64], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(1 + entries.len() * 8);
    out.push(VERSION);
    for entry in entries {
        out.extend_from_slice(&entry.to_le_bytes());
    }
}

/// The entries of a stored chunk, their order not yet checked.
pub(super) fn entries(value: &[u8]) -> Result<&[[u8; 8]], &'static str> {
    match value.split_first() {
        Some((&VERSION, rest)) => match rest.as_chunks() {
            (entries, []) => Ok(entries),
            _ => Err("its length is not a whole number of entries"),
        },
        Some(_) => Err("its format version is unknown"),
        None => Err("it is empty"),
    }
}

/// The entries of a stored chunk, known to be in order and in their partition.
pub(super) fn checked<'a>(
    value: Option<&'a [u8]>,
    key: &[u8],
    partition_bits: u32,
    chunk: u32,
) -> Result<&'a [[u8; 8]], StoreError> {
    let value = value.ok_or_else(|| damaged(key, "it is missing"))?;
    let entries = entries(value).map_err(|why| damaged(key, why))?;
    let mut ordered = true;
    for pair in entries.windows(2) {
        ordered &= u64::from_le_bytes(pair[0]) < u64::from_le_bytes(pair[1]);
    }
    if !ordered {
        return Err(damaged(key, "its entries are not in order"));
    }
    let outer = [entries.first(), entries.last()];
    if outer.into_iter().flatten().any(|e| partition(u64::from_le_bytes(*e), partition_bits) != chunk) {
        return Err(damaged(key, "an entry belongs to another chunk"));
    }
    Ok(entries)
}

/// Ordinals of the rows with `fingerprint` in a chunk of `run`, newest first.
pub(super) fn find(entries: &[[u8; 8]], run: &Run, bits: u32, fingerprint: u64, out: &mut Vec<u64>) {
    let mask = mask(bits);
    let from = entries.partition_point(|e| u64::from_le_bytes(*e) < fingerprint & !mask);
    for bytes in &entries[from..] {
        let entry = u64::from_le_bytes(*bytes);
        if (entry ^ fingerprint) & !mask != 0 {
            break;
        }
        out.push(run.first + offset(entry, bits));
    }
}

/// Cuts ascending entries at the borders of chunks and hands every chunk on, empty ones too.
pub(super) fn cut(entries: &[u64], partition_bits: u32, mut each: impl FnMut(u32, &[u64])) {
    let mut rest = entries;
    for chunk in 0..1u32 << partition_bits {
        let length = rest.partition_point(|e| partition(*e, partition_bits) == chunk);
        let (head, tail) = rest.split_at(length);
        each(chunk, head);
        rest = tail;
    }
}

/// The key of the chunk that holds `fingerprint`, and its number.
pub(super) fn locate(
    table: keys::Table,
    run: &Run,
    partition_bits: u32,
    fingerprint: u64,
) -> ([u8; 14], u32) {
    let chunk = partition(fingerprint, partition_bits);
    (keys::chunk(table, run.level, run.first, chunk), chunk)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn stored(list: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(list, &mut out);
        out
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(stored(&[1, 0x0203]), [1, 1, 0, 0, 0, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn bad_bytes_are_named() {
        let good = stored(&[1, 5, 9]);
        let why = |value: Option<&[u8]>| checked(value, b"k", 0, 0).unwrap_err().to_string();
        assert!(checked(Some(&good), b"k", 0, 0).is_ok());
        assert!(why(None).contains("missing"));
        assert!(why(Some(&[])).contains("empty"));
        assert!(why(Some(&good[..12])).contains("whole number"));
        assert!(why(Some(&stored(&[5, 1]))).contains("order"));
        assert!(why(Some(&stored(&[5, 5]))).contains("order"));
        let mut foreign = good.clone();
        foreign[0] = 2;
        assert!(why(Some(&foreign)).contains("version"));
        assert!(checked(Some(&good), b"k", 1, 1).is_err());
    }

    #[test]
    fn every_chunk_is_cut_even_empty_ones() {
        let list = [3 << 62, (3 << 62) + 1, 1 << 62];
        let mut sorted = list;
        sorted.sort_unstable();
        let mut seen = Vec::new();
        cut(&sorted, 2, |chunk, part| seen.push((chunk, part.len())));
        assert_eq!(seen, [(0, 0), (1, 1), (2, 0), (3, 2)]);
    }
}
