#![allow(clippy::unwrap_used)]

use super::*;
use crate::test_support::settlement::{TestSettlement, key};
use cdr_core::Money;
use std::collections::BTreeSet;

/// A TAP file of the messages 1 to 3, which were corrected since: to another charge, or to one in a currency for which
/// there is no rate, which no file can express.
async fn corrected(fit: u64) -> (TestSettlement, Vec<CdrId>) {
    let settlement = TestSettlement::begin(3).await;
    for number in 1..=3 {
        settlement.price(number, "0.42").await;
    }
    settlement.pass_hour().await;
    settlement.tap_file().await;
    let mut corrections = Vec::new();
    for number in 1..=3 {
        let currency = if number <= fit { "AFN" } else { "XTS" };
        let change = |sms: &mut cdr_core::row::Sms<'_>| {
            (sms.charge_amount, sms.charge_currency) = (Money::parse("0.5"), Some(currency));
        };
        corrections.push(settlement.correct(number, change).await);
    }
    settlement.pass_hour().await;
    (settlement, corrections)
}

/// What is decided about the next RAP file, as [`Exports::open`] does it.
async fn open_rap(settlement: &TestSettlement) -> ExportStep {
    let proposer = &settlement.node.proposer;
    let pins = settlement.pins(ExportType::Rap);
    let due = Due {
        key: key(ExportType::Rap),
        day: pins.settlement_day,
        recording_entity: pins.recording_entity.clone(),
        before: proposer.state().exports.reached(&key(ExportType::Rap)).copied(),
    };
    let (step, unfit) = first_step(proposer.store(), &settlement.files, &due, pins).unwrap();
    quarantine(proposer, unfit).await.unwrap();
    settlement.append(&step).await;
    step
}

/// Records in quarantine.
fn waiting(settlement: &TestSettlement) -> BTreeSet<String> {
    let mut waiting = BTreeSet::new();
    let each = |entry: Quarantined| waiting.insert(entry.unfit.cdr_id);
    settlement.node.proposer.store().unresolved_quarantine(None, each).unwrap();
    waiting
}

fn names(ids: &[CdrId]) -> BTreeSet<String> {
    ids.iter().map(ToString::to_string).collect()
}

async fn resubmit(settlement: &TestSettlement) {
    let mut ids = Vec::new();
    let each = |entry: Quarantined| {
        ids.push(entry.name());
        true
    };
    settlement.node.proposer.store().unresolved_quarantine(None, each).unwrap();
    for quarantine_id in ids {
        let step = QuarantineStep::Resubmitted { quarantine_id, resolved_by: "somebody".to_owned() };
        append(&settlement.node.proposer, vec![(SystemKind::Quarantine, to_jcs(&step))]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rap_file_that_could_hold_nothing_takes_no_number() {
    let (settlement, corrections) = corrected(0).await;
    let numbers = || {
        let state = settlement.node.proposer.state();
        state.exports.last_number(crate::export::REGULATOR, ExportType::Rap, "4120101")
    };
    assert!(matches!(open_rap(&settlement).await, ExportStep::Skipped { .. }));
    assert_eq!(waiting(&settlement), names(&corrections), "what can't be expressed waits in quarantine");
    assert_eq!(numbers(), None);
    // The next day has nothing new.
    assert!(matches!(open_rap(&settlement).await, ExportStep::Skipped { .. }));
    assert_eq!(waiting(&settlement).len(), 3, "once each");
    // Sent on as they are, they go there again.
    resubmit(&settlement).await;
    assert_eq!(waiting(&settlement), BTreeSet::new());
    assert!(matches!(open_rap(&settlement).await, ExportStep::Skipped { .. }));
    assert_eq!(waiting(&settlement), names(&corrections));
    assert_eq!(numbers(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rap_file_holds_what_can_be_expressed() {
    let (settlement, corrections) = corrected(1).await;
    let ExportStep::Opened(pins) = open_rap(&settlement).await else { panic!("it is not opened") };
    assert_eq!(waiting(&settlement), BTreeSet::new(), "who is in quarantine is known once the file is made");
    let export = settlement.open_files().into_iter().find(|export| export.pins == pins).unwrap();
    let made = settlement.files.make(&export).unwrap();
    assert_eq!(made.content.records_included, 1);
    let unfit: BTreeSet<String> = made.unfit.into_iter().map(|unfit| unfit.cdr_id).collect();
    assert_eq!(unfit, names(&corrections[1..]));
}

/// Rows may come between the look and the row that says that there was nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_resubmitted_while_a_day_is_left_out_is_not_lost() {
    let (settlement, corrections) = corrected(0).await;
    open_rap(&settlement).await;
    let pins = settlement.pins(ExportType::Rap);
    let before = settlement.node.proposer.state().exports.reached(&key(ExportType::Rap)).copied();
    let (day, recording_entity) = (pins.settlement_day, pins.recording_entity.clone());
    let due = Due { key: key(ExportType::Rap), day, recording_entity, before };
    let (step, unfit) = first_step(settlement.node.proposer.store(), &settlement.files, &due, pins).unwrap();
    assert_eq!(unfit, []);
    resubmit(&settlement).await;
    settlement.append(&step).await;
    open_rap(&settlement).await;
    assert_eq!(waiting(&settlement), names(&corrections), "they were looked at again");
}
