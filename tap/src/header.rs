//! What is fixed when a file is opened, and is the same whenever the file is made again.

use cdr_core::Millis;
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An instant with the offset from UTC that applies to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalTime {
    /// The instant.
    pub at: Millis,
    /// Minutes east of UTC.
    pub offset_minutes: i16,
}

impl LocalTime {
    /// An instant at an offset in minutes east of UTC.
    pub fn new(at: Millis, offset_minutes: i16) -> Self {
        Self { at, offset_minutes }
    }

    /// The instant in whole seconds: finer than that is in no timestamp of TAP.
    #[must_use]
    pub fn to_second(self) -> Self {
        Self { at: Millis(self.at.0.div_euclid(1000) * 1000), offset_minutes: self.offset_minutes }
    }
}

/// Header values of a file. The command that opens the file pins them: with the same records, the same variant and the
/// same header every replica makes the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileHeader {
    /// TAP recording entity of the operator, 1 to 15 characters.
    pub recording_entity: String,
    /// Network that sends the file: five characters.
    pub sender: String,
    /// Who receives it: five characters.
    pub recipient: String,
    /// File sequence number (US-CDR-010).
    pub sequence: u32,
    /// Day that is settled.
    #[serde(with = "as_text")]
    pub settlement_day: Date,
    /// When the file was opened.
    pub created: LocalTime,
    /// Until when records were ingested.
    pub cut_off: LocalTime,
    /// When the file is available to the recipient.
    pub available: LocalTime,
    /// True for a test file, which counts its sequence apart.
    pub test: bool,
    /// What one unit of another currency is worth in the file's. Added to the rates of the mapping, and wins over them.
    #[serde(default, with = "rates")]
    pub exchange_rates: BTreeMap<String, Decimal>,
}

/// A value as the text that it prints and parses.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Display;
    use std::str::FromStr;

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Rates as decimal numbers in texts: JSON has no exact ones.
mod rates {
    use rust_decimal::Decimal;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::collections::BTreeMap;

    type Rates = BTreeMap<String, Decimal>;

    pub(super) fn serialize<S: Serializer>(rates: &Rates, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(rates.iter().map(|(currency, rate)| (currency, rate.to_string())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rates, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        texts
            .into_iter()
            .map(|(currency, rate)| Ok((currency, rate.parse().map_err(D::Error::custom)?)))
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_header_as_json_and_back() {
        let at = |offset| LocalTime::new(Millis::parse("2026-04-21T19:30:00.250Z").unwrap(), offset);
        let header = FileHeader {
            recording_entity: "4120101".to_owned(),
            sender: "41201".to_owned(),
            recipient: "AFGRA".to_owned(),
            sequence: 7,
            settlement_day: "2026-04-21".parse().unwrap(),
            created: at(270),
            cut_off: at(0),
            available: at(-210),
            test: false,
            exchange_rates: BTreeMap::from([("USD".to_owned(), "70.500".parse().unwrap())]),
        };
        let json = serde_json::to_string(&header).unwrap();
        assert!(
            json.contains("\"settlementDay\":\"2026-04-21\"") && json.contains("{\"USD\":\"70.500\"}"),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<FileHeader>(&json).unwrap(), header);
        assert_eq!(header.created.to_second().at.to_string(), "2026-04-21T19:30:00.000Z");
    }
}
