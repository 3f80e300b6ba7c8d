//! `sms.events.status`: a message's state as the orchestrator sees it. Only EXPIRED makes a record, when no receipt of
//! the message arrived in time; every other state is ignored.
//!
//! The time runs from the message's `finalAt` by the leader's clock; a message that is not due is given back to the bus
//! with the time that is left, so that nothing is held here and a failover changes nothing. The bus lets 100,000
//! messages wait so; beyond that it hands out new ones only as others become due, which puts them off and loses none.
//! Once a message is due, everything that had come to the inbound stream by then must be in the ledger: a backlog of
//! DLRs does not mean that none came. The record is made like that of an EXPIRED DLR; if a DLR gets into the log first,
//! the log drops it.

use super::fields::Fields;
use super::inbound::Inbound;
use super::{ConsumeError, Handler, Message, Taken, Work};
use crate::dlr::{Dlr, Parsed, Reason, parse};
use crate::ingest::Projector;
use crate::pricing::Pricing;
use crate::proposer::Proposer;
use cdr_core::receipt::Known;
use cdr_core::row::FinalState;
use cdr_core::{LedgerState, Millis};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Durable name.
pub(super) const DURABLE: &str = "cdr-mediation-status";
/// Subject.
pub(super) const SUBJECT: &str = "sms.events.status";
/// When a message is processed again whose time is unknown: a clock jumps that follows events, and so does the place
/// up to which receipts are read.
const SOON: Duration = Duration::from_secs(1);
/// The longest time before a message is processed again, so that a shorter wait of a new configuration is noticed.
const AT_LATEST: Duration = Duration::from_secs(15 * 60);

/// Records messages that ended without a receipt.
pub(super) struct Expired {
    /// How long a receipt may take.
    pub wait: Duration,
    /// Where receipts come from.
    pub inbound: Inbound,
    /// What prices records.
    pub pricing: Arc<dyn Pricing>,
}

impl Handler for Expired {
    fn prepare<'a>(&'a self, proposer: &'a Proposer) -> BoxFuture<'a, Result<(), ConsumeError>> {
        async move { Ok(self.inbound.look(proposer).await?) }.boxed()
    }

    fn take(&self, message: &Message<'_>, work: &mut Work<'_>) -> Result<Taken, ConsumeError> {
        let dlr = match read(message.payload) {
            Ok(Some(dlr)) => dlr,
            Ok(None) => return Ok(Taken::Ignored),
            Err(reason) => return Ok(Taken::Unreadable(reason)),
        };
        if work.store().known_messages(&[dlr.message_id])? != [Known::Nothing] {
            return Ok(Taken::Done);
        }
        let (state, clock) = (work.state(), work.clock().clone());
        let now = clock.now().max(state.head.last_recorded_at);
        if clock.follows_events() && dlr.final_at > now {
            return Ok(Taken::Later(SOON));
        }
        let projector = self.projector(&state)?;
        if let Err(reason) = projector.check_local_time(dlr.final_at) {
            return Ok(Taken::Unreadable(reason));
        }
        let (book, drawn) = (projector.book(), work.draw()?);
        let draft = match projector.project(&dlr, &state, drawn, now, &book) {
            Ok(draft) => draft,
            Err(reason) => return Ok(Taken::Unreadable(reason)),
        };
        let due = Millis(dlr.final_at.0 + self.wait.as_millis() as i64);
        if now < due {
            let left = Duration::from_millis((due.0 - now.0) as u64).min(AT_LATEST);
            return Ok(Taken::Later(if clock.follows_events() { SOON } else { left }));
        }
        if !self.inbound.is_read_upto(due) {
            return Ok(Taken::Later(SOON));
        }
        work.push(&draft)?;
        Ok(Taken::Rows)
    }
}

impl Expired {
    fn projector(&self, state: &LedgerState) -> Result<Projector, ConsumeError> {
        let zone = state.cluster.as_ref().map(|cluster| cluster.zone.as_str()).unwrap_or_default();
        Projector::new(zone, self.pricing.clone())
            .map_err(|e| ConsumeError::Rows(format!("the settlement zone {zone:?} can't be used: {e}")))
    }
}

/// The message as a receipt, if it says EXPIRED; none if it says anything else.
pub(super) fn read(payload: &[u8]) -> Result<Option<Box<Dlr<'_>>>, Reason> {
    let fields = Fields::read(payload)?;
    if fields.text("status", "a state", |text| !text.is_empty())? != FinalState::Expired.as_str() {
        return Ok(None);
    }
    match parse(payload) {
        Parsed::Final(dlr) => Ok(Some(dlr)),
        Parsed::Ignored(_) => Ok(None),
        Parsed::Malformed { reason } => Err(reason),
    }
}
