#![allow(clippy::unwrap_used)]

use super::super::batch::Batcher;
use super::super::projection::Projector;
use super::*;
use crate::pricing::TablePricing;
use crate::test_support::node::{OPERATOR, TestNode, message_id};
use cdr_bus::{AckHandle, Delivery};
use cdr_core::command::{Command, Ingested, Rejection, Reply};
use cdr_core::{Millis, Money};
use serde_json::json;
use std::sync::Arc;

fn batcher(node: &TestNode) -> Batcher {
    let projector = Projector::new("Asia/Kabul", Arc::new(TablePricing::default())).unwrap();
    let position = node.proposer.state().latest_epoch("S").unwrap().position;
    let clock = node.proposer.clock().clone();
    Batcher::new("S".to_owned(), "subject".to_owned(), position, projector, clock, 500)
}

fn receipt(sequence: u64, number: u64, status: &str, final_at: Millis) -> Delivery {
    let payload = json!({
        "messageId": message_id(number).to_string(), "operatorId": OPERATOR, "status": status,
        "direction": "MT", "chargeType": "A2P", "from": "Bank", "to": "+93779999999",
        "serviceCenterAddress": "+93770011111", "messageReference": "7F3B", "segmentCount": 3,
        "encoding": "GSM7", "finalAt": final_at.to_string(), "failureCode": "E7", "traceId": "late",
    });
    Delivery {
        sequence,
        subject: Arc::from("subject"),
        payload: payload.to_string().into(),
        stored_ms: final_at.0,
        ack: AckHandle::unbound(sequence),
    }
}

async fn proposed(node: &TestNode, command: Command<'_>) -> Reply {
    node.proposer.propose(command).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_receipt_becomes_the_correction_of_the_row_in_effect() {
    let node = TestNode::with_records(1).await;
    node.expire([2, 3, 4]).await;
    let state = node.proposer.state();
    let at = Millis(state.head.last_recorded_at.0 + 5_000);
    let mut batcher = batcher(&node);
    // One that is known, one that expired as said, two of which nothing was heard, one that is new, one that comes twice.
    for (offset, number, status) in [
        (0, 1, "FAILED"),
        (1, 2, "EXPIRED"),
        (2, 3, "FAILED"),
        (3, 4, "DELIVERED"),
        (4, 5, "DELIVERED"),
        (5, 3, "DELIVERED"),
    ] {
        let first = state.latest_epoch("S").unwrap().position + 1;
        assert!(batcher.add(&receipt(first + offset, number, status, at), &state).unwrap().is_none());
    }
    let mut batch = batcher.take().unwrap();
    // As it was drafted it would take the late receipts for duplicates.
    let refused = proposed(&node, batch.command("S")).await;
    let message = message_id(3).to_string();
    assert_eq!(refused, Reply::Rejected(Rejection::Outdated { message_id: message }));
    batch.correct(node.proposer.store(), "S").unwrap();
    let reply = proposed(&node, batch.command("S")).await;
    assert!(matches!(reply, Reply::Ingested(Ingested { appended: 3, duplicate: 3, .. })), "{reply:?}");
    let rows = |number| node.proposer.store().rows_of_message(message_id(number)).unwrap();
    assert_eq!([1, 2, 3, 4, 5].map(|number| rows(number).len()), [1, 1, 2, 2, 1]);
    let rows = rows(3);
    let (original, correction) = (rows[0].row().unwrap(), rows[1].row().unwrap());
    let (before, after) = (original.sms().unwrap(), correction.sms().unwrap());
    let adjustment = after.adjustment.as_ref().unwrap();
    assert_eq!((adjustment.of, adjustment.kind), (original.frame.cdr_id, AdjustmentType::Correction));
    assert_eq!((adjustment.ticket_id, adjustment.issued_by), (Some("receipt:S:4"), Some(ISSUER)));
    assert_eq!((correction.frame.source_stream, correction.frame.source_sequence), ("S", 4));
    assert_eq!(correction.frame.trace_id, "late");
    let expected = Sms {
        final_state: FinalState::Failed,
        event_at: at,
        failure_code: Some("E7"),
        failure_text: None,
        adjustment: after.adjustment.clone(),
        ..before.clone()
    };
    assert_eq!(*after, expected, "nothing else changes");
    assert_eq!((before.final_state, after.charge_amount), (FinalState::Expired, None::<Money>));
}
