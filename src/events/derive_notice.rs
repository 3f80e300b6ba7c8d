//! Events of system rows: their bodies, read as far as an event needs them.
//!
//! A body that does not hold what its event needs gives no event: a row can't be taken back, and must not hold up those
//! behind it.

use super::{Audit, AuditEntry, ConfigChange, Event, EventHead, audit, config_changed};
use crate::masking;
use cdr_core::canonical::to_jcs;
use cdr_core::row::System;
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

/// The entry in an `audit` row; none if the schema does not know its kind.
///
/// Its details are those of the row with ticket and approver. The request, which holds hashes of what a client sent,
/// and the reason in words are left out.
pub(super) fn audit_entry(system: &System<'_>) -> Option<Entry> {
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
    let body: Body = system.read().ok()?;
    let kind = AuditEntry::parse(&body.entry_type)?;
    let mut details = body.details;
    for (key, text) in [("approverUserId", body.approver_user_id), ("ticketId", body.ticket_id)] {
        if let (Some(text), false) = (text, details.contains_key(key)) {
            details.insert(key.to_owned(), Value::String(text));
        }
    }
    let mut details = Value::Object(details);
    masking::own(&mut details);
    Some(Entry {
        kind,
        bucket_hour: body.bucket_hour,
        operator_id: body.operator_id,
        actor: body.actor_user_id,
        details: text_of(&details)?,
    })
}

/// The entry of a `key` row.
pub(super) fn key_rotation(system: &System<'_>) -> Option<Entry> {
    let key: KeyRecord = system.read().ok()?;
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

/// The content of a `config` row.
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
        let reason = masking::text(&self.reason);
        let ticket_id = self.ticket_id.as_deref().map(masking::text);
        let change = ConfigChange {
            key: &self.config_key,
            previous: self.previous_value.as_deref(),
            new: &self.new_value,
            actor: &self.actor_user_id,
            approver: self.approver_user_id.as_deref(),
            reason: &reason,
            ticket_id: ticket_id.as_deref(),
        };
        config_changed(&change, head)
    }
}

/// The change in a `config` row; none if it names no key.
pub(super) fn config_change(system: &System<'_>) -> Option<Change> {
    system.read().ok()
}

/// A JSON text in RFC 8785 form, if the value has one.
pub(super) fn text_of(details: &Value) -> Option<String> {
    String::from_utf8(to_jcs(details).ok()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::personal::{Salt, SystemContent};
    use cdr_core::row::{Drawn, Record, SystemKind};
    use cdr_core::rules::SchemaVersion;

    #[test]
    fn an_audit_entry_leaves_request_and_reason_out() {
        let body = r#"{"actorUserId":"u","approverUserId":"v","bucketHour":null,"details":{"adjustmentId":"adj_1",
            "note":{"who":["+93701234567"]}},"entryType":"ADJUSTMENT_ISSUED","operatorId":"ETS",
            "reason":"for +93701234567","request":{"answer":"a","body":"bb","key":"cc"},"ticketId":"T-1"}"#;
        let entry = |body: &str| {
            let content = SystemContent::of_text(SystemKind::Audit, body).unwrap();
            match content
                .draft(
                    Drawn { version: SchemaVersion::V2, cdr_id: CdrId::default(), salt: Salt::default() },
                    "t",
                )
                .record
            {
                Record::System(system) => audit_entry(&system),
                Record::Sms(_) => None,
            }
        };
        let other = entry(&body.replace("ADJUSTMENT_ISSUED", "NOTE_TAKEN"));
        let entry = entry(body).unwrap();
        assert_eq!(
            entry.details,
            r#"{"adjustmentId":"adj_1","approverUserId":"v","note":{"who":["+***"]},"ticketId":"T-1"}"#
        );
        assert_eq!((entry.actor.as_deref(), entry.operator_id.as_deref()), (Some("u"), Some("ETS")));
        assert_eq!(other, None);
    }
}
