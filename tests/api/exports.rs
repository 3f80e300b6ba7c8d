//! Settlement files: lists, delivery log, redrops, triggers, and what the regulator says.

use crate::api::service::{Answer, OPEN, SEALED, Service};
use cdr_core::CdrId;
use cdr_core::row::SystemKind;
use cdr_core::time::Day;
use cdr_mediation::events::numbers::PLAIN;
use cdr_mediation::outbox::Outbox;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::LazyLock;

/// One service for all settlement files of these tests; each test has series of its own.
pub static FILES: LazyLock<Service> = LazyLock::new(Service::build);

const ADMIN: &[&str] = &["cdr:admin"];

/// A file that a worker has opened: what the tests vary.
#[derive(Clone, Debug)]
pub struct Opened {
    pub series: &'static str,
    pub kind: &'static str,
    pub operator: &'static str,
    pub entity: &'static str,
    pub day: &'static str,
    pub number: u32,
    pub variant: &'static str,
    pub upto: &'static str,
}

impl Opened {
    pub fn of(series: &'static str, day: &'static str, number: u32) -> Self {
        let (kind, operator, entity, variant) = ("TAP_3_12", "AWCC", series, "tap-a");
        Self { series, kind, operator, entity, day, number, variant, upto: SEALED }
    }

    /// Opens it; its name.
    pub fn open(&self, service: &Service) -> String {
        let body = json!({
            "step": "OPENED", "createdAt": "2026-04-20T15:00:00.000Z", "createdOffsetMinutes": 270,
            "cutOffAt": "2026-04-19T19:30:00.000Z", "cutOffOffsetMinutes": 270, "encoderVersion": 1,
            "exchangeRates": {"USD": "71.5"}, "exportType": self.kind, "fileName": self.file_name(), "fileSequenceNumber": self.number,
            "fromBucket": SEALED, "operatorId": self.operator, "recipient": "ATRAF",
            "recordingEntity": self.entity, "schemaHash": "aa".repeat(32), "schemaVariant": self.variant,
            "senderRoamingPartner": "AFGAW", "series": self.series, "settlementDay": self.day,
            "uptoBucket": self.upto,
        });
        service.append(SystemKind::Export, &body).with_prefix("exp_")
    }

    /// Opens, encodes and signs it.
    pub fn sign(&self, service: &Service) -> String {
        let name = self.open(service);
        encode(service, &name);
        sign(service, &name);
        name
    }

    fn file_name(&self) -> String {
        format!("TAP_{}_AFGAW_{:08}.tap", self.entity, self.number)
    }
}

pub fn encode(service: &Service, name: &str) {
    let body = json!({
        "step": "ENCODED", "exportId": name, "byteSize": 812, "fileSha256": "0c".repeat(32),
        "quarantinedCount": 1, "recordsIncluded": 7, "totalCharge": "294", "traceSha256": "0d".repeat(32),
    });
    service.append(SystemKind::Export, &body);
}

pub fn sign(service: &Service, name: &str) {
    let body = json!({
        "step": "SIGNED", "exportId": name, "algorithm": "Ed25519", "keyId": "cdr-export-signer-v1",
        "signature": "c2lnbmF0dXJl",
    });
    service.append(SystemKind::Export, &body);
}

pub fn delivered(service: &Service, name: &str) {
    let body = json!({
        "step": "ATTEMPTED", "exportId": name, "channel": "SFTP", "outcome": "DELIVERED", "atraReceiptId": null,
    });
    service.append(SystemKind::Delivery, &body);
}

pub fn failed(service: &Service, name: &str, reason: &str) {
    let body = json!({
        "step": "ATTEMPTED", "exportId": name, "channel": "API", "outcome": "FAILED", "error": "UNREACHABLE",
        "reason": reason,
    });
    service.append(SystemKind::Delivery, &body);
}

pub fn get(path: &str) -> Answer {
    FILES.get_as(&format!("/v1/cdr/{path}"), &["cdr:read", "cdr:admin"])
}

/// POST in somebody's name.
pub fn post(path: &str, body: &Value, scopes: &[&str], headers: &[(&str, &str)]) -> Answer {
    let authorization = format!("Bearer {}", FILES.token(scopes));
    let headers = [&[("Authorization", authorization.as_str())], headers].concat();
    FILES.post_with(&format!("/v1/cdr/{path}"), body.to_string().as_bytes(), &headers)
}

pub fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
}

/// The details of the last audit row of a kind that says `value` under `key`.
pub fn audited(kind: &str, key: &str, value: &str) -> Value {
    let rows = FILES.get_as("/v1/cdr/audit?limit=500", ADMIN);
    let fits = |row: &&Value| {
        let body = &row["body"];
        body["entryType"] == kind && body["details"][key] == value
    };
    let row = rows.items().iter().rev().find(fits).unwrap_or_else(|| panic!("no {kind} of {value}"));
    let mut entry = row["body"].clone();
    entry["reason"] = row["reason"].clone();
    entry
}

fn audits() -> usize {
    FILES.get_as("/v1/cdr/audit?limit=500", ADMIN).items().len()
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.items().iter().map(|item| item["exportId"].as_str().unwrap()).collect()
}

#[test]
fn a_file_shows_what_is_known_of_it_at_every_step() {
    let file = Opened::of("steps", "2026-04-10", 1);
    let name = file.open(&FILES);
    let show = || get(&format!("exports/{name}")).body;
    let listed = || {
        let answer = get("exports?schemaVariant=tap-a&recordingEntity=steps");
        let mut item = answer.items()[0].clone();
        assert_eq!(item.as_object_mut().unwrap().remove("gapBefore"), Some(json!(false)));
        item
    };
    let mut expected = json!({
        "exportId": name, "filename": file.file_name(), "exportType": "TAP_3_12", "schemaVariant": "tap-a",
        "operatorId": "AWCC", "recordingEntity": "steps", "senderRoamingPartner": "AFGAW",
        "settlementDay": "2026-04-10", "fileSequenceNumber": 1, "sha256": null, "byteSize": null,
        "recordsIncluded": null, "quarantinedCount": null, "signedAt": null, "signerKeyId": null,
        "deliveryChannel": null, "deliveryStatus": "PENDING", "deliveredAt": null, "atraReceiptId": null,
        "atraVerificationStatus": null,
    });
    let set = |expected: &mut Value, changes: Value| {
        expected.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    };
    assert_eq!(listed(), expected);
    assert_eq!((&show()["totals"], &show()["signature"]), (&Value::Null, &Value::Null));

    encode(&FILES, &name);
    let counts = json!({
        "sha256": "0c".repeat(32), "byteSize": 812, "recordsIncluded": 7, "quarantinedCount": 1,
    });
    set(&mut expected, counts);
    assert_eq!(listed(), expected);
    sign(&FILES, &name);
    let now = show()["signedAt"].clone();
    assert!(now.as_str().unwrap().starts_with("2026-04-20T15:"));
    set(&mut expected, json!({"signedAt": now, "signerKeyId": "cdr-export-signer-v1"}));
    assert_eq!(listed(), expected);
    let whole = show();
    assert_eq!(
        whole["signature"],
        json!({
            "algorithm": "Ed25519", "keyId": "cdr-export-signer-v1", "signature": "c2lnbmF0dXJl",
            "fileSha256": "0c".repeat(32), "signedAt": now,
        })
    );
    assert_eq!(whole["totals"], json!({"recordsIncluded": 7, "quarantinedCount": 1, "totalCharge": "294"}));
    assert_eq!(whole["cut"]["cutOffAt"], "2026-04-20T00:00:00.000+04:30");
    assert_eq!((&whole["uptoBucket"], &whole["cut"]["previousUptoBucket"]), (&json!(SEALED), &Value::Null));

    failed(&FILES, &name, "no route");
    failed(&FILES, &name, "no answer");
    set(
        &mut expected,
        json!({
            "deliveryStatus": "FAILED", "deliveryChannel": "API", "retryCount": 2,
            "lastError": {"at": now, "channel": "API", "error": "UNREACHABLE", "reason": "no answer"},
        }),
    );
    let mut shown = listed();
    shown["lastError"]["at"] = now.clone();
    assert_eq!(shown, expected);

    delivered(&FILES, &name);
    let mut shown = listed();
    assert!(shown["deliveredAt"].is_string());
    shown["deliveredAt"] = Value::Null;
    let fields = expected.as_object_mut().unwrap();
    fields.remove("retryCount");
    fields.remove("lastError");
    set(&mut expected, json!({"deliveryStatus": "DELIVERED_SFTP", "deliveryChannel": "SFTP"}));
    assert_eq!(shown, expected);
    assert_eq!((&whole["exchangeRates"], &whole["fromBucket"]), (&json!({"USD": "71.5"}), &json!(SEALED)));
    let by_name = get(&format!("exports?filename={}", file.file_name()));
    assert_eq!(names(&by_name), [&name]);
    refused(&get(&format!("exports/{}", CdrId([1; 16]).with_prefix("exp_"))), 404, "EXPORT_NOT_FOUND");
    assert_eq!(get("exports/exp_1").field(), "exportId");
}

#[test]
fn files_are_listed_by_day_operator_kind_variant_state_and_entity() {
    let series = "lists";
    let tap = |day, number| Opened { entity: "LISTS1", ..Opened::of(series, day, number) };
    let first = tap("2026-04-08", 1).sign(&FILES);
    let rap = Opened { kind: "RAP_1_5", ..tap("2026-04-08", 1) }.open(&FILES);
    let second = tap("2026-04-09", 2).open(&FILES);
    let other = Opened { operator: "ETS", entity: "LISTS2", variant: "tap-b", ..tap("2026-04-09", 1) };
    let other = other.open(&FILES);
    // The numbering begins anew in the middle: numbers are missing.
    let (third, fourth) = (tap("2026-04-10", 1).open(&FILES), tap("2026-04-11", 2).open(&FILES));
    delivered(&FILES, &first);
    let all = get("exports?recordingEntity=LISTS1");
    assert_eq!(names(&all), [&first, &second, &third, &fourth, &rap], "by kind, then by number");
    assert_eq!(all.body["total"], 5);
    for item in all.items() {
        assert_eq!(item["gapBefore"], false, "a new round is no gap: {item}");
    }
    let gap = Opened { day: "2026-04-12", ..tap("2026-04-12", 1) };
    let (_, fifth) =
        (Opened { number: 3, ..gap.clone() }.open(&FILES), Opened { day: "2026-04-13", number: 2, ..gap });
    let fifth = fifth.open(&FILES);
    let all = get("exports?recordingEntity=LISTS1&exportType=TAP_3_12");
    let gaps: Vec<bool> = all.items().iter().map(|item| item["gapBefore"] == true).collect();
    assert_eq!(gaps, [false, false, false, false, false, true], "3 is followed by 2");

    let of = |rest: &str| {
        let answer = get(&format!("exports?{rest}"));
        let ours = |name: &&&str| {
            [&first, &second, &third, &fourth, &fifth, &rap, &other].contains(&&(**name).to_owned())
        };
        names(&answer).iter().filter(ours).map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("from=2026-04-09&to=2026-04-10"), [&second[..], &other, &third]);
    assert_eq!(of("from=2026-04-08T19:30:00Z&to=2026-04-09T19:29:59Z"), [&second[..], &other]);
    assert_eq!(of("operatorId=ETS"), [&other[..]]);
    assert_eq!(of("exportType=RAP_1_5"), [&rap[..]]);
    assert_eq!(of("schemaVariant=tap-b"), [&other[..]]);
    assert_eq!(of("deliveryStatus=DELIVERED_SFTP"), [&first[..]]);
    assert!(!of("deliveryStatus=PENDING").contains(&first));

    for list in ["exports?", "exports?recordingEntity=LISTS1&"] {
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = get(&format!("{list}limit=2{cursor}"));
            assert!(page.items().len() <= 2);
            paged.extend(page.items().iter().map(|item| item["exportId"].clone()));
            match page.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let whole = get(&format!("{list}limit=500"));
        let ours = whole.items().iter().map(|item| item["exportId"].clone()).filter(|id| paged.contains(id));
        assert!(ours.eq(paged.iter().cloned()), "{list}");
        assert!(paged.len() >= 6);
    }
    for (query, field) in [
        ("from=x", "from"),
        ("from=2026-04-09&to=2026-04-08", "to"),
        ("operatorId=NOBODY", "operatorId"),
        ("exportType=CSV_ANCILLARY", "exportType"),
        ("deliveryStatus=LOST", "deliveryStatus"),
        ("cursor=abc", "cursor"),
        ("day=2026-04-09", "day"),
    ] {
        let answer = get(&format!("exports?{query}"));
        assert_eq!((answer.status, answer.field()), (400, field), "{query}");
    }
}

#[test]
fn the_delivery_log_has_every_attempt_of_one_file() {
    let file = Opened::of("log", "2026-04-10", 1).sign(&FILES);
    let other = Opened::of("log", "2026-04-11", 2).sign(&FILES);
    for attempt in 0..70 {
        failed(&FILES, &file, &format!("attempt {attempt}"));
        failed(&FILES, &other, "of another file");
    }
    FILES.append(
        SystemKind::Delivery,
        &json!({"step": "EXHAUSTED", "exportId": file, "retryCount": 70, "reason": "attempt 69"}),
    );
    delivered(&FILES, &file);
    let path = format!("exports/{file}/delivery-log");
    let (mut log, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("{path}?limit=30{cursor}"));
        log.extend(page.items().iter().cloned());
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(log.len(), 72, "more than are kept at hand");
    for (attempt, entry) in log[..70].iter().enumerate() {
        assert_eq!(
            (&entry["step"], &entry["outcome"], &entry["reason"]),
            (&json!("ATTEMPTED"), &json!("FAILED"), &json!(format!("attempt {attempt}")))
        );
    }
    assert_eq!((&log[70]["step"], &log[71]["outcome"]), (&json!("EXHAUSTED"), &json!("DELIVERED")));
    assert!(log.iter().all(|entry| entry["exportId"] == json!(file) && entry["bucketHour"] == OPEN));
    let whole = get(&format!("{path}?limit=500"));
    assert_eq!((whole.items(), &whole.body["total"]), (&log, &json!(72)));
    let unknown = get(&format!("exports/{}/delivery-log", CdrId([1; 16]).with_prefix("exp_")));
    refused(&unknown, 404, "EXPORT_NOT_FOUND");
}

#[test]
fn a_redrop_delivers_the_signed_file_again() {
    let redrop = |name: &str, headers: &[(&str, &str)]| {
        post(&format!("exports/{name}/redrop"), &json!({"reason": "asked for"}), ADMIN, headers)
    };
    let file = Opened::of("redrop", "2026-04-10", 1).open(&FILES);
    refused(&redrop(&file, &[]), 409, "EXPORT_NOT_READY");
    encode(&FILES, &file);
    sign(&FILES, &file);
    delivered(&FILES, &file);
    let before = get(&format!("exports/{file}")).body;
    let key = [("Idempotency-Key", "redrop-1")];
    let answer = redrop(&file, &key);
    assert_eq!((answer.status, &answer.body["deliveryStatus"]), (202, &json!("PENDING")), "{answer:?}");
    let after = get(&format!("exports/{file}")).body;
    assert_eq!((&after["signature"], &after["sha256"]), (&before["signature"], &before["sha256"]));
    let audit = audited("EXPORT_REPLAYED", "exportId", &file);
    assert_eq!(
        (&audit["actorUserId"], &audit["reason"], &audit["operatorId"]),
        (&json!("tester"), &json!("asked for"), &json!("AWCC"))
    );
    // The same request again is the same redrop.
    delivered(&FILES, &file);
    let (log, rows) = (get(&format!("exports/{file}/delivery-log")).items().len(), audits());
    assert_eq!(redrop(&file, &key).status, 202);
    assert_eq!(get(&format!("exports/{file}")).body["deliveryStatus"], "DELIVERED_SFTP");
    assert_eq!((get(&format!("exports/{file}/delivery-log")).items().len(), log), (3, 3));
    assert!(audits() >= rows);
    let another = post(&format!("exports/{file}/redrop"), &json!({"reason": "other"}), ADMIN, &key);
    refused(&another, 409, "IDEMPOTENCY_CONFLICT");

    let ack = json!({"atraReceiptId": "R-1", "status": "VERIFIED"});
    assert_eq!(post(&format!("exports/{file}/mark-acked"), &ack, &["cdr:regulator-ack"], &[]).status, 200);
    refused(&redrop(&file, &[]), 409, "EXPORT_ALREADY_ACKED");
    refused(&redrop(&CdrId([1; 16]).with_prefix("exp_"), &[]), 404, "EXPORT_NOT_FOUND");
    // Without a body, too.
    let bare = FILES.post_as(&format!("/v1/cdr/exports/{file}/redrop"), b"", ADMIN);
    refused(&bare, 409, "EXPORT_ALREADY_ACKED");
}

#[test]
fn the_regulator_says_once_what_it_thinks_of_a_file() {
    let ack = |name: &str, body: &Value, scopes: &[&str]| {
        post(&format!("exports/{name}/mark-acked"), body, scopes, &[])
    };
    let regulator = &["cdr:regulator-ack"];
    let verified = json!({"atraReceiptId": "R-1", "status": "VERIFIED", "payload": {"checked": ["all"]}});
    let file = Opened::of("acks", "2026-04-10", 1).sign(&FILES);
    refused(&ack(&file, &verified, ADMIN), 403, "INSUFFICIENT_SCOPE");
    refused(&ack(&file, &verified, regulator), 409, "EXPORT_NOT_READY");
    delivered(&FILES, &file);
    for (body, field) in [
        (json!({"status": "VERIFIED"}), "atraReceiptId"),
        (json!({"atraReceiptId": "R"}), "status"),
        (json!({"atraReceiptId": "R", "status": "FINE"}), "status"),
        (json!({"atraReceiptId": "R", "status": "REJECTED"}), "rejectionReason"),
        (
            json!({"atraReceiptId": "R", "status": "REJECTED", "rejectionReason": "DELIVERY_CHANNELS_EXHAUSTED"}),
            "rejectionReason",
        ),
        (
            json!({"atraReceiptId": "R", "status": "VERIFIED", "rejectionReason": "SCHEMA_MISMATCH"}),
            "rejectionReason",
        ),
    ] {
        let answer = ack(&file, &body, regulator);
        assert_eq!((answer.status, answer.field()), (400, field), "{body}");
    }
    let refusal = json!({
        "atraReceiptId": "R-9", "status": "REJECTED", "rejectionReason": "SIGNATURE_INVALID", "payload": {"line": 3},
    });
    let answer = ack(&file, &refusal, regulator);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        (&answer.body["atraVerificationStatus"], &answer.body["rejectionReason"]),
        (&json!("REJECTED"), &json!("SIGNATURE_INVALID"))
    );
    refused(&ack(&file, &verified, regulator), 409, "EXPORT_ALREADY_ACKED");
    assert_eq!(audited("EXPORT_ACKED", "exportId", &file)["details"]["rejectionReason"], "SIGNATURE_INVALID");

    // What was refused is delivered again, and accepted then.
    assert_eq!(post(&format!("exports/{file}/redrop"), &json!({}), ADMIN, &[]).status, 202);
    delivered(&FILES, &file);
    assert_eq!(ack(&file, &verified, regulator).body["atraVerificationStatus"], "VERIFIED");
    let shown = get(&format!("exports/{file}")).body;
    assert_eq!(
        (&shown["atraReceiptId"], &shown["verification"]["status"]),
        (&json!("R-1"), &json!("VERIFIED"))
    );
    assert_eq!(
        told_of(&file),
        ["cdr.exported.v1", "cdr.export.rejected.v1", "cdr.exported.v1", "cdr.export.acked.v1"]
    );
}

#[test]
fn what_the_regulator_sends_along_is_kept_byte_for_byte() {
    let file = Opened::of("payloads", "2026-04-11", 1).sign(&FILES);
    let path = format!("/v1/cdr/exports/{file}/mark-acked");
    let said = |payload: &str| {
        let fields = r#""atraReceiptId":"R-1","status":"REJECTED","rejectionReason":"SCHEMA_MISMATCH""#;
        FILES.post_as(
            &path,
            format!("{{{fields},\"payload\": {payload} }}").as_bytes(),
            &["cdr:regulator-ack"],
        )
    };
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    for refused in [&deep(32), &deep(125), r#"{"a":1,"a":1}"#, r#"[{"\u0061":1,"a":1}]"#, r#""\ud800""#] {
        let answer = said(refused);
        assert_eq!((answer.status, answer.field()), (400, "body"), "{refused}: {answer:?}");
    }
    for kept in [
        r#"{ "n": 9007199254740993, "m": [1234567890123456789, 1e400, 0.10, -0] }"#,
        &deep(31),
        r#""9007199254740993""#,
        "18446744073709551616",
        "false",
    ] {
        delivered(&FILES, &file);
        assert_eq!(said(kept).status, 200, "{kept}");
        let log = FILES.get_as(&format!("/v1/cdr/exports/{file}/delivery-log"), &["cdr:read", "cdr:pii"]);
        assert_eq!(log.items().last().unwrap()["payload"], kept);
        assert_eq!(post(&format!("exports/{file}/redrop"), &json!({}), ADMIN, &[]).status, 202);
    }
    let told = events_of(&file).into_iter().filter_map(|event| event.get("atraErrorPayload").cloned());
    let told: Vec<Value> = told.collect();
    assert_eq!(told[0]["m"][2], "0.10".parse::<f64>().unwrap());
    assert_eq!(told[0]["m"][1], "1e400", "what no double holds is told as a text");
    assert_eq!((&told[2], &told[4]), (&json!("***"), &json!(false)), "a text of digits could be a number");
}

/// Subjects of the events of a file, in order; audit entries apart.
fn told_of(name: &str) -> Vec<&'static str> {
    events(name).into_iter().map(|(subject, _)| subject).collect()
}

/// The events of a file, in order; audit entries apart.
fn events_of(name: &str) -> Vec<Value> {
    events(name).into_iter().map(|(_, event)| event).collect()
}

fn events(name: &str) -> Vec<(&'static str, Value)> {
    let outbox = Outbox::new(FILES.store(), &PLAIN).unwrap();
    let (mut from, mut found) = (cdr_core::command::OutboxPlace::default(), Vec::new());
    loop {
        let next = outbox.read(from, &|subject| subject.starts_with("cdr.export"), &mut |event, _| {
            let payload: Value = serde_json::from_slice(&event.payload).unwrap();
            if payload["exportId"] == name {
                found.push((event.subject, payload));
            }
            ControlFlow::Continue(())
        });
        let next = next.unwrap();
        if next == from {
            return found;
        }
        from = next;
    }
}

fn asked(changes: &Value) -> Value {
    let mut body = json!({
        "exportType": "TAP_3_12", "settlementDay": "2026-04-18", "operatorId": "ETS", "schemaVariant": "tap-b",
        "reason": "missing file",
    });
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

#[test]
fn a_trigger_asks_for_a_day_or_delivers_its_file_again() {
    let trigger =
        |changes: &Value, headers: &[(&str, &str)]| post("exports/trigger", &asked(changes), ADMIN, headers);
    for (changes, field) in [
        (json!({"exportType": "CSV_ANCILLARY"}), "exportType"),
        (json!({"settlementDay": "yesterday"}), "settlementDay"),
        // 2026-04-20T15:00Z is half past seven in the evening there.
        (json!({"settlementDay": "2026-04-20"}), "settlementDay"),
        (json!({"operatorId": "NOBODY"}), "operatorId"),
        (json!({"reason": ""}), "reason"),
        (json!({"day": 1}), "day"),
    ] {
        let answer = trigger(&changes, &[]);
        assert_eq!((answer.status, answer.field()), (400, field), "{changes}: {answer:?}");
    }
    refused(&trigger(&json!({"schemaVariant": "tap-c"}), &[]), 422, "REGULATOR_SCHEMA_INVALID");
    let key = [("Idempotency-Key", "trigger-1")];
    let answer = trigger(&json!({}), &key);
    assert_eq!((answer.status, &answer.body["action"]), (202, &json!("REQUESTED")), "{answer:?}");
    let series = cdr_core::export::SeriesKey {
        series: "clearing".to_owned(),
        export_type: cdr_core::export::ExportType::Tap,
        operator_id: "ETS".to_owned(),
    };
    assert_eq!(FILES.store().state().exports.requested(&series), Day::parse("2026-04-18"));
    assert_eq!(audited("EXPORT_REQUESTED", "series", "clearing")["actorUserId"], "tester");
    assert_eq!(trigger(&json!({}), &key).body, answer.body);

    // The file is made; asked for again it is delivered again.
    let clearing =
        |day, number| Opened { operator: "ETS", variant: "tap-b", ..Opened::of("clearing", day, number) };
    let file = clearing("2026-04-18", 1).open(&FILES);
    let asked_early = trigger(&json!({}), &[]);
    assert_eq!((asked_early.status, &asked_early.body["action"]), (202, &json!("REQUESTED")));
    encode(&FILES, &file);
    sign(&FILES, &file);
    delivered(&FILES, &file);
    assert_eq!(trigger(&json!({}), &key).body, answer.body, "the same request, whatever is there by now");
    let again = trigger(&json!({}), &[]);
    assert_eq!(
        (again.status, &again.body["action"], &again.body["exportId"]),
        (202, &json!("REDROPPED"), &json!(file))
    );
    assert_eq!(get(&format!("exports/{file}")).body["deliveryStatus"], "PENDING");
    audited("EXPORT_REPLAYED", "exportId", &file);
    // The series is past the day before, without a file of it.
    refused(&trigger(&json!({"settlementDay": "2026-04-17"}), &[]), 404, "EXPORT_NOT_FOUND");
    // A file that was made by another variant is not made again.
    let variant = Opened { variant: "tap-a", number: 2, ..clearing("2026-04-19", 2) };
    variant.sign(&FILES);
    let other = trigger(&json!({"settlementDay": "2026-04-19"}), &[]);
    refused(&other, 422, "REGULATOR_SCHEMA_INVALID");
    let by_it = trigger(&json!({"settlementDay": "2026-04-19", "schemaVariant": "tap-a"}), &[]);
    assert_eq!(by_it.body["action"], "REDROPPED", "{by_it:?}");
}

#[test]
fn a_file_that_waits_for_a_signer_that_is_away_says_so() {
    let service = Service::build();
    let admin = |path: &str, body: &Value| {
        service.post_as(&format!("/v1/cdr/exports/{path}"), body.to_string().as_bytes(), ADMIN)
    };
    let file = Opened::of("regulator", "2026-04-18", 1).open(&service);
    encode(&service, &file);
    let again = asked(&json!({"operatorId": "AWCC", "schemaVariant": "tap-a"}));
    service.signer(Err("the token is gone".to_owned()));
    for answer in [admin(&format!("{file}/redrop"), &json!({})), admin("trigger", &again)] {
        refused(&answer, 503, "HSM_UNAVAILABLE");
        let details = &answer.body["error"]["details"];
        assert_eq!((&details["exportId"], &details["reason"]), (&json!(file), &json!("the token is gone")));
    }
    service.signer(Ok(()));
    refused(&admin(&format!("{file}/redrop"), &json!({})), 409, "EXPORT_NOT_READY");
    assert_eq!(admin("trigger", &again).body["action"], "REQUESTED");
}

#[test]
fn a_file_whose_name_is_taken_at_the_receiver_is_redropped_by_who_has_looked() {
    let service = Service::build();
    let admin = |path: &str, body: &Value| {
        service.post_as(&format!("/v1/cdr/exports/{path}"), body.to_string().as_bytes(), ADMIN)
    };
    let opened = Opened::of("regulator", "2026-04-18", 1);
    let file = opened.open(&service);
    encode(&service, &file);
    sign(&service, &file);
    let taken = json!({
        "step": "ATTEMPTED", "exportId": file, "channel": "SFTP", "outcome": "FAILED", "error": "DUPLICATE_FILE",
        "reason": "there is another one",
    });
    service.append(SystemKind::Delivery, &taken);
    let again = asked(&json!({"operatorId": "AWCC", "schemaVariant": "tap-a"}));
    let answer = admin("trigger", &again);
    refused(&answer, 409, "DUPLICATE_FILE");
    let details = &answer.body["error"]["details"];
    assert_eq!((&details["exportId"], &details["fileName"]), (&json!(file), &json!(opened.file_name())));
    assert_eq!(admin(&format!("{file}/redrop"), &json!({})).status, 202);
    assert_eq!(admin("trigger", &again).body["action"], "REDROPPED");
}

#[test]
fn every_right_is_its_own() {
    let name = CdrId([1; 16]).with_prefix("exp_");
    let post = |path: &str, scopes: &[&str]| post(path, &json!({}), scopes, &[]);
    let required = BTreeMap::from([
        (format!("exports/{name}/redrop"), "cdr:admin"),
        ("exports/trigger".to_owned(), "cdr:admin"),
        (format!("exports/{name}/mark-acked"), "cdr:regulator-ack"),
    ]);
    for (path, scope) in &required {
        let others: Vec<&str> =
            cdr_mediation::auth::ALL_SCOPES.iter().copied().filter(|other| other != scope).collect();
        let answer = post(path, &others);
        refused(&answer, 403, "INSUFFICIENT_SCOPE");
        assert_eq!(answer.body["error"]["details"]["requiredScope"], *scope);
    }
    let list = FILES.get_as("/v1/cdr/exports", &["cdr:admin"]);
    refused(&list, 403, "INSUFFICIENT_SCOPE");
}

/// The value of a metric without labels.
fn metric(service: &Service, name: &str) -> u64 {
    let text = service.get_with("/metrics", &[]).text;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap().to_owned();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn waiting_files_and_new_quarantine_are_measured() {
    let service = Service::build();
    let all = |service: &Service| {
        ["cdr_exports_open", "cdr_export_backlog_seconds", "cdr_quarantined_day"]
            .map(|name| metric(service, name))
    };
    assert_eq!(all(&service), [0, 0, 0]);
    let file = Opened::of("measured", "2026-04-10", 1).open(&service);
    for number in 1..4 {
        let body = json!({
            "step": "QUARANTINED", "cdrId": crate::api::service::cdr_id(number).to_string(), "encoderError": "no",
            "exportId": file, "operatorId": "AWCC", "schemaVariant": "tap-a", "series": "measured",
        });
        service.append(SystemKind::Quarantine, &body);
    }
    service.pass_hours(2);
    assert_eq!(all(&service), [1, 7_200, 3]);
    // Once it is signed it waits for its delivery.
    encode(&service, &file);
    sign(&service, &file);
    service.pass_hours(1);
    assert_eq!(all(&service), [1, 3_600, 3]);
    delivered(&service, &file);
    service.pass_hours(22);
    assert_eq!(all(&service), [0, 0, 0], "what is older than a day counts no more");
}
