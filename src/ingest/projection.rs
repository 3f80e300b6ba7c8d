//! From a receipt to the draft of a canonical CDR (US-CDR-001).

use crate::clock::event_times;
use crate::dlr::{Dlr, Reason};
use crate::pricing::{PriceBook, PriceQuery, Pricing};
use crate::texts;
use cdr_core::Millis;
use cdr_core::row::{BillingIndicator, Draft, Drawn, Record, Sms};
use cdr_core::rules::SchemaVersion;
use cdr_core::schema::Field;
use cdr_core::state::LedgerState;
use std::sync::Arc;

/// What a projection needs besides the receipt and the state.
#[derive(Clone)]
pub struct Projector {
    zone: jiff::tz::TimeZone,
    pricing: Arc<dyn Pricing>,
}

impl Projector {
    /// A projector for the settlement zone that the ledger was begun with.
    ///
    /// # Errors
    /// If this machine does not know the zone.
    pub fn new(zone: &str, pricing: Arc<dyn Pricing>) -> Result<Self, jiff::Error> {
        Ok(Self { zone: jiff::tz::TimeZone::get(zone)?, pricing })
    }

    /// Refuses an event whose local time can't be written, at the very end of the year 9999.
    ///
    /// # Errors
    /// [`Reason`] for the dead letter.
    pub fn check_local_time(&self, event_at: Millis) -> Result<(), Reason> {
        if event_at.has_local(self.offset_minutes(event_at)) {
            return Ok(());
        }
        Err(Reason::Invalid {
            field: "finalAt",
            expected: "an instant with a local time before the year 10000",
        })
    }

    /// The current prices.
    pub fn book(&self) -> Arc<PriceBook> {
        self.pricing.book()
    }

    /// The draft of the record, or why the receipt can't become one: its operator is not in force, or its event is
    /// older than the horizon over which duplicates are recognised, or more than an hour ahead of `now`
    /// (see [`LedgerState::dedup_since`]). The price is taken from `book`.
    ///
    /// # Errors
    /// [`Reason`] for the dead letter.
    pub fn project<'a>(
        &'a self,
        dlr: &'a Dlr<'a>,
        state: &'a LedgerState,
        drawn: Drawn,
        now: Millis,
        book: &'a PriceBook,
    ) -> Result<Draft<'a>, Reason> {
        let event_times = event_times(state, now);
        if dlr.final_at < *event_times.start() {
            return Err(Reason::BeyondHorizon);
        }
        if dlr.final_at > *event_times.end() {
            return Err(Reason::AheadOfClock);
        }
        let partition = state.partition(&dlr.operator_id).ok_or(Reason::UnknownOperator)?;
        let operator = &state.registry[usize::from(state.partitions[partition].operator)];
        let quote = book.quote(&PriceQuery {
            operator_id: &dlr.operator_id,
            tenant_id: dlr.tenant_id,
            charge_type: dlr.charge_type,
            direction: dlr.direction,
            segment_count: dlr.segment_count,
            event_at: dlr.final_at,
        });
        let tariff = quote.map(|q| q.priced.tariff);
        let (failure_code, failure_text) = texts::failure(dlr.failure_code.as_deref());
        let sms = Sms {
            message_id: dlr.message_id,
            tenant_id: dlr.tenant_id,
            calling_party: &dlr.from,
            called_party: &dlr.to,
            original_served_subscriber: dlr.original_served_subscriber_id.as_deref(),
            recording_entity: &operator.recording_entity,
            service_center: &dlr.service_center_address,
            message_reference: &dlr.message_reference,
            event_at: dlr.final_at,
            local_offset_minutes: self.offset_minutes(dlr.final_at),
            submitted_at: dlr.submitted_at,
            charge_amount: quote.map(|q| q.priced.amount),
            charge_currency: tariff.map(|t| t.currency.as_str()),
            tap_tariff_class: tariff.map(|t| t.tap_tariff_class.as_str()),
            tariff_version: quote.map(|q| q.table.version.as_str()),
            charge_type: dlr.charge_type,
            billing_indicator: tariff.map_or(BillingIndicator::Unknown, |t| t.billing_indicator),
            direction: dlr.direction,
            encoding: dlr.encoding,
            final_state: dlr.final_state,
            segment_count: dlr.segment_count,
            failure_code,
            failure_text,
            imsi: dlr.imsi.as_deref(),
            adjustment: None,
            correlation_id: correlation_id(dlr, drawn.version)?,
        };
        Ok(Draft::new(drawn, &dlr.operator_id, &dlr.trace_id, Record::Sms(sms)))
    }

    /// Minutes east of UTC in the settlement zone at an instant.
    fn offset_minutes(&self, at: Millis) -> i16 {
        // The library's last instant lies two days before the end of 9999.
        let timestamp = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX);
        (self.zone.to_offset(timestamp).seconds() / 60) as i16
    }
}

/// The submitter's id of the message, in rows that have it.
fn correlation_id<'a>(dlr: &'a Dlr<'_>, version: SchemaVersion) -> Result<Option<&'a str>, Reason> {
    let field = Field::CorrelationId;
    let given = dlr.correlation_id.as_deref().filter(|_| version >= field.since());
    if given.is_none_or(texts::is_code) {
        return Ok(given);
    }
    Err(Reason::Invalid { field: field.name(), expected: texts::CODE })
}
