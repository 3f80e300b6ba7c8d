//! Events of `audit` rows: an entry of the audit log, and of a replica's restriction also that.

use super::derive::{Derivation, DeriveError, Sink, Sources};
use super::derive_notice::audit_entry;
use super::{Event, EventHead, Restriction, RestrictionState, restriction, subject};
use crate::masking;
use crate::names::{NODE_RESTRICTED, NODE_RESTRICTION_LIFTED};
use cdr_core::Millis;
use cdr_core::row::{Row, System};
use serde::Deserialize;
use std::ops::ControlFlow;

impl<S: Sources> Derivation<'_, S> {
    /// The events of an `audit` row; none if the schema does not know its kind.
    pub(super) fn audited(
        &mut self,
        row: &Row<'_>,
        system: &System<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<ControlFlow<()>, DeriveError> {
        let Some(entry) = audit_entry(system) else { return Ok(ControlFlow::Continue(())) };
        let trace_id = row.frame.trace_id;
        let told =
            self.tell(subject::AUDIT, trace_id, sink, |head| Ok(entry.event(row.frame.cdr_id, head)))?;
        match change(system) {
            Some(change) if told.is_continue() => {
                self.tell(subject::RESTRICTION, trace_id, sink, |head| Ok(change.event(head)))
            }
            _ => Ok(told),
        }
    }
}

/// A change of a replica's restriction, as the replica reported it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    node_id: u64,
    state: State,
    reason: String,
    consecutive_failures: u64,
    occurred_at: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum State {
    Restricted,
    Lifted,
}

impl Change {
    /// The event. It says when the replica saw the change, not when that was committed, which may be much later.
    fn event(&self, head: &EventHead<'_>) -> Event<'static> {
        let reason = masking::text(&self.reason);
        let change = Restriction {
            node_id: self.node_id,
            state: match self.state {
                State::Restricted => RestrictionState::Restricted,
                State::Lifted => RestrictionState::Lifted,
            },
            reason: &reason,
            consecutive_failures: self.consecutive_failures,
        };
        restriction(&change, &EventHead { occurred_at: self.occurred_at, ..*head })
    }
}

/// The change in an `audit` row; none if it is of another kind.
fn change(system: &System<'_>) -> Option<Change> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry {
        entry_type: String,
        details: serde_json::Value,
    }
    let entry: Entry = system.read().ok()?;
    let is_restriction = [NODE_RESTRICTED, NODE_RESTRICTION_LIFTED].contains(&entry.entry_type.as_str());
    is_restriction.then(|| serde_json::from_value(entry.details).ok()).flatten()
}
