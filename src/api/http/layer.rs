//! Around every request: trace id, time, panics, headers, and the error envelope.

use super::Service;
use super::answer::{CDR_APPLIED_INDEX, CDR_NODE};
use super::error::ApiError;
use super::trace::{TRACE_ID, trace_id};
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

/// The trace of the request in hand.
#[derive(Clone, Debug)]
pub(in crate::api) struct TraceId(pub(in crate::api) String);

/// Answers a request whatever happens inside.
pub(in crate::api) async fn around(
    State(service): State<Service>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let ledger = &service.ledger;
    let trace_id = trace_id(request.headers());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |m| m.as_str().to_owned());
    let applied_index = ledger.node.applied_index();
    request.extensions_mut().insert(TraceId(trace_id.clone()));
    let response = caught(next.run(request)).await;
    let mut response = with_envelope(response, &trace_id, &route);
    let headers = response.headers_mut();
    headers.insert(CDR_NODE, HeaderValue::from(ledger.node.node_id()));
    headers.entry(CDR_APPLIED_INDEX).or_insert_with(|| HeaderValue::from(applied_index));
    if let Ok(value) = HeaderValue::from_str(&trace_id) {
        headers.insert(TRACE_ID, value);
    }
    ledger.metrics.request(method_label(&method), &route, response.status().as_u16(), started.elapsed());
    response
}

/// What `run` answers; a panic inside becomes an internal error. Nothing of a handler outlives its panic but the
/// shared ledger, in which no half-done change can be left. It is counted where every panic is, by the metrics.
async fn caught(run: impl Future<Output = Response>) -> Response {
    let outcome = AssertUnwindSafe(run).catch_unwind().await;
    outcome.unwrap_or_else(|_| ApiError::internal("the handler panicked").into_response())
}

/// Writes the error envelope into every answer that is an error without a body of its own.
fn with_envelope(mut response: Response, trace_id: &str, route: &str) -> Response {
    let error = response.extensions_mut().remove::<ApiError>();
    let has_body =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let Some(error) = error.or_else(|| if has_body { None } else { of_status(response.status()) }) else {
        return response;
    };
    match &error {
        ApiError::Internal { reason } => tracing::error!(trace_id, route, reason, "internal error"),
        ApiError::Unavailable { dependency, reason } => {
            tracing::warn!(trace_id, route, dependency, reason, "unavailable");
        }
        error => tracing::debug!(trace_id, route, ?error, "refused"),
    }
    *response.status_mut() = error.status();
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Body::from(error.envelope(trace_id));
    response
}

/// The error of an answer that the web framework gave by itself.
fn of_status(status: StatusCode) -> Option<ApiError> {
    match status {
        StatusCode::NOT_FOUND => Some(ApiError::UnknownPath),
        StatusCode::METHOD_NOT_ALLOWED => Some(ApiError::MethodNotAllowed),
        status if status.is_client_error() => Some(ApiError::invalid("request", "it can't be read")),
        status if status.is_server_error() => {
            Some(ApiError::internal(format!("answered with status {status}")))
        }
        _ => None,
    }
}

/// Methods are chosen by callers; only the usual ones get a label of their own.
fn method_label(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        _ => "other",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn text(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_not_told() {
        let response = caught(async { panic!("swordfish") }).await;
        let response = with_envelope(response, "trace", "/x");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let text = text(response).await;
        assert!(text.contains("\"code\":\"INTERNAL\"") && !text.contains("swordfish"), "{text}");
    }

    #[tokio::test]
    async fn errors_of_the_framework_get_the_envelope_and_answers_stay() {
        let framework = (StatusCode::UNPROCESSABLE_ENTITY, "no").into_response();
        let response = with_envelope(framework, "trace", "/x");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(text(response).await.contains("CDR_VALIDATION_FAILED"));
        let json = [(header::CONTENT_TYPE, "application/json")];
        let own = (StatusCode::SERVICE_UNAVAILABLE, json, "{}").into_response();
        assert_eq!(text(with_envelope(own, "trace", "/x")).await, "{}");
        assert_eq!(text(with_envelope("fine".into_response(), "trace", "/x")).await, "fine");
    }
}
