//! What the receiver's answer means.

use crate::causes::chain;
use crate::delivery::Receipt;
use crate::delivery::error::{Answer, ChannelKind, DeliveryError, ErrorClass, Place, Reason};
use crate::delivery::parcel::Parcel;
use crate::texts;
use cdr_core::Hash;
use cdr_core::hash::{from_hex, to_hex};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Most of an answer that is read, bytes.
const MAX_BODY: usize = 16 << 10;

/// The body of a receipt; what else it holds is ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    receipt_id: Option<String>,
    sha256: Option<String>,
}

impl Body {
    /// A receipt enters the ledger: one that can't be shown is not one.
    fn parse(body: &str) -> Option<Self> {
        let body: Self = serde_json::from_str(body).ok()?;
        Some(Self { receipt_id: body.receipt_id.filter(|id| texts::is_name(id)), ..body })
    }

    fn hash(&self) -> Option<Hash> {
        from_hex(&self.sha256.as_ref()?.to_ascii_lowercase())
    }
}

/// Reads the answer to an upload.
pub(super) async fn receipt(
    place: &Place,
    parcel: &Parcel,
    answer: Response,
    step: Duration,
) -> Result<Receipt, DeliveryError> {
    let status = answer.status();
    let body = read(place, answer, step).await?;
    judge(place, parcel, status, &body).map_err(|error| {
        let receipt_id = Body::parse(&body).and_then(|body| body.receipt_id);
        let reason = reason(error.class, status, &body);
        let answer = Some(Answer { status: status.as_u16(), body, receipt_id, reason });
        DeliveryError { answer, ..error }
    })
}

async fn read(place: &Place, mut answer: Response, step: Duration) -> Result<String, DeliveryError> {
    let status = answer.status();
    let broken =
        |why: String| place.error(ErrorClass::Unreachable, format!("response {status} was cut off: {why}"));
    let mut body = Vec::new();
    while body.len() < MAX_BODY {
        let piece = tokio::time::timeout(step, answer.chunk()).await;
        let piece = piece.map_err(|_| broken(format!("nothing more came for {step:?}")))?;
        match piece.map_err(|e| broken(chain(&e)))? {
            Some(piece) => body.extend_from_slice(&piece),
            None => break,
        }
    }
    body.truncate(MAX_BODY);
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn judge(place: &Place, parcel: &Parcel, status: StatusCode, body: &str) -> Result<Receipt, DeliveryError> {
    let name = parcel.file.name();
    let ours = *parcel.file.sha256();
    let found = Body::parse(body);
    let theirs = found.as_ref().and_then(Body::hash);
    let error = |class, what: String| Err(place.error(class, what));
    let receipt = |receipt_id, already_there| {
        Ok(Receipt { channel: ChannelKind::Api, receipt_id, already_there, sha256: ours })
    };
    match (status, theirs) {
        (StatusCode::CREATED, Some(theirs)) if theirs == ours => match found.and_then(|body| body.receipt_id)
        {
            Some(id) => receipt(Some(id), false),
            None => error(ErrorClass::Unreachable, format!("{name}: answer 201 has no receiptId")),
        },
        (StatusCode::CONFLICT, Some(theirs)) if theirs == ours => {
            receipt(found.and_then(|body| body.receipt_id), true)
        }
        (StatusCode::CREATED, Some(theirs)) => {
            let (theirs, ours) = (to_hex(&theirs), to_hex(&ours));
            let what = format!("INTEGRITY_MISMATCH: {name} arrived with SHA-256 {theirs} in place of {ours}");
            error(ErrorClass::IntegrityMismatch, what)
        }
        (StatusCode::CREATED, None) => {
            error(ErrorClass::Unreachable, format!("{name}: answer 201 has no SHA-256 of what arrived"))
        }
        (StatusCode::CONFLICT, _) => {
            let theirs = theirs.map_or("unknown".to_owned(), |hash| to_hex(&hash));
            let what = format!(
                "DUPLICATE_FILE: there is another {name}, SHA-256 {theirs}; ours has {}",
                to_hex(&ours)
            );
            error(ErrorClass::DuplicateFile, what)
        }
        (StatusCode::INSUFFICIENT_STORAGE, _) => {
            error(ErrorClass::Full, format!("{name}: the receiver has no space ({status})"))
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
            error(ErrorClass::PermissionDenied, format!("{name}: the receiver does not allow it ({status})"))
        }
        (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS, _) => {
            error(ErrorClass::Unreachable, format!("{name}: the receiver refuses it for now ({status})"))
        }
        _ if status.is_server_error() => {
            error(ErrorClass::Unreachable, format!("{name}: the receiver failed ({status})"))
        }
        _ => error(ErrorClass::Rejected, format!("{name}: the receiver answered {status}")),
    }
}

/// Words by which a reason is known that is given in prose.
const WORDS: &[(Reason, &[&str])] = &[
    (Reason::SignatureInvalid, &["SIGNATURE"]),
    (Reason::IntegrityMismatch, &["INTEGRITY", "CHECKSUM", "SHA256", "SHA_256", "HASH", "DIGEST"]),
    (Reason::SequenceOutOfOrder, &["SEQUENCE"]),
    (Reason::SchemaMismatch, &["SCHEMA"]),
];

/// Why the file is rejected, if it is the file: the code that the body names, or else the one that its text suggests. A
/// receiver that can't process what it got and says nothing of all that has met something that it did not expect.
fn reason(class: ErrorClass, status: StatusCode, body: &str) -> Option<Reason> {
    match class {
        ErrorClass::IntegrityMismatch => return Some(Reason::IntegrityMismatch),
        ErrorClass::DuplicateFile => return Some(Reason::SequenceOutOfOrder),
        ErrorClass::Rejected if status.is_client_error() => {}
        _ => return None,
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let text: String = said(body).chars().map(plain).collect();
    let only = |named: &dyn Fn(Reason) -> bool| {
        let mut found = Reason::ALL.into_iter().filter(|reason| named(*reason));
        found.next().filter(|_| found.next().is_none())
    };
    let by_code = only(&|reason| text.contains(reason.as_str()));
    let speaks_of = |reason: Reason| {
        let words = WORDS.iter().find(|(of, _)| *of == reason).map_or(&[][..], |(_, words)| words);
        words.iter().any(|word| text.contains(word))
    };
    let cant_process = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::UNPROCESSABLE_ENTITY
    );
    by_code.or_else(|| if cant_process { only(&speaks_of).or(Some(Reason::SchemaMismatch)) } else { None })
}

/// What a body says: the texts of a JSON value, without the names of its members; any other body as it is.
fn said(body: &str) -> String {
    fn texts(value: &Value, out: &mut String) {
        match value {
            Value::String(text) => out.extend([text.as_str(), "\n"]),
            Value::Array(values) => values.iter().for_each(|value| texts(value, out)),
            Value::Object(members) => members.values().for_each(|value| texts(value, out)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let Ok(value) = serde_json::from_str(body) else { return body.to_owned() };
    let mut out = String::new();
    texts(&value, &mut out);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::delivery::Item;
    use bytes::Bytes;

    fn judged(status: u16, body: &str) -> Result<Receipt, ErrorClass> {
        let place = Place { channel: ChannelKind::Api, name: "https://receiver".to_owned() };
        let file = Item::bytes("A.tap", Bytes::from_static(b"a file")).unwrap();
        let parcel = Parcel { file, sidecars: Vec::new() };
        judge(&place, &parcel, StatusCode::from_u16(status).unwrap(), body).map_err(|error| error.class)
    }

    #[test]
    fn only_a_receipt_with_the_files_hash_is_a_delivery() {
        let ours = to_hex(&cdr_core::hash::sha256(b"a file"));
        let receipt = |hash: &str| format!("{{\"receiptId\": \"R-1\", \"sha256\": \"{hash}\", \"more\": 1}}");
        let delivered = judged(201, &receipt(&ours.to_uppercase())).unwrap();
        assert_eq!((delivered.receipt_id.as_deref(), delivered.already_there), (Some("R-1"), false));
        let there = judged(409, &receipt(&ours)).unwrap();
        assert_eq!((there.receipt_id.as_deref(), there.already_there), (Some("R-1"), true));
        let other = receipt(&to_hex(&[7; 32]));
        for (status, body, class) in [
            (201, other.as_str(), ErrorClass::IntegrityMismatch),
            (201, "", ErrorClass::Unreachable),
            (201, "{\"receiptId\": \"R-1\"}", ErrorClass::Unreachable),
            (200, &receipt(&ours), ErrorClass::Rejected),
            (302, "", ErrorClass::Rejected),
            (400, "", ErrorClass::Rejected),
            (401, "", ErrorClass::PermissionDenied),
            (403, "", ErrorClass::PermissionDenied),
            (408, "", ErrorClass::Unreachable),
            (409, "", ErrorClass::DuplicateFile),
            (409, other.as_str(), ErrorClass::DuplicateFile),
            (413, "", ErrorClass::Rejected),
            (422, "{\"error\": \"SCHEMA_MISMATCH\"}", ErrorClass::Rejected),
            (429, "", ErrorClass::Unreachable),
            (500, "", ErrorClass::Unreachable),
            (503, &receipt(&ours), ErrorClass::Unreachable),
            (507, "", ErrorClass::Full),
        ] {
            assert_eq!(judged(status, body).unwrap_err(), class, "{status} {body}");
        }
        let (no_id, long) = (format!("{{\"sha256\": \"{ours}\"}}"), "R".repeat(201));
        for id in [no_id, receipt(&ours).replace("R-1", &long), receipt(&ours).replace("R-1", "\u{200b}")] {
            assert_eq!(judged(201, &id).unwrap_err(), ErrorClass::Unreachable, "a delivery has a receipt");
        }
    }

    #[test]
    fn a_refusal_has_the_reason_that_the_receiver_gives() {
        let of = |status: u16, body: &str| {
            reason(ErrorClass::Rejected, StatusCode::from_u16(status).unwrap(), body).map(Reason::as_str)
        };
        for (status, body, expected) in [
            (422, "{\"rejectionReason\": \"SIGNATURE_INVALID\"}", Some("SIGNATURE_INVALID")),
            (400, "{\"error\": {\"code\": \"sequence-out-of-order\"}}", Some("SEQUENCE_OUT_OF_ORDER")),
            (404, "INTEGRITY_MISMATCH", Some("INTEGRITY_MISMATCH")),
            (422, "the schema is fine, SIGNATURE_INVALID", Some("SIGNATURE_INVALID")),
            (422, "{\"message\": \"SHA-256 differs\"}", Some("INTEGRITY_MISMATCH")),
            (422, "signature and sequence are wrong", Some("SCHEMA_MISMATCH")),
            (422, "{\"error\": \"bad signature\", \"sha256\": \"ab\"}", Some("SIGNATURE_INVALID")),
            (422, "", Some("SCHEMA_MISMATCH")),
            // Not the file is refused, but where it was sent to.
            (404, "no such path", None),
            (405, "", None),
            (302, "SIGNATURE_INVALID", None),
        ] {
            assert_eq!(of(status, body), expected, "{status} {body}");
        }
        let conflict = reason(ErrorClass::DuplicateFile, StatusCode::CONFLICT, "");
        assert_eq!(conflict, Some(Reason::SequenceOutOfOrder));
        assert_eq!(reason(ErrorClass::Unreachable, StatusCode::BAD_GATEWAY, "SCHEMA_MISMATCH"), None);
    }
}
