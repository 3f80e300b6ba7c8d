//! JSON to raw fields: which keys there are, and what kind of value each has. No rules yet.

use super::{MAX_DLR_BYTES, Reason};
use cdr_core::json::{JsonError, Raw as Json, members};
use std::borrow::Cow;

/// The value of a known field.
#[derive(Debug, Default)]
pub(super) enum Raw<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    /// A string.
    Text(Cow<'a, str>),
    /// A non-negative integer, without fraction and exponent.
    Integer(u64),
    /// Anything else.
    Other,
}

macro_rules! fields {
    ($($name:ident = $key:literal),+ $(,)?) => {
        /// The known fields of a receipt.
        #[derive(Debug, Default)]
        pub(super) struct RawDlr<'a> {
            $(pub(super) $name: Raw<'a>,)+
        }

        impl<'a> RawDlr<'a> {
            /// Takes the value of `key`, if that is known.
            fn set(&mut self, key: &str, value: Json<'a>) -> Result<(), JsonError> {
                match key {
                    $($key => self.$name = raw(value)?,)+
                    _ => {}
                }
                Ok(())
            }
        }

        /// The field of this name, if it is known.
        fn known(key: &str) -> Option<&'static str> {
            match key { $($key => Some($key),)+ _ => None }
        }
    };
}

fields! {
    schema_version = "schemaVersion",
    message_id = "messageId",
    tenant_id = "tenantId",
    operator_id = "operatorId",
    status = "status",
    direction = "direction",
    charge_type = "chargeType",
    from = "from",
    to = "to",
    original_served_subscriber_id = "originalServedSubscriberId",
    imsi = "imsi",
    service_center_address = "serviceCenterAddress",
    message_reference = "messageReference",
    segment_count = "segmentCount",
    encoding = "encoding",
    submitted_at = "submittedAt",
    final_at = "finalAt",
    failure_code = "failureCode",
    correlation_id = "correlationId",
    trace_id = "traceId",
}

/// Reads the fields of the one JSON object in `payload`.
pub(super) fn read(payload: &[u8]) -> Result<RawDlr<'_>, Reason> {
    let mut fields = RawDlr::default();
    for (key, value) in members(payload, MAX_DLR_BYTES).map_err(refused)? {
        fields.set(&key, value).map_err(refused)?;
    }
    Ok(fields)
}

fn raw(value: Json<'_>) -> Result<Raw<'_>, JsonError> {
    if value.is_null() {
        return Ok(Raw::Absent);
    }
    Ok(match value.string()? {
        Some(text) => Raw::Text(text),
        None => value.integer().map_or(Raw::Other, Raw::Integer),
    })
}

/// The reason for dead-lettering; it repeats nothing of the message.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
pub(crate) fn refused(error: JsonError) -> Reason {
    match error {
        JsonError::TooLarge { .. } => Reason::TooLarge,
        JsonError::Syntax { .. } | JsonError::Inexact { .. } => Reason::NotJson,
        JsonError::NotAnObject => Reason::NotAnObject,
        JsonError::TooDeep => Reason::TooDeep,
        JsonError::RepeatedKey { key, depth: 1 } => {
            known(&key).map_or(Reason::RepeatedKey, Reason::RepeatedField)
        }
        JsonError::RepeatedKey { .. } => Reason::RepeatedKey,
    }
}
