//! Operators and price lists as they stand in the configuration.

use super::reader::Reader;
use cdr_core::row::{BillingIndicator, ChargeType, Direction};
use cdr_core::tariff::{Tariff, TariffTable, exact_amount};
use cdr_core::{Money, Uuid};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// `[operators]`: who is in the registry when the ledger begins, and who joins later.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Operators {
    /// The operators.
    pub list: Vec<Operator>,
}

/// An operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// Its id, `[A-Za-z0-9_-]{1,16}`, not beginning with `_`.
    pub id: String,
    /// TAP recording entity: MCC, MNC and sequence, at most 15 characters.
    pub recording_entity: String,
}

pub(super) fn read_table(reader: &mut Reader<'_>) -> Option<TariffTable> {
    let version = reader.required("version");
    let valid_from = reader.required("valid_from");
    let valid_to = reader.optional("valid_to");
    let tariffs = reader.tables("tariffs", read_line).unwrap_or_default();
    Some(TariffTable { version: version?, valid_from: valid_from?, valid_to, tariffs })
}

fn read_line(reader: &mut Reader<'_>) -> Option<Tariff> {
    let operator_id = reader.optional("operator_id");
    let tenant_id: Option<Parsed<Uuid>> = reader.optional("tenant_id");
    let charge_type: Option<Parsed<ChargeType>> = reader.optional("charge_type");
    let direction: Option<Parsed<Direction>> = reader.optional("direction");
    let per_segment: Option<Parsed<Money>> = reader.required("per_segment");
    let currency = reader.required("currency");
    let tap_tariff_class = reader.required("tap_tariff_class");
    let billing_indicator = reader.value("billing_indicator", Parsed(BillingIndicator::Chargeable));
    Some(Tariff {
        operator_id,
        tenant_id: tenant_id.map(|parsed| parsed.0),
        charge_type: charge_type.map(|parsed| parsed.0),
        direction: direction.map(|parsed| parsed.0),
        per_segment: per_segment?.0,
        currency: currency?,
        tap_tariff_class: tap_tariff_class?,
        billing_indicator: billing_indicator.0,
    })
}

impl Operators {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { list: reader.tables("list", Operator::read).unwrap_or_default() }
    }
}

impl Operator {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let id = reader.required("id");
        let recording_entity = reader.required("recording_entity");
        Some(Self { id: id?, recording_entity: recording_entity? })
    }
}

/// A value that is written as text in the configuration.
struct Parsed<T>(T);

/// How a text is read, and what to say if it can't be.
trait FromText: Sized {
    const EXPECTED: &'static str;
    fn from_text(text: &str) -> Option<Self>;
}

impl<'de, T: FromText> serde::Deserialize<'de> for Parsed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::from_text(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not {}", T::EXPECTED)))
    }
}

macro_rules! from_text {
    ($($type:ty: $parse:path, $expected:literal;)+) => {
        $(impl FromText for $type {
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Option<Self> {
                $parse(text)
            }
        })+
    };
}

from_text! {
    Uuid: Uuid::parse_any_case, "a UUID";
    ChargeType: ChargeType::parse, "one of MO, MT, BROADCAST, INTERNATIONAL_MT, P2P, A2P";
    Direction: Direction::parse, "MO or MT";
    Money: exact_amount, "a plain decimal number in quotes of at most six fraction digits, such as \"0.0128\"";
    BillingIndicator: BillingIndicator::parse, "one of CHARGEABLE, FREE, REVERSE_CHARGED, CPP, MPP";
}

/// Writes tables as the configuration names their keys; rows and events name them otherwise.
pub(super) fn write_tables<S: Serializer>(tables: &[TariffTable], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tables.iter().map(TableKeys))
}

struct TableKeys<'a>(&'a TariffTable);

impl Serialize for TableKeys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let table = self.0;
        let mut out = serializer.serialize_struct("TariffTable", 4)?;
        out.serialize_field("version", &table.version)?;
        out.serialize_field("valid_from", &table.valid_from)?;
        out.serialize_field("valid_to", &table.valid_to)?;
        out.serialize_field("tariffs", &table.tariffs.iter().map(LineKeys).collect::<Vec<_>>())?;
        out.end()
    }
}

struct LineKeys<'a>(&'a Tariff);

impl Serialize for LineKeys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = self.0;
        let mut out = serializer.serialize_struct("Tariff", 8)?;
        out.serialize_field("operator_id", &line.operator_id)?;
        out.serialize_field("tenant_id", &line.tenant_id.map(|id| id.to_string()))?;
        out.serialize_field("charge_type", &line.charge_type.map(ChargeType::as_str))?;
        out.serialize_field("direction", &line.direction.map(Direction::as_str))?;
        out.serialize_field("per_segment", &line.per_segment.to_string())?;
        out.serialize_field("currency", &line.currency)?;
        out.serialize_field("tap_tariff_class", &line.tap_tariff_class)?;
        out.serialize_field("billing_indicator", line.billing_indicator.as_str())?;
        out.end()
    }
}
