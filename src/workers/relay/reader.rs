//! Reads events out of the store, signs them by batches, and makes messages of them: on a thread of its own.

use super::RelayError;
use super::pace::Pace;
use super::resume::{PerStream, Plan, stream_number};
use crate::clock::Clock;
use crate::events::signature::SignedBatch;
use crate::events::signing_key::SigningKey;
use crate::events::{Event, EventId, PARTITION_KEY_HEADER};
use crate::outbox::{Outbox, behind};
use cdr_bus::Outgoing;
use cdr_core::Millis;
use cdr_core::command::OutboxPlace;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// Pause before the outbox is read again when there was nothing new.
const POLL: Duration = Duration::from_millis(10);

/// An event as a message, to be stored behind the one before it in its stream.
pub(super) struct Ready {
    pub(super) id: EventId,
    pub(super) stream: usize,
    pub(super) at: Millis,
    pub(super) message: Outgoing,
}

/// Signed events, and the place behind everything that was read for them.
pub(super) struct Chunk {
    pub(super) events: Vec<Ready>,
    pub(super) end: OutboxPlace,
}

/// An event that waits for its batch to be full.
struct Waiting {
    id: EventId,
    stream: usize,
    at: Millis,
    subject: &'static str,
    partition_key: String,
    payload: Vec<u8>,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

/// Reads from a plan's start on, for as long as its output is consumed.
pub(super) struct Reader {
    pub(super) outbox: Outbox,
    pub(super) plan: Plan,
    /// Id of the last message of each stream, as the next one must follow it.
    pub(super) chain: PerStream<Option<String>>,
    pub(super) key: Arc<SigningKey>,
    pub(super) cluster_id: String,
    pub(super) clock: Clock,
    pub(super) batch: usize,
    pub(super) pace: Pace,
    pub(super) out: Sender<Chunk>,
    pub(super) _running: Arc<()>,
}

impl Reader {
    /// Reads until nobody takes events any more. Blocks.
    pub(super) fn run(mut self) -> Result<(), RelayError> {
        let mut place = self.plan.start;
        let mut waiting = Vec::with_capacity(self.batch);
        loop {
            let mut stopped = None;
            let outbox = self.outbox.clone();
            let next =
                outbox.read(place, &|_| true, &mut |event, at| match self.take(event, at, &mut waiting) {
                    Ok(true) => ControlFlow::Continue(()),
                    outcome => {
                        stopped = Some(outcome.map(|_| ()));
                        ControlFlow::Break(())
                    }
                });
            if let Some(outcome) = stopped {
                return outcome;
            }
            let next = next?;
            if next == place {
                if self.out.is_closed() {
                    return Ok(());
                }
                self.pace.rested();
                std::thread::sleep(POLL);
            } else if !self.hand_over(&mut waiting, next)? {
                return Ok(());
            }
            place = next;
        }
    }

    /// Adds an event to the batch, and passes a full one on; false if nobody takes it.
    fn take(&mut self, event: Event<'_>, at: Millis, waiting: &mut Vec<Waiting>) -> Result<bool, RelayError> {
        let stream = stream_number(event.subject).ok_or(RelayError::NoStream { subject: event.subject })?;
        if !self.plan.lacks(stream, event.event_id) {
            return Ok(true);
        }
        let id = event.event_id;
        waiting.push(Waiting {
            id,
            stream,
            at,
            subject: event.subject,
            partition_key: event.partition_key.to_owned(),
            payload: event.payload,
        });
        if waiting.len() < self.batch { Ok(true) } else { self.hand_over(waiting, behind(id)) }
    }

    fn hand_over(&mut self, waiting: &mut Vec<Waiting>, end: OutboxPlace) -> Result<bool, RelayError> {
        let mut events = Vec::with_capacity(waiting.len());
        if !waiting.is_empty() {
            let signed = SignedBatch::sign(waiting, &self.key, &self.cluster_id, self.clock.now())?;
            for (position, event) in waiting.drain(..).enumerate() {
                let mut headers = signed.headers(position);
                // An event of no operator has no key.
                if !event.partition_key.is_empty() {
                    headers.push((PARTITION_KEY_HEADER.to_owned(), event.partition_key));
                }
                let message_id = event.id.to_string();
                let behind_id = self.chain[event.stream].replace(message_id.clone());
                let message = Outgoing {
                    subject: event.subject.to_owned(),
                    headers,
                    payload: event.payload.into(),
                    message_id: Some(message_id),
                    behind_id,
                };
                events.push(Ready { id: event.id, stream: event.stream, at: event.at, message });
            }
        }
        let count = events.len();
        let taken = self.out.blocking_send(Chunk { events, end }).is_ok();
        self.pace.give_way(count);
        Ok(taken)
    }
}
