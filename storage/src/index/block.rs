//! Rows that no run holds yet: the index entries of one block, in memory.

use super::RowKeys;
use super::fingerprint::{Fingerprints, kind_name, operator_name};
use super::geometry::{Geometry, entry, mask, offset, partition, partition_bits, widen};
use super::keys::{self, PostingKind, TABLES, Table};
use super::posting::PostingSet;
use super::record::{Run, Span, Summary};
use super::{chunk, zone};
use rocksdb::{ColumnFamily, WriteBatch};

/// Index entries of consecutive rows of one block.
#[derive(Clone)]
pub(super) struct Block {
    geometry: Geometry,
    /// First ordinal of the block.
    pub first: u64,
    /// Ordinal of the next row.
    pub next: u64,
    /// For each hash index, unsorted entries by the high bits of their fingerprint.
    tables: [Vec<Vec<u64>>; TABLES],
    /// For each kind, lists by name.
    pub postings: [PostingSet; 2],
    /// Event times, by zone.
    pub zones: Vec<Span>,
    /// What is known of the rows.
    pub summary: Summary,
}

impl Block {
    /// A block whose next row is `next`; rows of the block before that are left out.
    pub fn new(geometry: Geometry, next: u64) -> Self {
        let partitions = 1 << geometry.memory_partition_bits();
        Self {
            geometry,
            first: geometry.block_of(next),
            next,
            tables: std::array::from_fn(|_| vec![Vec::new(); partitions]),
            postings: Default::default(),
            zones: Vec::new(),
            summary: Summary::EMPTY,
        }
    }

    /// Number of rows that the block still takes.
    pub fn room(&self) -> u64 {
        self.first + self.geometry.block_rows() - self.next
    }

    /// Adds the next row.
    pub fn add(&mut self, row: &RowKeys, message: Option<u64>, fingerprints: &Fingerprints) {
        let offset = row.ordinal - self.first;
        self.push(Table::CdrId, fingerprints.of(&row.cdr_id.0), offset);
        if let Some(message) = message {
            self.push(Table::Message, message, offset);
        }
        if let Some(hash) = &row.msisdn_to {
            self.push(Table::MsisdnTo, fingerprints.of(hash), offset);
        }
        if let Some(id) = &row.adjustment_of {
            self.push(Table::AdjustmentOf, fingerprints.of(&id.0), offset);
        }
        if let Some(tenant) = row.tenant {
            self.postings[PostingKind::Tenant as usize].push(fingerprints.tenant(tenant), offset as u32);
        }
        self.postings[PostingKind::Operator as usize].push(operator_name(row.operator), offset as u32);
        if let Some(kind) = row.kind {
            self.postings[PostingKind::Operator as usize].push(kind_name(kind), offset as u32);
        }
        self.add_event(row, offset);
        self.summary.add(row);
        self.next = row.ordinal + 1;
    }

    fn push(&mut self, table: Table, fingerprint: u64, offset: u64) {
        let at = partition(fingerprint, self.geometry.memory_partition_bits());
        self.tables[table as usize][at as usize].push(entry(fingerprint, offset, self.geometry.block_bits));
    }

    fn add_event(&mut self, row: &RowKeys, offset: u64) {
        let zone = (offset / self.geometry.zone_rows()) as usize;
        if zone >= self.zones.len() {
            self.zones.resize(zone + 1, Span::EMPTY);
        }
        if let Some(at) = row.event_at {
            self.zones[zone].add(at.0);
        }
    }

    /// Appends the ordinals of rows with `fingerprint`, newest first.
    pub fn find(&self, table: Table, fingerprint: u64, out: &mut Vec<u64>) {
        let bits = self.geometry.block_bits;
        let at = partition(fingerprint, self.geometry.memory_partition_bits());
        let found = self.tables[table as usize][at as usize].iter().rev();
        out.extend(
            found
                .filter(|&&entry| (entry ^ fingerprint) & !mask(bits) == 0)
                .map(|&entry| self.first + offset(entry, bits)),
        );
    }

    /// All entries of a table, ascending.
    pub fn sorted(&self, table: Table) -> Vec<u64> {
        let partitions = &self.tables[table as usize];
        let mut out = Vec::with_capacity(partitions.iter().map(Vec::len).sum());
        for partition in partitions {
            let from = out.len();
            out.extend_from_slice(partition);
            out[from..].sort_unstable();
        }
        out
    }

    /// Appends all entries of a table, in no order, as entries of the larger run that they are in.
    pub fn push_widened(&self, table: Table, run: &Run, out: &mut Vec<u64>) {
        let (bits, to_bits) = (self.geometry.block_bits, self.geometry.bits(run.level));
        let shift = self.first - run.first;
        for partition in &self.tables[table as usize] {
            out.extend(partition.iter().map(|entry| widen(*entry, bits, shift, to_bits)));
        }
    }

    /// Puts a full block into the batch that holds its last row.
    pub fn write(&self, index: &ColumnFamily, batch: &mut WriteBatch) -> Run {
        let mut value = Vec::new();
        for table in Table::ALL {
            let entries = self.sorted(table);
            if entries.is_empty() {
                continue;
            }
            chunk::cut(&entries, partition_bits(entries.len() as u64), |chunk, entries| {
                chunk::encode(entries, &mut value);
                batch.put_cf(index, keys::chunk(table, 0, self.first, chunk), &value);
            });
        }
        for kind in PostingKind::ALL {
            for (name, list) in self.postings[kind as usize].iter() {
                batch.put_cf(index, keys::posting(kind, name, self.first), list);
            }
        }
        batch.put_cf(index, keys::zones(self.first), zone::encode(&self.zones));
        Run { level: 0, first: self.first, summary: self.summary }
    }
}
