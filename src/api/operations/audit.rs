//! `GET /v1/cdr/audit`: who did what (the audit rows of the chain).

use crate::api::http::Service;
use crate::api::http::access::Caller;
use crate::api::http::answer::Answer;
use crate::api::http::cursor::List;
use crate::api::http::error::ApiError;
use crate::api::records::query::ListRequest;
use crate::auth::{SCOPE_ADMIN, SCOPE_AUDIT, SCOPE_PII};
use axum::extract::State;
use axum::http::Uri;
use cdr_core::row::SystemKind;
use cdr_storage::RowKind;

/// What the list can be narrowed and paged by.
pub(in crate::api) const PARAMETERS: &[&str] = &["bucketHourFrom", "bucketHourTo", "cursor", "limit"];

/// Lists audit rows, oldest first.
pub(in crate::api) async fn list(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let scope = if caller.has(SCOPE_AUDIT) { SCOPE_AUDIT } else { SCOPE_ADMIN };
    let (input, read) = service.ledger.read(&caller, scope, &uri, PARAMETERS)?;
    let of_kind = Some(RowKind::System(SystemKind::Audit));
    let request = ListRequest::parse(input, caller.has(SCOPE_PII), List::Audit, of_kind)?;
    let budget = service.ledger.scan_budget;
    read.raw(move |store| request.answer(store, budget)).await
}
