//! `GET /v1/cdr/openapi.json`: the OpenAPI 3.1 document, `docs/openapi.json`.
//!
//! The document is written by hand, beside the code, and compared with it: the tests below compare its paths, methods and
//! parameters with what is routed and read, those of `tests/api` its schemas and scopes with real answers. A new
//! endpoint is a line in [`mod@crate::api::http::paths`] and an entry in the document; a test names whichever is missing.

use crate::api::http::Service;
use crate::api::http::access::Caller;
use crate::api::http::answer::Answer;
use axum::extract::State;

/// The document.
const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

/// The document, for every caller with a valid token.
pub(in crate::api) async fn document(State(service): State<Service>, _: Caller) -> Answer {
    Answer::raw(DOCUMENT.as_bytes().to_vec(), service.ledger.node.applied_index())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::integrity::rollups;
    use crate::api::operations::audit;
    use crate::api::paths;
    use crate::api::records::query;
    use crate::api::settlement::{delivery_log, exports, quarantine, reconciliation};
    use crate::auth::ALL_SCOPES;
    use cdr_core::rules::SchemaVersion;
    use cdr_core::schema::Field;
    use serde_json::{Map, Value};
    use std::collections::BTreeSet;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths: &Map<String, Value> = document["paths"].as_object().unwrap();
        paths.iter().flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .iter()
                .map(|(method, operation)| (path.as_str(), method.as_str(), operation))
        })
    }

    /// What a reference leads to, or the value itself.
    fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(target) => document.pointer(target.strip_prefix('#').unwrap()).unwrap(),
            None => value,
        }
    }

    /// Names of an operation's parameters at a place.
    fn parameters<'a>(document: &'a Value, operation: &'a Value, place: &str) -> BTreeSet<&'a str> {
        let listed = operation["parameters"].as_array().into_iter().flatten();
        let found = listed.map(|parameter| resolved(document, parameter)).filter(|p| p["in"] == place);
        found.map(|parameter| parameter["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn every_path_and_method_is_in_the_document_and_routed() {
        let document = document();
        let documented: BTreeSet<_> = operations(&document).map(|(path, method, _)| (path, method)).collect();
        let routes = paths();
        let routed: BTreeSet<_> = routes.known().iter().copied().collect();
        let missing: Vec<_> = routed.difference(&documented).collect();
        assert!(missing.is_empty(), "routed, but not in docs/openapi.json: {missing:?}");
        let unknown: Vec<_> = documented.difference(&routed).collect();
        assert!(unknown.is_empty(), "in docs/openapi.json, but not routed: {unknown:?}");
    }

    #[test]
    fn every_operation_says_what_callers_need() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let name = format!("{method} {path}");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap()),
                "{name}: its operationId is taken"
            );
            assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 10), "{name}: no summary");
            let in_path: BTreeSet<&str> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.split_once('}').map(|(name, _)| name))
                .collect();
            assert_eq!(parameters(&document, operation, "path"), in_path, "{name}");
            let security = operation["security"].as_array().unwrap();
            let has_token = path.starts_with("/v1/");
            assert_eq!(!security.is_empty(), has_token, "{name}: security");
            assert_eq!(operation["responses"].get("401").is_some(), has_token, "{name}: 401");
            let schemes = security.iter().flat_map(|item| item.as_object().unwrap());
            let known = |scheme: &str| !document["components"]["securitySchemes"][scheme].is_null();
            let scopes =
                schemes.inspect(|(scheme, _)| assert!(known(scheme), "{name}: {scheme} is not described"));
            for scope in scopes.flat_map(|(_, scopes)| scopes.as_array().unwrap()) {
                assert!(ALL_SCOPES.contains(&scope.as_str().unwrap()), "{name}: there is no scope {scope}");
                assert!(operation["responses"].get("403").is_some(), "{name}: 403");
            }
        }
    }

    #[test]
    fn parameters_of_lists_are_those_that_are_read() {
        let document = document();
        for (path, read) in [
            ("/v1/cdr/records", query::PARAMETERS),
            ("/v1/cdr/adjustments", query::PARAMETERS),
            ("/v1/cdr/rollups", rollups::PARAMETERS),
            ("/v1/cdr/audit", audit::PARAMETERS),
            ("/v1/cdr/reconciliation", reconciliation::PARAMETERS),
            ("/v1/cdr/exports", exports::PARAMETERS),
            ("/v1/cdr/exports/{exportId}/delivery-log", delivery_log::PARAMETERS),
            ("/v1/cdr/quarantine", quarantine::PARAMETERS),
        ] {
            let read: BTreeSet<&str> = read.iter().copied().chain(["consistency"]).collect();
            assert_eq!(parameters(&document, &document["paths"][path]["get"], "query"), read, "{path}");
        }
    }

    #[test]
    fn correctable_fields_are_those_of_the_document() {
        let document = document();
        let fields = document["components"]["schemas"]["CorrectedFields"]["properties"].as_object().unwrap();
        let correctable = Field::correctable(SchemaVersion::V2).map(Field::name);
        assert!(fields.keys().map(String::as_str).eq(correctable), "{fields:?}");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_component_is_used() {
        let document = document();
        let mut used = BTreeSet::new();
        let mut left = vec![&document];
        while let Some(value) = left.pop() {
            if let Some(target) = value["$ref"].as_str() {
                assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target} is not there");
                used.insert(target);
            }
            match value {
                Value::Object(fields) => left.extend(fields.values()),
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
        for kind in ["schemas", "parameters", "responses", "headers"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                let target = format!("#/components/{kind}/{name}");
                assert!(used.contains(target.as_str()), "nothing refers to {target}");
            }
        }
    }
}
