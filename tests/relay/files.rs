//! A settlement file and a record in quarantine, as workers and people would leave them.

use crate::relay::publisher::{Publisher, TOLD};
use cdr_core::row::SystemKind;
use serde_json::json;

impl Publisher {
    /// A file that is delivered, refused, found undeliverable, delivered again and accepted; a record that goes into
    /// quarantine and leaves it.
    pub async fn settle(&self) {
        let hour = self.replica.store().state().head.first_hour;
        let opened = json!({
            "step": "OPENED", "createdAt": hour.end(), "createdOffsetMinutes": 270, "cutOffAt": hour.end(),
            "cutOffOffsetMinutes": 270, "encoderVersion": 1, "exchangeRates": {}, "exportType": "TAP_3_12",
            "fileName": "CD1",
            "fileSequenceNumber": 1, "fromBucket": hour, "operatorId": "AWCC", "recipient": "ATRAF",
            "recordingEntity": "4120101", "schemaHash": "aa".repeat(32), "schemaVariant": "tap-a",
            "senderRoamingPartner": "AFGAW", "series": "regulator", "settlementDay": "2026-04-19",
            "uptoBucket": hour,
        });
        let mut rows = self.rows();
        let file = rows.push(SystemKind::Export, &opened).with_prefix("exp_");
        let encoded = json!({
            "step": "ENCODED", "exportId": file, "byteSize": 812, "fileSha256": "0c".repeat(32),
            "quarantinedCount": 1, "recordsIncluded": 7, "totalCharge": "294", "traceSha256": "0d".repeat(32),
        });
        let signed = json!({
            "step": "SIGNED", "exportId": file, "algorithm": "Ed25519", "keyId": "k", "signature": "AA==",
        });
        for body in [encoded, signed] {
            rows.push(SystemKind::Export, &body);
        }
        let delivered = json!({
            "step": "ATTEMPTED", "exportId": file, "channel": "DIRECTORY", "outcome": "DELIVERED",
            "atraReceiptId": null,
        });
        let acked = |rejection: Option<&str>| {
            json!({
                "step": "ACKED", "exportId": file, "atraReceiptId": "R-1", "rejectionReason": rejection,
                "payload": {"subscriber": TOLD, TOLD: [TOLD[1..].parse::<u64>().unwrap()]}, "retryCount": 0,
            })
        };
        let redropped = json!({"step": "REDROPPED", "exportId": file});
        let exhausted = json!({
            "step": "EXHAUSTED", "exportId": file, "retryCount": 6, "reason": format!("about {TOLD}"),
        });
        for body in
            [&delivered, &acked(Some("SCHEMA_MISMATCH")), &redropped, &exhausted, &delivered, &acked(None)]
        {
            rows.push(SystemKind::Delivery, body);
        }
        let record = self.cdrs(|operator| operator == "AWCC")[0];
        let unfit = json!({
            "step": "QUARANTINED", "cdrId": record.to_string(), "encoderError": format!("{TOLD} is too long"),
            "exportId": file, "operatorId": "AWCC", "schemaVariant": "tap-a", "series": "regulator",
        });
        let entry = rows.push(SystemKind::Quarantine, &unfit).with_prefix("qua_");
        let resolved = json!({"step": "RESUBMITTED", "quarantineId": entry, "resolvedBy": "user-1"});
        rows.push(SystemKind::Quarantine, &resolved);
        rows.append().await;
    }
}
