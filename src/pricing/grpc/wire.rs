//! Messages of the wire, and what becomes of them: every field is checked before anything is priced by it.

use crate::pricing::entities::Entities;
use crate::texts;
use cdr_core::row::{BillingIndicator, ChargeType, Direction};
use cdr_core::tariff::{Tariff, TariffTable, exact_amount};
use cdr_core::time::MAX_MILLIS;
use cdr_core::{Millis, Uuid};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Generated from `config/proto`.
#[allow(clippy::all, clippy::pedantic, clippy::unwrap_used, missing_docs)]
pub(super) mod v1 {
    include!(concat!(env!("OUT_DIR"), "/client/cdr.pricing.v1.rs"));
}

/// Why a message can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// An instant that no row can have.
    #[error("tariff table {version}: {field} {value} is not an instant from 1970 to 9999 in milliseconds")]
    Instant { version: String, field: &'static str, value: i64 },
    /// A field of a line.
    #[error("tariff table {version}, line {line}: {field} {value:?} is not {expected}")]
    Field { version: String, line: usize, field: &'static str, value: String, expected: &'static str },
    /// A recording entity that no row can have.
    #[error("operator {operator_id}: recording entity {entity:?} does not have 1 to 15 characters")]
    Entity { operator_id: String, entity: String },
    /// An entity that was not requested, or one of two.
    #[error("operator {operator_id:?} was not requested, or occurs twice")]
    Operator { operator_id: String },
}

/// The tables of a snapshot. What a table must satisfy besides is checked when the book is made.
pub(super) fn tables(tables: Vec<v1::TariffTable>) -> Result<Vec<TariffTable>, WireError> {
    tables.into_iter().map(table).collect()
}

fn table(table: v1::TariffTable) -> Result<TariffTable, WireError> {
    let version = table.version;
    let instant = |field, value: i64| {
        let legal = (0..=MAX_MILLIS).contains(&value);
        legal.then_some(Millis(value)).ok_or(WireError::Instant { version: version.clone(), field, value })
    };
    let valid_from = instant("valid_from_ms", table.valid_from_ms)?;
    let valid_to = table.valid_to_ms.map(|to| instant("valid_to_ms", to)).transpose()?;
    let lines = table.tariffs.into_iter().enumerate();
    let tariffs = lines.map(|(i, line)| Line { version: &version, line: i + 1 }.tariff(line));
    let tariffs = tariffs.collect::<Result<Vec<_>, _>>()?;
    Ok(TariffTable { version, valid_from, valid_to, tariffs })
}

/// The place of a line, for errors.
struct Line<'a> {
    version: &'a str,
    line: usize,
}

impl Line<'_> {
    fn tariff(&self, wire: v1::Tariff) -> Result<Tariff, WireError> {
        let tenant_id = match wire.tenant_id {
            None => None,
            Some(text) => Some(self.field("tenant_id", Uuid::parse_any_case(&text), &text, "a UUID")?),
        };
        let charge_type = wire.charge_type.map(|number| {
            let name = v1::ChargeType::try_from(number).ok().map(|c| c.as_str_name());
            let known = name.and_then(|n| ChargeType::parse(n.strip_prefix("CHARGE_TYPE_")?));
            self.field("charge_type", known, &number.to_string(), "a known charge type")
        });
        let direction = wire.direction.map(|number| {
            let name = v1::Direction::try_from(number).ok().map(|d| d.as_str_name());
            let known = name.and_then(|n| Direction::parse(n.strip_prefix("DIRECTION_")?));
            self.field("direction", known, &number.to_string(), "a known direction")
        });
        let number = wire.billing_indicator;
        let name = v1::BillingIndicator::try_from(number).ok().map(|b| b.as_str_name());
        let known = name.and_then(|n| BillingIndicator::parse(n.strip_prefix("BILLING_INDICATOR_")?));
        let billing_indicator =
            self.field("billing_indicator", known, &number.to_string(), "a known billing indicator")?;
        let per_segment = self.field(
            "per_segment",
            exact_amount(&wire.per_segment),
            &wire.per_segment,
            "a decimal number of at most six fraction digits",
        )?;
        Ok(Tariff {
            operator_id: wire.operator_id,
            tenant_id,
            charge_type: charge_type.transpose()?,
            direction: direction.transpose()?,
            per_segment,
            currency: wire.currency,
            tap_tariff_class: wire.tap_tariff_class,
            billing_indicator,
        })
    }

    fn field<T>(
        &self,
        field: &'static str,
        read: Option<T>,
        value: &str,
        expected: &'static str,
    ) -> Result<T, WireError> {
        read.ok_or_else(|| WireError::Field {
            version: self.version.to_owned(),
            line: self.line,
            field,
            value: value.to_owned(),
            expected,
        })
    }
}

/// The entities of an answer to a request for `asked`.
pub(super) fn entities(wire: Vec<v1::RecordingEntity>, asked: &[String]) -> Result<Entities, WireError> {
    let mut open: BTreeSet<&str> = asked.iter().map(String::as_str).collect();
    let mut found = Entities::new();
    for v1::RecordingEntity { operator_id, recording_entity } in wire {
        if !open.remove(operator_id.as_str()) {
            return Err(WireError::Operator { operator_id });
        }
        if recording_entity.chars().count() > 15 || !texts::is_shown(&recording_entity) {
            return Err(WireError::Entity { operator_id, entity: recording_entity });
        }
        found.insert(operator_id, Arc::from(recording_entity));
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn line() -> v1::Tariff {
        v1::Tariff {
            per_segment: "0.384".to_owned(),
            currency: "AFN".to_owned(),
            tap_tariff_class: "A042".to_owned(),
            billing_indicator: 1,
            ..v1::Tariff::default()
        }
    }

    fn read(line: v1::Tariff) -> Result<Tariff, WireError> {
        let table = v1::TariffTable { version: "1".to_owned(), tariffs: vec![line], ..Default::default() };
        Ok(tables(vec![table])?.remove(0).tariffs.remove(0))
    }

    #[test]
    fn every_code_of_the_wire_is_one_of_the_rows() {
        for (number, code) in (1..).zip(ChargeType::ALL) {
            let tariff = read(v1::Tariff { charge_type: Some(number), ..line() }).unwrap();
            assert_eq!(tariff.charge_type, Some(*code));
        }
        for (number, code) in (1..).zip(Direction::ALL) {
            let tariff = read(v1::Tariff { direction: Some(number), ..line() }).unwrap();
            assert_eq!(tariff.direction, Some(*code));
        }
        for (number, code) in (1..).zip(&BillingIndicator::ALL[..5]) {
            let tariff = read(v1::Tariff { billing_indicator: number, ..line() }).unwrap();
            assert_eq!(tariff.billing_indicator, *code);
        }
    }

    #[test]
    fn what_no_row_can_hold_is_refused() {
        let refused = |line| match read(line) {
            Err(WireError::Field { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        for number in [0, 7, -1] {
            assert_eq!(refused(v1::Tariff { charge_type: Some(number), ..line() }), "charge_type");
            assert_eq!(refused(v1::Tariff { direction: Some(number), ..line() }), "direction");
            assert_eq!(refused(v1::Tariff { billing_indicator: number, ..line() }), "billing_indicator");
        }
        for amount in ["", "1e3", "0.1234567", "9999999999999"] {
            assert_eq!(refused(v1::Tariff { per_segment: amount.to_owned(), ..line() }), "per_segment");
        }
        let tenant_id = Some("ABABABABabababababababababababab".to_owned());
        assert_eq!(refused(v1::Tariff { tenant_id, ..line() }), "tenant_id");
        let early = v1::TariffTable { valid_from_ms: -1, ..Default::default() };
        assert!(matches!(tables(vec![early]), Err(WireError::Instant { field: "valid_from_ms", .. })));
        let late = v1::TariffTable { valid_to_ms: Some(i64::MAX), ..Default::default() };
        assert!(matches!(tables(vec![late]), Err(WireError::Instant { field: "valid_to_ms", .. })));
    }

    #[test]
    fn entities_answer_the_question() {
        let entity = |id: &str, text: &str| v1::RecordingEntity {
            operator_id: id.to_owned(),
            recording_entity: text.to_owned(),
        };
        let asked = ["AWCC".to_owned(), "ETS".to_owned()];
        let read = |wire| entities(wire, &asked);
        assert_eq!(read(vec![entity("AWCC", "4120101")]).unwrap().len(), 1);
        assert!(matches!(read(vec![entity("OTHER", "1")]), Err(WireError::Operator { .. })));
        assert!(matches!(
            read(vec![entity("ETS", "1"), entity("ETS", "1")]),
            Err(WireError::Operator { .. })
        ));
        assert!(matches!(read(vec![entity("ETS", "")]), Err(WireError::Entity { .. })));
        assert!(matches!(read(vec![entity("ETS", "1234567890123456")]), Err(WireError::Entity { .. })));
    }
}
