//! A tolerant reader of small JSON messages, by the rules of DLRs: fields are read by name, the others are
//! ignored, whatever numbers they hold.

use crate::dlr::{MAX_DLR_BYTES, Reason, refused};
use crate::texts;
use cdr_core::json::{Raw, members};
use cdr_core::tariff::is_operator;
use cdr_core::{Millis, Money, Uuid};
use std::borrow::Cow;

/// The fields of a message. None of them has the same name as another.
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, Field<'a>)>);

/// What a field may hold.
enum Field<'a> {
    Null,
    Text(Cow<'a, str>),
    Other,
}

impl<'p> Fields<'p> {
    /// Reads a message.
    pub fn read(payload: &'p [u8]) -> Result<Self, Reason> {
        let fields = members(payload, MAX_DLR_BYTES).map_err(refused)?.into_iter();
        let field = |value: Raw<'p>| {
            Ok(match value.string().map_err(refused)? {
                Some(text) => Field::Text(text),
                None if value.is_null() => Field::Null,
                None => Field::Other,
            })
        };
        fields.map(|(name, value)| Ok((name, field(value)?))).collect::<Result<_, _>>().map(Self)
    }

    fn get(&self, field: &str) -> Option<&Field<'p>> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| value)
    }

    /// A required text that `parse` can read, which is `expected`.
    pub fn parsed<'a, T>(
        &'a self,
        field: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, Reason> {
        match self.get(field) {
            None | Some(Field::Null) => Err(Reason::Missing(field)),
            Some(Field::Text(text)) => parse(text).ok_or(Reason::Invalid { field, expected }),
            Some(Field::Other) => Err(Reason::Invalid { field, expected }),
        }
    }

    /// A required text that fits `rule`, which is `expected`.
    pub fn text(
        &self,
        field: &'static str,
        expected: &'static str,
        rule: impl FnOnce(&str) -> bool,
    ) -> Result<&str, Reason> {
        self.parsed(field, expected, |text| rule(text).then_some(text))
    }

    /// The required `messageId`.
    pub fn message_id(&self) -> Result<Uuid, Reason> {
        self.parsed("messageId", "a UUID", Uuid::parse_any_case)
    }

    /// The required `operatorId`, registered or not.
    pub fn operator_id(&self) -> Result<&str, Reason> {
        self.text("operatorId", "an operator id", is_operator)
    }

    /// The required `chargeAmount`.
    pub fn charge_amount(&self) -> Result<Money, Reason> {
        let not_negative = |amount: &Money| *amount >= Money::ZERO;
        let parse = |text: &str| Money::parse(text).filter(not_negative);
        self.parsed("chargeAmount", "a decimal number, not negative", parse)
    }

    /// A required instant.
    pub fn instant(&self, field: &'static str) -> Result<Millis, Reason> {
        self.parsed(field, "an instant of RFC 3339", Millis::parse_any_case)
    }

    /// The trace that the message names, or `otherwise`.
    pub fn trace_id<'a>(&'a self, otherwise: &'a str) -> &'a str {
        match self.get("traceId") {
            Some(Field::Text(text)) if texts::is_id(text) => text,
            _ => otherwise,
        }
    }
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
            assert_eq!(reason(&format!(r#"{{"messageId":{value}}}"#)), "messageId is not a UUID");
        }
        assert_eq!(reason(&" ".repeat(MAX_DLR_BYTES + 1)), "message is over 65536 bytes");
    }

    #[test]
    fn messages_are_read_by_the_rules_of_receipts() {
        let id = "0F8FAD5B-d9cb-469f-a165-70867728950e";
        let read = |more: &str| {
            let text = format!(r#"{{"messageId":"{id}"{more}}}"#);
            Fields::read(text.as_bytes()).and_then(|fields| fields.message_id()).map_err(|e| e.to_string())
        };
        assert_eq!(read("").unwrap().to_string(), id.to_lowercase(), "digits of either case");
        assert!(read(r#","unknown":[1e400,9007199254740993]"#).is_ok());
        assert_eq!(read(&format!(r#","messageId":"{id}""#)).unwrap_err(), "messageId appears twice");
        for twice in [r#","x":1,"\u0078":2"#, r#","x":[{"a":1,"a":1}]"#] {
            assert_eq!(read(twice).unwrap_err(), "a key appears twice in one object", "{twice}");
        }
        let deep = format!(r#","x":{}{}"#, "[".repeat(32), "]".repeat(32));
        assert_eq!(read(&deep).unwrap_err(), "message is nested more than 32 deep");
        assert_eq!(read(r#","x":"\ud800""#).unwrap_err(), "message is not valid JSON");
    }

    #[test]
    fn amounts_times_and_operators() {
        let read = |field: &str, value: &str| {
            let text = format!(r#"{{"{field}":"{value}"}}"#);
            let fields = Fields::read(text.as_bytes()).unwrap();
            match field {
                "chargeAmount" => fields.charge_amount().is_ok(),
                "operatorId" => fields.operator_id().is_ok(),
                _ => fields.instant("at").is_ok(),
            }
        };
        assert!(
            read("chargeAmount", "0.5") && !read("chargeAmount", "-0.000001") && !read("chargeAmount", "1e3")
        );
        assert!(read("operatorId", "MTN_AF") && !read("operatorId", "_system") && !read("operatorId", "a b"));
        assert!(read("at", "2026-04-20T13:00:00Z") && read("at", "2026-04-20t13:00:00z"));
    }

    #[test]
    fn foreign_fields_are_ignored() {
        let text = r#"{"messageId":"0f8fad5b-d9cb-469f-a165-70867728950e","a":{"b":[1]},"ticketId":"T-1"}"#;
        let fields = Fields::read(text.as_bytes()).unwrap();
        assert_eq!(fields.message_id().unwrap().to_string(), "0f8fad5b-d9cb-469f-a165-70867728950e");
        let id = |field| fields.text(field, texts::ID, texts::is_id);
        assert_eq!((id("ticketId").unwrap(), fields.trace_id("other")), ("T-1", "other"));
        assert_eq!(id("a").unwrap_err().to_string(), "a is not 1 to 128 visible ASCII characters");
    }
}
