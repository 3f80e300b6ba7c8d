//! The trace id of a request: from `traceparent` (W3C Trace Context) or `x-trace-id`, or a new one.

use axum::http::{HeaderMap, HeaderName};

/// Header in which a trace id may come and always goes.
pub const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// Longest foreign trace id that is taken over, bytes.
const MAX_FOREIGN_BYTES: usize = 128;

/// The trace id of a request with these headers.
pub fn trace_id(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(parent) = text("traceparent").filter(|text| is_traceparent(text)) {
        return parent.to_owned();
    }
    match text(TRACE_ID.as_str()) {
        Some(id) if is_plain(id) => id.to_owned(),
        _ => generate(),
    }
}

/// True for `version-traceid-parentid-flags` with ids that are not all zero.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let named = |part: &str| part.bytes().any(|b| b != b'0');
    matches!(parts[..], [version, trace, parent, flags]
        if hex(version, 2) && version != "ff" && hex(trace, 32) && named(trace) && hex(parent, 16) && named(parent)
            && hex(flags, 2))
}

fn is_plain(text: &str) -> bool {
    (1..=MAX_FOREIGN_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn generate() -> String {
    let mut random = [0u8; 24];
    if getrandom::fill(&mut random).is_err() {
        // A trace id only helps to find log lines; without randomness there is none to find.
        return "00-00000000000000000000000000000000-0000000000000000-00".to_owned();
    }
    let (trace, parent) = random.split_at(16);
    format!("00-{}-{}-01", cdr_core::hash::to_hex(trace), cdr_core::hash::to_hex(parent))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        trace_id(&headers)
    }

    #[test]
    fn known_ids_are_taken_over() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(of("traceparent", parent), parent);
        assert_eq!(of("x-trace-id", "case-4711"), "case-4711");
    }

    #[test]
    fn unusable_ids_are_replaced() {
        for bad in ["", "00-abc-def-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert!(is_traceparent(&of("traceparent", bad)), "{bad}");
        }
        assert!(is_traceparent(&of("x-trace-id", &"x".repeat(129))));
        assert!(is_traceparent(&of("x-trace-id", "two words")));
        assert_ne!(generate(), generate());
    }
}
