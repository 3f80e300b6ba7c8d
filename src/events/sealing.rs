//! Events of sealed hours: one of each per operator and hour.

use super::json::Body;
use super::{Event, EventHead, subject};
use cdr_core::Seal;
use cdr_core::seal::OperatorSeal;
use cdr_core::state::Tally;

/// `cdr.bucket.sealed.v1`: `operator`'s hour of `seal` is closed. `signerKeyId` is empty if no key was registered.
pub fn bucket_sealed<'a>(seal: &Seal, operator: &'a OperatorSeal, head: &EventHead<'_>) -> Event<'a> {
    let mut body = Body::begin(head, 704);
    body.hour("bucketHour", seal.bucket_hour);
    body.text("operatorId", &operator.operator_id);
    body.integer("recordCount", operator.record_count);
    sealed_fields(&mut body, seal, operator);
    body.raw("emptyBucket", if operator.record_count == 0 { "true" } else { "false" });
    Event {
        subject: subject::BUCKET_SEALED,
        partition_key: &operator.operator_id,
        event_id: head.event_id,
        payload: body.end(head),
    }
}

/// `cdr.generated.v1`: the summary of `operator`'s hour of `seal`, whose rows `tally` counted.
pub fn generated<'a>(
    seal: &Seal,
    operator: &'a OperatorSeal,
    tally: &Tally,
    head: &EventHead<'_>,
) -> Event<'a> {
    let mut body = Body::begin(head, 960);
    body.id("rollupId", "roll_", seal.rollup_id(&operator.operator_id));
    body.hour("bucketHour", seal.bucket_hour);
    body.text("operatorId", &operator.operator_id);
    body.integer("recordCount", operator.record_count);
    body.integer("moCount", tally.mo);
    body.integer("mtCount", tally.mt);
    body.integer("broadcastCount", tally.broadcast);
    body.integer("internationalMtCount", tally.international_mt);
    body.sum("chargeableSumMinor", tally.chargeable_micros);
    body.sum("freeSumMinor", tally.free_micros);
    sealed_fields(&mut body, seal, operator);
    Event {
        subject: subject::GENERATED,
        partition_key: &operator.operator_id,
        event_id: head.event_id,
        payload: body.end(head),
    }
}

fn sealed_fields(body: &mut Body, seal: &Seal, operator: &OperatorSeal) {
    body.hash("bucketRoot", &operator.bucket_root);
    body.hash("chainHash", &operator.chain_hash);
    body.hash("prevChainHash", &operator.prev_chain_hash);
    body.instant("sealedAt", seal.sealed_at);
    body.text("signerKeyId", seal.signer_key_id.as_deref().unwrap_or_default());
}
