//! Subscribers' numbers, hidden from callers who may not see them: in answers of the API and in events.
//!
//! A text is a number if it has seven or more digits of any script and no letter, whatever is between the digits:
//! `+93771234567`, `0771234567`, `(077) 123 456`, `٠٧٧١٢٣٤٥٦٧`. An address keeps its country code and its last
//! two digits; of every other text that is a number at most its plus is left.
//!
//! Texts that people and other systems write may hold numbers beside words. There, nine digits count, or seven behind a
//! `+` or a `0`, together or grouped by spaces, dots, slashes, hyphens or parentheses. Digits that letters, hyphens or
//! underscores join to a letter belong to an id or a hash, and stay; so do dates and IP addresses.

use cdr_core::json::{MAX_BYTES, value_or_texts};
use serde_json::Value;
use std::borrow::Cow;
use std::net::Ipv4Addr;

/// What replaces a number in a text.
pub(crate) const HIDDEN: &str = "***";
const HIDDEN_E164: &str = "+***";
/// Digits that make a number of a text with nothing else.
pub(crate) const DIGITS_ALONE: usize = 7;
/// Digits that make a number among words.
const DIGITS_AMONG_WORDS: usize = 9;

/// Zeros with which numbers begin here: Latin, Arabic-Indic, Eastern Arabic-Indic, full-width.
const ZEROS: [char; 4] = ['0', '\u{660}', '\u{6f0}', '\u{ff10}'];

/// Members that hold what an outside party sent, of whatever form.
const FOREIGN: &[&str] = &["payload", "atraErrorPayload"];
/// Members that are codes of the system, settings or keys, though they may be all digits.
const NO_NUMBERS: &[&str] = &[
    "content",
    "fileName",
    "newValue",
    "previousValue",
    "publicKey",
    "recipient",
    "recordingEntity",
    "rootSignature",
    "senderRoamingPartner",
    "signature",
];
/// How the names of members end that are ids (but `ticketId`), times, hashes or amounts.
const NO_NUMBERS_END: &[&str] =
    &["Id", "At", "Day", "Hour", "Hash", "Sha256", "Amount", "Charge", "Delta", "Minor", "Rates"];

/// True if `text` is a number and nothing else.
pub fn is_number(text: &str) -> bool {
    !text.chars().any(char::is_alphabetic) && count_digits(text) >= DIGITS_ALONE
}

/// An address for the eye. Of an E.164 number country code and last two digits stay, of any other number the last two
/// digits; a name stays, except for numbers in it.
pub fn address(address: &str) -> Cow<'_, str> {
    match address.strip_prefix('+') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Cow::Owned(format!("+{}", keep_ends(digits, country_code_digits(digits))))
        }
        _ if is_number(address) => Cow::Owned(keep_ends(address, 0)),
        _ => text(address),
    }
}

/// An IMSI with all but its country (MCC, three digits) and its last two digits hidden.
pub fn imsi(imsi: &str) -> String {
    keep_ends(imsi, 3)
}

/// A free text, without the numbers in it.
pub fn text(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_numeric) || is_of_time_or_place(text) {
        return Cow::Borrowed(text);
    }
    if is_number(text) {
        // The plus is not a digit, and shows that it was a number.
        return Cow::Borrowed(if text.starts_with('+') { HIDDEN_E164 } else { HIDDEN });
    }
    among_words(text)
}

/// A JSON value of this system, without the numbers in its texts; true if there were any. What an outside party sent is
/// searched as by [`foreign`]; ids, times, amounts and recording entities stay.
pub fn own(value: &mut Value) -> bool {
    match value {
        Value::String(held) => hide(held),
        Value::Array(values) => values.iter_mut().fold(false, |hidden, value| own(value) | hidden),
        Value::Object(fields) => fields.iter_mut().fold(false, |hidden, (name, value)| {
            let name = name.as_str();
            let here = if FOREIGN.contains(&name) {
                sent(value)
            } else if is_no_number(name) {
                false
            } else {
                own(value)
            };
            here | hidden
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What an outside party sent, searched by [`foreign`] as the value that it is the text of, if it is kept as a text.
fn sent(value: &mut Value) -> bool {
    let kept = value.as_str().and_then(|text| value_or_texts(text.as_bytes(), MAX_BYTES).ok());
    let Some(mut inside) = kept else { return foreign(value) };
    let hidden = foreign(&mut inside);
    if hidden {
        *value = Value::String(inside.to_string());
    }
    hidden
}

/// A JSON value that an outside party sent, without what could be a number: in texts, in the names of members, and
/// where it is a JSON number; true if there was any.
pub fn foreign(value: &mut Value) -> bool {
    match value {
        Value::String(held) => hide(held),
        Value::Number(number) if count_digits(&number.to_string()) >= DIGITS_ALONE => {
            *value = Value::String(HIDDEN.to_owned());
            true
        }
        Value::Array(values) => values.iter_mut().fold(false, |hidden, value| foreign(value) | hidden),
        Value::Object(fields) => {
            let mut hidden = false;
            let all = std::mem::take(fields);
            fields.extend(all.into_iter().map(|(mut name, mut value)| {
                hidden |= foreign(&mut value);
                hidden |= hide(&mut name);
                (name, value)
            }));
            hidden
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Hides the numbers in a text; true if there were any.
fn hide(held: &mut String) -> bool {
    match text(held) {
        Cow::Borrowed(same) if same == held.as_str() => false,
        other => {
            *held = other.into_owned();
            true
        }
    }
}

fn is_no_number(name: &str) -> bool {
    let of_kind = NO_NUMBERS_END.iter().any(|end| name.ends_with(end));
    NO_NUMBERS.contains(&name) || of_kind && name != "ticketId"
}

fn count_digits(text: &str) -> usize {
    text.chars().filter(|c| c.is_numeric()).count()
}

/// Every digit but the first `first` and the last two replaced by `*`; everything else stays.
fn keep_ends(text: &str, first: usize) -> String {
    let last = count_digits(text).saturating_sub(2).max(first);
    let mut digits = 0;
    text.chars()
        .map(|c| {
            let at = digits;
            digits += usize::from(c.is_numeric());
            if c.is_numeric() && (first..last).contains(&at) { '*' } else { c }
        })
        .collect()
}

/// How many digits the country code of an E.164 number has (ITU-T E.164, list of assigned codes).
fn country_code_digits(digits: &str) -> usize {
    let two = digits.get(..2).and_then(|code| code.parse::<u8>().ok()).unwrap_or(0);
    match two {
        10..=19 | 70..=79 => 1,
        20 | 27 | 28 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81..=84 | 86 | 90..=95 | 98 => {
            2
        }
        _ => 3,
    }
}

/// Replaces every number among words.
fn among_words(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut run: Option<Run> = None;
    for token in tokens(text) {
        let is_of_digits = token.text.chars().all(|c| c.is_numeric() || is_hyphen(c)) && !token.is_apart();
        let follows = |run: &Run| text[run.end..token.start].chars().all(groups);
        if let Some(run) = run.as_mut().filter(|run| is_of_digits && follows(run)) {
            run.end = token.end();
        } else {
            replace(text, run.take().as_ref(), &mut copied, &mut out);
            run = is_of_digits.then(|| Run { start: token.start, end: token.end() });
        }
    }
    replace(text, run.as_ref(), &mut copied, &mut out);
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Groups of digits that may be one number.
struct Run {
    start: usize,
    end: usize,
}

/// Appends what precedes a run, and its replacement, if it is a number.
fn replace(text: &str, run: Option<&Run>, copied: &mut usize, out: &mut String) {
    let Some(&Run { start, end }) = run else { return };
    let number = &text[start..end];
    let plus = text[..start].trim_end_matches(groups).ends_with(['+', '\u{ff0b}']);
    // An amount begins with a zero as well.
    let trunk_prefix = number.starts_with(ZEROS) && !number.starts_with("0.");
    let enough = if plus || trunk_prefix { DIGITS_ALONE } else { DIGITS_AMONG_WORDS };
    if count_digits(number) >= enough {
        out.push_str(&text[*copied..start]);
        out.push_str(HIDDEN);
        *copied = end;
    }
}

/// A word: letters, digits, hyphens and underscores.
struct Token<'a> {
    start: usize,
    text: &'a str,
}

impl Token<'_> {
    fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// True for what is not part of a number whatever surrounds it: a date, or hyphens alone.
    fn is_apart(&self) -> bool {
        is_date(self.text) || !self.text.chars().any(char::is_numeric)
    }
}

fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_' || is_hyphen(c);
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(in_word)?;
        let end = text[start..].find(|c| !in_word(c)).map_or(text.len(), |length| start + length);
        // An IP address is one word.
        let dotted =
            text[start..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(text.len(), |n| start + n);
        rest = if text[start..dotted].parse::<Ipv4Addr>().is_ok() { dotted } else { end };
        Some(Token { start, text: &text[start..rest] })
    })
}

/// True for what may stand between the digits of one number.
fn groups(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '.' | '/' | '(' | ')' | '\u{ff08}' | '\u{ff09}' | '\u{ff0e}' | '\u{ff0f}')
        || is_hyphen(c)
        || is_invisible(c)
}

fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}')
}

/// Marks that show nothing: of direction, of zero width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// True for a date or an IP address, which is all digits as well.
fn is_of_time_or_place(text: &str) -> bool {
    is_date(text) || text.parse::<Ipv4Addr>().is_ok()
}

/// `YYYY-MM-DD`, of this or the next century.
fn is_date(text: &str) -> bool {
    let within = |part: Option<&str>, length: usize, least: u32, most: u32| {
        part.is_some_and(|part| {
            part.len() == length
                && part.bytes().all(|b| b.is_ascii_digit())
                && part.parse().is_ok_and(|value: u32| (least..=most).contains(&value))
        })
    };
    let mut parts = text.split('-');
    within(parts.next(), 4, 1970, 2199)
        && within(parts.next(), 2, 1, 12)
        && within(parts.next(), 2, 1, 31)
        && parts.next().is_none()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
