//! What the audit log records of a verification: `CHAIN_VERIFY_OK` or `CHAIN_BREAK_DETECTED`, with what was verified.

use super::Wish;
use crate::names::{CHAIN_BREAK_DETECTED, CHAIN_VERIFY_OK};
use cdr_core::Hour;
use cdr_storage::{Depth, Fault};
use serde_json::{Map, Value, json};

/// Faults that an audit row names; the caller gets all of them.
pub const FAULTS_NOTED: usize = 10;

/// What of an answer is kept.
const KEPT: &[&str] = &[
    "night",
    "nodeId",
    "from",
    "to",
    "hours",
    "records",
    "rowsChecked",
    "recordCount",
    "bucketRoot",
    "depth",
    "chainHash",
    "sealHash",
];

/// The note of a verification that was answered so.
pub fn verification(answer: &Value) -> Wish {
    let verified = answer["verified"] == true;
    let mut details = Map::new();
    for name in KEPT {
        if let Some(value) = answer.get(*name) {
            details.insert((*name).to_owned(), value.clone());
        }
    }
    let faults = answer.get("faults").or_else(|| answer.get("differences"));
    let faults = faults.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if !verified {
        let count = answer.get("faultCount").cloned().unwrap_or_else(|| faults.len().into());
        details.insert("faultCount".to_owned(), count);
        details.insert("faults".to_owned(), faults[..faults.len().min(FAULTS_NOTED)].into());
    }
    details.insert("verified".to_owned(), verified.into());
    // The requested hour; of a range, the first one that does not verify.
    let hour = answer.get("bucketHour").or_else(|| faults.first().map(|fault| &fault["bucketHour"]));
    Wish::Note {
        entry_type: if verified { CHAIN_VERIFY_OK } else { CHAIN_BREAK_DETECTED }.to_owned(),
        bucket_hour: hour.and_then(Value::as_str).and_then(Hour::parse),
        operator_id: answer["operatorId"].as_str().map(str::to_owned),
        details,
    }
}

/// A fault as it is reported.
pub fn fault(fault: &Fault) -> Value {
    json!({
        "bucketHour": fault.bucket_hour,
        "operatorId": fault.operator,
        "cdrSequence": fault.cdr_sequence,
        "cdrId": fault.cdr_id,
        "what": fault.what,
        "why": fault.why,
    })
}

/// A depth as it is reported.
pub fn depth_text(depth: Depth) -> &'static str {
    match depth {
        Depth::Roots => "roots",
        Depth::Leaves => "leaves",
        Depth::Rows => "rows",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_log_is_told_what_was_verified_and_what_was_found() {
        let hour = "2026-04-20T13:00:00Z";
        let fine = json!({"bucketHour": hour, "operatorId": "AWCC", "depth": "rows", "verified": true,
            "rowsChecked": 7, "chainHash": "ab", "signature": "x"});
        let Wish::Note { entry_type, bucket_hour, operator_id, details } = verification(&fine) else {
            panic!("a note is expected");
        };
        assert_eq!((entry_type.as_str(), bucket_hour), (CHAIN_VERIFY_OK, Hour::parse(hour)));
        assert_eq!(operator_id.as_deref(), Some("AWCC"));
        let expected = json!({"depth": "rows", "rowsChecked": 7, "chainHash": "ab", "verified": true});
        assert_eq!(Value::Object(details), expected);

        let faults: Vec<Value> =
            (0..25).map(|n| json!({"bucketHour": hour, "cdrSequence": n, "what": "row"})).collect();
        let broken = json!({"from": "2026-04-20T11:00:00Z", "to": hour, "operatorId": null, "depth": "leaves",
            "verified": false, "faults": faults});
        let Wish::Note { entry_type, bucket_hour, operator_id, details } = verification(&broken) else {
            panic!("a note is expected");
        };
        assert_eq!((entry_type.as_str(), bucket_hour), (CHAIN_BREAK_DETECTED, Hour::parse(hour)));
        assert_eq!((operator_id, &details["faultCount"]), (None, &json!(25)));
        assert_eq!(details["faults"].as_array().unwrap().len(), FAULTS_NOTED);
        assert_eq!((&details["from"], &details["to"]), (&broken["from"], &broken["to"]));
    }
}
