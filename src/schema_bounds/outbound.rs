//! What the code can write into each bounded property of a published event.

use super::Holds;
use super::texts::near;
use crate::acts::{is_currency, is_tariff_class};
use crate::config::{Config, Operator};
use crate::delivery::{ChannelKind, Reason};
use crate::events::export::CHANNELS_EXHAUSTED;
use crate::events::{
    AdjustmentBatch, AuditEntry, Event, EventHead, EventIds, ExportAcked, Restriction, RestrictionState,
    adjustment_batch, export_acked, restriction,
};
use cdr_core::export::ExportType;
use cdr_core::hash::to_hex;
use cdr_core::money::{CURRENCIES, push_micros};
use cdr_core::row::{AdjustmentType, BillingIndicator, ChargeType, Direction, Encoding, SYSTEM_OPERATOR};
use cdr_core::tariff::{Tariff, is_operator};
use cdr_core::time::{Day, MAX_MILLIS};
use cdr_core::{CdrId, Hour, Millis, Money, Uuid};
use serde_json::Value;

/// What a property of `subject` can hold; none if that is not known here.
pub(super) fn holds(subject: &str, property: &str) -> Option<Holds> {
    let event = subject.strip_prefix("cdr.")?.strip_suffix(".v1")?;
    Some(match (event, property) {
        (_, "schemaVersion") => codes([field(&an_event(), "schemaVersion")]),
        (_, "eventId") => Holds::Values(event_ids()),
        (_, "occurredAt" | "sealedAt" | "startedAt" | "finishedAt" | "ackedAt" | "rejectedAt")
        | ("exported", "deliveredAt")
        | ("quarantine.resubmitted", "resolvedAt")
        | ("archive.completed", "droppedAt") => Holds::Values(instants()),
        ("audit", "bucketHour") => or_null(hours()),
        (_, "bucketHour" | "bucketHourFrom" | "bucketHourTo") => Holds::Values(hours()),
        ("exported", "settlementDay") => Holds::Values(days()),
        (_, "operatorId") => Holds::Door(is_any_operator, [near("MTN_AF"), near(SYSTEM_OPERATOR)].concat()),
        ("record.appended", "messageId") => Holds::Values(uuids()),
        (_, "tenantId") => or_null(uuids()),
        (_, "adjustmentId") => Holds::Values(ids("adj_")),
        (_, "auditId") => Holds::Values(ids("aud_")),
        (_, "exportId") => Holds::Values(ids("exp_")),
        (_, "jobId") => Holds::Values(ids("adjjob_")),
        (_, "quarantineId") => Holds::Values(ids("qua_")),
        (_, "rollupId") => Holds::Values(ids("roll_")),
        (_, "cdrId" | "originalCdrId") => Holds::Values(ids("cdr_")),
        ("record.appended", "adjustmentOf") => or_null(ids("cdr_")),
        ("record.appended", "msisdnHashFrom") => or_null(hashes()),
        (
            _,
            "bucketRoot" | "chainHash" | "prevChainHash" | "rowHash" | "chainHashPrev" | "msisdnHashTo"
            | "fileSha256",
        ) => Holds::Values(hashes()),
        (_, "chargeableSumMinor" | "freeSumMinor" | "sumDeltaMinor") => Holds::Values(sums()),
        ("record.appended", "chargeAmount") => or_null(amounts()),
        ("record.repriced", "chargeAmount") => Holds::Values(amounts()),
        ("record.appended", "segmentCount") => Holds::Values((1..=u8::MAX).map(Value::from).collect()),
        ("exported", "fileSequenceNumber") | (_, "retryCount") => {
            Holds::Values(vec![0.into(), u32::MAX.into()])
        }
        (
            _,
            "recordCount"
            | "moCount"
            | "mtCount"
            | "broadcastCount"
            | "internationalMtCount"
            | "count"
            | "byteSize"
            | "rowCount"
            | "recordsIncluded"
            | "quarantinedCount"
            | "nodeId"
            | "consecutiveFailures",
        ) => Holds::Values(vec![0.into(), u64::MAX.into()]),
        ("record.appended", "tapTariffClass") => Holds::Door(is_any_class, near("A042")),
        ("record.appended" | "record.repriced", "chargeCurrency") => currencies(),
        _ => return closed(event, property),
    })
}

/// The closed sets, each from the one list that the code has of it.
fn closed(event: &str, property: &str) -> Option<Holds> {
    let kinds = || AdjustmentType::ALL.iter().map(|kind| Value::from(kind.as_str()));
    Some(match (event, property) {
        ("record.appended", "adjustmentType") => codes(kinds().chain([Value::Null])),
        ("adjustment.created", "adjustmentType") => codes(kinds()),
        ("adjustment.batch.issued", "adjustmentType") => codes(kinds_of_batches()),
        ("record.appended", "direction") => codes(Direction::ALL.iter().map(|code| code.as_str().into())),
        ("record.appended", "chargeType") => codes(ChargeType::ALL.iter().map(|code| code.as_str().into())),
        ("record.appended", "encoding") => codes(Encoding::ALL.iter().map(|code| code.as_str().into())),
        ("record.appended", "billingIndicator") => {
            codes(BillingIndicator::ALL.iter().map(|code| code.as_str().into()))
        }
        ("audit", "entryType") => codes(AuditEntry::ALL.iter().map(|entry| entry.as_str().into())),
        ("restriction", "state") => codes(states()),
        ("exported", "deliveryChannel") => codes(ChannelKind::ALL.map(|channel| channel.as_str().into())),
        ("exported", "deliveryState") => {
            codes(ChannelKind::ALL.map(|channel| format!("DELIVERED_{channel}").into()))
        }
        // Ancillary files are not made.
        ("exported", "exportType") => Holds::Codes {
            written: ExportType::ALL.iter().map(|kind| kind.as_str().into()).collect(),
            never: &["CSV_ANCILLARY"],
        },
        ("export.acked", "atraVerificationStatus") => codes([verified()]),
        ("export.rejected", "rejectionReason") => {
            let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
            codes(reasons.chain([CHANNELS_EXHAUSTED]).map(Value::from))
        }
        ("quarantine.resubmitted", "resolution") => codes(["RESUBMITTED", "DISCARDED"].map(Value::from)),
        _ => return None,
    })
}

fn codes(written: impl IntoIterator<Item = Value>) -> Holds {
    Holds::Codes { written: written.into_iter().collect(), never: &[] }
}

fn or_null(mut values: Vec<Value>) -> Holds {
    values.push(Value::Null);
    Holds::Values(values)
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<Value> {
    values.into_iter().map(|value| Value::String(value.to_string())).collect()
}

/// Bytes of ids and hashes: the extremes, and each bit alone.
fn bytes<const N: usize>() -> impl Iterator<Item = [u8; N]> {
    let one = |bit: usize| {
        let mut bytes = [0; N];
        bytes[bit / 8] = 1 << (bit % 8);
        bytes
    };
    [[0; N], [u8::MAX; N], [0xa5; N]].into_iter().chain((0..N * 8).map(one))
}

fn ids(prefix: &str) -> Vec<Value> {
    texts(bytes().map(|bytes| CdrId(bytes).with_prefix(prefix)))
}

fn uuids() -> Vec<Value> {
    texts(bytes().map(Uuid))
}

fn hashes() -> Vec<Value> {
    texts(bytes::<32>().map(|hash| to_hex(&hash)))
}

fn instants() -> Vec<Value> {
    texts([0, 1, 999, 1_776_690_000_123, MAX_MILLIS].map(Millis))
}

fn hours() -> Vec<Value> {
    texts([Hour(0), Hour(493_525), Millis(MAX_MILLIS).hour()])
}

fn days() -> Vec<Value> {
    texts([Day(0), Day(20_563), Day((MAX_MILLIS / 86_400_000) as u32)])
}

fn amounts() -> Vec<Value> {
    let largest = 999_999_999_999_999_999;
    texts([-largest, -1, 0, 1, 38_400, largest].map(|micros| Money::from_micros(micros).unwrap()))
}

fn sums() -> Vec<Value> {
    let text = |micros| {
        let mut out = Vec::new();
        push_micros(micros, &mut out);
        String::from_utf8(out).unwrap()
    };
    texts([i128::MIN, -1, 0, 1, i128::MAX].map(text))
}

fn event_ids() -> Vec<Value> {
    let of = |(cluster, generation, index): (&str, u64, u64)| {
        let id = EventIds::new(cluster, generation).id(index, 0);
        id.map(|id| id.to_string())
    };
    let all = [("a", 1, 0), ("dev", 1, 42), ("sixteen-chars-16", u64::MAX, (1 << 48) - 1)];
    texts(all.map(|parts| of(parts).unwrap()))
}

/// Operators get into the ledger from the configuration, and are named in messages.
fn is_any_operator(text: &str) -> bool {
    let list = vec![Operator { id: text.to_owned(), recording_entity: "4120101".to_owned() }];
    let mut config = Config::default();
    config.operators.list = list;
    let is_configured = config.problems().iter().all(|problem| problem.key != "operators.list[0].id");
    is_configured || is_operator(text) || text == SYSTEM_OPERATOR
}

fn tariff(currency: &str, tap_tariff_class: &str) -> Tariff {
    Tariff {
        operator_id: None,
        tenant_id: None,
        charge_type: None,
        direction: None,
        per_segment: Money::ZERO,
        currency: currency.to_owned(),
        tap_tariff_class: tap_tariff_class.to_owned(),
        billing_indicator: BillingIndicator::Chargeable,
    }
}

/// Tariff classes come from price lists, and from messages and corrections.
fn is_any_class(text: &str) -> bool {
    tariff("AFN", text).check().is_ok() || is_tariff_class(text)
}

/// Currencies come from price lists, and from messages and corrections: of the list, and no others.
fn currencies() -> Holds {
    let taken = |text: &str| tariff(text, "A042").check().is_ok() || is_currency(text);
    let more = near("AFN").into_iter().chain(["EUR", "IRR", "PKR", "XDR"].map(str::to_owned));
    let mut written: Vec<String> = CURRENCIES.map(str::to_owned).into();
    written.extend(more.filter(|text| taken(text)));
    codes(texts(written))
}

fn head() -> EventHead<'static> {
    let event_id = EventIds::new("dev", 1).id(42, 7).unwrap();
    EventHead {
        event_id,
        trace_id: "trace",
        occurred_at: Millis(1_776_690_000_777),
        numbers: &crate::events::numbers::PLAIN,
    }
}

fn field(event: &Event<'_>, name: &str) -> Value {
    serde_json::from_slice::<Value>(&event.payload).unwrap()[name].clone()
}

fn restricted(state: RestrictionState) -> Event<'static> {
    restriction(&Restriction { node_id: 1, state, reason: "", consecutive_failures: 3 }, &head())
}

fn an_event() -> Event<'static> {
    restricted(RestrictionState::Lifted)
}

fn states() -> Vec<Value> {
    // Another state has to be added below, too.
    let code = |state| match state {
        RestrictionState::Restricted => "RESTRICTED",
        RestrictionState::Lifted => "LIFTED",
    };
    let states = [RestrictionState::Restricted, RestrictionState::Lifted];
    states
        .map(|state| field(&restricted(state), "state"))
        .into_iter()
        .zip(states.map(code))
        .map(same)
        .collect()
}

/// What is written is the code that is expected.
fn same((written, code): (Value, &str)) -> Value {
    assert_eq!(written, code);
    written
}

fn verified() -> Value {
    let acked =
        ExportAcked { export_id: CdrId([1; 16]), operator_id: "ETS", receipt_id: "R", acked_at: Millis(0) };
    field(&export_acked(&acked, &head()), "atraVerificationStatus")
}

/// What bulk jobs can issue.
fn kinds_of_batches() -> Vec<Value> {
    let batch = |kind| AdjustmentBatch {
        job_id: CdrId([1; 16]),
        kind,
        count: 0,
        sum_delta_micros: 0,
        operator_id: None,
        tenant_id: None,
        bucket_hour_from: Hour(0),
        bucket_hour_to: Hour(0),
        issued_by: "",
        approver: "",
        ticket_id: "",
        started_at: Millis(0),
        finished_at: Millis(0),
    };
    let issued = |kind: &AdjustmentType| {
        Some(field(&adjustment_batch(&batch(*kind), &head()).ok()?, "adjustmentType"))
    };
    AdjustmentType::ALL.iter().filter_map(issued).collect()
}
