//! How long the texts of others may be, and of which characters, wherever they come in: on the bus, in a request, in a
//! token. What enters a row can never be taken out of it.
//!
//! A text in words may be of any script, but shows what it holds: no control characters, nothing invisible, nothing that
//! reorders what is around it. Joiners and direction marks are part of how Dari and Pashto are written, and stay.

use crate::masking;

/// Longest reason in words, in bytes.
pub const MAX_REASON_BYTES: usize = 1_000;
/// Longest name that another service or the regulator gives to something, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// Longest code of a failure, in bytes.
const MAX_FAILURE_BYTES: usize = 100;
/// Longest text that counts as a code, in bytes.
const MAX_CODE_BYTES: usize = 64;
/// Longest id of a ticket or trace, in characters.
const MAX_ID_CHARS: usize = 128;

/// What [`is_id`] takes.
pub const ID: &str = "1 to 128 visible ASCII characters";
/// What [`is_ticket`] takes.
pub const TICKET: &str = "1 to 128 visible ASCII characters, not all of a telephone number";
/// What [`is_name`] takes.
pub const NAME: &str = "a text of 1 to 200 bytes without control or invisible characters";
/// What [`is_failure_code`] takes.
pub const FAILURE_CODE: &str = "a text of at most 100 bytes without control or invisible characters";
/// What [`is_code`] takes.
pub const CODE: &str = "a code of 1 to 64 letters, digits and _.:- that is no telephone number";
/// What [`is_reason`] takes.
pub const REASON: &str = "a text of 1 to 1000 bytes without control or invisible characters";

/// True for the id of a ticket or trace.
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// True for the id of a ticket: an id that is not a subscriber's number, since every reader of the row sees it.
pub fn is_ticket(text: &str) -> bool {
    is_id(text) && !masking::is_number(text)
}

/// An operator's reason for a failure as a code, or else as the text that it is: every reader of the row sees a code.
pub fn failure(reason: Option<&str>) -> (Option<&str>, Option<&str>) {
    match reason {
        Some(code) if is_code(code) => (Some(code), None),
        text => (None, text),
    }
}

/// `[A-Za-z0-9_.:-]{1,64}`, and no telephone number: what is hashed in the open.
pub fn is_code(text: &str) -> bool {
    let in_code = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-');
    (1..=MAX_CODE_BYTES).contains(&text.len()) && text.bytes().all(in_code) && !masking::is_number(text)
}

/// True for a name, such as a receipt's, that an outside party gave.
pub fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES && is_shown(text)
}

/// True for an operator's reason for a failure; an empty one says nothing, but is one.
pub fn is_failure_code(text: &str) -> bool {
    text.is_empty() || text.len() <= MAX_FAILURE_BYTES && is_shown(text)
}

/// True for a reason in words; it may have several lines.
pub fn is_reason(text: &str) -> bool {
    text.len() <= MAX_REASON_BYTES && is_shown_but(text, |c| matches!(c, '\n' | '\r' | '\t'))
}

/// `^\+[1-9][0-9]{1,14}$`
pub fn is_e164(text: &str) -> bool {
    match text.as_bytes() {
        [b'+', b'1'..=b'9', rest @ ..] => {
            (1..=14).contains(&rest.len()) && rest.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

/// The operator's reference of a message: 1-20 characters, none of them hidden.
pub fn is_reference(text: &str) -> bool {
    fits(text, 20)
}

/// A number, or a name: what begins with `+` must be a number, so that no mistyped number passes for a name.
pub fn is_sender(text: &str) -> bool {
    if text.starts_with('+') {
        return is_e164(text);
    }
    fits(text, 11) && text.chars().any(char::is_alphanumeric)
}

/// 6-15 digits.
pub fn is_imsi(text: &str) -> bool {
    (6..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// 1 to `most` characters, none of them hidden.
fn fits(text: &str, most: usize) -> bool {
    (text.len() <= most || text.chars().count() <= most) && is_shown(text)
}

/// A text about a failure, which may quote another party: with what is hidden replaced, and cut
/// where a reason ends.
pub fn clipped(text: &str) -> String {
    let shown = text.chars().map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c });
    let mut clipped = String::new();
    for c in shown {
        if clipped.len() + c.len_utf8() > MAX_REASON_BYTES {
            break;
        }
        clipped.push(c);
    }
    clipped
}

/// True if something can be seen of the text, and nothing in it is hidden.
pub fn is_shown(text: &str) -> bool {
    is_shown_but(text, |_| false)
}

fn is_shown_but(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    let is_seen = |c: char| !c.is_whitespace() && !is_mark(c) && c != '\u{2800}';
    text.chars().all(|c| allowed(c) || !is_hidden(c)) && text.chars().any(|c| !allowed(c) && is_seen(c))
}

/// Joiners, and marks of the direction of a word.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}')
}

/// Control characters, separators of lines, what Unicode lists as ignorable by default ([`is_mark`] apart), and what is
/// no character.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
        || matches!(c, '\u{fdd0}'..='\u{fdef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_code_or_a_text() {
        for code in ["E7", "SMSC.42:absent-1", "0", "123456", "x", &"A".repeat(64)] {
            assert_eq!(failure(Some(code)), (Some(code), None));
        }
        let texts =
            ["", "absent subscriber", "(E7)", "كود", "+93700000001", "0700000001", "1234567", "070-000-0001"];
        for text in texts.into_iter().chain([&*"A".repeat(65)]) {
            assert_eq!(failure(Some(text)), (None, Some(text)));
        }
        assert_eq!(failure(None), (None, None));
        assert!(is_ticket("INC-4711") && is_ticket("123456") && !is_ticket("0700000001"));
    }

    #[test]
    fn texts_of_any_script_are_taken() {
        for text in ["INC-4711", "وزارت صحت", "می‌خواهم", "é", "a b", "(E7) absent", "☎", "\u{200f}کابل 7"]
        {
            assert!(is_name(text) && is_reason(text) && is_failure_code(text), "{text:?}");
        }
        assert!(is_reason("first line\n\tsecond") && !is_name("first line\nsecond"));
    }

    #[test]
    fn what_is_hidden_is_refused() {
        let hidden = [
            "\u{200b}",
            "\u{200c}",
            "\u{feff}",
            " ",
            "\t\n",
            "\u{a0}",
            "\u{2800}",
            "a\u{0}",
            "a\u{7f}",
            "a\u{85}",
            "a\u{202e}b",
            "a\u{2066}b",
            "a\u{200b}b",
            "a\u{ad}b",
            "a\u{2028}b",
            "a\u{e0041}",
            "a\u{fffe}",
            "\u{3164}",
        ];
        for text in hidden {
            assert!(!is_name(text) && !is_reason(text) && !is_failure_code(text) && !is_id(text), "{text:?}");
        }
        assert!(!is_name("") && !is_reason("") && is_failure_code(""));
    }

    #[test]
    fn what_another_party_says_of_a_failure_is_clipped() {
        assert_eq!(clipped("no space\u{202e} left\n"), "no space\u{fffd} left\u{fffd}");
        let long = clipped(&"é".repeat(1_000));
        assert_eq!((long.len(), is_reason(&long)), (MAX_REASON_BYTES, true));
    }

    #[test]
    fn lengths_are_bounded() {
        for (rule, most) in [
            (is_id as fn(&str) -> bool, MAX_ID_CHARS),
            (is_name, MAX_NAME_BYTES),
            (is_failure_code, MAX_FAILURE_BYTES),
            (is_reason, MAX_REASON_BYTES),
        ] {
            assert!(rule(&"x".repeat(most)) && !rule(&"x".repeat(most + 1)), "{most}");
        }
        assert!(!is_id("two words") && !is_id("é"));
    }
}
