//! A request that changes something, as the act that a leader performs.

use super::access::Caller;
use super::body::{Headers, Object, text, ticket};
use super::error::ApiError;
use crate::acts::{Act, Wish};

/// The act that a request asks for, with the reason and the ticket of its body; `what` tells requests apart whose fields
/// are alike.
///
/// # Errors
/// 400 naming what can't be used.
pub(in crate::api) fn act(
    caller: Caller,
    headers: Headers,
    body: &Object,
    what: &str,
    wish: Wish,
) -> Result<Act, ApiError> {
    let actor = caller.0.subject;
    Ok(Act {
        key: headers.request_key(&actor)?,
        body: body.hash(what)?,
        wish,
        approver: None,
        reason: text(body, "reason")?,
        ticket_id: ticket(body)?,
        trace_id: headers.trace_id,
        actor,
        origin: caller.1,
    })
}
