#![allow(clippy::unwrap_used)]

use super::*;
use crate::hash::to_hex;
use crate::id::CdrId;
use crate::row::{Adjustment, AdjustmentType, Encoding, FinalState};
use proptest::prelude::*;

fn line(operator: Option<&str>, price: &str) -> Tariff {
    Tariff {
        operator_id: operator.map(str::to_owned),
        tenant_id: None,
        charge_type: None,
        direction: None,
        per_segment: Money::parse(price).unwrap(),
        currency: "AFN".to_owned(),
        tap_tariff_class: "A042".to_owned(),
        billing_indicator: BillingIndicator::Chargeable,
    }
}

fn table(tariffs: Vec<Tariff>) -> TariffTable {
    TariffTable {
        version: "2026-04".to_owned(),
        valid_from: Millis(1_000),
        valid_to: Some(Millis(9_000)),
        tariffs,
    }
}

/// A row as ingest writes it: what the price depends on, and the price.
fn row<'a>(query: &PriceQuery<'_>, version: &'a str, priced: Priced<'a>) -> Sms<'a> {
    Sms {
        message_id: Uuid([1; 16]),
        tenant_id: query.tenant_id,
        calling_party: "BANK",
        called_party: "+93700000001",
        recording_entity: "4120101",
        service_center: "+93700000002",
        message_reference: "1",
        event_at: query.event_at,
        local_offset_minutes: 270,
        charge_amount: Some(priced.amount),
        charge_currency: Some(&priced.tariff.currency),
        tap_tariff_class: Some(&priced.tariff.tap_tariff_class),
        tariff_version: Some(version),
        charge_type: query.charge_type,
        billing_indicator: priced.tariff.billing_indicator,
        direction: query.direction,
        encoding: Encoding::Gsm7,
        final_state: FinalState::Delivered,
        segment_count: query.segment_count,
        ..Sms::BLANK
    }
}

fn query(operator_id: &str) -> PriceQuery<'_> {
    PriceQuery {
        operator_id,
        tenant_id: None,
        charge_type: ChargeType::A2p,
        direction: Direction::Mt,
        segment_count: 3,
        event_at: Millis(1_000),
    }
}

#[test]
fn the_canonical_text_and_its_hash_are_fixed() {
    let mut tariff = line(Some("AWCC"), "0.0128");
    tariff.charge_type = Some(ChargeType::A2p);
    tariff.tenant_id = Some(Uuid([0xab; 16]));
    let table = table(vec![tariff]);
    let text = String::from_utf8(table.canonical_json().unwrap()).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"tariffs":[{"billingIndicator":"CHARGEABLE","chargeType":"A2P","currency":"AFN","#,
            r#""direction":null,"operatorId":"AWCC","perSegment":"0.012800","tapTariffClass":"A042","#,
            r#""tenantId":"abababab-abab-abab-abab-abababababab"}],"validFrom":"1970-01-01T00:00:01.000Z","#,
            r#""validTo":"1970-01-01T00:00:09.000Z","version":"2026-04"}"#
        )
    );
    // Taken with `sha256sum` from the text above.
    assert_eq!(
        to_hex(&table.content_hash().unwrap()),
        "11b96927e8e0d80652ac0d931a1cdc0961067625d9ce6ab7453e8449df83104d"
    );
    assert_eq!(serde_json::from_str::<TariffTable>(&text).unwrap(), table);
}

#[test]
fn texts_that_are_not_exact_are_refused() {
    let text = String::from_utf8(table(vec![line(None, "0.5")]).canonical_json().unwrap()).unwrap();
    for (from, to) in [
        ("0.500000", "0.5000001"),
        ("0.500000", "5e-1"),
        ("CHARGEABLE", "chargeable"),
        ("\"direction\":null", "\"direction\":\"UP\""),
        ("\"currency\"", "\"money\""),
    ] {
        assert!(text.contains(from));
        assert!(serde_json::from_str::<TariffTable>(&text.replace(from, to)).is_err(), "{to}");
    }
    assert_eq!(exact_amount("0.50000000").unwrap().micros(), 500_000);
}

#[test]
fn a_table_that_could_not_price_exactly_is_refused() {
    let refused = |change: fn(&mut Tariff)| {
        let mut tariff = line(None, "0.5");
        change(&mut tariff);
        match table(vec![line(None, "1"), tariff]).check() {
            Err(TableError::Line { line: 2, field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(|t| t.per_segment = Money::parse("-0.000001").unwrap()), "per_segment");
    assert_eq!(refused(|t| t.per_segment = Money::parse("3921568628").unwrap()), "per_segment");
    assert_eq!(refused(|t| t.currency = "Afn".to_owned()), "currency");
    assert_eq!(refused(|t| t.currency = "EUR".to_owned()), "currency", "no event could name it");
    assert_eq!(refused(|t| t.tap_tariff_class = "A1".to_owned()), "tap_tariff_class");
    assert_eq!(refused(|t| t.operator_id = Some("_system".to_owned())), "operator_id");
    assert_eq!(refused(|t| t.billing_indicator = BillingIndicator::Unknown), "billing_indicator");
    let dearest = table(vec![line(None, "3921568627.450980")]);
    assert_eq!(dearest.check(), Ok(()));
    assert!(dearest.price(&PriceQuery { segment_count: 255, ..query("AWCC") }).is_some());
    let mut other = table(vec![]);
    other.valid_to = Some(Millis(1_000));
    assert!(matches!(other.check(), Err(TableError::Validity { .. })));
    other.version = "a b".to_owned();
    assert!(matches!(other.check(), Err(TableError::Version { .. })));
}

#[test]
fn a_mismatch_says_what_differs() {
    let table = table(vec![line(Some("AWCC"), "0.5")]);
    let query = query("AWCC");
    let priced = row(&query, "2026-04", table.price(&query).unwrap());
    assert_eq!(verify_price(&table, "AWCC", &priced), Ok(()));

    let cheap = Sms { charge_amount: Money::parse("1.4"), tap_tariff_class: None, ..priced.clone() };
    assert_eq!(
        verify_price(&table, "AWCC", &cheap).unwrap_err().to_string(),
        "chargeAmount is 1.400000, the table gives 1.500000; tapTariffClass is null, the table gives A042"
    );
    assert!(matches!(verify_price(&table, "ETS", &priced), Err(PriceMismatch::NoPrice { .. })));
    let unpriced = Sms { tariff_version: None, ..priced.clone() };
    assert_eq!(verify_price(&table, "AWCC", &unpriced), Err(PriceMismatch::Unpriced));
    let foreign = Sms { tariff_version: Some("2026-05"), ..priced.clone() };
    assert!(matches!(verify_price(&table, "AWCC", &foreign), Err(PriceMismatch::OtherTable { .. })));
}

#[test]
fn a_re_rating_may_name_a_table_that_did_not_hold() {
    let table = table(vec![line(None, "0.5")]);
    let query = PriceQuery { event_at: Millis(9_000), ..query("AWCC") };
    let original = row(&query, "2026-04", table.price(&query).unwrap());
    let outside = verify_price(&table, "AWCC", &original);
    assert!(matches!(outside, Err(PriceMismatch::OutsideValidity { .. })), "{outside:?}");
    let adjustment = Adjustment {
        of: CdrId([0; 16]),
        kind: AdjustmentType::ReRate,
        reason: None,
        void_reason: None,
        ticket_id: Some("T-1"),
        issued_by: None,
        approver: None,
    };
    let rerated = Sms { adjustment: Some(adjustment), ..original };
    assert_eq!(verify_price(&table, "AWCC", &rerated), Ok(()));
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> {
    (0..values.len()).prop_map(move |i| values[i])
}

fn operators() -> impl Strategy<Value = &'static str> {
    one_of(&["AWCC", "ROSHAN", "ETS"])
}

fn tenants() -> impl Strategy<Value = Option<Uuid>> {
    prop_oneof![Just(None), (0u8..3).prop_map(|i| Some(Uuid([i; 16])))]
}

prop_compose! {
    fn tariffs()(
        operator in proptest::option::of(operators()),
        tenant_id in tenants(),
        charge_type in proptest::option::of(one_of(ChargeType::ALL)),
        direction in proptest::option::of(one_of(Direction::ALL)),
        micros in 0i64..=3_921_568_627_450_980,
        currency in one_of(&["AFN", "USD"]),
        class in "[A-Z0-9]{4}",
        billing_indicator in one_of(&BillingIndicator::ALL[..5]),
    ) -> Tariff {
        Tariff {
            operator_id: operator.map(str::to_owned),
            tenant_id,
            charge_type,
            direction,
            per_segment: Money::from_micros(micros).unwrap(),
            currency: currency.to_owned(),
            tap_tariff_class: class,
            billing_indicator,
        }
    }
}

prop_compose! {
    fn queries()(
        operator_id in operators(),
        tenant_id in tenants(),
        charge_type in one_of(ChargeType::ALL),
        direction in one_of(Direction::ALL),
        segment_count in 1u8..,
        at in 1_000i64..9_000,
    ) -> PriceQuery<'static> {
        PriceQuery { operator_id, tenant_id, charge_type, direction, segment_count, event_at: Millis(at) }
    }
}

proptest! {
    #[test]
    fn a_price_verifies_and_any_other_does_not(
        mut lines in proptest::collection::vec(tariffs(), 0..12),
        last in tariffs(),
        query in queries(),
    ) {
        let everything = Tariff { operator_id: None, tenant_id: None, charge_type: None, direction: None, ..last };
        lines.push(everything);
        let table = table(lines);
        prop_assert_eq!(table.check(), Ok(()));
        let priced = table.price(&query).unwrap();
        let right = row(&query, &table.version, priced);
        prop_assert_eq!(verify_price(&table, query.operator_id, &right), Ok(()));

        let dearer = Money::from_micros(priced.amount.micros() + 1).or(Some(Money::ZERO));
        let indicator = BillingIndicator::ALL.iter().find(|i| **i != right.billing_indicator).unwrap();
        for (field, wrong) in [
            ("chargeAmount", Sms { charge_amount: dearer, ..right.clone() }),
            ("chargeAmount", Sms { charge_amount: None, ..right.clone() }),
            ("chargeCurrency", Sms { charge_currency: Some("EUR"), ..right.clone() }),
            ("chargeCurrency", Sms { charge_currency: None, ..right.clone() }),
            ("tapTariffClass", Sms { tap_tariff_class: Some("0"), ..right.clone() }),
            ("tapTariffClass", Sms { tap_tariff_class: None, ..right.clone() }),
            ("billingIndicator", Sms { billing_indicator: *indicator, ..right.clone() }),
        ] {
            match verify_price(&table, query.operator_id, &wrong) {
                Err(PriceMismatch::Differs(found)) => {
                    prop_assert_eq!(found.iter().map(|d| d.field).collect::<Vec<_>>(), [field]);
                }
                other => prop_assert!(false, "{}: {:?}", field, other),
            }
        }
        for wrong in [
            Sms { tariff_version: None, ..right.clone() },
            Sms { tariff_version: Some("other"), ..right.clone() },
            Sms { event_at: Millis(999), ..right.clone() },
            Sms { event_at: Millis(9_000), ..right.clone() },
        ] {
            prop_assert!(verify_price(&table, query.operator_id, &wrong).is_err());
        }
        // A charge that is not zero is bound to the number of segments.
        if priced.tariff.per_segment.micros() > 0 && right.segment_count > 1 {
            let fewer = Sms { segment_count: right.segment_count - 1, ..right.clone() };
            prop_assert!(verify_price(&table, query.operator_id, &fewer).is_err());
        }
    }

    #[test]
    fn tables_read_back_and_every_change_changes_the_hash(
        lines in proptest::collection::vec(tariffs(), 1..8),
        other in tariffs(),
        at in 0usize..8,
    ) {
        let table = table(lines);
        let text = table.canonical_json().unwrap();
        prop_assert_eq!(&serde_json::from_slice::<TariffTable>(&text).unwrap(), &table);
        let mut changed = table.clone();
        let at = at % changed.tariffs.len();
        changed.tariffs[at] = other;
        prop_assert_eq!(changed == table, changed.content_hash() == table.content_hash());
    }
}
