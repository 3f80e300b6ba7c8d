//! JSON strings as RFC 8785 writes them.

use crate::hash::push_hex;

/// Appends a JSON string with the escapes that RFC 8785 requires.
pub fn push_string(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    push_rest_of_string(out, value);
}

/// As [`push_string`], behind the first quote.
#[allow(clippy::needless_bitwise_bool)] // No early end: the search then looks at many bytes in one step.
pub(crate) fn push_rest_of_string(out: &mut Vec<u8>, value: &str) {
    let bytes = value.as_bytes();
    if bytes.iter().fold(false, |found, &b| found | (b < 0x20) | (b == b'"') | (b == b'\\')) {
        for &byte in bytes {
            push_escaped(out, byte);
        }
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        0..0x20 => {
            out.extend_from_slice(b"\\u00");
            return push_hex(out, &[byte]);
        }
        _ => return out.push(byte),
    };
    out.extend_from_slice(&[b'\\', short]);
}
