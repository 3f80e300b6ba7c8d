//! Rows, seals and the events made of them.

use cdr_core::command::ClockKind;
use cdr_core::export::quarantine::{Quarantined, Unfit};
use cdr_core::export::{Cut, Delivery, Export, ExportPins, ExportType, FileContent, FileSignature};
use cdr_core::personal::Salt;
use cdr_core::row::{
    Adjustment, AdjustmentType, BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Record,
    Row, Sms,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::seal::OperatorSeal;
use cdr_core::state::Tally;
use cdr_core::time::Day;
use cdr_core::{CdrId, Hour, Millis, Money, Seal, Uuid};
use cdr_mediation::events::numbers::PLAIN;
use cdr_mediation::events::{
    AdjustmentBatch, Audit, AuditEntry, ConfigChange, Event, EventHead, EventIds, ExportAcked,
    ExportRejected, Exported, QuarantineResolved, Restriction, RestrictionState, adjustment_batch,
    adjustment_created, audit, bucket_sealed, config_changed, export_acked, export_rejected, exported,
    generated, quarantine_resolved, record_appended, record_repriced, restriction,
};
use proptest::prelude::*;
use proptest::{option, sample::select};

/// The record that a chain of adjustments began with.
pub const ORIGINAL: CdrId = CdrId([0x11; 16]);

/// A CDR or an adjustment with owned texts.
#[derive(Clone, Debug)]
pub struct Sample {
    pub cdr_id: CdrId,
    pub message_id: Uuid,
    pub tenant_id: Option<Uuid>,
    pub operator_id: String,
    pub trace_id: String,
    pub calling_party: String,
    pub called_party: String,
    pub original_served_subscriber: Option<String>,
    pub imsi: Option<String>,
    pub message_reference: String,
    pub failure_code: Option<String>,
    pub failure_text: Option<String>,
    pub event_at: Millis,
    pub submitted_at: Option<Millis>,
    pub price: Option<(Money, String, String, String)>,
    pub charge_type: ChargeType,
    pub billing_indicator: BillingIndicator,
    pub direction: Direction,
    pub encoding: Encoding,
    pub final_state: FinalState,
    pub segment_count: u8,
    pub adjustment: Option<AdjustmentSample>,
}

/// What makes a sample an adjustment.
#[derive(Clone, Debug)]
pub struct AdjustmentSample {
    pub kind: AdjustmentType,
    pub reason: Option<String>,
    pub void_reason: Option<String>,
    pub ticket_id: Option<String>,
    pub issued_by: Option<String>,
    pub approver: Option<String>,
}

impl Sample {
    /// A delivered, priced message.
    pub fn ordinary() -> Self {
        Self {
            cdr_id: CdrId([0x22; 16]),
            message_id: Uuid([0x33; 16]),
            tenant_id: None,
            operator_id: "AWCC".to_owned(),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            calling_party: "+93701234567".to_owned(),
            called_party: "+93797654321".to_owned(),
            original_served_subscriber: None,
            imsi: None,
            message_reference: "a1b2c3d4".to_owned(),
            failure_code: None,
            failure_text: None,
            event_at: Millis(1_776_690_000_123),
            submitted_at: None,
            price: Some((
                Money::from_micros(38_400).unwrap(),
                "AFN".to_owned(),
                "A042".to_owned(),
                "2026-04".to_owned(),
            )),
            charge_type: ChargeType::A2p,
            billing_indicator: BillingIndicator::Chargeable,
            direction: Direction::Mt,
            encoding: Encoding::Gsm7,
            final_state: FinalState::Delivered,
            segment_count: 1,
            adjustment: None,
        }
    }

    /// This sample as an adjustment of a kind.
    pub fn adjusting(mut self, kind: AdjustmentType) -> Self {
        self.cdr_id = CdrId([0x44; 16]);
        self.adjustment = Some(AdjustmentSample {
            kind,
            reason: Some(format!("asked for by {}", self.called_party)),
            void_reason: (kind == AdjustmentType::Void).then(|| "DUPLICATE_DLR".to_owned()),
            ticket_id: Some("JIRA-CDR-4821".to_owned()),
            issued_by: Some("user-1".to_owned()),
            approver: None,
        });
        self
    }

    pub fn row(&self) -> Row<'_> {
        let price = self.price.as_ref();
        let sms = Sms {
            message_id: self.message_id,
            tenant_id: self.tenant_id,
            calling_party: &self.calling_party,
            called_party: &self.called_party,
            original_served_subscriber: self.original_served_subscriber.as_deref(),
            recording_entity: "4120101",
            service_center: "+93700000010",
            message_reference: &self.message_reference,
            event_at: self.event_at,
            local_offset_minutes: 270,
            submitted_at: self.submitted_at,
            charge_amount: price.map(|p| p.0),
            charge_currency: price.map(|p| p.1.as_str()),
            tap_tariff_class: price.map(|p| p.2.as_str()),
            tariff_version: price.map(|p| p.3.as_str()),
            charge_type: self.charge_type,
            billing_indicator: price.map_or(BillingIndicator::Unknown, |_| self.billing_indicator),
            direction: self.direction,
            encoding: self.encoding,
            final_state: self.final_state,
            segment_count: self.segment_count,
            failure_code: self.failure_code.as_deref(),
            failure_text: self.failure_text.as_deref(),
            imsi: self.imsi.as_deref(),
            adjustment: self.adjustment.as_ref().map(|a| Adjustment {
                of: ORIGINAL,
                kind: a.kind,
                reason: a.reason.as_deref(),
                void_reason: a.void_reason.as_deref(),
                ticket_id: a.ticket_id.as_deref(),
                issued_by: a.issued_by.as_deref(),
                approver: a.approver.as_deref(),
            }),
            ..Sms::BLANK
        };
        let frame = Frame {
            bucket_hour: Hour(493_525),
            sequence: 7,
            chain_prev: [0xab; 32],
            recorded_at: Millis(1_776_690_000_500),
            source_stream: "SMS_DLR_INBOUND",
            source_sequence: 9,
            cdr_id: self.cdr_id,
            operator_id: &self.operator_id,
            trace_id: &self.trace_id,
        };
        Row { version: SchemaVersion::V2, frame, salt: Salt([7; 16]), record: Record::Sms(sms) }
    }

    /// Every subscriber's number and identity in it.
    pub fn secrets(&self) -> Vec<&str> {
        let optional = [&self.original_served_subscriber, &self.imsi];
        let numbers = [&self.calling_party, &self.called_party].into_iter().filter(|n| n.starts_with('+'));
        numbers.map(String::as_str).chain(optional.into_iter().filter_map(Option::as_deref)).collect()
    }
}

fn e164() -> impl Strategy<Value = String> {
    "\\+937[0-9]{8}"
}

fn money() -> impl Strategy<Value = Money> {
    (-999_999_999_999_999_999_i64..=999_999_999_999_999_999).prop_map(|m| Money::from_micros(m).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    // Whatever needs escapes, and whatever takes several bytes.
    "[a-zA-Z \"\\\\\u{1}\n\tسé😀-]{0,20}"
}

fn price() -> impl Strategy<Value = (Money, String, String, String)> {
    (money(), select(vec!["AFN", "USD"]).prop_map(str::to_owned), "[A-Z0-9]{4}", text())
}

fn adjustment() -> impl Strategy<Value = AdjustmentSample> {
    let kind = select(AdjustmentType::ALL.to_vec());
    let reason = prop_oneof![e164().prop_map(|n| format!("for {n}")), text()];
    let void = prop_oneof![
        Just("FRAUD_REVERSAL".to_owned()),
        e164().prop_map(|n| format!("complaint of {n}")),
        e164().prop_map(|n| format!("N{}", &n[1..])),
        text(),
    ];
    (kind, option::of(reason), option::of(void), option::of(text()), option::of(text()), option::of(text()))
        .prop_map(|(kind, reason, void_reason, ticket_id, issued_by, approver)| AdjustmentSample {
            kind,
            reason,
            void_reason,
            ticket_id,
            issued_by,
            approver,
        })
}

/// Any CDR or adjustment that the ledger could hold.
pub fn sample() -> impl Strategy<Value = Sample> {
    let ids =
        (any::<[u8; 16]>(), any::<[u8; 16]>(), option::of(any::<[u8; 16]>()), "[A-Za-z0-9_-]{1,16}", text());
    let sender = prop_oneof![e164(), "[A-Za-z\"é😀]{1,11}"];
    let parties = (sender, e164(), option::of(e164()), option::of("41201[0-9]{10}"));
    let texts = ("[a-z0-9\"\\\\]{1,20}", option::of(text()));
    let times = (0..253_402_300_799_999_i64, option::of(0..253_402_300_799_999_i64), 1..=255u8);
    let codes = (
        select(ChargeType::ALL.to_vec()),
        select(BillingIndicator::ALL.to_vec()),
        select(Direction::ALL.to_vec()),
        select(Encoding::ALL.to_vec()),
        select(FinalState::ALL.to_vec()),
    );
    (ids, parties, texts, times, codes, option::of(price()), option::of(adjustment())).prop_map(
        |(ids, parties, texts, times, codes, price, adjustment)| Sample {
            cdr_id: CdrId(ids.0),
            message_id: Uuid(ids.1),
            tenant_id: ids.2.map(Uuid),
            operator_id: ids.3,
            trace_id: ids.4,
            calling_party: parties.0,
            called_party: parties.1,
            original_served_subscriber: parties.2,
            imsi: parties.3,
            message_reference: texts.0,
            failure_code: texts.1,
            failure_text: None,
            event_at: Millis(times.0),
            submitted_at: times.1.map(Millis),
            segment_count: times.2,
            charge_type: codes.0,
            billing_indicator: codes.1,
            direction: codes.2,
            encoding: codes.3,
            final_state: codes.4,
            price,
            adjustment,
        },
    )
}

/// A sealed hour of one operator.
pub fn seal(operator_id: &str, record_count: u64, signer: Option<&str>) -> Seal {
    let hour = Hour(493_525);
    Seal {
        format_version: 1,
        cluster_id: "dev".to_owned(),
        generation: 1,
        clock: ClockKind::System,
        bucket_hour: hour,
        record_count,
        bucket_root: [1; 32],
        chain_hash: [2; 32],
        prev_chain_hash: [3; 32],
        prev_seal_hash: [4; 32],
        sealed_at: hour.end(),
        signer_key_id: signer.map(str::to_owned),
        operators: vec![OperatorSeal {
            operator_id: operator_id.to_owned(),
            record_count,
            bucket_root: [5; 32],
            chain_hash: [6; 32],
            prev_bucket_root: [7; 32],
            prev_chain_hash: [8; 32],
        }],
        completeness: Vec::new(),
    }
}

pub fn head(trace_id: &str) -> EventHead<'_> {
    let event_id = EventIds::new("dev", 1).id(42, 7).unwrap();
    EventHead { event_id, trace_id, occurred_at: Millis(1_776_690_000_777), numbers: &PLAIN }
}

/// An event without borrowed parts.
#[derive(Clone, Debug)]
pub struct Built {
    pub subject: &'static str,
    pub payload: Vec<u8>,
}

impl From<Event<'_>> for Built {
    fn from(event: Event<'_>) -> Self {
        Self { subject: event.subject, payload: event.payload }
    }
}

/// Every kind of event that can be built of `row`, with `before` as the row that it adjusts.
pub fn of_rows(row: &Sample, before: &Sample) -> Vec<Built> {
    let (row_, before_) = (row.row(), before.row());
    let head = head(&row.trace_id);
    let mut built = vec![record_appended(&row_, &[0xcd; 32], &head).unwrap().into()];
    if row.adjustment.is_some() {
        built.push(adjustment_created(&row_, Some(&before_), ORIGINAL, &head).unwrap().into());
        built.push(adjustment_created(&row_, None, ORIGINAL, &head).unwrap().into());
        if row.price.is_some() {
            built.push(record_repriced(&row_, ORIGINAL, &head).unwrap().into());
        }
    }
    built
}

/// Every other kind of event.
pub fn of_the_rest(row: &Sample) -> Vec<Built> {
    let head = head(&row.trace_id);
    let mut tally = Tally::default();
    tally.add(row.row().sms().unwrap());
    let mut built = Vec::new();
    for (rows, signer) in [(1, Some("dev-1234")), (0, None)] {
        let seal = seal(&row.operator_id, rows, signer);
        built.push(bucket_sealed(&seal, &seal.operators[0], &head).into());
        let tally = if rows == 0 { Tally::default() } else { tally };
        built.push(generated(&seal, &seal.operators[0], &tally, &head).into());
    }
    for (kind, operator_id) in
        [(AdjustmentType::ReRate, Some(row.operator_id.as_str())), (AdjustmentType::Void, None)]
    {
        let batch = AdjustmentBatch {
            job_id: row.cdr_id,
            kind,
            count: 84_200,
            sum_delta_micros: row.price.as_ref().map_or(0, |p| i128::from(p.0.micros()) * 1_000_000),
            operator_id,
            tenant_id: row.tenant_id,
            bucket_hour_from: Hour(493_500),
            bucket_hour_to: Hour(493_525),
            issued_by: &row.message_reference,
            approver: "user-2",
            ticket_id: "JIRA-CDR-5000",
            started_at: Millis(1_776_690_000_000),
            finished_at: Millis(1_776_690_100_000),
        };
        built.push(adjustment_batch(&batch, &head).unwrap().into());
    }
    for (entry, operator_id) in
        AuditEntry::ALL.into_iter().zip([None, Some(row.operator_id.as_str())].into_iter().cycle())
    {
        let details = "{\"complianceEvaluationId\":\"e-1\",\"depth\":\"rows\"}";
        let bucket_hour = operator_id.map(|_| Hour(493_525));
        let actor = operator_id.map(|_| "auditor");
        let entry = Audit { audit_id: row.cdr_id, entry, bucket_hour, operator_id, actor, details };
        built.push(audit(&entry, &head).into());
    }
    for previous in [None, Some("TAP_3_12")] {
        let change = ConfigChange {
            key: "export.variant",
            previous,
            new: "TAP_3_12_AF \"2\"",
            actor: "user-1",
            approver: previous,
            reason: "asked for by the regulator",
            ticket_id: previous,
        };
        built.push(config_changed(&change, &head).into());
    }
    for state in [RestrictionState::Restricted, RestrictionState::Lifted] {
        let reason = "no space left on the device";
        let change = Restriction { node_id: 2, state, reason, consecutive_failures: 3 };
        built.push(restriction(&change, &head).into());
    }
    built.extend(of_files(row));
    built
}

/// A signed file of an operator.
fn file(row: &Sample, export_type: ExportType) -> Export {
    let pins = ExportPins {
        created_at: row.event_at,
        created_offset_minutes: 270,
        cut_off_at: row.event_at,
        cut_off_offset_minutes: 270,
        encoder_version: 1,
        exchange_rates: std::collections::BTreeMap::new(),
        export_type,
        file_name: format!("CD{}", row.message_reference),
        file_sequence_number: u32::from(row.segment_count),
        from_bucket: Hour(493_500),
        operator_id: row.operator_id.clone(),
        recipient: "ATRAF".to_owned(),
        recording_entity: "4120101".to_owned(),
        schema_hash: [1; 32],
        schema_variant: "atra-tap-v2".to_owned(),
        sender_roaming_partner: "AFGAW".to_owned(),
        series: "regulator".to_owned(),
        settlement_day: Day(20_563),
        upto_bucket: Hour(493_525),
    };
    Export {
        id: row.cdr_id,
        pins,
        cut: Cut { day: Day(20_563), upto: Hour(493_525), ordinal: 9 },
        before: None,
        content: None,
        encoded_at: None,
        signature: None,
        signed_at: None,
        delivery: Delivery::Pending,
        attempts: Vec::new(),
        failures: 0,
        due_since: None,
        exhausted: false,
        verification: None,
    }
}

/// Every kind of event of settlement files and quarantine.
fn of_files(row: &Sample) -> Vec<Built> {
    let head = head(&row.trace_id);
    let at = row.event_at;
    let receipt = row.failure_code.as_deref();
    let content = FileContent {
        byte_size: u64::from(row.segment_count) * 1_000,
        file_sha256: row.message_id.0.repeat(2).try_into().unwrap(),
        quarantined_count: 1,
        records_included: 0,
        total_charge: "0".to_owned(),
        trace_sha256: [3; 32],
    };
    let text = || row.message_reference.clone();
    let signature = FileSignature { algorithm: text(), key_id: text(), signature: text() };
    let mut built = Vec::new();
    for (channel, export_type) in
        [("SFTP", ExportType::Tap), ("API", ExportType::Rap), ("DIRECTORY", ExportType::Tap)]
    {
        let export = file(row, export_type);
        let (content, signature) = (&content, &signature);
        let (delivered_at, receipt_id) = (at, receipt);
        let file = Exported { export: &export, content, signature, channel, delivered_at, receipt_id };
        built.push(exported(&file, &head).into());
    }
    let (export_id, operator_id) = (row.cdr_id, row.operator_id.as_str());
    let acked = ExportAcked { export_id, operator_id, receipt_id: &row.message_reference, acked_at: at };
    built.push(export_acked(&acked, &head).into());
    for (reason, payload) in
        [("SCHEMA_MISMATCH", "{\"at\":[1,null]}"), ("DELIVERY_CHANNELS_EXHAUSTED", "null")]
    {
        let rejected = ExportRejected {
            export_id,
            operator_id,
            reason,
            receipt_id: receipt,
            payload,
            retry_count: 6,
            rejected_at: at,
        };
        built.push(export_rejected(&rejected, &head).into());
    }
    let unfit = Unfit {
        cdr_id: ORIGINAL.to_string(),
        encoder_error: String::new(),
        export_id: None,
        operator_id: row.operator_id.clone(),
        schema_variant: "atra-tap-v2".to_owned(),
        series: "regulator".to_owned(),
    };
    let entry = Quarantined { id: row.cdr_id, unfit, at, ordinal: 1, resolved: None };
    for resubmitted in [true, false] {
        let resolved = QuarantineResolved {
            entry: &entry,
            encoder_error: "imsi: *** is \"too\" long",
            resubmitted,
            resolved_by: &row.message_reference,
            resolved_at: at,
        };
        built.push(quarantine_resolved(&resolved, &head).into());
    }
    built
}
