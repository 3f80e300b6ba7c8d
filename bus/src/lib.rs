//! The message bus at the product's edge: streams of messages with rising sequence numbers.
//!
//! One trait, [`Bus`], with two implementations that behave alike: [`JetStream`] speaks to NATS JetStream, and
//! [`LocalBackend`] keeps durable streams in files of its own process. Ingest reads through [`Subscription`]s and
//! keeps its own replicated position; what the bus remembers of acknowledgements only serves the bus's bookkeeping.
//! Consumers without a position of their own take their work from a [`WorkQueue`], whose acknowledgements count.
//!
//! Sequence numbers start at 1, rise by 1 with every stored message, and are never reused within one life of a
//! stream. A stream's life is distinguished from another of the same name by its creation time.

mod error;
mod jetstream;
mod local;
mod publish;
mod subject;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub use error::BusError;
pub use jetstream::{JetStream, NatsAuth, NatsOptions, NatsTls};
pub use local::{LocalBackend, LocalOptions};
pub use publish::{PublishError, PublishOptions, PublishReport, publish_file};

/// Header by which a stream recognises a message that it has stored already, within its dedup window.
pub const MESSAGE_ID_HEADER: &str = "Nats-Msg-Id";

/// Message headers in order; names may repeat.
pub type Headers = Vec<(String, String)>;

/// What a stream holds at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamInfo {
    /// When this life of the stream began, milliseconds since the epoch.
    pub created_ms: i64,
    /// Oldest sequence that the stream still holds; `last_sequence + 1` when it holds none.
    pub first_sequence: u64,
    /// Sequence of the newest message ever stored; 0 before the first.
    pub last_sequence: u64,
    /// How many messages the stream holds, which is less than the span of sequences where some were deleted.
    pub messages: u64,
}

/// A message as the stream stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Position in the stream.
    pub sequence: u64,
    /// Subject it was published to.
    pub subject: String,
    /// The bytes, unchanged.
    pub payload: Bytes,
    /// Headers, by ascending name.
    pub headers: Headers,
}

/// A message to publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Subject; some stream must hold it.
    pub subject: String,
    /// Headers beside those that the other fields give.
    pub headers: Headers,
    /// The bytes.
    pub payload: Bytes,
    /// Identity for the stream's duplicate check: a second message with this id within the dedup window is not
    /// stored, and its acknowledgement reports that.
    pub message_id: Option<String>,
    /// Store only directly behind the message with this id ([`BusError::WrongLastId`] otherwise). It chains a
    /// pipelined sequence, so that losing one message cannot reorder the rest.
    pub behind_id: Option<String>,
}

/// The stream's word that a message is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishAck {
    /// The stream that took it.
    pub stream: String,
    /// Its sequence; for a duplicate, that of the first copy.
    pub sequence: u64,
    /// Whether the stream held it already.
    pub duplicate: bool,
}

/// What a stream must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Name, without dots, spaces or wildcards.
    pub name: String,
    /// Subjects that it takes, wildcards `*` and `>` allowed.
    pub subjects: Vec<String>,
    /// How long messages are kept at least. [`Duration::ZERO`] means for ever.
    pub max_age: Duration,
    /// Copies in a clustered bus.
    pub replicas: usize,
    /// How long message ids are remembered.
    pub dedup_window: Duration,
    /// Largest message in bytes, headers included; `None` leaves it to the server.
    pub max_message_bytes: Option<u32>,
}

/// What must be shown to the bus to acknowledge a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckHandle {
    sequence: u64,
    /// Where the acknowledgement goes; empty for a local stream.
    reply: Box<str>,
}

impl AckHandle {
    /// A handle for deliveries that no bus made, for tests of consumers.
    #[doc(hidden)]
    pub fn unbound(sequence: u64) -> Self {
        Self { sequence, reply: Box::default() }
    }

    /// Stream sequence of the delivery.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// A message handed to the consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Position in the stream; rises from delivery to delivery, with gaps where the stream lost messages.
    pub sequence: u64,
    /// Subject it was published to.
    pub subject: Arc<str>,
    /// The bytes, unchanged.
    pub payload: Bytes,
    /// When the stream stored it, milliseconds since the epoch by the bus's clock.
    pub stored_ms: i64,
    /// To acknowledge it by.
    pub ack: AckHandle,
}

/// Acknowledges deliveries of one subscription, from any task.
pub trait Acker: Send + Sync {
    /// Acknowledges a committed batch, given in stream order: all plainly, and the last one by an acknowledgement
    /// that the bus confirms. Only what is durable elsewhere may be acknowledged.
    fn ack<'a>(&'a self, batch: &'a [AckHandle]) -> BoxFuture<'a, Result<(), BusError>>;
}

/// An open consumer: deliveries in stream order, each sequence at most once.
pub trait Subscription: Send + Sync {
    /// Up to `max_messages` deliveries, as soon as there is at least one; empty when `max_wait` passes first.
    ///
    /// A gap in the sequences means that the stream itself holds no message there; deliveries that were lost on the
    /// way are an error ([`BusError::DeliveriesLost`]), and so is a new message at a place that was handed out already
    /// ([`BusError::StreamRewound`]). After any error the subscription can't be used: open another.
    fn next_batch(
        &mut self,
        max_messages: usize,
        max_wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Delivery>, BusError>>;

    /// The acknowledging half, which works while a batch is awaited.
    fn acker(&self) -> Arc<dyn Acker>;
}

/// A durable consumer as a queue of work: every message is delivered until it is acknowledged, in no certain order.
///
/// Several holders may share a queue; each delivery goes to one of them. A message that is neither acknowledged nor put
/// off within the queue's `ack_wait` is delivered again, to any reader: so work must be repeatable.
pub trait WorkQueue: Send + Sync {
    /// Up to `max_messages` deliveries, as soon as there is at least one; empty when `max_wait` passes first.
    ///
    /// After an error the queue can't be used: attach again. Deliveries that were lost in transit are redelivered.
    fn next_batch(
        &mut self,
        max_messages: usize,
        max_wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Delivery>, BusError>>;

    /// The work is done and durable elsewhere: the message is not delivered again. Returns when the bus has confirmed it;
    /// after an error it may come again. Many may be acknowledged at once.
    fn ack<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Result<(), BusError>>;

    /// The work can't be done yet: the message is delivered again after `delay` (a year at most), whatever the queue's
    /// `ack_wait`. A local stream delivers it sooner if its process is restarted.
    fn retry_later<'a>(
        &'a self,
        delivery: &'a Delivery,
        delay: Duration,
    ) -> BoxFuture<'a, Result<(), BusError>>;
}

/// Deliveries of a work queue that may be unacknowledged, put off ones included, before no new ones are made.
const MAX_WORK_PENDING: usize = 100_000;

/// Longest time by which work can be put off.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(365 * 86_400);

/// A bus with durable streams.
pub trait Bus: Send + Sync + 'static {
    /// What `stream` holds now; [`BusError::StreamNotFound`] if there is none of that name.
    fn stream_info<'a>(&'a self, stream: &'a str) -> BoxFuture<'a, Result<StreamInfo, BusError>>;

    /// Name of the stream that takes `subject`, or `None` if no stream does.
    fn stream_of<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Option<String>, BusError>>;

    /// The message at `sequence`, or `None` if the stream holds none there.
    fn message<'a>(
        &'a self,
        stream: &'a str,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Option<StoredMessage>, BusError>>;

    /// Sequence up to which the consumer `durable` has acknowledged everything; `None` if there is no such consumer.
    fn acknowledged_upto<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>>;

    /// Creates the consumer `durable` again at `start_sequence`, unfiltered and without a delivery limit. A consumer of
    /// that name that exists already is removed, and its subscription fails with [`BusError::ConsumerLost`]; what lies
    /// before `start_sequence` counts as acknowledged.
    fn open<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
        start_sequence: u64,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>, BusError>>;

    /// Attaches to the work queue `durable`, over the messages of the subjects that `filter_subject` covers or over all.
    /// It is created, at the stream's beginning, if it is missing, and never recreated: it resumes where its acknowledgements
    /// left off. [`BusError::IncompatibleConsumer`] if there is a consumer of that name that is something else.
    fn attach<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
        filter_subject: Option<&'a str>,
        ack_wait: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn WorkQueue>, BusError>>;

    /// Publishes one message and waits until the stream has stored it.
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<PublishAck, BusError>>;

    /// Publishes messages one behind another without waiting for each, at most `in_flight` unacknowledged. Yields one
    /// result per message, in the order given. An error ends nothing: the caller decides what to send again.
    fn publish_many<'a>(
        &'a self,
        messages: BoxStream<'a, Outgoing>,
        in_flight: usize,
    ) -> BoxStream<'a, Result<PublishAck, BusError>>;

    /// Largest message that can be published, headers included, in bytes; streams may take less.
    fn max_payload_bytes(&self) -> usize;

    /// Creates the stream if it is missing. An existing one is never shrunk: missing subjects are added, and
    /// [`BusError::IncompatibleStream`] names what about it could lose messages before `max_age`.
    fn ensure_stream<'a>(&'a self, spec: &'a StreamSpec) -> BoxFuture<'a, Result<(), BusError>>;
}

#[cfg(test)]
mod suite;
