//! Row hashes and cached subtree roots, and the proofs that are made from them.
//!
//! Every write adds one chunk of hashes per operator; chunks are never rewritten. Roots of complete subtrees at
//! levels 8, 16, … are kept beside them, so that a proof reads one group of 256 leaves and a few hundred roots at most.

use crate::error::{StoreError, database};
use crate::keys::{self, CF_LEAVES};
use crate::schema::{Db, column};
use cdr_core::apply::NewRow;
use cdr_core::merkle::{InclusionProof, node, zero_subtree};
use cdr_core::state::{SUBTREE_LEVELS, Subtree};
use cdr_core::{Hash, Hour};
use rocksdb::{ColumnFamily, DBRawIterator, WriteBatch};

/// Size of a hash.
pub(crate) const HASH_BYTES: usize = 32;

/// More leaves than an hour can have: counts above it are damaged.
const MAX_LEAVES: u64 = 1 << 48;

/// Gathers the row hashes of one write by operator.
#[derive(Debug, Default)]
pub(crate) struct LeafWriter {
    hour: Hour,
    /// By operator; buffers are kept for the next write.
    chunks: Vec<Chunk>,
}

#[derive(Debug, Default)]
struct Chunk {
    first: u64,
    hashes: Vec<u8>,
}

impl LeafWriter {
    /// Adds rows of one hour; what was gathered of an earlier hour goes into the batch first.
    pub fn add(&mut self, leaves: &ColumnFamily, rows: &[NewRow<'_>], batch: &mut WriteBatch) {
        let Some(first) = rows.first() else { return };
        if first.row.frame.bucket_hour != self.hour {
            self.finish(leaves, batch);
            self.hour = first.row.frame.bucket_hour;
        }
        for row in rows {
            let at = usize::from(row.operator);
            if self.chunks.len() <= at {
                self.chunks.resize_with(at + 1, Chunk::default);
            }
            let chunk = &mut self.chunks[at];
            if chunk.hashes.is_empty() {
                chunk.first = row.leaf_index;
            }
            chunk.hashes.extend_from_slice(&row.row_hash);
        }
    }

    /// Puts what was gathered into the batch.
    pub fn finish(&mut self, leaves: &ColumnFamily, batch: &mut WriteBatch) {
        for (operator, chunk) in
            self.chunks.iter_mut().enumerate().filter(|(_, chunk)| !chunk.hashes.is_empty())
        {
            batch.put_cf(leaves, keys::leaves(self.hour, operator as u16, chunk.first), &chunk.hashes);
            chunk.hashes.clear();
        }
    }
}

/// Puts cached subtree roots of `hour` into the batch.
pub(crate) fn put_subtrees(leaves: &ColumnFamily, hour: Hour, subtrees: &[Subtree], batch: &mut WriteBatch) {
    for subtree in subtrees {
        batch.put_cf(
            leaves,
            keys::subtree(hour, subtree.operator, subtree.level, subtree.index),
            subtree.hash,
        );
    }
}

/// Reads the row hashes of one operator and hour, best in ascending order.
pub(crate) struct LeafCursor<'a> {
    iterator: DBRawIterator<'a>,
    hour: Hour,
    operator: u16,
    /// First leaf and number of leaves of the chunk under the iterator.
    chunk: Option<(u64, u64)>,
}

impl<'a> LeafCursor<'a> {
    pub fn new(db: &'a Db, hour: Hour, operator: u16) -> Result<Self, StoreError> {
        let mut options = rocksdb::ReadOptions::default();
        options.set_iterate_lower_bound(keys::leaves(hour, operator, 0));
        options.set_iterate_upper_bound([keys::leaves(hour, operator, u64::MAX).as_slice(), &[0]].concat());
        let iterator = db.raw_iterator_cf_opt(column(db, CF_LEAVES)?, options);
        Ok(Self { iterator, hour, operator, chunk: None })
    }

    /// The hash of a leaf.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is missing or can't be read.
    pub fn hash(&mut self, leaf: u64) -> Result<Hash, StoreError> {
        if let Some(hash) = self.in_chunk(leaf) {
            return Ok(hash);
        }
        if self.chunk.is_some_and(|(first, count)| leaf == first + count) {
            self.iterator.next();
            self.load_chunk()?;
            if let Some(hash) = self.in_chunk(leaf) {
                return Ok(hash);
            }
        }
        self.iterator.seek_for_prev(keys::leaves(self.hour, self.operator, leaf));
        self.load_chunk()?;
        self.in_chunk(leaf).ok_or_else(|| self.damaged(format!("row hash {leaf} is missing")))
    }

    fn in_chunk(&self, leaf: u64) -> Option<Hash> {
        let (first, count) = self.chunk?;
        let at = leaf.checked_sub(first).filter(|at| *at < count)? as usize * HASH_BYTES;
        self.iterator.value()?.get(at..at + HASH_BYTES)?.try_into().ok()
    }

    fn load_chunk(&mut self) -> Result<(), StoreError> {
        self.chunk = None;
        self.iterator.status().map_err(|error| self.damaged(error.into_string()))?;
        let (Some(key), Some(value)) = (self.iterator.key(), self.iterator.value()) else { return Ok(()) };
        let place = keys::parse_leaves(key);
        let (_, _, first) = place.ok_or_else(|| self.damaged("a key can't be read".to_owned()))?;
        if value.is_empty() || value.len() % HASH_BYTES != 0 {
            return Err(self.damaged(format!("the row hashes from {first} on are cut")));
        }
        self.chunk = Some((first, (value.len() / HASH_BYTES) as u64));
        Ok(())
    }

    fn damaged(&self, why: String) -> StoreError {
        let what = format!("hash page of hour {}, operator {}", self.hour, self.operator);
        StoreError::Damaged { what, why }
    }
}

/// The cached root at `(level, index)`, if there is one.
pub(crate) fn cached_root(
    db: &Db,
    hour: Hour,
    operator: u16,
    level: u32,
    index: u64,
) -> Result<Option<Hash>, StoreError> {
    let key = keys::subtree(hour, operator, level, index);
    let value = db.get_pinned_cf(column(db, CF_LEAVES)?, key).map_err(database("reading a subtree root"))?;
    let damaged = || StoreError::Damaged {
        what: format!("subtree root {index} at level {level} of hour {hour}, operator {operator}"),
        why: "it is not 32 bytes long".to_owned(),
    };
    value.map(|value| Hash::try_from(&value[..]).map_err(|_| damaged())).transpose()
}

/// One operator's tree of an hour with `count` leaves, as it is stored.
pub(crate) struct StoredTree<'a> {
    db: &'a Db,
    hour: Hour,
    operator: u16,
    count: u64,
    cursor: LeafCursor<'a>,
}

impl<'a> StoredTree<'a> {
    pub fn new(db: &'a Db, hour: Hour, operator: u16, count: u64) -> Result<Self, StoreError> {
        if count > MAX_LEAVES {
            let what = format!("the tree of operator {operator} in hour {hour}");
            return Err(StoreError::Damaged { what, why: format!("it can't have {count} leaves") });
        }
        Ok(Self { db, hour, operator, count, cursor: LeafCursor::new(db, hour, operator)? })
    }

    /// Proof that the leaf is in the tree.
    pub fn proof(&mut self, leaf: u64) -> Result<InclusionProof, StoreError> {
        InclusionProof::build(leaf, self.count, |level, index| self.root_at(level, index))
    }

    /// The hash of a leaf.
    pub fn leaf(&mut self, leaf: u64) -> Result<Hash, StoreError> {
        self.cursor.hash(leaf)
    }

    /// Root of the padded tree, from the largest cached subtrees and the leaves beyond them.
    pub fn root(&mut self) -> Result<Hash, StoreError> {
        self.root_at(cdr_core::merkle::height(self.count), 0)
    }

    /// Root of the subtree at `(level, index)`, padded where there are no leaves.
    fn root_at(&mut self, level: u32, index: u64) -> Result<Hash, StoreError> {
        let first = index << level;
        if first >= self.count {
            return Ok(zero_subtree(level));
        }
        if level == 0 {
            return self.cursor.hash(index);
        }
        let complete = (index + 1).checked_shl(level).is_some_and(|end| end <= self.count);
        if level.is_multiple_of(SUBTREE_LEVELS) && complete {
            let cached = cached_root(self.db, self.hour, self.operator, level, index)?;
            return cached.ok_or_else(|| StoreError::Damaged {
                what: format!("hash page of hour {}, operator {}", self.hour, self.operator),
                why: format!("subtree root {index} at level {level} is missing"),
            });
        }
        let left = self.root_at(level - 1, index * 2)?;
        let right = self.root_at(level - 1, index * 2 + 1)?;
        Ok(node(&left, &right))
    }
}
