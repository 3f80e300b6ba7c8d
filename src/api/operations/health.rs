//! `/health/live`, `/health/ready` and `/metrics`: for machines that watch, without a token.

use crate::api::http::Service;
use crate::api::http::error::ApiError;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use cdr_core::Millis;
use cdr_core::time::DAY_MS;
use cdr_raft::Alarm;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a leader may take to confirm that a quorum is there.
const QUORUM_PATIENCE: Duration = Duration::from_secs(2);

/// The most records in quarantine that are counted.
const QUARANTINE_COUNTED: usize = 1_000;

/// The process answers.
pub(in crate::api) async fn live(State(service): State<Service>) -> Response<Body> {
    respond(StatusCode::OK, &json!({ "status": "live", "node": service.ledger.node.node_id() }))
}

/// Ready while there is a quorum and the store works; a replica that was elected only while it does a leader's work. What
/// else the node depends on is reported beside it: queries do without.
pub(in crate::api) async fn ready(State(service): State<Service>) -> Response<Body> {
    let ledger = &service.ledger;
    let confirmed = match tokio::time::timeout(QUORUM_PATIENCE, ledger.node.read_barrier()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no leader confirmed a quorum within {} s", QUORUM_PATIENCE.as_secs())),
    };
    let raft = ledger.node.metrics();
    let quorum = confirmed.and_then(|()| {
        if raft.is_unconfirmed() {
            return Err("this replica was elected, but does not lead yet, or no longer".to_owned());
        }
        Ok(())
    });
    let storage = match ledger.node.failure().or_else(|| ledger.store.poisoned()) {
        None => Ok(()),
        Some(reason) => Err(reason),
    };
    let is_ready = quorum.is_ok() && storage.is_ok();
    let mut checks = json!({ "quorum": check(quorum), "storage": check(storage) });
    for (name, outcome) in ledger.metrics.dependencies() {
        checks[name] = check(outcome);
    }
    let state = ledger.store.state();
    let body = json!({
        "status": if is_ready { "ready" } else { "not ready" },
        "node": raft.node_id,
        "role": raft.state,
        "leader": raft.leader,
        "appliedIndex": raft.applied_index,
        "restricted": raft.restricted,
        "build": ledger.node.build().to_string(),
        "rules": state.head.rules,
        "openHour": state.cluster.as_ref().map(|_| state.head.open_hour),
        "alarms": ledger.node.alarms().iter().map(alarm).collect::<Vec<Value>>(),
        "checks": checks,
    });
    respond(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

/// A replica that can't take part, and what to do about it.
fn alarm(alarm: &Alarm) -> Value {
    json!({ "node": alarm.node, "grounds": alarm.grounds.as_str(), "reason": alarm.reason })
}

fn check(outcome: Result<(), String>) -> Value {
    match outcome {
        Ok(()) => json!({ "status": "up" }),
        Err(reason) => json!({ "status": "down", "reason": reason }),
    }
}

fn respond(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Every figure, in Prometheus' text format.
pub(in crate::api) async fn metrics(State(service): State<Service>) -> Result<Response<Body>, ApiError> {
    let ledger = &service.ledger;
    let (state, node, store) = (ledger.store.state(), ledger.node.metrics(), ledger.store.metrics());
    let since = Millis(ledger.clock.now().0 - DAY_MS);
    ledger.metrics.quarantined(ledger.store.quarantined_since(since, QUARANTINE_COUNTED)?);
    let text =
        ledger.metrics.render(ledger.clock.now(), &state, &node, &store).map_err(ApiError::internal)?;
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
