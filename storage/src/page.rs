//! Row pages: up to [`crate::StoreOptions::page_rows`] consecutive rows of one log entry and one hour in one value.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of the page's layout, 1 |
//! | 2 | number of rows |
//! | 8 | `recordedAt` of all rows, ms since the epoch |
//! | 8 | ordinal of the first row |
//! | 8 | source sequence of the first row |
//! | 4 + n | length and text of the source stream |
//! | 4 per row | end of each row, counted from the first row's start |
//! | rows | operator `u16`, leaf index `u64`, source sequence minus the page's first `u32`, `chainHashPrev`, then the draft's encoding as it was proposed |
//! | 4 | CRC-32 of the key and everything above |
//!
//! Integers are little-endian. What the row's hash covers and the page does not hold follows from the key: the hour,
//! and the first row's `cdrSequence`.

use crate::error::StoreError;
use crate::keys;
use cdr_core::apply::NewRow;
use cdr_core::row::Place;
use cdr_core::{Hash, Hour, Millis, Row, codec};
use std::sync::Arc;

/// Version of the layout above.
const PAGE_VERSION: u8 = 1;
/// Bytes before the source stream's text.
const FIXED_BYTES: usize = 1 + 2 + 8 + 8 + 8 + 4;
/// Bytes of a row before its draft.
const ROW_BYTES: usize = 2 + 8 + 4 + 32;

/// Writes rows as pages, reusing its buffer.
#[derive(Debug, Default)]
pub struct PageWriter {
    page: Vec<u8>,
}

impl PageWriter {
    /// Hands every page of `rows`, which are consecutive and of one log entry and hour, to `put`.
    pub fn write(&mut self, rows: &[NewRow<'_>], page_rows: usize, mut put: impl FnMut([u8; 13], &[u8])) {
        for rows in rows.chunks(page_rows.clamp(1, usize::from(u16::MAX))) {
            let key = keys::page(rows[0].row.frame.bucket_hour, rows[0].row.frame.sequence);
            self.fill(rows, &key);
            put(key, &self.page);
        }
    }

    fn fill(&mut self, rows: &[NewRow<'_>], key: &[u8; 13]) {
        let page = &mut self.page;
        let first = &rows[0].row.frame;
        page.clear();
        page.push(PAGE_VERSION);
        page.extend_from_slice(&(rows.len() as u16).to_le_bytes());
        page.extend_from_slice(&first.recorded_at.0.to_le_bytes());
        page.extend_from_slice(&rows[0].ordinal.to_le_bytes());
        page.extend_from_slice(&first.source_sequence.to_le_bytes());
        page.extend_from_slice(&(first.source_stream.len() as u32).to_le_bytes());
        page.extend_from_slice(first.source_stream.as_bytes());
        let mut end = 0;
        for row in rows {
            end += (ROW_BYTES + row.draft_bytes.len()) as u32;
            page.extend_from_slice(&end.to_le_bytes());
        }
        page.reserve(end as usize + 4);
        for row in rows {
            let delta = (row.row.frame.source_sequence - first.source_sequence) as u32;
            page.extend_from_slice(&row.operator.to_le_bytes());
            page.extend_from_slice(&row.leaf_index.to_le_bytes());
            page.extend_from_slice(&delta.to_le_bytes());
            page.extend_from_slice(&row.row.frame.chain_prev);
            page.extend_from_slice(row.draft_bytes);
        }
        let checksum = checksum(key, page);
        page.extend_from_slice(&checksum.to_le_bytes());
    }
}

fn checksum(key: &[u8; 13], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(content);
    hasher.finalize()
}

/// The header of a page; every offset in it has been checked against the page's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// Hour of all rows, from the key.
    pub hour: Hour,
    /// `cdrSequence` of the first row, from the key.
    pub first_sequence: u64,
    /// Ordinal of the first row.
    pub first_ordinal: u64,
    /// Number of rows.
    pub count: usize,
    recorded_at: Millis,
    first_source: u64,
    ends_at: usize,
    rows_at: usize,
    rows_end: usize,
}

/// A row's own part of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRow<'a> {
    /// Registry index of the operator.
    pub operator: u16,
    /// Position among the operator's rows of the hour.
    pub leaf_index: u64,
    /// Sequence in the source stream.
    pub source_sequence: u64,
    /// Hash of the predecessor.
    pub chain_prev: Hash,
    /// The draft's encoding.
    pub draft: &'a [u8],
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    let part = bytes.get(at..at.saturating_add(N)).and_then(|part| part.try_into().ok());
    part.ok_or_else(|| "the page is cut".to_owned())
}

impl PageHeader {
    /// Reads the header of the page under the key of `(hour, first_sequence)`.
    ///
    /// # Errors
    /// What does not fit.
    pub fn parse((hour, first_sequence): (Hour, u64), page: &[u8]) -> Result<Self, String> {
        let version = page.first().copied().unwrap_or_default();
        if version != PAGE_VERSION {
            return Err(format!("page version {version} is unknown"));
        }
        let count = usize::from(u16::from_le_bytes(take(page, 1)?));
        let stream_len = u32::from_le_bytes(take(page, 27)?) as usize;
        let ends_at = FIXED_BYTES + stream_len;
        let rows_at = ends_at + 4 * count;
        let rows_end = page.len().checked_sub(4).filter(|end| rows_at <= *end).ok_or("the page is cut")?;
        if count == 0 {
            return Err("the page is empty".to_owned());
        }
        Ok(Self {
            hour,
            first_sequence,
            first_ordinal: u64::from_le_bytes(take(page, 11)?),
            count,
            recorded_at: Millis(i64::from_le_bytes(take(page, 3)?)),
            first_source: u64::from_le_bytes(take(page, 19)?),
            ends_at,
            rows_at,
            rows_end,
        })
    }

    /// Compares the page with its checksum.
    ///
    /// # Errors
    /// That they differ.
    pub fn verify_checksum(&self, page: &[u8]) -> Result<(), String> {
        let stored = u32::from_le_bytes(take(page, self.rows_end)?);
        let computed = checksum(&keys::page(self.hour, self.first_sequence), &page[..self.rows_end]);
        if stored == computed { Ok(()) } else { Err("its checksum is wrong".to_owned()) }
    }

    /// The stream from which all rows came.
    ///
    /// # Errors
    /// What does not fit.
    pub fn source_stream<'a>(&self, page: &'a [u8]) -> Result<&'a str, String> {
        std::str::from_utf8(&page[FIXED_BYTES..self.ends_at])
            .map_err(|_| "its source stream is not a text".to_owned())
    }

    /// The bytes of a row.
    fn row_bytes<'a>(&self, page: &'a [u8], position: usize) -> Result<&'a [u8], String> {
        if position >= self.count {
            return Err(format!("the page has only {} rows", self.count));
        }
        let end = |i: usize| take(page, self.ends_at + 4 * i).map(|end| u32::from_le_bytes(end) as usize);
        let start = if position == 0 { 0 } else { end(position - 1)? };
        let bytes = page[self.rows_at..self.rows_end].get(start..end(position)?);
        bytes.ok_or_else(|| "a row's bounds are wrong".to_owned())
    }

    /// A row's own part.
    ///
    /// # Errors
    /// What does not fit.
    pub fn raw_row<'a>(&self, page: &'a [u8], position: usize) -> Result<RawRow<'a>, String> {
        let bytes = self.row_bytes(page, position)?;
        let delta = u32::from_le_bytes(take(bytes, 10)?);
        Ok(RawRow {
            operator: u16::from_le_bytes(take(bytes, 0)?),
            leaf_index: u64::from_le_bytes(take(bytes, 2)?),
            source_sequence: self
                .first_source
                .checked_add(u64::from(delta))
                .ok_or("its source sequence is wrong")?,
            chain_prev: take(bytes, 14)?,
            draft: bytes.get(ROW_BYTES..).ok_or("a row is cut")?,
        })
    }

    /// The whole row, with everything that is hashed.
    ///
    /// # Errors
    /// What does not fit.
    pub fn row<'a>(&self, page: &'a [u8], position: usize, raw: &RawRow<'a>) -> Result<Row<'a>, String> {
        let draft = codec::decode_draft(raw.draft).map_err(|e| e.to_string())?;
        let place = Place {
            bucket_hour: self.hour,
            sequence: self.first_sequence + position as u64,
            chain_prev: raw.chain_prev,
            recorded_at: self.recorded_at,
            source_stream: self.source_stream(page)?,
            source_sequence: raw.source_sequence,
        };
        Ok(Row::from_draft(draft, place))
    }
}

/// A page in memory, with its checksum verified.
#[derive(Debug)]
pub(crate) struct StoredPage {
    pub header: PageHeader,
    bytes: Box<[u8]>,
}

impl StoredPage {
    pub fn new(place: (Hour, u64), bytes: &[u8]) -> Result<Arc<Self>, StoreError> {
        let checked =
            PageHeader::parse(place, bytes).and_then(|header| header.verify_checksum(bytes).map(|()| header));
        let header = checked.map_err(|why| StoreError::Damaged { what: page_name(place), why })?;
        Ok(Arc::new(Self { header, bytes: bytes.into() }))
    }

    /// The row at `position`, which must exist.
    pub fn row(self: &Arc<Self>, position: usize) -> Result<StoredRow, StoreError> {
        let raw = self.header.raw_row(&self.bytes, position).map_err(|why| self.damaged(why))?;
        let (operator, leaf_index) = (raw.operator, raw.leaf_index);
        Ok(StoredRow { page: Arc::clone(self), position, operator, leaf_index })
    }

    /// A page of one of the rows alone. It has no checksum: the whole page's was compared.
    fn cut(&self, position: usize) -> Result<Arc<Self>, StoreError> {
        let whole = &self.header;
        let row = whole.row_bytes(&self.bytes, position).map_err(|why| self.damaged(why))?;
        let rows_at = whole.ends_at + 4;
        let mut bytes = Vec::with_capacity(rows_at + row.len());
        bytes.extend_from_slice(&self.bytes[..whole.ends_at]);
        bytes.extend_from_slice(&(row.len() as u32).to_le_bytes());
        bytes.extend_from_slice(row);
        let header = PageHeader {
            first_sequence: whole.first_sequence + position as u64,
            first_ordinal: whole.first_ordinal + position as u64,
            count: 1,
            rows_at,
            rows_end: bytes.len(),
            ..*whole
        };
        Ok(Arc::new(Self { header, bytes: bytes.into() }))
    }

    fn damaged(&self, why: String) -> StoreError {
        StoreError::Damaged { what: page_name((self.header.hour, self.header.first_sequence)), why }
    }
}

pub(crate) fn page_name((hour, first_sequence): (Hour, u64)) -> String {
    format!("row page of hour {hour} from sequence {first_sequence}")
}

/// A stored row. It keeps its page in memory, shared with the page's other rows.
#[derive(Clone, Debug)]
pub struct StoredRow {
    page: Arc<StoredPage>,
    position: usize,
    operator: u16,
    leaf_index: u64,
}

impl StoredRow {
    /// The row, decoded from its page.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the page does not hold a row there.
    pub fn row(&self) -> Result<Row<'_>, StoreError> {
        let (header, bytes) = (&self.page.header, &self.page.bytes);
        let row = header.raw_row(bytes, self.position).and_then(|raw| header.row(bytes, self.position, &raw));
        row.map_err(|why| self.page.damaged(why))
    }

    /// The same row without the rest of its page: for callers that keep many.
    pub(crate) fn alone(&self) -> Result<Self, StoreError> {
        Ok(Self { page: self.page.cut(self.position)?, position: 0, ..*self })
    }

    /// Bucket hour of the row.
    pub fn hour(&self) -> Hour {
        self.page.header.hour
    }

    /// `cdrSequence` of the row.
    pub fn sequence(&self) -> u64 {
        self.page.header.first_sequence + self.position as u64
    }

    /// Number of the row over all hours, from 0.
    pub fn ordinal(&self) -> u64 {
        self.page.header.first_ordinal + self.position as u64
    }

    /// Position among the operator's rows of the hour, from 0.
    pub fn leaf_index(&self) -> u64 {
        self.leaf_index
    }

    /// Registry index of the operator.
    pub fn operator(&self) -> u16 {
        self.operator
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::personal::Salt;
    use cdr_core::row::Draft;
    use cdr_core::row::{Record, System, SystemKind};
    use cdr_core::rules::SchemaVersion;
    use cdr_core::{CdrId, row::SYSTEM_OPERATOR};

    fn pages(count: u64, page_rows: usize) -> Vec<([u8; 13], Vec<u8>)> {
        let bodies: Vec<String> = (0..count).map(|i| format!("{{\"n\":{i}}}")).collect();
        let drafts: Vec<Vec<u8>> = bodies
            .iter()
            .enumerate()
            .map(|(i, body)| {
                let mut out = Vec::new();
                codec::encode_draft(&draft(i as u8, body), &mut out).unwrap();
                out
            })
            .collect();
        let rows: Vec<NewRow<'_>> = (0..count)
            .map(|i| NewRow {
                supersedes: None,
                ordinal: 1000 + i,
                operator: 3,
                leaf_index: 7 + i,
                row_hash: [0; 32],
                row: Row::from_draft(draft(i as u8, &bodies[i as usize]), place(i)),
                draft_bytes: &drafts[i as usize],
            })
            .collect();
        let mut pages = Vec::new();
        PageWriter::default().write(&rows, page_rows, |key, page| pages.push((key, page.to_vec())));
        pages
    }

    fn draft(id: u8, body: &str) -> Draft<'_> {
        let record = Record::System(System { kind: SystemKind::Audit, body, personal: None });
        let salt = Salt([id; 16]);
        Draft {
            version: SchemaVersion::V2,
            cdr_id: CdrId([id; 16]),
            operator_id: SYSTEM_OPERATOR,
            trace_id: "t",
            salt,
            record,
        }
    }

    fn place(i: u64) -> Place<'static> {
        Place {
            bucket_hour: Hour(500),
            sequence: 21 + i,
            chain_prev: [i as u8; 32],
            recorded_at: Millis(77),
            source_stream: "internal",
            source_sequence: 90 + 2 * i,
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let pages = pages(7, 3);
        assert_eq!(pages.len(), 3);
        let mut i = 0;
        for (key, bytes) in &pages {
            let page = StoredPage::new(keys::parse_page(key).unwrap(), bytes).unwrap();
            for position in 0..page.header.count {
                let stored = page.row(position).unwrap();
                let body = format!("{{\"n\":{i}}}");
                assert_eq!(stored.row().unwrap(), Row::from_draft(draft(i as u8, &body), place(i)));
                assert_eq!((stored.ordinal(), stored.leaf_index(), stored.operator()), (1000 + i, 7 + i, 3));
                assert_eq!((stored.hour(), stored.sequence()), (Hour(500), 21 + i));
                let alone = stored.alone().unwrap();
                assert_eq!(alone.row().unwrap(), stored.row().unwrap());
                let at = |row: &StoredRow| {
                    (row.ordinal(), row.leaf_index(), row.operator(), row.hour(), row.sequence())
                };
                assert_eq!(at(&alone), at(&stored));
                i += 1;
            }
        }
        assert_eq!(i, 7);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let (key, page) = pages(2, 50).remove(0);
        let place = keys::parse_page(&key).unwrap();
        for bit in 0..page.len() * 8 {
            let mut changed = page.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(StoredPage::new(place, &changed).is_err(), "bit {bit}");
        }
        for len in 0..page.len() {
            assert!(StoredPage::new(place, &page[..len]).is_err(), "cut at {len}");
        }
        assert!(StoredPage::new((place.0, place.1 + 1), &page).is_err(), "under another key");
    }
}
