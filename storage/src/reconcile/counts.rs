//! What is counted of an operator's hour.

use bincode::{Decode, Encode};
use cdr_core::Money;
use cdr_core::row::Sms;

/// An amount in a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Charge {
    micros: i64,
    currency: [u8; 3],
}

impl Charge {
    pub fn new(amount: Money, currency: &str) -> Self {
        let mut code = [b' '; 3];
        for (to, from) in code.iter_mut().zip(currency.bytes()) {
            *to = from;
        }
        Self { micros: amount.micros(), currency: code }
    }

    /// The charge of a row, if it has one.
    pub fn of(sms: &Sms<'_>) -> Option<Self> {
        Some(Self::new(sms.charge_amount?, sms.charge_currency.unwrap_or_default()))
    }
}

/// Sums of charges in one currency, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Sums {
    /// The currency's code.
    pub currency: [u8; 3],
    /// Of the CDRs, as they are in effect.
    pub cdr_micros: i128,
    /// Of billing's events.
    pub billing_micros: i128,
}

/// What is counted of an operator's hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct HourCounts {
    /// Original CDRs.
    pub originals: u64,
    /// Those of them that billing charged as they are in effect.
    pub matched: u64,
    /// Those that billing charged otherwise.
    pub differing: u64,
    /// Events of billing without a CDR.
    pub missing_in_cdr: u64,
    /// Sums by currency, ascending by its code.
    pub sums: Vec<Sums>,
}

impl HourCounts {
    /// Original CDRs that billing did not charge.
    pub fn missing_in_billing(&self) -> u64 {
        self.originals.saturating_sub(self.matched + self.differing)
    }

    pub(super) fn recorded(&mut self, charge: Option<Charge>, by: i64) {
        if let Some(charge) = charge {
            self.sums_of(charge).cdr_micros += i128::from(charge.micros) * i128::from(by);
        }
    }

    pub(super) fn billed(&mut self, charge: Charge, by: i64) {
        self.sums_of(charge).billing_micros += i128::from(charge.micros) * i128::from(by);
    }

    pub(super) fn compared(&mut self, is_equal: bool, by: i64) {
        let count = if is_equal { &mut self.matched } else { &mut self.differing };
        *count = count.saturating_add_signed(by);
    }

    fn sums_of(&mut self, charge: Charge) -> &mut Sums {
        let at = match self.sums.binary_search_by_key(&charge.currency, |sums| sums.currency) {
            Ok(at) => at,
            Err(at) => {
                self.sums.insert(at, Sums { currency: charge.currency, ..Sums::default() });
                at
            }
        };
        &mut self.sums[at]
    }
}
