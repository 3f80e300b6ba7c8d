//! Where publishing goes on: what the streams hold decides, not what was sent.
//!
//! Events of a stream are stored in the order of their ids, each only directly behind the one before. So the last
//! message of a stream shows up to where its events are stored, whichever leader published them, and however long ago: that
//! holds beyond the window in which the bus itself recognises a message.

use crate::events::streams::{STREAMS, stream_of};
use crate::events::{EventId, EventIds};
use crate::outbox::behind;
use cdr_bus::{Bus, BusError, MESSAGE_ID_HEADER};
use cdr_core::command::OutboxPlace;

/// One value for each of [`STREAMS`].
pub(super) type PerStream<T> = [T; STREAMS.len()];

/// The stream whose events nearly every log entry has.
const OF_RECORDS: usize = 0;

/// Position in [`STREAMS`] of the stream that carries `subject`.
pub(super) fn stream_number(subject: &str) -> Option<usize> {
    let name = stream_of(subject)?;
    STREAMS.iter().position(|(known, _)| *known == name)
}

/// The last event of each stream; none where it holds none, or ends with a message that is not this ledger's.
pub(super) async fn last_events(
    bus: &dyn Bus,
    ids: &EventIds,
) -> Result<PerStream<Option<EventId>>, BusError> {
    let mut last = PerStream::default();
    for (found, (stream, _)) in last.iter_mut().zip(STREAMS) {
        let info = bus.stream_info(stream).await?;
        if info.messages == 0 {
            continue;
        }
        let Some(message) = bus.message(stream, info.last_sequence).await? else { continue };
        let id = message.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(MESSAGE_ID_HEADER));
        *found = id.and_then(|(_, id)| EventId::parse(id)).filter(|id| ids.owns(*id));
    }
    Ok(last)
}

/// From where events are read, and which of them are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Place from which events are read.
    pub(super) start: OutboxPlace,
    /// Event behind which the next one of each stream must be stored, where the bus can check that.
    pub(super) chain: PerStream<Option<EventId>>,
    published: OutboxPlace,
    stored: PerStream<Option<EventId>>,
}

impl Plan {
    /// Goes on behind `published`, with streams that end with `stored`, of which `confirmed` was confirmed as stored.
    /// Streams in `unchained` no longer know their last id.
    ///
    /// Where a stream ends earlier than what it had confirmed, it has lost events: they are sent again. For records
    /// that shows even if another replica published them, because every entry before the cursor has events in their
    /// stream, except for a few system rows that are read in vain.
    pub(super) fn new(
        published: OutboxPlace,
        stored: PerStream<Option<EventId>>,
        confirmed: &PerStream<Option<EventId>>,
        unchained: PerStream<bool>,
    ) -> Self {
        let mut start = published;
        for (number, (stored, confirmed)) in stored.iter().zip(confirmed).enumerate() {
            if let Some(stored) = stored
                && (number == OF_RECORDS || confirmed.is_some_and(|confirmed| *stored < confirmed))
            {
                start = start.min(behind(*stored));
            }
        }
        let mut chain = stored;
        for (behind, unchained) in chain.iter_mut().zip(unchained) {
            if unchained {
                *behind = None;
            }
        }
        Self { start, chain, published, stored }
    }

    /// True if the event is not in its stream yet.
    pub(super) fn lacks(&self, stream: usize, id: EventId) -> bool {
        match self.stored[stream] {
            Some(stored) => id > stored,
            None => behind(id) > self.published,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::events::streams::stream_specs;
    use cdr_bus::{LocalBackend, LocalOptions, Outgoing};

    fn id(index: u64, ordinal: u32) -> EventId {
        EventIds::new("dev", 1).id(index, ordinal).unwrap()
    }

    fn place(index: u64, events: u32) -> OutboxPlace {
        OutboxPlace { index, events }
    }

    fn plan(published: OutboxPlace, stored: PerStream<Option<EventId>>) -> Plan {
        Plan::new(published, stored, &[None; 4], [false; 4])
    }

    #[test]
    fn what_a_stream_holds_is_not_sent_again_and_what_it_lacks_is() {
        let plan = plan(place(9, 1), [Some(id(11, 2)), None, Some(id(5, 0)), None]);
        assert_eq!(plan.start, place(9, 1));
        assert!(!plan.lacks(0, id(11, 2)) && plan.lacks(0, id(11, 3)));
        assert!(!plan.lacks(1, id(9, 0)) && plan.lacks(1, id(9, 1)), "an empty stream goes by the cursor");
        assert!(plan.lacks(2, id(9, 1)) && !plan.lacks(2, id(5, 0)));
        assert_eq!(plan.chain, [Some(id(11, 2)), None, Some(id(5, 0)), None]);
    }

    #[test]
    fn a_stream_that_lost_events_gets_them_again() {
        let lost = plan(place(9, 1), [Some(id(3, 4)), None, None, Some(id(8, 0))]);
        assert_eq!(lost.start, place(3, 5));
        assert!(lost.lacks(0, id(3, 5)) && lost.lacks(0, id(9, 0)));
        assert!(!lost.lacks(3, id(7, 0)) && !lost.lacks(1, id(8, 0)), "the others hold theirs");

        let stored = [Some(id(9, 0)), None, Some(id(2, 0)), None];
        let confirmed = [None, None, Some(id(6, 0)), None];
        let lost = Plan::new(place(9, 1), stored, &confirmed, [false, false, true, false]);
        assert_eq!(lost.start, place(2, 1));
        assert_eq!(lost.chain, [Some(id(9, 0)), None, None, None]);
    }

    #[tokio::test]
    async fn the_last_event_is_found_and_foreign_messages_are_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let bus = LocalBackend::open(folder.path(), LocalOptions::default()).unwrap();
        for spec in stream_specs(1) {
            bus.ensure_stream(&spec).await.unwrap();
        }
        let message = |subject: &str, id: EventId| Outgoing {
            subject: subject.to_owned(),
            message_id: Some(id.to_string()),
            ..Outgoing::default()
        };
        for event in [id(4, 0), id(4, 1)] {
            bus.publish(message("cdr.record.appended.v1", event)).await.unwrap();
        }
        let foreign = EventIds::new("other", 1).id(4, 2).unwrap();
        bus.publish(message("cdr.audit.v1", foreign)).await.unwrap();
        let last = last_events(&bus, &EventIds::new("dev", 1)).await.unwrap();
        assert_eq!(last, [Some(id(4, 1)), None, None, None]);
        assert_eq!(stream_number("cdr.adjustment.created.v1"), Some(2));
    }
}
