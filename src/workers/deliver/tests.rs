#![allow(clippy::unwrap_used)]

use super::*;
use crate::config;
use crate::delivery::{Answer, Channel, Reason, Receipt};
use crate::test_support::settlement::TestSettlement;
use cdr_core::hash::sha256;
use cdr_core::row::Record;
use cdr_storage::{RecordFilter, RowKind};
use futures::future::BoxFuture;
use std::fs::{self, File};
use std::path::Path;

/// Changes a byte of a file, and nothing that a look at its directory would show.
fn damage(path: &Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

fn deliveries(settlement: &TestSettlement) -> (Deliveries, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let config = config::Delivery {
        kind: config::DeliveryKind::Directory,
        directory_path: Some(settlement.dir.path().join("drop")),
        ..config::Delivery::default()
    };
    let channels = CurrentChannels::open(&config, metrics.clone()).unwrap();
    let files = settlement.files.clone();
    (Deliveries { channels: Arc::new(channels), files, metrics: metrics.clone() }, metrics)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_of_an_unknown_kind_stops_the_delivery_by_name() {
    let (_settlement, file) = settled().await;
    let attempted = |channel: &str, error: &str| {
        let outcome = Outcome::Failed { error: error.to_owned(), reason: "why".to_owned() };
        let attempt =
            cdr_core::export::Attempt { at: Millis(i64::MAX), channel: channel.to_owned(), outcome };
        Export { attempts: vec![attempt], ..file.clone() }
    };
    assert_eq!(attempts(&attempted("SFTP", "UNREACHABLE")).unwrap().len(), 1);
    for (channel, error, named) in
        [("PIGEON", "UNREACHABLE", "channel PIGEON"), ("SFTP", "ECLIPSE", "error class ECLIPSE")]
    {
        let refused = attempts(&attempted(channel, error)).unwrap_err().to_string();
        assert!(refused.contains(named) && refused.contains("use a build that knows it"), "{refused}");
    }
}

async fn settled() -> (TestSettlement, Export) {
    let settlement = TestSettlement::begin(3).await;
    for number in 1..=3 {
        settlement.price(number, "0.42").await;
    }
    settlement.pass_hour().await;
    let file = settlement.tap_file().await;
    assert_eq!(file.content.as_ref().unwrap().records_included, 3);
    (settlement, file)
}

/// The delivery goes by what a look at the directory shows; the bytes that it sends it hashes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_damaged_on_disk_is_made_again_and_never_sent_damaged() {
    for (is_trace, name) in [(false, "the file"), (true, "its trace")] {
        let (settlement, file) = settled().await;
        let (deliveries, _) = deliveries(&settlement);
        let at_hand = settlement.files.ensure_for_sending(&file).unwrap();
        assert!(!at_hand.made_now, "it was made just now");
        let path = if is_trace { &at_hand.trace } else { &at_hand.path };
        damage(path);
        assert!(!settlement.files.ensure_for_sending(&file).unwrap().made_now, "it is not read again");

        let proposer = &settlement.node.proposer;
        let channels = deliveries.channels.now().unwrap();
        deliveries.attempt(proposer, &channels, &file, ChannelKind::Directory).await.unwrap();
        let known = settlement.export(file.id);
        assert_eq!(known.delivery_status(), "DELIVERED_DIRECTORY", "{name}: {:?}", known.attempts);
        assert_eq!(known.attempts.len(), 1, "{name}");
        let content = file.content.unwrap();
        for (part, expected) in [
            (file.pins.file_name.clone(), content.file_sha256),
            (cdr_tap::trace_name(&file.pins.file_name), content.trace_sha256),
        ] {
            let sent = fs::read(settlement.dir.path().join("drop").join(&part)).unwrap();
            assert_eq!(sha256(&sent), expected, "{name}: {part}");
        }
        assert_eq!(fs::read_dir(settlement.dir.path().join("drop")).unwrap().count(), 3, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_away_unchecked_is_read_before() {
    let (settlement, file) = settled().await;
    let at_hand = settlement.files.ensure(&file).unwrap();
    assert!(!at_hand.made_now);
    damage(&at_hand.path);
    assert!(settlement.files.ensure(&file).unwrap().made_now);
    assert!(!settlement.files.ensure(&file).unwrap().made_now);
    // What a look shows is enough for a delivery: it is read and found wrong before it is sent.
    let mut bytes = fs::read(&at_hand.trace).unwrap();
    bytes.push(0);
    fs::write(&at_hand.trace, bytes).unwrap();
    assert!(settlement.files.ensure_for_sending(&file).unwrap().made_now);
    fs::remove_file(&at_hand.path).unwrap();
    assert!(settlement.files.ensure_for_sending(&file).unwrap().made_now);
    assert_eq!(sha256(&fs::read(&at_hand.path).unwrap()), file.content.unwrap().file_sha256);
}

/// A REST interface that refuses every file.
struct Refusing;

impl Channel for Refusing {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Api
    }

    fn deliver<'a>(&'a self, _: &'a Parcel) -> BoxFuture<'a, Result<Receipt, DeliveryError>> {
        Box::pin(async {
            let answer = Answer {
                status: 422,
                body: r#"{"code":"SIGNATURE_INVALID","first":"+93701234567"}"#.to_owned(),
                receipt_id: Some("R-9".to_owned()),
                reason: Some(Reason::SignatureInvalid),
            };
            let (place, what) = ("https://receiver".to_owned(), "the receiver answered 422".to_owned());
            let (class, channel) = (ErrorClass::Rejected, ChannelKind::Api);
            Err(DeliveryError { class, channel, place, what, answer: Some(answer) })
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_kept_with_the_attempt_and_what_waits_behind_it_is_named() {
    let (settlement, file) = settled().await;
    let (deliveries, metrics) = deliveries(&settlement);
    let proposer = &settlement.node.proposer;
    let channels = Channels::new(vec![Arc::new(Refusing)], metrics).unwrap();
    deliveries.attempt(proposer, &channels, &file, ChannelKind::Api).await.unwrap();
    let known = settlement.export(file.id);
    assert_eq!((known.delivery_status().as_str(), known.failures), ("FAILED", 1));

    let of_kind = Some(RowKind::System(SystemKind::Delivery));
    let filter = RecordFilter { of_kind, ..RecordFilter::default() };
    let page = proposer.store().query(&filter, None, 10).unwrap();
    let [stored] = &page.rows[..] else { panic!("{} rows", page.rows.len()) };
    let row = stored.row().unwrap();
    let Record::System(system) = &row.record else { panic!("not a system row") };
    let body = serde_json::Value::Object(system.content().unwrap());
    let expected = serde_json::json!({
        "atraReceiptId": "R-9", "payload": r#"{"code":"SIGNATURE_INVALID","first":"+***"}"#,
        "rejectionReason": "SIGNATURE_INVALID", "retryCount": 0, "status": 422,
    });
    assert_eq!(body["answer"], expected);

    assert_eq!(behind(proposer, &known), Vec::<String>::new());
    settlement.pass_hour().await;
    let later = settlement.tap_file().await;
    assert_eq!(behind(proposer, &known), std::slice::from_ref(&later.pins.file_name));
    assert_eq!(first_of_each(proposer).iter().map(|first| first.id).collect::<Vec<_>>(), [file.id]);
}
