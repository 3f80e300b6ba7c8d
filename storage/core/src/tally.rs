//! Counts and sums of an operator's hour, for the hourly summary event (`cdr.generated.v1`).
//!
//! They are a fold over the hour's rows and no part of the seal: what is hashed is the rows themselves.

use crate::row::{BillingIndicator, ChargeType, Direction, Sms};
use bincode::{Decode, Encode};

/// Counts and sums of one operator's rows in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Tally {
    /// Rows that are mobile originated, and neither of the two kinds below.
    pub mo: u64,
    /// Rows that are mobile terminated, and neither of the two kinds below.
    pub mt: u64,
    /// Rows of charge type `BROADCAST`.
    pub broadcast: u64,
    /// Rows of charge type `INTERNATIONAL_MT`.
    pub international_mt: u64,
    /// Charges of the original rows that somebody pays, in millionths.
    pub chargeable_micros: i128,
    /// Charges of the original rows that are `FREE`, in millionths.
    pub free_micros: i128,
}

impl Tally {
    /// Counts a row: in exactly one of the four kinds, so that they add up to the operator's record count. An
    /// adjustment carries new values and not differences, so it counts but adds to no sum.
    pub fn add(&mut self, sms: &Sms<'_>) {
        *match (sms.charge_type, sms.direction) {
            (ChargeType::Broadcast, _) => &mut self.broadcast,
            (ChargeType::InternationalMt, _) => &mut self.international_mt,
            (_, Direction::Mo) => &mut self.mo,
            (_, Direction::Mt) => &mut self.mt,
        } += 1;
        if let (Some(amount), None) = (sms.charge_amount, &sms.adjustment) {
            *match sms.billing_indicator {
                BillingIndicator::Free => &mut self.free_micros,
                _ => &mut self.chargeable_micros,
            } += i128::from(amount.micros());
        }
    }
}
