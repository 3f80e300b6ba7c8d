//! Where the values of a file come from: canonical fields by their names in the row, header values, totals.

use super::header::LocalTime;
use cdr_core::row::{
    AdjustmentType, BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Sms,
};
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
    /// Fields of a canonical row, and what follows from one row alone.
    Field {
        CdrId = "cdrId": Text,
        CdrSequence = "cdrSequence": Integer,
        BucketHour = "bucketHour": Text,
        RecordedAt = "recordedAt": Time,
        OperatorId = "operatorId": Text,
        TraceId = "traceId": Text,
        MessageId = "messageId": Text,
        TenantId = "tenantId": Text,
        CallingParty = "callingPartyAddress": Text,
        CalledParty = "calledPartyAddress": Text,
        OriginalServedSubscriber = "originalServedSubscriberId": Text,
        ServedParty = "servedPartyAddress": Text,
        RecordingEntity = "recordingEntity": Text,
        ServiceCenter = "serviceCenterAddress": Text,
        MessageReference = "messageReference": Text,
        EventAt = "eventTimeStamp": Time,
        SubmittedAt = "submittedAt": Time,
        ChargeAmount = "chargeAmount": Money,
        ChargeCurrency = "chargeCurrency": Text,
        TapTariffClass = "tapTariffClass": Text,
        TariffVersion = "tariffVersion": Text,
        ChargeType = "chargeType": Text,
        BillingIndicator = "billingIndicator": Text,
        Direction = "direction": Text,
        Encoding = "encoding": Text,
        FinalState = "finalState": Text,
        SegmentCount = "segmentCount": Integer,
        FailureCode = "failureCode": Text,
        Imsi = "imsi": Text,
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
                Field::ChargeType => Some(ChargeType::ALL.iter().map(|code| code.as_str()).collect()),
                Field::BillingIndicator => {
                    Some(BillingIndicator::ALL.iter().map(|code| code.as_str()).collect())
                }
                Field::Direction => Some(Direction::ALL.iter().map(|code| code.as_str()).collect()),
                Field::Encoding => Some(Encoding::ALL.iter().map(|code| code.as_str()).collect()),
                Field::FinalState => Some(FinalState::ALL.iter().map(|code| code.as_str()).collect()),
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
        Field::CdrId => Value::Id(frame.cdr_id),
        Field::CdrSequence => Value::Integer(frame.sequence.into()),
        Field::BucketHour => Value::Hour(frame.bucket_hour),
        Field::RecordedAt => time(frame.recorded_at),
        Field::OperatorId => Value::Text(frame.operator_id),
        Field::TraceId => Value::Text(frame.trace_id),
        Field::MessageId => Value::Uuid(sms.message_id),
        Field::TenantId => sms.tenant_id.map_or(Value::Absent, Value::Uuid),
        Field::CallingParty => Value::Text(sms.calling_party),
        Field::CalledParty => Value::Text(sms.called_party),
        Field::OriginalServedSubscriber => text(sms.original_served_subscriber),
        Field::ServedParty => Value::Text(match sms.direction {
            Direction::Mo => sms.calling_party,
            Direction::Mt => sms.called_party,
        }),
        Field::RecordingEntity => Value::Text(sms.recording_entity),
        Field::ServiceCenter => Value::Text(sms.service_center),
        Field::MessageReference => Value::Text(sms.message_reference),
        Field::EventAt => time(sms.event_at),
        Field::SubmittedAt => sms.submitted_at.map_or(Value::Absent, time),
        Field::ChargeAmount => sms.charge_amount.map_or(Value::Absent, Value::Money),
        Field::ChargeCurrency => text(sms.charge_currency),
        Field::TapTariffClass => text(sms.tap_tariff_class),
        Field::TariffVersion => text(sms.tariff_version),
        Field::ChargeType => Value::Text(sms.charge_type.as_str()),
        Field::BillingIndicator => Value::Text(sms.billing_indicator.as_str()),
        Field::Direction => Value::Text(sms.direction.as_str()),
        Field::Encoding => Value::Text(sms.encoding.as_str()),
        Field::FinalState => Value::Text(sms.final_state.as_str()),
        Field::SegmentCount => Value::Integer(sms.segment_count.into()),
        Field::FailureCode => text(sms.failure()),
        Field::Imsi => text(sms.imsi),
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
        ] {
            assert_eq!(Source::parse(name).unwrap().name(), name);
        }
        for name in ["", "cdrid", "adjustment", "adjustment.sender", "file.unknown"] {
            assert_eq!(Source::parse(name), None, "{name}");
        }
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
