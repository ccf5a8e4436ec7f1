//! Exact money: decimal fixed point, never a float.

use std::fmt;
use std::ops::{Neg, Range};

/// An exact sum of amounts with at most 30 decimals: `high * 10^-16 + low * 10^-32`. There are two
/// parts because an amount below 10^15 with 30 decimals has 45 digits. They meet at 16 and 32
/// decimals so that PostgreSQL's base-10000 digits fall on their borders.
///
/// `high` is an integer of 192 bits in two's complement, `top` above `middle`. A row's amount is
/// below 10^15, so a sum would need more than 10^25 rows to leave it: no log can make a sum fail.
///
/// The value is always normalized, so that the derived order is that of the amounts.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Money {
    top: i64,
    middle: u128,
    low: i64,
}

const LIMB: u32 = 16;
/// 10^15 as `high` has it.
const BOUND: u128 = 10_u128.pow(LIMB + WHOLE_DIGITS as u32);
const SCALE: i64 = 10_i64.pow(LIMB);
/// What `top` may be: less than it can hold, so that the sum or the negation of two never overflows.
const TOP: Range<i64> = -(1 << 61)..1 << 61;
/// Decimals of an amount that count; what lies beyond is rounded half away from zero, as PostgreSQL's `round(x, 30)` does.
pub const DECIMALS: usize = 30;
/// Digits before the point: |x| < 10^15.
pub const WHOLE_DIGITS: usize = 15;

impl Money {
    pub const ZERO: Money = Money { top: 0, middle: 0, low: 0 };

    /// Reads plain decimal text (`-12.50`, no exponent). None: not a number, or |x| >= 10^15.
    pub fn parse(text: &str) -> Option<Money> {
        Money::parse_below(text, WHOLE_DIGITS)
    }

    /// As [`Money::parse`], for sums of amounts: any that a `Money` can hold.
    pub fn parse_sum(text: &str) -> Option<Money> {
        Money::parse_below(text, usize::MAX)
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
        let decimal = |at: usize| u64::from(fraction.as_bytes().get(at).map_or(0, |b| b - b'0'));
        let high_digits = whole.bytes().map(|b| u64::from(b - b'0')).chain((0..16).map(decimal));
        let mut money = Money::ZERO;
        for digit in high_digits {
            money.append(digit)?;
        }
        money.low = (16..DECIMALS).fold(0_i64, |n, at| n * 10 + decimal(at) as i64) * 100;
        if fraction.as_bytes().get(DECIMALS).is_some_and(|b| *b >= b'5') {
            money = money.checked_add(Money { low: 100, ..Money::ZERO })?;
            if whole_digits == WHOLE_DIGITS && money.middle >= BOUND {
                return None;
            }
        }
        Some(if negative { -money } else { money })
    }

    /// Multiplies `high`, which is not negative, by ten and adds a digit.
    fn append(&mut self, digit: u64) -> Option<()> {
        let bottom = u128::from(self.middle as u64) * 10 + u128::from(digit);
        let middle = (self.middle >> 64) * 10 + (bottom >> 64);
        let top = u128::from(self.top as u64) * 10 + (middle >> 64);
        self.middle = middle << 64 | u128::from(bottom as u64);
        self.top = i64::try_from(top).ok().filter(|top| TOP.contains(top))?;
        Some(())
    }

    /// From the digits of PostgreSQL's numeric: base 10000, the first worth `10000^weight` (src/backend/utils/adt/numeric.c). None: |x| >= 10^15, or more decimals than
    /// count, which [`Money::parse`] rounds.
    pub fn from_base_10000(negative: bool, weight: i32, digits: impl Iterator<Item = i16>) -> Option<Money> {
        const PLACES: i32 = LIMB as i32 / 4;
        let (mut high, mut low) = (0_i128, 0_i64);
        let mut place = weight;
        for digit in digits {
            if place > WHOLE_DIGITS as i32 / 4 || place < -2 * PLACES || (place == -2 * PLACES && digit % 100 != 0) {
                return None;
            }
            if place >= -PLACES {
                high += i128::from(digit) * 10_i128.pow((4 * (place + PLACES)) as u32);
            } else {
                low += i64::from(digit) * 10_i64.pow((4 * (place + 2 * PLACES)) as u32);
            }
            place -= 1;
        }
        if high.unsigned_abs() >= BOUND {
            return None;
        }
        let money = Money { low, ..Money::from_high(high) };
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

    /// From a multiple of 10^-16.
    pub fn from_high(high: i128) -> Money {
        Money { top: (high >> 127) as i64, middle: high as u128, low: 0 }
    }

    /// The multiple of 10^-16, where 128 bits hold it, and what is left, a multiple of 10^-32.
    pub fn high(self) -> (Option<i128>, i64) {
        let high = self.middle as i128;
        ((self.top == (high >> 127) as i64).then_some(high), self.low)
    }

    /// The parts as they are held; [`Money::from_parts`] takes them.
    pub fn parts(self) -> (i64, u128, i64) {
        (self.top, self.middle, self.low)
    }

    /// None where no sum looks like this.
    pub fn from_parts(top: i64, middle: u128, low: i64) -> Option<Money> {
        let money = Money { top, middle, low };
        let is_mixed = if money.is_below_zero() { low > 0 } else { low < 0 && (top, middle) != (0, 0) };
        let fits = TOP.contains(&top) && low.unsigned_abs() < SCALE.unsigned_abs();
        (fits && !is_mixed).then_some(money)
    }

    pub fn is_zero(&self) -> bool {
        self.top == 0 && self.middle == 0 && self.low == 0
    }

    /// Whether `high` is.
    fn is_below_zero(&self) -> bool {
        self.top < 0
    }

    /// None where the sum has more than 189 bits, which no number of rows that fits on a disk makes.
    #[must_use]
    pub fn checked_add(self, other: Money) -> Option<Money> {
        let (middle, carry) = self.middle.overflowing_add(other.middle);
        let mut sum = Money { top: self.top + other.top + i64::from(carry), middle, low: self.low + other.low };
        // Nearly all amounts have no digits that far behind the point.
        if sum.low != 0 {
            sum.normalize();
        }
        TOP.contains(&sum.top).then_some(sum)
    }

    /// Both parts get the same sign and `|low| < 10^16`, so that equal sums are equal values.
    fn normalize(&mut self) {
        if self.low >= SCALE {
            self.shift(1);
        } else if self.low <= -SCALE {
            self.shift(-1);
        }
        if self.low < 0 && !self.is_below_zero() && (self.top, self.middle) != (0, 0) {
            self.shift(-1);
        } else if self.low > 0 && self.is_below_zero() {
            self.shift(1);
        }
    }

    /// Moves one unit (1 or -1) of `high` out of `low`.
    fn shift(&mut self, unit: i64) {
        self.low -= unit * SCALE;
        let (middle, carry) = self.middle.overflowing_add(i128::from(unit) as u128);
        self.middle = middle;
        self.top += (unit >> 63) + i64::from(carry);
    }

    /// The digits of |high|, nineteen at a time.
    fn high_digits(self) -> String {
        let positive = if self.is_below_zero() { -self } else { self };
        let (top, middle) = (positive.top as u64, positive.middle);
        if top == 0 {
            return middle.to_string();
        }
        const BASE: u128 = 10_u128.pow(19);
        let mut words = [top, (middle >> 64) as u64, middle as u64];
        let mut text = String::new();
        while words != [0; 3] {
            let mut rest = 0_u128;
            for word in &mut words {
                let number = rest << 64 | u128::from(*word);
                *word = (number / BASE) as u64;
                rest = number % BASE;
            }
            let part = if words == [0; 3] { format!("{rest}") } else { format!("{rest:019}") };
            text.insert_str(0, &part);
        }
        text
    }
}

impl Neg for Money {
    type Output = Money;
    fn neg(self) -> Money {
        let (middle, carry) = (!self.middle).overflowing_add(1);
        Money { top: !self.top + i64::from(carry), middle, low: -self.low }
    }
}

/// Plain decimal text without trailing zeros: exact, and what both `numeric` and JSON read.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let high = format!("{:0>17}", self.high_digits());
        let (whole, decimals) = high.split_at(high.len() - LIMB as usize);
        let fraction = format!("{decimals}{:016}", self.low.unsigned_abs());
        let fraction = fraction.trim_end_matches('0');
        let sign = if self.is_below_zero() || self.low < 0 { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
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
    fn sums_go_on_where_128_bits_end() {
        let border = "17014118346046923173168.7303715884105727";
        let unit = Money::parse("0.0000000000000001").unwrap();
        let tiny = Money::parse("0.000000000000000000000000000001").unwrap();
        let mut sum = Money::parse_sum(border).unwrap();
        assert_eq!(sum.high(), (Some(i128::MAX), 0));
        sum = sum.checked_add(unit).unwrap();
        assert_eq!(sum.to_string(), "17014118346046923173168.7303715884105728");
        assert_eq!(sum.high(), (None, 0));
        assert!(Money::parse_sum(border).unwrap() < sum && -sum < -Money::parse_sum(border).unwrap() && -sum < sum);
        assert_eq!((-sum).high(), (Some(i128::MIN), 0));
        assert_eq!(Money::from_high(i128::MIN), -sum);
        // Across zero and back, with digits in both parts.
        let mixed = sum.checked_add(-tiny).unwrap();
        assert_eq!(mixed.to_string(), "17014118346046923173168.730371588410572799999999999999");
        assert_eq!(mixed.checked_add(tiny), Some(sum));
        assert_eq!((-mixed).checked_add(-tiny), Some(-sum));
        assert_eq!(tiny.checked_add(-sum).unwrap().checked_add(sum), Some(tiny));
        // Doubling up to the end: every sum is text and back, and its parts.
        let mut sum = Money::parse("999999999999999.999999999999999999999999999999").unwrap();
        let mut doubled = 0;
        while let Some(next) = sum.checked_add(sum) {
            assert_eq!(Money::parse_sum(&next.to_string()), Some(next));
            assert_eq!(Money::parse_sum(&(-next).to_string()), Some(-next));
            let (top, middle, low) = (-next).parts();
            assert_eq!(Money::from_parts(top, middle, low), Some(-next));
            assert_eq!(next.checked_add(-sum), Some(sum));
            assert!(-next < -sum && sum < next);
            (sum, doubled) = (next, doubled + 1);
        }
        assert!(doubled > 83, "{doubled} doublings");
        assert_eq!(Money::parse_sum(&"9".repeat(60)), None);
        assert_eq!(Money::from_parts(0, 1, -1), None);
        assert_eq!(Money::from_parts(-1, u128::MAX, 1), None);
        assert_eq!(Money::from_parts(0, 0, SCALE), None);
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
