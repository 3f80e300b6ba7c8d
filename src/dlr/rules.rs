//! The rule of every field of a receipt.

use std::borrow::Cow;

use cdr_core::row::{ChargeType, Direction, Encoding, FinalState};
use cdr_core::tariff::is_operator;
use cdr_core::{Millis, Uuid};

use super::reader::{Raw, RawDlr};
use super::{Dlr, Parsed, Reason};
use crate::texts::{self, is_e164, is_imsi, is_reference, is_sender};

const NON_FINAL_STATES: [&str; 4] = ["ACCEPTED", "BUFFERED", "ENROUTE", "UNKNOWN"];

const UUID: &str = "a UUID";
const E164: &str = "an E.164 number with +";
const INSTANT: &str = "an RFC 3339 instant";

/// Checks the state first, and the rest only of final receipts.
pub(super) fn check(raw: RawDlr<'_>) -> Result<Parsed<'_>, Reason> {
    optional("schemaVersion", raw.schema_version, "the string \"1\"", |text| (text == "1").then_some(()))?;
    let status = required("status", raw.status, "a known state", |text| match FinalState::parse(text) {
        Some(state) => Some(Ok(state)),
        None => NON_FINAL_STATES.into_iter().find(|known| *known == text).map(Err),
    })?;
    let final_state = match status {
        Ok(state) => state,
        Err(known) => return Ok(Parsed::Ignored(known)),
    };
    Ok(Parsed::Final(Box::new(Dlr {
        message_id: required("messageId", raw.message_id, UUID, Uuid::parse_any_case)?,
        tenant_id: optional("tenantId", raw.tenant_id, UUID, Uuid::parse_any_case)?,
        operator_id: required_text("operatorId", raw.operator_id, "an operator id", is_operator)?,
        final_state,
        direction: required("direction", raw.direction, "MO or MT", Direction::parse)?,
        charge_type: required("chargeType", raw.charge_type, "a known charge type", ChargeType::parse)?,
        from: required_text("from", raw.from, "an E.164 number or a name of 1-11 characters", is_sender)?,
        to: required_text("to", raw.to, E164, is_e164)?,
        original_served_subscriber_id: optional_text(
            "originalServedSubscriberId",
            raw.original_served_subscriber_id,
            E164,
            is_e164,
        )?,
        imsi: optional_text("imsi", raw.imsi, "6-15 digits", is_imsi)?,
        service_center_address: required_text(
            "serviceCenterAddress",
            raw.service_center_address,
            E164,
            is_e164,
        )?,
        message_reference: required_text(
            "messageReference",
            raw.message_reference,
            "1-20 characters",
            is_reference,
        )?,
        segment_count: segment_count(&raw.segment_count)?,
        encoding: required("encoding", raw.encoding, "a known encoding", Encoding::parse)?,
        submitted_at: optional("submittedAt", raw.submitted_at, INSTANT, Millis::parse_any_case)?,
        final_at: required("finalAt", raw.final_at, INSTANT, Millis::parse_any_case)?,
        failure_code: optional_text(
            "failureCode",
            raw.failure_code,
            texts::FAILURE_CODE,
            texts::is_failure_code,
        )?,
        correlation_id: match raw.correlation_id {
            Raw::Absent => None,
            Raw::Text(text) => Some(text),
            Raw::Integer(_) | Raw::Other => Some(Cow::Borrowed("")),
        },
        trace_id: required_text("traceId", raw.trace_id, texts::ID, texts::is_id)?,
    })))
}

fn optional<T>(
    field: &'static str,
    raw: Raw<'_>,
    expected: &'static str,
    rule: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Reason> {
    match raw {
        Raw::Absent => Ok(None),
        Raw::Text(text) => rule(&text).map(Some).ok_or(Reason::Invalid { field, expected }),
        Raw::Integer(_) | Raw::Other => Err(Reason::Invalid { field, expected }),
    }
}

fn required<T>(
    field: &'static str,
    raw: Raw<'_>,
    expected: &'static str,
    rule: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Reason> {
    optional(field, raw, expected, rule)?.ok_or(Reason::Missing(field))
}

fn optional_text<'a>(
    field: &'static str,
    raw: Raw<'a>,
    expected: &'static str,
    rule: impl FnOnce(&str) -> bool,
) -> Result<Option<Cow<'a, str>>, Reason> {
    match raw {
        Raw::Absent => Ok(None),
        Raw::Text(text) if rule(&text) => Ok(Some(text)),
        Raw::Text(_) | Raw::Integer(_) | Raw::Other => Err(Reason::Invalid { field, expected }),
    }
}

fn required_text<'a>(
    field: &'static str,
    raw: Raw<'a>,
    expected: &'static str,
    rule: impl FnOnce(&str) -> bool,
) -> Result<Cow<'a, str>, Reason> {
    optional_text(field, raw, expected, rule)?.ok_or(Reason::Missing(field))
}

fn segment_count(raw: &Raw<'_>) -> Result<u8, Reason> {
    let field = "segmentCount";
    match raw {
        Raw::Absent => Err(Reason::Missing(field)),
        Raw::Integer(count @ 1..=255) => Ok(*count as u8),
        _ => Err(Reason::Invalid { field, expected: "an integer from 1 to 255" }),
    }
}
