//! Exact decimals with up to 30 digits behind the point, enough to add and order what the answers hold.

/// Whole part (rounded down) and 10^-30ths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Decimal(i128, i128);

const ONE: i128 = 10_i128.pow(30);

impl Decimal {
    pub fn parse(text: &str) -> Decimal {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let number = |digits: &str| digits.parse::<i128>().unwrap_or_else(|_| panic!("not a plain decimal: {text}"));
        assert!(fraction.len() <= 30, "more than 30 decimals: {text}");
        let (whole, fraction) = (number(whole), number(&format!("{fraction:0<30}")));
        if negative { Decimal(-whole, -fraction).normal() } else { Decimal(whole, fraction) }
    }

    fn normal(self) -> Decimal {
        Decimal(self.0 + self.1.div_euclid(ONE), self.1.rem_euclid(ONE))
    }

    pub fn plus(self, other: Decimal) -> Decimal {
        Decimal(self.0 + other.0, self.1 + other.1).normal()
    }
}

/// Plain, without trailing zeros.
impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, whole, fraction) = if self.0 < 0 && self.1 > 0 {
            ("-", -self.0 - 1, ONE - self.1)
        } else if self.0 < 0 {
            ("-", -self.0, 0)
        } else {
            ("", self.0, self.1)
        };
        let fraction = format!("{fraction:030}");
        let fraction = fraction.trim_end_matches('0');
        write!(f, "{sign}{whole}{}{fraction}", if fraction.is_empty() { "" } else { "." })
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn adds_orders_and_prints() {
        let d = Decimal::parse;
        for (a, b, sum) in [
            ("0.1", "0.2", "0.3"),
            ("-0.5", "0.25", "-0.25"),
            ("-1", "0.000000000000000000000000000001", "-0.999999999999999999999999999999"),
            ("5", "-7", "-2"),
            ("-0.5", "-0.5", "-1"),
            ("1.5", "-1.5", "0"),
        ] {
            assert_eq!(d(a).plus(d(b)).to_string(), sum);
        }
        assert!(d("-1.5") < d("-1.25") && d("-0.1") < d("0") && d("0.09") < d("0.1"));
    }
}
