//! Schema variants: which there are, whether they can encode, and who may put one in force.

use crate::api::openapi::{check, document};
use crate::api::service::{Answer, Service};
use cdr_core::row::SystemKind;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A service of its own: which variant is in force concerns every test.
static SCHEMAS: LazyLock<Service> = LazyLock::new(Service::build);

const ADMIN: &[&str] = &["cdr:admin"];

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
}

fn activate(variant: &str, approver: Option<(&str, &[&str])>) -> Answer {
    let own = format!("Bearer {}", SCHEMAS.token(ADMIN));
    let token = approver.map(|(who, scopes)| SCHEMAS.issuer.token(who, scopes, 600).unwrap());
    let mut headers = vec![("Authorization", own.as_str())];
    headers.extend(token.as_deref().map(|token| ("X-Approver-Jwt", token)));
    let body = json!({"reason": "the regulator's new form", "ticketId": "T-9"});
    SCHEMAS.post_with(
        &format!("/v1/cdr/regulator-schemas/{variant}:activate"),
        body.to_string().as_bytes(),
        &headers,
    )
}

fn active() -> Vec<Value> {
    let list = SCHEMAS.get_as("/v1/cdr/regulator-schemas", ADMIN);
    list.items().iter().filter(|item| item["active"] == true).cloned().collect()
}

#[test]
fn a_variant_is_put_in_force_by_two_people() {
    let list = SCHEMAS.get_as("/v1/cdr/regulator-schemas", ADMIN);
    assert_eq!(
        list.items()[0],
        json!({"schemaVariant": "tap-a", "schemaHash": "aa".repeat(32), "active": true, "series": ["regulator"]})
    );
    assert_eq!(
        (&list.items()[1]["active"], &list.items()[1]["series"]),
        (&json!(false), &json!(["clearing"]))
    );
    refused(&SCHEMAS.get_as("/v1/cdr/regulator-schemas", &["cdr:read"]), 403, "INSUFFICIENT_SCOPE");

    let (other, admin): (&str, &[&str]) = ("approver", ADMIN);
    refused(&activate("tap-b", None), 403, "FOUR_EYES_REQUIRED");
    refused(&activate("tap-b", Some(("tester", admin))), 403, "FOUR_EYES_REQUIRED");
    refused(&activate("tap-b", Some((other, &["cdr:write"]))), 403, "FOUR_EYES_REQUIRED");
    refused(&activate("tap-c", Some((other, admin))), 404, "REGULATOR_SCHEMA_NOT_FOUND");
    refused(&activate("tap-a", Some((other, admin))), 409, "REGULATOR_SCHEMA_ACTIVE");
    let same = activate("tap-same", Some((other, admin)));
    refused(&same, 422, "REGULATOR_SCHEMA_INVALID");
    assert_eq!(same.body["error"]["message"], "both would be named SAME.tap");
    assert_eq!(active()[0]["schemaVariant"], "tap-a");
    let answer = activate("tap-b", Some((other, admin)));
    let expected = json!({
        "schemaVariant": "tap-b", "schemaHash": "bb".repeat(32), "active": true, "actorUserId": "tester",
        "approverUserId": "approver",
    });
    assert_eq!((answer.status, &answer.body), (200, &expected));
    check(&document(), "post", "/v1/cdr/regulator-schemas/{variant}:activate", &answer);
    assert_eq!((active().len(), &active()[0]["series"]), (1, &json!(["regulator", "clearing"])));
    refused(&activate("tap-b", Some((other, admin))), 409, "REGULATOR_SCHEMA_ACTIVE");
    assert_eq!(SCHEMAS.store().state().settings.get("export.tap.schemaVariant"), Some("tap-b"));
    assert_eq!(activate("tap-a", Some((other, admin))).status, 200);

    let audit = SCHEMAS.get_as("/v1/cdr/audit?limit=500", ADMIN);
    let changed: Vec<&Value> = audit
        .items()
        .iter()
        .map(|row| &row["body"])
        .filter(|row| row["entryType"] == "SCHEMA_CHANGED")
        .collect();
    assert_eq!(changed.len(), 2);
    assert_eq!(
        changed[0]["details"],
        json!({"previousVariant": "tap-a", "schemaHash": "bb".repeat(32), "schemaVariant": "tap-b"})
    );
    assert_eq!(
        (&changed[1]["approverUserId"], &changed[1]["ticketId"], &changed[1]["details"]["previousVariant"]),
        (&json!("approver"), &json!("T-9"), &json!("tap-b"))
    );
    let page = SCHEMAS.store().query(
        &cdr_storage::RecordFilter {
            of_kind: Some(cdr_storage::RowKind::System(SystemKind::Config)),
            ..cdr_storage::RecordFilter::default()
        },
        None,
        10,
    );
    assert_eq!(page.unwrap().rows.len(), 2, "one row for each change");
}

#[test]
fn a_path_that_activates_nothing_is_none() {
    let own = format!("Bearer {}", SCHEMAS.token(ADMIN));
    let headers = [("Authorization", own.as_str())];
    for path in ["tap-a", "tap-a:remove", "tap-a:activate:x"] {
        let answer = SCHEMAS.post_with(&format!("/v1/cdr/regulator-schemas/{path}"), b"{}", &headers);
        refused(&answer, 404, "NOT_FOUND");
    }
}

#[test]
fn a_dry_run_encodes_some_cdrs_and_names_those_that_fail() {
    let validate =
        |variant: &str| SCHEMAS.get_as(&format!("/v1/cdr/regulator-schemas/{variant}/validate"), ADMIN);
    let answer = validate("tap-a");
    let expected =
        json!({"schemaVariant": "tap-a", "schemaHash": "aa".repeat(32), "sampled": 100, "encoded": 100});
    assert_eq!((answer.status, &answer.body), (200, &expected));
    let rows = SCHEMAS.store().state().head.row_count;
    let answer = validate("tap-b");
    refused(&answer, 422, "REGULATOR_SCHEMA_INVALID");
    let failures = answer.body["error"]["details"]["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 10, "the first ones");
    assert!(failures.iter().all(|failure| failure["cdrId"].as_str().unwrap().starts_with("cdr_")));
    assert!(SCHEMAS.store().state().head.row_count - rows <= 4, "nothing is written but by others");
    refused(&validate("tap-c"), 404, "REGULATOR_SCHEMA_NOT_FOUND");
    let unscoped = SCHEMAS.get_as("/v1/cdr/regulator-schemas/tap-a/validate", &["cdr:read"]);
    refused(&unscoped, 403, "INSUFFICIENT_SCOPE");
}
