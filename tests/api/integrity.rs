//! The nightly verification of the last days, as the audit log tells of it.

use crate::api::service::{EMPTY, RECORDS, SEALED, Service};
use cdr_core::row::SystemKind;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// As fast as it goes.
const UNBOUNDED: u64 = 10_000_000;

fn audit(service: &Service) -> Vec<Value> {
    let audit = service.get_as("/v1/cdr/audit?limit=500", &["regulator-auditor"]);
    let entry = |row: &Value| {
        let mut entry = row["body"].clone();
        entry["details"]["faults"] = row["details"]["faults"].clone();
        entry
    };
    audit.items().iter().map(entry).collect()
}

/// What a night's entries have in common.
fn check(entry: &Value, kind: &str, (from, to): (&str, &str), hours: u32) {
    assert_eq!(
        (&entry["entryType"], &entry["actorUserId"]),
        (&json!(kind), &json!("system:integrity")),
        "{entry}"
    );
    let details = &entry["details"];
    assert_eq!(
        (&details["from"], &details["to"], &details["hours"]),
        (&json!(from), &json!(to), &json!(hours))
    );
    assert_eq!(details["depth"], "rows");
    assert_eq!(details["verified"], json!(kind != "CHAIN_BREAK_DETECTED"));
}

#[test]
fn each_night_is_verified_once_whoever_leads() {
    let service = Service::build();
    let metrics = service.verify_nights(UNBOUNDED, 0, Duration::from_secs(2));
    assert_eq!(audit(&service).len(), 0, "no night has come");
    assert!(metrics.contains("cdr_integrity_checked_at_seconds 0"));
    // The second day has rows, too.
    service.pass_hours(30);
    for number in 0..600 {
        service.append(SystemKind::Config, &json!({"number": number}));
    }
    // 23:00 UTC is 03:30 in Kabul.
    service.pass_hours(10);
    let began = Instant::now();
    service.verify_nights(1_000, 1, Duration::from_secs(60));
    let passed = began.elapsed();
    assert!(passed >= Duration::from_millis(600), "{RECORDS} rows at 1000/s took {passed:?}");
    // The leader is gone before the night is ended: its first day is noted.
    let (first, second) =
        ((SEALED, "2026-04-21T12:00:00Z"), ("2026-04-21T13:00:00Z", "2026-04-21T22:00:00Z"));
    let noted = audit(&service);
    assert_eq!(noted.len(), 1, "{noted:?}");
    check(&noted[0], "CHAIN_VERIFY_STEP", first, 24);

    let service = Service::open(service.close());
    service.pass_hours(40);
    let metrics = service.verify_nights(UNBOUNDED, 2, Duration::from_secs(60));
    assert!(!metrics.contains("cdr_integrity_checked_at_seconds 0"), "{metrics}");
    let ended = audit(&service);
    assert_eq!((ended.len(), &ended[0]), (3, &noted[0]), "{ended:?}");
    check(&ended[1], "CHAIN_VERIFY_STEP", second, 10);
    check(&ended[2], "CHAIN_VERIFY_OK", (first.0, second.1), 34);
    let of = |entry: usize, name: &str| &ended[entry]["details"][name];
    let records = |entry: usize| of(entry, "records").as_u64().unwrap();
    assert!(records(0) > RECORDS && records(1) >= 600 && records(2) == records(0) + records(1));
    assert_eq!((of(2, "night"), of(2, "chainHash")), (&json!("2026-04-22"), of(1, "chainHash")));
    service.verify_nights(UNBOUNDED, 0, Duration::from_secs(2));
    assert_eq!(audit(&service).len(), 3, "once a night");

    let verified = service.post("/v1/cdr/chain/verify/range", &json!({"from": SEALED, "to": EMPTY}));
    assert_eq!(verified.body["verified"], true, "what it appended is in order: {verified:?}");
}

#[test]
fn a_flipped_byte_in_a_stored_row_is_found_and_told() {
    let dir = Service::build().close();
    assert!(
        crate::api::flip_stored_text(&dir.path().join("store"), b"reference-33") > 0,
        "no table file has the row's text"
    );
    let service = Service::open(dir);
    service.pass_hours(8);
    let metrics = service.verify_nights(UNBOUNDED, 2, Duration::from_secs(60));
    let told = audit(&service);
    assert_eq!(told.len(), 2, "{told:?}");
    for entry in &told {
        check(entry, "CHAIN_BREAK_DETECTED", (SEALED, "2026-04-20T22:00:00Z"), 10);
        assert_eq!(entry["bucketHour"], SEALED);
        assert!(entry["details"]["faultCount"].as_u64().unwrap() > 0);
        let faults = entry["details"]["faults"].as_array().unwrap();
        assert!(faults.iter().all(|fault| fault["bucketHour"] == SEALED), "{faults:?}");
    }
    assert!(metrics.contains("cdr_verification_mismatches_total{what=\"nightly\"} 1"), "{metrics}");
}
