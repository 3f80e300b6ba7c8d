#![allow(clippy::unwrap_used)]

use super::*;
use crate::clock::Clock;
use crate::signer::{DevKey, DevRoot, Signer};
use crate::test_support::node::{CLUSTER, TestNode};
use cdr_core::command::Command;
use cdr_core::hash::from_hex;
use cdr_core::time::HOUR_MS;
use cdr_core::{Hour, Millis};
use std::path::Path;

const START: Hour = Hour(493_525);

fn clock() -> Clock {
    Clock::replay(Millis(START.start().0 + 1_000))
}

fn keys(dir: &Path) -> (DevKey, DevRoot) {
    let signer = DevKey::load_or_create(&dir.join("signer.key"), "seal").unwrap();
    (signer, DevRoot::load_or_create(&dir.join("root.key")).unwrap())
}

async fn register(node: &TestNode, signer: &DevKey, voucher: &Voucher) {
    let public_key = signer.public_key(signer.key_id()).unwrap();
    register_key(&node.proposer, signer.key_id(), &public_key, voucher).await.unwrap();
}

fn configured(ids: &[&str]) -> Vec<(String, String)> {
    ids.iter().map(|id| ((*id).to_owned(), "4120101".to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_whose_hour_ends_before_they_are_in_the_log_are_made_again() {
    let (clock, operators) = (clock(), configured(&["LATE"]));
    let node = TestNode::begin(clock.clone()).await;
    let mut wanted = Vec::new();
    let rows = |state: &LedgerState, next: Hour| {
        wanted.push(next);
        if wanted.len() == 1 {
            // The hour ends while the rows are made: they would join in an hour that has begun.
            clock.observe(Millis(clock.now().0 + HOUR_MS));
        }
        Ok(operator_rows(&operators, state, next))
    };
    let reply = append_for_next_hour(&node.proposer, "operators", rows).await.unwrap();
    assert!(matches!(reply, Some(Reply::Appended { .. })), "{reply:?}");
    assert_eq!(wanted, [START.next(), START.next().next()]);
    let state = node.proposer.state();
    assert_eq!(state.registry.last().unwrap().effective_from, START.next().next());
    // Rows that are illegal for another reason are not tried for ever.
    let illegal = configured(&["_own"]);
    let rows = |state: &LedgerState, next| Ok(operator_rows(&illegal, state, next));
    let reply = append_for_next_hour(&node.proposer, "operators", rows).await.unwrap();
    assert!(matches!(reply, Some(Reply::Rejected(Rejection::Illegal { .. }))), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_join_once() {
    let node = TestNode::begin(clock()).await;
    for _ in 0..2 {
        join(&node.proposer, &configured(&["AWCC", "ETS"])).await.unwrap();
        let ids: Vec<_> =
            node.proposer.state().registry.iter().skip(1).map(|o| o.operator_id.clone()).collect();
        assert_eq!(ids, ["AWCC", "ETS"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_makes_its_key_known_from_the_next_hour_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let node = TestNode::begin(clock.clone()).await;
    let (signer, root) = keys(dir.path());
    let public = from_hex(&root.public_key_hex()).unwrap();
    let voucher = Voucher::DevRoot(root);
    clock.observe(Millis(START.start().0 + 5 * HOUR_MS));
    for _ in 0..2 {
        register(&node, &signer, &voucher).await;
    }
    let state = node.proposer.state();
    assert_eq!((state.keys.len(), state.head.open_hour), (1, Hour(START.0 + 5)));
    assert_eq!(state.settings.get(KEY_SETTING), Some(signer.key_id()));
    assert_eq!(state.keys[0].from_hour, Hour(START.0 + 6));
    assert!(state.keys[0].is_trusted(CLUSTER, &public));
    // The hours before it are nobody's to sign.
    clock.observe(Millis(START.start().0 + 7 * HOUR_MS));
    node.proposer.propose(Command::Seal).await.unwrap();
    assert_eq!(node.proposer.state().head.next_unsigned, Hour(START.0 + 6));

    // A second replica with a key of its own comes to lead.
    let (other_dir, other_hour) = (tempfile::tempdir().unwrap(), Hour(START.0 + 8));
    let (other, _) = keys(other_dir.path());
    register(&node, &other, &voucher).await;
    let state = node.proposer.state();
    assert_eq!(state.signing_key(Hour(START.0 + 7)).unwrap().key_id, signer.key_id());
    assert_eq!(state.signing_key(other_hour).unwrap().key_id, other.key_id());
    assert_eq!(state.settings.get(KEY_SETTING), Some(other.key_id()));

    // Whoever is configured with the key before changes nothing any more.
    let rows = state.head.row_count;
    register(&node, &signer, &voucher).await;
    let state = node.proposer.state();
    assert_eq!((state.head.row_count, state.settings.get(KEY_SETTING)), (rows, Some(other.key_id())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_is_missing_is_added_to_a_known_key() {
    let dir = tempfile::tempdir().unwrap();
    let node = TestNode::begin(clock()).await;
    let (signer, root) = keys(dir.path());
    let record = root.vouch(&signer, CLUSTER, START.next()).unwrap();
    node.proposer.append_rows("test", vec![(SystemKind::Key, to_jcs(&record))]).await.unwrap();
    assert_eq!(node.proposer.state().settings.get(KEY_SETTING), None);
    register(&node, &signer, &Voucher::DevRoot(root)).await;
    let state = node.proposer.state();
    assert_eq!((state.keys.len(), state.settings.get(KEY_SETTING)), (1, Some(signer.key_id())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_record_counts_from_its_own_hour_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let node = TestNode::begin(clock.clone()).await;
    let (signer, root) = keys(dir.path());
    clock.observe(Millis(START.start().0 + 5 * HOUR_MS));
    let early = Voucher::Record(root.vouch(&signer, CLUSTER, START).unwrap());
    register(&node, &signer, &early).await;
    assert!(node.proposer.state().key(signer.key_id()).is_none(), "it would cover sealed hours");
    let later = Voucher::Record(root.vouch(&signer, CLUSTER, Hour(START.0 + 30)).unwrap());
    register(&node, &signer, &later).await;
    let state = node.proposer.state();
    assert_eq!(state.key(signer.key_id()).unwrap().from_hour, Hour(START.0 + 30));
}
