//! A ledger in memory: the reference for simulations and property tests, and a scratch ledger for replays.

use crate::apply::{Transition, View, ViewError, apply};
use crate::canonical::push_row;
use crate::command::{Envelope, Reply, SignSeal};
use crate::hash::Hash;
use crate::id::Uuid;
use crate::state::{ClosedHour, LedgerState};
use crate::time::Hour;
use std::collections::{BTreeMap, HashMap};

/// State, canonical rows and seals, all in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryLedger {
    /// The fold so far.
    pub state: LedgerState,
    /// Canonical bytes and hash of every row, by ordinal.
    pub rows: Vec<(Vec<u8>, Hash)>,
    /// Sealed hours.
    pub seals: BTreeMap<Hour, ClosedHour>,
    /// Signatures of seals.
    pub signatures: BTreeMap<Hour, SignSeal>,
    messages: HashMap<Uuid, Hour>,
}

impl View for MemoryLedger {
    fn seen(&self, ids: &[Uuid], since: Hour) -> Result<Vec<bool>, ViewError> {
        Ok(ids.iter().map(|id| self.messages.get(id).is_some_and(|hour| *hour >= since)).collect())
    }

    fn seal_hash(&self, hour: Hour) -> Result<Option<Hash>, ViewError> {
        Ok(self.seals.get(&hour).map(|closed| closed.seal_hash))
    }
}

impl MemoryLedger {
    /// Applies the bytes of a log entry.
    ///
    /// # Errors
    /// [`ViewError`] if the entry is damaged.
    pub fn apply_bytes(&mut self, entry: &[u8]) -> Result<Reply, ViewError> {
        let envelope = Envelope::decode(entry).map_err(|e| ViewError(e.to_string()))?;
        let transition = apply(&self.state, self, &envelope)?;
        Ok(self.commit(transition))
    }

    fn commit(&mut self, transition: Transition<'_>) -> Reply {
        self.seals.extend(transition.closed.into_iter().map(|closed| (closed.seal.bucket_hour, closed)));
        if let Some(sign) = transition.signature {
            self.signatures.insert(sign.hour, sign);
        }
        for new in &transition.rows {
            if let Some(sms) = new.row.sms().filter(|sms| sms.adjustment.is_none()) {
                self.messages.insert(sms.message_id, new.row.frame.bucket_hour);
            }
            let mut canonical = Vec::new();
            push_row(&new.row, &mut canonical);
            self.rows.push((canonical, new.row_hash));
        }
        self.state = transition.state;
        transition.reply
    }
}
