//! A durable pull consumer as a work queue.
//!
//! Messages are requested as they are needed. A request that was not used up stays open for the next call, so that
//! nothing that was sent for it has to wait for its redelivery.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::{self, Batch};
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, PullConsumer, ReplayPolicy};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::ConsumerErrorKind;
use async_nats::jetstream::{AckKind, Message};
use async_nats::{Client, RequestErrorKind, Subject};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::breaks::{Breaks, Token};
use super::{JetStream, refused, streams, unavailable};
use crate::{AckHandle, BusError, Delivery, MAX_RETRY_DELAY, MAX_WORK_PENDING, WorkQueue};

/// A request that the server has not ended by then is given up. A consumer that is gone answers nothing at all.
const GRACE: Duration = Duration::from_secs(1);

/// Attaches to `durable`, which is made if it is missing; an empty filter takes all messages.
pub(super) async fn attach(
    bus: &JetStream,
    stream: &str,
    durable: &str,
    filter_subject: &str,
    ack_wait: Duration,
) -> Result<NatsQueue, BusError> {
    let token = bus.breaks.token();
    let handle = streams::get(&bus.context, stream).await?;
    let config = pull::Config {
        durable_name: Some(durable.to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        max_deliver: -1,
        max_ack_pending: MAX_WORK_PENDING as i64,
        filter_subject: filter_subject.to_owned(),
        replay_policy: ReplayPolicy::Instant,
        ..pull::Config::default()
    };
    match handle.consumer_info(durable).await {
        Ok(info) => {
            if let Some(reason) = incompatibility(&info.config, filter_subject) {
                let (stream, durable) = (stream.to_owned(), durable.to_owned());
                return Err(BusError::IncompatibleConsumer { stream, durable, reason });
            }
        }
        Err(error) => match error.kind() {
            ConsumerInfoErrorKind::NotFound => {}
            ConsumerInfoErrorKind::JetStream(server) => {
                return Err(refused("consumer info", stream, &server));
            }
            _ => return Err(unavailable("consumer info", stream, &error)),
        },
    }
    // An existing consumer keeps its place; its times and limits become those configured here.
    let made = handle.create_consumer(config).await;
    let consumer: PullConsumer = made.map_err(|error| match error.kind() {
        ConsumerErrorKind::JetStream(server) => refused("make the consumer", stream, &server),
        _ => unavailable("make the consumer", stream, &error),
    })?;
    Ok(NatsQueue {
        consumer,
        client: bus.client.clone(),
        breaks: bus.breaks.clone(),
        stream: stream.to_owned(),
        durable: durable.to_owned(),
        request: None,
        token,
        failure: None,
    })
}

/// How an existing consumer differs in what can't be changed without losing its place or its meaning.
fn incompatibility(config: &consumer::Config, filter_subject: &str) -> Option<String> {
    if config.deliver_subject.is_some() {
        return Some("messages are pushed to it".to_owned());
    }
    if config.ack_policy != AckPolicy::Explicit {
        return Some("it does not acknowledge one by one".to_owned());
    }
    if config.deliver_policy != DeliverPolicy::All {
        return Some("it does not begin at the stream's beginning".to_owned());
    }
    if config.max_deliver > 0 {
        return Some(format!("it gives up after {} deliveries", config.max_deliver));
    }
    if config.filter_subject != filter_subject {
        return Some(format!("its subject is {:?}, not {filter_subject:?}", config.filter_subject));
    }
    None
}

/// A request for messages that the server still answers.
struct Request {
    messages: Batch,
    ends: Instant,
}

/// An attached work queue.
pub(super) struct NatsQueue {
    consumer: PullConsumer,
    client: Client,
    breaks: Breaks,
    stream: String,
    durable: String,
    request: Option<Request>,
    /// Of the connection over which it was attached.
    token: Token,
    /// Met behind good deliveries, which were handed out first.
    failure: Option<BusError>,
}

impl NatsQueue {
    fn lost(&self, reason: &dyn std::fmt::Display) -> BusError {
        let (stream, durable) = (self.stream.clone(), self.durable.clone());
        BusError::ConsumerLost { stream, durable, reason: reason.to_string() }
    }

    async fn ask(&self, max_messages: usize, deadline: Instant) -> Result<Request, BusError> {
        // The server takes no request without any time.
        let expires = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(10));
        let asked = self.consumer.batch().max_messages(max_messages).expires(expires).messages().await;
        let messages = asked.map_err(|error| self.lost(&error))?;
        Ok(Request { messages, ends: Instant::now() + expires })
    }

    /// Fails unless the consumer is still there.
    async fn check(&self) -> Result<(), BusError> {
        self.consumer.get_info().await.map(drop).map_err(|error| self.lost(&error))
    }

    async fn batch(&mut self, max_messages: usize, max_wait: Duration) -> Result<Vec<Delivery>, BusError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let deadline = Instant::now() + max_wait;
        let mut batch = Vec::new();
        loop {
            let request = match self.request.take() {
                Some(request) => request,
                None => self.ask(max_messages, deadline).await?,
            };
            let request = self.request.insert(request);
            let given_up = request.ends + GRACE;
            let item = tokio::select! {
                biased;
                item = request.messages.next() => item,
                () = self.token.broken() => {
                    self.request = None;
                    return Err(self.lost(&"the connection broke"));
                }
                () = tokio::time::sleep_until(deadline.min(given_up)) => {
                    if deadline <= given_up {
                        return Ok(batch);
                    }
                    self.request = None;
                    self.check().await?;
                    continue;
                }
            };
            match item {
                Some(item) => batch.push(self.delivery(item)?),
                None => self.request = None,
            }
            if !batch.is_empty() {
                self.take_ready(max_messages, &mut batch);
                return Ok(batch);
            }
            if Instant::now() >= deadline {
                return Ok(batch);
            }
        }
    }

    /// Adds what has arrived already.
    fn take_ready(&mut self, max_messages: usize, batch: &mut Vec<Delivery>) {
        while batch.len() < max_messages {
            let Some(request) = &mut self.request else { return };
            match tokio::task::unconstrained(request.messages.next()).now_or_never() {
                Some(Some(item)) => match self.delivery(item) {
                    Ok(delivery) => batch.push(delivery),
                    Err(failure) => {
                        self.failure = Some(failure);
                        return;
                    }
                },
                Some(None) => self.request = None,
                None => return,
            }
        }
    }

    fn delivery(&self, item: Result<Message, async_nats::Error>) -> Result<Delivery, BusError> {
        let message = item.map_err(|error| self.lost(&error))?;
        let info = message.info().map_err(|error| self.lost(&error))?;
        let sequence = info.stream_sequence;
        let stored_ms = (info.published.unix_timestamp_nanos() / 1_000_000) as i64;
        let message = message.message;
        let reply = message.reply.as_deref().map(Box::from).unwrap_or_default();
        let ack = AckHandle { sequence, reply };
        Ok(Delivery {
            sequence,
            subject: Arc::from(&*message.subject),
            payload: message.payload,
            stored_ms,
            ack,
        })
    }

    /// Reports what is to become of a delivery, and waits until the server has confirmed it.
    async fn tell(&self, delivery: &Delivery, what: AckKind) -> Result<(), BusError> {
        let told = async {
            let answer = self.client.request(Subject::from(&*delivery.ack.reply), Bytes::from(what)).await;
            answer.map_err(|error| {
                if error.kind() == RequestErrorKind::NoResponders {
                    return self.lost(&"nothing processes its acknowledgements");
                }
                let (stream, sequence) = (self.stream.clone(), delivery.sequence);
                BusError::NotAcknowledged { stream, sequence, reason: error.to_string() }
            })
        };
        self.breaks.guard("acknowledge", &self.stream, told).await.map(drop)
    }
}

impl WorkQueue for NatsQueue {
    fn next_batch(
        &mut self,
        max_messages: usize,
        max_wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Delivery>, BusError>> {
        self.batch(max_messages.max(1), max_wait).boxed()
    }

    fn ack<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Result<(), BusError>> {
        self.tell(delivery, AckKind::Ack).boxed()
    }

    fn retry_later<'a>(
        &'a self,
        delivery: &'a Delivery,
        delay: Duration,
    ) -> BoxFuture<'a, Result<(), BusError>> {
        self.tell(delivery, AckKind::Nak(Some(delay.min(MAX_RETRY_DELAY)))).boxed()
    }
}
