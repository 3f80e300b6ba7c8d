//! A tolerant reader of small JSON messages: fields are asked for by name, the others are ignored.

use crate::dlr::{MAX_DLR_BYTES, Reason};
use cdr_core::{Millis, Uuid};
use serde_json::{Map, Value};

/// Longest text of a field without a rule of its own, in bytes.
const MAX_TEXT_BYTES: usize = 200;

/// The fields of a message.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a message.
    pub fn read(payload: &[u8]) -> Result<Self, Reason> {
        if payload.len() > MAX_DLR_BYTES {
            return Err(Reason::TooLarge);
        }
        match serde_json::from_slice(payload) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Reason::NotAnObject),
            Err(_) => Err(Reason::NotJson),
        }
    }

    /// A required text that `parse` can read, which is `expected`.
    pub fn parsed<'a, T>(
        &'a self,
        field: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, Reason> {
        match self.0.get(field) {
            None | Some(Value::Null) => Err(Reason::Missing(field)),
            Some(Value::String(text)) => parse(text).ok_or(Reason::Invalid { field, expected }),
            Some(_) => Err(Reason::Invalid { field, expected }),
        }
    }

    /// A required text of 1 to 200 bytes.
    pub fn text(&self, field: &'static str) -> Result<&str, Reason> {
        self.parsed(field, "a text of 1 to 200 bytes", within_limit)
    }

    /// The required `messageId`.
    pub fn message_id(&self) -> Result<Uuid, Reason> {
        self.parsed("messageId", "a lower-case UUID", Uuid::parse)
    }

    /// A required instant.
    pub fn instant(&self, field: &'static str) -> Result<Millis, Reason> {
        self.parsed(field, "an instant of RFC 3339", Millis::parse)
    }

    /// The trace that the message names, or `otherwise`.
    pub fn trace_id<'a>(&'a self, otherwise: &'a str) -> &'a str {
        self.0.get("traceId").and_then(Value::as_str).and_then(within_limit).unwrap_or(otherwise)
    }
}

fn within_limit(text: &str) -> Option<&str> {
    (1..=MAX_TEXT_BYTES).contains(&text.len()).then_some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reason(payload: &str) -> String {
        let read = Fields::read(payload.as_bytes());
        read.and_then(|fields| fields.message_id()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_told_without_values() {
        assert_eq!(reason("{"), "message is not valid JSON");
        assert_eq!(reason("[]"), "message is not a JSON object");
        assert_eq!(reason("{}"), "messageId is missing");
        assert_eq!(reason(r#"{"messageId":null}"#), "messageId is missing");
        for value in ["7", r#""+93701234567""#, r#""""#] {
            assert_eq!(reason(&format!(r#"{{"messageId":{value}}}"#)), "messageId is not a lower-case UUID");
        }
        assert_eq!(reason(&" ".repeat(MAX_DLR_BYTES + 1)), "message is over 65536 bytes");
    }

    #[test]
    fn foreign_fields_are_ignored() {
        let text = r#"{"messageId":"0f8fad5b-d9cb-469f-a165-70867728950e","a":{"b":[1]},"ticketId":"T-1"}"#;
        let fields = Fields::read(text.as_bytes()).unwrap();
        assert_eq!(fields.message_id().unwrap().to_string(), "0f8fad5b-d9cb-469f-a165-70867728950e");
        assert_eq!((fields.text("ticketId").unwrap(), fields.trace_id("other")), ("T-1", "other"));
        assert_eq!(fields.text("a").unwrap_err().to_string(), "a is not a text of 1 to 200 bytes");
    }
}
