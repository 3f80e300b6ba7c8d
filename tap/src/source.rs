//! Where the values of a file come from: canonical fields by their names in the row, header values, totals.

use super::header::LocalTime;
use cdr_core::row::{
    AdjustmentType, BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Sms,
};
use cdr_core::schema::{Field as RowField, Kind, Value as RowValue};
use cdr_core::{CdrId, Hour, Millis, Money, Uuid};

/// A value on its way into a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Absent,
    Text(&'a str),
    Integer(i128),
    Money(Money),
    Time(LocalTime),
    Offset(i16),
    Id(CdrId),
    AdjustmentId(CdrId),
    Uuid(Uuid),
    Hour(Hour),
    Encoded(&'a [u8]),
}

impl Value<'_> {
    pub(super) fn is_absent(self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// What kind of value a source gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Text,
    Integer,
    Money,
    Time,
    Offset,
    Encoded,
}

/// Declares an enumeration of sources with their names in mappings.
macro_rules! sources {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal: $kind:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name { $($variant),+ }

        impl $name {
            fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            fn kind(self) -> ValueKind {
                match self { $(Self::$variant => ValueKind::$kind),+ }
            }
        }
    };
}

sources! {
    /// What every row has, and what follows from one row alone.
    Own {
        CdrId = "cdrId": Text,
        CdrSequence = "cdrSequence": Integer,
        BucketHour = "bucketHour": Text,
        RecordedAt = "recordedAt": Time,
        OperatorId = "operatorId": Text,
        TraceId = "traceId": Text,
        ServedParty = "servedPartyAddress": Text,
    }
}

/// A field of a canonical row, or what follows from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Of every row.
    Own(Own),
    /// Of a CDR, by the name of its member.
    Row(RowField),
}

impl Field {
    pub(super) const EVENT_TIME: Self = Self::Row(RowField::EventTime);

    fn parse(text: &str) -> Option<Self> {
        // What an operator sent for a failure has one name, code or not; local time is a conversion of the event's.
        let is_source = |field: &RowField| !matches!(field, RowField::FailureText | RowField::LocalTime);
        Own::parse(text).map(Self::Own).or_else(|| RowField::parse(text).filter(is_source).map(Self::Row))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Own(own) => own.name(),
            Self::Row(field) => field.name(),
        }
    }

    fn kind(self) -> ValueKind {
        match self {
            Self::Own(own) => own.kind(),
            Self::Row(field) => match field.kind() {
                Kind::Money => ValueKind::Money,
                Kind::Integer => ValueKind::Integer,
                Kind::Instant | Kind::LocalTime => ValueKind::Time,
                Kind::Id
                | Kind::Text
                | Kind::Code
                | Kind::Choice
                | Kind::Number
                | Kind::Identity
                | Kind::Words => ValueKind::Text,
            },
        }
    }
}

sources! {
    /// Header values and totals of a file.
    FileValue {
        Sender = "file.sender": Text,
        Recipient = "file.recipient": Text,
        RecordingEntity = "file.recordingEntity": Text,
        Sequence = "file.sequence": Integer,
        SettlementDay = "file.settlementDay": Text,
        Created = "file.created": Time,
        CutOff = "file.cutOff": Time,
        Available = "file.available": Time,
        Test = "file.test": Text,
        Currency = "file.currency": Text,
        DecimalPlaces = "file.decimalPlaces": Integer,
    }
}

sources! {
    /// What the call events of a file add up to.
    Total {
        Calls = "total.calls": Integer,
        Charge = "total.charge": Integer,
        Earliest = "total.earliest": Time,
        Latest = "total.latest": Time,
    }
}

sources! {
    /// What an adjustment has besides the fields of a row.
    Change {
        Id = "adjustment.id": Text,
        Of = "adjustment.of": Text,
        Kind = "adjustment.type": Text,
        Reason = "adjustment.reason": Text,
        VoidReason = "adjustment.voidReason": Text,
        TicketId = "adjustment.ticketId": Text,
        IssuedBy = "adjustment.issuedByUserId": Text,
        Approver = "adjustment.approverUserId": Text,
        Charge = "adjustment.charge": Integer,
        TapSequence = "tap.sequence": Integer,
        TapCall = "tap.call": Encoded,
    }
}

/// A source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A field of the listed record.
    Record(Field),
    /// The charge in the file's currency, in units of its last decimal place.
    Charge,
    /// The rate that turned the record's currency into the file's; absent where they are the same.
    ExchangeRate,
    /// A header value.
    File(FileValue),
    /// A total.
    Total(Total),
    /// An offset from UTC that occurs in the file.
    Offset,
    /// A field of the adjusting record.
    Adjusted(Field),
    /// A field of the adjustment itself.
    Change(Change),
}

/// Where in a file a source has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// In the frame of a file.
    Frame,
    /// In each element of a list of offsets.
    Offsets,
    /// In a call event.
    Call,
    /// In a returned call event.
    Return,
}

impl Source {
    /// The source with that name in mappings.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let adjusted = || text.strip_prefix("adjustment.").and_then(Field::parse).map(Self::Adjusted);
        match text {
            "charge" => Some(Self::Charge),
            "exchangeRate" => Some(Self::ExchangeRate),
            "offset" => Some(Self::Offset),
            _ => Field::parse(text)
                .map(Self::Record)
                .or_else(|| FileValue::parse(text).map(Self::File))
                .or_else(|| Total::parse(text).map(Self::Total))
                .or_else(|| Change::parse(text).map(Self::Change))
                .or_else(adjusted),
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Record(field) => field.name().to_owned(),
            Self::Charge => "charge".to_owned(),
            Self::ExchangeRate => "exchangeRate".to_owned(),
            Self::File(value) => value.name().to_owned(),
            Self::Total(total) => total.name().to_owned(),
            Self::Offset => "offset".to_owned(),
            Self::Adjusted(field) => format!("adjustment.{}", field.name()),
            Self::Change(change) => change.name().to_owned(),
        }
    }

    pub(super) fn kind(self) -> ValueKind {
        match self {
            Self::Record(field) | Self::Adjusted(field) => field.kind(),
            Self::Charge => ValueKind::Integer,
            Self::ExchangeRate => ValueKind::Text,
            Self::File(value) => value.kind(),
            Self::Total(total) => total.kind(),
            Self::Offset => ValueKind::Offset,
            Self::Change(change) => change.kind(),
        }
    }

    /// True if the source has a value in `scope`.
    pub(super) fn is_in(self, scope: Scope) -> bool {
        match self {
            Self::File(_) => true,
            Self::Total(_) => matches!(scope, Scope::Frame),
            Self::Offset => matches!(scope, Scope::Offsets),
            Self::Record(_) | Self::Charge | Self::ExchangeRate => {
                matches!(scope, Scope::Call | Scope::Return)
            }
            Self::Adjusted(_) | Self::Change(_) => matches!(scope, Scope::Return),
        }
    }

    /// The texts that the source can give, where that is a closed set.
    pub(super) fn closed_set(self) -> Option<Vec<&'static str>> {
        match self {
            Self::Record(field) | Self::Adjusted(field) => match field {
                Field::Row(RowField::ChargeType) => {
                    Some(ChargeType::ALL.iter().map(|code| code.as_str()).collect())
                }
                Field::Row(RowField::BillingIndicator) => {
                    Some(BillingIndicator::ALL.iter().map(|code| code.as_str()).collect())
                }
                Field::Row(RowField::Direction) => {
                    Some(Direction::ALL.iter().map(|code| code.as_str()).collect())
                }
                Field::Row(RowField::Encoding) => {
                    Some(Encoding::ALL.iter().map(|code| code.as_str()).collect())
                }
                Field::Row(RowField::FinalState) => {
                    Some(FinalState::ALL.iter().map(|code| code.as_str()).collect())
                }
                _ => None,
            },
            Self::Change(Change::Kind) => {
                Some(AdjustmentType::ALL.iter().map(|code| code.as_str()).collect())
            }
            _ => None,
        }
    }

    /// The same field of the listed record, for a field of the adjusting one.
    pub(super) fn listed(self) -> Option<Self> {
        match self {
            Self::Adjusted(field) => Some(Self::Record(field)),
            _ => None,
        }
    }
}

/// Header values in the form in which they are written.
#[derive(Clone, Debug)]
pub(super) struct FileValues {
    pub(super) header: super::header::FileHeader,
    pub(super) settlement_day: String,
    pub(super) currency: String,
    pub(super) decimal_places: u8,
}

/// What the call events of a file add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) calls: u64,
    pub(super) charge: i128,
    pub(super) earliest: Option<LocalTime>,
    pub(super) latest: Option<LocalTime>,
}

/// A record that becomes a call event.
#[derive(Clone, Copy)]
pub(super) struct Listed<'a> {
    pub(super) frame: &'a Frame<'a>,
    pub(super) sms: &'a Sms<'a>,
    pub(super) charge: i64,
    pub(super) exchange_rate: Option<&'a str>,
}

/// An adjustment that returns a call event.
#[derive(Clone, Copy)]
pub(super) struct Adjusting<'a> {
    pub(super) frame: &'a Frame<'a>,
    pub(super) sms: &'a Sms<'a>,
    pub(super) charge: Option<i64>,
    pub(super) tap_sequence: u32,
    pub(super) tap_call: &'a [u8],
}

/// Everything that sources can be looked up in.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'a> {
    pub(super) file: &'a FileValues,
    pub(super) totals: Option<&'a Totals>,
    pub(super) offset: Option<i16>,
    pub(super) listed: Option<&'a Listed<'a>>,
    pub(super) adjusting: Option<&'a Adjusting<'a>>,
}

impl<'a> Lookup<'a> {
    pub(super) fn get(&self, source: Source) -> Value<'a> {
        match source {
            Source::Record(field) => self.listed.map_or(Value::Absent, |l| field_of(field, l.frame, l.sms)),
            Source::Charge => self.listed.map_or(Value::Absent, |l| Value::Integer(l.charge.into())),
            Source::ExchangeRate => text(self.listed.and_then(|listed| listed.exchange_rate)),
            Source::File(value) => file_value(value, self.file),
            Source::Total(total) => self.totals.map_or(Value::Absent, |totals| total_of(total, totals)),
            Source::Offset => self.offset.map_or(Value::Absent, Value::Offset),
            Source::Adjusted(field) => {
                self.adjusting.map_or(Value::Absent, |a| field_of(field, a.frame, a.sms))
            }
            Source::Change(change) => self.adjusting.map_or(Value::Absent, |a| change_of(change, a)),
        }
    }
}

fn text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Absent, Value::Text)
}

fn field_of<'a>(field: Field, frame: &'a Frame<'a>, sms: &'a Sms<'a>) -> Value<'a> {
    let time = |at: Millis| Value::Time(LocalTime::new(at, sms.local_offset_minutes));
    match field {
        Field::Own(Own::CdrId) => Value::Id(frame.cdr_id),
        Field::Own(Own::CdrSequence) => Value::Integer(frame.sequence.into()),
        Field::Own(Own::BucketHour) => Value::Hour(frame.bucket_hour),
        Field::Own(Own::RecordedAt) => time(frame.recorded_at),
        Field::Own(Own::OperatorId) => Value::Text(frame.operator_id),
        Field::Own(Own::TraceId) => Value::Text(frame.trace_id),
        Field::Own(Own::ServedParty) => Value::Text(match sms.direction {
            Direction::Mo => sms.calling_party,
            Direction::Mt => sms.called_party,
        }),
        Field::Row(RowField::FailureCode) => text(sms.failure()),
        Field::Row(field) => match sms.get(field) {
            RowValue::Absent => Value::Absent,
            RowValue::Text(text) => Value::Text(text),
            RowValue::Integer(integer) => Value::Integer(integer.into()),
            RowValue::Money(amount) => Value::Money(amount),
            RowValue::Instant(at) => time(at),
            RowValue::Local(at, offset_minutes) => Value::Time(LocalTime::new(at, offset_minutes)),
            RowValue::Uuid(uuid) => Value::Uuid(uuid),
            RowValue::Record(id) => Value::Id(id),
        },
    }
}

fn file_value(value: FileValue, file: &FileValues) -> Value<'_> {
    let header = &file.header;
    match value {
        FileValue::Sender => Value::Text(&header.sender),
        FileValue::Recipient => Value::Text(&header.recipient),
        FileValue::RecordingEntity => Value::Text(&header.recording_entity),
        FileValue::Sequence => Value::Integer(header.sequence.into()),
        FileValue::SettlementDay => Value::Text(&file.settlement_day),
        FileValue::Created => Value::Time(header.created),
        FileValue::CutOff => Value::Time(header.cut_off),
        FileValue::Available => Value::Time(header.available),
        FileValue::Test => text(header.test.then_some("test")),
        FileValue::Currency => Value::Text(&file.currency),
        FileValue::DecimalPlaces => Value::Integer(file.decimal_places.into()),
    }
}

fn total_of(total: Total, totals: &Totals) -> Value<'static> {
    match total {
        Total::Calls => Value::Integer(totals.calls.into()),
        Total::Charge => Value::Integer(totals.charge),
        Total::Earliest => totals.earliest.map_or(Value::Absent, Value::Time),
        Total::Latest => totals.latest.map_or(Value::Absent, Value::Time),
    }
}

fn change_of<'a>(change: Change, adjusting: &Adjusting<'a>) -> Value<'a> {
    let adjustment = adjusting.sms.adjustment.as_ref();
    match change {
        Change::Id => Value::AdjustmentId(adjusting.frame.cdr_id),
        Change::Of => adjustment.map_or(Value::Absent, |a| Value::Id(a.of)),
        Change::Kind => text(adjustment.map(|a| a.kind.as_str())),
        Change::Reason => text(adjustment.and_then(|a| a.reason)),
        Change::VoidReason => text(adjustment.and_then(|a| a.void_reason)),
        Change::TicketId => text(adjustment.and_then(|a| a.ticket_id)),
        Change::IssuedBy => text(adjustment.and_then(|a| a.issued_by)),
        Change::Approver => text(adjustment.and_then(|a| a.approver)),
        Change::Charge => adjusting.charge.map_or(Value::Absent, |charge| Value::Integer(charge.into())),
        Change::TapSequence => Value::Integer(adjusting.tap_sequence.into()),
        Change::TapCall => Value::Encoded(adjusting.tap_call),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_sources_and_back() {
        for name in [
            "cdrId",
            "charge",
            "exchangeRate",
            "offset",
            "file.sender",
            "total.calls",
            "adjustment.id",
            "adjustment.chargeAmount",
            "tap.call",
            "servedPartyAddress",
            "eventTimeStamp",
            "correlationId",
            "adjustment.correlationId",
        ] {
            assert_eq!(Source::parse(name).unwrap().name(), name);
        }
        for name in
            ["", "cdrid", "failureText", "localTimeStamp", "adjustment", "adjustment.sender", "file.unknown"]
        {
            assert_eq!(Source::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_field_that_came_later_has_a_value_in_rows_that_have_it() {
        let frame = Frame {
            bucket_hour: Hour(1),
            sequence: 1,
            chain_prev: [0; 32],
            recorded_at: Millis(3_600_000),
            source_stream: "S",
            source_sequence: 1,
            cdr_id: CdrId([1; 16]),
            operator_id: "AWCC",
            trace_id: "t",
        };
        let field = Field::parse("correlationId").unwrap();
        assert_eq!(field.kind(), ValueKind::Text);
        assert_eq!(field_of(field, &frame, &Sms::BLANK), Value::Absent);
        let three = Sms { correlation_id: Some("order-7"), ..Sms::BLANK };
        assert_eq!(field_of(field, &frame, &three), Value::Text("order-7"));
    }

    #[test]
    fn sources_have_their_place() {
        let is_in = |name: &str, scope| Source::parse(name).unwrap().is_in(scope);
        assert!(is_in("file.sender", Scope::Frame) && is_in("file.sender", Scope::Return));
        assert!(is_in("cdrId", Scope::Call) && !is_in("cdrId", Scope::Frame));
        assert!(is_in("total.calls", Scope::Frame) && !is_in("total.calls", Scope::Call));
        assert!(is_in("adjustment.id", Scope::Return) && !is_in("adjustment.id", Scope::Call));
        assert!(is_in("offset", Scope::Offsets) && !is_in("offset", Scope::Frame));
    }
}
