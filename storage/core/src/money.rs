//! Money: an exact decimal with six fraction digits (`decimal(18,6)`), never a binary fraction.

use bincode::{de::Decoder, error::DecodeError};
use rust_decimal::{Decimal, RoundingStrategy};
use std::fmt;

/// An amount in millionths of the currency's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode)]
pub struct Money(i64);

/// The largest magnitude of `decimal(18,6)`, in millionths.
const MAX_MICROS: i64 = 999_999_999_999_999_999;

/// The currencies of charges: those that events may name (event schemas, section 2.1).
pub const CURRENCIES: [&str; 2] = ["AFN", "USD"];

/// True if a charge may be in this currency.
pub fn is_currency(text: &str) -> bool {
    CURRENCIES.contains(&text)
}

impl Money {
    /// No money at all.
    pub const ZERO: Self = Self(0);

    /// From millionths; `None` beyond 18 digits.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (-MAX_MICROS..=MAX_MICROS).contains(&micros).then_some(Self(micros))
    }

    /// The amount in millionths.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Rounds half-even to six fraction digits; `None` beyond 18 digits.
    pub fn from_decimal(value: Decimal) -> Option<Self> {
        let rounded = value.round_dp_with_strategy(6, RoundingStrategy::MidpointNearestEven);
        let micros = rounded.checked_mul(Decimal::from(1_000_000))?;
        Self::from_micros(i64::try_from(micros.normalize()).ok()?)
    }

    /// Parses a plain decimal number, `-?\d+(\.\d+)?`, rounding half-even to six fraction digits.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = plain.split_once('.').unwrap_or((plain, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return None;
        }
        Self::from_decimal(text.parse().ok()?)
    }

    /// The exact decimal value.
    pub fn to_decimal(self) -> Decimal {
        Decimal::new(self.0, 6)
    }

    /// Appends `-?digits.dddddd`; zero has no sign.
    pub fn push(self, out: &mut Vec<u8>) {
        if self.0 < 0 {
            out.push(b'-');
        }
        let magnitude = self.0.unsigned_abs();
        out.extend_from_slice(itoa::Buffer::new().format(magnitude / 1_000_000).as_bytes());
        push_fraction((magnitude % 1_000_000) as u32, out);
    }
}

/// Appends a sum of amounts, in millionths, as [`Money::push`] does; sums may exceed 18 digits.
pub fn push_micros(micros: i128, out: &mut Vec<u8>) {
    if micros < 0 {
        out.push(b'-');
    }
    let magnitude = micros.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(magnitude / 1_000_000).as_bytes());
    push_fraction((magnitude % 1_000_000) as u32, out);
}

/// Appends a point and six digits.
fn push_fraction(mut rest: u32, out: &mut Vec<u8>) {
    let mut fraction = *b".000000";
    for digit in fraction[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&fraction);
}

impl<C> bincode::Decode<C> for Money {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::from_micros(i64::decode(decoder)?).ok_or(DecodeError::Other("amount beyond 18 digits"))
    }
}
bincode::impl_borrow_decode!(Money);

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(26);
        self.push(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn six_digits_always() {
        assert_eq!(Money::parse("0.0384").unwrap().to_string(), "0.038400");
        assert_eq!(Money::parse("-0.0000001").unwrap().to_string(), "0.000000");
        assert_eq!(Money::parse("-1.5").unwrap().to_string(), "-1.500000");
        assert_eq!(Money::parse("999999999999.999999").unwrap().micros(), MAX_MICROS);
        assert_eq!(Money::parse("1000000000000"), None);
        assert_eq!(Money::parse("1e3"), None);
        for text in ["+1", ".5", "5.", "-", "-.5", ".", "", "1.2.3", "--1", "1_000", "1,5", "٣"] {
            assert_eq!(Money::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sums_beyond_an_amount() {
        let text = |micros| {
            let mut out = Vec::new();
            push_micros(micros, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "0.000000");
        assert_eq!(text(-1), "-0.000001");
        assert_eq!(text(10_i128.pow(20) + 38_400), "100000000000000.038400");
        assert_eq!(text(i128::MIN), "-170141183460469231731687303715884.105728");
    }

    #[test]
    fn halves_go_to_the_even_digit() {
        assert_eq!(Money::parse("0.0000005").unwrap().micros(), 0);
        assert_eq!(Money::parse("0.0000015").unwrap().micros(), 2);
        assert_eq!(Money::parse("-0.0000025").unwrap().micros(), -2);
    }

    proptest! {
        #[test]
        fn text_and_back(micros in -MAX_MICROS..=MAX_MICROS) {
            let money = Money::from_micros(micros).unwrap();
            prop_assert_eq!(Money::parse(&money.to_string()), Some(money));
            prop_assert_eq!(Money::from_decimal(money.to_decimal()), Some(money));
            let mut sum = Vec::new();
            push_micros(i128::from(micros), &mut sum);
            prop_assert_eq!(String::from_utf8(sum).unwrap(), money.to_string());
        }
    }
}
