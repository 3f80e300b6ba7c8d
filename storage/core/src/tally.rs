//! What an operator's hour adds up to: the counts and sums of the hourly summary.

use crate::row::{BillingIndicator, ChargeType, Direction, Sms};
use bincode::{Decode, Encode};

/// Counts and sums of an operator's open hour (`cdr.generated.v1`).
///
/// Every row counts in exactly one of the four counts, adjustments included, so that they add up to the hour's
/// `recordCount`. The sums take original rows only, since an adjustment states a new value and no delta, and keep
/// FREE apart. Amounts of different currencies are added as they stand: the summary has one field for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Tally {
    /// Rows that originated at the operator, without the two below.
    pub mo: u64,
    /// Rows that terminated at the operator, without the two below.
    pub mt: u64,
    /// Rows with charge type BROADCAST.
    pub broadcast: u64,
    /// Rows with charge type INTERNATIONAL_MT.
    pub international_mt: u64,
    /// Charges of original rows that are not FREE, in millionths; unpriced rows add nothing.
    pub chargeable_micros: i128,
    /// Charges of original rows that are FREE, in millionths.
    pub free_micros: i128,
}

impl Tally {
    /// Applies a row.
    pub fn add(&mut self, sms: &Sms<'_>) {
        let count = match (sms.charge_type, sms.direction) {
            (ChargeType::Broadcast, _) => &mut self.broadcast,
            (ChargeType::InternationalMt, _) => &mut self.international_mt,
            (_, Direction::Mo) => &mut self.mo,
            (_, Direction::Mt) => &mut self.mt,
        };
        *count += 1;
        if let (None, Some(amount)) = (&sms.adjustment, sms.charge_amount) {
            let sum = match sms.billing_indicator {
                BillingIndicator::Free => &mut self.free_micros,
                _ => &mut self.chargeable_micros,
            };
            *sum += i128::from(amount.micros());
        }
    }

    /// Rows that were counted.
    pub fn rows(&self) -> u64 {
        self.mo + self.mt + self.broadcast + self.international_mt
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::row::{Adjustment, AdjustmentType, Encoding, FinalState};
    use crate::{CdrId, Millis, Money, Uuid};

    fn sms(charge_type: ChargeType, direction: Direction, micros: Option<i64>) -> Sms<'static> {
        Sms {
            message_id: Uuid([1; 16]),
            calling_party: "+93701234567",
            called_party: "+93791234567",
            recording_entity: "AFGAW",
            service_center: "+93700000010",
            message_reference: "1",
            event_at: Millis(0),
            local_offset_minutes: 270,
            charge_amount: micros.and_then(Money::from_micros),
            charge_currency: micros.map(|_| "AFN"),
            tap_tariff_class: micros.map(|_| "A001"),
            tariff_version: micros.map(|_| "1"),
            charge_type,
            billing_indicator: BillingIndicator::Chargeable,
            direction,
            encoding: Encoding::Gsm7,
            final_state: FinalState::Delivered,
            segment_count: 1,
            ..Sms::BLANK
        }
    }

    #[test]
    fn each_row_counts_once_and_only_originals_are_summed() {
        let mut tally = Tally::default();
        for charge_type in ChargeType::ALL {
            for direction in Direction::ALL {
                tally.add(&sms(*charge_type, *direction, Some(10)));
            }
        }
        assert_eq!((tally.mo, tally.mt, tally.broadcast, tally.international_mt), (4, 4, 2, 2));
        assert_eq!((tally.rows(), tally.chargeable_micros, tally.free_micros), (12, 120, 0));

        tally.add(&Sms {
            billing_indicator: BillingIndicator::Free,
            ..sms(ChargeType::P2p, Direction::Mo, Some(7))
        });
        tally.add(&sms(ChargeType::P2p, Direction::Mo, None));
        let adjustment = Adjustment {
            of: CdrId([2; 16]),
            kind: AdjustmentType::ReRate,
            reason: None,
            void_reason: None,
            ticket_id: None,
            issued_by: None,
            approver: None,
        };
        tally.add(&Sms { adjustment: Some(adjustment), ..sms(ChargeType::P2p, Direction::Mt, Some(1000)) });
        assert_eq!((tally.rows(), tally.chargeable_micros, tally.free_micros), (15, 120, 7));
        assert_eq!((tally.mo, tally.mt), (6, 5));
    }
}
