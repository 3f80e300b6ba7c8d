//! `billing.pricing.snapshot.ready.v1`: the price of a message that had none when it was recorded.

use super::fields::Fields;
use super::{ConsumeError, Handler, Message, Taken, Work};
use crate::acts::{is_currency, is_tariff_class};
use crate::dlr::Reason;
use crate::names::PRICE_ISSUER;
use crate::workers::rating::{Cause, Charge, LATE, charged, pricing_ticket};
use cdr_core::Uuid;
use cdr_core::adjust::is_unpriced;
use cdr_core::row::{AdjustmentType, BillingIndicator};
use cdr_core::tariff::is_version;

/// Durable name.
pub(super) const DURABLE: &str = "cdr-mediation-reprice";
/// Subject.
pub(super) const SUBJECT: &str = "billing.pricing.snapshot.ready.v1";

/// Corrects the effective row of the message, if it has no price yet.
pub(super) struct Priced;

impl Handler for Priced {
    fn take(&self, message: &Message<'_>, work: &mut Work<'_>) -> Result<Taken, ConsumeError> {
        let fields = match Fields::read(message.payload) {
            Ok(fields) => fields,
            Err(reason) => return Ok(Taken::Unreadable(reason)),
        };
        let (message_id, charge) = match read(&fields) {
            Ok(read) => read,
            Err(reason) => return Ok(Taken::Unreadable(reason)),
        };
        let rows = work.rows_of(message_id)?;
        let Some(last) = rows.last() else {
            return Ok(Taken::Failed("there is no record of the message".to_owned()));
        };
        let effective = last.row()?;
        let Some(before) = effective.sms().filter(|sms| is_unpriced(sms)) else { return Ok(Taken::Done) };
        let ticket = pricing_ticket(charge.tariff_version);
        let cause = Cause {
            kind: AdjustmentType::Correction,
            reason: Some(LATE),
            ticket_id: &ticket,
            issued_by: PRICE_ISSUER,
            approver: None,
            trace_id: fields.trace_id(effective.frame.trace_id),
        };
        let drawn = work.draw()?;
        work.push(&charged(&effective, before, &charge, &cause, drawn))?;
        Ok(Taken::Rows)
    }
}

pub(super) fn read<'a>(fields: &'a Fields<'_>) -> Result<(Uuid, Charge<'a>), Reason> {
    let charge = Charge {
        amount: fields.charge_amount()?,
        currency: fields.parsed("chargeCurrency", "AFN or USD", |text| is_currency(text).then_some(text))?,
        tap_tariff_class: fields
            .parsed("tapTariffClass", "four of A-Z and 0-9", |text| is_tariff_class(text).then_some(text))?,
        billing_indicator: fields.parsed("billingIndicator", "a known indicator", |text| {
            BillingIndicator::parse(text).filter(|known| *known != BillingIndicator::Unknown)
        })?,
        tariff_version: fields.text("tariffVersion", "1 to 64 visible ASCII characters", is_version)?,
    };
    Ok((fields.message_id()?, charge))
}
