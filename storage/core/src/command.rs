//! What can be proposed to the log, and what it answers.
//!
//! A proposer stamps time and ids; nothing below reads a clock or draws a random number. A business
//! rejection is a committed [`Reply`], not an error.

use crate::Hash;
use crate::codec::{self, CodecError};
use crate::history::Mark;
use crate::id::Uuid;
use crate::money::Money;
use crate::row::Draft;
use crate::time::{Hour, Millis};
use bincode::{BorrowDecode, Decode, Encode};
use serde::{Deserialize, Serialize};

/// A command with the term in whose name it is proposed and the proposer's time.
#[derive(Clone, Debug, PartialEq, Encode, BorrowDecode)]
pub struct Envelope<'a> {
    /// Fencing term: commands of any other term than the last [`Command::Fence`]'s are refused.
    pub term: u64,
    /// The proposer's clock.
    pub now: Millis,
    /// How far the proposer and its voters were.
    pub progress: Progress,
    /// What is asked.
    pub command: Command<'a>,
}

/// How far the proposer and its voters were when a command was encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Progress {
    /// The last command that the proposer had applied. With batches in flight it does not know the state right before
    /// its own; whoever applies the command has applied this one too, and compares.
    pub applied: Mark,
    /// The voters, as the proposer knows them.
    pub acknowledged: Vec<Acknowledged>,
}

/// Committed entries that a voter has on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Acknowledged {
    /// The voter.
    pub node: u64,
    /// Index of the last one.
    pub index: u64,
}

impl Acknowledged {
    /// Index of the last committed entry that the node is known to have on disk; 0 if none is.
    pub fn by(known: &[Self], node: u64) -> u64 {
        known.iter().find(|voter| voter.node == node).map_or(0, |voter| voter.index)
    }
}

/// What can be asked of the log.
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
    /// Says that every event up to this place is published.
    Published(OutboxPlace),
    /// What billing charged, to be held against the records. Appends no row.
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
    /// Messages that are no final states.
    pub ignored: u64,
    /// Messages that went to the dead letter.
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

impl<'a> Envelope<'a> {
    /// A command whose proposer says nothing of how far it is.
    pub fn new(term: u64, now: Millis, command: Command<'a>) -> Self {
        Self { term, now, progress: Progress::default(), command }
    }
}

impl Envelope<'_> {
    /// The bytes of a log entry.
    ///
    /// # Errors
    /// [`CodecError::Encode`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode("command", self)
    }
}

impl<'a> Envelope<'a> {
    /// Reads the bytes of a log entry.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CodecError> {
        codec::decode("command", bytes)
    }
}

/// What the log answers to a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// An entry without a command.
    #[default]
    None,
    /// The ledger has begun.
    Initialized,
    /// The term is open.
    Fenced {
        /// The term.
        term: u64,
    },
    /// A stretch of a stream is in the log, or originals of messages whose receipt did not come.
    Ingested(Ingested),
    /// The rows are in the log.
    Appended {
        /// Bucket of the rows.
        bucket_hour: u32,
        /// Sequence of the first.
        first_sequence: u64,
    },
    /// Every hour that ended is sealed.
    Sealed {
        /// How many were sealed by this command.
        hours: u32,
    },
    /// The request was taken in before; nothing changed.
    Repeated {
        /// Id of the row that answers it.
        answer: String,
    },
    /// The signature is attached.
    Signed,
    /// The events count as published.
    Published,
    /// The command was refused; nothing changed.
    Rejected(Rejection),
    /// Billing's events are held against the records.
    Reconciled,
}

/// Outcome of a [`Command::Ingest`], or of a [`Command::Append`] of originals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingested {
    /// Rows appended.
    pub appended: u64,
    /// Drafts whose message was known already.
    pub duplicate: u64,
    /// Bucket of the rows, hours since the epoch.
    pub bucket_hour: u32,
    /// The stream's position now; of originals, the number of the last one that was appended, or 0.
    pub position: u64,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// A newer leader has opened its term.
    #[error("term {term} is fenced off by term {fence}: this node is no longer leader")]
    Fenced {
        /// Term of the command.
        term: u64,
        /// Term in force.
        fence: u64,
    },
    /// There is no ledger yet.
    #[error("the ledger is not initialised; initialise the cluster first")]
    NotInitialized,
    /// There is a ledger already.
    #[error("the ledger is already initialised as cluster {cluster_id}")]
    AlreadyInitialized {
        /// Its name.
        cluster_id: String,
    },
    /// The command skips more hours than any outage explains.
    #[error("sealing from {open} to {now} would skip more than {limit} hours: check the leader's clock")]
    ClockJump {
        /// Open hour.
        open: String,
        /// Hour of the command.
        now: String,
        /// The most hours sealed at once.
        limit: u32,
    },
    /// The batch does not continue the stream.
    #[error("stream {stream} is at position {position}, the batch starts at {first}: reopen the consumer")]
    Position {
        /// Stream epoch.
        stream: String,
        /// Its position.
        position: u64,
        /// Start of the batch.
        first: u64,
    },
    /// The stream epoch is unknown or no longer the latest.
    #[error("stream {stream} is not open: open its epoch first")]
    UnknownStream {
        /// Stream epoch.
        stream: String,
    },
    /// A row names an operator that is not in force.
    #[error("operator {operator_id} is not in force in this hour")]
    UnknownOperator {
        /// The operator.
        operator_id: String,
    },
    /// An adjustment names a record that is not there.
    #[error("there is no record {cdr_id}")]
    UnknownRecord {
        /// The record.
        cdr_id: String,
    },
    /// An adjustment of a record that counts no more.
    #[error("record {cdr_id} is a VOID: nothing can follow it")]
    AlreadyVoided {
        /// The record.
        cdr_id: String,
    },
    /// Another adjustment follows the record already.
    #[error("record {cdr_id} is adjusted already: follow the last adjustment")]
    Superseded {
        /// The record.
        cdr_id: String,
    },
    /// A key was used before, for another request.
    #[error("this idempotency key was used for another request: use a new one")]
    IdempotencyConflict,
    /// A job is no longer where the step begins.
    #[error("job {job_id} is elsewhere: go on from its cursor")]
    JobMoved {
        /// The job.
        job_id: String,
    },
    /// A row names a file that is not there.
    #[error("there is no export {export_id}")]
    UnknownExport {
        /// The file.
        export_id: String,
    },
    /// A file, or its series, is no longer where the step begins.
    #[error("export {export_id} is elsewhere: go on from where it is")]
    ExportMoved {
        /// The file.
        export_id: String,
    },
    /// The receiver has answered for a file.
    #[error("export {export_id} is acknowledged already")]
    ExportAcked {
        /// The file.
        export_id: String,
    },
    /// A record is in quarantine already.
    #[error("record {cdr_id} is in quarantine already")]
    AlreadyQuarantined {
        /// The record.
        cdr_id: String,
    },
    /// The command contradicts itself or the ledger.
    #[error("the command is not legal: {why}")]
    Illegal {
        /// What is wrong.
        why: String,
    },
    /// The signature does not fit.
    #[error("the signature of hour {hour} is refused: {why}")]
    Signature {
        /// The hour.
        hour: String,
        /// What is wrong.
        why: String,
    },
    /// A receipt was drafted before a row of the same message was appended that decides what it means.
    #[error("the receipt of message {message_id} means something else by now: build the batch anew")]
    Outdated {
        /// The message.
        message_id: String,
    },
}
