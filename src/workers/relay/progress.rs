//! What is on its way to the bus, and up to where everything has arrived.

use super::reader::{Chunk, Ready};
use super::resume::PerStream;
use crate::clock::Clock;
use crate::events::EventId;
use crate::events::streams::STREAMS;
use crate::metrics::Metrics;
use crate::outbox::behind;
use cdr_bus::{BusError, Outgoing, PublishAck};
use cdr_core::Millis;
use cdr_core::command::OutboxPlace;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// What one term of publishing knows; shared by the sender and the reader of confirmations.
pub(super) struct Progress {
    /// Place behind the last event before which everything is stored.
    pub(super) reached: watch::Sender<OutboxPlace>,
    /// Last confirmed event of each stream.
    pub(super) confirmed: PerStream<Option<EventId>>,
    /// Streams that no longer know their last id.
    pub(super) unchained: PerStream<bool>,
    /// Streams that confirmed an event since the last [`Progress::restart`].
    heard: PerStream<bool>,
    on_the_way: VecDeque<Step>,
    place: OutboxPlace,
    metrics: Arc<Metrics>,
    clock: Clock,
}

enum Step {
    Sent { id: EventId, stream: usize, at: Millis },
    Passed(OutboxPlace),
}

impl Progress {
    pub(super) fn new(
        reached: watch::Sender<OutboxPlace>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Arc<Mutex<Self>> {
        let (confirmed, unchained, heard) = Default::default();
        let (on_the_way, place) = (VecDeque::new(), OutboxPlace::default());
        Arc::new(Mutex::new(Self { reached, confirmed, unchained, heard, on_the_way, place, metrics, clock }))
    }

    /// Forgets what is on its way: whether it arrived shows the streams.
    pub(super) fn restart(&mut self) {
        self.on_the_way.clear();
        self.heard = PerStream::default();
    }

    fn sent(&mut self, event: &Ready) {
        self.on_the_way.push_back(Step::Sent { id: event.id, stream: event.stream, at: event.at });
    }

    fn passed(&mut self, place: OutboxPlace) {
        self.on_the_way.push_back(Step::Passed(place));
        self.pass();
        self.tell();
    }

    /// Takes the bus's word on the oldest events on their way.
    ///
    /// # Errors
    /// The first failure; what came behind it is to be looked up in the streams.
    pub(super) fn hear(&mut self, results: Vec<Result<PublishAck, BusError>>) -> Result<(), BusError> {
        let mut outcome = Ok(());
        for result in results {
            match result {
                Ok(_) => self.confirm(),
                Err(error) => {
                    if matches!(error, BusError::WrongLastId { .. }) {
                        self.refused();
                    }
                    outcome = Err(error);
                    break;
                }
            }
        }
        self.tell();
        outcome
    }

    /// The oldest event in flight is stored. What that reaches is reported by [`Progress::tell`].
    fn confirm(&mut self) {
        let Some(Step::Sent { id, stream, at }) = self.on_the_way.pop_front() else { return };
        self.confirmed[stream] = Some(id);
        (self.unchained[stream], self.heard[stream]) = (false, true);
        let elapsed_ms = if self.clock.follows_events() { 0 } else { self.clock.now().0 - at.0 };
        self.metrics.published(STREAMS[stream].0, elapsed_ms);
        self.place = behind(id);
        self.pass();
    }

    fn pass(&mut self) {
        while let Some(Step::Passed(place)) = self.on_the_way.front() {
            let place = *place;
            self.on_the_way.pop_front();
            self.place = place;
        }
    }

    /// Reports how far everything is stored.
    fn tell(&self) {
        let place = self.place;
        self.reached.send_if_modified(|reached| {
            let further = place > *reached;
            *reached = place.max(*reached);
            further
        });
    }

    /// The oldest event on its way was not directly behind the one that its stream ends with. If that is the first
    /// one that was sent to it, although the stream was just read, the stream has forgotten its last id, as it
    /// does when it is opened again after its dedup window: the next chain begins without.
    fn refused(&mut self) {
        if let Some(Step::Sent { stream, .. }) = self.on_the_way.front()
            && !self.heard[*stream]
        {
            self.unchained[*stream] = true;
        }
    }
}

/// Shared progress, for one look.
pub(super) fn look(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns chunks into the messages that are sent.
pub(super) struct Sending {
    chunks: mpsc::Receiver<Chunk>,
    events: std::vec::IntoIter<Ready>,
    end: Option<OutboxPlace>,
    progress: Arc<Mutex<Progress>>,
}

impl Sending {
    pub(super) fn new(chunks: mpsc::Receiver<Chunk>, progress: Arc<Mutex<Progress>>) -> Self {
        Self { chunks, events: Vec::new().into_iter(), end: None, progress }
    }

    /// The next message; none once no more are made.
    pub(super) async fn next(mut self) -> Option<(Outgoing, Self)> {
        loop {
            if let Some(event) = self.events.next() {
                look(&self.progress).sent(&event);
                return Some((event.message, self));
            }
            if let Some(end) = self.end.take() {
                look(&self.progress).passed(end);
            }
            let Chunk { events, end } = self.chunks.recv().await?;
            (self.events, self.end) = (events.into_iter(), Some(end));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::events::EventIds;
    use cdr_core::Millis;

    fn ready(index: u64, ordinal: u32, stream: usize) -> Ready {
        let id = EventIds::new("dev", 1).id(index, ordinal).unwrap();
        Ready { id, stream, at: Millis(0), message: Outgoing::default() }
    }

    #[tokio::test]
    async fn the_cursor_passes_what_is_stored() {
        let (reached, seen) = watch::channel(OutboxPlace::default());
        let progress = Progress::new(reached, Arc::new(Metrics::new().unwrap()), Clock::system());
        let (send, chunks) = mpsc::channel(4);
        let place = |index, events| OutboxPlace { index, events };
        let chunk = |events, end| Chunk { events, end };
        send.try_send(chunk(Vec::new(), place(3, 0))).ok().unwrap();
        send.try_send(chunk(vec![ready(3, 0, 0), ready(3, 1, 2), ready(3, 2, 0)], place(4, 0))).ok().unwrap();
        send.try_send(chunk(Vec::new(), place(9, 0))).ok().unwrap();
        drop(send);
        let mut sending = Sending::new(chunks, progress.clone());
        let mut sent = 0;
        while let Some((_, next)) = sending.next().await {
            (sending, sent) = (next, sent + 1);
        }
        assert_eq!(sent, 3);
        assert_eq!(*seen.borrow(), place(3, 0), "nothing was on its way before the first chunk's end");
        for expected in [place(3, 1), place(3, 2), place(9, 0)] {
            look(&progress).confirm();
            look(&progress).tell();
            assert_eq!(*seen.borrow(), expected);
        }
        assert_eq!(look(&progress).confirmed, [Some(ready(3, 2, 0).id), None, Some(ready(3, 1, 2).id), None]);
    }

    #[tokio::test]
    async fn only_a_first_event_that_is_refused_begins_a_new_chain() {
        let (reached, _seen) = watch::channel(OutboxPlace::default());
        let progress = Progress::new(reached, Arc::new(Metrics::new().unwrap()), Clock::system());
        look(&progress).sent(&ready(1, 0, 0));
        look(&progress).refused();
        assert_eq!(look(&progress).unchained, [true, false, false, false]);
        look(&progress).restart();
        look(&progress).sent(&ready(1, 0, 0));
        look(&progress).sent(&ready(1, 1, 0));
        look(&progress).confirm();
        look(&progress).refused();
        assert_eq!(look(&progress).unchained, [false; 4], "an event before it was lost on the way");
    }
}
