//! Generated receipts, and their way to the bus.

use cdr_bus::{JetStream, NatsOptions, PublishOptions, publish_file};
use cdr_mediation::generate::{GenerateOptions, Generator, LineKind};
use serde_json::Value;
use std::collections::BTreeSet;
use testkit::unix_seconds;
use tokio::runtime::{Builder, Runtime};

pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A day that is over: of today's, events that are still to come would be dead letters.
pub fn yesterday() -> String {
    cdr_core::Millis((unix_seconds() - 86_400) * 1000).to_string()[..10].to_owned()
}

/// Yesterday's receipts as NDJSON, with the message ids that must become records and the number of lines that can't.
pub fn lines(records: u64, seed: u64) -> (Vec<u8>, BTreeSet<String>, u64) {
    lines_of_day(&yesterday(), records, seed)
}

/// The same of another day.
pub fn lines_of_day(day: &str, records: u64, seed: u64) -> (Vec<u8>, BTreeSet<String>, u64) {
    let mut text = Vec::new();
    let (mut messages, mut malformed) = (BTreeSet::new(), 0);
    for line in Generator::new(GenerateOptions::new(day, records, seed).unwrap()) {
        match line.kind {
            LineKind::Final | LineKind::Late | LineKind::Duplicate => {
                let dlr: Value = serde_json::from_slice(&line.json).unwrap();
                messages.insert(dlr["messageId"].as_str().unwrap().to_owned());
            }
            LineKind::NonFinal => (),
            LineKind::Malformed(_) => malformed += 1,
        }
        text.extend_from_slice(&line.json);
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
    }
    (text, messages, malformed)
}

pub async fn connect(url: &str) -> JetStream {
    JetStream::connect(NatsOptions::new(url)).await.unwrap()
}

/// Publishes every line, beside whatever else the test does.
pub async fn publish_all(url: String, text: Vec<u8>) {
    let report =
        publish_file(&connect(&url).await, &text[..], &PublishOptions::default(), |_| ()).await.unwrap();
    assert_eq!(report.published, text.split_inclusive(|&b| b == b'\n').count() as u64);
}

/// Publishes every line, and waits for it.
pub fn publish(runtime: &Runtime, url: &str, text: &[u8]) {
    runtime.block_on(publish_all(url.to_owned(), text.to_vec()));
}
