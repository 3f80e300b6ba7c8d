//! The types of members: how each is written, and how it is read again.

use crate::canonical::{push_integer, push_rest_of_string};
use crate::id::{CdrId, Uuid};
use crate::money::Money;
use crate::row::{AdjustmentType, BillingIndicator, ChargeType, Direction, Encoding, FinalState};
use crate::time::Millis;
use serde_json::Value as Json;

/// The value of a member, or of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Null.
    Absent,
    /// A text, or one of a closed set of codes.
    Text(&'a str),
    /// An integer.
    Integer(u64),
    /// An amount.
    Money(Money),
    /// An instant, in UTC.
    Instant(Millis),
    /// An instant in local time: so many minutes east of UTC.
    Local(Millis, i16),
    /// A UUID.
    Uuid(Uuid),
    /// A record's id.
    Record(CdrId),
}

impl<'a> Value<'a> {
    /// The value that a member of JSON has; none if rows have no such values.
    pub(crate) fn of_json(json: &'a Json) -> Option<Self> {
        match json {
            Json::Null => Some(Self::Absent),
            Json::String(text) => Some(Self::Text(text)),
            Json::Number(number) => number.as_u64().map(Self::Integer),
            _ => None,
        }
    }

    /// The text, where it is one.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Appends the value as it stands in a row.
    pub fn push(self, out: &mut Vec<u8>) {
        let key = &Key::NONE;
        match self {
            Self::Absent => out.extend_from_slice(key.null),
            Self::Text(text) => text.push_member(key, out),
            Self::Integer(integer) => push_integer(out, integer),
            Self::Money(amount) => amount.push_member(key, out),
            Self::Instant(at) => at.push_member(key, out),
            Self::Local(at, offset_minutes) => Local { at, offset_minutes }.push_member(key, out),
            Self::Uuid(uuid) => uuid.push_member(key, out),
            Self::Record(id) => id.push_member(key, out),
        }
    }
}

/// What stands before a member's value, with the comma: three constants, so that each member begins with one copy.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    /// Before a value without quotes.
    pub(crate) plain: &'static [u8],
    /// Before a value between quotes, with the first of them.
    pub(crate) quoted: &'static [u8],
    /// With `null` for its value.
    pub(crate) null: &'static [u8],
}

impl Key {
    /// Of a value that has no name.
    const NONE: Self = Self { plain: b"", quoted: b"\"", null: b"null" };
}

/// The [`Key`] of a name.
macro_rules! key {
    ($name:literal) => {
        &$crate::schema::member::Key {
            plain: concat!(",\"", $name, "\":").as_bytes(),
            quoted: concat!(",\"", $name, "\":\"").as_bytes(),
            null: concat!(",\"", $name, "\":null").as_bytes(),
        }
    };
}
pub(crate) use key;

/// A type that members have. Everything is decided when the crate is compiled: the canonicaliser stays straight-line
/// code.
pub(crate) trait Member<'a>: Sized {
    /// Appends the key, and the value in canonical form.
    fn push_member(&self, key: &Key, out: &mut Vec<u8>);

    /// The value for whoever does not know the type.
    fn value(&self) -> Value<'a>;

    /// The inverse of [`Member::value`]; also reads what [`Member::push_member`] writes as a text.
    fn of_value(value: Value<'a>) -> Option<Self>;
}

impl<'a, T: Member<'a>> Member<'a> for Option<T> {
    #[inline]
    fn push_member(&self, key: &Key, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.push_member(key, out),
            None => out.extend_from_slice(key.null),
        }
    }

    fn value(&self) -> Value<'a> {
        self.as_ref().map_or(Value::Absent, T::value)
    }

    fn of_value(value: Value<'a>) -> Option<Self> {
        if value == Value::Absent { Some(None) } else { T::of_value(value).map(Some) }
    }
}

impl<'a> Member<'a> for &'a str {
    #[inline]
    fn push_member(&self, key: &Key, out: &mut Vec<u8>) {
        out.extend_from_slice(key.quoted);
        push_rest_of_string(out, self);
    }

    fn value(&self) -> Value<'a> {
        Value::Text(self)
    }

    fn of_value(value: Value<'a>) -> Option<Self> {
        value.text()
    }
}

impl<'a> Member<'a> for u8 {
    #[inline]
    fn push_member(&self, key: &Key, out: &mut Vec<u8>) {
        out.extend_from_slice(key.plain);
        push_integer(out, u64::from(*self));
    }

    fn value(&self) -> Value<'a> {
        Value::Integer((*self).into())
    }

    fn of_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Integer(integer) => integer.try_into().ok(),
            _ => None,
        }
    }
}

/// An instant in local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) at: Millis,
    pub(crate) offset_minutes: i16,
}

/// Types that are written between quotes, by a function of their own.
macro_rules! quoted {
    ($($type:ident: $variant:pat => $value:expr, $make:expr, $parse:expr, $push:expr;)+) => {$(
        impl<'a> Member<'a> for $type {
            #[inline]
            fn push_member(&self, key: &Key, out: &mut Vec<u8>) {
                out.extend_from_slice(key.quoted);
                let push: fn(&Self, &mut Vec<u8>) = $push;
                push(self, out);
                out.push(b'"');
            }

            fn value(&self) -> Value<'a> {
                let make: fn(Self) -> Value<'a> = $make;
                make(*self)
            }

            fn of_value(value: Value<'a>) -> Option<Self> {
                match value {
                    $variant => Some($value),
                    Value::Text(text) => $parse(text),
                    _ => None,
                }
            }
        }
    )+};
}

quoted! {
    Uuid: Value::Uuid(uuid) => uuid, Value::Uuid, Uuid::parse, |uuid, out| uuid.push(out);
    CdrId: Value::Record(id) => id, Value::Record, CdrId::parse, |id, out| {
        out.extend_from_slice(b"cdr_");
        id.push_base32(out);
    };
    Money: Value::Money(amount) => amount, Value::Money, Money::parse, |amount, out| amount.push(out);
    Millis: Value::Instant(at) => at, Value::Instant, Millis::parse, |at, out| at.push_utc(out);
    Local: Value::Local(at, offset_minutes) => Local { at, offset_minutes },
        |local| Value::Local(local.at, local.offset_minutes), Local::parse,
        |local, out| local.at.push_local(local.offset_minutes, out);
}

impl Local {
    fn parse(text: &str) -> Option<Self> {
        let (sign, offset) = match text.get(text.len().checked_sub(6)?..)?.split_at(1) {
            ("+", offset) => (1, offset),
            ("-", offset) => (-1, offset),
            _ => return None,
        };
        let (hours, minutes) = offset.split_once(':')?;
        let offset_minutes = sign * (hours.parse::<i16>().ok()? * 60 + minutes.parse::<i16>().ok()?);
        Some(Self { at: Millis::parse(text)?, offset_minutes })
    }
}

/// Closed sets of codes.
macro_rules! codes_are_members {
    ($($type:ident),+) => {$(
        impl<'a> Member<'a> for $type {
            #[inline]
            fn push_member(&self, key: &Key, out: &mut Vec<u8>) {
                out.extend_from_slice(key.plain);
                out.extend_from_slice(self.as_json().as_bytes());
            }

            fn value(&self) -> Value<'a> {
                Value::Text(self.as_str())
            }

            fn of_value(value: Value<'a>) -> Option<Self> {
                value.text().and_then(Self::parse)
            }
        }
    )+};
}

codes_are_members!(AdjustmentType, BillingIndicator, ChargeType, Direction, Encoding, FinalState);
