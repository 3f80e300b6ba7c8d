//! Named conversions between canonical values and the content of items. `tap-schemas/README.md` lists them.

use super::header::LocalTime;
use super::source::{Value, ValueKind};
use cdr_core::Millis;

/// The meaning of a string's octets; a mapping defines it for each type name of its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Printable ASCII.
    Ascii,
    /// Digits, high nibble first, filled up with F.
    Bcd,
    /// Decimal digits in ASCII.
    Digits,
    /// Hexadecimal digits in ASCII.
    Hex,
    /// Not octets, but an INTEGER.
    Integer,
    /// Not octets, but an item that is encoded already.
    Encoded,
}

impl Content {
    /// The content with that name in mappings.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "ascii" => Some(Self::Ascii),
            "bcd" => Some(Self::Bcd),
            "digits" => Some(Self::Digits),
            "hex" => Some(Self::Hex),
            _ => None,
        }
    }

    /// The names that mappings may use.
    pub(super) const NAMES: &'static str = "ascii, bcd, digits, hex";
}

/// A named conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    /// `text`: as it is, in the alphabet of the content.
    Text,
    /// `percent`: UTF-8 with %XX for what is not printable ASCII, and for the percent sign.
    Percent,
    /// `bcd`: the digits of an address or IMSI, without its plus sign.
    Bcd,
    /// `bcd-if-number`: as `bcd`, but absent for what is not a number, such as an alphanumeric sender.
    BcdIfNumber,
    /// `number`: a number in decimal, with leading zeros up to `width`.
    Number { width: usize },
    /// `integer`: a number as INTEGER.
    Integer,
    /// `decimal`: money with six decimal places.
    Decimal,
    /// `local-time`: CCYYMMDDhhmmss at the offset that applies.
    LocalTime,
    /// `utc-offset`: +hhmm.
    UtcOffset,
    /// `utc-offset-code`: quarters of an hour east of -12:00, so that a call event does not depend on its neighbours.
    UtcOffsetCode,
    /// `utc-time`: RFC 3339 in UTC with milliseconds.
    UtcTime,
    /// `encoded`: bytes as they are.
    Encoded,
}

/// What a conversion gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Nothing: the item is left out.
    Nothing,
    /// Bytes, appended to the output.
    Bytes,
    /// A number for an INTEGER.
    Integer(i128),
}

/// The easternmost and westernmost offsets with a code, in minutes.
const OFFSETS: std::ops::RangeInclusive<i16> = -720..=840;

impl Conversion {
    /// The conversion with that name in mappings.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "text" => Self::Text,
            "percent" => Self::Percent,
            "bcd" => Self::Bcd,
            "bcd-if-number" => Self::BcdIfNumber,
            "number" => Self::Number { width: 0 },
            "integer" => Self::Integer,
            "decimal" => Self::Decimal,
            "local-time" => Self::LocalTime,
            "utc-offset" => Self::UtcOffset,
            "utc-offset-code" => Self::UtcOffsetCode,
            "utc-time" => Self::UtcTime,
            _ => return None,
        })
    }

    /// The names that mappings may use.
    pub(super) const NAMES: &'static str = "text, percent, bcd, bcd-if-number, number, integer, decimal, local-time, \
         utc-offset, utc-offset-code, utc-time";

    /// The conversion of a value where the mapping names none.
    pub(super) fn of(kind: ValueKind, content: Content) -> Option<Self> {
        match (kind, content) {
            (ValueKind::Text, Content::Bcd) => Some(Self::Bcd),
            (ValueKind::Text, Content::Ascii | Content::Digits | Content::Hex) => Some(Self::Text),
            (ValueKind::Integer, Content::Integer) => Some(Self::Integer),
            (ValueKind::Integer, Content::Ascii | Content::Digits) => Some(Self::Number { width: 0 }),
            (ValueKind::Encoded, Content::Encoded) => Some(Self::Encoded),
            _ => None,
        }
    }

    /// True if the conversion turns values of `kind` into `content`.
    pub(super) fn fits(self, kind: ValueKind, content: Content) -> bool {
        let is_ascii = content == Content::Ascii;
        match self {
            Self::Text => {
                kind == ValueKind::Text
                    && !matches!(content, Content::Integer | Content::Encoded | Content::Bcd)
            }
            Self::Percent => kind == ValueKind::Text && is_ascii,
            Self::Bcd | Self::BcdIfNumber => kind == ValueKind::Text && content == Content::Bcd,
            Self::Number { .. } => {
                kind == ValueKind::Integer && matches!(content, Content::Ascii | Content::Digits)
            }
            Self::Integer => kind == ValueKind::Integer && content == Content::Integer,
            Self::Decimal => kind == ValueKind::Money && is_ascii,
            Self::LocalTime => kind == ValueKind::Time && matches!(content, Content::Ascii | Content::Digits),
            Self::UtcOffset => matches!(kind, ValueKind::Time | ValueKind::Offset) && is_ascii,
            Self::UtcOffsetCode => {
                matches!(kind, ValueKind::Time | ValueKind::Offset) && content == Content::Integer
            }
            Self::UtcTime => kind == ValueKind::Time && is_ascii,
            Self::Encoded => kind == ValueKind::Encoded && content == Content::Encoded,
        }
    }

    /// Converts `value` and appends what becomes of it to `out`.
    ///
    /// # Errors
    /// Why the value has no such form; what was appended is then worthless.
    pub(super) fn apply(
        self,
        value: Value<'_>,
        content: Content,
        out: &mut Vec<u8>,
    ) -> Result<Given, String> {
        match self {
            Self::Text => push_text(value, content, out),
            Self::Percent => push_percent(value, out),
            Self::Bcd => push_bcd(value, out),
            Self::BcdIfNumber if is_number(value) => push_bcd(value, out),
            Self::BcdIfNumber => Ok(Given::Nothing),
            Self::Number { width } => push_number(value, width, out),
            Self::Integer => integer(value).map(Given::Integer),
            Self::Decimal => match value {
                Value::Money(money) => {
                    money.push(out);
                    Ok(Given::Bytes)
                }
                _ => Err(mismatch()),
            },
            Self::LocalTime => push_local_time(value, out),
            Self::UtcOffset => push_utc_offset(value, out),
            Self::UtcOffsetCode => offset_code(offset(value)?).map(Given::Integer),
            Self::UtcTime => match value {
                Value::Time(time) => {
                    time.at.push_utc(out);
                    Ok(Given::Bytes)
                }
                _ => Err(mismatch()),
            },
            Self::Encoded => match value {
                Value::Encoded(bytes) => {
                    out.extend_from_slice(bytes);
                    Ok(Given::Bytes)
                }
                _ => Err(mismatch()),
            },
        }
    }
}

fn mismatch() -> String {
    "the conversion does not fit the value".to_owned()
}

fn push_text(value: Value<'_>, content: Content, out: &mut Vec<u8>) -> Result<Given, String> {
    let start = out.len();
    match value {
        Value::Text(text) => out.extend_from_slice(text.as_bytes()),
        Value::Id(id) => {
            out.extend_from_slice(b"cdr_");
            id.push_base32(out);
        }
        Value::AdjustmentId(id) => {
            out.extend_from_slice(b"adj_");
            id.push_base32(out);
        }
        Value::Uuid(uuid) => uuid.push(out),
        Value::Hour(hour) => hour.push_utc(out),
        _ => return Err(mismatch()),
    }
    let text = &out[start..];
    let (is_allowed, what) = match content {
        Content::Digits => (text.iter().all(u8::is_ascii_digit), "decimal digits"),
        Content::Hex => (text.iter().all(u8::is_ascii_hexdigit), "hexadecimal digits"),
        _ => (is_printable(text), "printable ASCII"),
    };
    if is_allowed { Ok(Given::Bytes) } else { Err(format!("it is not {what}")) }
}

/// True if everything is printable ASCII. Without a branch for each byte, so that it costs next to nothing.
fn is_printable(text: &[u8]) -> bool {
    text.iter().fold(true, |so_far, byte| so_far & (0x20..0x7f).contains(byte))
}

fn push_percent(value: Value<'_>, out: &mut Vec<u8>) -> Result<Given, String> {
    let Value::Text(text) = value else { return push_text(value, Content::Ascii, out) };
    if is_printable(text.as_bytes()) && !text.contains('%') {
        out.extend_from_slice(text.as_bytes());
        return Ok(Given::Bytes);
    }
    for &byte in text.as_bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble & 15)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
        }
    }
    Ok(Given::Bytes)
}

fn digits(value: Value<'_>) -> Option<&[u8]> {
    let Value::Text(text) = value else { return None };
    let digits = text.strip_prefix('+').unwrap_or(text).as_bytes();
    (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some(digits)
}

/// True for an address in E.164: a plus sign and digits.
fn is_number(value: Value<'_>) -> bool {
    matches!(value, Value::Text(text) if text.starts_with('+')) && digits(value).is_some()
}

fn push_bcd(value: Value<'_>, out: &mut Vec<u8>) -> Result<Given, String> {
    let digits = digits(value).ok_or("it is not a number of decimal digits")?;
    for pair in digits.chunks(2) {
        let low = pair.get(1).map_or(15, |digit| digit - b'0');
        out.push((pair[0] - b'0') << 4 | low);
    }
    Ok(Given::Bytes)
}

fn integer(value: Value<'_>) -> Result<i128, String> {
    match value {
        Value::Integer(number) => Ok(number),
        _ => Err(mismatch()),
    }
}

fn push_number(value: Value<'_>, width: usize, out: &mut Vec<u8>) -> Result<Given, String> {
    let number = integer(value)?;
    let number = u64::try_from(number).map_err(|_| format!("{number} is not between 0 and 2^64"))?;
    let mut text = [b'0'; 20];
    let (mut at, mut rest) = (text.len(), number);
    while at == text.len() || rest > 0 {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    if width > 0 && text.len() - at > width {
        return Err(format!("{number} has more than {width} digits"));
    }
    let from = if width == 0 { at } else { text.len() - width };
    out.extend_from_slice(&text[from..]);
    Ok(Given::Bytes)
}

fn push_local_time(value: Value<'_>, out: &mut Vec<u8>) -> Result<Given, String> {
    let Value::Time(time) = value else { return Err(mismatch()) };
    if !time.at.has_local(time.offset_minutes) {
        return Err("the instant has no local time with a year of four digits".to_owned());
    }
    let start = out.len();
    time.at.push_local(time.offset_minutes, out);
    // 2026-04-20T17:30:00.123+04:30 -> 20260420173000
    for (to, from) in [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18].into_iter().enumerate() {
        out[start + to] = out[start + from];
    }
    out.truncate(start + 14);
    Ok(Given::Bytes)
}

fn offset(value: Value<'_>) -> Result<i16, String> {
    match value {
        Value::Time(LocalTime { offset_minutes, .. }) | Value::Offset(offset_minutes) => Ok(offset_minutes),
        _ => Err(mismatch()),
    }
}

fn push_utc_offset(value: Value<'_>, out: &mut Vec<u8>) -> Result<Given, String> {
    let offset = offset(value)?;
    let minutes = offset.unsigned_abs();
    if minutes >= 24 * 60 {
        return Err(format!("an offset of {offset} minutes from UTC"));
    }
    let digit = |number: u16| b'0' + (number % 10) as u8;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let sign = if offset < 0 { b'-' } else { b'+' };
    out.extend_from_slice(&[sign, digit(hours / 10), digit(hours), digit(minutes / 10), digit(minutes)]);
    Ok(Given::Bytes)
}

/// The code of an offset in minutes.
fn offset_code(offset: i16) -> Result<i128, String> {
    if OFFSETS.contains(&offset) && offset % 15 == 0 {
        Ok(i128::from((offset - OFFSETS.start()) / 15))
    } else {
        Err(format!(
            "an offset of {offset} minutes from UTC has no code: only quarters of an hour from -12:00 to +14:00"
        ))
    }
}

/// The offset in minutes of a code.
pub(super) fn offset_of_code(code: i128) -> Option<i16> {
    let offset = i16::try_from(code.checked_mul(15)?).ok()?.checked_add(*OFFSETS.start())?;
    (code >= 0 && OFFSETS.contains(&offset)).then_some(offset)
}

/// The instant of a local time `CCYYMMDDhhmmss` at an offset in minutes.
pub(super) fn local_time(text: &[u8], offset_minutes: i16) -> Option<LocalTime> {
    if text.len() != 14 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let (date, time) = text.split_at(8);
    let local = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    );
    let at = Millis(Millis::parse(&local)?.0 - i64::from(offset_minutes) * 60_000);
    Some(LocalTime { at, offset_minutes })
}

/// The minutes of an offset `+hhmm`.
pub(super) fn offset_of_text(text: &[u8]) -> Option<i16> {
    let [sign @ (b'+' | b'-'), digits @ ..] = text else { return None };
    if digits.len() != 4 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |pair: &[u8]| i16::from(pair[0] - b'0') * 10 + i16::from(pair[1] - b'0');
    let minutes = number(&digits[..2]) * 60 + number(&digits[2..]);
    (digits[2] < b'6' && minutes < 24 * 60).then_some(if *sign == b'-' { -minutes } else { minutes })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(conversion: Conversion, value: Value<'_>, content: Content) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        conversion.apply(value, content, &mut out).map(|_| out)
    }

    #[test]
    fn digits_in_nibbles_with_a_filler() {
        let bcd = |text| bytes(Conversion::Bcd, Value::Text(text), Content::Bcd);
        assert_eq!(bcd("412011234567890").unwrap(), [0x41, 0x20, 0x11, 0x23, 0x45, 0x67, 0x89, 0x0f]);
        assert_eq!(bcd("+937").unwrap(), [0x93, 0x7f]);
        for text in ["", "+", "12a", "AzizBank", "+1 2"] {
            assert!(bcd(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut out = Vec::new();
        let mut given =
            |text| Conversion::BcdIfNumber.apply(Value::Text(text), Content::Bcd, &mut out).unwrap();
        assert_eq!(given("2FA"), Given::Nothing);
        assert_eq!(given("12345"), Given::Nothing, "a short code is a name, not an E.164 number");
        assert_eq!(given("+93701234567"), Given::Bytes);
    }

    #[test]
    fn texts_outside_ascii() {
        let percent = |text| bytes(Conversion::Percent, Value::Text(text), Content::Ascii).unwrap();
        assert_eq!(percent("100% ok\n"), b"100%25 ok%0A");
        assert_eq!(percent("هوا"), b"%D9%87%D9%88%D8%A7");
        assert!(bytes(Conversion::Text, Value::Text("هوا"), Content::Ascii).is_err());
        assert!(bytes(Conversion::Text, Value::Text("12a"), Content::Digits).is_err());
    }

    #[test]
    fn numbers_with_zeros() {
        let number = |n, width| bytes(Conversion::Number { width }, Value::Integer(n), Content::Digits);
        assert_eq!(number(42, 5).unwrap(), b"00042");
        assert_eq!(number(42, 0).unwrap(), b"42");
        assert_eq!(number(0, 0).unwrap(), b"0");
        assert_eq!(number(u64::MAX.into(), 20).unwrap(), b"18446744073709551615");
        assert_eq!(number(7, 20).unwrap(), b"00000000000000000007");
        assert!(number(100_000, 5).is_err() && number(-1, 0).is_err());
    }

    #[test]
    fn times_and_offsets() {
        let at = Millis::parse("2026-04-20T13:00:00.123Z").unwrap();
        let time = |offset| Value::Time(LocalTime::new(at, offset));
        assert_eq!(bytes(Conversion::LocalTime, time(270), Content::Digits).unwrap(), b"20260420173000");
        assert_eq!(bytes(Conversion::UtcOffset, time(-210), Content::Ascii).unwrap(), b"-0330");
        assert_eq!(
            bytes(Conversion::UtcTime, time(270), Content::Ascii).unwrap(),
            b"2026-04-20T13:00:00.123Z"
        );
        assert!(bytes(Conversion::UtcOffset, Value::Offset(1440), Content::Ascii).is_err());
        let late = Value::Time(LocalTime::new(Millis(cdr_core::time::MAX_MILLIS), 270));
        assert!(bytes(Conversion::LocalTime, late, Content::Digits).is_err());
    }

    #[test]
    fn codes_of_offsets() {
        assert_eq!(offset_code(-720), Ok(0));
        assert_eq!(offset_code(270), Ok(66));
        assert_eq!(offset_code(840), Ok(104));
        assert!(offset_code(7).is_err() && offset_code(855).is_err() && offset_code(i16::MIN).is_err());
        assert_eq!(offset_of_code(105), None);
        assert_eq!(offset_of_code(-1), None);
        assert_eq!(offset_of_code(i128::MAX), None);
    }

    proptest! {
        #[test]
        fn codes_and_back(quarters in -48i16..=56) {
            let offset = quarters * 15;
            prop_assert_eq!(offset_of_code(offset_code(offset).unwrap()), Some(offset));
        }

        #[test]
        fn times_and_back(seconds in 86_400i64..253_402_214_400, offset in -1439i16..1440) {
            let time = LocalTime::new(Millis(seconds * 1000), offset);
            let local = bytes(Conversion::LocalTime, Value::Time(time), Content::Digits).unwrap();
            let text = bytes(Conversion::UtcOffset, Value::Time(time), Content::Ascii).unwrap();
            prop_assert_eq!(offset_of_text(&text), Some(offset));
            prop_assert_eq!(local_time(&local, offset), Some(time));
        }

        #[test]
        fn percent_is_ascii_and_reversible(text in any::<String>()) {
            let encoded = bytes(Conversion::Percent, Value::Text(&text), Content::Ascii).unwrap();
            prop_assert!(encoded.iter().all(|byte| (0x20..0x7f).contains(byte)));
            let mut decoded = Vec::new();
            let mut rest = &encoded[..];
            while let [byte, tail @ ..] = rest {
                if *byte == b'%' {
                    decoded.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
                    rest = &tail[2..];
                } else {
                    decoded.push(*byte);
                    rest = tail;
                }
            }
            prop_assert_eq!(decoded, text.into_bytes());
        }
    }
}
