//! Codes, ids and amounts as JSON strings.

use super::exact_amount;
use crate::id::{Uuid, is_name};
use crate::money::Money;
use crate::row::{BillingIndicator, ChargeType, Direction};

/// A value that JSON holds as a string.
pub(super) trait Text: Sized {
    /// What is read.
    const EXPECTED: &'static str;
    /// The string.
    fn to_text(&self) -> String;
    /// The value of a string, if it has one.
    fn from_text(text: &str) -> Option<Self>;
}

macro_rules! text {
    ($($type:ty: $expected:literal, $to:expr, $from:expr);+ $(;)?) => {
        $(impl Text for $type {
            const EXPECTED: &'static str = $expected;
            fn to_text(&self) -> String {
                $to(self)
            }
            fn from_text(text: &str) -> Option<Self> {
                $from(text)
            }
        })+
    };
}

text! {
    Uuid: "a lower-case UUID", ToString::to_string, Self::parse;
    Money: "a decimal number of at most six fraction digits", ToString::to_string, exact_amount;
    ChargeType: "a charge type", |v: &Self| v.as_str().to_owned(), Self::parse;
    Direction: "MO or MT", |v: &Self| v.as_str().to_owned(), Self::parse;
    BillingIndicator: "a billing indicator", |v: &Self| v.as_str().to_owned(), Self::parse;
}

/// For values that must be there.
pub(super) mod required {
    use super::Text;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<T: Text, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_text())
    }

    pub fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::from_text(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not {}", T::EXPECTED)))
    }
}

/// For values that may be null.
pub(super) mod optional {
    use super::Text;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[allow(clippy::ref_option)] // serde calls it so.
    pub fn serialize<T: Text, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Text::to_text).serialize(serializer)
    }

    pub fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        let read = |text: String| {
            T::from_text(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not {}", T::EXPECTED)))
        };
        Option::<String>::deserialize(deserializer)?.map(read).transpose()
    }
}

/// True for a version's name: 1 to 64 visible ASCII characters.
pub fn is_version(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// True for an operator that records can have.
pub fn is_operator(text: &str) -> bool {
    is_name(text) && !text.starts_with('_')
}
