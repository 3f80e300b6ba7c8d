//! Lines: the rows of a message that follow one another, read one by one or many at once.

use crate::error::StoreError;
use crate::index::Lookup;
use crate::page::StoredRow;
use crate::rows::RowReader;
use crate::store::Store;
use cdr_core::adjust::predecessor_id;
use cdr_core::{CdrId, Uuid};

/// A row of a message, and what links it to others.
struct Linked {
    row: StoredRow,
    id: CdrId,
    follows: Option<CdrId>,
}

impl Linked {
    /// None if the row is not of the message.
    fn of(row: StoredRow, message: Uuid) -> Result<Option<Self>, StoreError> {
        let (id, follows) = {
            let decoded = row.row()?;
            let Some(sms) = decoded.sms().filter(|sms| sms.message_id == message) else { return Ok(None) };
            (decoded.frame.cdr_id, predecessor_id(sms))
        };
        Ok(Some(Self { row, id, follows }))
    }
}

/// Of the rows of a message, oldest first, the line that the row with this number belongs to.
fn line_with(rows: Vec<Linked>, ordinal: u64) -> Vec<StoredRow> {
    let mut lines: Vec<(CdrId, Vec<StoredRow>)> = Vec::new();
    for Linked { row, id, follows } in rows {
        match lines.iter_mut().find(|(last, _)| follows == Some(*last)) {
            Some((last, line)) => {
                *last = id;
                line.push(row);
            }
            None => lines.push((id, vec![row])),
        }
    }
    let holds = |line: &Vec<StoredRow>| line.iter().any(|row| row.ordinal() == ordinal);
    lines.into_iter().map(|(_, line)| line).find(holds).unwrap_or_default()
}

impl Store {
    /// The rows of a message, oldest first: the original, then its adjustments, the last of which is in effect.
    ///
    /// # Errors
    /// If the index or a row can't be read.
    pub fn rows_of_message(&self, message: Uuid) -> Result<Vec<StoredRow>, StoreError> {
        Ok(self.linked(message)?.into_iter().map(|linked| linked.row).collect())
    }

    /// The line that a CDR or adjustment belongs to: its original, then the adjustments that follow one another from
    /// there, the last of which is in effect. That is every row of its message, unless the message came again after
    /// the dedup horizon and has another original. Empty for a system row.
    ///
    /// # Errors
    /// If the index or a row can't be read.
    pub fn line(&self, row: &StoredRow) -> Result<Vec<StoredRow>, StoreError> {
        let Some(message) = row.row()?.sms().map(|sms| sms.message_id) else { return Ok(Vec::new()) };
        Ok(line_with(self.linked(message)?, row.ordinal()))
    }

    /// The lines of all these rows, as [`Store::line`] gives each: index and rows are read once, in the order in which
    /// they are stored. It uses memory for this many lines, and for nothing else.
    ///
    /// # Errors
    /// If the index or a row can't be read.
    pub fn lines(&self, rows: &[StoredRow]) -> Result<Vec<Vec<StoredRow>>, StoreError> {
        let (mut messages, mut asked) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for (at, row) in rows.iter().enumerate() {
            if let Some(sms) = row.row()?.sms() {
                messages.push(sms.message_id);
                asked.push(at);
            }
        }
        let generation = self.generation();
        let (committed, index) = (generation.committed(), generation.index());
        let mut reader = RowReader::new(&generation.db, &committed)?;
        let mut linked: Vec<Vec<Linked>> = messages.iter().map(|_| Vec::new()).collect();
        for (ordinal, at) in index.rows_of_messages(&messages, 0..committed.state.head.row_count)? {
            if let Some(row) = reader.by_ordinal(ordinal)? {
                linked[at].extend(Linked::of(row.alone()?, messages[at])?);
            }
        }
        let mut lines = vec![Vec::new(); rows.len()];
        for (at, linked) in asked.into_iter().zip(linked) {
            lines[at] = line_with(linked, rows[at].ordinal());
        }
        Ok(lines)
    }

    fn linked(&self, message: Uuid) -> Result<Vec<Linked>, StoreError> {
        let generation = self.generation();
        let (committed, index) = (generation.committed(), generation.index());
        let mut reader = RowReader::new(&generation.db, &committed)?;
        let mut rows = Vec::new();
        for ordinal in index.candidates(Lookup::Message(message), 0..committed.state.head.row_count, false)? {
            if let Some(row) = reader.by_ordinal(ordinal?)? {
                rows.extend(Linked::of(row, message)?);
            }
        }
        Ok(rows)
    }
}
