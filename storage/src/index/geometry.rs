//! How ordinals and fingerprints share the 64 bits of an entry, and how a run is cut into chunks.
//!
//! An entry is the fingerprint with its low `bits` replaced by the inverted offset of the row in its run, so
//! that entries of one key sort newest first. A run of level `l` has `block_bits + l * fan_bits` such bits.

/// Entries that a chunk holds on average, at most.
const CHUNK_ENTRIES: u64 = 256;
/// Rows that share one minimum and maximum of event time.
const ZONE_ROWS: u64 = 1024;

/// Sizes of blocks and runs, fixed for the life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// A block has 2^this rows.
    pub block_bits: u32,
    /// 2^this runs are merged into one.
    pub fan_bits: u32,
    /// Runs of this level are merged no further.
    pub max_level: u8,
}

impl Geometry {
    /// Rows of a block.
    pub fn block_rows(self) -> u64 {
        1 << self.block_bits
    }

    /// Runs that become one.
    pub fn fan_in(self) -> usize {
        1 << self.fan_bits
    }

    /// Bits of an entry that hold the row's offset, in a run of `level`.
    pub fn bits(self, level: u8) -> u32 {
        self.block_bits + self.fan_bits * u32::from(level)
    }

    /// Bits of the largest runs.
    pub fn max_bits(self) -> u32 {
        self.bits(self.max_level)
    }

    /// Rows of a run of `level`.
    pub fn run_rows(self, level: u8) -> u64 {
        1 << self.bits(level)
    }

    /// Rows of a zone.
    pub fn zone_rows(self) -> u64 {
        ZONE_ROWS.min(self.block_rows())
    }

    /// Bits of the fingerprint that choose the partition of an unsorted block in memory.
    pub fn memory_partition_bits(self) -> u32 {
        partition_bits(self.block_rows())
    }

    /// First ordinal of the block that holds `ordinal`.
    pub fn block_of(self, ordinal: u64) -> u64 {
        ordinal >> self.block_bits << self.block_bits
    }
}

/// Bits of the fingerprint that choose the chunk, in a run of `count` entries.
pub(super) fn partition_bits(count: u64) -> u32 {
    count.div_ceil(CHUNK_ENTRIES).next_power_of_two().trailing_zeros()
}

/// Chunk of an entry or fingerprint, of 2^`partition_bits`.
pub(super) fn partition(entry: u64, partition_bits: u32) -> u32 {
    entry.checked_shr(64 - partition_bits).unwrap_or(0) as u32
}

/// The low bits of an entry.
pub(super) fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// The entry of a row at `offset` in a run of `bits`.
pub(super) fn entry(fingerprint: u64, offset: u64, bits: u32) -> u64 {
    let mask = mask(bits);
    fingerprint & !mask | (mask - offset)
}

/// The row's offset in its run.
pub(super) fn offset(entry: u64, bits: u32) -> u64 {
    let mask = mask(bits);
    mask - (entry & mask)
}

/// An entry of a run of `bits` as an entry of the larger run of `to_bits` that begins `shift` rows before.
pub(super) fn widen(entry: u64, bits: u32, shift: u64, to_bits: u32) -> u64 {
    self::entry(entry, offset(entry, bits) + shift, to_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_rows_of_one_key_sort_first() {
        let fingerprint = 0xabcd_ef01_2345_6789;
        let (old, new) = (entry(fingerprint, 3, 16), entry(fingerprint, 4, 16));
        assert!(new < old);
        assert_eq!((offset(old, 16), offset(new, 16)), (3, 4));
        assert_eq!(old >> 16, fingerprint >> 16);
    }

    #[test]
    fn widening_keeps_the_row_and_the_high_bits() {
        let narrow = entry(0xabcd_ef01_2345_6789, 5, 16);
        let wide = widen(narrow, 16, 3 << 16, 20);
        assert_eq!(offset(wide, 20), (3 << 16) + 5);
        assert_eq!(wide >> 20, narrow >> 20);
    }

    #[test]
    fn chunks_hold_about_256_entries() {
        for (count, bits) in [(0, 0), (1, 0), (256, 0), (257, 1), (65_536, 8), (65_000, 8), (1 << 24, 16)] {
            assert_eq!(partition_bits(count), bits, "{count}");
        }
        assert_eq!(partition(u64::MAX, 0), 0);
        assert_eq!(partition(u64::MAX, 8), 255);
    }
}
