#![allow(clippy::unwrap_used)]

use super::*;
use crate::pricing::TablePricing;
use crate::test_support::node::{OPERATOR, TestNode, message_id};
use cdr_core::row::{BillingIndicator, Direction, Sms};
use cdr_core::tariff::{Tariff, TariffTable};
use cdr_core::{Millis, Money};

/// A price list for messages of one direction.
fn prices(version: &str, direction: Direction) -> Arc<dyn Pricing> {
    let tariff = Tariff {
        operator_id: Some(OPERATOR.to_owned()),
        tenant_id: None,
        charge_type: None,
        direction: Some(direction),
        per_segment: Money::parse("0.21").unwrap(),
        currency: "AFN".to_owned(),
        tap_tariff_class: "A040".to_owned(),
        billing_indicator: BillingIndicator::Chargeable,
    };
    let (valid_from, tariffs) = (Millis(0), vec![tariff]);
    let table = TariffTable { version: version.to_owned(), valid_from, valid_to: None, tariffs };
    Arc::new(TablePricing::new(vec![table]).unwrap())
}

/// How many rows a message has, and what `look` sees in the last one.
fn last<T>(node: &TestNode, number: u64, look: impl FnOnce(&Sms<'_>) -> T) -> (usize, T) {
    let rows = node.proposer.store().rows_of_message(message_id(number)).unwrap();
    let row = rows.last().unwrap().row().unwrap();
    (rows.len(), look(row.sms().unwrap()))
}

fn waiting(node: &TestNode) -> usize {
    node.proposer.store().unpriced(0, 10_000).unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_list_knows_gets_its_price_and_the_rest_stays() {
    let node = TestNode::with_records(20).await;
    let nothing: Arc<dyn Pricing> = Arc::new(TablePricing::default());
    assert_eq!(round(&node.proposer, &nothing, 0, ROUND_PAGES).await.unwrap(), 0);
    assert_eq!(waiting(&node), 20);

    let some = prices("2026-05", Direction::Mo);
    for _ in 0..2 {
        assert_eq!(round(&node.proposer, &some, 0, ROUND_PAGES).await.unwrap(), 0);
        assert_eq!(waiting(&node), 10, "a second round finds nothing more");
    }
    let (rows, ()) = last(&node, 2, |sms| {
        assert_eq!(sms.charge_amount, Money::parse("0.42"), "two segments");
        assert_eq!((sms.charge_currency, sms.tariff_version), (Some("AFN"), Some("2026-05")));
        let adjustment = sms.adjustment.as_ref().unwrap();
        assert_eq!(adjustment.kind, AdjustmentType::Correction);
        assert_eq!(adjustment.reason, Some("late pricing"));
        assert_eq!(adjustment.ticket_id, Some("pricing:2026-05"));
        assert_eq!(adjustment.issued_by, Some("system:pricing"));
    });
    assert_eq!(rows, 2);
    assert_eq!(last(&node, 1, |sms| sms.charge_amount), (1, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_any_price_do_not_starve_those_behind_them() {
    // More unpriceable rows than a round looks at; the only one with a price comes last.
    let odd = PAGE_ROWS as u64 * 3;
    let node = TestNode::with_messages((0..odd).map(|n| 2 * n + 1).chain([2])).await;
    let some = prices("1", Direction::Mo);
    let (mut from, mut rounds) = (0, 0);
    while last(&node, 2, |sms| sms.charge_amount).1.is_none() {
        from = round(&node.proposer, &some, from, 1).await.unwrap();
        rounds += 1;
        assert!(rounds <= 5, "the walk never gets to the end");
    }
    assert_eq!(waiting(&node) as u64, odd);
    assert!(rounds > 1, "one round looked at everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_that_came_from_elsewhere_is_left_alone() {
    let node = TestNode::with_records(2).await;
    let (mo, other) = (prices("1", Direction::Mo), prices("2", Direction::Mo));
    round(&node.proposer, &mo, 0, 1).await.unwrap();
    round(&node.proposer, &other, 0, 1).await.unwrap();
    assert_eq!(last(&node, 2, |sms| sms.tariff_version == Some("1")), (2, true));
}
