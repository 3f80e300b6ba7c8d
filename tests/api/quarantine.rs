//! Records that could not be listed: who sees them, and how they leave.

use crate::api::exports::{FILES, audited, get, post, refused};
use crate::api::service::{Answer, cdr_id};
use cdr_core::CdrId;
use cdr_core::row::SystemKind;
use serde_json::{Value, json};

const ADMIN: &[&str] = &["cdr:admin"];

/// Puts record `number` into a series' quarantine; the entry's name.
fn put(number: u64, series: &str) -> String {
    let operator = if number.is_multiple_of(7) { "ETS" } else { "AWCC" };
    let body = json!({
        "step": "QUARANTINED", "cdrId": cdr_id(number).to_string(), "encoderError": "callingNumber: too long",
        "exportId": null, "operatorId": operator, "schemaVariant": "tap-b", "series": series,
    });
    FILES.append(SystemKind::Quarantine, &body).with_prefix("qua_")
}

fn act(name: &str, verb: &str, headers: &[(&str, &str)]) -> Answer {
    post(
        &format!("quarantine/{name}/{verb}"),
        &json!({"reason": "mended", "ticketId": "T-7"}),
        ADMIN,
        headers,
    )
}

#[test]
fn entries_are_listed_by_state_and_operator() {
    // 7 and 14 are of ETS.
    let entries: Vec<String> = [1, 7, 2, 14].map(|number| put(number, "lists")).into();
    assert_eq!(act(&entries[2], "discard", &[]).status, 200);
    let of = |rest: &str| -> Vec<String> {
        let answer = get(&format!("quarantine?limit=500{rest}"));
        let ids = answer.items().iter().map(|entry| entry["quarantineId"].as_str().unwrap().to_owned());
        ids.filter(|id| entries.contains(id)).collect()
    };
    assert_eq!(of(""), entries);
    assert_eq!(of("&unresolved=true"), [&entries[0][..], &entries[1], &entries[3]]);
    assert_eq!(of("&unresolved=false"), [&entries[2][..]]);
    assert_eq!(of("&operatorId=ETS"), [&entries[1][..], &entries[3]]);
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("quarantine?limit=1{cursor}"));
        paged.extend(page.items().iter().map(|entry| entry["quarantineId"].as_str().unwrap().to_owned()));
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(entries.iter().all(|entry| paged.iter().filter(|id| *id == entry).count() == 1));
    for (query, field) in
        [("unresolved=1", "unresolved"), ("operatorId=X", "operatorId"), ("cursor=x", "cursor")]
    {
        assert_eq!(get(&format!("quarantine?{query}")).field(), field);
    }
    refused(&FILES.get_as("/v1/cdr/quarantine", &["cdr:read"]), 403, "INSUFFICIENT_SCOPE");
}

#[test]
fn a_record_that_can_be_encoded_now_goes_into_the_next_file() {
    // The second variant takes no names: every third record has one.
    let (fit, unfit) = (put(4, "clearing"), put(3, "clearing"));
    let answer = act(&unfit, "resubmit", &[]);
    refused(&answer, 422, "REGULATOR_SCHEMA_INVALID");
    let failure = &answer.body["error"]["details"]["failures"][0];
    assert_eq!(failure["cdrId"], cdr_id(3).to_string());
    assert!(failure["error"].as_str().unwrap().contains("it is no number"), "{failure}");
    let key = [("Idempotency-Key", "resubmit-1")];
    let answer = act(&fit, "resubmit", &key);
    let mut expected = json!({
        "quarantineId": fit, "cdrId": cdr_id(4).to_string(), "encoderError": "callingNumber: too long",
        "encoderVariant": "tap-b", "exportId": null, "operatorId": "AWCC", "series": "clearing",
        "resolution": "RESUBMITTED", "resolvedBy": "tester",
    });
    for at in ["quarantinedAt", "resolvedAt"] {
        assert!(answer.body[at].as_str().unwrap().starts_with("2026-04-20T15:"), "{answer:?}");
        expected[at] = answer.body[at].clone();
    }
    assert_eq!((answer.status, &answer.body), (200, &expected));
    assert_eq!(act(&fit, "resubmit", &key).body, expected, "the same request again");
    for verb in ["resubmit", "discard"] {
        refused(&act(&fit, verb, &[]), 409, "QUARANTINE_RESOLVED");
    }
    let audit = audited("QUARANTINE_RESUBMITTED", "quarantineId", &fit);
    assert_eq!(
        (&audit["actorUserId"], &audit["ticketId"], &audit["reason"]),
        (&json!("tester"), &json!("T-7"), &json!("mended"))
    );
    // What can't be encoded can still be given up.
    let answer = act(&unfit, "discard", &[]);
    assert_eq!((answer.status, &answer.body["resolution"]), (200, &json!("DISCARDED")));
    audited("QUARANTINE_DISCARDED", "quarantineId", &unfit);
}

#[test]
fn what_is_not_there_can_not_leave() {
    for verb in ["resubmit", "discard"] {
        let unknown = CdrId([1; 16]).with_prefix("qua_");
        refused(&act(&unknown, verb, &[]), 404, "QUARANTINE_NOT_FOUND");
        assert_eq!(act("qua_1", verb, &[]).field(), "quarantineId");
        let entry = put(if verb == "discard" { 5 } else { 8 }, "gone");
        let unscoped =
            post(&format!("quarantine/{entry}/{verb}"), &json!({}), &["cdr:write", "cdr:read"], &[]);
        refused(&unscoped, 403, "INSUFFICIENT_SCOPE");
    }
    // A series that nobody gets any more.
    let entry = put(10, "gone");
    let answer = act(&entry, "resubmit", &[]);
    refused(&answer, 422, "REGULATOR_SCHEMA_INVALID");
    assert_ne!(answer.body["error"]["message"], Value::Null);
}
