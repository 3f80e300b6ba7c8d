//! Event times of a block: format version `u8` = 2, then for every zone of rows the smallest and the largest
//! event time, `i64` little-endian, milliseconds; smallest > largest if no row of the zone has one. Last comes the
//! CRC-32 of all that: rows of one hour do not show how wide a zone may be that reaches into the next.

use super::damaged;
use super::geometry::Geometry;
use super::record::Span;
use crate::error::StoreError;

const VERSION: u8 = 2;

/// The stored form of a full block's zones.
pub(super) fn encode(zones: &[Span]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + zones.len() * 16 + 4);
    out.push(VERSION);
    for zone in zones {
        out.extend_from_slice(&zone.min.to_le_bytes());
        out.extend_from_slice(&zone.max.to_le_bytes());
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// The zones in a stored value.
pub(super) fn decode(value: &[u8], key: &[u8], geometry: Geometry) -> Result<Vec<Span>, StoreError> {
    let zones = parse(value).map_err(|why| damaged(key, why))?;
    if zones.len() as u64 != geometry.block_rows() / geometry.zone_rows() {
        return Err(damaged(key, "its number of zones is wrong"));
    }
    Ok(zones)
}

fn parse(value: &[u8]) -> Result<Vec<Span>, &'static str> {
    let (content, crc) = value.split_last_chunk::<4>().ok_or("it is cut")?;
    let rest = match content.split_first() {
        Some((&VERSION, rest)) => rest,
        Some(_) => return Err("its format version is unknown"),
        None => return Err("it is empty"),
    };
    if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
        return Err("its checksum is wrong");
    }
    let (integers, odd) = rest.as_chunks::<8>();
    let (pairs, unpaired) = integers.as_chunks::<2>();
    if !odd.is_empty() || !unpaired.is_empty() {
        return Err("its length is wrong");
    }
    Ok(pairs
        .iter()
        .map(|[min, max]| Span { min: i64::from_le_bytes(*min), max: i64::from_le_bytes(*max) })
        .collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn zones_round_trip_and_bad_bytes_are_refused() {
        let geometry = Geometry { block_bits: 11, fan_bits: 4, max_level: 2 };
        let zones = [Span { min: 1, max: 2 }, Span::EMPTY];
        let stored = encode(&zones);
        assert_eq!(decode(&stored, b"k", geometry).unwrap(), zones);
        assert!(decode(&stored[..17], b"k", geometry).is_err());
        assert!(decode(&stored[..20], b"k", geometry).is_err());
        assert!(decode(&[], b"k", geometry).is_err());
        assert!(decode(&[7; 33], b"k", geometry).is_err());
        for bit in 0..stored.len() * 8 {
            let mut changed = stored.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&changed, b"k", geometry).is_err(), "bit {bit}");
        }
    }
}
