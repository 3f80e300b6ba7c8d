//! Identifiers: UUIDs, and record ids as prefixed Crockford base-32 of a UUIDv7 (ledger format 2, "Identity").

use crate::hash::{from_hex, hex_pair};
use std::fmt;

/// A UUID's 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bincode::Encode, bincode::Decode)]
pub struct Uuid(pub [u8; 16]);

/// The 128 bits of a record id, written `cdr_` + 26 characters; other prefixes name things that share them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bincode::Encode, bincode::Decode)]
pub struct CdrId(pub [u8; 16]);

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Uuid {
    /// Parses the lower-case hyphenated form; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let b = text.as_bytes();
        if b.len() != 36 || b[8] != b'-' || b[13] != b'-' || b[18] != b'-' || b[23] != b'-' {
            return None;
        }
        let mut digits = [0u8; 32];
        let mut filled = 0;
        for (i, &byte) in b.iter().enumerate() {
            if !matches!(i, 8 | 13 | 18 | 23) {
                digits[filled] = byte;
                filled += 1;
            }
        }
        from_hex(std::str::from_utf8(&digits).ok()?).map(Self)
    }

    /// Parses the hyphenated form as others may write it: digits of either case name the same UUID (RFC 9562, 4). The
    /// ledger has lower case only.
    pub fn parse_any_case(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| Self::parse(&text.to_ascii_lowercase()))
    }

    /// Appends the lower-case hyphenated form.
    pub fn push(self, out: &mut Vec<u8>) {
        let mut text = *b"00000000-0000-0000-0000-000000000000";
        for (at, byte) in [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34].into_iter().zip(self.0)
        {
            text[at..at + 2].copy_from_slice(&hex_pair(byte));
        }
        out.extend_from_slice(&text);
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(36);
        self.push(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl CdrId {
    /// A UUIDv7 (RFC 9562) from a time and random bits; the version and variant bits are set here.
    pub fn from_parts(at_ms: i64, random: [u8; 10]) -> Self {
        let mut bits = [0u8; 16];
        bits[..6].copy_from_slice(&at_ms.to_be_bytes()[2..]);
        bits[6..].copy_from_slice(&random);
        bits[6] = bits[6] & 0x0f | 0x70;
        bits[8] = bits[8] & 0x3f | 0x80;
        Self(bits)
    }

    /// Milliseconds since the epoch that the UUIDv7 carries.
    pub fn time_ms(self) -> i64 {
        self.0[..6].iter().fold(0, |ms, &byte| ms << 8 | i64::from(byte))
    }

    /// Appends the 26 Crockford characters, without prefix.
    pub fn push_base32(self, out: &mut Vec<u8>) {
        let value = u128::from_be_bytes(self.0);
        // 26 digits are 2 + 12 + 12, so that each part's bits fit a machine word.
        let mut text = [0u8; 26];
        for (range, part) in [(0..2, value >> 120), (2..14, value >> 60), (14..26, value)] {
            let mut bits = part as u64;
            for c in text[range].iter_mut().rev() {
                *c = CROCKFORD[(bits & 31) as usize];
                bits >>= 5;
            }
        }
        out.extend_from_slice(&text);
    }

    /// The id under another prefix, such as `adj_`.
    pub fn with_prefix(self, prefix: &str) -> String {
        let mut text = prefix.as_bytes().to_vec();
        self.push_base32(&mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Parses `prefix` + 26 Crockford characters in upper case (no `I`, `L`, `O`, `U`).
    pub fn parse_prefixed(prefix: &str, text: &str) -> Option<Self> {
        let digits = text.strip_prefix(prefix)?.as_bytes();
        if digits.len() != 26 || digits[0] > b'7' {
            return None;
        }
        let mut value = 0u128;
        for digit in digits {
            let index = CROCKFORD.iter().position(|c| c == digit)?;
            value = value << 5 | index as u128;
        }
        Some(Self(value.to_be_bytes()))
    }

    /// Parses `cdr_` + 26 characters.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_prefixed("cdr_", text)
    }
}

impl fmt::Display for CdrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_prefix("cdr_"))
    }
}

impl fmt::Debug for CdrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// True for names that `clusterId` and `operatorId` may have: `[A-Za-z0-9_-]{1,16}`.
pub fn is_name(text: &str) -> bool {
    (1..=16).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_and_smallest_id() {
        assert_eq!(CdrId([0; 16]).to_string(), "cdr_00000000000000000000000000");
        assert_eq!(CdrId([0xff; 16]).to_string(), "cdr_7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert_eq!(CdrId::parse("cdr_8ZZZZZZZZZZZZZZZZZZZZZZZZZ"), None);
        assert_eq!(CdrId::parse("cdr_0000000000000000000000000U"), None);
        assert_eq!(CdrId::parse("adj_00000000000000000000000000"), None);
    }

    #[test]
    fn a_uuid_v7_has_its_bits() {
        let id = CdrId::from_parts(1_776_690_000_123, [0xff; 10]);
        assert_eq!(id.time_ms(), 1_776_690_000_123);
        assert_eq!(id.0[6] >> 4, 7);
        assert_eq!(id.0[8] >> 6, 2);
    }

    #[test]
    fn digits_of_either_case_name_the_same_uuid() {
        let lower = "0f8fad5b-d9cb-469f-a165-70867728950e";
        for text in [lower, &lower.to_uppercase(), "0F8fad5b-d9cb-469f-a165-70867728950E"] {
            assert_eq!(Uuid::parse_any_case(text), Uuid::parse(lower), "{text}");
        }
        assert_eq!(Uuid::parse(&lower.to_uppercase()), None, "the ledger has lower case only");
        assert_eq!(Uuid::parse_any_case("0f8fad5bd9cb469fa16570867728950e"), None);
    }

    #[test]
    fn names() {
        assert!(is_name("MTN_AF") && is_name("_system"));
        assert!(!is_name("") && !is_name("a.b") && !is_name("seventeen-letters"));
    }

    proptest! {
        #[test]
        fn ids_round_trip(bits in any::<[u8; 16]>()) {
            prop_assert_eq!(CdrId::parse(&CdrId(bits).to_string()), Some(CdrId(bits)));
            prop_assert_eq!(Uuid::parse(&Uuid(bits).to_string()), Some(Uuid(bits)));
        }
    }
}
