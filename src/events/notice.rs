//! Events of acts and conditions: audit entries, changed settings, restricted replicas.

use super::json::Body;
use super::{Event, EventHead, subject};
use crate::names;
use cdr_core::{CdrId, Hour};

/// Kind of an audit entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditEntry {
    /// A chain was verified and holds.
    ChainVerifyOk,
    /// A chain was verified and does not hold.
    ChainBreakDetected,
    /// An entry in a transparency log was made.
    TransparencyAnchored,
    /// A schema variant was activated.
    SchemaChanged,
    /// A signing key was exchanged.
    KeyRotated,
    /// An export was delivered again.
    ExportReplayed,
    /// An adjustment was issued.
    AdjustmentIssued,
    /// A replica refuses writes.
    NodeRestricted,
    /// A replica that refused writes accepts them again.
    NodeRestrictionLifted,
}

impl AuditEntry {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::ChainVerifyOk,
        Self::ChainBreakDetected,
        Self::TransparencyAnchored,
        Self::SchemaChanged,
        Self::KeyRotated,
        Self::ExportReplayed,
        Self::AdjustmentIssued,
        Self::NodeRestricted,
        Self::NodeRestrictionLifted,
    ];

    /// Its text in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChainVerifyOk => names::CHAIN_VERIFY_OK,
            Self::ChainBreakDetected => names::CHAIN_BREAK_DETECTED,
            Self::TransparencyAnchored => "TRANSPARENCY_ANCHORED",
            Self::SchemaChanged => "SCHEMA_CHANGED",
            Self::KeyRotated => "KEY_ROTATED",
            Self::ExportReplayed => "EXPORT_REPLAYED",
            Self::AdjustmentIssued => "ADJUSTMENT_ISSUED",
            Self::NodeRestricted => names::NODE_RESTRICTED,
            Self::NodeRestrictionLifted => names::NODE_RESTRICTION_LIFTED,
        }
    }

    /// The kind of a text, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entry| entry.as_str() == text)
    }
}

/// An audit entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit<'a> {
    /// Its row; the text begins with `aud_`.
    pub audit_id: CdrId,
    /// Its kind.
    pub entry: AuditEntry,
    /// Hour that it concerns.
    pub bucket_hour: Option<Hour>,
    /// Operator that it concerns.
    pub operator_id: Option<&'a str>,
    /// Who acted; none for the system itself.
    pub actor: Option<&'a str>,
    /// More about it: a JSON object in RFC 8785 form, without subscribers' numbers, copied as it is.
    pub details: &'a str,
}

/// `cdr.audit.v1`.
pub fn audit<'a>(audit: &Audit<'a>, head: &EventHead<'_>) -> Event<'a> {
    let mut body = Body::begin(head, 384 + audit.details.len());
    body.id("auditId", "aud_", audit.audit_id);
    body.code("entryType", audit.entry.as_str());
    body.hour_or_null("bucketHour", audit.bucket_hour);
    body.text_or_null("operatorId", audit.operator_id);
    body.text_or_null("actorUserId", audit.actor);
    body.raw("details", audit.details);
    Event {
        subject: subject::AUDIT,
        partition_key: audit.operator_id.unwrap_or_default(),
        event_id: head.event_id,
        payload: body.end(head),
    }
}

/// A regulator-facing setting that changed. Its values must hold neither secrets nor subscribers' numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigChange<'a> {
    /// The setting.
    pub key: &'a str,
    /// Its value before; none if it was not set.
    pub previous: Option<&'a str>,
    /// Its value.
    pub new: &'a str,
    /// Who changed it.
    pub actor: &'a str,
    /// Who approved it.
    pub approver: Option<&'a str>,
    /// Why.
    pub reason: &'a str,
    /// Ticket that requested it.
    pub ticket_id: Option<&'a str>,
}

/// `cdr.config.changed.v1`.
pub fn config_changed(change: &ConfigChange<'_>, head: &EventHead<'_>) -> Event<'static> {
    let texts =
        change.key.len() + change.previous.unwrap_or_default().len() + change.new.len() + change.reason.len();
    let mut body = Body::begin(head, 384 + texts);
    body.text("configKey", change.key);
    body.text_or_null("previousValue", change.previous);
    body.text("newValue", change.new);
    body.text("actorUserId", change.actor);
    body.text_or_null("approverUserId", change.approver);
    body.text("reason", change.reason);
    body.text_or_null("ticketId", change.ticket_id);
    whole_system(subject::CONFIG_CHANGED, body, head)
}

/// Whether a replica refuses writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestrictionState {
    /// It does.
    Restricted,
    /// It did, and no longer does.
    Lifted,
}

/// A replica that refuses writes, or accepts them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restriction<'a> {
    /// The replica.
    pub node_id: u64,
    /// Whether it refuses.
    pub state: RestrictionState,
    /// Why.
    pub reason: &'a str,
    /// Writes that failed one after another.
    pub consecutive_failures: u64,
}

/// `cdr.restriction.v1`.
pub fn restriction(restriction: &Restriction<'_>, head: &EventHead<'_>) -> Event<'static> {
    let mut body = Body::begin(head, 256 + restriction.reason.len());
    body.integer("nodeId", restriction.node_id);
    body.code(
        "state",
        match restriction.state {
            RestrictionState::Restricted => "RESTRICTED",
            RestrictionState::Lifted => "LIFTED",
        },
    );
    body.text("reason", restriction.reason);
    body.integer("consecutiveFailures", restriction.consecutive_failures);
    whole_system(subject::RESTRICTION, body, head)
}

/// An event of no operator.
fn whole_system(subject: &'static str, body: Body, head: &EventHead<'_>) -> Event<'static> {
    Event { subject, partition_key: "", event_id: head.event_id, payload: body.end(head) }
}
