//! `billing.events.v1`: what billing charged for a message, to be compared with its record. Appends no row.

use super::fields::Fields;
use super::{ConsumeError, Handler, Message, Taken, Work};
use crate::acts::is_currency;
use crate::dlr::Reason;
use cdr_core::command::Bill;
use cdr_core::time::HOUR_MS;
use cdr_core::{Millis, Money};
use std::time::Duration;

/// Durable name.
pub(super) const DURABLE: &str = "cdr-mediation-billing-reconciliation";
/// Subject.
pub(super) const SUBJECT: &str = "billing.events.v1";
/// How far an event may be ahead of the clock.
const MOST_AHEAD_MS: i64 = HOUR_MS;
/// When an event that is ahead of a clock that follows others is read again.
const SOON: Duration = Duration::from_secs(1);

/// Hands billing's events to the log, whether or not their messages have records.
pub(super) struct Charges {
    /// How long an event waits for a record: a record that is older can't be distinguished from one that was forgotten.
    pub kept_hours: u32,
}

impl Handler for Charges {
    fn take(&self, message: &Message<'_>, work: &mut Work<'_>) -> Result<Taken, ConsumeError> {
        let fields = match Fields::read(message.payload) {
            Ok(fields) => fields,
            Err(reason) => return Ok(Taken::Unreadable(reason)),
        };
        let bill = match read(&fields) {
            Ok(bill) => bill,
            Err(reason) => return Ok(Taken::Unreadable(reason)),
        };
        let (state, clock) = (work.state(), work.clock());
        let now = clock.now().max(state.head.last_recorded_at);
        if bill.occurred_at.0 > now.0 + MOST_AHEAD_MS && clock.follows_events() {
            return Ok(Taken::Later(SOON));
        }
        if let Err(reason) = self.check_age(bill.occurred_at, now) {
            return Ok(Taken::Unreadable(reason));
        }
        if state.partition(bill.operator_id).is_none() || bill.operator_id.starts_with('_') {
            return Ok(Taken::Unreadable(Reason::UnknownOperator));
        }
        work.push_bill(bill);
        Ok(Taken::Rows)
    }
}

impl Charges {
    fn check_age(&self, at: Millis, now: Millis) -> Result<(), Reason> {
        let field = "occurredAt";
        if at.0 > now.0 + MOST_AHEAD_MS {
            return Err(Reason::Invalid { field, expected: "an instant at most an hour ahead of the clock" });
        }
        if at.0 < now.0 - i64::from(self.kept_hours) * HOUR_MS {
            return Err(Reason::Invalid { field, expected: "within consumers.billing_kept_days" });
        }
        Ok(())
    }
}

pub(super) fn read<'a>(fields: &'a Fields<'_>) -> Result<Bill<'a>, Reason> {
    Ok(Bill {
        message_id: fields.message_id()?,
        operator_id: fields.operator_id()?,
        amount: fields.parsed("chargeAmount", "a decimal number", Money::parse)?,
        currency: fields.parsed("chargeCurrency", "AFN or USD", |text| is_currency(text).then_some(text))?,
        occurred_at: fields.instant("occurredAt")?,
    })
}
