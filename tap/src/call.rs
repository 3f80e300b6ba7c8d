//! From a record to a call event.

use super::ber;
use super::error::EncodeError;
use super::evaluate::holds;
use super::header::{FileHeader, LocalTime};
use super::plan::Scratch;
use super::source::{Adjusting, FileValues, Listed, Lookup};
use super::variant::Format;
use cdr_core::Money;
use cdr_core::row::{Row, Sms};
use rust_decimal::{Decimal, RoundingStrategy};
use std::collections::BTreeMap;

/// An encoded call event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEvent<'a> {
    /// Its bytes: one item of the list of call events.
    pub bytes: &'a [u8],
    /// Its charge, in units of the last decimal place of the file's currency.
    pub charge: i64,
    /// When it happened.
    pub at: LocalTime,
}

/// Encodes records as call events, one after the other, with room that is used again.
///
/// The bytes are a function of record, variant and exchange rates alone: not of the call events around them. So a RAP
/// file repeats what stood in the TAP file.
#[derive(Debug)]
pub struct CallEncoder<'f> {
    format: &'f Format,
    work: Work,
}

/// What encoding needs besides the format.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) file: FileValues,
    scratch: Scratch,
    buffer: Vec<u8>,
    /// Rates that were looked up, with their text.
    rates: BTreeMap<String, (Decimal, String)>,
}

impl<'f> CallEncoder<'f> {
    /// An encoder of call events as they stand in a TAP file with this header.
    ///
    /// # Errors
    /// Header values that no file can have.
    pub fn new(format: &'f Format, header: &FileHeader) -> Result<Self, EncodeError> {
        Ok(Self { format, work: Work::new(format, header)? })
    }

    /// Encodes the record `row` with the fields of `sms`: its own, or those of the correction that gave it a price.
    ///
    /// # Errors
    /// [`EncodeError`] if the record does not fit the variant.
    pub fn encode(&mut self, row: &Row<'_>, sms: &Sms<'_>) -> Result<CallEvent<'_>, EncodeError> {
        self.work.listed(self.format, row, sms)
    }
}

impl Work {
    pub(super) fn new(format: &Format, header: &FileHeader) -> Result<Self, EncodeError> {
        let file = format.file_values(header)?;
        Ok(Self { file, scratch: Scratch::default(), buffer: Vec::new(), rates: BTreeMap::new() })
    }

    /// Encodes a call event of a TAP file.
    pub(super) fn listed(
        &mut self,
        format: &Format,
        row: &Row<'_>,
        sms: &Sms<'_>,
    ) -> Result<CallEvent<'_>, EncodeError> {
        let charge = self
            .charge(format, sms, "chargeAmount")?
            .ok_or_else(|| EncodeError::new("chargeAmount", "charge", "the record has no price yet"))?;
        self.encode(format, row, sms, charge, None)
    }

    /// Encodes a returned call event: `listed` is what the TAP file says.
    pub(super) fn returned(
        &mut self,
        format: &Format,
        original: (&Row<'_>, &Sms<'_>),
        charge: i64,
        adjusting: &Adjusting<'_>,
    ) -> Result<CallEvent<'_>, EncodeError> {
        let new_charge = self.charge(format, adjusting.sms, "adjustment.chargeAmount")?;
        let adjusting = Adjusting { charge: new_charge, ..*adjusting };
        self.encode(format, original.0, original.1, charge, Some(&adjusting))
    }

    fn encode(
        &mut self,
        format: &Format,
        row: &Row<'_>,
        sms: &Sms<'_>,
        charge: i64,
        adjusting: Option<&Adjusting<'_>>,
    ) -> Result<CallEvent<'_>, EncodeError> {
        let exchange_rate = sms.charge_currency.and_then(|currency| self.rates.get(currency));
        let exchange_rate = exchange_rate.map(|(_, text)| text.as_str());
        let listed = Listed { frame: &row.frame, sms, charge, exchange_rate };
        let lookup =
            Lookup { file: &self.file, totals: None, offset: None, listed: Some(&listed), adjusting };
        let call = format.compiled.calls.iter().find(|call| holds(&call.when, &lookup));
        let call = call.ok_or_else(|| {
            EncodeError::new("record", "call event", "no call event of the variant matches such a record")
        })?;
        call.plan.evaluate(&lookup, &[], &mut self.scratch)?;
        self.buffer = ber::encode(&call.plan, &self.scratch, std::mem::take(&mut self.buffer))?;
        let at = LocalTime::new(sms.event_at, sms.local_offset_minutes).to_second();
        Ok(CallEvent { bytes: &self.buffer, charge, at })
    }

    /// The charge of `sms` in the file's currency, in units of its last decimal place; none without a price.
    fn charge(&mut self, format: &Format, sms: &Sms<'_>, field: &str) -> Result<Option<i64>, EncodeError> {
        let error = |why: String| EncodeError::new(field, "charge", why);
        let Some(amount) = sms.charge_amount else { return Ok(None) };
        if amount.micros() < 0 {
            return Err(error("a charge is never negative".to_owned()));
        }
        // Zero is zero in every currency, and a record that was voided before it had a price has none.
        if amount == Money::ZERO {
            return Ok(Some(0));
        }
        let Some(currency) = sms.charge_currency else {
            return Err(EncodeError::new("chargeCurrency", "charge", "the charge has no currency"));
        };
        if currency == self.file.currency && self.file.decimal_places == 6 {
            return Ok(Some(amount.micros()));
        }
        let rate = match self.rates.get(currency) {
            Some((rate, _)) => Some(*rate),
            None => format.exchange_rate(&self.file.header, currency).map_err(error)?,
        };
        let scale = Decimal::from(10_u64.pow(self.file.decimal_places.into()));
        let units = amount.to_decimal().checked_mul(scale);
        let units = units.and_then(|units| units.checked_mul(rate.unwrap_or(Decimal::ONE)));
        let units = units.map(|units| units.round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven));
        let units = units.and_then(|units| i64::try_from(units).ok());
        let units = units
            .ok_or_else(|| error(format!("{amount} {currency} is too much in {}", self.file.currency)))?;
        if let Some(rate) = rate {
            self.rates.entry(currency.to_owned()).or_insert_with(|| (rate, format!("{currency}:{rate}")));
        }
        Ok(Some(units))
    }
}
