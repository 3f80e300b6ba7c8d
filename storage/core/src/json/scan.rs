//! Over the bytes of JSON (RFC 8259), once: where each value ends, how deep it lies, which key occurs twice.
//!
//! Values are not built: most are used as they were sent, or not at all. Escapes, of which few texts have any, are
//! left to `serde_json`; tests compare the two.

use super::{JsonError, MAX_DEPTH, Members, Raw, syntax};
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::collections::HashSet;

/// Up to this many keys are compared one by one, which is cheaper than a set.
const FEW_KEYS: usize = 64;
/// Room for the members of an outermost object: more than a receipt has.
const USUAL_MEMBERS: usize = 24;

/// Where a key that occurs twice is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeats {
    /// At any depth.
    Refused,
    /// In the object itself, not in its members.
    RefusedOutside,
}

/// Goes over a text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    repeats: Repeats,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, repeats: Repeats) -> Self {
        Self { text, at: 0, repeats }
    }

    /// What `read` finds, if that is all there is.
    ///
    /// # Errors
    /// [`JsonError`]. What is not JSON is reported as that, even if it is nested too deep besides.
    pub(super) fn whole<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, JsonError>,
    ) -> Result<T, JsonError> {
        self.space();
        let outcome = read(self).and_then(|found| {
            self.space();
            if self.at == self.text.len() { Ok(found) } else { Err(self.refused()) }
        });
        outcome.map_err(|error| match (&error, serde_json::from_str::<IgnoredAny>(self.text)) {
            (JsonError::Syntax { .. } | JsonError::TooDeep, Err(known)) => syntax(known),
            _ => error,
        })
    }

    /// True if an object begins here.
    pub(super) fn is_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    /// The value that begins here, at this depth.
    pub(super) fn value(&mut self, depth: usize) -> Result<Raw<'a>, JsonError> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.object(depth).map(|_| ()),
            Some(b'[') => self.list(depth).map(|_| ()),
            Some(b'"') => self.string().map(|_| ()),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number(),
        }?;
        Ok(Raw { text: &self.text[start..self.at], depth })
    }

    /// The members of the object that begins here.
    pub(super) fn object(&mut self, depth: usize) -> Result<Members<'a>, JsonError> {
        not_too_deep(depth)?;
        self.expect(b'{')?;
        let mut members = Vec::with_capacity(if depth == 1 { USUAL_MEMBERS } else { 0 });
        self.space();
        while self.peek() != Some(b'}') || !members.is_empty() {
            self.space();
            let key = self.string()?;
            self.space();
            self.expect(b':')?;
            self.space();
            members.push((key, self.value(depth + 1)?));
            if !self.goes_on(b'}')? {
                return self.distinct(members, depth);
            }
        }
        self.expect(b'}')?;
        Ok(members)
    }

    /// The elements of the list that begins here.
    pub(super) fn list(&mut self, depth: usize) -> Result<Vec<Raw<'a>>, JsonError> {
        not_too_deep(depth)?;
        self.expect(b'[')?;
        let mut elements = Vec::new();
        self.space();
        while self.peek() != Some(b']') || !elements.is_empty() {
            self.space();
            elements.push(self.value(depth + 1)?);
            if !self.goes_on(b']')? {
                return Ok(elements);
            }
        }
        self.expect(b']')?;
        Ok(elements)
    }

    /// Past a comma, or past the end of what it would go on with.
    fn goes_on(&mut self, end: u8) -> Result<bool, JsonError> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            _ => self.expect(end).map(|()| false),
        }
    }

    fn distinct(&self, members: Members<'a>, depth: usize) -> Result<Members<'a>, JsonError> {
        if depth > 1 && self.repeats == Repeats::RefusedOutside {
            return Ok(members);
        }
        match repeated(&members) {
            Some(key) => Err(JsonError::RepeatedKey { key: key.to_owned(), depth }),
            None => Ok(members),
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at;
        self.expect(b'"')?;
        let mut has_escapes = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let special = rest.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20);
            self.at += special.unwrap_or(rest.len());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    self.at += 2;
                }
                _ => return Err(self.refused()),
            }
        }
        self.at += 1;
        let quoted = &self.text[start..self.at];
        if has_escapes {
            return serde_json::from_str(quoted).map(Cow::Owned).map_err(syntax);
        }
        Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading = self.peek();
        if self.digits()? > 1 && leading == Some(b'0') {
            return Err(self.refused());
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Past at least one digit; how many there are.
    fn digits(&mut self) -> Result<usize, JsonError> {
        let count = self.text.as_bytes()[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.refused()) } else { Ok(count) }
    }

    fn word(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.refused());
        }
        self.at += word.len();
        Ok(())
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.refused());
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn refused(&self) -> JsonError {
        syntax(format!("it is no JSON at byte {}", self.at))
    }
}

fn not_too_deep(depth: usize) -> Result<(), JsonError> {
    if depth > MAX_DEPTH { Err(JsonError::TooDeep) } else { Ok(()) }
}

/// A key that occurs twice.
fn repeated<'m>(members: &'m Members<'_>) -> Option<&'m str> {
    if members.len() > FEW_KEYS {
        let mut seen = HashSet::with_capacity(members.len());
        return members.iter().map(|(key, _)| &**key).find(|key| !seen.insert(*key));
    }
    // One bit for each key: only those that share theirs with another are compared.
    let mut seen = 0u64;
    for (i, (key, _)) in members.iter().enumerate() {
        let (first, last) = (key.as_bytes().first(), key.as_bytes().last());
        let ends = [first, last].map(|byte| byte.map_or(0, |byte| usize::from(*byte)));
        let bit = 1 << ((key.len() + 5 * ends[0] + 11 * ends[1]) % 64);
        if seen & bit != 0 && members[..i].iter().any(|(before, _)| before == key) {
            return Some(key);
        }
        seen |= bit;
    }
    None
}
