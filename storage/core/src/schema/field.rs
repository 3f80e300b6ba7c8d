//! The fields of a CDR one by one, for whoever treats them all alike: corrections, events, masking, settlement files.

use super::member::{Member, Value};
use super::sms::{Sms, sms_members};
use crate::rules::SchemaVersion;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A UUID.
    Id,
    /// A text with a rule of its own.
    Text,
    /// An optional code, `[A-Za-z0-9_.:-]{1,64}`, that is no number.
    Code,
    /// One of a closed set of codes.
    Choice,
    /// A telephone number, or the name of a sender.
    Number,
    /// A subscriber's identity.
    Identity,
    /// Words that somebody wrote.
    Words,
    /// An instant.
    Instant,
    /// An instant in local time.
    LocalTime,
    /// An amount.
    Money,
    /// An integer.
    Integer,
}

/// What a change of a field is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Amount, currency, tariff class, price list, who pays.
    Price,
    /// Final state, its time, the reason of a failure.
    Outcome,
    /// Anything else.
    Other,
}

macro_rules! is_corrected {
    (corrected) => {
        true
    };
    (kept) => {
        false
    };
}

macro_rules! is_personal {
    (personal) => {
        true
    };
    (open) => {
        false
    };
}

macro_rules! fields {
    (
        ()
        $(
            $(frame $frame_name:literal $frame:ident $frame_class:ident)?
            $(adjustment $adjustment_name:literal $adjustment:ident $adjustment_class:ident)?
            $(local $local_name:literal)?
            $(field $name:literal $field:ident $variant:ident $since:ident $class:ident $kind:ident $group:ident $corrected:ident)?
            ;
        )+
    ) => {
        /// A field of a CDR, without those of an adjustment.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Field {
            $(
                $(#[doc = concat!("`", $name, "`.")] $variant,)?
                $(#[doc = concat!("`", $local_name, "`, which follows from time and offset.")] LocalTime,)?
            )+
        }

        impl Field {
            /// Every field of every version, in canonical order.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)? $(local!($local_name),)?)+];

            /// The name of its member.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name,)? $(local!($local_name) => $local_name,)?)+ }
            }

            /// The version that brought it.
            pub const fn since(self) -> SchemaVersion {
                match self { $($(Self::$variant => SchemaVersion::$since,)?)+ Self::LocalTime => SchemaVersion::V2 }
            }

            /// What it holds.
            pub const fn kind(self) -> Kind {
                match self { $($(Self::$variant => Kind::$kind,)?)+ Self::LocalTime => Kind::LocalTime }
            }

            /// What its change is about.
            pub const fn group(self) -> Group {
                match self { $($(Self::$variant => Group::$group,)?)+ Self::LocalTime => Group::Outcome }
            }

            /// True if a correction may name it.
            pub const fn is_corrected(self) -> bool {
                match self { $($(Self::$variant => is_corrected!($corrected),)?)+ Self::LocalTime => false }
            }

            /// True if it is personal data.
            pub const fn is_personal(self) -> bool {
                match self { $($(Self::$variant => is_personal!($class),)?)+ Self::LocalTime => false }
            }
        }

        impl<'a> Sms<'a> {
            /// The value of a field.
            pub fn get(&self, field: Field) -> Value<'a> {
                match field {
                    $($(Field::$variant => self.$field.value(),)?)+
                    Field::LocalTime => self.local_time().value(),
                }
            }

            /// Gives a field a value; false, and nothing changes, if it can't have that value. Local time follows from
            /// others and has none of its own.
            pub fn set(&mut self, field: Field, value: Value<'a>) -> bool {
                match field {
                    $($(Field::$variant => Member::of_value(value).map(|value| self.$field = value),)?)+
                    Field::LocalTime => None,
                }
                .is_some()
            }
        }
    };
}

macro_rules! local {
    ($name:literal) => {
        Self::LocalTime
    };
}

sms_members!(fields);

impl Field {
    /// The field whose member has that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// The fields that a correction may name in a row of this version, in canonical order.
    pub fn correctable(version: SchemaVersion) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |field| field.is_corrected() && field.since() <= version)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Millis;

    #[test]
    fn names_lead_to_fields_and_back() {
        for field in Field::ALL {
            assert_eq!(Field::parse(field.name()), Some(*field));
        }
        assert_eq!(
            (Field::parse("adjustmentOf"), Field::parse("cdrId"), Field::parse("")),
            (None, None, None)
        );
        assert!(Field::ALL.is_sorted_by_key(|field| field.name()));
        let correctable = |version| Field::correctable(version).map(Field::name).collect::<Vec<_>>();
        assert!(!correctable(SchemaVersion::V2).contains(&"correlationId"));
        assert!(correctable(SchemaVersion::V3).contains(&"correlationId"));
        assert!(!correctable(SchemaVersion::V3).contains(&"messageId"));
    }

    #[test]
    fn every_field_gives_the_value_that_it_takes() {
        let full = Sms {
            submitted_at: Some(Millis(5)),
            failure_text: Some("absent"),
            imsi: Some("412011234567890"),
            correlation_id: Some("order-7"),
            ..Sms::BLANK
        };
        let mut copy = Sms { segment_count: 9, calling_party: "x", ..Sms::BLANK };
        for field in Field::ALL.iter().copied().filter(|field| *field != Field::LocalTime) {
            assert!(copy.set(field, full.get(field)), "{}", field.name());
        }
        assert_eq!(copy, full);
        assert!(!copy.set(Field::LocalTime, full.get(Field::LocalTime)));
        assert!(
            !copy.set(Field::SegmentCount, Value::Integer(256)) && !copy.set(Field::MessageId, Value::Absent)
        );
        assert!(
            !copy.set(Field::FinalState, Value::Text("ENROUTE")) && !copy.set(Field::Imsi, Value::Integer(1))
        );
        assert_eq!(copy, full);
    }
}
