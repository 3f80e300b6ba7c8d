//! The live feed: `GET /v1/cdr/events/stream`, server-sent events of what this replica has applied.
//!
//! A feed is read from the store's outbox as fast as its client takes it, a small piece at a time: a slow client is
//! waited for, and nothing is kept for it. Each message's id is its event's, which says where to go on: any replica
//! resumes any feed, for as long as the outbox keeps the entry. A feed ends when the token does that opened it: who may
//! look on is decided again from time to time.

use crate::api::http::Service;
use crate::api::http::access::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::ledger::{Consistency, Ledger};
use crate::auth::{Identity, SCOPE_PII, SCOPE_READ};
use crate::events::streams::STREAMS;
use crate::events::{EventId, NumberHash, subject};
use crate::masking;
use crate::outbox::{Outbox, behind};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::IntoResponse;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use cdr_core::command::OutboxPlace;
use cdr_storage::Store;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Header with which a client that lost its connection names the last message that it received.
const LAST_EVENT_ID: &str = "last-event-id";
/// Most messages that are read ahead of a client.
const PIECE: usize = 64;
/// Pause before the outbox is read again when there was nothing new.
const POLL: Duration = Duration::from_millis(100);
/// After this silence a comment is sent, so that no proxy in between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Name of the message with which a feed ends whose token has expired. It has no id, so that the place to resume from
/// stays that of the last event.
const END: &str = "end";
/// What that message says.
const TOKEN_EXPIRED: &str = r#"{"code":"TOKEN_EXPIRED","message":"the bearer token has expired: open the feed again with a new one and the Last-Event-ID"}"#;
/// What an id has to be.
const EVENT_ID: &str = "the id of an event of this ledger";

/// Opens a feed.
pub(in crate::api) async fn stream(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    caller.require(SCOPE_READ)?;
    let input = crate::api::http::input::Input::of_query(&uri, &["subjects", "lastEventId", "consistency"])?;
    let subjects = subjects(input.text("subjects"))?;
    let last = match headers.get(LAST_EVENT_ID) {
        Some(value) => Some(value.to_str().unwrap_or_default().to_owned()),
        None => input.text("lastEventId").map(str::to_owned),
    };
    let ledger = &service.ledger;
    let permit = ledger.feeds.clone().try_acquire_owned().map_err(|_| ApiError::Unavailable {
        dependency: "live feed",
        reason: "as many feeds are open as api.max_live_feeds allows: close one, or ask another replica"
            .to_owned(),
    })?;
    let applied_index = ledger.barrier(Consistency::of(&input)?).await?;
    let outbox = Outbox::new(&ledger.store, &ledger.numbers).ok_or_else(|| ApiError::Unavailable {
        dependency: "storage",
        reason: "the ledger has not begun".to_owned(),
    })?;
    let place = match last {
        Some(text) => resumed(&outbox, &ledger.store, &text, applied_index)?,
        None => OutboxPlace { index: applied_index + 1, events: 0 },
    };
    let feed = Feed {
        ledger: ledger.clone(),
        outbox,
        subjects,
        place,
        read: VecDeque::new(),
        sees_numbers: caller.has(SCOPE_PII),
        who: caller.0,
        ended: false,
        _permit: permit,
    };
    let messages = futures::stream::unfold(feed, Feed::next);
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The requested subjects: by default every one but the one of high volume.
fn subjects(text: Option<&str>) -> Result<Arc<[&'static str]>, ApiError> {
    let known = || STREAMS.iter().flat_map(|(_, subjects)| subjects.iter().copied());
    let Some(text) = text else {
        return Ok(known().filter(|known| *known != subject::RECORD_APPENDED).collect());
    };
    let find = |name: &str| {
        let found = known().find(|known| *known == name.trim());
        found.ok_or_else(|| ApiError::invalid("subjects", format!("{name:?} is not the subject of an event")))
    };
    text.split(',').map(find).collect()
}

/// The place behind the event with the id `text`.
fn resumed(outbox: &Outbox, store: &Store, text: &str, applied: u64) -> Result<OutboxPlace, ApiError> {
    let refused = |why: String| ApiError::invalid("Last-Event-ID", why);
    let id = EventId::parse(text).filter(|id| outbox.ids().owns(*id));
    let id = id.ok_or_else(|| refused(format!("{text:?} is not {EVENT_ID}")))?;
    let (index, _) = id.place();
    if index > applied {
        return Err(refused(format!(
            "{text} is of an entry that this replica has not applied: ask another one"
        )));
    }
    let kept = store.outbox(index, 1)?.first().is_some_and(|entry| entry.index == index);
    if !kept {
        return Err(refused(format!(
            "{text} is too old: events are kept for a week after they are published; start over without it"
        )));
    }
    Ok(behind(id))
}

/// A client's place in the outbox, and the few messages that were read for it.
struct Feed {
    ledger: Arc<Ledger>,
    outbox: Outbox,
    subjects: Arc<[&'static str]>,
    place: OutboxPlace,
    read: VecDeque<Message>,
    /// Whose token opened it.
    who: Identity,
    /// True if it shows hashes of numbers.
    sees_numbers: bool,
    /// True once the last message is given.
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    /// The next message; the feed ends if the token has expired, or the store can't be read.
    async fn next(mut self) -> Option<(Result<Message, Infallible>, Self)> {
        loop {
            if self.ended {
                return None;
            }
            if self.who.has_expired() {
                tracing::info!(subject = self.who.subject, "a live feed ends: its token has expired");
                self.ended = true;
                return Some((Ok(Message::default().event(END).data(TOKEN_EXPIRED)), self));
            }
            if let Some(message) = self.read.pop_front() {
                return Some((Ok(message), self));
            }
            let before = self.place;
            let (outbox, subjects, from) = (self.outbox.clone(), self.subjects.clone(), self.place);
            let sees_numbers = self.sees_numbers;
            let read = move || piece(&outbox, &subjects, from, sees_numbers);
            let piece = tokio::task::spawn_blocking(read).await;
            match piece {
                Ok(Ok((read, place))) => (self.read, self.place) = (read, place),
                Ok(Err(error)) => {
                    tracing::error!(%error, node = self.ledger.node.node_id(), "a live feed ends");
                    return None;
                }
                Err(error) => {
                    tracing::error!(%error, "a live feed ends");
                    return None;
                }
            }
            if self.place == before {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// Some messages from `from` on, and the place behind them.
fn piece(
    outbox: &Outbox,
    subjects: &[&'static str],
    from: OutboxPlace,
    sees_numbers: bool,
) -> Result<(VecDeque<Message>, OutboxPlace), crate::outbox::OutboxError> {
    let mut read = VecDeque::new();
    let wanted = |subject: &'static str| subjects.contains(&subject);
    let place = outbox.read(from, &wanted, &mut |event, _| {
        let data = if sees_numbers { event.payload.into() } else { without_number_hashes(&event.payload) };
        let data = String::from_utf8_lossy(&data);
        read.push_back(Message::default().id(event.event_id.to_string()).event(event.subject).data(data));
        if read.len() < PIECE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok((read, place))
}

/// The event without hashes of numbers: a hash can be reversed by trying all numbers.
fn without_number_hashes(payload: &[u8]) -> Cow<'_, [u8]> {
    const OF_RECORDS: [&str; 2] = ["msisdnHashFrom", "msisdnHashTo"];
    // An object that is not JSON is shown to no caller.
    let Ok(mut event) = serde_json::from_slice::<Map<String, Value>>(payload) else {
        return Cow::Borrowed(b"{}");
    };
    let mut hidden = false;
    for name in OF_RECORDS {
        hidden |= event.remove(name).is_some();
    }
    for (_, value) in event.get_mut("correctedFields").and_then(Value::as_object_mut).into_iter().flatten() {
        if value.as_str().is_some_and(NumberHash::is_named) {
            *value = masking::HIDDEN.into();
            hidden = true;
        }
    }
    if hidden { Cow::Owned(Value::Object(event).to_string().into_bytes()) } else { Cow::Borrowed(payload) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_numbers_are_hidden_from_whoever_may_not_see_numbers() {
        let hidden =
            |event: &str| String::from_utf8(without_number_hashes(event.as_bytes()).into_owned()).unwrap();
        let record = r#"{"cdrId":"cdr_1","msisdnHashFrom":null,"msisdnHashTo":"ab","rowHash":"cd"}"#;
        assert_eq!(hidden(record), r#"{"cdrId":"cdr_1","rowHash":"cd"}"#);
        let correction = r#"{"correctedFields":{"calledPartyAddress":"sha256:ab","imsi":"hmac-sha256:cd","segmentCount":2}}"#;
        assert_eq!(
            hidden(correction),
            r#"{"correctedFields":{"calledPartyAddress":"***","imsi":"***","segmentCount":2}}"#
        );
        let other = r#"{"b":1,"a":{"sealHash":"ab"},"correctedFields":null}"#;
        assert_eq!(hidden(other), other);
    }

    #[test]
    fn subjects_are_known_ones_and_records_only_if_asked_for() {
        let all = subjects(None).unwrap();
        assert_eq!(all.len(), 13);
        assert!(!all.contains(&subject::RECORD_APPENDED) && all.contains(&subject::BUCKET_SEALED));
        let two = subjects(Some("cdr.record.appended.v1, cdr.audit.v1")).unwrap();
        assert_eq!(*two, [subject::RECORD_APPENDED, subject::AUDIT]);
        for wrong in ["", "cdr.audit.v1,", "cdr.*"] {
            assert!(matches!(subjects(Some(wrong)), Err(ApiError::Validation { .. })), "{wrong}");
        }
    }
}
