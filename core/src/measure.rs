//! What is measured. Every measure is additive, so a sum over any set of rollup rows is right.
//!
//! The order here is the order of the columns of `llm._pending` and `llm.rollup`.

/// The whole-number measures; columns that show them are `bigint`.
pub const COUNTS: [&str; 16] = [
    "requests",
    "errors",
    "client_errors",
    "cache_hits",
    "streamed",
    "canceled",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "reasoning_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "duration_ms",
    "duration_count",
    "time_to_first_token_ms",
    "time_to_first_token_count",
];

/// The amounts in USD, all `numeric`.
pub const AMOUNTS: [&str; 5] = ["cost", "input_cost", "output_cost", "cached_input_cost", "request_cost"];

pub const REQUESTS: usize = 0;
pub const ERRORS: usize = 1;
pub const CLIENT_ERRORS: usize = 2;
pub const CACHE_HITS: usize = 3;
pub const STREAMED: usize = 4;
pub const CANCELED: usize = 5;
pub const INPUT_TOKENS: usize = 6;
pub const OUTPUT_TOKENS: usize = 7;
pub const TOTAL_TOKENS: usize = 8;
pub const REASONING_TOKENS: usize = 9;
pub const CACHED_TOKENS: usize = 10;
pub const CACHE_WRITE_TOKENS: usize = 11;
pub const DURATION_MS: usize = 12;
pub const DURATION_COUNT: usize = 13;
pub const TTFT_MS: usize = 14;
pub const TTFT_COUNT: usize = 15;

/// All measures, in column order.
pub fn all() -> impl Iterator<Item = &'static str> {
    COUNTS.into_iter().chain(AMOUNTS)
}
