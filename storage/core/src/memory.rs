//! A ledger in memory: the reference for simulations and property tests, and a scratch ledger for replays.

use crate::adjust::{Predecessor, predecessor_id};
use crate::apply::{NewRow, Transition, View, ViewError, apply, apply_entry};
use crate::audit::{Request, request_of};
use crate::canonical::{push_personal, push_row};
use crate::command::{Envelope, Reply, SignSeal};
use crate::export::Export;
use crate::export::books::Books;
use crate::export::quarantine::Quarantined;
use crate::hash::Hash;
use crate::history::{Comparison, Marks};
use crate::id::{CdrId, Uuid};
use crate::receipt::{Known, is_born_expired, settles};
use crate::row::{Record, Sms, SystemKind};
use crate::rules::Build;
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
    /// Canonical bytes of every row's personal data with their salt, by ordinal; empty where there are none.
    pub personal: Vec<Vec<u8>>,
    /// Sealed hours.
    pub seals: BTreeMap<Hour, ClosedHour>,
    /// Signatures of seals.
    pub signatures: BTreeMap<Hour, SignSeal>,
    messages: HashMap<Uuid, Message>,
    records: HashMap<CdrId, Predecessor>,
    requests: HashMap<Hash, Request>,
    marks: Marks,
    /// As which build it reads commands.
    pub build: Build,
    /// Every settlement file and quarantine entry.
    pub books: Books,
}

/// The latest line of a message.
#[derive(Clone, Copy, Debug)]
struct Message {
    /// Bucket of its original.
    hour: Hour,
    /// Its last row.
    last: CdrId,
    /// What a receipt meets.
    known: Known,
}

impl View for MemoryLedger {
    fn known(&self, ids: &[Uuid], since: Hour) -> Result<Vec<Known>, ViewError> {
        let known = |id| match self.messages.get(id) {
            Some(message) if message.hour >= since => message.known,
            _ => Known::Nothing,
        };
        Ok(ids.iter().map(known).collect())
    }

    fn seal_hash(&self, hour: Hour) -> Result<Option<Hash>, ViewError> {
        Ok(self.seals.get(&hour).map(|closed| closed.seal_hash))
    }

    fn predecessor(&self, id: CdrId) -> Result<Option<Predecessor>, ViewError> {
        Ok(self.records.get(&id).cloned())
    }

    fn request(&self, key: &Hash) -> Result<Option<Request>, ViewError> {
        Ok(self.requests.get(key).copied())
    }

    fn export(&self, id: CdrId) -> Result<Option<Export>, ViewError> {
        Ok(self.books.exports.get(&id).cloned())
    }

    fn quarantined(&self, id: CdrId) -> Result<Option<Quarantined>, ViewError> {
        Ok(self.books.quarantine.get(&id).cloned())
    }

    fn waits_in_quarantine(&self, series: &str, cdr_id: &str) -> Result<bool, ViewError> {
        Ok(self.books.waits(series, cdr_id))
    }
}

impl MemoryLedger {
    /// Applies the bytes of a log entry.
    ///
    /// # Errors
    /// [`ViewError`] if the entry is damaged.
    pub fn apply_bytes(&mut self, entry: &[u8]) -> Result<Reply, ViewError> {
        let envelope = Envelope::decode(entry, self.build)?;
        let transition = apply(&self.state, self, &envelope)?;
        Ok(self.commit(transition))
    }

    /// Applies the bytes of a log entry at its place in the log, as replicas do: the history goes on, and a command whose
    /// proposer had another one is refused as damage is.
    ///
    /// # Errors
    /// [`ViewError`] if the entry is damaged, or if the proposer's history is another one.
    pub fn apply_entry(&mut self, index: u64, term: u64, entry: &[u8]) -> Result<Reply, ViewError> {
        let envelope = Envelope::decode(entry, self.build)?;
        if let Comparison::Differs(difference) = self.marks.compare_carried(&envelope.progress.applied) {
            return Err(ViewError::Unreadable(format!("another history: {difference}")));
        }
        let transition = apply_entry(&self.state, self, (index, term), &envelope)?;
        self.marks.push(transition.state.head.applied);
        Ok(self.commit(transition))
    }

    fn commit(&mut self, mut transition: Transition<'_>) -> Reply {
        self.books.exports.append(&mut transition.books.exports);
        self.books.quarantine.append(&mut transition.books.quarantine);
        self.seals.extend(transition.closed.into_iter().map(|closed| (closed.seal.bucket_hour, closed)));
        if let Some(sign) = transition.signature {
            self.signatures.insert(sign.hour, sign);
        }
        for new in &transition.rows {
            self.remember(new);
            let mut canonical = Vec::new();
            push_row(&new.row, &mut canonical);
            self.rows.push((canonical, new.row_hash));
            let mut personal = Vec::new();
            push_personal(&new.row, &mut personal);
            self.personal.push(personal);
        }
        self.state = transition.state;
        transition.reply
    }

    fn remember(&mut self, new: &NewRow<'_>) {
        match &new.row.record {
            Record::Sms(sms) => {
                if let Some(before) = predecessor_id(sms).and_then(|id| self.records.get_mut(&id)) {
                    before.is_last = false;
                }
                self.remember_message(new, sms);
                let record = Predecessor {
                    ordinal: new.ordinal,
                    message_id: sms.message_id,
                    operator_id: new.row.frame.operator_id.to_owned(),
                    kind: sms.adjustment.as_ref().map(|adjustment| adjustment.kind),
                    is_priced: sms.charge_amount.is_some(),
                    is_last: true,
                };
                self.records.insert(new.row.frame.cdr_id, record);
            }
            Record::System(system) if system.kind == SystemKind::Audit => {
                if let Ok(Some(request)) = request_of(system) {
                    self.requests.insert(request.key, request);
                }
            }
            Record::System(_) => {}
        }
    }

    fn remember_message(&mut self, new: &NewRow<'_>, sms: &Sms<'_>) {
        let (hour, last) = (new.row.frame.bucket_hour, new.row.frame.cdr_id);
        let Some(before) = predecessor_id(sms) else {
            let known = if is_born_expired(&new.row) { Known::Expired { last } } else { Known::Recorded };
            self.messages.insert(sms.message_id, Message { hour, last, known });
            return;
        };
        // The line of a message that came again after the horizon goes on beside the new one.
        let Some(message) = self.messages.get_mut(&sms.message_id).filter(|m| m.last == before) else {
            return;
        };
        message.last = last;
        if message.known != Known::Recorded {
            message.known = if settles(&new.row) { Known::Recorded } else { Known::Expired { last } };
        }
    }
}
