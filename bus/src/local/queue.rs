//! A work queue over a local stream, shared by all who attach to it in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::acks::{Acks, other_filter};
use super::reading::{Cursor, off_runtime};
use super::segment::Record;
use super::state::{State, Tick};
use crate::subject::covers;
use crate::{AckHandle, BusError, Delivery, MAX_RETRY_DELAY, MAX_WORK_PENDING, WorkQueue};

/// Payload bytes handed out at once, after which a batch ends early.
const BATCH_BYTES: usize = 8 << 20;

/// What the holders of a queue share.
pub(super) struct Queue {
    state: Arc<State>,
    durable: String,
    work: Mutex<Work>,
    /// Acknowledged and not yet written: the next writer takes them all.
    acked: Mutex<Vec<u64>>,
    /// Counts what may make a delivery due before its time.
    changes: watch::Sender<u64>,
}

struct Work {
    acks: Acks,
    /// Delivered and not acknowledged, with the time at which each is delivered again.
    pending: BTreeMap<u64, Instant>,
    /// First sequence that was never delivered.
    next_sequence: u64,
    fresh: Cursor,
    again: Cursor,
}

/// What a look at the queue gave.
struct Look {
    batch: Vec<Delivery>,
    /// When the next pending delivery is due.
    due: Option<Instant>,
}

impl Queue {
    /// Opens the queue where its acknowledgements left off. Blocks on files.
    pub(super) fn open(state: Arc<State>, durable: &str, filter: &str) -> Result<Self, BusError> {
        let acks = Acks::open(&state, durable, filter)?;
        let work = Work {
            next_sequence: acks.floor() + 1,
            acks,
            pending: BTreeMap::new(),
            fresh: Cursor::default(),
            again: Cursor::default(),
        };
        Ok(Self {
            state,
            durable: durable.to_owned(),
            work: Mutex::new(work),
            acked: Mutex::default(),
            changes: watch::Sender::new(0),
        })
    }

    /// Fails if the queue is over other messages.
    pub(super) fn check_filter(&self, filter: &str) -> Result<(), BusError> {
        let work = self.work();
        if work.acks.filter() == filter {
            return Ok(());
        }
        Err(other_filter(&self.state, &self.durable, work.acks.filter(), filter))
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acked(&self) -> MutexGuard<'_, Vec<u64>> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_stream(&self) -> Result<(), BusError> {
        if !self.state.ticks.borrow().deleted {
            return Ok(());
        }
        let (stream, durable) = (self.state.name.clone(), self.durable.clone());
        Err(BusError::ConsumerLost { stream, durable, reason: "the stream was deleted".to_owned() })
    }

    fn look(&self, max_messages: usize, ack_wait: Duration) -> Result<Look, BusError> {
        let mut work = self.work();
        let mut batch = work.take_due(&self.state, max_messages)?;
        let room = MAX_WORK_PENDING.saturating_sub(work.pending.len()).min(max_messages - batch.len());
        work.take_fresh(&self.state, room, &mut batch)?;
        let due = Instant::now() + ack_wait;
        work.pending.extend(batch.iter().map(|delivery| (delivery.sequence, due)));
        work.settle();
        Ok(Look { batch, due: work.pending.values().min().copied() })
    }

    /// Writes what was acknowledged, by this caller and by others that came meanwhile, with one sync.
    fn write_acked(&self) -> Result<(), BusError> {
        let mut work = self.work();
        let acked = std::mem::take(&mut *self.acked());
        work.acks.add(&acked)?;
        for sequence in acked {
            work.pending.remove(&sequence);
        }
        work.settle();
        drop(work);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    fn put_off(&self, sequence: u64, delay: Duration) {
        if let Some(due) = self.work().pending.get_mut(&sequence) {
            *due = Instant::now() + delay.min(MAX_RETRY_DELAY);
        }
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Work {
    /// Pending deliveries whose time has come, in stream order. What the stream no longer holds is done with.
    fn take_due(&mut self, state: &State, max_messages: usize) -> Result<Vec<Delivery>, BusError> {
        let now = Instant::now();
        let due = self.pending.iter().filter(|(_, at)| **at <= now).map(|(sequence, _)| *sequence);
        let mut wanted: BTreeSet<u64> = due.take(max_messages).collect();
        let (Some(first), Some(&last)) = (wanted.first().copied(), wanted.last()) else {
            return Ok(Vec::new());
        };
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut seen_upto = u64::MAX;
        self.again.read(state, first, &mut |record, file| {
            if wanted.remove(&record.sequence) {
                bytes += record.payload.len();
                batch.push(delivery(record, file));
            }
            let more = record.sequence < last && bytes < BATCH_BYTES;
            seen_upto = if more { u64::MAX } else { record.sequence };
            more
        })?;
        for gone in wanted.into_iter().filter(|sequence| *sequence <= seen_upto) {
            self.pending.remove(&gone);
        }
        Ok(batch)
    }

    /// Messages that were never delivered.
    fn take_fresh(
        &mut self,
        state: &State,
        max_messages: usize,
        batch: &mut Vec<Delivery>,
    ) -> Result<(), BusError> {
        if max_messages == 0 {
            return Ok(());
        }
        let (acks, next) = (&self.acks, &mut self.next_sequence);
        let (mut left, mut bytes) = (max_messages, 0);
        self.fresh.read(state, *next, &mut |record, file| {
            *next = record.sequence + 1;
            let wanted = acks.filter().is_empty() || covers(acks.filter(), record.subject);
            if wanted && !acks.is_done(record.sequence) {
                left -= 1;
                bytes += record.payload.len();
                batch.push(delivery(record, file));
            }
            left > 0 && bytes < BATCH_BYTES
        })
    }

    /// Everything before the oldest pending delivery is done with.
    fn settle(&mut self) {
        let next = self.pending.first_key_value().map_or(self.next_sequence, |(sequence, _)| *sequence);
        self.acks.raise_floor(next - 1);
    }
}

fn delivery(record: &Record<'_>, file: &Bytes) -> Delivery {
    let (sequence, stored_ms) = (record.sequence, record.stored_ms);
    let ack = AckHandle { sequence, reply: Box::default() };
    let (subject, payload) = (Arc::from(record.subject), file.slice_ref(record.payload));
    Delivery { sequence, subject, payload, stored_ms, ack }
}

/// One holder of a queue.
pub(super) struct LocalQueue {
    queue: Arc<Queue>,
    ack_wait: Duration,
    ticks: watch::Receiver<Tick>,
    changes: watch::Receiver<u64>,
}

impl LocalQueue {
    pub(super) fn new(queue: Arc<Queue>, ack_wait: Duration) -> Self {
        let (ticks, changes) = (queue.state.ticks.subscribe(), queue.changes.subscribe());
        Self { queue, ack_wait, ticks, changes }
    }

    async fn batch(&mut self, max_messages: usize, max_wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let deadline = Instant::now() + max_wait;
        loop {
            self.queue.check_stream()?;
            self.ticks.mark_unchanged();
            self.changes.mark_unchanged();
            let (queue, ack_wait) = (Arc::clone(&self.queue), self.ack_wait);
            let look = off_runtime(move || queue.look(max_messages, ack_wait)).await?;
            if !look.batch.is_empty() || Instant::now() >= deadline {
                return Ok(look.batch);
            }
            // The senders live in what `queue` keeps.
            tokio::select! {
                _ = self.ticks.changed() => {}
                _ = self.changes.changed() => {}
                () = tokio::time::sleep_until(look.due.map_or(deadline, |due| due.min(deadline))) => {}
            }
        }
    }
}

impl WorkQueue for LocalQueue {
    fn next_batch(
        &mut self,
        max_messages: usize,
        max_wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Delivery>, BusError>> {
        self.batch(max_messages.max(1), max_wait).boxed()
    }

    fn ack<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Result<(), BusError>> {
        async move {
            self.queue.check_stream()?;
            self.queue.acked().push(delivery.sequence);
            let queue = Arc::clone(&self.queue);
            off_runtime(move || queue.write_acked()).await
        }
        .boxed()
    }

    fn retry_later<'a>(
        &'a self,
        delivery: &'a Delivery,
        delay: Duration,
    ) -> BoxFuture<'a, Result<(), BusError>> {
        async move {
            self.queue.check_stream()?;
            let (queue, sequence) = (Arc::clone(&self.queue), delivery.sequence);
            off_runtime(move || {
                queue.put_off(sequence, delay);
                Ok(())
            })
            .await
        }
        .boxed()
    }
}
