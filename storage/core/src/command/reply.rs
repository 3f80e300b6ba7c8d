//! What the log answers to a command.

use serde::{Deserialize, Serialize};

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
    /// The request was accepted before; nothing changed.
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
    /// Billing's events are reconciled with the records.
    Reconciled,
}

/// Outcome of a [`Command::Ingest`](super::Command::Ingest), or of a [`Command::Append`](super::Command::Append) of originals.
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
    /// An adjustment of a record that no longer counts.
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
