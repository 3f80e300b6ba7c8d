//! JSON to raw fields: which keys there are, and what kind of value each has. No rules yet.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Reason;

/// The value of a known field.
#[derive(Debug, Default)]
pub(super) enum Raw<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    /// A string.
    Text(Cow<'a, str>),
    /// A non-negative integer.
    Integer(u64),
    /// Anything else.
    Other,
}

macro_rules! fields {
    ($($name:ident = $key:literal),+ $(,)?) => {
        /// The known fields of a receipt.
        #[derive(Debug, Default)]
        pub(super) struct RawDlr<'a> {
            $(pub(super) $name: Raw<'a>,)+
        }

        #[derive(Clone, Copy)]
        #[allow(non_camel_case_types)]
        enum Field { $($name),+ }

        impl Field {
            fn of(key: &str) -> Option<Self> {
                match key { $($key => Some(Self::$name),)+ _ => None }
            }

            const fn key(self) -> &'static str {
                match self { $(Self::$name => $key),+ }
            }
        }

        impl<'a> RawDlr<'a> {
            fn set(&mut self, field: Field, value: Raw<'a>) {
                match field { $(Field::$name => self.$name = value),+ }
            }
        }
    };
}

fields! {
    schema_version = "schemaVersion",
    message_id = "messageId",
    tenant_id = "tenantId",
    operator_id = "operatorId",
    status = "status",
    direction = "direction",
    charge_type = "chargeType",
    from = "from",
    to = "to",
    original_served_subscriber_id = "originalServedSubscriberId",
    imsi = "imsi",
    service_center_address = "serviceCenterAddress",
    message_reference = "messageReference",
    segment_count = "segmentCount",
    encoding = "encoding",
    submitted_at = "submittedAt",
    final_at = "finalAt",
    failure_code = "failureCode",
    trace_id = "traceId",
}

/// Reads the fields of the one JSON object in `payload`.
pub(super) fn read(payload: &[u8]) -> Result<RawDlr<'_>, Reason> {
    // Checked at once, which is cheaper than string by string.
    let text = std::str::from_utf8(payload).map_err(|_| Reason::NotJson)?;
    match serde_json::from_str(text).map_err(|_| Reason::NotJson)? {
        Document::Object(fields) => Ok(*fields),
        Document::Repeated(reason) => Err(reason),
        Document::Other => Err(Reason::NotAnObject),
    }
}

enum Document<'a> {
    Object(Box<RawDlr<'a>>),
    Repeated(Reason),
    Other,
}

impl<'de> Deserialize<'de> for Document<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

/// Gives a visitor the scalars that it treats alike.
macro_rules! visit_scalars {
    ($value:expr; $($method:ident($type:ty)),+) => {
        $(fn $method<E: Error>(self, _: $type) -> Result<Self::Value, E> { Ok($value) })+
    };
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON document")
    }

    visit_scalars!(Document::Other; visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Document::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<Sound>()?.is_some() {}
        Ok(Document::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Box::<RawDlr>::default();
        let mut seen = 0u32;
        let mut others = HashSet::new();
        let mut repeated = None;
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Known(field) => {
                    let bit = 1 << field as u32;
                    if seen & bit != 0 {
                        repeated.get_or_insert(Reason::RepeatedField(field.key()));
                    }
                    seen |= bit;
                    let value = map.next_value::<RawValue>()?;
                    if value.repeats {
                        repeated.get_or_insert(Reason::RepeatedKey);
                    }
                    fields.set(field, value.raw);
                }
                Key::Other(name) => {
                    let is_new = others.insert(name);
                    if map.next_value::<Sound>()?.repeats || !is_new {
                        repeated.get_or_insert(Reason::RepeatedKey);
                    }
                }
            }
        }
        Ok(repeated.map_or(Document::Object(fields), Document::Repeated))
    }
}

enum Key<'a> {
    Known(Field),
    Other(Cow<'a, str>),
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Field::of(key).map_or(Key::Other(Cow::Borrowed(key)), Key::Known))
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Field::of(key).map_or_else(|| Key::Other(Cow::Owned(key.to_owned())), Key::Known))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// A known field's value, and whether an object inside it repeats a key.
struct RawValue<'a> {
    raw: Raw<'a>,
    repeats: bool,
}

impl<'a> From<Raw<'a>> for RawValue<'a> {
    fn from(raw: Raw<'a>) -> Self {
        Self { raw, repeats: false }
    }
}

impl<'de> Deserialize<'de> for RawValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    visit_scalars!(Raw::Other.into(); visit_bool(bool), visit_i64(i64), visit_f64(f64));

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Raw::Integer(value).into())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Raw::Text(Cow::Borrowed(text)).into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Raw::Text(Cow::Owned(text.to_owned())).into())
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Raw::Absent.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Ok(RawValue { raw: Raw::Other, repeats: SoundVisitor.visit_seq(seq)?.repeats })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Ok(RawValue { raw: Raw::Other, repeats: SoundVisitor.visit_map(map)?.repeats })
    }
}

/// A value that is only checked: strings are whole, and `repeats` tells of a key that is there twice in one object.
/// (`serde::de::IgnoredAny` would let both pass.)
struct Sound {
    repeats: bool,
}

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SoundVisitor)
    }
}

struct SoundVisitor;

impl<'de> Visitor<'de> for SoundVisitor {
    type Value = Sound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    visit_scalars!(Sound { repeats: false };
        visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Sound { repeats: false })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut repeats = false;
        while let Some(element) = seq.next_element::<Sound>()? {
            repeats |= element.repeats;
        }
        Ok(Sound { repeats })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut repeats = false;
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            repeats |= !keys.insert(key);
            repeats |= map.next_value::<Sound>()?.repeats;
        }
        Ok(Sound { repeats })
    }
}
