//! What can go wrong on the bus, and whether trying again can help.

use std::path::PathBuf;

/// A failure of the bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No connection could be made.
    #[error(
        "cannot connect to the bus at {servers}: {reason}; check the address, the server and the credentials"
    )]
    Connect {
        /// The servers that were tried.
        servers: String,
        /// What the client says.
        reason: String,
    },
    /// An option of the connection can't be used.
    #[error("cannot use the bus option {option}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Why not.
        reason: String,
    },
    /// The connection or the server behind it is gone for now.
    #[error("the bus did not answer to {operation} on {target}: {reason}")]
    Unavailable {
        /// What was requested.
        operation: &'static str,
        /// Stream or subject.
        target: String,
        /// What the client says.
        reason: String,
    },
    /// There is no such stream.
    #[error("the bus has no stream {stream}")]
    StreamNotFound {
        /// Its name.
        stream: String,
    },
    /// No stream takes this subject, or the one that does is not back yet.
    #[error("no stream on the bus takes the subject {subject}")]
    NoStreamForSubject {
        /// The subject.
        subject: String,
    },
    /// A stream exists but could lose messages, or can't be created as needed.
    #[error("stream {stream} cannot be used: {reason}")]
    IncompatibleStream {
        /// Its name.
        stream: String,
        /// What is wrong with it, and what to change.
        reason: String,
    },
    /// A consumer of this name is not a work queue, or one over other messages.
    #[error(
        "consumer {durable} of stream {stream} cannot be used: {reason}; choose another name or remove it"
    )]
    IncompatibleConsumer {
        /// The stream.
        stream: String,
        /// The consumer.
        durable: String,
        /// How it differs.
        reason: String,
    },
    /// A stream or consumer name that the bus can't take.
    #[error("{name:?} cannot name a stream or consumer: use letters, digits, '-' and '_'")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// A subject that nothing can be published to, or that can't be listened to.
    #[error("{subject:?} is not a subject: use tokens with dots between them, and wildcards only to listen")]
    InvalidSubject {
        /// The subject.
        subject: String,
    },
    /// A header that can't be carried.
    #[error(
        "header {name:?} of a message for {subject} cannot be carried: it has a colon, a line end, or is one too many"
    )]
    InvalidHeader {
        /// Header name.
        name: String,
        /// Subject of the message.
        subject: String,
    },
    /// The consumer was removed or replaced.
    #[error("consumer {durable} of stream {stream} is gone: {reason}; open it again")]
    ConsumerLost {
        /// The stream.
        stream: String,
        /// The consumer.
        durable: String,
        /// What showed it.
        reason: String,
    },
    /// Deliveries vanished between the bus and here, though the stream still holds them.
    #[error(
        "deliveries of stream {stream} after sequence {sequence} were lost in transit; open the consumer again"
    )]
    DeliveriesLost {
        /// The stream.
        stream: String,
        /// Last sequence that arrived in order.
        sequence: u64,
    },
    /// The stream handed out a message for the first time at a place that was read already: it lost messages and put
    /// others in their place.
    #[error(
        "stream {stream} was rewound: a new message has sequence {sequence}, but it was read up to {read_upto}; \
         open the consumer again"
    )]
    StreamRewound {
        /// The stream.
        stream: String,
        /// Sequence of the new message.
        sequence: u64,
        /// Last sequence that was handed out.
        read_upto: u64,
    },
    /// The bus did not confirm an acknowledgement.
    #[error("the acknowledgement of sequence {sequence} of stream {stream} was not confirmed: {reason}")]
    NotAcknowledged {
        /// The stream.
        stream: String,
        /// The batch's last sequence.
        sequence: u64,
        /// What the client says.
        reason: String,
    },
    /// The stream refused a message for good.
    #[error("the stream refused a message for {subject}: {reason}")]
    Refused {
        /// The subject.
        subject: String,
        /// The server's words.
        reason: String,
    },
    /// The stream, or the server's space for it, is full.
    #[error(
        "the stream that takes {subject} is full: {reason}; raise its limits (max_msgs, max_bytes) or the server's space, \
         or remove messages that are no longer needed"
    )]
    Full {
        /// The subject.
        subject: String,
        /// The server's words.
        reason: String,
    },
    /// The message that should be directly before is not.
    #[error("a message for {subject} was not stored: the one before it is not the stream's last")]
    WrongLastId {
        /// The subject.
        subject: String,
    },
    /// Larger than the stream or the server takes.
    #[error("a message of {size_bytes} bytes for {subject} is over the limit of the stream or the server")]
    TooLarge {
        /// The subject.
        subject: String,
        /// Size of its payload.
        size_bytes: usize,
    },
    /// A file of a local stream can't be read or written.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of a local stream holds other bytes than were written.
    #[error("stream file {} is damaged at byte {offset}: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// An earlier write failed: nothing more is stored until the process is restarted.
    #[error("stream {stream} stopped after a failed write; repair the disk and restart: {reason}")]
    Stopped {
        /// The stream.
        stream: String,
        /// The first failure.
        reason: String,
    },
}

impl BusError {
    /// Whether the same call may succeed later without anything being changed by hand.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::Unavailable { .. }
                | Self::NoStreamForSubject { .. }
                | Self::ConsumerLost { .. }
                | Self::DeliveriesLost { .. }
                | Self::StreamRewound { .. }
                | Self::NotAcknowledged { .. }
                | Self::WrongLastId { .. }
        )
    }
}
