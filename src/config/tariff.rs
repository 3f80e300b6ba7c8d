//! Price lists and operators as they stand in the configuration.

use super::reader::Reader;
use cdr_core::row::{BillingIndicator, ChargeType, Direction};
use cdr_core::{Millis, Money, Uuid};
use serde::Serialize;
use serde::ser::SerializeStruct;

/// `[pricing]`: price lists, used where no pricing service is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pricing {
    /// Versions of the price list; of those that hold at the event, the one that began last decides.
    pub tables: Vec<TariffTable>,
}

/// A version of the price list and when it holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TariffTable {
    /// Name of the version, as it stands in rows as `tariffVersion`.
    pub version: String,
    /// First instant at which it holds.
    pub valid_from: Millis,
    /// First instant at which it no longer holds; open if absent.
    pub valid_to: Option<Millis>,
    /// Its lines; the first that matches decides.
    pub tariffs: Vec<Tariff>,
}

/// A line of a price list; absent conditions match everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Tariff {
    /// Operator it is for.
    pub operator_id: Option<String>,
    /// Tenant it is for.
    pub tenant_id: Option<Uuid>,
    /// Charge type it is for.
    pub charge_type: Option<ChargeType>,
    /// Direction it is for.
    pub direction: Option<Direction>,
    /// Amount for each segment, at most six fraction digits.
    pub per_segment: Money,
    /// Currency, ISO 4217.
    pub currency: String,
    /// The regulator's tariff class, 1 to 4 characters.
    pub tap_tariff_class: String,
    /// Who pays.
    pub billing_indicator: BillingIndicator,
}

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

impl Pricing {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { tables: reader.tables("tables", TariffTable::read).unwrap_or_default() }
    }
}

impl TariffTable {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let version = reader.required("version");
        let valid_from = reader.required("valid_from");
        let valid_to = reader.optional("valid_to");
        let tariffs = reader.tables("tariffs", Tariff::read).unwrap_or_default();
        Some(Self { version: version?, valid_from: valid_from?, valid_to, tariffs })
    }
}

impl Tariff {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let operator_id = reader.optional("operator_id");
        let tenant_id: Option<Parsed<Uuid>> = reader.optional("tenant_id");
        let charge_type: Option<Parsed<ChargeType>> = reader.optional("charge_type");
        let direction: Option<Parsed<Direction>> = reader.optional("direction");
        let per_segment: Option<Parsed<Money>> = reader.required("per_segment");
        let currency = reader.required("currency");
        let tap_tariff_class = reader.required("tap_tariff_class");
        let billing_indicator = reader.value("billing_indicator", Parsed(BillingIndicator::Chargeable));
        Some(Self {
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
    ($($type:ty: $expected:literal),+ $(,)?) => {
        $(impl FromText for $type {
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Option<Self> {
                <$type>::parse(text)
            }
        })+
    };
}

from_text! {
    Uuid: "a lower-case UUID",
    ChargeType: "one of MO, MT, BROADCAST, INTERNATIONAL_MT, P2P, A2P",
    Direction: "MO or MT",
    Money: "a plain decimal number in quotes, such as \"0.0128\"",
    BillingIndicator: "one of CHARGEABLE, FREE, REVERSE_CHARGED, CPP, MPP, UNKNOWN",
}

impl Serialize for Tariff {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Tariff", 8)?;
        out.serialize_field("operator_id", &self.operator_id)?;
        out.serialize_field("tenant_id", &self.tenant_id.map(|id| id.to_string()))?;
        out.serialize_field("charge_type", &self.charge_type.map(ChargeType::as_str))?;
        out.serialize_field("direction", &self.direction.map(Direction::as_str))?;
        out.serialize_field("per_segment", &self.per_segment.to_string())?;
        out.serialize_field("currency", &self.currency)?;
        out.serialize_field("tap_tariff_class", &self.tap_tariff_class)?;
        out.serialize_field("billing_indicator", self.billing_indicator.as_str())?;
        out.end()
    }
}
