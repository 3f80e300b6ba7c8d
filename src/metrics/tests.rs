#![allow(clippy::unwrap_used)]

use super::*;
use crate::test_support::node::ledger_begun_at as state;
use std::time::Duration;

fn line(text: &str, name: &str) -> String {
    text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
}

#[test]
fn an_hour_is_overdue_once_it_has_ended() {
    let metrics = Metrics::new().unwrap();
    let start = Millis::parse("2026-04-20T13:00:00Z").unwrap();
    let state = state(start);
    let show = |at: &str| {
        let now = Millis::parse(at).unwrap();
        let text = metrics.render(now, &state, &NodeMetrics::default(), &StoreMetrics::default()).unwrap();
        line(&text, "cdr_bucket_seal_overdue ")
    };
    assert_eq!(show("2026-04-20T13:59:59.999Z"), "cdr_bucket_seal_overdue 0");
    assert_eq!(show("2026-04-20T14:00:00Z"), "cdr_bucket_seal_overdue 1");
    assert_eq!(show("2026-04-20T17:10:00Z"), "cdr_bucket_seal_overdue 4");
}

#[test]
fn only_who_leads_counts_as_the_leader() {
    let metrics = Metrics::new().unwrap();
    let show = |leads: bool, failure: Option<&str>| {
        // A replica may think of itself as the leader and not be confirmed.
        let node = NodeMetrics {
            node_id: 1,
            leader: Some(1),
            leads,
            failure: failure.map(str::to_owned),
            ..NodeMetrics::default()
        };
        let (state, store) = (LedgerState::default(), StoreMetrics::default());
        let text = metrics.render(Millis(0), &state, &node, &store).unwrap();
        ["cdr_raft_is_leader ", "cdr_node_poisoned "].map(|name| line(&text, name))
    };
    assert_eq!(show(true, None), ["cdr_raft_is_leader 1", "cdr_node_poisoned 0"]);
    assert_eq!(show(false, None), ["cdr_raft_is_leader 0", "cdr_node_poisoned 0"]);
    assert_eq!(show(false, Some("it was shut down")), ["cdr_raft_is_leader 0", "cdr_node_poisoned 1"]);
}

#[test]
fn an_unpriced_record_ages() {
    let metrics = Metrics::new().unwrap();
    let show = |store: &StoreMetrics| {
        let (now, state) = (Millis(100_000_000), LedgerState::default());
        let text = metrics.render(now, &state, &NodeMetrics::default(), store).unwrap();
        ["cdr_unpriced_rows ", "cdr_unpriced_oldest_seconds "].map(|name| line(&text, name))
    };
    let oldest_unpriced_at = Some(Millis(100_000_000 - 86_400_000));
    let waiting = StoreMetrics { unpriced_rows: 3, oldest_unpriced_at, ..StoreMetrics::default() };
    assert_eq!(show(&waiting), ["cdr_unpriced_rows 3", "cdr_unpriced_oldest_seconds 86400"]);
    let none = StoreMetrics::default();
    assert_eq!(show(&none), ["cdr_unpriced_rows 0", "cdr_unpriced_oldest_seconds 0"]);
}

#[test]
fn the_backlog_is_as_old_as_its_oldest_entry() {
    let metrics = Metrics::new().unwrap();
    let show = |at: Option<i64>| {
        let store = StoreMetrics { oldest_unpublished_at: at.map(Millis), ..StoreMetrics::default() };
        let text = metrics.render(Millis(90_000), &LedgerState::default(), &NodeMetrics::default(), &store);
        line(&text.unwrap(), "cdr_outbox_backlog_seconds ")
    };
    assert_eq!(show(None), "cdr_outbox_backlog_seconds 0");
    assert_eq!(show(Some(20_500)), "cdr_outbox_backlog_seconds 69");
    assert_eq!(show(Some(91_000)), "cdr_outbox_backlog_seconds 0");
}

#[test]
fn the_signer_is_away_or_refuses_until_it_answers() {
    let metrics = Metrics::new().unwrap();
    let show = || {
        let (node, store) = (NodeMetrics::default(), StoreMetrics::default());
        let text = metrics.render(Millis(0), &LedgerState::default(), &node, &store).unwrap();
        let number = |name| line(&text, name).rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        (number("cdr_signer_unavailable_seconds"), number("cdr_signer_refused"))
    };
    assert_eq!(show(), (0, 0));
    let hour = Duration::from_secs(3_700);
    *metrics.away_since() = Instant::now().checked_sub(hour);
    metrics.signer_is_away("gone".to_owned());
    let (seconds, refused) = show();
    assert!(seconds >= 3_700 && refused == 0, "a further failure does not begin the time anew: {seconds}");
    assert_eq!(metrics.dependencies()["signer"], Err("gone".to_owned()));
    metrics.signer_refuses("wrong PIN".to_owned());
    assert_eq!(show(), (0, 1));
    metrics.signer_answers();
    assert_eq!((show(), &metrics.dependencies()["signer"]), ((0, 0), &Ok(())));
    metrics.signer_refuses("wrong PIN".to_owned());
    metrics.signer_rests();
    assert_eq!(show(), (0, 0), "another node leads");
}

#[test]
fn counters_of_alerts_are_there_from_the_start_and_count() {
    let metrics = Metrics::new().unwrap();
    let state = LedgerState::default();
    let text =
        |node: &NodeMetrics| metrics.render(Millis(0), &state, node, &StoreMetrics::default()).unwrap();
    let before = text(&NodeMetrics::default());
    for name in ["cdr_streams_lost_total 0", "cdr_missing_sequences_total 0", "cdr_node_restricted 0"] {
        line(&before, name);
    }
    // What a replica without a ledger does not have is no 0, nor of 1970.
    for name in ["cdr_bucket_seal_overdue", "cdr_last_recorded_at_ms"] {
        assert!(!before.contains(name), "{before}");
    }
    assert_eq!(line(&before, "cdr_rows "), "cdr_rows 0");
    metrics.batch_read(10, 2, 1);
    metrics.ingested(7, 1);
    metrics.stream_lost("S");
    metrics.consumer("sink");
    metrics.consumed("sink", "done");
    metrics.delivery_outcome("SFTP", "UNREACHABLE");
    metrics.delivery_attempt("SFTP", "DELIVERED");
    metrics.delivery_exhausted();
    metrics.mismatch(Verified::Hour);
    metrics.dead_letter("message is not valid JSON");
    let node = NodeMetrics { fsyncs: 7, restricted: Some("full".to_owned()), ..NodeMetrics::default() };
    let after = text(&node);
    for name in [
        "cdr_streams_lost_total 1",
        "cdr_consumed_messages_total{consumer=\"sink\",outcome=\"done\"} 1",
        "cdr_consumed_messages_total{consumer=\"sink\",outcome=\"dead_letter\"} 0",
        "cdr_missing_sequences_total 1",
        "cdr_delivery_attempts_total{channel=\"sftp\",outcome=\"delivered\"} 1",
        "cdr_delivery_attempts_total{channel=\"sftp\",outcome=\"unreachable\"} 0",
        "cdr_delivery_exhausted_total 1",
        "cdr_ingest_messages_total{outcome=\"appended\"} 7",
        "cdr_verification_mismatches_total{what=\"hour\"} 1",
        "cdr_dead_letters_total{reason=\"message is not valid JSON\"} 1",
        "cdr_node_restricted 1",
        "cdr_raft_fsyncs_total 7",
    ] {
        line(&after, name);
    }
    assert_eq!(line(&text(&node), "cdr_raft_fsyncs_total"), "cdr_raft_fsyncs_total 7");
}
