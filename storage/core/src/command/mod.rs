//! What can be proposed to the log, and what it answers.
//!
//! A proposer stamps time and ids; nothing below reads a clock or draws a random number. A business
//! rejection is a committed [`Reply`], not an error.

mod envelope;
mod reply;

pub use envelope::{Acknowledged, Envelope, Progress};
pub use reply::{Ingested, Rejection, Reply};

use crate::Hash;
use crate::codec::{self, CodecError};
use crate::id::Uuid;
use crate::money::Money;
use crate::row::Draft;
use crate::time::{Hour, Millis};
use bincode::{BorrowDecode, Decode, Encode};
use serde::{Deserialize, Serialize};

/// What can be proposed to the log.
#[derive(Clone, Debug, PartialEq, Encode, BorrowDecode)]
pub enum Command<'a> {
    /// Begins a ledger; the hour of `now` is its first.
    Initialize(Initialize<'a>),
    /// Opens a leader's term: from here on only its commands are accepted.
    Fence,
    /// Rows from an inbound stream, in stream order.
    Ingest(Ingest<'a>),
    /// System rows and adjustments from a worker or a request: all of them, or none. Or, from a worker, nothing but
    /// originals of messages whose receipt did not come: each of them unless its message is recorded already.
    Append(Append<'a>),
    /// Seals every hour that ended before `now`.
    Seal,
    /// Attaches a signature to the oldest seal that has none.
    SignSeal(SignSeal),
    /// Records that every event up to this place is published.
    Published(OutboxPlace),
    /// What billing charged, to be reconciled with the records. Appends no row.
    Reconcile(Reconcile<'a>),
}

/// The most billing events of one command, and the most messages that it looks at again.
pub const MOST_BILLS: usize = 10_000;

/// What billing charged. It is kept beside the ledger: nothing of it is hashed or in the chain.
#[derive(Clone, Debug, Default, PartialEq, Encode, BorrowDecode)]
pub struct Reconcile<'a> {
    /// Events without a record of earlier hours are forgotten.
    pub forget_before: Hour,
    /// Events, in the order in which they came.
    pub bills: Vec<Bill<'a>>,
    /// Messages of events without a record, which may have one by now.
    pub look_again: Vec<Uuid>,
}

/// What billing charged for a message.
#[derive(Clone, Copy, Debug, PartialEq, Encode, BorrowDecode)]
pub struct Bill<'a> {
    /// The message.
    pub message_id: Uuid,
    /// Its operator, as billing has it.
    pub operator_id: &'a str,
    /// The charge.
    pub amount: Money,
    /// Its currency, ISO 4217.
    pub currency: &'a str,
    /// When it was charged.
    pub occurred_at: Millis,
}

/// A place in the outbox: a log entry, and how many of its events are meant, from the first on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
pub struct OutboxPlace {
    /// Index of the entry in the Raft log.
    pub index: u64,
    /// Number of its events.
    pub events: u32,
}

/// The settings of a ledger, fixed for its life.
#[derive(Clone, Debug, PartialEq, Encode, BorrowDecode)]
pub struct Initialize<'a> {
    /// Name of the cluster; part of every genesis hash.
    pub cluster_id: &'a str,
    /// IANA name of the settlement zone.
    pub zone: &'a str,
    /// What drives time.
    pub clock: ClockKind,
    /// How long `messageId` decides what is a duplicate, in hours.
    pub dedup_horizon_hours: u32,
    /// Key of the keyed hashes of client-chosen ids.
    pub hash_key: [u8; 16],
    /// First rows: operators (in force at once) and signing keys.
    pub rows: Drafts<'a>,
}

/// What drives time in a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockKind {
    /// The machines' clocks.
    System,
    /// The events' own times; refused by production nodes.
    Replay,
}

/// A stretch of an inbound stream: every sequence from `first` to `last` is accounted for.
#[derive(Clone, Debug, PartialEq, Encode, BorrowDecode)]
pub struct Ingest<'a> {
    /// Stream epoch.
    pub stream: &'a str,
    /// First sequence; must be the position + 1.
    pub first: u64,
    /// Last sequence; becomes the position.
    pub last: u64,
    /// SHA-256 of the message at `last`, or of nothing if that message is missing.
    pub last_digest: Hash,
    /// Messages of states that are not final.
    pub ignored: u64,
    /// Messages that were dead-lettered.
    pub dead_lettered: u64,
    /// Sequences that the stream says are deleted.
    pub missing: u64,
    /// One draft for every other message: an original CDR, or the CORRECTION of one that was recorded as EXPIRED
    /// without a receipt ([`crate::receipt`]).
    pub drafts: Drafts<'a>,
}

/// System rows and adjustments from a worker or a request, or originals of messages whose receipt did not come.
#[derive(Clone, Debug, PartialEq, Encode, BorrowDecode)]
pub struct Append<'a> {
    /// Where they come from.
    pub source: Source,
    /// The rows; their sequence offsets are not used.
    pub drafts: Drafts<'a>,
}

/// Origin of rows that no stream carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Source {
    /// A request.
    Api,
    /// A worker.
    Internal,
}

impl Source {
    /// The stream name in `source.stream`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Internal => "internal",
        }
    }
}

/// A signature over a seal (see [`crate::seal::signed_message`]).
#[derive(Clone, Debug, PartialEq, Encode, BorrowDecode)]
pub struct SignSeal {
    /// Hour of the seal.
    pub hour: Hour,
    /// Signature by the key that the seal names.
    pub signature: [u8; 64],
}

/// Encoded drafts, each with the offset of its source sequence from the batch's first.
#[derive(Clone, Debug, Default, PartialEq, Encode, BorrowDecode)]
pub struct Drafts<'a> {
    count: u32,
    bytes: &'a [u8],
}

/// One draft of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct DraftItem<'a> {
    /// Source sequence minus the batch's first.
    pub offset: u32,
    /// The decoded draft.
    pub draft: Draft<'a>,
    /// Its encoding, as it is stored.
    pub bytes: &'a [u8],
}

impl<'a> Drafts<'a> {
    /// Number of drafts.
    pub fn len(&self) -> u64 {
        u64::from(self.count)
    }

    /// True without drafts.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Decodes the drafts, in order.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] if the bytes are not `count` whole drafts.
    pub fn decode(&self) -> Result<Vec<DraftItem<'a>>, CodecError> {
        let damaged = |why: &str| CodecError::Damaged { what: "draft batch", why: why.to_owned() };
        let mut items = Vec::with_capacity(self.count.min(1 << 16) as usize);
        let mut rest = self.bytes;
        for _ in 0..self.count {
            let (offset, after) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("cut in an offset"))?;
            let (len, after) = after.split_first_chunk::<4>().ok_or_else(|| damaged("cut in a length"))?;
            let len = u32::from_le_bytes(*len) as usize;
            let (bytes, after) = after.split_at_checked(len).ok_or_else(|| damaged("cut in a draft"))?;
            let draft = codec::decode_draft(bytes)?;
            items.push(DraftItem { offset: u32::from_le_bytes(*offset), draft, bytes });
            rest = after;
        }
        if rest.is_empty() { Ok(items) } else { Err(damaged("bytes after the last draft")) }
    }
}

/// Collects drafts into the encoding that [`Drafts`] reads.
#[derive(Debug, Default)]
pub struct DraftsBuffer {
    count: u32,
    bytes: Vec<u8>,
}

impl DraftsBuffer {
    /// Appends a draft.
    ///
    /// # Errors
    /// [`CodecError::Encode`].
    pub fn push(&mut self, offset: u32, draft: &Draft<'_>) -> Result<(), CodecError> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&offset.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        codec::encode_draft(draft, &mut self.bytes)?;
        let len = (self.bytes.len() - start - 8) as u32;
        self.bytes[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
        self.count += 1;
        Ok(())
    }

    /// Number of drafts so far.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// True without drafts.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Encoded size so far.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch.
    pub fn drafts(&self) -> Drafts<'_> {
        Drafts { count: self.count, bytes: &self.bytes }
    }
}
