//! Real answers against the OpenAPI document that the API serves.

use crate::HOUSE;
use crate::adjustments::{DESK, adjust, correction, path_of, rerate_body, void};
use crate::house::{Answer, EMPTY, OPEN, RECORDS, SEALED, cdr_id};
use cdr_core::CdrId;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The document, with every object closed: an answer must hold nothing that is not described.
fn document() -> Value {
    let mut document = HOUSE.get_as("/v1/cdr/openapi.json", &[]).body;
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

fn check(document: &Value, method: &str, path: &str, answer: &Answer) {
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
        HOUSE.get(&format!("/v1/cdr/records/{}", cdr_core::CdrId::from_parts(1_776_690_000_000, [0; 10])));
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
        check(&document, "get", path, &HOUSE.get(&format!("{stem}{rest}")));
        asked.insert(("get", path));
    }
    let masked = HOUSE.get_as(&format!("/v1/cdr/records/{first}"), &["cdr:read"]);
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
        check(&document, "post", path, &HOUSE.post(path, &body));
        asked.insert(("post", path));
    }
    let large = HOUSE.post_as("/v1/cdr/verify", &[b' '; 5000], &["cdr:read"]);
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
                .replace("{jobId}", &cdr_id(1).with_prefix("adjjob_"));
            let ask = |scopes: &[&str]| match method.as_str() {
                "get" => HOUSE.get_as(&url, scopes),
                "post" => HOUSE.post_as(&url, b"{}", scopes),
                other => panic!("{path}: {other} is not asked here"),
            };
            let nobody = match method.as_str() {
                "get" => HOUSE.get_with(&url, &[]),
                _ => HOUSE.post_with(&url, b"{}", &[]),
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
