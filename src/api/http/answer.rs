//! Answers that succeed: JSON, and how far the replica was that gave it.

use super::error::ApiError;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;

/// Header: the replica that answered.
pub(in crate::api) const CDR_NODE: HeaderName = HeaderName::from_static("cdr-node");
/// Header: the answer sees at least everything up to this index of the log.
pub(in crate::api) const CDR_APPLIED_INDEX: HeaderName = HeaderName::from_static("cdr-applied-index");

/// A JSON body, and the index applied before it was read.
#[derive(Debug)]
pub(in crate::api) struct Answer {
    json: Vec<u8>,
    applied_index: u64,
    status: StatusCode,
}

impl Answer {
    /// A body that is JSON already.
    pub(in crate::api) fn raw(json: Vec<u8>, applied_index: u64) -> Self {
        Self { json, applied_index, status: StatusCode::OK }
    }

    /// A body from a value.
    ///
    /// # Errors
    /// 500 if the value can't be written.
    pub(in crate::api) fn of<T: Serialize>(value: &T, applied_index: u64) -> Result<Self, ApiError> {
        let json = serde_json::to_vec(value).map_err(ApiError::internal)?;
        Ok(Self::raw(json, applied_index))
    }

    /// The same answer with another status.
    pub(in crate::api) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(Body::from(self.json));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CDR_APPLIED_INDEX, HeaderValue::from(self.applied_index));
        response
    }
}

/// Writes the envelope of a list, item by item.
#[derive(Debug)]
pub(in crate::api) struct ListWriter {
    json: Vec<u8>,
    items: usize,
}

impl ListWriter {
    pub(in crate::api) fn new() -> Self {
        Self { json: b"{\"items\":[".to_vec(), items: 0 }
    }

    /// Adds an item that `write` appends as JSON.
    pub(in crate::api) fn item<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.items > 0 {
            self.json.push(b',');
        }
        self.items += 1;
        write(&mut self.json)
    }

    /// Number of items so far.
    pub(in crate::api) fn len(&self) -> usize {
        self.items
    }

    /// Closes the list. The cursor is plain base64url text and needs no escapes.
    pub(in crate::api) fn finish(mut self, next_cursor: Option<&str>, total: Option<u64>) -> Vec<u8> {
        self.json.push(b']');
        if let Some(cursor) = next_cursor {
            self.json.extend_from_slice(format!(",\"nextCursor\":\"{cursor}\"").as_bytes());
        }
        if let Some(total) = total {
            self.json.extend_from_slice(format!(",\"total\":{total}").as_bytes());
        }
        self.json.push(b'}');
        self.json
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn lists_with_and_without_cursor_and_total() {
        let list = |items: usize, cursor, total| -> Value {
            let mut list = ListWriter::new();
            for i in 0..items {
                list.item(|out| {
                    out.extend_from_slice(i.to_string().as_bytes());
                    Ok::<_, ()>(())
                })
                .unwrap();
            }
            serde_json::from_slice(&list.finish(cursor, total)).unwrap()
        };
        assert_eq!(list(0, None, None), json!({"items": []}));
        assert_eq!(list(2, Some("abc"), Some(7)), json!({"items": [0, 1], "nextCursor": "abc", "total": 7}));
    }
}
