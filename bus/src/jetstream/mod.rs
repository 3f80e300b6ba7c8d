//! NATS JetStream behind the [`Bus`] trait. The only module that names the NATS client.

mod breaks;
mod options;
mod publishing;
mod queue;
mod streams;
mod subscription;

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, Context};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::subject::{check_filter, check_message, check_name, check_subject};
use super::{
    Bus, BusError, Outgoing, PublishAck, StoredMessage, StreamInfo, StreamSpec, Subscription, WorkQueue,
};

use breaks::Breaks;

pub use options::{NatsAuth, NatsOptions, NatsTls};

/// Publishes that may wait for their acknowledgement over all users of a connection.
const MAX_UNACKNOWLEDGED: usize = 16_384;

/// A connection to NATS with JetStream. It reconnects by itself; calls meanwhile fail with a transient error.
#[derive(Clone)]
pub struct JetStream {
    client: Client,
    context: Context,
    breaks: Breaks,
}

impl JetStream {
    /// Connects; fails if no server answers within [`NatsOptions::connect_timeout`].
    pub async fn connect(options: NatsOptions) -> Result<Self, BusError> {
        let breaks = Breaks::new();
        let client = options.connect(breaks.clone()).await?;
        let context = jetstream::context::ContextBuilder::new()
            .timeout(options.request_timeout)
            .max_ack_inflight(MAX_UNACKNOWLEDGED)
            .build(client.clone());
        Ok(Self { client, context, breaks })
    }

    /// Removes a stream and all that it holds.
    pub async fn delete_stream(&self, stream: &str) -> Result<(), BusError> {
        streams::delete(&self.context, stream).await
    }

    /// Removes one message, which leaves a gap in the stream's sequences.
    pub async fn delete_message(&self, stream: &str, sequence: u64) -> Result<(), BusError> {
        streams::delete_message(&self.context, stream, sequence).await
    }
}

impl Bus for JetStream {
    fn stream_info<'a>(&'a self, stream: &'a str) -> BoxFuture<'a, Result<StreamInfo, BusError>> {
        self.breaks.guard("stream info", stream, streams::info(&self.context, stream)).boxed()
    }

    fn stream_of<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Option<String>, BusError>> {
        async move {
            check_subject(subject)?;
            self.breaks.guard("stream of", subject, streams::holder(&self.context, subject)).await
        }
        .boxed()
    }

    fn message<'a>(
        &'a self,
        stream: &'a str,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Option<StoredMessage>, BusError>> {
        self.breaks.guard("message", stream, streams::message(&self.context, stream, sequence)).boxed()
    }

    fn acknowledged_upto<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>> {
        async move {
            check_name(durable)?;
            let asked = subscription::acknowledged_upto(self, stream, durable);
            self.breaks.guard("acknowledgement floor", stream, asked).await
        }
        .boxed()
    }

    fn open<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
        start_sequence: u64,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>, BusError>> {
        async move {
            check_name(durable)?;
            let opened = subscription::open(self, stream, durable, start_sequence, subscription::ACK_WAIT);
            let subscription = self.breaks.guard("open", stream, opened).await?;
            Ok(Box::new(subscription) as Box<dyn Subscription>)
        }
        .boxed()
    }

    fn attach<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
        filter_subject: Option<&'a str>,
        ack_wait: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn WorkQueue>, BusError>> {
        async move {
            check_name(durable)?;
            filter_subject.map_or(Ok(()), check_filter)?;
            let attached = queue::attach(self, stream, durable, filter_subject.unwrap_or_default(), ack_wait);
            let queue = self.breaks.guard("attach", stream, attached).await?;
            Ok(Box::new(queue) as Box<dyn WorkQueue>)
        }
        .boxed()
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<PublishAck, BusError>> {
        async move { publishing::send(self, message).await?.acknowledged().await }.boxed()
    }

    fn publish_many<'a>(
        &'a self,
        messages: BoxStream<'a, Outgoing>,
        in_flight: usize,
    ) -> BoxStream<'a, Result<PublishAck, BusError>> {
        messages
            .then(|message| publishing::send(self, message))
            .map(|sent| async move { sent?.acknowledged().await })
            .buffered(in_flight.max(1))
            .boxed()
    }

    fn max_payload_bytes(&self) -> usize {
        self.client.max_payload()
    }

    fn ensure_stream<'a>(&'a self, spec: &'a StreamSpec) -> BoxFuture<'a, Result<(), BusError>> {
        async move {
            check_name(&spec.name)?;
            self.breaks.guard("ensure stream", &spec.name, streams::ensure(&self.context, spec)).await
        }
        .boxed()
    }
}

/// An error for a call that JetStream did not answer with success.
fn refused(operation: &'static str, stream: &str, error: &jetstream::Error) -> BusError {
    if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND {
        return BusError::StreamNotFound { stream: stream.to_owned() };
    }
    if error.code() >= 500 {
        return unavailable(operation, stream, error);
    }
    BusError::IncompatibleStream { stream: stream.to_owned(), reason: error.to_string() }
}

fn unavailable(operation: &'static str, target: &str, reason: &dyn std::fmt::Display) -> BusError {
    BusError::Unavailable { operation, target: target.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
