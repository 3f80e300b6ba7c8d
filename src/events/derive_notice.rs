//! What system rows tell: their bodies, read as far as an event needs them.
//!
//! A body that does not hold what its event needs tells nothing: a row can't be taken back, and must not hold up those
//! behind it.

use super::{Audit, AuditEntry, ConfigChange, Event, EventHead, audit, config_changed};
use cdr_core::canonical::to_jcs;
use cdr_core::seal::KeyRecord;
use cdr_core::{CdrId, Hour};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// An audit entry, with owned texts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    kind: AuditEntry,
    bucket_hour: Option<Hour>,
    operator_id: Option<String>,
    actor: Option<String>,
    details: String,
}

impl Entry {
    /// The event of the entry, whose row is `id`.
    pub(super) fn event<'a>(&'a self, id: CdrId, head: &EventHead<'_>) -> Event<'a> {
        let entry = Audit {
            audit_id: id,
            entry: self.kind,
            bucket_hour: self.bucket_hour,
            operator_id: self.operator_id.as_deref(),
            actor: self.actor.as_deref(),
            details: &self.details,
        };
        audit(&entry, head)
    }
}

/// The entry in the body of an `audit` row; none if the schema does not know its kind.
///
/// Its details are those of the row with ticket and approver. The request, which holds hashes of what a client sent,
/// and the reason in words are left out.
pub(super) fn audit_entry(body: &str) -> Option<Entry> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        entry_type: String,
        bucket_hour: Option<Hour>,
        operator_id: Option<String>,
        actor_user_id: Option<String>,
        approver_user_id: Option<String>,
        ticket_id: Option<String>,
        #[serde(default)]
        details: Map<String, Value>,
    }
    let body: Body = serde_json::from_str(body).ok()?;
    let kind = AuditEntry::parse(&body.entry_type)?;
    let mut details = body.details;
    for (key, text) in [("approverUserId", body.approver_user_id), ("ticketId", body.ticket_id)] {
        if let (Some(text), false) = (text, details.contains_key(key)) {
            details.insert(key.to_owned(), Value::String(text));
        }
    }
    let mut details = Value::Object(details);
    hide_numbers(&mut details);
    Some(Entry {
        kind,
        bucket_hour: body.bucket_hour,
        operator_id: body.operator_id,
        actor: body.actor_user_id,
        details: text_of(&details)?,
    })
}

/// The entry of a `key` row.
pub(super) fn key_rotation(body: &str) -> Option<Entry> {
    let key: KeyRecord = serde_json::from_str(body).ok()?;
    let details = json!({
        "algorithm": key.algorithm, "keyId": key.key_id, "publicKey": key.public_key, "toHour": key.to_hour,
    });
    Some(Entry {
        kind: AuditEntry::KeyRotated,
        bucket_hour: Some(key.from_hour),
        operator_id: None,
        actor: None,
        details: text_of(&details)?,
    })
}

/// The body of a `config` row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    config_key: String,
    previous_value: Option<String>,
    new_value: String,
    actor_user_id: String,
    approver_user_id: Option<String>,
    reason: String,
    ticket_id: Option<String>,
}

impl Change {
    pub(super) fn event(&self, head: &EventHead<'_>) -> Event<'static> {
        let reason = without_numbers(&self.reason);
        let change = ConfigChange {
            key: &self.config_key,
            previous: self.previous_value.as_deref(),
            new: &self.new_value,
            actor: &self.actor_user_id,
            approver: self.approver_user_id.as_deref(),
            reason: &reason,
            ticket_id: self.ticket_id.as_deref(),
        };
        config_changed(&change, head)
    }
}

/// The change in the body of a `config` row; none if it names no key.
pub(super) fn config_change(body: &str) -> Option<Change> {
    serde_json::from_str(body).ok()
}

/// A JSON text in RFC 8785 form, if the value has one.
pub(super) fn text_of(details: &Value) -> Option<String> {
    String::from_utf8(to_jcs(details).ok()?).ok()
}

/// Hides in every text what could be a subscriber's number.
fn hide_numbers(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_numbers(text),
        Value::Array(values) => values.iter_mut().for_each(hide_numbers),
        Value::Object(fields) => fields.values_mut().for_each(hide_numbers),
        _ => (),
    }
}

/// Hides what could be a subscriber's number in a text that somebody else wrote: in texts, in the names of fields, and
/// where it stands as a number.
pub(super) fn hide_everywhere(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_numbers(text),
        Value::Number(number) => {
            let hidden = without_numbers(&number.to_string());
            if hidden != number.to_string() {
                *value = Value::String(hidden);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(hide_everywhere),
        Value::Object(fields) => {
            let all = std::mem::take(fields);
            fields.extend(all.into_iter().map(|(name, mut value)| {
                hide_everywhere(&mut value);
                (without_numbers(&name), value)
            }));
        }
        Value::Null | Value::Bool(_) => (),
    }
}

/// `text` with every word of 9 to 15 digits replaced: such a word could be a subscriber's number or IMSI. Digits within
/// longer words, such as hashes and ids, stay.
pub(super) fn without_numbers(text: &str) -> String {
    let in_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let is_number = |word: &str| (9..=15).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit());
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(if is_number(word) { "***" } else { word });
        let next = after.find(in_word).unwrap_or(after.len());
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_hidden_and_ids_stay() {
        for (text, expected) in [
            ("call of +93701234567, twice", "call of +***, twice"),
            ("93701234567", "***"),
            ("imsi=412011234567890!", "imsi=***!"),
            ("12345678", "12345678"),
            ("cdr_01HV0123456789012345678901", "cdr_01HV0123456789012345678901"),
            ("3f2504e0-4f89-11d3-9a0c-030500000000", "3f2504e0-4f89-11d3-9a0c-030500000000"),
            ("", ""),
            ("\u{6a9}\u{6a9} 0093701234567 é", "\u{6a9}\u{6a9} *** é"),
        ] {
            assert_eq!(without_numbers(text), expected);
        }
    }

    #[test]
    fn nothing_of_a_foreign_payload_shows_a_number() {
        let mut payload = json!({
            "+93701234567": [93_701_234_567_u64, 12, -1.5, {"imsi": "412011234567890"}], "line": 7, "ok": true,
        });
        hide_everywhere(&mut payload);
        assert_eq!(payload, json!({ "+***": ["***", 12, -1.5, {"imsi": "***"}], "line": 7, "ok": true }));
    }

    #[test]
    fn an_audit_entry_leaves_request_and_reason_out() {
        let body = r#"{"actorUserId":"u","approverUserId":"v","bucketHour":null,"details":{"adjustmentId":"adj_1",
            "note":{"who":["+93701234567"]}},"entryType":"ADJUSTMENT_ISSUED","operatorId":"ETS",
            "reason":"for +93701234567","request":{"answer":"a","body":"bb","key":"cc"},"ticketId":"T-1"}"#;
        let entry = audit_entry(body).unwrap();
        assert_eq!(
            entry.details,
            r#"{"adjustmentId":"adj_1","approverUserId":"v","note":{"who":["+***"]},"ticketId":"T-1"}"#
        );
        assert_eq!((entry.actor.as_deref(), entry.operator_id.as_deref()), (Some("u"), Some("ETS")));
        assert_eq!(audit_entry(&body.replace("ADJUSTMENT_ISSUED", "NOTE_TAKEN")), None);
        assert_eq!(audit_entry("[]"), None);
    }
}
