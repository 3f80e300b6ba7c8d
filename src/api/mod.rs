//! The HTTP API: queries and proofs, answered by any replica (API contract; no other module names axum).
//!
//! Reads are linearizable: before the store is read, [`cdr_raft::Node::read_barrier`] sees to it that this
//! replica has everything that was acknowledged before. `?consistency=stale` skips that. Every answer says in
//! `Cdr-Node` which replica gave it and in `Cdr-Applied-Index` at least how far that replica was.
//!
//! | rooms | hold |
//! |---|---|
//! | [`http`] | what every endpoint stands on: who asks and with which scopes, what is asked, what is answered, and the bounds on how many ask at once |
//! | [`records`] | records and their adjustments |
//! | [`integrity`] | what proves the chain: hours and their seals, proofs, verification |
//! | [`settlement`] | settlement files, quarantine, schema variants, reconciliation |
//! | [`operations`] | health, metrics, the audit log, the live feed, the OpenAPI document |
//!
//! A group uses `http` and [`records`], and no other.

mod http;
mod integrity;
mod operations;
mod records;
mod settlement;

pub use http::ledger::Ledger;
pub use http::mtls::MutualTls;

use crate::auth::Authenticator;
use axum::Router;
use http::Service;
use http::access::Shown;
use http::error::ApiError;
use http::layer;
use http::paths::{Paths, get, post};
use integrity::{chain, hours, proof, rollups, verify};
use operations::{audit, feed, health, openapi};
use records::{adjustments, query, rerate};
use settlement::{delivery_log, export_acts, export_files, exports, quarantine, reconciliation, schemas};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Where the API is served.
pub struct Doors {
    /// For callers with a bearer token.
    pub plain: TcpListener,
    /// To services that show a client certificate.
    pub mutual_tls: Option<MutualTls>,
}

/// Serves the API until the task is aborted.
///
/// # Errors
/// If a listener fails for good.
pub async fn serve(doors: Doors, ledger: Ledger, auth: Arc<Authenticator>) -> std::io::Result<()> {
    let router = router(ledger, auth);
    let plain = axum::serve(doors.plain, router.clone()).into_future();
    let Some(mutual_tls) = doors.mutual_tls else { return plain.await };
    let service = router.into_make_service_with_connect_info::<Shown>();
    let mutual_tls = axum::serve(mutual_tls, service).into_future();
    tokio::try_join!(plain, mutual_tls).map(|_| ())
}

/// Every path. What is added here must also be added to `docs/openapi.json`.
fn paths() -> Paths {
    Paths::default()
        .route("/v1/cdr/records", get(query::list))
        .route("/v1/cdr/records/{cdrId}", get(query::one))
        .route("/v1/cdr/records/{cdrId}/proof", get(proof::of_record))
        .route("/v1/cdr/{cdrId}/adjustments", post(adjustments::issue))
        .route("/v1/cdr/{cdrId}/adjustments", get(adjustments::of_record))
        .route("/v1/cdr/adjustments", get(adjustments::list))
        .route("/v1/cdr/adjustments/rerate", post(rerate::start))
        .route("/v1/cdr/adjustments/jobs/{jobId}", get(rerate::job))
        .route("/v1/cdr/audit", get(audit::list))
        .route("/v1/cdr/exports", get(exports::list))
        .route("/v1/cdr/exports/trigger", post(export_acts::trigger))
        .route("/v1/cdr/exports/{exportId}", get(exports::one))
        .route("/v1/cdr/exports/{exportId}/file", get(export_files::file))
        .route("/v1/cdr/exports/{exportId}/trace", get(export_files::trace))
        .route("/v1/cdr/exports/{exportId}/delivery-log", get(delivery_log::list))
        .route("/v1/cdr/exports/{exportId}/redrop", post(export_acts::redrop))
        .route("/v1/cdr/exports/{exportId}/mark-acked", post(export_acts::mark_acked))
        .route("/v1/cdr/quarantine", get(quarantine::list))
        .route("/v1/cdr/quarantine/{quarantineId}/resubmit", post(quarantine::resubmit))
        .route("/v1/cdr/quarantine/{quarantineId}/discard", post(quarantine::discard))
        .route("/v1/cdr/regulator-schemas", get(schemas::list))
        .route("/v1/cdr/regulator-schemas/{variant}/validate", get(schemas::validate))
        .route_as(
            "/v1/cdr/regulator-schemas/{variant}:activate",
            "/v1/cdr/regulator-schemas/{variant}",
            post(schemas::activate),
        )
        .route("/v1/cdr/rollups", get(rollups::list))
        .route("/v1/cdr/rollups/{bucketHour}/{operatorId}", get(rollups::one))
        .route("/v1/cdr/completeness", get(hours::completeness))
        .route("/v1/cdr/reconciliation", get(reconciliation::list))
        .route("/v1/cdr/keys", get(hours::keys))
        .route("/v1/cdr/events/stream", get(feed::stream))
        .route("/v1/cdr/verify", post(verify::record))
        .route("/v1/cdr/chain/verify", post(chain::hour))
        .route("/v1/cdr/chain/verify/range", post(chain::range))
        .route("/v1/cdr/openapi.json", get(openapi::document))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
}

/// Every path, with what is around every request.
fn router(ledger: Ledger, auth: Arc<Authenticator>) -> Router {
    let service = Service { ledger: Arc::new(ledger), auth };
    paths()
        .into_router()
        .fallback(|| async { ApiError::UnknownPath })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(axum::middleware::from_fn_with_state(service.clone(), layer::around))
        .with_state(service)
}
