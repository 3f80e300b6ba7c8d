#![allow(clippy::unwrap_used)]

mod json;
mod oracle;
mod rules;

use serde_json::{Map, Value, json};

use super::*;

/// Fields that every receipt of a final state has.
const REQUIRED: [&str; 13] = [
    "messageId",
    "operatorId",
    "status",
    "direction",
    "chargeType",
    "from",
    "to",
    "serviceCenterAddress",
    "messageReference",
    "segmentCount",
    "encoding",
    "finalAt",
    "traceId",
];

fn receipt() -> Map<String, Value> {
    let value = json!({
        "schemaVersion": "1",
        "messageId": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "tenantId": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "operatorId": "MTN_AF",
        "status": "DELIVERED",
        "direction": "MT",
        "chargeType": "A2P",
        "from": "کابل بانک",
        "to": "+93771234567",
        "originalServedSubscriberId": null,
        "imsi": "412401234567890",
        "serviceCenterAddress": "+93770011111",
        "messageReference": "7F3A",
        "segmentCount": 2,
        "encoding": "UCS2",
        "submittedAt": "2026-04-20T13:00:00.000Z",
        "finalAt": "2026-04-20T17:30:04.1239+04:30",
        "failureCode": null,
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "somethingNew": {"a": [1, 2.5, true, null, "x"]}
    });
    value.as_object().unwrap().clone()
}

fn with(key: &str, value: Value) -> String {
    let mut fields = receipt();
    fields.insert(key.to_owned(), value);
    Value::Object(fields).to_string()
}

fn reason(text: &str) -> String {
    match parse(text.as_bytes()) {
        Parsed::Malformed { reason } => reason.to_string(),
        other => panic!("{text} is {other:?}"),
    }
}
