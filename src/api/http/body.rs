//! Bodies of requests that change something, and the headers that go with them.

use super::Service;
use super::error::ApiError;
use super::layer::TraceId;
use super::ledger::Ledger;
use crate::acts::Act;
use crate::texts;
use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use cdr_core::Hash;
use cdr_core::canonical::to_jcs;
use cdr_core::hash::{sha256, to_hex};
use cdr_core::json::{MAX_BYTES, members};
use serde_json::{Map, Value};

/// Longest key that a client may choose, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// The whole body.
///
/// # Errors
/// 413 beyond the configured size.
pub(in crate::api) async fn read_body(ledger: &Ledger, body: axum::body::Body) -> Result<Bytes, ApiError> {
    let limit_bytes = ledger.max_body_bytes;
    to_bytes(body, limit_bytes).await.map_err(|_| ApiError::TooLarge { limit_bytes })
}

/// A whole body.
pub(in crate::api) struct Body(Bytes);

impl FromRequest<Service> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, service: &Service) -> Result<Self, ApiError> {
        Ok(Self(read_body(&service.ledger, request.into_body()).await?))
    }
}

/// The fields of a body. Those that are kept as they were sent are texts of JSON here.
pub(in crate::api) struct Object(Map<String, Value>);

impl std::ops::Deref for Object {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl Body {
    /// The body as a JSON object with `known` fields only.
    ///
    /// # Errors
    /// 400 naming the field, or `body`.
    pub(in crate::api) fn object(&self, known: &[&str]) -> Result<Object, ApiError> {
        self.object_keeping(known, "")
    }

    /// The same; what is under `kept` becomes the text of the bytes that were sent, unless it is null: whatever
    /// numbers it holds, nothing of it changes.
    ///
    /// # Errors
    /// As [`Body::object`].
    pub(in crate::api) fn object_keeping(&self, known: &[&str], kept: &str) -> Result<Object, ApiError> {
        let mut fields = Map::new();
        for (name, value) in members(&self.0, MAX_BYTES).map_err(ApiError::of_body)? {
            if !known.contains(&&*name) {
                let message = format!("unknown field; known here: {}", known.join(", "));
                return Err(ApiError::invalid(name, message));
            }
            let value = if name == kept && !value.is_null() {
                Value::String(value.text().to_owned())
            } else {
                value.value().map_err(|error| ApiError::invalid(&*name, error.to_string()))?
            };
            fields.insert(name.into_owned(), value);
        }
        Ok(Object(fields))
    }

    /// The same of a body that may be absent.
    ///
    /// # Errors
    /// As [`Body::object`].
    pub(in crate::api) fn optional_object(&self, known: &[&str]) -> Result<Object, ApiError> {
        if self.0.is_empty() { Ok(Object(Map::new())) } else { self.object(known) }
    }
}

impl Object {
    /// Hash of the request: `what`, and the fields whatever their order.
    ///
    /// # Errors
    /// 400 if the fields have no canonical form.
    pub(in crate::api) fn hash(&self, what: &str) -> Result<Hash, ApiError> {
        let fields = to_jcs(&self.0).map_err(|e| ApiError::invalid("body", e))?;
        Ok(sha256(&[what.as_bytes(), &[0], &fields].concat()))
    }
}

/// A text of a body, in words; null and blank ones count as absent.
///
/// # Errors
/// 400 naming it.
pub(in crate::api) fn text(body: &Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    text_of(body, name, texts::REASON, texts::is_reason)
}

/// The ticket that a body names.
///
/// # Errors
/// 400 naming it.
pub(in crate::api) fn ticket(body: &Map<String, Value>) -> Result<Option<String>, ApiError> {
    text_of(body, "ticketId", texts::TICKET, texts::is_ticket)
}

/// A text of a body that fits `rule`, which is `expected`; null and blank ones count as absent.
///
/// # Errors
/// 400 naming it.
pub(in crate::api) fn text_of(
    body: &Map<String, Value>,
    name: &str,
    expected: &str,
    rule: impl FnOnce(&str) -> bool,
) -> Result<Option<String>, ApiError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) if rule(text) => Ok(Some(text.clone())),
        Some(_) => Err(ApiError::invalid(name, format!("{expected} is expected"))),
    }
}

/// Headers of a request that changes something.
pub(in crate::api) struct Headers {
    /// Trace of the request.
    pub(in crate::api) trace_id: String,
    headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Headers {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let trace_id = parts.extensions.get::<TraceId>().map_or_else(String::new, |trace| trace.0.clone());
        Ok(Self { trace_id, headers: parts.headers.clone() })
    }
}

impl Headers {
    /// Text of a header.
    ///
    /// # Errors
    /// 400 naming it if it is not text, or is given twice.
    pub(in crate::api) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.headers.get_all(name).into_iter();
        let (first, second) = (values.next(), values.next());
        if second.is_some() {
            return Err(ApiError::invalid(name, "it is given twice"));
        }
        first
            .map(|value| value.to_str().map_err(|_| ApiError::invalid(name, "it is not plain ASCII")))
            .transpose()
    }

    /// Key under which `actor`'s request may be repeated: from `Idempotency-Key`, or one of its own.
    ///
    /// # Errors
    /// 400 for a key that is empty or too long.
    pub(in crate::api) fn request_key(&self, actor: &str) -> Result<Hash, ApiError> {
        match self.text("Idempotency-Key")? {
            Some(key) if (1..=MAX_KEY_BYTES).contains(&key.len()) => Ok(Act::key_of(actor, key)),
            Some(_) => Err(ApiError::invalid("Idempotency-Key", format!("1 to {MAX_KEY_BYTES} characters"))),
            None => own_key(),
        }
    }
}

/// A key that is unique, for a request that its client does not repeat.
///
/// # Errors
/// 500 if the operating system gives no random bytes.
pub(in crate::api) fn own_key() -> Result<Hash, ApiError> {
    let mut random = [0u8; 32];
    getrandom::fill(&mut random).map_err(ApiError::internal)?;
    Ok(Act::key_of("", &to_hex(&random)))
}
