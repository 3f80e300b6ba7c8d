#![allow(clippy::unwrap_used)]

use super::*;
use crate::test_support::node::TestNode;
use cdr_core::Hour;
use cdr_core::canonical::to_jcs;
use std::pin::pin;

fn audit(number: u64) -> SystemRow {
    (SystemKind::Audit, to_jcs(&serde_json::json!({ "number": number })))
}

/// Uses up the time that the runtime gives this task before it has to wait.
fn exhaust_budget() {
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
    (0..1_000).for_each(|n| send.send(n).unwrap());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut received = 0;
    while pin!(receive.recv()).poll(&mut context).is_ready() {
        received += 1;
    }
    assert!(received < 1_000, "the budget does not end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_has_used_up_its_time_proposes_in_order() {
    let node = TestNode::begin(Clock::replay(Hour(493_525).start())).await;
    let proposer = node.proposer.clone();
    let task = async move {
        let mut proposals = Vec::new();
        exhaust_budget();
        for number in 0..8 {
            let drafts = proposer.system_drafts("test", vec![audit(number)]).unwrap();
            let append = Append { source: Source::Api, drafts: drafts.drafts() };
            proposals.push(proposer.start(Command::Append(append)).await.unwrap());
        }
        // Whoever is awaited first must not come first for it.
        let mut places = Vec::new();
        for proposal in proposals.into_iter().rev() {
            let Reply::Appended { first_sequence, .. } = proposal.await.unwrap() else { panic!("refused") };
            places.push(first_sequence);
        }
        places.reverse();
        places
    };
    assert_eq!(tokio::spawn(task).await.unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_t_be_made_or_encoded_is_told_apart_from_what_the_log_refuses() {
    let node = TestNode::begin(Clock::replay(Hour(493_525).start())).await;
    let row = (SystemKind::Audit, Err("no body".to_owned()));
    let error = node.proposer.append_rows("test", vec![row]).await.unwrap_err();
    assert!(matches!(error, ProposalError::Rows { .. }), "{error}");
    assert_eq!(error.to_string(), "system rows can't be made: no body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_set_stamps_nothing_until_it_is_compared() {
    let (node, clock) = (TestNode::begin(Clock::replay(Hour(493_525).start())).await, Clock::skewed(0));
    let proposer = &node.proposer;
    let (raft, store) = (proposer.node().clone(), proposer.store().clone());
    let of = |limit_ms| Proposer::new(raft.clone(), store.clone(), clock.clone(), proposer.term(), limit_ms);
    let (strict, patient) = (of(200), of(1_000));
    clock.skew(500);
    assert!(strict.clock_jumped() && !patient.clock_jumped());
    let refused = strict.propose(Command::Seal).await;
    assert!(matches!(refused, Err(ProposalError::ClockIsOff)), "{refused:?}");
    strict.set_clock_is_right(true);
    assert!(!strict.clock_jumped());
}
