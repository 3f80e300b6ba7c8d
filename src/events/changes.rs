//! What an adjustment changed, as an event may hold it: new values, with addresses and identities hashed.

use super::NumberHash;
use crate::masking;
use cdr_core::canonical::push_string;
use cdr_core::hash::push_hex;
use cdr_core::row::Sms;
use cdr_core::schema::{Field, Group, Kind, Value};

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
    let mut changed = Changed::default();
    let start = out.len();
    for field in Field::ALL.iter().copied().filter(|field| *field != Field::MessageId) {
        let value = new.get(field);
        if value == old.get(field) {
            continue;
        }
        match field.group() {
            Group::Price => changed.price = true,
            Group::Outcome => changed.outcome = true,
            Group::Other => changed.other = true,
        }
        out.extend_from_slice(b",\"");
        out.extend_from_slice(field.name().as_bytes());
        out.extend_from_slice(b"\":");
        push_value(field.kind(), value, numbers, out);
    }
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
    changed
}

/// Appends the new value of a field, as an event may say it.
fn push_value(kind: Kind, value: Value<'_>, numbers: &NumberHash, out: &mut Vec<u8>) {
    match (kind, value) {
        (Kind::Number | Kind::Identity, Value::Text(text)) => {
            out.extend_from_slice(numbers.prefix());
            push_hex(out, &numbers.of(text));
            out.push(b'"');
        }
        (Kind::Words, Value::Text(text)) => push_string(out, &masking::text(text)),
        (_, value) => value.push(out),
    }
}
