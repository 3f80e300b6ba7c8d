//! The HTTP API as its clients see it: a real replica, its real store, a client over loopback.

mod adjustments;
mod exports;
mod integrity;
mod masking;
mod openapi;
mod quarantine;
mod quorum;
mod returns;
mod schemas;
mod service;
mod verify_record;

use cdr_core::hash::{sha256, to_hex};
use cdr_core::merkle::InclusionProof;
use cdr_core::personal::SALT;
use cdr_core::proof::{PortableProof, Trust};
use cdr_core::rules::SchemaVersion;
use cdr_core::schema::personal_members;
use cdr_core::{CdrId, Hash};
use serde_json::{Map, Value, json};
use service::{
    Answer, Bounds, EMPTY, OPEN, OPEN_RECORDS, RECORDS, SEALED, Service, TENANT, cdr_id, message_id,
    recipient,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One service for everything that only reads.
static SERVICE: LazyLock<Service> = LazyLock::new(Service::build);

fn hash(value: &Value) -> Hash {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

/// Every item of a list, page by page.
fn walk(path: &str, limit: usize) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = SERVICE.get(&format!("{path}limit={limit}{cursor}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.items().len() <= limit);
        items.extend(answer.items().iter().cloned());
        match answer.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

#[test]
fn without_a_valid_token_nobody_is_let_in() {
    let elsewhere = tempfile::tempdir().unwrap();
    let foreigner = cdr_mediation::auth::dev::DevIssuer::load_or_create(elsewhere.path()).unwrap();
    let expired = SERVICE.issuer.token("tester", &["cdr:read"], -60).unwrap();
    let foreign = foreigner.token("tester", &["cdr:read"], 600).unwrap();
    for authorization in
        ["", "Basic dTpw", "Bearer x", &format!("Bearer {expired}"), &format!("Bearer {foreign}")]
    {
        let headers: &[(&str, &str)] =
            if authorization.is_empty() { &[] } else { &[("Authorization", authorization)] };
        let answer = SERVICE.get_with("/v1/cdr/records?limit=0", headers);
        assert_eq!((answer.status, answer.code()), (401, "UNAUTHENTICATED"), "{authorization}");
        assert!(answer.headers["www-authenticate"].starts_with("Bearer"));
    }
}

#[test]
fn a_missing_scope_is_named() {
    let id = cdr_id(1);
    for path in [
        "/v1/cdr/records".to_owned(),
        format!("/v1/cdr/records/{id}"),
        format!("/v1/cdr/records/{id}/proof"),
        "/v1/cdr/rollups".to_owned(),
        format!("/v1/cdr/rollups/{SEALED}/AWCC"),
        format!("/v1/cdr/completeness?bucketHour={SEALED}"),
        "/v1/cdr/reconciliation".to_owned(),
        "/v1/cdr/keys".to_owned(),
    ] {
        let answer = SERVICE.get_as(&path, &["cdr:admin", "cdr:verify"]);
        assert_eq!((answer.status, answer.code()), (403, "INSUFFICIENT_SCOPE"), "{path}");
        assert_eq!(answer.body["error"]["details"]["requiredScope"], "cdr:read");
    }
    let post = |path: &str, scopes: &[&str]| SERVICE.post_as(path, b"{}", scopes);
    assert_eq!(post("/v1/cdr/verify", &["cdr:verify"]).status, 403);
    for path in ["/v1/cdr/chain/verify", "/v1/cdr/chain/verify/range"] {
        let answer = post(path, &["cdr:read", "cdr:admin"]);
        assert_eq!((answer.status, answer.code()), (403, "INSUFFICIENT_SCOPE"), "{path}");
        assert_eq!(answer.body["error"]["details"]["requiredScope"], "cdr:verify");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let refused = |answer: &Answer, field: &str| {
        assert_eq!(
            (answer.status, answer.code(), answer.field()),
            (400, "CDR_VALIDATION_FAILED", field),
            "{answer:?}"
        );
    };
    for (path, field) in [
        ("/v1/cdr/records?cursor=abc", "cursor"),
        ("/v1/cdr/records?limit=501", "limit"),
        ("/v1/cdr/records?limit=0", "limit"),
        ("/v1/cdr/records?operatorId=NOBODY", "operatorId"),
        ("/v1/cdr/records?offset=10", "offset"),
        ("/v1/cdr/records?net=yes", "net"),
        ("/v1/cdr/keys?consistency=maybe", "consistency"),
        ("/v1/cdr/records/cdr_1", "cdrId"),
        ("/v1/cdr/rollups?operatorId=NOBODY", "operatorId"),
        ("/v1/cdr/rollups?limit=501", "limit"),
        ("/v1/cdr/rollups?cursor=abc", "cursor"),
        ("/v1/cdr/reconciliation?cursor=abc", "cursor"),
        ("/v1/cdr/reconciliation?operatorId=NOBODY", "operatorId"),
        ("/v1/cdr/reconciliation?state=FAILED", "state"),
        ("/v1/cdr/rollups/2026-04-20T13:00:00Z/NOBODY", "operatorId"),
        ("/v1/cdr/rollups/2026-04-20T13:30:00Z/AWCC", "bucketHour"),
        ("/v1/cdr/completeness", "bucketHour"),
        ("/v1/cdr/completeness?bucketHour=yesterday", "bucketHour"),
    ] {
        refused(&SERVICE.get(path), field);
    }
    // Well-formed, of the hour and number that are the largest, and checked by a sum that anybody can compute.
    let forged = "AQH_____AAAAAAAAAAAVCHik";
    for list in ["records", "rollups", "reconciliation", "adjustments", "exports"] {
        refused(&SERVICE.get(&format!("/v1/cdr/{list}?cursor={forged}")), "cursor");
    }
    for list in ["audit", "quarantine"] {
        refused(&SERVICE.get_as(&format!("/v1/cdr/{list}?cursor={forged}"), &["cdr:admin"]), "cursor");
    }
    let records = SERVICE.get("/v1/cdr/records?limit=5");
    let foreign = records.body["nextCursor"].as_str().unwrap();
    refused(&SERVICE.get(&format!("/v1/cdr/rollups?cursor={foreign}")), "cursor");
    for (path, body, field) in [
        ("/v1/cdr/verify", json!({}), "cdrId"),
        ("/v1/cdr/verify", json!({"cdrId": "adj_1"}), "cdrId"),
        ("/v1/cdr/verify", json!([]), "body"),
        ("/v1/cdr/chain/verify", json!({}), "bucketHour"),
        ("/v1/cdr/chain/verify", json!({"bucketHour": SEALED, "operatorId": "NOBODY"}), "operatorId"),
        ("/v1/cdr/chain/verify", json!({"bucketHour": SEALED, "depth": "deep"}), "depth"),
        ("/v1/cdr/chain/verify", json!({"bucketHour": SEALED, "hour": SEALED}), "hour"),
        (
            "/v1/cdr/chain/verify",
            json!({"bucketHour": EMPTY, "proofForCdrId": cdr_id(1).to_string()}),
            "proofForCdrId",
        ),
        (
            "/v1/cdr/chain/verify",
            json!({"bucketHour": SEALED, "operatorId": "ETS", "proofForCdrId": cdr_id(1).to_string()}),
            "proofForCdrId",
        ),
        ("/v1/cdr/chain/verify/range", json!({"from": EMPTY, "to": SEALED}), "to"),
        ("/v1/cdr/chain/verify/range", json!({"from": SEALED, "to": "2026-06-20T13:00:00Z"}), "to"),
        (
            "/v1/cdr/chain/verify/range",
            json!({"from": SEALED, "to": EMPTY, "operatorId": "NOBODY"}),
            "operatorId",
        ),
    ] {
        refused(&SERVICE.post(path, &body), field);
    }
    refused(&SERVICE.post_as("/v1/cdr/verify", b"{\"cdrId\":", &["cdr:read"]), "body");
    let large = SERVICE.post_as("/v1/cdr/verify", &[b' '; 5000], &["cdr:read"]);
    assert_eq!((large.status, large.code()), (413, "CDR_VALIDATION_FAILED"));
}

#[test]
fn what_does_not_exist_is_not_found() {
    let unknown = cdr_id(99_999);
    for answer in [
        SERVICE.get(&format!("/v1/cdr/records/{unknown}")),
        SERVICE.get(&format!("/v1/cdr/records/{unknown}/proof")),
        SERVICE.post("/v1/cdr/verify", &json!({"cdrId": unknown.to_string()})),
        SERVICE.get("/v1/cdr/completeness?bucketHour=2026-04-20T12:00:00Z"),
        SERVICE.post("/v1/cdr/chain/verify", &json!({"bucketHour": "2026-04-20T12:00:00Z"})),
    ] {
        assert_eq!((answer.status, answer.code()), (404, "CDR_NOT_FOUND"), "{answer:?}");
    }
    let path = SERVICE.get("/v1/cdr/nothing");
    assert_eq!((path.status, path.code()), (404, "NOT_FOUND"));
    let method = SERVICE.post("/v1/cdr/records", &json!({}));
    assert_eq!((method.status, method.code()), (405, "METHOD_NOT_ALLOWED"));
    assert!(method.headers["allow"].contains("GET"));
}

#[test]
fn the_last_hour_of_9999_is_not_expected_to_be_sealed() {
    let answer = SERVICE.get("/v1/cdr/completeness?bucketHour=9999-12-31T23:00:00Z");
    assert_eq!((answer.status, answer.code()), (409, "BUCKET_NOT_SEALED"), "{answer:?}");
    assert_eq!(answer.body["error"]["details"]["expectedSealBy"], Value::Null);
}

#[test]
fn an_unsealed_hour_is_a_conflict_that_says_when() {
    let last = cdr_id(RECORDS + 1);
    for answer in [
        SERVICE.post("/v1/cdr/chain/verify", &json!({"bucketHour": OPEN, "operatorId": "AWCC"})),
        SERVICE.post("/v1/cdr/chain/verify", &json!({"bucketHour": OPEN})),
        SERVICE.post("/v1/cdr/chain/verify/range", &json!({"from": SEALED, "to": OPEN})),
        SERVICE.get(&format!("/v1/cdr/rollups/{OPEN}/AWCC")),
        SERVICE.get(&format!("/v1/cdr/completeness?bucketHour={OPEN}")),
        SERVICE.get(&format!("/v1/cdr/records/{last}/proof")),
    ] {
        assert_eq!((answer.status, answer.code()), (409, "BUCKET_NOT_SEALED"), "{answer:?}");
        let details = &answer.body["error"]["details"];
        assert_eq!(details["bucketHour"], OPEN);
        assert_eq!(details["expectedSealBy"], "2026-04-20T16:05:00Z");
    }
}

#[test]
fn every_record_is_served_once_in_order_and_hashes_to_its_row_hash() {
    let records = walk("/v1/cdr/records?", 250);
    assert_eq!(records.len() as u64, RECORDS + OPEN_RECORDS);
    let mut previous: BTreeMap<String, Value> = BTreeMap::new();
    let mut place = (String::new(), 0);
    for record in records {
        let here =
            (record["bucketHour"].as_str().unwrap().to_owned(), record["cdrSequence"].as_u64().unwrap());
        assert!(here > place, "{here:?} after {place:?}");
        let mut row = record.clone();
        let personal = take_personal(&mut row);
        let stored = row.as_object_mut().unwrap().remove("rowHash").unwrap();
        assert_eq!((&jcs_hash(&personal), jcs_hash(&row)), (&row["personalHash"], stored.clone()));
        let partition = format!("{} {}", here.0, record["operatorId"]);
        if let Some(before) = previous.insert(partition, stored) {
            assert_eq!(record["chainHashPrev"], before);
        }
        place = here;
    }
}

#[test]
fn billing_is_held_against_the_records_by_hour_and_operator() {
    let items = walk("/v1/cdr/reconciliation?", 1);
    let place = |item: &Value| (item["bucketHour"].clone(), item["operatorId"].clone());
    let hours = [(SEALED, "AWCC"), (SEALED, "ETS"), (OPEN, "AWCC"), (OPEN, "ETS")];
    let expected: Vec<_> = hours.iter().map(|(hour, operator)| (json!(hour), json!(operator))).collect();
    assert_eq!(items.iter().map(place).collect::<Vec<_>>(), expected);
    let records: u64 = items.iter().map(|item| item["cdrCount"].as_u64().unwrap()).sum();
    assert_eq!(records, RECORDS + OPEN_RECORDS);
    let ets = RECORDS / 7;
    let awcc = RECORDS - ets;
    let amount = |micros: u64| format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    assert_eq!(
        items[0],
        json!({
            "bucketHour": SEALED, "operatorId": "AWCC", "cdrCount": awcc, "matched": 1, "amountDiffers": 1,
            "missingInBilling": awcc - 2, "missingInCdr": 1, "sums": [
                {"currency": "AFN", "cdrAmount": amount(awcc * 420_000), "billingAmount": "0.920000"},
                {"currency": "USD", "cdrAmount": "0.000000", "billingAmount": "999999999999.000000"},
            ],
        })
    );
    // The event counts where its record does, whatever operator billing named.
    assert_eq!((&items[1]["matched"], &items[1]["cdrCount"]), (&json!(1), &json!(ets)));
    let one = SERVICE.get(&format!("/v1/cdr/reconciliation?operatorId=ETS&bucketHourTo={SEALED}"));
    assert_eq!((one.items(), &one.body["total"]), (&vec![items[1].clone()], &json!(1)));
    let open = SERVICE.get(&format!("/v1/cdr/reconciliation?bucketHourFrom={OPEN}"));
    assert_eq!(open.items()[..], items[2..]);
}

#[test]
fn filters_narrow_and_counts_are_exact() {
    let list = |query: String| SERVICE.get(&format!("/v1/cdr/records?limit=500&{query}"));
    let all = list(String::new());
    assert_eq!((all.items().len(), all.body["total"].as_u64()), (500, Some(RECORDS + OPEN_RECORDS)));
    let sealed = list(format!("bucketHourTo={SEALED}"));
    assert_eq!(sealed.body["total"], RECORDS);
    let ets = list("operatorId=ETS".to_owned());
    assert_eq!(ets.items().len() as u64, (RECORDS + OPEN_RECORDS) / 7);
    assert_eq!(ets.body["total"].as_u64(), Some(ets.items().len() as u64));
    assert!(ets.body.get("nextCursor").is_none());
    let failed = list("state=FAILED".to_owned());
    assert_eq!(failed.items().len() as u64, (RECORDS + OPEN_RECORDS) / 10);
    let tenant = list(format!("tenantId={TENANT}&state=FAILED"));
    assert_eq!(tenant.items().len(), failed.items().len());
    assert_eq!(list(format!("tenantId={TENANT}&bucketHourFrom={OPEN}")).items().len(), 1);
    let one = |answer: &Answer, number: u64| {
        assert_eq!(answer.items().len(), 1, "{answer:?}");
        assert_eq!(answer.items()[0]["cdrId"], cdr_id(number).to_string());
    };
    one(&list(format!("messageId={}", message_id(17))), 17);
    one(&list(format!("messageId={}&net=true", message_id(18))), 18);
    let digest = hex::encode(Sha256::digest(recipient(19)));
    one(&list(format!("msisdnHashTo={digest}")), 19);
    one(&list("eventFrom=2026-04-20T13:00:00.030Z&eventTo=2026-04-20T13:00:00.030Z".to_owned()), 20);
    assert!(list("adjustmentType=VOID".to_owned()).items().is_empty());
    one(&SERVICE.get(&format!("/v1/cdr/records?limit=1&bucketHourFrom={OPEN}")), RECORDS + 1);
}

#[test]
fn a_rare_filter_is_answered_in_bounded_steps() {
    // One store query of 50 rows a request: what a scan over hours of rows looks like, in small.
    let service = Service::build_bounded(Bounds { query_scan_rows: 50, scan_budget_ms: 0 });
    let net = format!("net=true&tenantId={TENANT}");
    let of_tenant = (1..=RECORDS + OPEN_RECORDS).filter(|number| number.is_multiple_of(2)).count() as u64;
    for (filter, expected) in [("adjustmentType=VOID", 0), (net.as_str(), of_tenant)] {
        let (mut found, mut short, mut cursor) = (0, 0, String::new());
        loop {
            let answer = service.get(&format!("/v1/cdr/records?{filter}&limit=100{cursor}"));
            assert_eq!(answer.status, 200, "{answer:?}");
            found += answer.items().len() as u64;
            let Some(next) = answer.body["nextCursor"].as_str() else { break };
            assert!(answer.body.get("total").is_none(), "nobody has counted yet");
            assert!(cursor != format!("&cursor={next}"), "it goes on");
            cursor = format!("&cursor={next}");
            short += u64::from(answer.items().len() < 100);
        }
        assert_eq!(found, expected, "{filter}");
        assert!(short >= 2, "{filter}: {short} pages ended by the bound");
    }
}

#[test]
fn net_effects_of_unadjusted_records_are_the_records() {
    let gross = walk("/v1/cdr/records?operatorId=ETS&", 17);
    assert_eq!(walk("/v1/cdr/records?operatorId=ETS&net=true&", 17), gross);
    assert_eq!(walk("/v1/cdr/records?operatorId=ETS&net=false&", 500), gross);
    let page = SERVICE.get("/v1/cdr/records?net=true&limit=5");
    assert!(page.body.get("total").is_none(), "seals count rows, not net effects");
}

#[test]
fn addresses_are_masked_without_the_right_to_see_them() {
    let path = format!("/v1/cdr/records/{}", cdr_id(1));
    let (full, masked) = (SERVICE.get(&path), SERVICE.get_as(&path, &["cdr:read"]));
    assert_eq!(full.body["calledPartyAddress"], recipient(1));
    assert!(full.body.get("masked").is_none());
    assert_eq!(masked.body["calledPartyAddress"], "+93*******01");
    assert_eq!(masked.body["masked"], true);
    assert_eq!(masked.body["rowHash"], full.body["rowHash"]);
    for item in SERVICE.get_as("/v1/cdr/records?limit=3", &["cdr:read"]).items() {
        assert_eq!(item["masked"], true);
        assert!(!item.to_string().contains("+93799000001"));
    }
    let hash = to_hex(&sha256(recipient(1).as_bytes()));
    let filtered = format!("/v1/cdr/records?msisdnHashTo={hash}");
    assert_eq!(SERVICE.get(&filtered).items().len(), 1);
    let refused = SERVICE.get_as(&filtered, &["cdr:read"]);
    assert_eq!(
        (refused.status, refused.body["error"]["details"]["requiredScope"].as_str()),
        (403, Some("cdr:pii"))
    );
}

/// The hash of a value's RFC 8785 form.
fn jcs_hash(value: &Value) -> Value {
    json!(to_hex(&sha256(serde_json_canonicalizer::to_string(value).unwrap().as_bytes())))
}

/// Takes the members of a CDR's personal data out of a record.
fn take_personal(record: &mut Value) -> Value {
    let record = record.as_object_mut().unwrap();
    let names = personal_members(SchemaVersion::V2).chain([SALT]);
    names.filter_map(|name| Some((name.to_owned(), record.remove(name)?))).collect::<Map<_, _>>().into()
}

#[test]
fn whoever_may_not_see_numbers_recomputes_row_hash_and_proof_and_learns_no_number() {
    for number in [1, 7, RECORDS] {
        let path = format!("/v1/cdr/records/{}", cdr_id(number));
        let mut whole = SERVICE.get(&path).body;
        let personal = take_personal(&mut whole);
        assert_eq!(
            jcs_hash(&personal),
            whole["personalHash"],
            "with the salt, the numbers are those of the row"
        );
        let mut masked = SERVICE.get_as(&path, &["cdr:read"]).body;
        let shown = take_personal(&mut masked);
        assert_eq!(masked.as_object_mut().unwrap().remove("masked"), Some(json!(true)));
        assert_eq!(masked, whole, "everything else is shown to everybody");
        assert!(shown.get("salt").is_none() && shown["calledPartyAddress"] != personal["calledPartyAddress"]);
        let row_hash = masked.as_object_mut().unwrap().remove("rowHash").unwrap();
        assert_eq!(jcs_hash(&masked), row_hash);

        let trust = Trust { cluster_id: "test".to_owned(), root_public_key: SERVICE.root_public_key };
        let text = SERVICE.get_as(&format!("{path}/proof"), &["cdr:read"]).text;
        assert!(!text.contains(&recipient(number)) && !text.contains("salt"), "{text}");
        let proof: PortableProof = serde_json::from_str(&text).unwrap();
        proof.verify(&trust).unwrap();
        assert!(proof.withholds_personal());
        let mut lied = proof.clone();
        lied.personal = Some(shown);
        assert!(lied.verify(&trust).unwrap_err().to_string().contains("salt"), "masked values prove nothing");
        lied.personal = Some(personal);
        lied.verify(&trust).unwrap();
    }
}

#[test]
fn a_proof_file_convinces_whoever_knows_the_root_key() {
    for number in [1, 7, RECORDS] {
        let answer = SERVICE.get(&format!("/v1/cdr/records/{}/proof", cdr_id(number)));
        let proof: PortableProof =
            serde_json::from_str(&answer.text).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
        let trust = Trust { cluster_id: "test".to_owned(), root_public_key: SERVICE.root_public_key };
        proof.verify(&trust).unwrap();
        assert_eq!(proof.row["cdrId"], cdr_id(number).to_string());
        let mut changed = proof.clone();
        changed.row["chargeAmount"] = json!("0.000000");
        changed.verify(&trust).unwrap_err();
    }
}

#[test]
fn a_row_is_verified_against_its_stored_hash() {
    let id = cdr_id(5).to_string();
    let record = SERVICE.get(&format!("/v1/cdr/records/{id}")).body;
    let answer = SERVICE.post("/v1/cdr/verify", &json!({"cdrId": id}));
    let expected = json!({
        "cdrId": id, "bucketHour": SEALED, "status": "VALID", "chainHashPrev": record["chainHashPrev"],
        "storedRowHash": record["rowHash"], "computedRowHash": record["rowHash"],
        "rowHash": record["rowHash"], "computedHash": record["rowHash"],
    });
    assert_eq!((answer.status, answer.body), (200, expected));
}

#[test]
fn an_hour_of_an_operator_is_verified_with_a_proof() {
    let id = cdr_id(14);
    let request = json!({"bucketHour": SEALED, "operatorId": "ETS", "proofForCdrId": id.to_string()});
    let answer = SERVICE.post("/v1/cdr/chain/verify", &request).body;
    let rollup = SERVICE.get(&format!("/v1/cdr/rollups/{SEALED}/ETS")).body;
    assert_eq!((&answer["verified"], &answer["depth"]), (&json!(true), &json!("rows")), "{answer}");
    for field in ["bucketRoot", "chainHash", "prevChainHash", "recordCount", "sealedAt", "signerKeyId"] {
        assert_eq!(answer[field], rollup[field], "{field}");
        assert!(!answer[field].is_null(), "{field}");
    }
    assert!(CdrId::parse_prefixed("roll_", rollup["rollupId"].as_str().unwrap()).is_some());
    let record = SERVICE.get(&format!("/v1/cdr/records/{id}")).body;
    let proof: InclusionProof = serde_json::from_value(answer["inclusionProof"].clone()).unwrap();
    let count = rollup["recordCount"].as_u64().unwrap();
    assert!(proof.verify(&hash(&record["rowHash"]), count, &hash(&rollup["bucketRoot"])));
    assert!(!proof.verify(&hash(&record["chainHashPrev"]), count, &hash(&rollup["bucketRoot"])));
}

#[test]
fn the_national_hour_is_verified_down_to_one_record() {
    let request = json!({"bucketHour": SEALED, "proofForCdrId": cdr_id(2).to_string(), "depth": "leaves"});
    let answer = SERVICE.post("/v1/cdr/chain/verify", &request).body;
    assert_eq!((&answer["verified"], &answer["depth"]), (&json!(true), &json!("leaves")), "{answer}");
    let chain = &answer["operatorChain"];
    let leaf = cdr_core::chain::national_leaf("AWCC", &hash(&chain["chainHash"]));
    let proof: InclusionProof = serde_json::from_value(answer["nationalProof"].clone()).unwrap();
    assert!(proof.verify(&leaf, 3, &hash(&answer["bucketRoot"])));
    let next = cdr_core::chain::next_chain(&hash(&answer["prevChainHash"]), &hash(&answer["bucketRoot"]));
    assert_eq!(next, hash(&answer["chainHash"]));
    let rows = SERVICE.get(&format!("/v1/cdr/completeness?bucketHour={SEALED}")).body["recordCount"].clone();
    assert_eq!(answer["recordCount"], rows);
}

#[test]
fn a_range_of_hours_is_verified() {
    for (body, operator) in [
        (json!({"from": SEALED, "to": EMPTY}), Value::Null),
        (
            json!({"bucketHourFrom": SEALED, "bucketHourTo": EMPTY, "operatorId": "AWCC", "depth": "rows"}),
            json!("AWCC"),
        ),
    ] {
        let answer = SERVICE.post("/v1/cdr/chain/verify/range", &body).body;
        assert_eq!(answer["verified"], true, "{answer}");
        assert_eq!((&answer["hours"], &answer["faults"]), (&json!(2), &json!([])));
        let mut last = json!({"bucketHour": EMPTY});
        if !operator.is_null() {
            last["operatorId"] = operator;
        }
        assert_eq!(answer["chainHash"], SERVICE.post("/v1/cdr/chain/verify", &last).body["chainHash"]);
    }
    let answer = SERVICE.post("/v1/cdr/chain/verify/range", &json!({"from": SEALED, "to": EMPTY})).body;
    assert_eq!(answer["depth"], "roots");
}

#[test]
fn rollups_list_every_operator_of_every_sealed_hour() {
    let rollups = walk("/v1/cdr/rollups?", 2);
    let places: Vec<(&str, &str)> = rollups
        .iter()
        .map(|r| (r["bucketHour"].as_str().unwrap(), r["operatorId"].as_str().unwrap()))
        .collect();
    let expected: Vec<(&str, &str)> = [SEALED, EMPTY]
        .into_iter()
        .flat_map(|hour| ["AWCC", "ETS", "_system"].map(|operator| (hour, operator)))
        .collect();
    assert_eq!(places, expected);
    for (first, second) in rollups.iter().zip(&rollups[3..]) {
        assert_eq!(second["prevChainHash"], first["chainHash"]);
        assert_eq!(second["prevBucketRoot"], first["bucketRoot"]);
    }
    let one = SERVICE.get(&format!("/v1/cdr/rollups?operatorId=ETS&bucketHourFrom={EMPTY}"));
    assert_eq!((one.items().len(), one.body["total"].as_u64()), (1, Some(1)));
    assert_eq!(one.items()[0], SERVICE.get(&format!("/v1/cdr/rollups/{EMPTY}/ETS")).body);
}

#[test]
fn completeness_and_keys() {
    let answer = SERVICE.get(&format!("/v1/cdr/completeness?bucketHour={SEALED}")).body;
    assert_eq!((&answer["addsUp"], &answer["clusterId"]), (&json!(true), &json!("test")));
    let statements = answer["completeness"].as_array().unwrap();
    let stream = statements.iter().find(|s| s["stream"] == "SMS_DLR_INBOUND").unwrap();
    assert_eq!((&stream["appended"], &stream["lastSequence"]), (&json!(RECORDS), &json!(RECORDS)));
    let keys = SERVICE.get("/v1/cdr/keys");
    assert_eq!(keys.items().len(), 1);
    let key = &keys.items()[0];
    assert_eq!(key["keyId"], answer["signerKeyId"]);
    assert_eq!((&key["algorithm"], &key["status"]), (&json!("Ed25519"), &json!("ACTIVE")));
    assert_eq!((&key["signsBefore"], &key["exportsBefore"]), (&json!(null), &json!(null)));
    assert!(answer["signature"].is_string());
}

#[test]
fn answers_say_who_gave_them_and_how_current_they_are() {
    for path in ["/v1/cdr/keys", "/v1/cdr/keys?consistency=stale", "/v1/cdr/nothing"] {
        let headers = SERVICE.get(path).headers;
        assert_eq!(headers["cdr-node"], "1");
        assert!(headers["cdr-applied-index"].parse::<u64>().unwrap() > 5);
        assert!(headers["x-trace-id"].starts_with("00-"));
    }
    let answer = SERVICE.get_with("/v1/cdr/keys", &[("x-trace-id", "case-4711")]);
    assert_eq!(answer.headers["x-trace-id"], "case-4711");
    assert_eq!(answer.body["error"]["traceId"], "case-4711");
}

#[test]
fn machines_that_watch_need_no_token() {
    assert_eq!(SERVICE.get_with("/health/live", &[]).status, 200);
    let ready = SERVICE.get_with("/health/ready", &[]);
    assert_eq!((ready.status, &ready.body["checks"]["quorum"]["status"]), (200, &json!("up")), "{ready:?}");
    SERVICE.get("/v1/cdr/keys");
    let metrics = SERVICE.get_with("/metrics", &[]);
    let value = |name: &str| -> u64 {
        let line = metrics
            .text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} is missing"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(metrics.headers["content-type"].starts_with("text/plain"));
    assert_eq!(value("cdr_raft_is_leader "), 1);
    assert_eq!(value("cdr_bucket_seal_overdue "), 0);
    // And the audit rows of what other tests verified.
    assert!(value("cdr_bucket_open_rows ") >= OPEN_RECORDS);
    assert!(
        value("cdr_api_request_seconds_count{method=\"GET\",route=\"/v1/cdr/keys\",status=\"200\"}") >= 1
    );
}

#[test]
fn changed_bytes_are_answered_as_a_mismatch_and_counted() {
    let dir = Service::build().close();
    let changed = flip_stored_text(&dir.path().join("store"), b"reference-33");
    assert!(changed > 0, "the row's text was not found in any table file");
    let service = Service::open(dir);
    let id = cdr_id(33).to_string();
    let row = service.post("/v1/cdr/verify", &json!({"cdrId": id}));
    assert_eq!((row.status, row.body["status"].as_str()), (200, Some("MISMATCH")), "{row:?}");
    let hour = service.post("/v1/cdr/chain/verify", &json!({"bucketHour": SEALED, "operatorId": "AWCC"}));
    assert_eq!((hour.status, &hour.body["verified"]), (200, &json!(false)), "{hour:?}");
    assert!(!hour.body["differences"].as_array().unwrap().is_empty());
    assert!(hour.body["bucketRoot"].is_string());
    let range =
        service.post("/v1/cdr/chain/verify/range", &json!({"from": SEALED, "to": EMPTY, "depth": "rows"}));
    assert_eq!((range.status, &range.body["verified"]), (200, &json!(false)), "{range:?}");
    let audit = service.get_as("/v1/cdr/audit", &["regulator-auditor"]);
    let noted: Vec<&Value> = audit.items().iter().collect();
    assert_eq!(noted.len(), 2, "{audit:?}");
    for (note, answer) in noted.iter().zip([&hour.body["differences"], &range.body["faults"]]) {
        assert_eq!(
            (&note["body"]["entryType"], &note["body"]["bucketHour"]),
            (&json!("CHAIN_BREAK_DETECTED"), &json!(SEALED))
        );
        assert_eq!(note["body"]["details"]["faultCount"], answer.as_array().unwrap().len());
        assert_eq!(note["details"]["faults"][0], answer[0]);
    }
    let metrics = service.get_with("/metrics", &[]).text;
    for what in ["row", "hour", "range"] {
        let line = format!("cdr_verification_mismatches_total{{what=\"{what}\"}} 1");
        assert!(metrics.contains(&line), "{what}: {metrics}");
    }
}

/// Changes the last byte of every occurrence of `text` in the table files below `dir`; how many there were.
fn flip_stored_text(dir: &std::path::Path, text: &[u8]) -> usize {
    let mut changed = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            changed += flip_stored_text(&path, text);
        } else if path.extension().is_some_and(|e| e == "sst") {
            let mut bytes = std::fs::read(&path).unwrap();
            let places: Vec<usize> =
                bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text).map(|(i, _)| i).collect();
            for place in &places {
                bytes[place + text.len() - 1] ^= 1;
            }
            std::fs::write(&path, bytes).unwrap();
            changed += places.len();
        }
    }
    changed
}
