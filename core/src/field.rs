//! The canonical fields of a log row: what a mapping can name.

use crate::dimension::Dimension;
use crate::measure;

/// What a field is read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    CreatedAt,
    Organization,
    Dimension(Dimension),
    /// Whole number, added to the measure.
    Tokens(usize),
    /// USD, added to the amount.
    Amount(usize),
    /// Flag.
    Flag(Flag),
    /// Milliseconds, added to the measure; the next measure counts the rows that have one.
    Milliseconds(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    Error,
    ClientError,
    Cached,
    Streamed,
    Canceled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    pub name: &'static str,
    pub role: Role,
    pub required: bool,
}

const fn field(name: &'static str, role: Role) -> Field {
    Field { name, role, required: false }
}

const fn required(name: &'static str, role: Role) -> Field {
    Field { name, role, required: true }
}

/// All fields. Their names are also the column names of the canonical preset.
pub const FIELDS: [Field; 27] = [
    required("created_at", Role::CreatedAt),
    field("organization_id", Role::Organization),
    field("project_id", Role::Dimension(Dimension::Project)),
    required("api_key_id", Role::Dimension(Dimension::ApiKey)),
    field("user_id", Role::Dimension(Dimension::User)),
    required("model", Role::Dimension(Dimension::Mapping)),
    field("provider", Role::Dimension(Dimension::Provider)),
    field("application", Role::Dimension(Dimension::Application)),
    field("mode", Role::Dimension(Dimension::Mode)),
    field("input_tokens", Role::Tokens(measure::INPUT_TOKENS)),
    field("output_tokens", Role::Tokens(measure::OUTPUT_TOKENS)),
    field("total_tokens", Role::Tokens(measure::TOTAL_TOKENS)),
    field("reasoning_tokens", Role::Tokens(measure::REASONING_TOKENS)),
    field("cached_tokens", Role::Tokens(measure::CACHED_TOKENS)),
    field("cache_write_tokens", Role::Tokens(measure::CACHE_WRITE_TOKENS)),
    required("cost", Role::Amount(0)),
    field("input_cost", Role::Amount(1)),
    field("output_cost", Role::Amount(2)),
    field("cached_input_cost", Role::Amount(3)),
    field("request_cost", Role::Amount(4)),
    field("is_error", Role::Flag(Flag::Error)),
    field("is_client_error", Role::Flag(Flag::ClientError)),
    field("is_cached", Role::Flag(Flag::Cached)),
    field("is_streamed", Role::Flag(Flag::Streamed)),
    field("is_canceled", Role::Flag(Flag::Canceled)),
    field("duration_ms", Role::Milliseconds(measure::DURATION_MS)),
    field("time_to_first_token_ms", Role::Milliseconds(measure::TTFT_MS)),
];

pub fn by_name(name: &str) -> Option<Field> {
    FIELDS.into_iter().find(|field| field.name == name)
}

/// |x| of a token count or a duration must stay below this.
pub const NUMBER_BOUND: i64 = 1_000_000_000_000_000;

/// A whole number from PostgreSQL's text of a numeric, rounded half away from zero as the cast to bigint does. None: not a number, or
/// out of bounds.
pub fn whole_number(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let up = fraction.bytes().next().is_some_and(|b| b >= b'5');
    if whole.len() > 15 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? } + i64::from(up);
    bounded(if negative { -number } else { number })
}

/// The number, where it is within bounds.
pub fn bounded(number: i64) -> Option<i64> {
    (number > -NUMBER_BOUND && number < NUMBER_BOUND).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_postgresql_casts() {
        for (text, number) in [
            ("0", Some(0)),
            ("12.5", Some(13)),
            ("-12.5", Some(-13)),
            ("12.4999999999999999999999999999999999999", Some(12)),
            ("999999999999999", Some(999_999_999_999_999)),
            ("999999999999999.5", None),
            ("1000000000000000", None),
            ("NaN", None),
            ("-Infinity", None),
        ] {
            assert_eq!(whole_number(text), number, "{text}");
        }
    }
}
