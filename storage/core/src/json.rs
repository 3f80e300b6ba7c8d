//! The one reader of JSON from outside: bodies, messages, tokens, key sets, proof files.
//!
//! What two readers could understand differently is refused, whatever is needed of the text (RFC 7493, I-JSON): bytes that are
//! no UTF-8, half a surrogate pair, a key that occurs twice in one object, however it is escaped. Nesting ends at
//! [`MAX_DEPTH`], so that whatever was accepted can be read again inside a row, a proof and an event.
//!
//! A number keeps its text until its value is needed. Only one that an IEEE 754 double holds exactly has a value here:
//! an integer up to 2^53 - 1, or at most 15 significant digits. Any other would change without a word.

mod scan;

use crate::canonical::MAX_INTEGER;
use scan::{Repeats, Scanner};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;

/// How deep objects and lists may be nested; the outermost counts.
pub const MAX_DEPTH: usize = 32;
/// Largest text that may enter the log, in bytes: a message, a body, a part of it.
pub const MAX_BYTES: usize = 65_536;
/// Largest text of a file or a response that is only read, in bytes.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// Significant decimal digits that a double always keeps.
const MOST_DIGITS: usize = 15;
/// Of a key or number, this many characters are repeated in an error.
const SHOWN_CHARS: usize = 40;

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Too large.
    #[error("it is over {limit_bytes} bytes")]
    TooLarge {
        /// Largest size, bytes.
        limit_bytes: usize,
    },
    /// Not JSON in UTF-8 with whole surrogate pairs, or not of the form that is read.
    #[error("{why}")]
    Syntax {
        /// What is wrong, and where.
        why: String,
    },
    /// JSON, but not an object.
    #[error("a JSON object is expected")]
    NotAnObject,
    /// Nested too deep.
    #[error("it is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// A key occurs twice in one object.
    #[error("the key {} appears twice in one object", shown(key))]
    RepeatedKey {
        /// The key, unescaped.
        key: String,
        /// Depth of the object; the outermost has 1.
        depth: usize,
    },
    /// A number that would change.
    #[error("the number {} can't be kept exactly: send it as a text", shown(number))]
    Inexact {
        /// Its text.
        number: String,
    },
}

/// The beginning of a text from outside, in quotes.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A value as it was sent; that of a member of an object that was read.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    text: &'a str,
    depth: usize,
}

/// The members of an object, in the order in which they were sent.
pub type Members<'a> = Vec<(Cow<'a, str>, Raw<'a>)>;

/// The members of the one object in `bytes`, with everything inside them checked; numbers may be of any size.
///
/// # Errors
/// [`JsonError`]
pub fn members(bytes: &[u8], limit_bytes: usize) -> Result<Members<'_>, JsonError> {
    object(utf8(bytes, limit_bytes)?, Repeats::Refused)
}

/// The members of the one object in `bytes`, in each of which keys may still stand twice: for sets of which one part may
/// be unusable without the others.
///
/// # Errors
/// [`JsonError`]
pub fn outermost(bytes: &[u8], limit_bytes: usize) -> Result<Members<'_>, JsonError> {
    object(utf8(bytes, limit_bytes)?, Repeats::RefusedOutside)
}

fn object(text: &str, repeats: Repeats) -> Result<Members<'_>, JsonError> {
    let mut scanner = Scanner::new(text, repeats);
    scanner
        .whole(|scanner| {
            if scanner.is_object() { scanner.object(1).map(Some) } else { scanner.value(1).map(|_| None) }
        })?
        .ok_or(JsonError::NotAnObject)
}

/// The value of the text in `bytes`, every number of which can be kept exactly.
///
/// # Errors
/// [`JsonError`]
pub fn value(bytes: &[u8], limit_bytes: usize) -> Result<Value, JsonError> {
    raw(bytes, limit_bytes)?.value()
}

/// The same; a number that can't be kept exactly is a text there.
///
/// # Errors
/// [`JsonError`]
pub fn value_or_texts(bytes: &[u8], limit_bytes: usize) -> Result<Value, JsonError> {
    raw(bytes, limit_bytes)?.value_or_texts()
}

fn raw(bytes: &[u8], limit_bytes: usize) -> Result<Raw<'_>, JsonError> {
    Scanner::new(utf8(bytes, limit_bytes)?, Repeats::Refused).whole(|scanner| scanner.value(1))
}

/// As [`value`], of the form of `T`.
///
/// # Errors
/// [`JsonError`]
pub fn read<T: DeserializeOwned>(bytes: &[u8], limit_bytes: usize) -> Result<T, JsonError> {
    value(bytes, limit_bytes)?;
    serde_json::from_slice(bytes).map_err(syntax)
}

impl<'a> Raw<'a> {
    /// The bytes that were sent, without white space around them.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// True for `null`.
    pub fn is_null(self) -> bool {
        self.text == "null"
    }

    /// The characters of a text; none of anything else.
    ///
    /// # Errors
    /// [`JsonError::Syntax`] for half a surrogate pair.
    pub fn string(self) -> Result<Option<Cow<'a, str>>, JsonError> {
        let Some(inside) = self.text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
            return Ok(None);
        };
        if inside.contains('\\') {
            return serde_json::from_str(self.text).map(|text| Some(Cow::Owned(text))).map_err(syntax);
        }
        Ok(Some(Cow::Borrowed(inside)))
    }

    /// The value of an integer that is written without sign, fraction and exponent; none of anything else.
    pub fn integer(self) -> Option<u64> {
        self.text.parse().ok().filter(|_| self.text.bytes().all(|b| b.is_ascii_digit()))
    }

    /// The elements of a list, each still to be checked; none of anything else.
    ///
    /// # Errors
    /// [`JsonError::TooDeep`]
    pub fn elements(self) -> Result<Option<Vec<Raw<'a>>>, JsonError> {
        if self.text.starts_with('[') { self.list().map(Some) } else { Ok(None) }
    }

    /// Checks what is inside; numbers may be of any size.
    ///
    /// # Errors
    /// [`JsonError`]
    pub fn check(self) -> Result<(), JsonError> {
        Scanner::new(self.text, Repeats::Refused).value(self.depth).map(|_| ())
    }

    fn object(self) -> Result<Members<'a>, JsonError> {
        Scanner::new(self.text, Repeats::Refused).object(self.depth)
    }

    fn list(self) -> Result<Vec<Raw<'a>>, JsonError> {
        Scanner::new(self.text, Repeats::RefusedOutside).list(self.depth)
    }

    /// Its value, every number of which can be kept exactly.
    ///
    /// # Errors
    /// [`JsonError`]
    pub fn value(self) -> Result<Value, JsonError> {
        self.value_with(&|number| Err(JsonError::Inexact { number: number.to_owned() }))
    }

    /// Its value; a number that can't be kept exactly is a text there.
    ///
    /// # Errors
    /// [`JsonError`]
    pub fn value_or_texts(self) -> Result<Value, JsonError> {
        self.value_with(&|number| Ok(Value::String(number.to_owned())))
    }

    fn value_with(self, inexact: &impl Fn(&str) -> Result<Value, JsonError>) -> Result<Value, JsonError> {
        match self.text.as_bytes().first() {
            Some(b'{') => {
                let mut fields = Map::new();
                for (key, value) in self.object()? {
                    fields.insert(key.into_owned(), value.value_with(inexact)?);
                }
                Ok(Value::Object(fields))
            }
            Some(b'[') => {
                let elements = self.list()?.into_iter();
                elements
                    .map(|element| element.value_with(inexact))
                    .collect::<Result<_, _>>()
                    .map(Value::Array)
            }
            Some(b'"') => Ok(self.string()?.map_or(Value::Null, |text| Value::String(text.into_owned()))),
            Some(b't' | b'f') => Ok(Value::Bool(self.text == "true")),
            Some(b'n') | None => Ok(Value::Null),
            Some(_) => {
                exact(self.text).map_or_else(|| inexact(self.text), |number| Ok(Value::Number(number)))
            }
        }
    }
}

/// The value of a number's text, if a double holds it.
fn exact(text: &str) -> Option<Number> {
    let significand = text.split(['e', 'E']).next().unwrap_or_default();
    let is_integer = significand.len() == text.len() && !text.contains('.');
    // Zero has no sign as an integer.
    if is_integer && text != "-0" {
        return text.parse().ok().filter(|n: &i64| n.unsigned_abs() <= MAX_INTEGER).map(Number::from);
    }
    let digits: String = significand.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_matches('0').len();
    let value: f64 = text.parse().ok()?;
    let is_whole = significant == 0 || value.is_normal();
    if significant <= MOST_DIGITS && is_whole { Number::from_f64(value) } else { None }
}

fn utf8(bytes: &[u8], limit_bytes: usize) -> Result<&str, JsonError> {
    if bytes.len() > limit_bytes {
        return Err(JsonError::TooLarge { limit_bytes });
    }
    // Checked at once, which is cheaper than string by string.
    std::str::from_utf8(bytes).map_err(syntax)
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn syntax(why: impl fmt::Display) -> JsonError {
    JsonError::Syntax { why: why.to_string() }
}

#[cfg(test)]
mod tests;
