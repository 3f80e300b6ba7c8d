//! Events of single records: appended, repriced.

use super::json::Body;
use super::{Event, EventError, EventHead, subject};
use cdr_core::row::{Row, Sms};
use cdr_core::{CdrId, Hash};

/// Bytes that an ordinary event of a record needs beside its trace id; more only if texts are escaped.
pub(super) const APPENDED_BYTES: usize = 1088;

/// `cdr.record.appended.v1`: a CDR or an adjustment is in the ledger, with `row_hash` as its hash.
///
/// # Errors
/// [`EventError::NotSms`] for a system row.
pub fn record_appended<'a>(
    row: &Row<'a>,
    row_hash: &Hash,
    head: &EventHead<'_>,
) -> Result<Event<'a>, EventError> {
    let sms = sms(row, subject::RECORD_APPENDED)?;
    let adjustment = sms.adjustment.as_ref();
    let mut body = Body::begin(head, APPENDED_BYTES);
    body.id("cdrId", "cdr_", row.frame.cdr_id);
    body.hour("bucketHour", row.frame.bucket_hour);
    body.text("operatorId", row.frame.operator_id);
    body.uuid_or_null("tenantId", sms.tenant_id);
    body.uuid("messageId", sms.message_id);
    body.code("direction", sms.direction.as_str());
    body.code("chargeType", sms.charge_type.as_str());
    body.code("billingIndicator", sms.billing_indicator.as_str());
    body.text_or_null("tapTariffClass", sms.tap_tariff_class);
    body.money_or_null("chargeAmount", sms.charge_amount);
    // The schema allows no null here.
    if let Some(currency) = sms.charge_currency {
        body.text("chargeCurrency", currency);
    }
    body.integer("segmentCount", u64::from(sms.segment_count));
    body.code("encoding", sms.encoding.as_str());
    body.hash("msisdnHashTo", &head.numbers.of(sms.called_party));
    // An alphanumeric sender is not a subscriber.
    let from = sms.calling_party.starts_with('+').then(|| head.numbers.of(sms.calling_party));
    body.hash_or_null("msisdnHashFrom", from.as_ref());
    body.hash("rowHash", row_hash);
    body.hash("chainHashPrev", &row.frame.chain_prev);
    body.cdr_id_or_null("adjustmentOf", adjustment.map(|a| a.of));
    body.text_or_null("adjustmentType", adjustment.map(|a| a.kind.as_str()));
    Ok(Event {
        subject: subject::RECORD_APPENDED,
        partition_key: row.frame.operator_id,
        event_id: head.event_id,
        payload: body.end(head),
    })
}

/// `cdr.record.repriced.v1`: `row`, an adjustment, gives the record `original` the price that it had not.
///
/// # Errors
/// [`EventError`] unless `row` is an adjustment with a complete price.
pub fn record_repriced<'a>(
    row: &Row<'a>,
    original: CdrId,
    head: &EventHead<'_>,
) -> Result<Event<'a>, EventError> {
    let subject = subject::RECORD_REPRICED;
    let sms = sms(row, subject)?;
    if sms.adjustment.is_none() {
        return Err(EventError::NotAnAdjustment { cdr_id: row.frame.cdr_id.to_string(), subject });
    }
    let (Some(amount), Some(currency), Some(class)) =
        (sms.charge_amount, sms.charge_currency, sms.tap_tariff_class)
    else {
        return Err(EventError::Unpriced { cdr_id: row.frame.cdr_id.to_string(), subject });
    };
    let mut body = Body::begin(head, 448);
    body.id("originalCdrId", "cdr_", original);
    body.id("adjustmentId", "adj_", row.frame.cdr_id);
    body.money("chargeAmount", amount);
    body.text("chargeCurrency", currency);
    body.text("tapTariffClass", class);
    body.code("billingIndicator", sms.billing_indicator.as_str());
    Ok(Event {
        subject,
        partition_key: row.frame.operator_id,
        event_id: head.event_id,
        payload: body.end(head),
    })
}

/// The CDR of a row that `subject` is to announce.
pub(super) fn sms<'r, 'a>(row: &'r Row<'a>, subject: &'static str) -> Result<&'r Sms<'a>, EventError> {
    row.sms().ok_or_else(|| EventError::NotSms { cdr_id: row.frame.cdr_id.to_string(), subject })
}
