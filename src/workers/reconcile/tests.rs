#![allow(clippy::unwrap_used)]

use super::*;
use crate::test_support::node::{OPERATOR, TestNode, message_id};
use cdr_core::command::Bill;
use cdr_core::time::HOUR_MS;
use cdr_core::{Millis, Money};
use cdr_storage::HourCounts;

/// The counts of the operator in the hour that is open.
fn counts(node: &TestNode) -> HourCounts {
    let hour = node.proposer.state().head.open_hour;
    let found = node.proposer.store().reconciliation((hour, hour), None, None, 10).unwrap();
    found.into_iter().next().map(|(_, _, counts)| counts).unwrap_or_default()
}

async fn bill(node: &TestNode, numbers: &[u64]) {
    let now = node.proposer.clock().now();
    let bills = numbers.iter().map(|number| Bill {
        message_id: message_id(*number),
        operator_id: OPERATOR,
        amount: Money::parse("0.5").unwrap(),
        currency: "AFN",
        occurred_at: now,
    });
    let reconcile = Reconcile { bills: bills.collect(), ..Reconcile::default() };
    assert_eq!(node.proposer.propose(Command::Reconcile(reconcile)).await.unwrap(), Reply::Reconciled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_finds_the_record_that_comes_after_it() {
    let node = TestNode::with_records(2).await;
    let many: Vec<u64> = (1..=2 * PAGE as u64).collect();
    bill(&node, &many).await;
    let before = counts(&node);
    assert_eq!((before.originals, before.differing, before.missing_in_cdr), (2, 2, many.len() as u64 - 2));
    node.record([3, 1_990]).await;
    assert_eq!(counts(&node).missing_in_cdr, before.missing_in_cdr, "nobody has looked again yet");
    assert_eq!(round(&node.proposer, 24, None).await.unwrap(), None);
    let after = counts(&node);
    assert_eq!((after.originals, after.differing, after.missing_in_billing()), (4, 4, 0));
    assert_eq!(after.missing_in_cdr, before.missing_in_cdr - 2);
    assert_eq!(after.sums, before.sums, "billing's sum is the same");
    // Nothing is left to be done: nothing is proposed.
    let index = node.proposer.node().applied_index();
    round(&node.proposer, 24, None).await.unwrap();
    assert_eq!(node.proposer.node().applied_index(), index);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_too_long_is_forgotten_and_stays_counted() {
    let node = TestNode::with_records(1).await;
    bill(&node, &[7, 8]).await;
    let clock = node.proposer.clock();
    let (hour, now) = (node.proposer.state().head.open_hour, clock.now());
    let waiting = || node.proposer.store().unmatched_bills(None, 10).unwrap().len();
    clock.observe(Millis(now.0 + 24 * HOUR_MS));
    round(&node.proposer, 24, None).await.unwrap();
    assert_eq!(waiting(), 2, "the last hour that is kept");
    clock.observe(Millis(now.0 + 25 * HOUR_MS));
    round(&node.proposer, 24, None).await.unwrap();
    assert_eq!(waiting(), 0);
    let found = node.proposer.store().reconciliation((hour, hour), None, None, 10).unwrap();
    assert_eq!(found[0].2.missing_in_cdr, 2);
}
