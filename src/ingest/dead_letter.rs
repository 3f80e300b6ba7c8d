//! Where messages go that can't become records: unchanged, with the reason, never dropped silently.

use cdr_bus::{Bus, BusError, Delivery, Outgoing};
use cdr_core::hash::{sha256, to_hex};

/// Subject and stream of the dead letters of an inbound subject and stream.
pub fn dead_letter_names(subject: &str, stream: &str) -> (String, String) {
    (format!("{subject}.deadletter"), format!("{stream}_DEADLETTER"))
}

/// Headers that name the message's place.
const STREAM: &str = "Cdr-Stream";
const SEQUENCE: &str = "Cdr-Sequence";

/// The dead letter of a delivery. Its id names the message's place, so that a repeated one is stored once.
pub fn dead_letter(delivery: &Delivery, epoch: &str, reason: &str) -> Outgoing {
    Outgoing {
        subject: format!("{}.deadletter", delivery.subject),
        headers: vec![
            ("Cdr-Reason".to_owned(), reason.to_owned()),
            (STREAM.to_owned(), epoch.to_owned()),
            (SEQUENCE.to_owned(), delivery.sequence.to_string()),
        ],
        payload: delivery.payload.clone(),
        message_id: Some(format!("{epoch}:{}", delivery.sequence)),
        behind_id: None,
    }
}

/// Room for the headers of a dead letter, in bytes; they need less than 1 KiB.
const HEADERS_BYTES: usize = 4 << 10;

/// The smallest chunk into which a payload is cut: a stream that does not accept this much can't store a dead letter at all.
const SMALLEST_PIECE_BYTES: usize = 1 << 10;

/// Largest message for an inbound stream, headers included, on a bus that takes `max_payload_bytes`: whatever the stream
/// holds fits into a dead letter with its headers.
pub fn inbound_limit_bytes(max_payload_bytes: usize) -> u32 {
    let limit = max_payload_bytes - HEADERS_BYTES.min(max_payload_bytes / 2);
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// Publishes a dead letter.
///
/// A stream that was made elsewhere, or before the server's limit was lowered, can hold messages that leave no room for
/// headers. Nothing may stall ingest or be lost, and the payload stays as it is: it is published alone first, without
/// any header, and then a dead letter with the headers and no payload, which names the payload's place and digest
/// (`Cdr-Payload-Sequence`, `Cdr-Payload-Sha256`). Only a payload that does not even fit alone is cut; its pieces are
/// named in order, and joined they are the payload. A repeated attempt stores the bare payload twice, which is harmless:
/// without a header it has no id, and the one dead letter that names it is recognised.
///
/// Until a dead letter is stored, nothing behind its message is read: a full dead-letter stream is reported as SEV1.
///
/// # Errors
/// [`BusError`]; what was published before may be published again.
pub async fn put_away(bus: &dyn Bus, letter: &Outgoing) -> Result<(), BusError> {
    let stored = store(bus, letter).await;
    if let Err(error) = &stored
        && !error.is_transient()
    {
        let (stream, sequence) = place(letter);
        tracing::error!(
            severity = "SEV1",
            stream,
            sequence,
            subject = letter.subject,
            %error,
            "the dead letter can't be stored: nothing after this sequence is read from the stream until it is; check \
             the dead letters, remove those that were dealt with, or raise the limits of their stream"
        );
    }
    stored
}

/// Stream and sequence of the message of a dead letter.
pub fn place(letter: &Outgoing) -> (&str, &str) {
    let header = |wanted: &str| {
        letter.headers.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value.as_str())
    };
    (header(STREAM), header(SEQUENCE))
}

async fn store(bus: &dyn Bus, letter: &Outgoing) -> Result<(), BusError> {
    let error = match bus.publish(letter.clone()).await {
        Err(error @ BusError::TooLarge { .. }) => error,
        other => return other.map(drop),
    };
    let sequences = publish_bare(bus, letter).await?;
    tracing::error!(
        %error,
        subject = letter.subject,
        payload_sequences = sequences,
        "a dead letter has no room for its headers: its payload was dead-lettered alone, a second dead letter names it; \
         lower the inbound stream's largest message by {HEADERS_BYTES} bytes"
    );
    let mut headers = letter.headers.clone();
    headers.push(("Cdr-Payload-Sequence".to_owned(), sequences));
    headers.push(("Cdr-Payload-Sha256".to_owned(), to_hex(&sha256(&letter.payload))));
    let payload = bytes::Bytes::new();
    bus.publish(Outgoing { headers, payload, ..letter.clone() }).await.map(drop)
}

/// Publishes the payload alone, in as few pieces as the bus takes; their sequences, with commas between.
async fn publish_bare(bus: &dyn Bus, letter: &Outgoing) -> Result<String, BusError> {
    let mut piece_bytes = letter.payload.len();
    loop {
        match publish_pieces(bus, letter, piece_bytes).await {
            Err(BusError::TooLarge { .. }) if piece_bytes > SMALLEST_PIECE_BYTES => {
                piece_bytes = piece_bytes.div_ceil(2);
            }
            done => return done,
        }
    }
}

/// The first piece is as long as any: where it fits, all do.
async fn publish_pieces(bus: &dyn Bus, letter: &Outgoing, piece_bytes: usize) -> Result<String, BusError> {
    let mut sequences = Vec::new();
    for piece in letter.payload.chunks(piece_bytes) {
        let (subject, payload) = (letter.subject.clone(), letter.payload.slice_ref(piece));
        let ack = bus.publish(Outgoing { subject, payload, ..Outgoing::default() }).await?;
        sequences.push(ack.sequence.to_string());
    }
    Ok(sequences.join(","))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cdr_bus::{LocalBackend, LocalOptions, StreamSpec};
    use std::time::Duration;

    /// The dead letters of a bus that accepts messages of up to `limit_bytes` there.
    async fn put_away_at(limit_bytes: u32, letter: &Outgoing) -> Vec<(Bytes, Vec<(String, String)>)> {
        let folder = tempfile::tempdir().unwrap();
        let bus = LocalBackend::open(folder.path(), LocalOptions::default()).unwrap();
        bus.ensure_stream(&StreamSpec {
            name: "DEAD".to_owned(),
            subjects: vec!["in.deadletter".to_owned()],
            max_age: Duration::ZERO,
            replicas: 1,
            dedup_window: Duration::from_secs(60),
            max_message_bytes: Some(limit_bytes),
        })
        .await
        .unwrap();
        for _ in 0..2 {
            put_away(&bus, letter).await.unwrap();
        }
        let mut found = Vec::new();
        for sequence in 1..=bus.stream_info("DEAD").await.unwrap().last_sequence {
            let stored = bus.message("DEAD", sequence).await.unwrap().unwrap();
            assert_eq!(stored.subject, "in.deadletter");
            found.push((stored.payload, stored.headers));
        }
        found
    }

    fn value<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
        headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value)
    }

    #[tokio::test]
    async fn a_payload_is_put_away_unchanged_whatever_room_there_is() {
        let payload = Bytes::from((0..=255).cycle().take(10_000).collect::<Vec<u8>>());
        let letter = Outgoing {
            subject: "in.deadletter".to_owned(),
            headers: vec![("Cdr-Reason".to_owned(), "because".to_owned())],
            payload: payload.clone(),
            message_id: Some("S:1".to_owned()),
            behind_id: None,
        };
        let whole = put_away_at(11_000, &letter).await;
        assert_eq!(whole.len(), 1, "a repetition is recognised");
        assert_eq!((&whole[0].0, value(&whole[0].1, "Cdr-Reason")), (&payload, "because"));

        for (limit_bytes, pieces) in [(10_000, 1), (9_999, 2), (2_500, 4)] {
            let found = put_away_at(limit_bytes, &letter).await;
            assert_eq!(found.len(), 2 * pieces + 1, "at {limit_bytes}");
            let (empty, headers) = &found[pieces];
            assert!(empty.is_empty());
            assert_eq!(value(headers, "Cdr-Reason"), "because");
            assert_eq!(value(headers, "Cdr-Payload-Sha256"), to_hex(&sha256(&payload)));
            let sequences = value(headers, "Cdr-Payload-Sequence").split(',');
            let joined: Vec<u8> = sequences
                .flat_map(|sequence| found[sequence.parse::<usize>().unwrap() - 1].0.to_vec())
                .collect();
            assert_eq!(joined, payload, "at {limit_bytes}");
        }
    }

    #[test]
    fn an_inbound_stream_leaves_room_for_headers() {
        assert_eq!(inbound_limit_bytes(1 << 20), (1 << 20) - 4_096);
        assert_eq!(inbound_limit_bytes(1_000), 500);
        assert_eq!(inbound_limit_bytes(usize::MAX), u32::MAX);
    }
}
