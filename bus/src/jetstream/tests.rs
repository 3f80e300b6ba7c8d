#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use bytes::Bytes;

use super::subscription::Admitted;
use super::*;
use crate::suite::{self, handles, publish_numbers, queue, read, spec};
use testkit::nats::NatsServer;

async fn connect(server: &NatsServer) -> JetStream {
    JetStream::connect(NatsOptions::new(server.url())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn does_what_every_bus_does() {
    let server = NatsServer::start();
    suite::run(Arc::new(connect(&server).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_messages_leave_a_gap() {
    let server = NatsServer::start();
    let bus = connect(&server).await;
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    publish_numbers(&bus, "a", 1, 10).await;
    for sequence in [1, 5, 6] {
        bus.delete_message("A", sequence).await.unwrap();
    }
    let info = bus.stream_info("A").await.unwrap();
    assert_eq!((info.first_sequence, info.last_sequence, info.messages), (2, 10, 7));
    assert_eq!(bus.message("A", 5).await.unwrap(), None);
    assert!(bus.message("A", 7).await.unwrap().is_some());
    let mut subscription = bus.open("A", "reader", 1).await.unwrap();
    let sequences: Vec<_> =
        read(&mut *subscription, 7).await.iter().map(|delivery| delivery.sequence).collect();
    assert_eq!(sequences, [2, 3, 4, 7, 8, 9, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redeliveries_are_not_handed_out_again() {
    let server = NatsServer::start();
    let bus = connect(&server).await;
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    publish_numbers(&bus, "a", 1, 10).await;
    let ack_wait = Duration::from_millis(500);
    let opened = subscription::open(&bus, "A", "reader", 1, ack_wait);
    let mut subscription = opened.await.unwrap();
    let mut taken = read(&mut subscription, 10).await;
    // The server delivers the ten again and again; none of them comes through.
    assert!(subscription.next_batch(100, Duration::from_millis(1_500)).await.unwrap().is_empty());
    publish_numbers(&bus, "a", 11, 1).await;
    taken.extend(read(&mut subscription, 1).await);
    subscription.acker().ack(&handles(&taken)).await.unwrap();
    assert!(subscription.next_batch(100, Duration::from_millis(800)).await.unwrap().is_empty());
    let stream = bus.context.get_stream("A").await.unwrap();
    let info = stream.consumer_info("reader").await.unwrap();
    assert_eq!((info.num_ack_pending, info.ack_floor.stream_sequence), (0, 11));
    assert!(info.delivered.consumer_sequence > 11, "there were redeliveries");
}

/// A message as the server delivers it: its place is told by the subject that takes its acknowledgement.
fn delivered(bus: &JetStream, deliveries: u64, sequence: u64, consumer_sequence: u64) -> Message {
    let reply = format!("$JS.ACK.A.reader.{deliveries}.{sequence}.{consumer_sequence}.1776690000000000000.0");
    let message = async_nats::Message {
        subject: "a".into(),
        reply: Some(reply.into()),
        payload: bytes::Bytes::from_static(b"x"),
        headers: None,
        status: None,
        description: None,
        length: 1,
    };
    Message { message, context: bus.context.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_message_at_a_place_that_was_read_is_a_rewind() {
    let server = NatsServer::start();
    let bus = connect(&server).await;
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    let mut subscription = subscription::open(&bus, "A", "reader", 5, Duration::from_secs(30)).await.unwrap();
    for (number, sequence) in [(1, 5), (2, 6)] {
        assert!(matches!(subscription.admit(delivered(&bus, 1, sequence, number)), Ok(Admitted::New(_))));
    }
    let again = subscription.admit(delivered(&bus, 2, 5, 3));
    assert!(matches!(again, Ok(Admitted::Again(_))), "a redelivery is no rewind");
    let error = subscription.admit(delivered(&bus, 1, 6, 4)).err().unwrap();
    let rewound = matches!(&error, BusError::StreamRewound { sequence: 6, read_upto: 6, .. });
    assert!(rewound && error.is_transient(), "{error}");
    // Before the start it can't be a redelivery either.
    let mut subscription = subscription::open(&bus, "A", "reader", 5, Duration::from_secs(30)).await.unwrap();
    let error = subscription.admit(delivered(&bus, 1, 3, 1)).err().unwrap();
    assert!(matches!(error, BusError::StreamRewound { sequence: 3, read_upto: 4, .. }), "{error}");
}

/// Kills the server again and again while messages flow: published in order, read in order, each exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_the_server_dies() {
    const MESSAGES: u64 = 60_000;
    let mut server = NatsServer::start();
    let bus = connect(&server).await;
    bus.ensure_stream(&spec("A", "sms.dlr.inbound")).await.unwrap();
    let lines = (1..=MESSAGES).map(|number| number.to_string()).collect::<Vec<_>>().join("\n");
    let publisher = connect(&server).await;
    let publishing = tokio::spawn(async move {
        let options = crate::publish::PublishOptions { in_flight: 500, ..Default::default() };
        crate::publish::publish_file(&publisher, lines.as_bytes(), &options, |_| ()).await.unwrap()
    });
    let reader = bus.clone();
    let reading = tokio::spawn(async move {
        let (mut position, mut reopened) = (0, 0);
        'open: while position < MESSAGES {
            let Ok(mut subscription) = reader.open("A", "reader", position + 1).await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            reopened += 1;
            let acker = subscription.acker();
            while position < MESSAGES {
                let batch = match subscription.next_batch(300, Duration::from_millis(500)).await {
                    Ok(batch) => batch,
                    Err(error) => {
                        assert!(error.is_transient(), "{error}");
                        continue 'open;
                    }
                };
                for delivery in &batch {
                    assert_eq!(delivery.sequence, position + 1);
                    assert_eq!(delivery.payload, delivery.sequence.to_string());
                    position = delivery.sequence;
                }
                if let Err(error) = acker.ack(&handles(&batch)).await {
                    assert!(error.is_transient(), "{error}");
                    continue 'open;
                }
            }
        }
        reopened
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.restart();
    }
    let report = publishing.await.unwrap();
    assert_eq!(report.published, MESSAGES);
    let reopened = tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap().unwrap();
    assert!(reopened > 1, "the reader met at least one of the crashes");
    let info = bus.stream_info("A").await.unwrap();
    assert_eq!((info.last_sequence, info.messages), (MESSAGES, MESSAGES));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_made_anew_is_another_one() {
    let server = NatsServer::start();
    let bus = connect(&server).await;
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    publish_numbers(&bus, "a", 1, 10).await;
    let before = bus.stream_info("A").await.unwrap();
    let mut subscription = bus.open("A", "reader", 1).await.unwrap();
    read(&mut *subscription, 10).await;
    bus.delete_stream("A").await.unwrap();
    let lost = subscription.next_batch(10, Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(lost, BusError::ConsumerLost { .. }), "{lost}");
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    let after = bus.stream_info("A").await.unwrap();
    assert!(after.created_ms > before.created_ms);
    assert_eq!((after.first_sequence, after.last_sequence), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_could_lose_messages_are_refused() {
    let server = NatsServer::start();
    let bus = connect(&server).await;
    let base = |name: &str| Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.in")],
        num_replicas: 1,
        max_messages: -1,
        max_bytes: -1,
        ..Config::default()
    };
    let configs = [
        ("WORKQUEUE", Config { retention: RetentionPolicy::WorkQueue, ..base("WORKQUEUE") }),
        ("MEMORY", Config { storage: StorageType::Memory, ..base("MEMORY") }),
        ("BYTES", Config { max_bytes: 1 << 20, ..base("BYTES") }),
        ("COUNT", Config { max_messages: 1_000, ..base("COUNT") }),
        ("LAST", Config { max_messages_per_subject: 1, ..base("LAST") }),
        ("BRIEF", Config { max_age: Duration::from_secs(6 * 86_400), ..base("BRIEF") }),
    ];
    for (name, config) in configs {
        bus.context.create_stream(config).await.unwrap();
        let error = bus.ensure_stream(&spec(name, &format!("{name}.in"))).await.unwrap_err();
        assert!(matches!(error, BusError::IncompatibleStream { .. }), "{name}: {error}");
    }
    let endless = Config { max_age: Duration::ZERO, ..base("ENDLESS") };
    bus.context.create_stream(endless).await.unwrap();
    bus.ensure_stream(&spec("ENDLESS", "ENDLESS.in")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_says_what_to_do() {
    let server = NatsServer::start();
    let bus = connect(&server).await;
    for (name, max_messages, max_bytes) in [("COUNT", 1, -1), ("BYTES", -1, 200)] {
        let config = Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.in")],
            discard: DiscardPolicy::New,
            max_messages,
            max_bytes,
            ..Config::default()
        };
        bus.context.create_stream(config).await.unwrap();
        let letter = || Outgoing {
            subject: format!("{name}.in"),
            payload: Bytes::from(vec![7; 100]),
            ..Outgoing::default()
        };
        bus.publish(letter()).await.unwrap();
        let error = bus.publish(letter()).await.unwrap_err();
        assert!(matches!(error, BusError::Full { .. }) && !error.is_transient(), "{name}: {error:?}");
        assert!(error.to_string().contains("raise its limits"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_tokens_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let server = NatsServer::start_with("authorization { users: [ { user: cdr, password: s3cret } ] }");
    let with = |auth| NatsOptions { auth, ..NatsOptions::new(server.url()) };
    let user = |password_file| NatsAuth::UserPassword { user: "cdr".to_owned(), password_file };
    let bus = JetStream::connect(with(user(secret.clone()))).await.unwrap();
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "other\n").unwrap();
    let error = JetStream::connect(with(user(wrong))).await.err().unwrap();
    assert!(matches!(error, BusError::Connect { .. }) && !error.to_string().contains("other"), "{error}");
    let error = JetStream::connect(with(user(folder.path().join("absent")))).await.err().unwrap();
    assert!(matches!(error, BusError::Option { .. }) && !error.is_transient(), "{error}");
    let error = JetStream::connect(with(NatsAuth::CredentialsFile(secret.clone()))).await.err().unwrap();
    assert!(matches!(error, BusError::Option { .. }), "{error}");
    drop(server);
    let server = NatsServer::start_with("authorization { token: s3cret }");
    let options = NatsOptions { auth: NatsAuth::TokenFile(secret), ..NatsOptions::new(server.url()) };
    JetStream::connect(options).await.unwrap();
}

#[tokio::test]
async fn no_server_is_a_transient_failure() {
    let options =
        NatsOptions { connect_timeout: Duration::from_secs(1), ..NatsOptions::new("nats://127.0.0.1:9") };
    let error = JetStream::connect(options).await.err().unwrap();
    assert!(matches!(error, BusError::Connect { .. }) && error.is_transient(), "{error}");
    let options = NatsOptions { servers: Vec::new(), ..NatsOptions::default() };
    assert!(matches!(JetStream::connect(options).await, Err(BusError::Option { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_work_queue_goes_on_after_the_server_starts_anew() {
    let mut server = NatsServer::start();
    let bus = connect(&server).await;
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    publish_numbers(&bus, "a", 1, 20).await;
    let mut work = queue::attach(&bus, "A").await;
    let taken = queue::take(&mut *work, 20).await;
    for delivery in taken.iter().filter(|delivery| delivery.sequence % 5 != 0) {
        work.ack(delivery).await.unwrap();
    }
    work.retry_later(&taken[4], Duration::from_secs(3_600)).await.unwrap();
    // An orderly end: one that crashes may forget acknowledgements, which is more work and no loss.
    server.stop();
    let error = work.next_batch(1, Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(error, BusError::ConsumerLost { .. }) && error.is_transient(), "{error}");
    server.restart();
    let mut work = loop {
        match bus.attach("A", "worker", None, queue::ACK_WAIT).await {
            Ok(work) => break work,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let rest = queue::collect(&mut *work, queue::ACK_WAIT * 3).await;
    assert_eq!(queue::sequences(&rest), [10, 15, 20], "the fifth waits for an hour");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_work_queue_is_never_made_anew() {
    let server = NatsServer::start();
    let bus = connect(&server).await;
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    publish_numbers(&bus, "a", 1, 3).await;
    let mut work = queue::attach(&bus, "A").await;
    let taken = queue::take(&mut *work, 3).await;
    work.ack(&taken[0]).await.unwrap();
    let stream = bus.context.get_stream("A").await.unwrap();
    let before = stream.consumer_info("worker").await.unwrap();
    bus.attach("A", "worker", None, Duration::from_secs(7)).await.unwrap();
    let after = stream.consumer_info("worker").await.unwrap();
    assert_eq!((after.created, after.ack_floor.stream_sequence), (before.created, 1));
    assert_eq!(after.config.ack_wait, Duration::from_secs(7));
    assert_eq!((after.config.max_ack_pending, after.config.max_deliver), (100_000, -1));
    // A consumer that was opened at a position is none.
    bus.open("A", "reader", 2).await.unwrap();
    let error = bus.attach("A", "reader", None, queue::ACK_WAIT).await.err().unwrap();
    assert!(matches!(error, BusError::IncompatibleConsumer { .. }), "{error}");
    stream.delete_consumer("worker").await.unwrap();
    let mut error = work.next_batch(1, Duration::from_secs(3)).await;
    if error.is_ok() {
        // The server answers nothing to who asks a consumer that is gone: that is noticed a little later.
        error = work.next_batch(1, Duration::from_secs(3)).await;
    }
    let error = error.unwrap_err();
    assert!(matches!(error, BusError::ConsumerLost { .. }), "{error}");
    let error = work.ack(&taken[1]).await.unwrap_err();
    assert!(matches!(error, BusError::ConsumerLost { .. }), "{error}");
}
