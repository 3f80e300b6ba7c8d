//! What the readers of inbound messages accept, compared with the messages' schemas.

use super::property;
use super::texts::near;
use crate::dlr::{Parsed, parse};
use crate::workers::reads;
use serde_json::{Value, json};
use testkit::event_schemas::Schema;

/// A good message of a subject; none for a subject that is not known here.
fn message(subject: &str) -> Option<Value> {
    let id = "0195f3a0-1111-7222-8333-444455556666";
    let at = "2026-04-21T09:00:00.000Z";
    let receipt = |status: &str| {
        json!({
            "schemaVersion": "1", "messageId": id, "tenantId": id, "operatorId": "MTN_AF", "status": status,
            "direction": "MT", "chargeType": "A2P", "from": "+93701234567", "to": "+93791234567",
            "originalServedSubscriberId": "+93791234567", "imsi": "412010123456789",
            "serviceCenterAddress": "+93700000010", "messageReference": "7F3A", "segmentCount": 1,
            "encoding": "GSM7", "submittedAt": at, "finalAt": at, "failureCode": "E7 absent", "traceId": "trace-1",
        })
    };
    Some(match subject {
        "sms.dlr.inbound" => receipt("DELIVERED"),
        "sms.events.status" => receipt("EXPIRED"),
        "billing.pricing.snapshot.ready.v1" => json!({
            "messageId": id, "chargeAmount": "0.0384", "chargeCurrency": "AFN", "tapTariffClass": "A042",
            "billingIndicator": "CHARGEABLE", "tariffVersion": "2026-04",
        }),
        "billing.events.v1" => json!({
            "eventId": id, "messageId": id, "operatorId": "MTN_AF", "chargeAmount": "-0.038400",
            "chargeCurrency": "AFN", "occurredAt": at,
        }),
        "fraud.reversal.v1" => json!({ "messageId": id, "ticketId": "FRD-1", "detectedAt": at }),
        "operator.registry.updated.v1" => json!({ "operatorId": "MTN_AF" }),
        "compliance.audit.v1" => json!({ "messageId": id, "complianceEvaluationId": "evaluation-1" }),
        _ => return None,
    })
}

/// True if the service takes the message.
fn takes(subject: &str, message: &Value) -> bool {
    let payload = message.to_string();
    match subject {
        "sms.dlr.inbound" => !matches!(parse(payload.as_bytes()), Parsed::Malformed { .. }),
        _ => reads(subject, payload.as_bytes()),
    }
}

/// Fields that the schema describes and no code here reads.
const UNREAD: [(&str, &str); 1] = [("billing.events.v1", "eventId")];

/// What may stand in a property beside a text close to the good one.
fn others(property: &str) -> Vec<Value> {
    let names = near("AFGBANK").into_iter().filter(|_| property == "from").map(Value::String);
    let numbers = (-1..=256).map(Value::from).chain([json!(1.0), json!(1.5), json!(u64::MAX)]);
    names.chain(numbers).chain([Value::Null, json!(true), json!([]), json!({})]).collect()
}

/// What is wrong with a bound of an inbound message.
pub(super) fn faults(subject: &str, name: &str, schema: &Schema) -> Vec<String> {
    let Some(good) = message(subject) else {
        return vec![format!("{subject}: nobody has said what reads it")];
    };
    assert!(takes(subject, &good) && schema.validator.is_valid(&good), "{subject}: {good}");
    if name == "/if/properties/status" {
        // The condition under which the rest is required: that the state makes a record.
        return Vec::new();
    }
    let Some(text) = good.get(name) else {
        return vec![format!("{subject} {name}: nobody has said what is read there")];
    };
    if UNREAD.contains(&(subject, name)) {
        return Vec::new();
    }
    let with = |value: &Value| {
        let mut message = good.clone();
        message[name] = value.clone();
        message
    };
    let (_, codes) = property(schema, name);
    let texts = text.as_str().map(near).unwrap_or_default();
    let taken = texts.into_iter().map(Value::String).chain(others(name)).chain(codes.clone());
    let taken = taken.map(|value| with(&value)).filter(|message| takes(subject, message));
    let misfits = taken.filter(|message| !schema.validator.is_valid(message)).take(3);
    let misfits = misfits.map(|message| format!("{subject} {name}: {} is taken", message[name]));
    let refused = codes.iter().filter(|code| !takes(subject, &with(code)));
    let refused = refused.map(|code| format!("{subject} {name}: {code} is refused"));
    misfits.chain(refused).collect()
}
