#![allow(clippy::unwrap_used)]

use super::shared::SharedBook;
use super::*;
use cdr_core::row::{BillingIndicator, ChargeType, Direction};
use cdr_core::tariff::Tariff;
use cdr_core::{Millis, Money, Uuid};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

fn tariff(operator: Option<&str>, price: &str) -> Tariff {
    Tariff {
        operator_id: operator.map(str::to_owned),
        tenant_id: None,
        charge_type: None,
        direction: None,
        per_segment: Money::parse(price).unwrap(),
        currency: "AFN".to_owned(),
        tap_tariff_class: "A001".to_owned(),
        billing_indicator: BillingIndicator::Chargeable,
    }
}

fn table(version: &str, from: i64, to: Option<i64>, tariffs: Vec<Tariff>) -> TariffTable {
    TariffTable { version: version.to_owned(), valid_from: Millis(from), valid_to: to.map(Millis), tariffs }
}

fn query(operator_id: &str, at: i64) -> PriceQuery<'_> {
    PriceQuery {
        operator_id,
        tenant_id: None,
        charge_type: ChargeType::A2p,
        direction: Direction::Mt,
        segment_count: 3,
        event_at: Millis(at),
    }
}

fn told(price: Option<Price>) -> Option<(String, String)> {
    price.map(|p| (p.amount().to_string(), p.tariff_version().to_owned()))
}

#[test]
fn the_latest_table_and_the_first_matching_line_decide() {
    let pricing = TablePricing::new(vec![
        table("1", 0, Some(1000), vec![tariff(None, "0.5")]),
        table("2", 500, None, vec![tariff(Some("AWCC"), "0.0128"), tariff(None, "1")]),
    ])
    .unwrap();
    let price = |operator, at| told(pricing.price(&query(operator, at)));
    let is = |amount: &str, version: &str| Some((amount.to_owned(), version.to_owned()));
    assert_eq!(price("AWCC", 499), is("1.500000", "1"));
    assert_eq!(price("AWCC", 500), is("0.038400", "2"));
    assert_eq!(price("ETS", 2000), is("3.000000", "2"));
    assert_eq!(price("ETS", -1), None);
    assert_eq!(
        told(pricing.price_in("1", &query("AWCC", 9_000))),
        is("1.500000", "1"),
        "named, though it ended"
    );
    assert_eq!(told(pricing.price_in("3", &query("AWCC", 0))), None);
}

#[test]
fn tables_that_began_together_are_told_apart_by_name_on_every_replica() {
    let (a, b) = (table("a", 0, None, vec![tariff(None, "1")]), table("b", 0, None, vec![tariff(None, "2")]));
    for tables in [vec![a.clone(), b.clone()], vec![b, a]] {
        let price = PriceBook::new(tables).unwrap().price(&query("ETS", 0)).unwrap();
        assert_eq!(price.tariff_version(), "b");
    }
}

#[test]
fn a_version_never_changes() {
    let one = table("1", 0, None, vec![tariff(None, "1")]);
    let two = table("2", 10, None, vec![tariff(None, "2")]);
    let other = table("1", 0, None, vec![tariff(None, "9")]);
    assert_eq!(
        PriceBook::new(vec![one.clone(), one.clone()]).unwrap_err(),
        BookError::Duplicate { version: "1".to_owned() }
    );
    let changed = BookError::Changed { version: "1".to_owned() };
    let book = PriceBook::new(vec![one.clone()]).unwrap();
    assert_eq!(book.with_in_force(vec![other.clone()]).unwrap_err(), changed);
    assert_eq!(book.with_named(other.clone()).unwrap_err(), changed);

    // What is no longer in force stays known, prices nothing on its own, and still can't change.
    let book = book.with_in_force(vec![two.clone()]).unwrap();
    assert_eq!(told(book.price(&query("ETS", 5))), None);
    assert_eq!(**book.table("1").unwrap(), one);
    assert_eq!(book.with_named(other.clone()).unwrap_err(), changed);
    assert_eq!(book.with_in_force(vec![other]).unwrap_err(), changed);
    assert!(book.price_in("1", &query("ETS", 5)).is_some());
    let book = book.with_in_force(vec![two, one]).unwrap();
    assert_eq!(book.price(&query("ETS", 5)).unwrap().tariff_version(), "1");
}

#[test]
fn tables_known_by_name_only_are_bounded() {
    let mut book = PriceBook::new(vec![table("now", 0, None, vec![tariff(None, "1")])]).unwrap();
    for i in 0..100 {
        book = book.with_named(table(&format!("old-{i}"), 0, None, vec![tariff(None, "7")])).unwrap();
    }
    assert!(book.table("old-35").is_none() && book.table("old-36").is_some() && book.table("now").is_some());
    assert_eq!(book.price(&query("ETS", 0)).unwrap().tariff_version(), "now");
}

#[test]
fn readers_see_whole_books_while_they_are_replaced() {
    let shared = SharedBook::default();
    let done = AtomicBool::new(false);
    // Version `n` charges `n` for a segment: a price that mixes two books would show.
    let book = |n: u32| {
        let tariffs = (0..40).map(|_| tariff(None, &n.to_string())).collect();
        move |old: &PriceBook| old.with_in_force(vec![table(&n.to_string(), 0, None, tariffs)])
    };
    shared.replace(book(1)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let price = shared.load().price(&query("ETS", 0)).unwrap();
                    let version: i64 = price.tariff_version().parse().unwrap();
                    assert_eq!(price.amount().micros(), version * 3_000_000);
                    assert!(version >= last, "books never go back");
                    last = version;
                }
            });
        }
        for n in 2..2_000 {
            shared.replace(book(n)).unwrap();
        }
        assert!(shared.replace(|_| Err(BookError::Duplicate { version: "x".to_owned() })).is_err());
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(shared.load().price(&query("ETS", 0)).unwrap().tariff_version(), "1999");
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> {
    (0..values.len()).prop_map(move |i| values[i])
}

prop_compose! {
    fn lines()(
        operator in proptest::option::of(one_of(&["AWCC", "ROSHAN"])),
        tenant in proptest::option::of(0u8..3),
        charge_type in proptest::option::of(one_of(ChargeType::ALL)),
        direction in proptest::option::of(one_of(Direction::ALL)),
    ) -> Tariff {
        let tenant_id = tenant.map(|t| Uuid([t; 16]));
        Tariff { tenant_id, charge_type, direction, ..tariff(operator, "1") }
    }
}

proptest! {
    #[test]
    fn the_index_finds_the_line_that_reading_in_order_finds(
        tariffs in proptest::collection::vec(lines(), 0..60),
        operator in one_of(&["AWCC", "ROSHAN", "ETS"]),
        tenant in proptest::option::of(0u8..4),
        charge_type in one_of(ChargeType::ALL),
        direction in one_of(Direction::ALL),
    ) {
        let table = table("1", 0, None, tariffs);
        let tenant_id = tenant.map(|t| Uuid([t; 16]));
        let query = PriceQuery { tenant_id, charge_type, direction, ..query(operator, 0) };
        let expected = table.price(&query).map(|priced| priced.line);
        prop_assert_eq!(index::LineIndex::new(&table).first_fit(&table, &query), expected);
    }
}
