//! A pull consumer, created again, whose deliveries are checked for completeness.
//!
//! The server numbers the deliveries of a consumer. With the stream's own sequences this distinguishes a message that
//! the stream has lost (a gap in stream sequences only) from a delivery that was lost on the way (a gap in both, as
//! after a broken connection): the latter ends the subscription at once instead of after the redelivery's time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::pull::{self, MessagesError};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, ReplayPolicy};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::ConsumerErrorKind;
use async_nats::jetstream::{ErrorCode, Message};
use async_nats::{Client, RequestErrorKind, Subject};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::breaks::{Breaks, Token};
use super::{JetStream, refused, streams, unavailable};
use crate::{AckHandle, Acker, BusError, Delivery, Subscription};

/// After this time the server delivers again what was not acknowledged.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(30);
/// Deliveries that may be unacknowledged before the server waits.
const MAX_ACK_PENDING: i64 = 65_536;
/// Messages requested at once; the next request goes out when half have arrived.
const PULL_MESSAGES: usize = 4_000;
/// How long one request stays open at the server.
const PULL_EXPIRES: Duration = Duration::from_secs(20);
/// The server shows in this rhythm that an open request is alive; after two silences the consumer counts as lost.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// What an acknowledgement says.
const ACK: Bytes = Bytes::from_static(b"+ACK");

/// The acknowledgement floor of `durable`, if there is such a consumer.
pub(super) async fn acknowledged_upto(
    bus: &JetStream,
    stream: &str,
    durable: &str,
) -> Result<Option<u64>, BusError> {
    let handle = streams::get(&bus.context, stream).await?;
    match handle.consumer_info(durable).await {
        Ok(info) => Ok(Some(info.ack_floor.stream_sequence)),
        Err(error) => match error.kind() {
            ConsumerInfoErrorKind::NotFound => Ok(None),
            ConsumerInfoErrorKind::JetStream(server)
                if server.error_code() == ErrorCode::CONSUMER_NOT_FOUND =>
            {
                Ok(None)
            }
            ConsumerInfoErrorKind::JetStream(server) => Err(refused("ask for the consumer", stream, &server)),
            _ => Err(unavailable("ask for the consumer", stream, &error)),
        },
    }
}

/// Opens `durable` at `start_sequence`; a consumer of that name is removed first.
pub(super) async fn open(
    bus: &JetStream,
    stream: &str,
    durable: &str,
    start_sequence: u64,
    ack_wait: Duration,
) -> Result<NatsSubscription, BusError> {
    let token = bus.breaks.token();
    let handle = streams::get(&bus.context, stream).await?;
    if let Err(error) = handle.delete_consumer(durable).await {
        match error.kind() {
            ConsumerErrorKind::JetStream(server) if server.error_code() == ErrorCode::CONSUMER_NOT_FOUND => {}
            ConsumerErrorKind::JetStream(server) => {
                return Err(refused("remove the consumer", stream, &server));
            }
            _ => return Err(unavailable("remove the consumer", stream, &error)),
        }
    }
    let config = pull::Config {
        durable_name: Some(durable.to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start_sequence.max(1) },
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        replay_policy: ReplayPolicy::Instant,
        ..pull::Config::default()
    };
    let made = handle.create_consumer(config).await;
    let consumer: PullConsumer = made.map_err(|error| match error.kind() {
        ConsumerErrorKind::JetStream(server) => refused("make the consumer", stream, &server),
        _ => unavailable("make the consumer", stream, &error),
    })?;
    let opened = consumer
        .stream()
        .max_messages_per_batch(PULL_MESSAGES)
        .expires(PULL_EXPIRES)
        .heartbeat(HEARTBEAT)
        .messages()
        .await;
    let messages = opened.map_err(|error| unavailable("read the consumer", stream, &error))?;
    let acker = Arc::new(NatsAcker {
        client: bus.client.clone(),
        breaks: bus.breaks.clone(),
        stream: stream.to_owned(),
        durable: durable.to_owned(),
        acked_upto: AtomicU64::new(0),
        gone: AtomicBool::new(false),
    });
    let handed_upto = start_sequence.max(1) - 1;
    Ok(NatsSubscription {
        messages,
        acker,
        handed_upto,
        deliveries: 0,
        subject: Arc::from(""),
        failure: None,
        token,
    })
}

/// An open consumer.
pub(super) struct NatsSubscription {
    messages: pull::Stream,
    acker: Arc<NatsAcker>,
    /// Last stream sequence handed out.
    handed_upto: u64,
    /// The consumer's own count of deliveries so far, redeliveries included.
    deliveries: u64,
    /// Subject of the last delivery, shared by those that follow.
    subject: Arc<str>,
    /// Met behind good deliveries, which were handed out first.
    failure: Option<BusError>,
    /// Of the connection over which the consumer was opened.
    token: Token,
}

/// What a message of the server is.
pub(super) enum Admitted {
    New(Delivery),
    /// Handed out before.
    Again(AckHandle),
}

impl NatsSubscription {
    pub(super) fn admit(&mut self, message: Message) -> Result<Admitted, BusError> {
        let info = message.info().map_err(|error| self.acker.lost(&error))?;
        let (sequence, delivery) = (info.stream_sequence, info.consumer_sequence);
        let is_first = info.delivered <= 1;
        let stored_ms = (info.published.unix_timestamp_nanos() / 1_000_000) as i64;
        if delivery != self.deliveries + 1 {
            return Err(BusError::DeliveriesLost {
                stream: self.acker.stream.clone(),
                sequence: self.handed_upto,
            });
        }
        self.deliveries = delivery;
        let message = message.message;
        let reply = message.reply.as_deref().map(Box::from).unwrap_or_default();
        let ack = AckHandle { sequence, reply };
        if sequence <= self.handed_upto {
            // Only what was delivered before can come again: anything else is new, at a place that was read already.
            if is_first {
                let (stream, read_upto) = (self.acker.stream.clone(), self.handed_upto);
                return Err(BusError::StreamRewound { stream, sequence, read_upto });
            }
            return Ok(Admitted::Again(ack));
        }
        self.handed_upto = sequence;
        if *self.subject != *message.subject {
            self.subject = Arc::from(message.subject.as_str());
        }
        let subject = Arc::clone(&self.subject);
        Ok(Admitted::New(Delivery { sequence, subject, payload: message.payload, stored_ms, ack }))
    }

    /// The delivery of an item of the client's stream, if it is a new one.
    async fn take(
        &mut self,
        item: Option<Result<Message, MessagesError>>,
    ) -> Result<Option<Delivery>, BusError> {
        let message = match item {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(self.acker.end(&error)),
            None => return Err(self.acker.end(&"the connection closed it")),
        };
        match self.admit(message)? {
            Admitted::New(delivery) => Ok(Some(delivery)),
            Admitted::Again(ack) => {
                self.acker.repeat(&ack).await?;
                Ok(None)
            }
        }
    }

    async fn batch(&mut self, max_messages: usize, max_wait: Duration) -> Result<Vec<Delivery>, BusError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let deadline = tokio::time::Instant::now() + max_wait;
        let mut batch = Vec::new();
        while batch.is_empty() {
            tokio::select! {
                biased;
                // What was in flight may be lost; opening again is quicker than finding out.
                () = self.token.broken() => return Err(self.acker.lost(&"the connection broke")),
                item = self.messages.next() => batch.extend(self.take(item).await?),
                () = tokio::time::sleep_until(deadline) => return Ok(batch),
            }
        }
        while batch.len() < max_messages {
            // Without the scheduler's budget, which would end every batch at 128 messages.
            let ready = tokio::task::unconstrained(self.messages.next()).now_or_never();
            let Some(item) = ready else { break };
            match self.take(item).await {
                Ok(delivery) => batch.extend(delivery),
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            }
        }
        Ok(batch)
    }
}

impl Subscription for NatsSubscription {
    fn next_batch(
        &mut self,
        max_messages: usize,
        max_wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Delivery>, BusError>> {
        self.batch(max_messages, max_wait).boxed()
    }

    fn acker(&self) -> Arc<dyn Acker> {
        Arc::clone(&self.acker) as Arc<dyn Acker>
    }
}

/// Acknowledges for one subscription.
struct NatsAcker {
    client: Client,
    breaks: Breaks,
    stream: String,
    durable: String,
    /// Highest sequence acknowledged; batches are acknowledged in stream order.
    acked_upto: AtomicU64,
    /// The subscription found its consumer gone. Acknowledgements would reach whatever has its name now.
    gone: AtomicBool,
}

impl NatsAcker {
    fn lost(&self, reason: &dyn std::fmt::Display) -> BusError {
        let (stream, durable) = (self.stream.clone(), self.durable.clone());
        BusError::ConsumerLost { stream, durable, reason: reason.to_string() }
    }

    fn end(&self, reason: &dyn std::fmt::Display) -> BusError {
        self.gone.store(true, Ordering::Release);
        self.lost(reason)
    }

    /// Acknowledges a redelivery whose acknowledgement must have been lost; one that is still to come is not touched.
    async fn repeat(&self, ack: &AckHandle) -> Result<(), BusError> {
        if ack.sequence > self.acked_upto.load(Ordering::Acquire) {
            return Ok(());
        }
        self.plain(ack).await
    }

    async fn plain(&self, ack: &AckHandle) -> Result<(), BusError> {
        let sent = self.client.publish(Subject::from(&*ack.reply), ACK).await;
        sent.map_err(|error| self.unconfirmed(ack, &error))
    }

    fn unconfirmed(&self, ack: &AckHandle, reason: &dyn std::fmt::Display) -> BusError {
        let (stream, sequence) = (self.stream.clone(), ack.sequence);
        BusError::NotAcknowledged { stream, sequence, reason: reason.to_string() }
    }
}

impl Acker for NatsAcker {
    fn ack<'a>(&'a self, batch: &'a [AckHandle]) -> BoxFuture<'a, Result<(), BusError>> {
        async move {
            let Some((last, before)) = batch.split_last() else { return Ok(()) };
            if self.gone.load(Ordering::Acquire) {
                return Err(self.lost(&"its subscription ended"));
            }
            for ack in before {
                self.plain(ack).await?;
            }
            let confirmed = async {
                let answer = self.client.request(Subject::from(&*last.reply), ACK).await;
                answer.map_err(|error| match error.kind() {
                    RequestErrorKind::NoResponders => self.lost(&"nothing processes its acknowledgements"),
                    _ => self.unconfirmed(last, &error),
                })
            };
            self.breaks.guard("acknowledge", &self.stream, confirmed).await?;
            self.acked_upto.fetch_max(last.sequence, Ordering::AcqRel);
            Ok(())
        }
        .boxed()
    }
}
