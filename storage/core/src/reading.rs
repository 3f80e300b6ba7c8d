//! Reading a CDR row back from its JSON, as the API answers it.
//!
//! Reading proves nothing; a row that was read is what its hash says it is.

use crate::hash::from_hex;
use crate::id::{CdrId, Uuid};
use crate::money::Money;
use crate::personal::{SALT, Salt};
use crate::row::{
    Adjustment, AdjustmentType, BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Record,
    Row, Sms,
};
use crate::time::{Hour, Millis};
use serde_json::{Map, Value};

/// A field that is missing or can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field} is missing, or is not what a CDR row has there")]
pub struct FieldError {
    /// The field.
    pub field: &'static str,
}

/// The CDR or adjustment in a record as the API answers it to whoever may see numbers, of ledger format 2. `rowHash` and
/// `personalHash` are ignored: they follow.
///
/// # Errors
/// [`FieldError`]; a masked record has no salt.
pub fn cdr_row(json: &Map<String, Value>) -> Result<Row<'_>, FieldError> {
    let fields = Fields(json);
    if fields.text("recordType")? != "sms" {
        return Err(FieldError { field: "recordType" });
    }
    let source = match json.get("source") {
        Some(Value::Object(source)) => Fields(source),
        _ => return Err(FieldError { field: "source" }),
    };
    Ok(Row {
        frame: Frame {
            bucket_hour: fields.read("bucketHour", Hour::parse)?,
            sequence: fields.integer("cdrSequence")?,
            chain_prev: fields.read("chainHashPrev", from_hex)?,
            recorded_at: fields.read("recordedAt", Millis::parse)?,
            source_stream: source.text("stream")?,
            source_sequence: source.integer("sequence")?,
            cdr_id: fields.read("cdrId", CdrId::parse)?,
            operator_id: fields.text("operatorId")?,
            trace_id: fields.text("traceId")?,
        },
        salt: fields.read(SALT, Salt::parse)?,
        record: Record::Sms(fields.sms()?),
    })
}

struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn sms(&self) -> Result<Sms<'a>, FieldError> {
        let segments = self.integer("segmentCount")?;
        Ok(Sms {
            message_id: self.read("messageId", Uuid::parse)?,
            tenant_id: self.read_optional("tenantId", Uuid::parse)?,
            calling_party: self.text("callingPartyAddress")?,
            called_party: self.text("calledPartyAddress")?,
            original_served_subscriber: self.optional("originalServedSubscriberId")?,
            recording_entity: self.text("recordingEntity")?,
            service_center: self.text("serviceCenterAddress")?,
            message_reference: self.text("messageReference")?,
            event_at: self.read("eventTimeStamp", Millis::parse)?,
            local_offset_minutes: self.read("localTimeStamp", offset_minutes)?,
            submitted_at: self.read_optional("submittedAt", Millis::parse)?,
            charge_amount: self.read_optional("chargeAmount", Money::parse)?,
            charge_currency: self.optional("chargeCurrency")?,
            tap_tariff_class: self.optional("tapTariffClass")?,
            tariff_version: self.optional("tariffVersion")?,
            charge_type: self.read("chargeType", ChargeType::parse)?,
            billing_indicator: self.read("billingIndicator", BillingIndicator::parse)?,
            direction: self.read("direction", Direction::parse)?,
            encoding: self.read("encoding", Encoding::parse)?,
            final_state: self.read("finalState", FinalState::parse)?,
            segment_count: u8::try_from(segments).map_err(|_| FieldError { field: "segmentCount" })?,
            failure_code: self.optional("failureCode")?,
            failure_text: self.optional("failureText")?,
            imsi: self.optional("imsi")?,
            adjustment: self.adjustment()?,
        })
    }

    fn adjustment(&self) -> Result<Option<Adjustment<'a>>, FieldError> {
        let Some(of) = self.read_optional("adjustmentOf", CdrId::parse)? else { return Ok(None) };
        Ok(Some(Adjustment {
            of,
            kind: self.read("adjustmentType", AdjustmentType::parse)?,
            reason: self.optional("adjustmentReason")?,
            void_reason: self.optional("voidReason")?,
            ticket_id: self.optional("ticketId")?,
            issued_by: self.optional("issuedByUserId")?,
            approver: self.optional("approverUserId")?,
        }))
    }

    fn optional(&self, field: &'static str) -> Result<Option<&'a str>, FieldError> {
        match self.0.get(field) {
            Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            _ => Err(FieldError { field }),
        }
    }

    fn text(&self, field: &'static str) -> Result<&'a str, FieldError> {
        self.optional(field)?.ok_or(FieldError { field })
    }

    fn integer(&self, field: &'static str) -> Result<u64, FieldError> {
        self.0.get(field).and_then(Value::as_u64).ok_or(FieldError { field })
    }

    fn read<T>(&self, field: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, FieldError> {
        read(self.text(field)?).ok_or(FieldError { field })
    }

    fn read_optional<T>(
        &self,
        field: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, FieldError> {
        self.optional(field)?.map(|text| read(text).ok_or(FieldError { field })).transpose()
    }
}

/// Minutes east of UTC at the end of a local time stamp.
fn offset_minutes(local: &str) -> Option<i16> {
    let (sign, offset) = match local.get(local.len().checked_sub(6)?..)?.split_at(1) {
        ("+", offset) => (1, offset),
        ("-", offset) => (-1, offset),
        _ => return None,
    };
    let (hours, minutes) = offset.split_once(':')?;
    Some(sign * (hours.parse::<i16>().ok()? * 60 + minutes.parse::<i16>().ok()?))
}
