//! Sizes that bound the indexes' memory and set their trade-offs.

use super::geometry::Geometry;
use crate::error::StoreError;

/// How the indexes are laid out and how much memory they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexOptions {
    /// Rows of a block: a power of two from 16 to 2^20. Fixed when the first block is written.
    pub block_rows: u64,
    /// Runs that are merged into one: a power of two from 2 to 64. Fixed when the first block is written.
    pub merge_fan_in: u64,
    /// How many times runs are merged. It bounds what a verification must read (one run of
    /// `block_rows * merge_fan_in ^ merge_levels` rows) against how many runs a look-up visits.
    pub merge_levels: u8,
    /// Memory of the filter of known messages, in bytes; 12 bits hold a message well.
    pub dedup_filter_bytes: usize,
    /// Parts of the filter, which expire one by one.
    pub dedup_slices: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            block_rows: 1 << 16,
            merge_fan_in: 16,
            merge_levels: 2,
            dedup_filter_bytes: 300 << 20,
            dedup_slices: 4,
        }
    }
}

impl IndexOptions {
    /// The layout that these sizes give.
    pub(super) fn geometry(self) -> Result<Geometry, StoreError> {
        let bits = |value: u64, from: u32, to: u32| {
            let bits = value.checked_ilog2()?;
            (value.is_power_of_two() && (from..=to).contains(&bits)).then_some(bits)
        };
        let (block, fan) = (bits(self.block_rows, 4, 20), bits(self.merge_fan_in, 1, 6));
        let geometry = match (block, fan) {
            (Some(block_bits), Some(fan_bits)) => {
                Geometry { block_bits, fan_bits, max_level: self.merge_levels }
            }
            _ => {
                return Err(
                    self.refused("block_rows and merge_fan_in must be powers of two within their bounds")
                );
            }
        };
        if geometry.max_bits() > 32 {
            return Err(self.refused("a merged run may have at most 2^32 rows"));
        }
        if self.dedup_slices == 0 || self.dedup_filter_bytes / self.dedup_slices < 64 {
            return Err(self.refused("every slice of the filter needs at least 64 bytes"));
        }
        Ok(geometry)
    }

    fn refused(self, why: &str) -> StoreError {
        StoreError::Options { why: format!("{self:?}: {why}") }
    }
}
