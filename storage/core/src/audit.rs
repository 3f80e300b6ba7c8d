//! The body of an `audit` row: who did what, why, on which ticket, and who approved.
//!
//! An act that a client may repeat under one key carries a [`RequestRecord`]: the log keeps what it answered, for
//! good, because the answer is a fold over rows like everything else.

use crate::hash::{Hash, hex_string};
use crate::id::CdrId;
use crate::row::System;
use crate::time::Hour;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The body of an `audit` row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditRecord {
    /// Who acted: the token's subject, or a worker's name.
    pub actor_user_id: Option<String>,
    /// Who approved, where that was needed.
    pub approver_user_id: Option<String>,
    /// Hour that the act concerns.
    pub bucket_hour: Option<Hour>,
    /// What the act was about.
    pub details: Map<String, Value>,
    /// Kind of the act, such as `ADJUSTMENT_ISSUED`.
    pub entry_type: String,
    /// Operator that the act concerns.
    pub operator_id: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// The request that may be repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestRecord>,
    /// Ticket that requested it.
    pub ticket_id: Option<String>,
}

/// A request that may be repeated under its key, and what answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestRecord {
    /// Id of the row that answers it, as `cdr_…`.
    pub answer: String,
    /// SHA-256 of the request.
    #[serde(with = "hex_string")]
    pub body: Hash,
    /// SHA-256 of the caller and the key that they chose.
    #[serde(with = "hex_string")]
    pub key: Hash,
}

/// A request that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Request {
    /// The caller and the key that they chose, hashed.
    pub key: Hash,
    /// The request, hashed.
    pub body: Hash,
    /// Row that answers it.
    pub answer: CdrId,
}

/// The repeatable request in an `audit` row, if there is one.
///
/// # Errors
/// What is wrong with it.
pub fn request_of(system: &System<'_>) -> Result<Option<Request>, String> {
    #[derive(Deserialize)]
    struct Only {
        request: Option<RequestRecord>,
    }
    // Digests of requests are personal data: they are nowhere else in the row.
    let Some(personal) = system.personal else { return Ok(None) };
    let Only { request } = serde_json::from_str(personal).map_err(|e| format!("request: {e}"))?;
    request
        .map(|request| {
            let answer = CdrId::parse(&request.answer)
                .ok_or_else(|| format!("request: {:?} is no record id", request.answer))?;
            Ok(Request { key: request.key, body: request.body, answer })
        })
        .transpose()
}
