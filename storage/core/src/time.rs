//! Instants, hours and their text forms (ledger format 2, "Notation").
//!
//! Instants are milliseconds since the Unix epoch; a bucket is a UTC hour. Text is RFC 3339 with exactly
//! three fraction digits and `Z`; a bucket hour has no fraction; local time carries its offset.

use bincode::{de::Decoder, error::DecodeError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;

/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Milliseconds in a day.
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// An instant: milliseconds since the Unix epoch, from 1970 to the end of 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode)]
pub struct Millis(pub i64);

/// A bucket hour: hours since the Unix epoch, UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode,
)]
pub struct Hour(pub u32);

/// Last instant that the four-digit years of RFC 3339 can name.
pub const MAX_MILLIS: i64 = 253_402_300_799_999;

impl Millis {
    /// The bucket hour that holds this instant.
    pub fn hour(self) -> Hour {
        Hour((self.0.clamp(0, MAX_MILLIS) / HOUR_MS) as u32)
    }

    /// Appends `2026-04-20T13:00:00.123Z`.
    pub fn push_utc(self, out: &mut Vec<u8>) {
        let mut text = *b"0000-00-00T00:00:00.000Z";
        write_date_time(&mut text, self.0);
        out.extend_from_slice(&text);
    }

    /// True if [`Millis::push_local`] can write this instant: local time too must lie in a year of four digits, and an
    /// offset is less than a day. The last hours of 9999 have no local time east of Greenwich.
    pub fn has_local(self, offset_minutes: i16) -> bool {
        let local = self.0 + i64::from(offset_minutes) * 60_000;
        offset_minutes.unsigned_abs() < 24 * 60 && local <= MAX_MILLIS
    }

    /// Appends `2026-04-20T17:30:00.123+04:30` for an offset of 270 minutes; [`Millis::has_local`] must hold.
    pub fn push_local(self, offset_minutes: i16, out: &mut Vec<u8>) {
        let mut text = *b"0000-00-00T00:00:00.000+00:00";
        write_date_time(&mut text, self.0 + i64::from(offset_minutes) * 60_000);
        if offset_minutes < 0 {
            text[23] = b'-';
        }
        let minutes = u32::from(offset_minutes.unsigned_abs());
        two_digits(&mut text[24..26], minutes / 60);
        two_digits(&mut text[27..29], minutes % 60);
        out.extend_from_slice(&text);
    }

    /// As [`parse`](Self::parse), with `t` and `z` as RFC 3339 allows them: for what others say. In the ledger itself
    /// nothing reads in two ways.
    pub fn parse_any_case(text: &str) -> Option<Self> {
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            Self::parse(&text.to_ascii_uppercase())
        } else {
            Self::parse(text)
        }
    }

    /// Parses RFC 3339: `T` and `Z` in upper case, any offset, fractions finer than a millisecond
    /// truncated. Second 60 and years outside 1970..=9999 are refused.
    pub fn parse(text: &str) -> Option<Self> {
        let b = text.as_bytes();
        if b.len() < 20 || b[4] != b'-' || b[7] != b'-' || b[10] != b'T' || b[13] != b':' || b[16] != b':' {
            return None;
        }
        let year = number(&b[0..4])?;
        let (month, day) = (number(&b[5..7])?, number(&b[8..10])?);
        let (hour, minute, second) = (number(&b[11..13])?, number(&b[14..16])?, number(&b[17..19])?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (fraction_ms, rest) = parse_fraction(&b[19..])?;
        let offset_minutes = parse_offset(rest)?;
        let days = days_from_civil(i64::from(year), month, day);
        let ms = days * DAY_MS
            + i64::from(hour) * HOUR_MS
            + i64::from(minute) * 60_000
            + i64::from(second) * 1000
            + i64::from(fraction_ms)
            - i64::from(offset_minutes) * 60_000;
        (0..=MAX_MILLIS).contains(&ms).then_some(Self(ms))
    }
}

impl<C> bincode::Decode<C> for Millis {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let ms = i64::decode(decoder)?;
        if (0..=MAX_MILLIS).contains(&ms) {
            Ok(Self(ms))
        } else {
            Err(DecodeError::Other("instant outside 1970 to 9999"))
        }
    }
}
bincode::impl_borrow_decode!(Millis);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(24);
        self.push_utc(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Hour {
    /// First instant of the hour.
    pub fn start(self) -> Millis {
        Millis(i64::from(self.0) * HOUR_MS)
    }

    /// First instant after the hour.
    pub fn end(self) -> Millis {
        Millis((i64::from(self.0) + 1) * HOUR_MS)
    }

    /// The hour after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Appends `2026-04-20T13:00:00Z`.
    pub fn push_utc(self, out: &mut Vec<u8>) {
        let mut text = *b"0000-00-00T00:00:00.000Z";
        write_date_time(&mut text, self.start().0);
        out.extend_from_slice(&text[..19]);
        out.push(b'Z');
    }

    /// Parses a bucket hour: an RFC 3339 instant that lies on a full UTC hour.
    pub fn parse(text: &str) -> Option<Self> {
        let at = Millis::parse(text)?;
        (at.0 % HOUR_MS == 0).then(|| at.hour())
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(20);
        self.push_utc(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// A calendar day, counted from 1970-01-01.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode,
)]
pub struct Day(pub u32);

impl Day {
    /// The day that clocks `offset_minutes` east of UTC show at an instant; the first day for instants before it.
    pub fn local(at: Millis, offset_minutes: i16) -> Self {
        let local = at.0.saturating_add(i64::from(offset_minutes) * 60_000);
        Self(u32::try_from(local.div_euclid(DAY_MS)).unwrap_or(0))
    }

    /// The day after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Midnight of the day in UTC.
    pub fn start_utc(self) -> Millis {
        Millis(i64::from(self.0) * DAY_MS)
    }

    /// Parses `2026-04-20`.
    pub fn parse(text: &str) -> Option<Self> {
        let at = Millis::parse(&format!("{text}T00:00:00Z"))?;
        u32::try_from(at.0 / DAY_MS).ok().map(Self).filter(|day| day.to_string() == text)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.start_utc().to_string();
        f.write_str(&text[..10])
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected a day such as 2026-04-20"))
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected an RFC 3339 instant"))
    }
}

impl Serialize for Hour {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom("expected a full UTC hour such as 2026-04-20T13:00:00Z"))
    }
}

/// Two decimal digits for every number below a hundred.
const DIGIT_PAIRS: [[u8; 2]; 100] = {
    let mut table = [[0u8; 2]; 100];
    let mut i = 0;
    while i < 100 {
        table[i] = [b'0' + i as u8 / 10, b'0' + i as u8 % 10];
        i += 1;
    }
    table
};

fn two_digits(out: &mut [u8], value: u32) {
    out.copy_from_slice(&DIGIT_PAIRS[(value % 100) as usize]);
}

/// Fills the first 23 bytes (`YYYY-MM-DDTHH:MM:SS.mmm`) of `text`.
fn write_date_time(text: &mut [u8], ms: i64) {
    let (days, in_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS) as u32);
    let (year, month, day) = civil_from_days(days);
    let seconds = in_day / 1000;
    two_digits(&mut text[0..2], year / 100);
    two_digits(&mut text[2..4], year % 100);
    two_digits(&mut text[5..7], month);
    two_digits(&mut text[8..10], day);
    two_digits(&mut text[11..13], seconds / 3600);
    two_digits(&mut text[14..16], seconds / 60 % 60);
    two_digits(&mut text[17..19], seconds % 60);
    let fraction = in_day - seconds * 1000;
    text[20] = b'0' + (fraction / 100) as u8;
    two_digits(&mut text[21..23], fraction % 100);
}

fn number(digits: &[u8]) -> Option<u32> {
    let mut value = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u32::from(digit - b'0');
    }
    Some(value)
}

/// Milliseconds of an optional `.fff…`, and what follows it.
fn parse_fraction(rest: &[u8]) -> Option<(u32, &[u8])> {
    if rest.first() != Some(&b'.') {
        return Some((0, rest));
    }
    let digits = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > 18 {
        return None;
    }
    let mut ms = 0;
    for i in 0..3 {
        ms = ms * 10 + if i < digits { u32::from(rest[1 + i] - b'0') } else { 0 };
    }
    Some((ms, &rest[1 + digits..]))
}

fn parse_offset(rest: &[u8]) -> Option<i32> {
    match rest {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let total = (hours * 60 + minutes) as i32;
            Some(if *sign == b'-' { -total } else { total })
        }
        _ => None,
    }
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since the epoch of a proleptic Gregorian date.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (u32, u32, u32) {
    // Days since 0000-03-01, never negative here.
    let z = (days + 719_468) as u32;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u32::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        let at = Millis::parse("2026-04-20T13:00:00.123Z").unwrap();
        assert_eq!(at.0, 1_776_690_000_123);
        assert_eq!(at.to_string(), "2026-04-20T13:00:00.123Z");
        assert_eq!(at.hour().to_string(), "2026-04-20T13:00:00Z");
        let mut local = Vec::new();
        at.push_local(270, &mut local);
        assert_eq!(local, b"2026-04-20T17:30:00.123+04:30");
        assert_eq!(Millis::parse("2026-04-20T17:30:00.1239+04:30"), Some(at));
        assert_eq!(Millis::parse("2026-04-20T13:00:00Z"), Some(Millis(1_776_690_000_000)));
        assert_eq!(Millis::parse_any_case("2026-04-20t13:00:00z"), Some(Millis(1_776_690_000_000)));
        assert_eq!(Millis::parse("2026-04-20t13:00:00Z").or(Millis::parse("2026-04-20T13:00:00z")), None);
    }

    #[test]
    fn refused_texts() {
        for text in [
            "2026-04-20T13:00:60.000Z",
            "2026-02-29T13:00:00.000Z",
            "2026-04-20 13:00:00.000Z",
            "2026-04-20T13:00:00.Z",
            "2026-04-20T13:00:00.000",
            "2026-04-20T24:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "2026-04-20T13:00:00.000+4:30",
        ] {
            assert_eq!(Millis::parse(text), None, "{text}");
        }
        assert_eq!(Hour::parse("2026-04-20T13:00:00.001Z"), None);
        assert_eq!(Hour::parse("2026-04-20T17:30:00+04:30"), Hour::parse("2026-04-20T13:00:00Z"));
    }

    #[test]
    fn the_last_hours_of_9999_have_no_local_time_in_the_east() {
        let last = Millis(MAX_MILLIS - 270 * 60_000);
        assert!(last.has_local(270) && !Millis(last.0 + 1).has_local(270));
        let mut text = Vec::new();
        last.push_local(270, &mut text);
        assert_eq!(text, b"9999-12-31T23:59:59.999+04:30");
        assert!(Millis(MAX_MILLIS).has_local(0) && Millis(MAX_MILLIS).has_local(-270));
        let mut text = Vec::new();
        Millis(0).push_local(-270, &mut text);
        assert_eq!(text, b"1969-12-31T19:30:00.000-04:30");
        assert!(!Millis(0).has_local(1_440) && !Millis(0).has_local(i16::MIN));
    }

    proptest! {
        #[test]
        fn text_and_back(ms in 0..=MAX_MILLIS) {
            prop_assert_eq!(Millis::parse(&Millis(ms).to_string()), Some(Millis(ms)));
        }

        #[test]
        fn local_text_names_the_same_instant(ms in DAY_MS..MAX_MILLIS - DAY_MS, offset in -1080i16..=1080) {
            let mut text = Vec::new();
            Millis(ms).push_local(offset, &mut text);
            prop_assert_eq!(Millis::parse(std::str::from_utf8(&text).unwrap()), Some(Millis(ms)));
        }
    }
}
