//! A posting list of one block: format version `u8` = 1, then varints (LEB128): the first row's offset in the
//! block, and the distance from each row to the next, at least 1.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const VERSION: u8 = 1;

/// Rows of one tenant or operator in a block, in the making or as stored.
#[derive(Clone, Debug)]
pub(super) struct Posting {
    bytes: Vec<u8>,
    last: u32,
}

/// The posting lists of one kind in a block, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct PostingSet(HashMap<u64, Posting, BuildHasherDefault<NameHasher>>);

impl PostingSet {
    /// Appends a row; offsets ascend.
    pub fn push(&mut self, name: u64, offset: u32) {
        self.0.entry(name).or_default().push(offset);
    }

    /// The stored form of a list.
    pub fn get(&self, name: u64) -> Option<&[u8]> {
        self.0.get(&name).map(|posting| posting.bytes.as_slice())
    }

    /// Takes a list out.
    pub fn remove(&mut self, name: u64) -> Option<Vec<u8>> {
        self.0.remove(&name).map(|posting| posting.bytes)
    }

    /// Names and stored forms.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.0.iter().map(|(name, posting)| (*name, posting.bytes.as_slice()))
    }
}

impl Default for Posting {
    fn default() -> Self {
        Self { bytes: vec![VERSION], last: 0 }
    }
}

impl Posting {
    fn push(&mut self, offset: u32) {
        let mut value = offset - self.last;
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
        self.last = offset;
    }
}

/// The offsets in a stored list, ascending; ends after the first error.
pub(super) struct Offsets {
    bytes: Vec<u8>,
    at: usize,
    last: Option<u32>,
    rows: u64,
    failed: bool,
}

impl Offsets {
    /// Reads a stored list of a block of `rows` rows.
    pub fn new(bytes: Vec<u8>, rows: u64) -> Self {
        Self { bytes, at: 0, last: None, rows, failed: false }
    }

    fn step(&mut self) -> Result<Option<u32>, &'static str> {
        if self.at == 0 {
            self.at = 1;
            match self.bytes.first() {
                Some(&VERSION) if self.bytes.len() > 1 => {}
                Some(&VERSION) | None => return Err("it is empty"),
                Some(_) => return Err("its format version is unknown"),
            }
        }
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let distance = self.varint()?;
        let offset = match self.last {
            None => distance,
            Some(_) if distance == 0 => return Err("it names a row twice"),
            Some(last) => last.checked_add(distance).ok_or("it names a row outside its block")?,
        };
        if u64::from(offset) >= self.rows {
            return Err("it names a row outside its block");
        }
        self.last = Some(offset);
        Ok(Some(offset))
    }

    fn varint(&mut self) -> Result<u32, &'static str> {
        let mut value = 0u32;
        for shift in [0, 7, 14] {
            let byte = *self.bytes.get(self.at).ok_or("it ends within a number")?;
            self.at += 1;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("it holds a number that is too large")
    }
}

impl Iterator for Offsets {
    type Item = Result<u32, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

/// Names are keyed fingerprints or small registry indexes already: they only need their bits spread.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, name: u64) {
        self.0 = name.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<u32>, &'static str> {
        Offsets::new(bytes.to_vec(), 1 << 16).collect()
    }

    #[test]
    fn golden_bytes() {
        let mut set = PostingSet::default();
        for offset in [0, 1, 300, 65_535] {
            set.push(7, offset);
        }
        assert_eq!(set.get(7).unwrap(), [1, 0, 1, 0xab, 2, 0xd3, 0xfd, 3]);
        assert_eq!(read(set.get(7).unwrap()), Ok(vec![0, 1, 300, 65_535]));
    }

    #[test]
    fn bad_bytes_are_refused() {
        for bytes in [
            &[][..],
            &[1],
            &[2, 0],
            &[1, 0x80],
            &[1, 0, 0],
            &[1, 0xff, 0xff, 0xff, 0],
            &[1, 0xff, 0xff, 3, 1],
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn lists_round_trip(rows in proptest::collection::btree_set(0u32..1 << 16, 1..200)) {
            let mut set = PostingSet::default();
            for &row in &rows {
                set.push(1, row);
            }
            prop_assert_eq!(read(set.get(1).unwrap()), Ok(rows.into_iter().collect()));
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            if let Ok(rows) = read(&bytes) {
                prop_assert!(rows.is_sorted());
            }
        }
    }
}
