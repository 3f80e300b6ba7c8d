//! Rows of a tenant or operator, in order.

use super::keys::{self, PostingKind};
use super::posting::Offsets;
use super::{Index, PostingKey, column, damaged};
use crate::error::{StoreError, database};
use crate::keys::CF_INDEX;
use rocksdb::{DBRawIterator, ReadOptions};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;

/// Ordinals of a tenant's or operator's rows, ascending, read block by block; ends after the first error.
pub struct Postings<'a> {
    kind: PostingKind,
    name: u64,
    block_rows: u64,
    ordinals: Range<u64>,
    /// Lists on disk.
    stored: Option<DBRawIterator<'a>>,
    /// First ordinal and list of the blocks in memory.
    tail: VecDeque<(u64, Vec<u8>)>,
    /// First ordinal and list of the block in hand.
    current: Option<(u64, Offsets)>,
}

impl Index {
    /// Rows of `ordinals` that may belong to `key`, ascending.
    ///
    /// # Errors
    /// If the column family is missing; the iterator yields what fails later.
    pub fn postings(&self, key: PostingKey, ordinals: Range<u64>) -> Result<Postings<'_>, StoreError> {
        let (kind, name) = self.fingerprints.posting(key);
        let column = column(&self.db, CF_INDEX)?;
        let shared = self.shared();
        let list = &shared.list;
        let from = self.geometry.block_of(ordinals.start.max(list.first));
        let upto = list.next.min(ordinals.end);
        let stored = (from < upto).then(|| {
            let mut options = ReadOptions::default();
            options.set_iterate_upper_bound(keys::posting(kind, name, upto));
            let mut stored = self.db.raw_iterator_cf_opt(column, options);
            stored.seek(keys::posting(kind, name, from));
            stored
        });
        let mut tail = VecDeque::new();
        let full = shared.full.iter().map(AsRef::as_ref);
        for block in full.chain([&shared.open]) {
            let wanted = block.first < ordinals.end && block.next > ordinals.start;
            if wanted && let Some(list) = block.postings[kind as usize].get(name) {
                tail.push_back((block.first, list.to_vec()));
            }
        }
        let block_rows = self.geometry.block_rows();
        Ok(Postings { kind, name, block_rows, ordinals, stored, tail, current: None })
    }
}

impl Postings<'_> {
    /// The next block's first ordinal and list.
    fn next_list(&mut self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        if let Some(stored) = &mut self.stored {
            if let Some((key, value)) = stored.item() {
                let (_, block) = keys::parse_posting(self.kind, key)
                    .ok_or_else(|| damaged(key, "its key is not that of a posting list"))?;
                let list = (block, value.to_vec());
                stored.next();
                return Ok(Some(list));
            }
            stored.status().map_err(database("reading a posting list"))?;
            self.stored = None;
        }
        Ok(self.tail.pop_front())
    }

    fn step(&mut self) -> Result<Option<u64>, StoreError> {
        loop {
            if let Some((block, offsets)) = &mut self.current {
                match offsets.next() {
                    Some(Ok(offset)) => {
                        let ordinal = *block + u64::from(offset);
                        if self.ordinals.contains(&ordinal) {
                            return Ok(Some(ordinal));
                        }
                        continue;
                    }
                    Some(Err(why)) => return Err(damaged(&keys::posting(self.kind, self.name, *block), why)),
                    None => self.current = None,
                }
            }
            match self.next_list()? {
                Some((block, list)) => self.current = Some((block, Offsets::new(list, self.block_rows))),
                None => return Ok(None),
            }
        }
    }
}

impl Iterator for Postings<'_> {
    type Item = Result<u64, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            (self.stored, self.current) = (None, None);
            self.tail.clear();
        }
        step.transpose()
    }
}

/// What two ascending lists have in common.
pub struct InBoth<'a>(pub Postings<'a>, pub Postings<'a>);

impl Iterator for InBoth<'_> {
    type Item = Result<u64, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self(lefts, rights) = self;
        let (mut left, mut right) = (lefts.next()?, rights.next()?);
        loop {
            let (at_left, at_right) = match (left, right) {
                (Ok(left), Ok(right)) => (left, right),
                (Err(error), _) | (_, Err(error)) => return Some(Err(error)),
            };
            match at_left.cmp(&at_right) {
                Ordering::Equal => return Some(Ok(at_left)),
                Ordering::Less => (left, right) = (lefts.next()?, Ok(at_right)),
                Ordering::Greater => (left, right) = (Ok(at_left), rights.next()?),
            }
        }
    }
}
