//! What an adjustment changed, as an event may say it: new values, with addresses and identities hashed.

use super::NumberHash;
use crate::masking;
use cdr_core::canonical::{push_integer, push_string};
use cdr_core::hash::push_hex;
use cdr_core::row::Sms;

/// Which kinds of fields an adjustment changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Amount, currency, tariff class, price list, who pays.
    pub(super) price: bool,
    /// Final state, its time, failure code.
    pub(super) outcome: bool,
    /// Any other.
    pub(super) other: bool,
}

impl Changed {
    /// The reason code of a CORRECTION that made these changes.
    pub(super) fn reason_code(self) -> &'static str {
        match (self.price, self.outcome, self.other) {
            (true, false, false) => "CHARGE_CORRECTION",
            (false, true, false) => "FINAL_STATE_CORRECTION",
            _ => "FIELD_CORRECTION",
        }
    }
}

/// Appends an object of the fields in which `new` differs from `old`, by ascending key, with their new values.
/// `messageId` can't be corrected; addresses and the IMSI are never written, but their hashes; numbers in
/// free texts are hidden.
pub(super) fn push_changes(old: &Sms<'_>, new: &Sms<'_>, numbers: &NumberHash, out: &mut Vec<u8>) -> Changed {
    let mut diff = Diff { out, numbers, empty: true };
    let mut changed = Changed::default();
    let (price, outcome, other) = (&mut changed.price, &mut changed.outcome, &mut changed.other);
    diff.out.push(b'{');
    diff.code(price, "billingIndicator", old.billing_indicator.as_str(), new.billing_indicator.as_str());
    diff.hashed(other, "calledPartyAddress", Some(old.called_party), Some(new.called_party));
    diff.hashed(other, "callingPartyAddress", Some(old.calling_party), Some(new.calling_party));
    let amount = new.charge_amount;
    diff.field(price, "chargeAmount", old.charge_amount != amount, amount, |out, v| {
        quoted(out, |o| v.push(o));
    });
    diff.text(price, "chargeCurrency", old.charge_currency, new.charge_currency);
    diff.code(other, "chargeType", old.charge_type.as_str(), new.charge_type.as_str());
    diff.code(other, "direction", old.direction.as_str(), new.direction.as_str());
    diff.code(other, "encoding", old.encoding.as_str(), new.encoding.as_str());
    let at = (old.event_at, old.local_offset_minutes) != (new.event_at, new.local_offset_minutes);
    diff.field(outcome, "eventTimeStamp", old.event_at != new.event_at, Some(new.event_at), |out, v| {
        quoted(out, |o| v.push_utc(o));
    });
    diff.text(outcome, "failureCode", old.failure_code, new.failure_code);
    diff.free_text(outcome, "failureText", old.failure_text, new.failure_text);
    diff.code(outcome, "finalState", old.final_state.as_str(), new.final_state.as_str());
    diff.hashed(other, "imsi", old.imsi, new.imsi);
    diff.field(outcome, "localTimeStamp", at, Some(new.event_at), |out, v| {
        quoted(out, |o| v.push_local(new.local_offset_minutes, o));
    });
    diff.text(other, "messageReference", Some(old.message_reference), Some(new.message_reference));
    let (was, is) = (old.original_served_subscriber, new.original_served_subscriber);
    diff.hashed(other, "originalServedSubscriberId", was, is);
    diff.text(other, "recordingEntity", Some(old.recording_entity), Some(new.recording_entity));
    let segments = new.segment_count;
    diff.field(other, "segmentCount", old.segment_count != segments, Some(segments), |out, v| {
        push_integer(out, u64::from(v));
    });
    diff.text(other, "serviceCenterAddress", Some(old.service_center), Some(new.service_center));
    let submitted = new.submitted_at;
    diff.field(other, "submittedAt", old.submitted_at != submitted, submitted, |out, v| {
        quoted(out, |o| v.push_utc(o));
    });
    diff.text(price, "tapTariffClass", old.tap_tariff_class, new.tap_tariff_class);
    diff.text(price, "tariffVersion", old.tariff_version, new.tariff_version);
    let tenant = new.tenant_id;
    diff.field(other, "tenantId", old.tenant_id != tenant, tenant, |out, v| {
        quoted(out, |o| v.push(o));
    });
    diff.out.push(b'}');
    changed
}

/// Writes the fields that differ and marks their kind as changed.
struct Diff<'o> {
    out: &'o mut Vec<u8>,
    numbers: &'o NumberHash,
    empty: bool,
}

impl Diff<'_> {
    fn field<T>(
        &mut self,
        kind: &mut bool,
        key: &'static str,
        differs: bool,
        new: Option<T>,
        write: impl FnOnce(&mut Vec<u8>, T),
    ) {
        if !differs {
            return;
        }
        *kind = true;
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        match new {
            Some(new) => write(self.out, new),
            None => self.out.extend_from_slice(b"null"),
        }
    }

    fn text(&mut self, kind: &mut bool, key: &'static str, old: Option<&str>, new: Option<&str>) {
        self.field(kind, key, old != new, new, push_string);
    }

    fn free_text(&mut self, kind: &mut bool, key: &'static str, old: Option<&str>, new: Option<&str>) {
        self.field(kind, key, old != new, new, |out, value| push_string(out, &masking::text(value)));
    }

    fn code(&mut self, kind: &mut bool, key: &'static str, old: &str, new: &str) {
        self.text(kind, key, Some(old), Some(new));
    }

    fn hashed(&mut self, kind: &mut bool, key: &'static str, old: Option<&str>, new: Option<&str>) {
        let numbers = self.numbers;
        self.field(kind, key, old != new, new, |out, value| {
            out.extend_from_slice(numbers.prefix());
            push_hex(out, &numbers.of(value));
            out.push(b'"');
        });
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}
