//! Reading a local stream as a consumer.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::reading::{Cursor, off_runtime};
use super::state::{State, Tick};
use super::stream::LocalStream;
use crate::{AckHandle, Acker, BusError, Delivery, Subscription};

/// Payload bytes handed out at once, after which a batch ends early.
const BATCH_BYTES: usize = 8 << 20;

/// An open consumer of a local stream.
pub(super) struct LocalSubscription {
    holder: Arc<Holder>,
    ticks: watch::Receiver<Tick>,
    cursor: Cursor,
    next_sequence: u64,
}

/// Who holds the consumer; of what was delivered, only the end of what is acknowledged is kept.
struct Holder {
    state: Arc<State>,
    durable: String,
    token: u64,
}

impl Holder {
    fn check(&self) -> Result<(), BusError> {
        self.state.check_consumer(&self.durable, self.token)
    }
}

impl Acker for Holder {
    fn ack<'a>(&'a self, batch: &'a [AckHandle]) -> BoxFuture<'a, Result<(), BusError>> {
        async move {
            let Some(last) = batch.last() else { return Ok(()) };
            let (state, durable) = (Arc::clone(&self.state), self.durable.clone());
            let (token, upto) = (self.token, last.sequence());
            off_runtime(move || state.acknowledge(&durable, token, upto)).await
        }
        .boxed()
    }
}

impl LocalSubscription {
    /// Opens the consumer. Blocks on files.
    pub(super) fn open(stream: &LocalStream, durable: &str, start_sequence: u64) -> Result<Self, BusError> {
        let (state, next_sequence) = (stream.state(), start_sequence.max(1));
        let token = state.take_consumer(durable, next_sequence - 1)?;
        let ticks = state.ticks.subscribe();
        let holder = Arc::new(Holder { state, durable: durable.to_owned(), token });
        Ok(Self { holder, ticks, cursor: Cursor::default(), next_sequence })
    }

    async fn read(&mut self, max_messages: usize) -> Result<Vec<Delivery>, BusError> {
        let (state, mut cursor) = (Arc::clone(&self.holder.state), std::mem::take(&mut self.cursor));
        let from = self.next_sequence;
        let (cursor, deliveries) = off_runtime(move || {
            let mut deliveries: Vec<Delivery> = Vec::new();
            let mut bytes = 0;
            cursor.read(&state, from, &mut |record, file| {
                let sequence = record.sequence;
                let subject = match deliveries.last() {
                    Some(previous) if *previous.subject == *record.subject => Arc::clone(&previous.subject),
                    _ => Arc::from(record.subject),
                };
                let payload = file.slice_ref(record.payload);
                bytes += payload.len();
                let ack = AckHandle { sequence, reply: Box::default() };
                let stored_ms = record.stored_ms;
                deliveries.push(Delivery { sequence, subject, payload, stored_ms, ack });
                deliveries.len() < max_messages && bytes < BATCH_BYTES
            })?;
            Ok((cursor, deliveries))
        })
        .await?;
        self.cursor = cursor;
        if let Some(last) = deliveries.last() {
            self.next_sequence = last.sequence + 1;
        }
        Ok(deliveries)
    }

    /// Waits until the stream has more than was read.
    async fn more(&mut self) -> Result<(), BusError> {
        loop {
            self.holder.check()?;
            if self.ticks.borrow_and_update().last_sequence >= self.next_sequence {
                return Ok(());
            }
            // The sender lives in the state that `holder` keeps.
            if self.ticks.changed().await.is_err() {
                return self.holder.check();
            }
        }
    }
}

impl Subscription for LocalSubscription {
    fn next_batch(
        &mut self,
        max_messages: usize,
        max_wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Delivery>, BusError>> {
        async move {
            match tokio::time::timeout(max_wait, self.more()).await {
                Ok(ready) => ready?,
                Err(_) => return Ok(Vec::new()),
            }
            self.read(max_messages.max(1)).await
        }
        .boxed()
    }

    fn acker(&self) -> Arc<dyn Acker> {
        Arc::clone(&self.holder) as Arc<dyn Acker>
    }
}
