//! Parameters of queries and fields of bodies: known by name, read by type, refused by name.

use super::error::ApiError;
use axum::body::Bytes;
use axum::extract::Query;
use axum::http::Uri;
use cdr_core::json::{MAX_BYTES, members};
use cdr_core::time::HOUR_MS;
use cdr_core::{CdrId, Hour, LedgerState, Millis, Uuid};
use std::collections::BTreeMap;

/// Records of a page unless the caller says otherwise.
const DEFAULT_LIMIT: usize = 100;
/// The most records of a page.
pub const MAX_LIMIT: usize = 500;

/// What a caller gave, by name. Every value is text; an empty text counts as given.
#[derive(Debug, Default)]
pub struct Input(BTreeMap<String, String>);

impl Input {
    /// The parameters of a query; only `known` ones, each once.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn of_query(uri: &Uri, known: &[&str]) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|e| ApiError::invalid("query", format!("it can't be read: {e}")))?;
        let mut values = BTreeMap::new();
        for (name, value) in pairs {
            refuse_unknown(&name, known, "parameter")?;
            if values.insert(name.clone(), value).is_some() {
                return Err(ApiError::invalid(name, "it is given twice"));
            }
        }
        Ok(Self(values))
    }

    /// The fields of a JSON object; only `known` ones, all of them texts. `null` counts as absent.
    ///
    /// # Errors
    /// 400 naming the field, or `body`.
    pub fn of_body(body: &Bytes, known: &[&str]) -> Result<Self, ApiError> {
        let mut values = BTreeMap::new();
        for (name, value) in members(body, MAX_BYTES).map_err(ApiError::of_body)? {
            refuse_unknown(&name, known, "field")?;
            match value.string().map_err(ApiError::of_body)? {
                Some(text) => {
                    values.insert(name.into_owned(), text.into_owned());
                }
                None if value.is_null() => (),
                None => return Err(ApiError::invalid(name, "a text is expected")),
            }
        }
        Ok(Self(values))
    }

    /// True if `name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names that were given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The text of `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of `name`, read by `parse`.
    ///
    /// # Errors
    /// 400 naming it and what is `expected`.
    pub fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(ApiError::invalid(name, format!("{text:?} is not {expected}"))),
        }
    }

    /// The value of `name`, which must be given.
    ///
    /// # Errors
    /// 400 naming it.
    pub fn required<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ApiError> {
        self.parsed(name, expected, parse)?
            .ok_or_else(|| ApiError::invalid(name, format!("it is required: {expected}")))
    }

    /// Page size: 1 to [`MAX_LIMIT`].
    ///
    /// # Errors
    /// 400 naming `limit`.
    pub fn limit(&self) -> Result<usize, ApiError> {
        let parse = |text: &str| text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        Ok(self.parsed("limit", "a whole number from 1 to 500", parse)?.unwrap_or(DEFAULT_LIMIT))
    }

    /// A record id.
    ///
    /// # Errors
    /// 400 naming it.
    pub fn cdr_id(&self, name: &str) -> Result<Option<CdrId>, ApiError> {
        self.parsed(name, CDR_ID, CdrId::parse)
    }

    /// An operator that is in the registry.
    ///
    /// # Errors
    /// 400 naming it.
    pub fn operator(&self, name: &str, state: &LedgerState) -> Result<Option<String>, ApiError> {
        self.text(name).map(|id| known_operator(name, id, state)).transpose()
    }

    /// First and last bucket, both inclusive, of the parameters `bucketHourFrom` and `bucketHourTo`. They may be any
    /// instants: a bucket fits if it begins at or after the one, and at or before the other.
    ///
    /// # Errors
    /// 400 naming it.
    pub fn hours(&self, from: &str, to: &str) -> Result<(Option<Hour>, Option<Hour>), ApiError> {
        let first = self.instant(from)?.map(|at| Hour(((at.0 + HOUR_MS - 1) / HOUR_MS) as u32));
        let last = self.instant(to)?.map(Millis::hour);
        if let (Some(first), Some(last)) = (first, last)
            && first > last
        {
            return Err(ApiError::invalid(to, format!("it is before {from}")));
        }
        Ok((first, last))
    }

    /// A UUID.
    ///
    /// # Errors
    /// 400 naming it.
    pub fn uuid(&self, name: &str) -> Result<Option<Uuid>, ApiError> {
        self.parsed(name, UUID, Uuid::parse_any_case)
    }

    /// An instant.
    ///
    /// # Errors
    /// 400 naming it.
    pub fn instant(&self, name: &str) -> Result<Option<Millis>, ApiError> {
        self.parsed(name, INSTANT, Millis::parse_any_case)
    }
}

/// What a record id looks like.
pub const CDR_ID: &str = "a record id, `cdr_` and 26 characters";
/// What a UUID looks like.
pub const UUID: &str = "a UUID";
/// What a bucket hour looks like.
pub const BUCKET_HOUR: &str = "a full UTC hour such as 2026-04-20T13:00:00Z";
const INSTANT: &str = "an instant of RFC 3339 such as 2026-04-20T13:00:00Z";

/// `id`, if the registry knows it.
///
/// # Errors
/// 400 naming `name`.
pub fn known_operator(name: &str, id: &str, state: &LedgerState) -> Result<String, ApiError> {
    if state.registry.iter().any(|operator| operator.operator_id == id) {
        Ok(id.to_owned())
    } else {
        Err(ApiError::invalid(name, format!("{id:?} is not a registered operator")))
    }
}

fn refuse_unknown(name: &str, known: &[&str], kind: &str) -> Result<(), ApiError> {
    if known.contains(&name) {
        return Ok(());
    }
    Err(ApiError::invalid(name, format!("unknown {kind}; known here: {}", known.join(", "))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["limit", "bucketHourFrom", "bucketHourTo", "cdrId"];

    fn query(text: &str) -> Result<Input, ApiError> {
        Input::of_query(&format!("/x?{text}").parse().unwrap(), KNOWN)
    }

    fn body(text: &'static str) -> Result<Input, ApiError> {
        Input::of_body(&Bytes::from_static(text.as_bytes()), KNOWN)
    }

    fn field<T: std::fmt::Debug>(outcome: Result<T, ApiError>) -> String {
        match outcome {
            Err(ApiError::Validation { field, .. }) => field,
            other => panic!("expected a refused field, got {other:?}"),
        }
    }

    #[test]
    fn limits() {
        assert_eq!(query("").unwrap().limit(), Ok(100));
        assert_eq!(query("limit=500").unwrap().limit(), Ok(500));
        for bad in ["0", "501", "-1", "ten", ""] {
            assert_eq!(field(query(&format!("limit={bad}")).unwrap().limit()), "limit");
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_named() {
        assert_eq!(field(query("limti=5")), "limti");
        assert_eq!(field(query("limit=5&limit=6")), "limit");
        assert_eq!(field(body(r#"{"cdrID": "x"}"#)), "cdrID");
        assert_eq!(field(body(r#"{"cdrId": 7}"#)), "cdrId");
        assert_eq!(field(body("[]")), "body");
        assert_eq!(field(body("")), "body");
        assert_eq!(field(body(r#"{"cdrId": "x", "cdr\u0049d": "y"}"#)), "cdrId");
        assert!(!body(r#"{"cdrId": null}"#).unwrap().has("cdrId"));
    }

    #[test]
    fn buckets_of_a_span_of_instants() {
        let hours = |from: &str, to: &str| {
            query(&format!("bucketHourFrom={from}&bucketHourTo={to}"))
                .unwrap()
                .hours("bucketHourFrom", "bucketHourTo")
        };
        let (first, last) = hours("2026-04-01T00:00:00Z", "2026-04-14T23:59:59Z").unwrap();
        assert_eq!(first.unwrap().to_string(), "2026-04-01T00:00:00Z");
        assert_eq!(last.unwrap().to_string(), "2026-04-14T23:00:00Z");
        let (first, _) = hours("2026-04-01T00:00:00.001Z", "2026-04-14T23:59:59Z").unwrap();
        assert_eq!(first.unwrap().to_string(), "2026-04-01T01:00:00Z");
        assert_eq!(field(hours("2026-04-02T00:00:00Z", "2026-04-01T00:00:00Z")), "bucketHourTo");
        assert_eq!(field(hours("yesterday", "2026-04-01T00:00:00Z")), "bucketHourFrom");
    }
}
