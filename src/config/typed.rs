//! Settings that are texts in the file and something else from there on: read once, when the file is.

use jiff::civil::Time;
use rust_decimal::Decimal;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A local time of day, `HH:MM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(pub Time);

impl TimeOfDay {
    /// This many minutes after an hour.
    pub const fn at(hour: i8, minute: i8) -> Self {
        Self(Time::constant(hour, minute, 0, 0))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = Time::strptime("%H:%M", &text);
        time.map(Self).map_err(|_| D::Error::custom(format!("{text:?} is not a time of day, such as 02:30")))
    }
}

/// How many units of one currency a unit of another is, over 0. A text in the file: a TOML number is binary, and would be
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeRate(pub Decimal);

impl fmt::Display for ExchangeRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ExchangeRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ExchangeRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let rate = text.parse().ok().filter(|rate| *rate > Decimal::ZERO);
        rate.map(Self)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not a decimal number over 0, in quotes")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
        let text: StrDeserializer<'a, Error> = text.into_deserializer();
        T::deserialize(text)
    }

    #[test]
    fn times_and_rates_are_read_or_named() {
        assert_eq!(read::<TimeOfDay>("02:30").unwrap(), TimeOfDay::at(2, 30));
        assert_eq!(TimeOfDay::at(2, 5).to_string(), "02:05");
        for wrong in ["", "2", "24:00", "02:60", "02:30:00", "noon"] {
            assert!(
                read::<TimeOfDay>(wrong).unwrap_err().to_string().contains("is not a time of day"),
                "{wrong}"
            );
        }
        assert_eq!(read::<ExchangeRate>("70.25").unwrap().to_string(), "70.25");
        for wrong in ["", "0", "-1", "seventy", "1,5"] {
            assert!(read::<ExchangeRate>(wrong).unwrap_err().to_string().contains("over 0"), "{wrong}");
        }
    }
}
