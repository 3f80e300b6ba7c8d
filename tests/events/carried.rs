//! Signed events through a real JetStream and through the local bus: streams, headers and duplicates.

use crate::events::samples::{ORIGINAL, Sample, head, seal};
use cdr_bus::{Bus, JetStream, LocalBackend, LocalOptions, NatsOptions, Outgoing};
use cdr_core::Millis;
use cdr_core::row::AdjustmentType;
use cdr_mediation::events::signature::{SignedBatch, TrustedKey, verify_event};
use cdr_mediation::events::signing_key::SigningKey;
use cdr_mediation::events::streams::{stream_of, stream_specs};
use cdr_mediation::events::{
    Event, EventHead, EventIds, PARTITION_KEY_HEADER, adjustment_created, bucket_sealed, record_appended,
};
use testkit::nats::NatsServer;

fn published(event: &Event<'_>, signed: Vec<(String, String)>) -> Outgoing {
    let mut headers = signed;
    headers.push((PARTITION_KEY_HEADER.to_owned(), event.partition_key.to_owned()));
    Outgoing {
        subject: event.subject.to_owned(),
        headers,
        payload: event.payload.clone().into(),
        message_id: Some(event.event_id.to_string()),
        behind_id: None,
    }
}

async fn carries_signed_events(bus: &dyn Bus, key: &SigningKey) {
    for spec in stream_specs(1) {
        bus.ensure_stream(&spec).await.unwrap();
        bus.ensure_stream(&spec).await.unwrap();
    }
    let ids = EventIds::new("dev", 1);
    let head = |ordinal| EventHead { event_id: ids.id(9, ordinal).unwrap(), ..head("trace-1") };
    let (original, correction) =
        (Sample::ordinary(), Sample::ordinary().adjusting(AdjustmentType::Correction));
    let (original, correction, seal) = (original.row(), correction.row(), seal("AWCC", 2, Some("dev-1")));
    let events = [
        record_appended(&original, &[1; 32], &head(0)).unwrap(),
        record_appended(&correction, &[2; 32], &head(1)).unwrap(),
        adjustment_created(&correction, Some(&original), ORIGINAL, &head(2)).unwrap(),
        bucket_sealed(&seal, &seal.operators[0], &head(3)),
    ];
    let trusted = TrustedKey::from_pem("dev", key.public_pem()).unwrap();
    // A batch of several, and one of a single event.
    for batch in [&events[..], &events[3..]] {
        let payloads: Vec<&Vec<u8>> = batch.iter().map(|event| &event.payload).collect();
        let signed = SignedBatch::sign(&payloads, key, "dev", Millis(1_776_690_000_000)).unwrap();
        for (index, event) in batch.iter().enumerate() {
            let stream = stream_of(event.subject).unwrap();
            let mut message = published(event, signed.headers(index));
            if batch.len() == 1 {
                message.message_id = Some("another".to_owned());
            }
            let ack = bus.publish(message.clone()).await.unwrap();
            assert_eq!((ack.stream.as_str(), ack.duplicate), (stream, false));
            assert!(bus.publish(message).await.unwrap().duplicate);
            let stored = bus.message(stream, ack.sequence).await.unwrap().unwrap();
            assert_eq!(stored.payload.as_ref(), event.payload);
            assert!(stored.headers.contains(&("partitionKey".to_owned(), "AWCC".to_owned())));
            let claims = verify_event(&stored.payload, &stored.headers, &trusted).unwrap();
            assert_eq!((claims.count, claims.iss.as_str()), (batch.len() as u64, "dev"));
        }
    }
    assert_eq!(bus.stream_info("CDR_EVENTS").await.unwrap().last_sequence, 4);
    assert_eq!(bus.stream_info("CDR_ADJUSTMENTS").await.unwrap().last_sequence, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_buses_carry_signed_events() {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::load_or_create(&folder.path().join("event-signing.pem")).unwrap();
    let local = LocalBackend::open(&folder.path().join("bus"), LocalOptions::default()).unwrap();
    carries_signed_events(&local, &key).await;
    let server = NatsServer::start();
    let jetstream = JetStream::connect(NatsOptions::new(server.url())).await.unwrap();
    carries_signed_events(&jetstream, &key).await;
}
