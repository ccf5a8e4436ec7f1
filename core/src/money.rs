//! Exact money: decimal fixed point, never a float.

use std::fmt;
use std::ops::Neg;

/// An exact sum of amounts with at most 30 decimals: `high * 10^-16 + low * 10^-32`. Two limbs, because an amount below 10^15 with 30
/// decimals has 45 digits and i128 holds 38; 16 and 32 so that PostgreSQL's base-10000 digits fall on the limbs' borders. Always normalized, so that the derived order is that of the amounts.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Money {
    high: i128,
    low: i128,
}

const LIMB: u32 = 16;
const SCALE: i128 = 10_i128.pow(LIMB);
/// Decimals of an amount that count; what lies beyond is rounded half away from zero, as PostgreSQL's `round(x, 30)` does.
pub const DECIMALS: usize = 30;
/// Digits before the point: |x| < 10^15.
pub const WHOLE_DIGITS: usize = 15;

impl Money {
    pub const ZERO: Money = Money { high: 0, low: 0 };

    /// Reads plain decimal text (`-12.50`, no exponent). None: not a number, or |x| >= 10^15.
    pub fn parse(text: &str) -> Option<Money> {
        Money::parse_below(text, WHOLE_DIGITS)
    }

    /// As [`Money::parse`], for sums of amounts: up to 21 digits before the point.
    pub fn parse_sum(text: &str) -> Option<Money> {
        Money::parse_below(text, 21)
    }

    fn parse_below(text: &str, whole_digits: usize) -> Option<Money> {
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole = whole.trim_start_matches('0');
        if whole.len() > whole_digits
            || digits.is_empty()
            || digits == "."
            || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let number = |from: usize, to: usize| {
            (from..to).fold(0_i128, |n, i| n * 10 + i128::from(fraction.as_bytes().get(i).map_or(0, |b| b - b'0')))
        };
        let whole = whole.bytes().fold(0_i128, |n, b| n * 10 + i128::from(b - b'0'));
        let mut money = Money { high: whole * SCALE + number(0, 16), low: number(16, DECIMALS) * 100 };
        if fraction.as_bytes().get(DECIMALS).is_some_and(|b| *b >= b'5') {
            money.low += 100;
            money.normalize();
            if money.high >= 10_i128.pow(LIMB + whole_digits as u32) {
                return None;
            }
        }
        Some(if negative { -money } else { money })
    }

    /// From the digits of PostgreSQL's numeric: base 10000, the first worth `10000^weight` (src/backend/utils/adt/numeric.c). None: |x| >= 10^15, or more decimals than
    /// count, which [`Money::parse`] rounds.
    pub fn from_base_10000(negative: bool, weight: i32, digits: impl Iterator<Item = i16>) -> Option<Money> {
        const PLACES: i32 = LIMB as i32 / 4;
        let mut money = Money::ZERO;
        let mut place = weight;
        for digit in digits {
            if place > WHOLE_DIGITS as i32 / 4 || place < -2 * PLACES || (place == -2 * PLACES && digit % 100 != 0) {
                return None;
            }
            let digit = i128::from(digit);
            if place >= -PLACES {
                money.high += digit * 10_i128.pow((4 * (place + PLACES)) as u32);
            } else {
                money.low += digit * 10_i128.pow((4 * (place + 2 * PLACES)) as u32);
            }
            place -= 1;
        }
        if money.high >= 10_i128.pow(LIMB + WHOLE_DIGITS as u32) {
            return None;
        }
        Some(if negative { -money } else { money })
    }

    /// Reads a float by its shortest decimal text, as `x::text::numeric` does: a real 0.1 is 0.1.
    pub fn from_f32(value: f32) -> Option<Money> {
        if value.is_finite() { Money::parse(&format!("{value}")) } else { None }
    }

    /// As [`Money::from_f32`].
    pub fn from_f64(value: f64) -> Option<Money> {
        if value.is_finite() { Money::parse(&format!("{value}")) } else { None }
    }

    /// The two limbs.
    pub fn limbs(self) -> (i128, i128) {
        (self.high, self.low)
    }

    /// From limbs; None where they are more than a sum can be.
    pub fn from_limbs(high: i128, low: i128) -> Option<Money> {
        let mut money = Money { high, low };
        if low != 0 {
            if low.unsigned_abs() >= SCALE.unsigned_abs() || high == i128::MIN || high == i128::MAX {
                return None;
            }
            money.normalize();
        }
        Some(money)
    }

    pub fn is_zero(&self) -> bool {
        self.high == 0 && self.low == 0
    }

    /// None where the sum leaves what two limbs hold (more than 10^22 USD).
    #[must_use]
    pub fn checked_add(self, other: Money) -> Option<Money> {
        let mut sum = Money { high: self.high.checked_add(other.high)?, low: self.low + other.low };
        // Nearly all amounts have no second limb, and a division of 128 bits is slow.
        if sum.low != 0 {
            sum.normalize();
        }
        Some(sum)
    }

    /// Both limbs get the same sign and `|low| < 10^16`, so that equal sums are equal values.
    fn normalize(&mut self) {
        self.high += self.low / SCALE;
        self.low %= SCALE;
        if self.high > 0 && self.low < 0 {
            self.high -= 1;
            self.low += SCALE;
        } else if self.high < 0 && self.low > 0 {
            self.high += 1;
            self.low -= SCALE;
        }
    }
}

impl Neg for Money {
    type Output = Money;
    fn neg(self) -> Money {
        Money { high: -self.high, low: -self.low }
    }
}

/// Plain decimal text without trailing zeros: exact, and what both `numeric` and JSON read.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, low) = (self.high.unsigned_abs(), self.low.unsigned_abs());
        let scale = SCALE.unsigned_abs();
        let fraction = format!("{:016}{:016}", high % scale, low);
        let fraction = fraction.trim_end_matches('0');
        let sign = if self.high < 0 || self.low < 0 { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{}{point}{fraction}", high / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_10000_is_the_same() {
        for (negative, weight, digits, text) in [
            (false, 0, &[12][..], "12"),
            (true, -1, &[1234, 5600], "-0.123456"),
            (
                false,
                3,
                &[999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9900],
                "999999999999999.99999999999999999999999999999900",
            ),
            (false, 1, &[1], "10000"),
            (false, -5, &[1], "0.00000000000000000001"),
            (false, -8, &[100], "0.000000000000000000000000000001"),
            (false, 0, &[], "0"),
        ] {
            let read = Money::from_base_10000(negative, weight, digits.iter().copied());
            assert_eq!(read, Some(Money::parse(text).unwrap()), "{text}");
        }
        for (weight, digits) in [(4, &[1][..]), (3, &[1000]), (-8, &[1]), (-9, &[1])] {
            assert_eq!(Money::from_base_10000(false, weight, digits.iter().copied()), None);
        }
    }

    #[test]
    fn text_round_trips() {
        for text in ["0", "1", "-1", "0.1", "-0.0000000000000001", "0.00000000000000001", "999999999999999.999999999999999999999999999999"]
        {
            assert_eq!(Money::parse(text).unwrap().to_string(), text);
        }
        for (given, expected) in [("+1.50", "1.5"), ("000.10", "0.1"), (".5", "0.5"), ("5.", "5"), ("-0.00", "0")] {
            assert_eq!(Money::parse(given).unwrap().to_string(), expected);
        }
        for bad in ["", "-", ".", "NaN", "Infinity", "1e5", "1000000000000000", "1.2.3", " 1"] {
            assert_eq!(Money::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn beyond_thirty_decimals_is_rounded_away_from_zero() {
        let tail = |digit: char| format!("0.{}{digit}", "0".repeat(30));
        assert!(Money::parse(&tail('4')).unwrap().is_zero());
        assert_eq!(Money::parse(&tail('5')).unwrap().to_string(), format!("0.{}1", "0".repeat(29)));
        assert_eq!(Money::parse(&format!("-{}", tail('9'))).unwrap().to_string(), format!("-0.{}1", "0".repeat(29)));
        assert_eq!(Money::parse(&format!("{}.{}", "9".repeat(15), "9".repeat(31))), None);
    }

    #[test]
    fn sums_are_exact_and_have_one_form() {
        let parse = |t: &str| Money::parse(t).unwrap();
        let add = |a: Money, b: Money| a.checked_add(b).unwrap();
        assert_eq!(add(parse("0.1"), parse("0.2")).to_string(), "0.3");
        assert_eq!(add(parse("1"), parse("-0.00000000000000000000000000001")).to_string(), "0.99999999999999999999999999999");
        assert_eq!(add(parse("-1"), parse("0.00000000000000000001")).to_string(), "-0.99999999999999999999");
        let mut sum = Money::ZERO;
        for _ in 0..1_000_000 {
            sum = add(sum, parse("0.000000000000000000000000000001"));
        }
        assert_eq!(sum.to_string(), "0.000000000000000000000001");
        assert!(add(sum, -sum).is_zero());
    }

    #[test]
    fn floats_are_read_by_their_shortest_text() {
        assert_eq!(Money::from_f32(0.1).unwrap().to_string(), "0.1");
        assert_eq!(Money::from_f64(0.1).unwrap().to_string(), "0.1");
        assert_eq!(Money::from_f32(1e-7).unwrap().to_string(), "0.0000001");
        assert_eq!(Money::from_f64(1e14).unwrap().to_string(), "100000000000000");
        assert_eq!(Money::from_f64(1e15), None);
        assert_eq!(Money::from_f64(f64::NAN), None);
        assert_eq!(Money::from_f32(f32::INFINITY), None);
        assert!(Money::from_f32(-0.0).unwrap().is_zero());
    }
}
