//! What an act appends to the log, beside the audit row that names who asked.

use super::{ActError, unconfirmed};
use cdr_core::audit::AuditRecord;
use cdr_core::canonical::to_jcs;
use cdr_core::row::SystemKind;
use serde_json::{Map, Value};

/// What an act appends beside its audit row.
pub(super) struct Appended {
    /// Kind of the row.
    pub(super) kind: SystemKind,
    /// Its body.
    pub(super) body: String,
    /// What the audit row says.
    pub(super) audit: AuditRecord,
}

pub(super) fn jcs<T: serde::Serialize>(value: &T) -> Result<String, ActError> {
    String::from_utf8(to_jcs(value).map_err(unconfirmed)?).map_err(unconfirmed)
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
