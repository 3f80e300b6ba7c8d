//! Real answers against the OpenAPI document that the API serves.

use crate::api::SERVICE;
use crate::api::adjustments::{DESK, adjust, correction, path_of, rerate_body, void};
use crate::api::exports::{
    FILES, Opened, delivered, encode, failed, get as files_get, post as files_post, sign,
};
use crate::api::service::{Answer, EMPTY, OPEN, RECORDS, SEALED, cdr_id};
use cdr_core::CdrId;
use cdr_core::row::SystemKind;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The document, with every object closed: an answer must hold nothing that is not described.
pub fn document() -> Value {
    let mut document = SERVICE.get_as("/v1/cdr/openapi.json", &[]).body;
    let mut left = vec![&mut document["components"]["schemas"]];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                if fields.get("properties").is_some_and(Value::is_object)
                    && fields.get("type") == Some(&json!("object"))
                {
                    fields.entry("additionalProperties").or_insert(json!(false));
                }
                left.extend(fields.values_mut());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    // Itself it describes only roughly.
    document["components"]["schemas"]["OpenApi"]["additionalProperties"] = json!(true);
    document
}

pub fn check(document: &Value, method: &str, path: &str, answer: &Answer) {
    let name = format!("{method} {path}, {}", answer.status);
    let response = &document["paths"][path][method]["responses"][answer.status.to_string()];
    let response = match response["$ref"].as_str() {
        Some(target) => document.pointer(&target[1..]).unwrap(),
        None => response,
    };
    assert!(response.is_object(), "{name} is not described: {}", answer.text);
    let headers: &Map<String, Value> = response["headers"].as_object().unwrap();
    for header in headers.keys() {
        assert!(answer.headers.contains_key(&header.to_ascii_lowercase()), "{name}: no header {header}");
    }
    let (kind, content) = response["content"].as_object().unwrap().iter().next().unwrap();
    assert!(answer.headers["content-type"].starts_with(kind.as_str()), "{name}: {:?}", answer.headers);
    if kind != "application/json" {
        return;
    }
    let mut schema = content["schema"].clone();
    schema["components"] = document["components"].clone();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&answer.body).map(|e| format!("{} at {}", e, e.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{}", answer.text);
}

#[test]
fn answers_are_as_the_document_says() {
    let document = document();
    let (first, unknown, open) = (cdr_id(1), cdr_id(99_999), cdr_id(RECORDS + 1));
    let system =
        SERVICE.get(&format!("/v1/cdr/records/{}", cdr_core::CdrId::from_parts(1_776_690_000_000, [0; 10])));
    assert_eq!(system.body["recordType"], "operator");
    check(&document, "get", "/v1/cdr/records/{cdrId}", &system);
    let gets = [
        ("/v1/cdr/records", String::new()),
        ("/v1/cdr/records", "?limit=501".to_owned()),
        ("/v1/cdr/records/{cdrId}", format!("{first}")),
        ("/v1/cdr/records/{cdrId}", "cdr_1".to_owned()),
        ("/v1/cdr/records/{cdrId}", format!("{unknown}")),
        ("/v1/cdr/records/{cdrId}/proof", format!("{first}/proof")),
        ("/v1/cdr/records/{cdrId}/proof", format!("{open}/proof")),
        ("/v1/cdr/rollups", "?limit=2".to_owned()),
        ("/v1/cdr/rollups/{bucketHour}/{operatorId}", format!("{SEALED}/AWCC")),
        ("/v1/cdr/rollups/{bucketHour}/{operatorId}", format!("{OPEN}/AWCC")),
        ("/v1/cdr/completeness", format!("?bucketHour={SEALED}")),
        ("/v1/cdr/reconciliation", String::new()),
        ("/v1/cdr/reconciliation", "?limit=0".to_owned()),
        ("/v1/cdr/keys", String::new()),
        ("/v1/cdr/openapi.json", String::new()),
        ("/health/live", String::new()),
        ("/health/ready", String::new()),
        ("/metrics", String::new()),
    ];
    let mut asked = BTreeSet::new();
    for (path, rest) in gets {
        let stem = path.split('{').next().unwrap();
        check(&document, "get", path, &SERVICE.get(&format!("{stem}{rest}")));
        asked.insert(("get", path));
    }
    let masked = SERVICE.get_as(&format!("/v1/cdr/records/{first}"), &["cdr:read"]);
    assert_eq!(masked.body["masked"], true);
    check(&document, "get", "/v1/cdr/records/{cdrId}", &masked);
    let posts = [
        ("/v1/cdr/verify", json!({"cdrId": first.to_string()})),
        ("/v1/cdr/verify", json!({"cdrId": unknown.to_string()})),
        ("/v1/cdr/chain/verify", json!({"bucketHour": SEALED, "proofForCdrId": first.to_string()})),
        ("/v1/cdr/chain/verify", json!({"bucketHour": OPEN})),
        ("/v1/cdr/chain/verify/range", json!({"from": SEALED, "to": EMPTY})),
        ("/v1/cdr/chain/verify/range", json!({"from": EMPTY, "to": SEALED})),
    ];
    for (path, body) in posts {
        check(&document, "post", path, &SERVICE.post(path, &body));
        asked.insert(("post", path));
    }
    let large = SERVICE.post_as("/v1/cdr/verify", &[b' '; 5000], &["cdr:read"]);
    assert_eq!(large.status, 413);
    check(&document, "post", "/v1/cdr/verify", &large);
    assert!(asked.len() >= 13, "every endpoint of this test's ledger is asked: {asked:?}");
}

#[test]
fn adjustments_are_answered_as_the_document_says() {
    let document = document();
    let chain = "/v1/cdr/{cdrId}/adjustments";
    let fine = correction(&json!({"segmentCount": 2}));
    let post = |id: CdrId, body: &Value, status: u16| {
        let answer = adjust(id, body);
        assert_eq!(answer.status, status, "{answer:?}");
        check(&document, "post", chain, &answer);
    };
    post(cdr_id(501), &fine, 201);
    post(cdr_id(501), &void(), 201);
    post(cdr_id(501), &void(), 409);
    post(cdr_id(501), &json!({"type": "VOID", "voidReason": "X"}), 422);
    post(cdr_id(502), &correction(&json!({"cdrId": "x"})), 400);
    post(cdr_id(99_999), &fine, 404);
    for scopes in [&["cdr:read"][..], &["cdr:read", "cdr:pii"]] {
        let answer = DESK.get_as(&path_of(cdr_id(501)), scopes);
        assert_eq!(answer.items().len(), 2);
        check(&document, "get", chain, &answer);
    }
    check(&document, "get", chain, &DESK.get(&path_of(cdr_id(99_999))));
    check(&document, "get", "/v1/cdr/adjustments", &DESK.get("/v1/cdr/adjustments"));
    check(&document, "get", "/v1/cdr/adjustments", &DESK.get("/v1/cdr/adjustments?limit=0"));
    let verified = DESK.post("/v1/cdr/chain/verify", &json!({"bucketHour": SEALED}));
    check(&document, "post", "/v1/cdr/chain/verify", &verified);
    let audit = DESK.get_as("/v1/cdr/audit", &["cdr:admin"]);
    assert!(audit.items().len() >= 3);
    check(&document, "get", "/v1/cdr/audit", &audit);
    check(&document, "get", "/v1/cdr/audit", &DESK.get_as("/v1/cdr/audit?limit=0", &["cdr:admin"]));

    let rerate = "/v1/cdr/adjustments/rerate";
    let start = |body: &Value, status: u16| {
        let answer = DESK.post_as(rerate, body.to_string().as_bytes(), &["cdr:write"]);
        assert_eq!(answer.status, status, "{answer:?}");
        check(&document, "post", rerate, &answer);
        answer.body["jobId"].as_str().unwrap_or_default().to_owned()
    };
    let job = start(&rerate_body(&json!({"operatorId": "ETS"})), 202);
    start(&rerate_body(&json!({"operatorId": "NOBODY"})), 400);
    start(&json!({"filter": {"operatorId": "ETS"}}), 422);
    let jobs = "/v1/cdr/adjustments/jobs/{jobId}";
    check(&document, "get", jobs, &DESK.get(&jobs.replace("{jobId}", &job)));
    check(&document, "get", jobs, &DESK.get(&jobs.replace("{jobId}", &cdr_id(1).with_prefix("adjjob_"))));
}

#[test]
fn settlement_files_are_answered_as_the_document_says() {
    let document = document();
    let file = Opened::of("document", "2026-04-10", 1).open(&FILES);
    let unknown = CdrId([1; 16]).with_prefix("exp_");
    let of = |rest: &str, name: &str| format!("exports/{name}{rest}");
    let asked = |path: &str, url: &str| check(&document, "get", &format!("/v1/cdr/{path}"), &files_get(url));
    let acted = |path: &str, url: &str, body: &Value, scope: &str, status: u16| {
        let answer = files_post(url, body, &[scope], &[]);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        check(&document, "post", &format!("/v1/cdr/{path}"), &answer);
    };
    let (admin, regulator, empty) = ("cdr:admin", "cdr:regulator-ack", json!({}));
    let shown = || {
        for url in ["exports", "exports?recordingEntity=document", "exports?limit=0"] {
            asked("exports", url);
        }
        asked("exports/{exportId}", &of("", &file));
        asked("exports/{exportId}/delivery-log", &of("/delivery-log", &file));
    };
    shown();
    acted("exports/{exportId}/redrop", &of("/redrop", &file), &empty, admin, 409);
    encode(&FILES, &file);
    sign(&FILES, &file);
    failed(&FILES, &file, "no answer");
    let exhausted = json!({"step": "EXHAUSTED", "exportId": file, "retryCount": 1, "reason": "no answer"});
    FILES.append(SystemKind::Delivery, &exhausted);
    shown();
    delivered(&FILES, &file);
    let ack = json!({"atraReceiptId": "R", "status": "REJECTED", "rejectionReason": "SCHEMA_MISMATCH", "payload": 1});
    let acks = "exports/{exportId}/mark-acked";
    acted(acks, &of("/mark-acked", &file), &empty, regulator, 400);
    acted(acks, &of("/mark-acked", &file), &ack, regulator, 200);
    acted(acks, &of("/mark-acked", &file), &ack, regulator, 409);
    acted(acks, &of("/mark-acked", &unknown), &ack, regulator, 404);
    shown();
    acted("exports/{exportId}/redrop", &of("/redrop", &file), &empty, admin, 202);
    acted("exports/{exportId}/redrop", &of("/redrop", &unknown), &empty, admin, 404);
    asked("exports/{exportId}", &of("", &unknown));
    asked("exports/{exportId}/delivery-log", &of("/delivery-log", &unknown));
    shown();

    let trigger = json!({
        "exportType": "RAP_1_5", "settlementDay": "2026-04-18", "operatorId": "ETS", "schemaVariant": "tap-b",
        "reason": "asked for",
    });
    acted("exports/trigger", "exports/trigger", &trigger, admin, 202);
    acted("exports/trigger", "exports/trigger", &empty, admin, 400);
    let mut other = trigger;
    other["schemaVariant"] = json!("tap-z");
    acted("exports/trigger", "exports/trigger", &other, admin, 422);

    // Record 9 has a sender that the series' variant can't express.
    let [fit, unfit] = [8, 9].map(|number| {
        let body = json!({
            "step": "QUARANTINED", "cdrId": cdr_id(number).to_string(), "encoderError": "no", "exportId": file,
            "operatorId": "AWCC", "schemaVariant": "tap-b", "series": "clearing",
        });
        FILES.append(SystemKind::Quarantine, &body).with_prefix("qua_")
    });
    let entry = |verb: &str, name: &str, status: u16| {
        let path = format!("quarantine/{{quarantineId}}/{verb}");
        acted(&path, &format!("quarantine/{name}/{verb}"), &empty, admin, status);
    };
    entry("resubmit", &unfit, 422);
    entry("resubmit", &fit, 200);
    entry("resubmit", &fit, 409);
    entry("discard", &unfit, 200);
    entry("discard", &unfit, 409);
    for verb in ["resubmit", "discard"] {
        entry(verb, &CdrId([1; 16]).with_prefix("qua_"), 404);
    }
    asked("quarantine", "quarantine");
    asked("quarantine", "quarantine?unresolved=maybe");

    asked("regulator-schemas", "regulator-schemas");
    for variant in ["tap-a", "tap-b", "tap-z"] {
        let url = format!("regulator-schemas/{variant}/validate");
        asked("regulator-schemas/{variant}/validate", &url);
    }
    let activate = |variant: &str, approver: Option<&str>, status: u16| {
        let token = approver.map(|who| FILES.issuer.token(who, &[admin], 600).unwrap());
        let headers: Vec<(&str, &str)> =
            token.as_deref().map(|token| ("X-Approver-Jwt", token)).into_iter().collect();
        let answer = files_post(&format!("regulator-schemas/{variant}:activate"), &empty, &[admin], &headers);
        assert_eq!(answer.status, status, "{answer:?}");
        check(&document, "post", "/v1/cdr/regulator-schemas/{variant}:activate", &answer);
    };
    activate("tap-a", None, 403);
    activate("tap-a", Some("approver"), 409);
    activate("tap-z", Some("approver"), 404);
}

#[test]
fn scopes_are_those_of_the_document() {
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if !path.starts_with("/v1/") {
                continue;
            }
            let url = path
                .replace("{cdrId}", &cdr_id(1).to_string())
                .replace("{bucketHour}", SEALED)
                .replace("{operatorId}", "AWCC")
                .replace("{jobId}", &cdr_id(1).with_prefix("adjjob_"))
                .replace("{exportId}", &cdr_id(1).with_prefix("exp_"))
                .replace("{quarantineId}", &cdr_id(1).with_prefix("qua_"))
                .replace("{variant}", "tap-a");
            let ask = |scopes: &[&str]| match method.as_str() {
                "get" => SERVICE.get_as(&url, scopes),
                "post" => SERVICE.post_as(&url, b"{}", scopes),
                other => panic!("{path}: {other} is not asked here"),
            };
            let nobody = match method.as_str() {
                "get" => SERVICE.get_with(&url, &[]),
                _ => SERVICE.post_with(&url, b"{}", &[]),
            };
            assert_eq!((nobody.status, nobody.code()), (401, "UNAUTHENTICATED"), "{method} {path}");
            check(&document, method, path, &nobody);
            let without = ask(&["some:other"]);
            let required = operation["security"][0]["bearer"].as_array().unwrap();
            let Some(scope) = required.first().and_then(Value::as_str) else {
                assert_eq!(without.status, 200, "{method} {path} needs no scope: {without:?}");
                continue;
            };
            assert_eq!((without.status, without.code()), (403, "INSUFFICIENT_SCOPE"), "{method} {path}");
            assert_eq!(without.body["error"]["details"]["requiredScope"], scope, "{method} {path}");
            check(&document, method, path, &without);
        }
    }
}
