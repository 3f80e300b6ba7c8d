//! Adjustments and bulk jobs on three real processes, while receipts come in and leaders are killed.

use crate::receipts::{lines, publish, publish_all, runtime};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use testkit::cluster::Cluster;
use testkit::nats::NatsServer;
use testkit::wait_until;

/// Receipts that are there when the job is asked for, and receipts that come in while it runs.
const BEFORE: u64 = 30_000;
const MEANWHILE: u64 = 15_000;

/// A price list that holds for no event yet: only what names it is rated by it.
const SECOND_LIST: &str = "[[pricing.tables]]\nversion = \"test-2\"\nvalid_from = \"2100-01-01T00:00:00Z\"\n\
     [[pricing.tables.tariffs]]\nper_segment = \"0.500001\"\ncurrency = \"AFN\"\ntap_tariff_class = \"A042\"\n";

fn micros(amount: &Value) -> i128 {
    let text = amount.as_str().unwrap();
    assert_eq!(text.split_once('.').unwrap().1.len(), 6, "{text}");
    text.replace('.', "").parse().unwrap()
}

fn rerate(table: &str) -> Value {
    let filter = json!({"bucketHourFrom": "2020-01-01T00:00:00Z"});
    json!({"filter": filter, "newPricingTableId": table, "ticketId": "T-5000", "reason": "tariff change"})
}

/// What a job is when it has ended.
fn ended(cluster: &Cluster, id: usize, job: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let (status, told) = cluster.get(id, &format!("/v1/cdr/adjustments/jobs/{job}"));
        if status == 200 && told["status"] != "RUNNING" {
            return told;
        }
        assert!(Instant::now() < deadline, "it does not end: {told}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(cluster: &Cluster, id: usize, table: &str, headers: &[(&str, &str)]) -> Value {
    let (status, _, job) = cluster.post_with(id, "/v1/cdr/adjustments/rerate", &rerate(table), headers);
    assert_eq!(status, 202, "{job}");
    job
}

#[test]
fn a_job_outlives_its_leader_and_adjusts_every_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let runtime = runtime();
    let ((text, before, _), (more, meanwhile, _)) = (lines(BEFORE, 1), lines(MEANWHILE, 2));
    let (count, more_count) = (before.len(), meanwhile.len());
    let mut cluster = Cluster::start_configured(dir.path(), &nats.url(), SECOND_LIST);
    publish(&runtime, &nats.url(), &text);
    wait_until("the records of before", 120, || {
        (1..=3).all(|id| cluster.sms_rows(id).is_some_and(|rows| rows >= count as u64))
    });

    let leader = cluster.leader();
    let follower = 1 + leader % 3;
    let originals = cluster.every_item(follower, "/v1/cdr/records?");
    assert_eq!(originals.len(), count);
    let adjust = |cluster: &Cluster, id: usize, n: usize, body: &Value, key: &str| {
        let path = format!("/v1/cdr/{}/adjustments", originals[n]["cdrId"].as_str().unwrap());
        cluster.post_with(id, &path, body, &[("Idempotency-Key", key)])
    };
    let void = json!({"type": "VOID", "voidReason": "DUPLICATE_DLR", "ticketId": "T-1"});
    let correction = json!({"type": "CORRECTION", "reason": "why", "ticketId": "T-2",
        "correctedFields": {"chargeAmount": "7.000000"}});
    let (status, node, first) = adjust(&cluster, follower, 0, &correction, "first");
    assert_eq!((status, node), (201, follower.to_string()), "a follower has it performed: {first}");
    for n in 1..=3 {
        assert_eq!(adjust(&cluster, follower, n, &void, &format!("void-{n}")).0, 201);
    }

    let key = [("Idempotency-Key", "job")];
    let started = start(&cluster, follower, "test-2", &key);
    assert_eq!(started["estimatedImpact"], count);
    let job = started["jobId"].as_str().unwrap();
    let publishing = runtime.spawn(publish_all(nats.url(), more));
    let told = loop {
        let told = cluster.get_ok(leader, &format!("/v1/cdr/adjustments/jobs/{job}"));
        if told["processed"] != 0 {
            break told;
        }
    };
    cluster.kill(leader);
    assert_eq!(told["status"], "RUNNING", "the leader was killed too late: {told}");
    let next = cluster.leader();
    assert_ne!(next, leader);
    assert_eq!(adjust(&cluster, next, 0, &correction, "first").2, first, "after another leader was elected");
    let told = ended(&cluster, next, job);
    assert_eq!(told["status"], "FINISHED", "{told}");
    assert_eq!(start(&cluster, next, "test-2", &key), started);
    cluster.restart(leader);
    runtime.block_on(publishing).unwrap();

    let rerated = cluster.every_item(next, "/v1/cdr/adjustments?adjustmentType=RE_RATE&");
    let messages: BTreeSet<&str> = rerated.iter().map(|row| row["messageId"].as_str().unwrap()).collect();
    assert_eq!(messages.len(), rerated.len(), "no message is rated twice");
    // Everything of before but the voided; nothing of what came while the job ran.
    let expected: BTreeSet<&str> = originals
        .iter()
        .enumerate()
        .filter(|(n, _)| !(1..=3).contains(n))
        .map(|(_, row)| row["messageId"].as_str().unwrap())
        .collect();
    assert!(messages == expected, "{} messages are rated, not {}", messages.len(), expected.len());
    let mut charges: BTreeMap<&str, i128> =
        originals.iter().map(|row| (row["cdrId"].as_str().unwrap(), micros(&row["chargeAmount"]))).collect();
    let corrected = first["adjustmentId"].as_str().unwrap().replacen("adj_", "cdr_", 1);
    charges.insert(&corrected, 7_000_000);
    let mut sum = 0;
    for row in &rerated {
        assert_eq!(
            micros(&row["chargeAmount"]),
            500_001 * i128::from(row["segmentCount"].as_u64().unwrap()),
            "{row}"
        );
        assert_eq!((&row["tariffVersion"], &row["tapTariffClass"]), (&json!("test-2"), &json!("A042")));
        sum += micros(&row["chargeAmount"]) - charges[row["adjustmentOf"].as_str().unwrap()];
    }
    assert_eq!(micros(&told["sumDeltaMinor"]), sum);
    for (name, number) in [("adjusted", rerated.len()), ("voided", 3), ("unchanged", 0), ("unpriced", 0)] {
        assert_eq!(told[name], number, "{name}: {told}");
    }
    assert_eq!(told["processed"], count);

    wait_until("every receipt on every replica", 120, || {
        (1..=3).all(|id| cluster.sms_rows(id) == Some((count + more_count) as u64))
    });
    for id in 1..=3 {
        assert_eq!(cluster.get_ok(id, &format!("/v1/cdr/adjustments/jobs/{job}")), told, "replica {id}");
        assert_eq!(adjust(&cluster, id, 0, &correction, "first").2, first, "replica {id}");
    }
    // What was rated by that list stays; what came later is rated now.
    let again = start(&cluster, follower, "test-2", &[]);
    let told = ended(&cluster, follower, again["jobId"].as_str().unwrap());
    assert_eq!(
        (&told["unchanged"], &told["adjusted"]),
        (&json!(rerated.len()), &json!(more_count)),
        "{told}"
    );
    assert_eq!(cluster.every_item(follower, "/v1/cdr/records?net=true&").len(), count + more_count);
}

#[test]
fn a_job_by_an_unknown_price_list_fails_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let cluster = Cluster::start_configured(dir.path(), &nats.url(), SECOND_LIST);
    let leader = cluster.leader();
    let job = start(&cluster, leader, "test-3", &[]);
    let told = ended(&cluster, leader, job["jobId"].as_str().unwrap());
    assert_eq!(told["status"], "FAILED");
    assert!(told["error"].as_str().unwrap().contains("test-3"), "{told}");
    assert!(told["finishedAt"].is_string());
    // It is in nobody's way.
    let job = start(&cluster, leader, "test-2", &[]);
    let told = ended(&cluster, leader, job["jobId"].as_str().unwrap());
    assert_eq!((&told["status"], &told["processed"]), (&json!("FINISHED"), &json!(0)), "{told}");
}
