//! A time span as it is written in a configuration: `1h`, `90s`, `1h 30m`, `250ms`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// A time span with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait(pub Duration);

impl Wait {
    /// This many hours.
    pub const fn hours(hours: u64) -> Self {
        Self(Duration::from_secs(hours * 3600))
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = jiff::SignedDuration::try_from(self.0).unwrap_or(jiff::SignedDuration::MAX);
        write!(f, "{span:#}")
    }
}

impl Serialize for Wait {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = text.parse::<jiff::SignedDuration>().ok();
        let span = span.and_then(|span| Duration::try_from(span).ok());
        span.map(Self)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not a time span, such as 1h or 90s")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    fn read(text: &str) -> Result<Wait, Error> {
        let text: StrDeserializer<'_, Error> = text.into_deserializer();
        Wait::deserialize(text)
    }

    #[test]
    fn spans_are_read_and_written_with_their_unit() {
        for (text, seconds) in [("1h", 3_600), ("90s", 90), ("1h 30m", 5_400), ("PT2S", 2)] {
            let wait = read(text).unwrap();
            assert_eq!(wait.0.as_secs(), seconds, "{text}");
            assert_eq!(read(&wait.to_string()).unwrap(), wait, "{text}");
        }
        assert_eq!(
            (Wait::hours(1).to_string(), read("250ms").unwrap().0.as_millis()),
            ("1h".to_owned(), 250)
        );
        for text in ["", "1", "an hour", "-1h", "1 fortnight"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
