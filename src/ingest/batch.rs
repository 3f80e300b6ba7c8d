//! A stretch of the stream in the making: every sequence in it becomes a draft, a dead letter, an ignored
//! message or a missing one.

use super::dead_letter::dead_letter;
use super::late::{LateError, corrected};
use super::projection::Projector;
use crate::clock::Clock;
use crate::dlr::{Parsed, Reason, parse};
use crate::ids::IdSource;
use crate::pricing::PriceBook;
use cdr_bus::{AckHandle, Delivery, Outgoing};
use cdr_core::command::{Command, DraftsBuffer, Ingest};
use cdr_core::hash::{Hash, sha256};
use cdr_core::row::FinalState;
use cdr_core::state::LedgerState;
use cdr_core::{Hour, Millis, Uuid};
use cdr_storage::Store;
use std::sync::Arc;

/// Encoded size at which a batch is closed.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// A batch of an older reading than this is not proposed any more. The ledger remembers messages for an hour longer than
/// receipts may wait for their commit; half of it is kept for what differs between clocks.
const MAX_AGE_MS: i64 = 30 * 60_000;

/// A stretch of the stream, ready to be proposed.
#[derive(Default)]
pub struct Batch {
    first: u64,
    last: u64,
    last_digest: Hash,
    ignored: u64,
    missing: u64,
    drafts: DraftsBuffer,
    /// Messages of the drafts that may correct a record.
    messages: Vec<Uuid>,
    /// The time at which its oldest message was read and compared with the duplicate horizon.
    read_at: Option<Millis>,
    /// Latest event time, by which a replay clock moves; none without records.
    pub latest_event: Option<Millis>,
    /// When the stream stored the batch's oldest message, milliseconds since the epoch.
    pub oldest_stored_ms: i64,
    /// Messages that can't become records, with why.
    pub dead_letters: Vec<(Outgoing, Reason)>,
    /// To acknowledge after the commit.
    pub acks: Vec<AckHandle>,
}

impl Batch {
    fn after(position: u64) -> Self {
        Self { first: position + 1, last: position, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.last < self.first
    }

    /// Counts the sequences before `sequence` that the batch has not seen as missing. There is no message at the end
    /// of such a gap, hence no digest.
    fn skip_to(&mut self, sequence: u64) {
        let missing = sequence.saturating_sub(self.last + 1);
        if missing > 0 {
            self.missing += missing;
            self.last += missing;
            self.last_digest = [0; 32];
        }
    }

    /// The command that proposes the batch.
    pub fn command<'a>(&'a self, epoch: &'a str) -> Command<'a> {
        Command::Ingest(Ingest {
            stream: epoch,
            first: self.first,
            last: self.last,
            last_digest: self.last_digest,
            ignored: self.ignored,
            dead_lettered: self.dead_letters.len() as u64,
            missing: self.missing,
            drafts: self.drafts.drafts(),
        })
    }

    /// Exchanges receipts of messages that `store` knows as EXPIRED without one for corrections. Blocks on files.
    ///
    /// # Errors
    /// [`LateError`].
    pub fn correct(&mut self, store: &Store, epoch: &str) -> Result<(), LateError> {
        if let Some(drafts) = corrected(store, epoch, self.first, &self.messages, &self.drafts.drafts())? {
            self.drafts = drafts;
        }
        Ok(())
    }

    /// True if the batch has waited so long that its age checks no longer hold at `now`.
    pub fn is_stale(&self, now: Millis) -> bool {
        self.read_at.is_some_and(|at| now.0 - at.0 > MAX_AGE_MS)
    }

    /// Sequences that the stream no longer holds.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Messages of states that are not final.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }
}

/// Turns deliveries into batches that continue one another.
pub struct Batcher {
    epoch: String,
    subject: String,
    projector: Projector,
    /// Prices of the whole batch: taken when it begins, so that a row costs neither a lock nor a count.
    book: Arc<PriceBook>,
    clock: Clock,
    ids: IdSource,
    max_rows: usize,
    batch: Batch,
    latest_event: Option<Millis>,
}

impl Batcher {
    /// Batches of at most `max_rows` drafts, behind `position` of `epoch`. Messages of other subjects are ignored.
    pub fn new(
        epoch: String,
        subject: String,
        position: u64,
        projector: Projector,
        clock: Clock,
        max_rows: usize,
    ) -> Self {
        let batch = Batch::after(position);
        Self {
            epoch,
            subject,
            book: projector.book(),
            projector,
            clock,
            ids: IdSource::default(),
            max_rows,
            batch,
            latest_event: None,
        }
    }

    /// Adds a delivery; returns the batch before it if that one has to be closed first.
    ///
    /// # Errors
    /// What could not be encoded or drawn.
    pub fn add(&mut self, delivery: &Delivery, state: &LedgerState) -> Result<Option<Batch>, String> {
        if delivery.sequence <= self.batch.last {
            let (sequence, last) = (delivery.sequence, self.batch.last);
            return Err(format!(
                "sequence {sequence} was delivered, but everything up to {last} is accounted for"
            ));
        }
        let own = *delivery.subject == *self.subject;
        let parsed = if own { self.parse(&delivery.payload) } else { Parsed::Ignored("foreign subject") };
        let closed = self.close_before(delivery, &parsed);
        let now = self.now(&parsed, state);
        if self.batch.is_empty() {
            self.book = self.projector.book();
        }
        let outcome = match &parsed {
            Parsed::Final(dlr) => {
                let drawn = self.ids.next(now, state.schema()).map_err(|e| e.to_string())?;
                self.projector.project(dlr, state, drawn, now, &self.book).map(Some)
            }
            Parsed::Ignored(_) => Ok(None),
            Parsed::Malformed { reason } => Err(*reason),
        };
        let batch = &mut self.batch;
        if batch.acks.is_empty() {
            batch.oldest_stored_ms = delivery.stored_ms;
            batch.read_at = Some(now);
        }
        batch.skip_to(delivery.sequence);
        match outcome {
            Ok(Some(draft)) => {
                let offset = u32::try_from(delivery.sequence - batch.first).map_err(|e| e.to_string())?;
                batch.drafts.push(offset, &draft).map_err(|e| e.to_string())?;
                if let Parsed::Final(dlr) = &parsed
                    && dlr.final_state != FinalState::Expired
                {
                    batch.messages.push(dlr.message_id);
                }
            }
            Ok(None) => batch.ignored += 1,
            Err(reason) => {
                let letter = dead_letter(delivery, &self.epoch, &reason.to_string());
                batch.dead_letters.push((letter, reason));
            }
        }
        batch.last = delivery.sequence;
        batch.last_digest = sha256(&delivery.payload);
        batch.acks.push(delivery.ack.clone());
        batch.latest_event = self.latest_event;
        Ok(closed)
    }

    /// True once the batch is as large as it may be.
    pub fn is_full(&self) -> bool {
        self.batch.acks.len() >= self.max_rows || self.batch.drafts.size_bytes() >= MAX_BATCH_BYTES
    }

    /// The batch so far, if there is anything in it; the next one continues it.
    pub fn take(&mut self) -> Option<Batch> {
        if self.batch.is_empty() {
            return None;
        }
        let next = Batch::after(self.batch.last);
        Some(std::mem::replace(&mut self.batch, next))
    }

    /// Last sequence that is accounted for.
    pub fn position(&self) -> u64 {
        self.batch.last
    }

    /// Counts what is not accounted for up to `sequence` as missing, and closes the batch.
    pub fn end_at(&mut self, sequence: u64) -> Option<Batch> {
        if self.batch.acks.is_empty() {
            self.batch.oldest_stored_ms = self.clock.now().0;
        }
        self.batch.skip_to(sequence + 1);
        self.take()
    }

    /// Reads a receipt. One whose local time can't be written must not move a clock either.
    fn parse<'a>(&self, payload: &'a [u8]) -> Parsed<'a> {
        match parse(payload) {
            Parsed::Final(dlr) => match self.projector.check_local_time(dlr.final_at) {
                Ok(()) => Parsed::Final(dlr),
                Err(reason) => Parsed::Malformed { reason },
            },
            other => other,
        }
    }

    /// The batch before a delivery, if it has to be closed first.
    fn close_before(&mut self, delivery: &Delivery, parsed: &Parsed<'_>) -> Option<Batch> {
        if delivery.sequence - self.batch.first > u64::from(u32::MAX) {
            // Drafts are numbered with 32 bits from the batch's first sequence, so a gap this wide gets a batch that
            // ends with it.
            if self.batch.acks.is_empty() {
                self.batch.oldest_stored_ms = delivery.stored_ms;
            }
            self.batch.skip_to(delivery.sequence);
            return self.take();
        }
        self.closes_before(parsed).then(|| self.take()).flatten()
    }

    /// While events move the clock, a batch must not reach into the hour that its next event opens.
    fn closes_before(&self, parsed: &Parsed<'_>) -> bool {
        let Parsed::Final(dlr) = parsed else { return false };
        let hour = self.latest_event.map_or(Hour(0), Millis::hour);
        self.clock.follows_events() && !self.batch.is_empty() && dlr.final_at.hour() > hour
    }

    /// The time that events are compared with: never before what the ledger has recorded, whatever this clock shows.
    fn now(&mut self, parsed: &Parsed<'_>, state: &LedgerState) -> Millis {
        let now = self.clock.now().max(state.head.last_recorded_at);
        if !self.clock.follows_events() {
            return now;
        }
        if let Parsed::Final(dlr) = parsed {
            self.latest_event = self.latest_event.max(Some(dlr.final_at));
        }
        self.latest_event.map_or(now, |at| at.max(now))
    }
}
