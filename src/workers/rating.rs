//! Rows that give an effective row a price: shared by re-rating and by late pricing.

use crate::pricing::Price;
use cdr_core::Money;
use cdr_core::row::{Adjustment, AdjustmentType, Draft, Drawn, Record, Row, Sms};

/// Why late prices are issued.
pub(super) const LATE: &str = "late pricing";

/// What is given as the ticket where a price list causes an adjustment.
pub(super) fn pricing_ticket(tariff_version: &str) -> String {
    format!("pricing:{tariff_version}")
}

/// Who issues an adjustment, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause<'a> {
    pub kind: AdjustmentType,
    pub reason: Option<&'a str>,
    pub ticket_id: &'a str,
    pub issued_by: &'a str,
    pub approver: Option<&'a str>,
    pub trace_id: &'a str,
}

/// A price as a row holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge<'a> {
    pub amount: Money,
    pub currency: &'a str,
    pub tap_tariff_class: &'a str,
    pub billing_indicator: cdr_core::row::BillingIndicator,
    pub tariff_version: &'a str,
}

impl<'a> Charge<'a> {
    pub fn of(price: &'a Price) -> Self {
        Self {
            amount: price.amount(),
            currency: price.currency(),
            tap_tariff_class: price.tap_tariff_class(),
            billing_indicator: price.billing_indicator(),
            tariff_version: price.tariff_version(),
        }
    }

    /// True if the row has this very charge from this very list.
    pub fn is_that_of(&self, sms: &Sms<'_>) -> bool {
        sms.charge_amount == Some(self.amount)
            && sms.charge_currency == Some(self.currency)
            && sms.tap_tariff_class == Some(self.tap_tariff_class)
            && sms.billing_indicator == self.billing_indicator
            && sms.tariff_version == Some(self.tariff_version)
    }
}

/// The row that follows `effective` with another charge.
pub(super) fn charged<'a>(
    effective: &Row<'a>,
    before: &Sms<'a>,
    charge: &Charge<'a>,
    cause: &Cause<'a>,
    drawn: Drawn,
) -> Draft<'a> {
    let sms = Sms {
        charge_amount: Some(charge.amount),
        charge_currency: Some(charge.currency),
        tap_tariff_class: Some(charge.tap_tariff_class),
        billing_indicator: charge.billing_indicator,
        tariff_version: Some(charge.tariff_version),
        adjustment: Some(Adjustment {
            of: effective.frame.cdr_id,
            kind: cause.kind,
            reason: cause.reason,
            void_reason: None,
            ticket_id: Some(cause.ticket_id),
            issued_by: Some(cause.issued_by),
            approver: cause.approver,
        }),
        ..before.clone()
    };
    Draft::new(drawn, effective.frame.operator_id, cause.trace_id, Record::Sms(sms)).following(effective)
}
