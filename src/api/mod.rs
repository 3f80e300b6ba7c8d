//! The HTTP API: queries and proofs, answered by any replica (API contract; no other module names axum).
//!
//! A read is linearizable: before the store is looked at, [`cdr_raft::Node::read_barrier`] sees to it that this
//! replica has everything that was acknowledged before. `?consistency=stale` skips that. Every answer says in
//! `Cdr-Node` which replica gave it and in `Cdr-Applied-Index` at least how far that replica was.
//!
//! | module | holds |
//! |---|---|
//! | `ledger` | what handlers read from, and the bounds on how many do at once |
//! | `layer` | around every request: trace id, time, panics, the error envelope |
//! | `access`, `mtls` | who asks, with which scopes; connections with client certificates |
//! | `input`, `body`, `cursor` | parameters, fields, cursors |
//! | `answer`, `error`, `record` | what is written |
//! | `paths`, `openapi` | which paths there are, and the document that describes them |
//! | `approval` | four eyes |
//! | `records`, `adjustments`, `rerate`, `audit`, `proof`, `rollups`, `hours`, `reconciliation`, `verify`, `chain`, `health`, `feed`, `exports`, `export_files`, `export_acts`, `delivery_log`, `quarantine`, `schemas` | the endpoints |

mod access;
mod adjustments;
mod answer;
mod approval;
mod audit;
mod batching;
mod body;
mod chain;
mod cursor;
mod delivery_log;
mod error;
mod export_acts;
mod export_files;
mod export_view;
mod exports;
mod feed;
mod health;
mod hours;
mod input;
mod layer;
mod ledger;
mod mtls;
mod openapi;
mod paths;
mod proof;
mod quarantine;
mod reconciliation;
mod record;
mod records;
mod rerate;
mod rollups;
mod schemas;
mod trace;
mod verify;

pub use ledger::Ledger;
pub use mtls::MutualTls;

use crate::auth::Authenticator;
use access::Shown;
use axum::Router;
use error::ApiError;
use paths::{Paths, get, post};
use std::sync::Arc;
use tokio::net::TcpListener;

/// What every handler is given.
#[derive(Clone)]
struct Service {
    ledger: Arc<Ledger>,
    auth: Arc<Authenticator>,
}

/// Where the API is served.
pub struct Doors {
    /// To who sends a bearer token.
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

/// Every path. What is added here belongs into `docs/openapi.json`, too.
fn paths() -> Paths {
    Paths::default()
        .route("/v1/cdr/records", get(records::list))
        .route("/v1/cdr/records/{cdrId}", get(records::one))
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
