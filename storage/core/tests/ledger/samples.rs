//! Rows to feed a ledger with: each as a draft for the crate under test and as plain JSON for the oracle.

use crate::oracle::{cdr_id, instant, local_instant, sha, uuid};
use cdr_core::personal::Salt;
use cdr_core::row::{
    Adjustment, AdjustmentType, BillingIndicator, ChargeType, Direction, Draft, Encoding, FinalState, Record,
    Sms,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::{CdrId, Millis, Money, Uuid};
use serde_json::{Map, Value, json};

/// A CDR with owned texts.
#[derive(Clone, Debug)]
pub struct Sample {
    pub version: SchemaVersion,
    pub cdr_id: [u8; 16],
    pub message_id: [u8; 16],
    pub tenant_id: Option<[u8; 16]>,
    pub operator_id: String,
    pub trace_id: String,
    pub calling_party: String,
    pub called_party: String,
    pub original_served_subscriber: Option<String>,
    pub recording_entity: String,
    pub service_center: String,
    pub message_reference: String,
    pub event_at: i64,
    pub local_offset_minutes: i16,
    pub submitted_at: Option<i64>,
    pub charge_micros: Option<i64>,
    pub charge_currency: Option<String>,
    pub tap_tariff_class: Option<String>,
    pub tariff_version: Option<String>,
    pub failure_code: Option<String>,
    pub failure_text: Option<String>,
    pub imsi: Option<String>,
    /// Of rows from version 3 on.
    pub correlation_id: Option<String>,
    pub segment_count: u8,
    /// Picks the values of the coded fields.
    pub codes: usize,
    pub adjustment: Option<AdjustmentSample>,
}

/// What makes a sample an adjustment.
#[derive(Clone, Debug)]
pub struct AdjustmentSample {
    pub of: [u8; 16],
    pub kind: AdjustmentType,
    pub reason: Option<String>,
    pub void_reason: Option<String>,
    pub ticket_id: Option<String>,
    pub issued_by: Option<String>,
    pub approver: Option<String>,
}

/// Sixteen bytes that depend on `name` and `number` only.
pub fn bits(name: &str, number: u64) -> [u8; 16] {
    let digest = sha(&[name.as_bytes(), &number.to_be_bytes()]);
    let mut bits = [0; 16];
    bits.copy_from_slice(&digest[..16]);
    bits
}

/// A record id as a proposer would draw it at `at_ms`, but the same for the same number.
pub fn drawn_id(number: u64, at_ms: i64) -> [u8; 16] {
    let mut random = [0; 10];
    random.copy_from_slice(&bits("cdr", number)[..10]);
    CdrId::from_parts(at_ms, random).0
}

/// The salt of a row: for tests, it follows from the row's id.
pub fn salt_of(cdr_id: [u8; 16]) -> [u8; 16] {
    let mut salt = [0; 16];
    salt.copy_from_slice(&sha(&[b"salt", &cdr_id])[..16]);
    salt
}

impl Sample {
    /// An ordinary delivered message, fully priced; `number` decides every detail.
    pub fn ordinary(number: u64, operator_id: &str, at_ms: i64) -> Self {
        Self {
            version: SchemaVersion::V2,
            cdr_id: drawn_id(number, at_ms),
            message_id: bits("message", number),
            tenant_id: Some(bits("tenant", number % 5)),
            operator_id: operator_id.to_owned(),
            trace_id: crate::oracle::hex(&bits("trace", number)),
            calling_party: format!("+9370{:07}", number % 10_000_000),
            called_party: format!("+9379{:07}", (number * 7919) % 10_000_000),
            original_served_subscriber: None,
            recording_entity: "AFGAW".to_owned(),
            service_center: "+93700000010".to_owned(),
            message_reference: format!("{:08x}", number * 2_654_435_761 % (1 << 32)),
            event_at: at_ms - 1500 - (number % 900) as i64,
            local_offset_minutes: 270,
            submitted_at: Some(at_ms - 4000 - (number % 2000) as i64),
            charge_micros: Some(38_400 + (number % 7) as i64 * 100),
            charge_currency: Some("AFN".to_owned()),
            tap_tariff_class: Some("SMS_A2P".to_owned()),
            tariff_version: Some("2026-04-01".to_owned()),
            failure_code: None,
            failure_text: None,
            imsi: number.is_multiple_of(3).then(|| format!("41201{number:010}")),
            correlation_id: None,
            segment_count: 1 + (number % 3) as u8,
            codes: 0,
            adjustment: None,
        }
    }

    /// The same message as a row of version 3.
    pub fn with_correlation(mut self, correlation_id: Option<&str>) -> Self {
        self.version = SchemaVersion::V3;
        self.correlation_id = correlation_id.map(str::to_owned);
        self
    }

    /// The same message before it has a price.
    pub fn unpriced(mut self) -> Self {
        self.charge_micros = None;
        (self.charge_currency, self.tap_tariff_class, self.tariff_version) = (None, None, None);
        self
    }

    /// The same message, which ended in `state`.
    pub fn ended(mut self, state: FinalState) -> Self {
        let at = FinalState::ALL.iter().position(|known| *known == state).expect("a known state");
        self.codes = self.codes % 216 + 216 * at;
        self
    }

    /// The correction of this row by a receipt of its message.
    pub fn corrected_by(&self, receipt: &Self) -> Self {
        Self {
            cdr_id: receipt.cdr_id,
            trace_id: receipt.trace_id.clone(),
            event_at: receipt.event_at,
            failure_code: receipt.failure_code.clone(),
            failure_text: receipt.failure_text.clone(),
            codes: self.codes % 216 + receipt.codes / 216 * 216,
            adjustment: Some(AdjustmentSample {
                of: self.cdr_id,
                kind: AdjustmentType::Correction,
                reason: Some("late receipt".to_owned()),
                void_reason: None,
                ticket_id: Some("receipt:SMS:1".to_owned()),
                issued_by: Some("system:late-receipt".to_owned()),
                approver: None,
            }),
            ..self.clone()
        }
    }

    /// The adjustment row that follows this one.
    pub fn adjusted(&self, number: u64, at_ms: i64, kind: AdjustmentType) -> Self {
        let mut next = self.clone();
        next.cdr_id = drawn_id(number, at_ms);
        next.trace_id = crate::oracle::hex(&bits("trace", number));
        let is_void = kind == AdjustmentType::Void;
        next.adjustment = Some(AdjustmentSample {
            of: self.cdr_id,
            kind,
            reason: Some(format!("as agreed, number {number}")),
            void_reason: is_void.then(|| "FRAUD_REVERSAL".to_owned()),
            ticket_id: Some(format!("INC-{number}")),
            issued_by: Some("user-1".to_owned()),
            approver: (kind != AdjustmentType::Correction).then(|| "user-2".to_owned()),
        });
        match kind {
            AdjustmentType::Void => next.charge_micros = Some(0),
            AdjustmentType::ReRate => next.charge_micros = next.charge_micros.map(|micros| micros * 2 + 1),
            AdjustmentType::Correction => next.called_party.push('7'),
        }
        next
    }

    fn code<T: Copy>(&self, values: &[T], divisor: usize) -> T {
        values[self.codes / divisor % values.len()]
    }

    fn billing(&self) -> BillingIndicator {
        if self.charge_micros.is_none() {
            BillingIndicator::Unknown
        } else {
            self.code(BillingIndicator::ALL, 1)
        }
    }

    /// What a proposer hands to the log.
    pub fn draft(&self) -> Draft<'_> {
        let sms = Sms {
            message_id: Uuid(self.message_id),
            tenant_id: self.tenant_id.map(Uuid),
            calling_party: &self.calling_party,
            called_party: &self.called_party,
            original_served_subscriber: self.original_served_subscriber.as_deref(),
            recording_entity: &self.recording_entity,
            service_center: &self.service_center,
            message_reference: &self.message_reference,
            event_at: Millis(self.event_at),
            local_offset_minutes: self.local_offset_minutes,
            submitted_at: self.submitted_at.map(Millis),
            charge_amount: self.charge_micros.and_then(Money::from_micros),
            charge_currency: self.charge_currency.as_deref(),
            tap_tariff_class: self.tap_tariff_class.as_deref(),
            tariff_version: self.tariff_version.as_deref(),
            charge_type: self.code(ChargeType::ALL, 6),
            billing_indicator: self.billing(),
            direction: self.code(Direction::ALL, 36),
            encoding: self.code(Encoding::ALL, 72),
            final_state: self.code(FinalState::ALL, 216),
            segment_count: self.segment_count,
            failure_code: self.failure_code.as_deref(),
            failure_text: self.failure_text.as_deref(),
            imsi: self.imsi.as_deref(),
            adjustment: self.adjustment.as_ref().map(AdjustmentSample::draft),
            correlation_id: self.correlation_id.as_deref(),
        };
        Draft {
            version: self.version,
            cdr_id: CdrId(self.cdr_id),
            operator_id: &self.operator_id,
            trace_id: &self.trace_id,
            salt: Salt(salt_of(self.cdr_id)),
            record: Record::Sms(sms),
        }
    }

    /// The fields of the row that do not come from its place in the log, and its personal data.
    pub fn fields(&self) -> Map<String, Value> {
        let adjustment = self.adjustment.as_ref();
        let fields = json!({
            "adjustmentOf": adjustment.map(|a| cdr_id(a.of)),
            "adjustmentType": adjustment.map(|a| a.kind.as_str()),
            "approverUserId": adjustment.and_then(|a| a.approver.clone()),
            "billingIndicator": self.billing().as_str(),
            "cdrId": cdr_id(self.cdr_id),
            "chargeAmount": self.charge_micros.map(decimal),
            "chargeCurrency": self.charge_currency,
            "chargeType": self.code(&["MO", "MT", "BROADCAST", "INTERNATIONAL_MT", "P2P", "A2P"], 6),
            "direction": self.code(&["MO", "MT"], 36),
            "encoding": self.code(&["GSM7", "UCS2", "GSM8_LATIN"], 72),
            "eventTimeStamp": instant(self.event_at),
            "failureCode": self.failure_code,
            "finalState": self.code(&["DELIVERED", "FAILED", "EXPIRED"], 216),
            "issuedByUserId": adjustment.and_then(|a| a.issued_by.clone()),
            "localTimeStamp": local_instant(self.event_at, i64::from(self.local_offset_minutes)),
            "messageId": uuid(self.message_id),
            "messageReference": self.message_reference,
            "operatorId": self.operator_id,
            "personal": {
                "adjustmentReason": adjustment.and_then(|a| a.reason.clone()),
                "calledPartyAddress": self.called_party,
                "callingPartyAddress": self.calling_party,
                "failureText": self.failure_text,
                "imsi": self.imsi,
                "originalServedSubscriberId": self.original_served_subscriber,
                "salt": crate::oracle::hex(&salt_of(self.cdr_id)),
            },
            "recordType": "sms",
            "recordingEntity": self.recording_entity,
            "segmentCount": self.segment_count,
            "serviceCenterAddress": self.service_center,
            "submittedAt": self.submitted_at.map(instant),
            "tapTariffClass": self.tap_tariff_class,
            "tariffVersion": self.tariff_version,
            "tenantId": self.tenant_id.map(uuid),
            "ticketId": adjustment.and_then(|a| a.ticket_id.clone()),
            "traceId": self.trace_id,
            "schemaVersion": self.version.number().to_string(),
            "voidReason": adjustment.and_then(|a| a.void_reason.clone()),
        });
        let Value::Object(mut fields) = fields else { unreachable!("it is an object") };
        if self.version.number() >= 3 {
            fields.insert("correlationId".to_owned(), self.correlation_id.clone().into());
        }
        fields
    }
}

impl AdjustmentSample {
    fn draft(&self) -> Adjustment<'_> {
        Adjustment {
            of: CdrId(self.of),
            kind: self.kind,
            reason: self.reason.as_deref(),
            void_reason: self.void_reason.as_deref(),
            ticket_id: self.ticket_id.as_deref(),
            issued_by: self.issued_by.as_deref(),
            approver: self.approver.as_deref(),
        }
    }
}

/// `decimal(18,6)` as text.
fn decimal(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{}.{:06}", micros.abs() / 1_000_000, micros.abs() % 1_000_000)
}

/// A row of the system's own.
#[derive(Clone, Debug)]
pub struct SystemSample {
    pub version: SchemaVersion,
    pub cdr_id: [u8; 16],
    pub kind: cdr_core::row::SystemKind,
    pub trace_id: String,
    /// What is hashed in the open.
    pub body: String,
    /// What is personal, without the salt.
    pub personal: Option<String>,
}

/// Where personal data stand in the content of a system row, as the format lists them.
fn personal_members(record_type: &str) -> &'static [&'static [&'static str]] {
    match record_type {
        "audit" => &[&["details", "faults"], &["details", "reason"], &["reason"], &["request"]],
        "config" | "stream" => &[&["reason"]],
        "delivery" => &[&["answer", "payload"], &["payload"], &["reason"]],
        "job" => &[&["reason"], &["why"]],
        "quarantine" => &[&["encoderError"]],
        _ => &[],
    }
}

impl SystemSample {
    /// A row of this content, with what is personal in it apart.
    pub fn new(number: u64, at_ms: i64, kind: cdr_core::row::SystemKind, content: &Value) -> Self {
        let (mut body, mut personal) = (content.clone(), json!({}));
        for path in personal_members(kind.as_str()) {
            let (last, outer) = path.split_last().expect("a name");
            let pointer: String = outer.iter().map(|name| format!("/{name}")).collect();
            let inside = body.pointer_mut(&pointer).and_then(Value::as_object_mut);
            let taken = inside.and_then(|inside| inside.remove(*last)).unwrap_or_default();
            let place = outer.iter().fold(&mut personal, |place, name| &mut place[*name]);
            place[*last] = taken;
        }
        let is_personal = {
            fn has_value(value: &Value) -> bool {
                value.as_object().map_or(!value.is_null(), |inside| inside.values().any(has_value))
            }
            has_value(&personal)
        };
        Self {
            version: SchemaVersion::V2,
            cdr_id: drawn_id(number, at_ms),
            kind,
            trace_id: format!("trace-{number}"),
            body: crate::oracle::jcs(&body),
            personal: is_personal.then(|| crate::oracle::jcs(&personal)),
        }
    }

    pub fn draft(&self) -> Draft<'_> {
        let personal = self.personal.as_deref();
        Draft {
            version: self.version,
            cdr_id: CdrId(self.cdr_id),
            operator_id: cdr_core::row::SYSTEM_OPERATOR,
            trace_id: &self.trace_id,
            salt: Salt(salt_of(self.cdr_id)),
            record: Record::System(cdr_core::row::System { kind: self.kind, body: &self.body, personal }),
        }
    }

    pub fn fields(&self) -> Map<String, Value> {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let personal = self.personal.as_ref().map(|text| {
            let mut personal: Value = serde_json::from_str(text).unwrap_or_default();
            personal["salt"] = crate::oracle::hex(&salt_of(self.cdr_id)).into();
            personal
        });
        Map::from_iter([
            ("body".to_owned(), body),
            ("cdrId".to_owned(), cdr_id(self.cdr_id).into()),
            ("operatorId".to_owned(), "_system".into()),
            ("personal".to_owned(), personal.unwrap_or_default()),
            ("recordType".to_owned(), self.kind.as_str().into()),
            ("schemaVersion".to_owned(), self.version.number().to_string().into()),
            ("traceId".to_owned(), self.trace_id.clone().into()),
        ])
    }
}
