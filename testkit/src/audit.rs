//! An auditor's recomputation from the API's answers: a JSON library, JCS and SHA-256, nothing of the ledger's code.

use crate::cluster::Cluster;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

type Hash = [u8; 32];

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn from_hex(value: &Value) -> Hash {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

fn padded_root(leaves: &[Hash]) -> Hash {
    let mut level = leaves.to_vec();
    level.resize(leaves.len().next_power_of_two(), [0; 32]);
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| sha256(&[&pair[0], &pair[1]])).collect();
    }
    level[0]
}

/// The members of a record that only its `personalHash` covers.
const PERSONAL: [&str; 7] = [
    "adjustmentReason",
    "calledPartyAddress",
    "callingPartyAddress",
    "failureText",
    "imsi",
    "originalServedSubscriberId",
    "salt",
];

/// Recomputes rows, partitions, operator roots and chains, and the national root and chain of a sealed bucket from the
/// API's pages; returns the message ids of the bucket.
pub fn recompute_bucket(cluster: &Cluster, node: usize, hour: &str) -> BTreeSet<String> {
    let mut partitions: BTreeMap<String, Vec<Hash>> = BTreeMap::new();
    let mut last_hash: BTreeMap<String, Hash> = BTreeMap::new();
    let mut messages = BTreeSet::new();
    let rollups = rollups(cluster, node, hour);
    for (operator, rollup) in &rollups {
        last_hash.insert(operator.clone(), from_hex(&rollup["prevBucketRoot"]));
    }
    let mut sequence = 0;
    let records = format!("/v1/cdr/records?bucketHourFrom={hour}&bucketHourTo={hour}&");
    for mut record in cluster.every_item(node, &records) {
        let members = record.as_object_mut().unwrap();
        let stored = from_hex(&members.remove("rowHash").unwrap());
        let personal: Value =
            PERSONAL.iter().map(|name| ((*name).to_owned(), members.remove(*name).unwrap())).collect();
        let commitment = sha256(&[&serde_json_canonicalizer::to_vec(&personal).unwrap()]);
        assert_eq!(commitment, from_hex(&record["personalHash"]), "personal data of row {}", record["cdrId"]);
        let computed = sha256(&[&serde_json_canonicalizer::to_vec(&record).unwrap()]);
        assert_eq!(computed, stored, "row {}", record["cdrId"]);
        let operator = record["operatorId"].as_str().unwrap().to_owned();
        let previous = last_hash.insert(operator.clone(), stored).unwrap();
        assert_eq!(from_hex(&record["chainHashPrev"]), previous, "chain of {}", record["cdrId"]);
        assert_eq!(record["bucketHour"], *hour);
        let next = record["cdrSequence"].as_u64().unwrap();
        assert!(next > sequence, "sequence {next} after {sequence}");
        sequence = next;
        assert!(
            messages.insert(record["messageId"].as_str().unwrap().to_owned()),
            "message twice in a bucket"
        );
        partitions.entry(operator).or_default().push(stored);
    }
    let mut leaves = Vec::new();
    for (operator, rollup) in &rollups {
        let root = from_hex(&rollup["bucketRoot"]);
        if operator != "_system" {
            let rows = partitions.remove(operator).unwrap_or_default();
            assert_eq!(rollup["recordCount"], rows.len(), "{operator}");
            let empty = sha256(&[format!("EMPTY:{hour}").as_bytes()]);
            let computed = if rows.is_empty() { empty } else { padded_root(&rows) };
            assert_eq!(computed, root, "root of {operator}");
        }
        let chain = from_hex(&rollup["chainHash"]);
        assert_eq!(sha256(&[&from_hex(&rollup["prevChainHash"]), &root]), chain, "chain of {operator}");
        leaves.push(sha256(&[operator.as_bytes(), &[0], &chain]));
    }
    assert!(partitions.is_empty(), "rows of operators without a rollup: {:?}", partitions.keys());
    let (status, national) =
        cluster.post(node, "/v1/cdr/chain/verify", &serde_json::json!({ "bucketHour": hour }));
    assert_eq!(status, 200, "{national}");
    assert_eq!(national["verified"], true, "{national}");
    assert_eq!(padded_root(&leaves), from_hex(&national["bucketRoot"]), "national root");
    messages
}

/// The rollups of a bucket, by operator.
pub fn rollups(cluster: &Cluster, node: usize, hour: &str) -> BTreeMap<String, Value> {
    let path = format!("/v1/cdr/rollups?bucketHourFrom={hour}&bucketHourTo={hour}&limit=500");
    let page = cluster.get_ok(node, &path);
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| (item["operatorId"].as_str().unwrap().to_owned(), item.clone())).collect()
}

/// The completeness statement of a stream in a sealed bucket, after checking that it adds up.
pub fn statement(cluster: &Cluster, node: usize, hour: &str, stream: &str) -> BTreeMap<String, u64> {
    let body = cluster.get_ok(node, &format!("/v1/cdr/completeness?bucketHour={hour}"));
    let streams = body["completeness"].as_array().unwrap_or_else(|| panic!("{body}"));
    let found =
        streams.iter().find(|s| s["stream"] == stream).unwrap_or_else(|| panic!("{stream} in {body}"));
    let numbers: BTreeMap<String, u64> =
        found.as_object().unwrap().iter().filter_map(|(k, v)| Some((k.clone(), v.as_u64()?))).collect();
    let n = |key: &str| numbers[key];
    assert_eq!(n("lastSequence") + 1 - n("firstSequence"), n("received") + n("missing"), "{found}");
    assert_eq!(n("received"), n("appended") + n("duplicate") + n("ignored") + n("deadLettered"), "{found}");
    numbers
}
