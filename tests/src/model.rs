//! The three logs of the property test and the random rows that go into them.

use crate::db::quote;
use crate::hosts;
use crate::rng::Rng;

/// Which of the three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Log {
    /// `public.requests`: canonical names, numeric money, timestamptz; a deletion is retention.
    Canonical,
    /// `public.calls`: partitions, expressions, float tokens; a deletion is retention.
    Partitioned,
    /// `public.log`: LLM Gateway's table, real money, timestamp; a deletion counts.
    Gateway,
}

impl Log {
    pub const ALL: [Log; 3] = [Log::Canonical, Log::Partitioned, Log::Gateway];

    pub fn table(self) -> &'static str {
        match self {
            Log::Canonical => "public.requests",
            Log::Partitioned => "public.calls",
            Log::Gateway => "public.log",
        }
    }

    /// Where the test itself keeps what was deleted in keep mode.
    pub fn kept(self) -> &'static str {
        match self {
            Log::Canonical => "oracle.kept_requests",
            Log::Partitioned => "oracle.kept_calls",
            Log::Gateway => "oracle.kept_log",
        }
    }

    pub fn create(self) -> &'static str {
        match self {
            Log::Canonical => hosts::CANONICAL,
            Log::Partitioned => hosts::PARTITIONED,
            Log::Gateway => hosts::GATEWAY,
        }
    }

    pub fn attach(self) -> String {
        match self {
            Log::Canonical => "SELECT llm.attach_log('public.requests')".to_owned(),
            Log::Partitioned => format!("SELECT llm.attach_log('public.calls', columns => {})", quote(hosts::PARTITIONED_COLUMNS)),
            Log::Gateway => "SELECT llm.attach_log('public.log', on_delete => 'subtract')".to_owned(),
        }
    }

    /// What an upsert finds its row by.
    pub fn conflict(self) -> &'static str {
        if self == Log::Partitioned { "(id, at)" } else { "(id)" }
    }

    /// The columns a row is generated for, with their types.
    pub fn columns(self) -> &'static [(&'static str, Kind)] {
        use Kind::*;
        match self {
            Log::Canonical => &[
                ("id", Id),
                ("created_at", At),
                ("organization_id", Org),
                ("project_id", Project),
                ("api_key_id", Key),
                ("user_id", User),
                ("model", Model),
                ("provider", Provider),
                ("application", App),
                ("mode", Mode),
                ("input_tokens", Tokens),
                ("output_tokens", Tokens),
                ("reasoning_tokens", Tokens),
                ("cost", Money),
                ("input_cost", Money),
                ("request_cost", Money),
                ("is_error", Flag),
                ("is_client_error", Flag),
                ("is_cached", Flag),
                ("is_streamed", Flag),
                ("is_canceled", Flag),
                ("duration_ms", Millis),
                ("time_to_first_token_ms", Millis),
                ("note", Note),
            ],
            Log::Partitioned => &[
                ("id", Id),
                ("at", At),
                ("org", Org),
                ("project_id", Project),
                ("key", Key),
                ("member", User),
                ("model", Model),
                ("provider", Provider),
                ("app", App),
                ("mode", Mode),
                ("tin", FloatTokens),
                ("tout", FloatTokens),
                ("tall", FloatTokens),
                ("spend", Money),
                ("price", Money),
                ("status", Status),
                ("cache", CacheText),
                ("ms", Millis),
                ("note", Note),
            ],
            Log::Gateway => &[
                ("id", TextId),
                ("created_at", Timestamp),
                ("organization_id", Org),
                ("project_id", Project),
                ("api_key_id", GatewayKey),
                ("duration", Millis),
                ("time_to_first_token", Millis),
                ("used_model", Model),
                ("used_provider", Provider),
                ("unified_finish_reason", Finish),
                ("prompt_tokens", NumericTokens),
                ("completion_tokens", NumericTokens),
                ("total_tokens", NumericTokens),
                ("cached_tokens", NumericTokens),
                ("cost", Real),
                ("input_cost", Real),
                ("has_error", Flag),
                ("canceled", Flag),
                ("streamed", Flag),
                ("cached", Flag),
                ("used_mode", Mode),
                ("source", App),
                ("content", Note),
            ],
        }
    }
}

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Id,
    TextId,
    At,
    Timestamp,
    Org,
    Project,
    Key,
    GatewayKey,
    User,
    Model,
    Provider,
    App,
    Mode,
    Tokens,
    FloatTokens,
    NumericTokens,
    Millis,
    Money,
    Real,
    Flag,
    Status,
    CacheText,
    Finish,
    Note,
}

impl Kind {
    pub fn sql_type(self) -> &'static str {
        match self {
            Kind::Id | Kind::Tokens => "bigint",
            Kind::At => "timestamptz",
            Kind::Timestamp => "timestamp",
            Kind::FloatTokens => "double precision",
            Kind::NumericTokens | Kind::Money => "numeric",
            Kind::Millis | Kind::Status => "int",
            Kind::Real => "real",
            Kind::Flag => "boolean",
            _ => "text",
        }
    }

    /// None is NULL.
    pub fn value(self, rng: &mut Rng, id: i64) -> Option<String> {
        match self {
            Kind::Id | Kind::TextId => return Some(id.to_string()),
            Kind::At => return instant(rng).map(|t| if t.ends_with("infinity") { t } else { zoned(&t) }),
            Kind::Timestamp => return instant(rng),
            _ => {}
        }
        if rng.percent(8) {
            return None;
        }
        Some(match self {
            Kind::Org => rng.pick(&["org_a", "org_a", "org_a", "org_b", "org_b", "Ünï ço'rp", ""]).to_owned(),
            Kind::Project => dimension(rng, &["p1", "p2", "p3", "p4", "gone's \"project\""]),
            Kind::Key => dimension(rng, &["k1", "k2", "k3", "k4", "k5"]),
            Kind::GatewayKey => dimension(rng, &["g1", "g2", "g3", "g4"]),
            Kind::User => dimension(rng, &["u1", "u2", "u3"]),
            Kind::Model => match rng.below(20) {
                0 => String::new(),
                1 => format!("long/{}{}", "m".repeat(300), rng.below(3)),
                2 => "a/b/c:x:y".to_owned(),
                _ => rng
                    .pick(&["openai/gpt-5.5", "openai/gpt-5.5:free", "azure/gpt-5.5", "gpt-5.5", "claude-5", "anthropic/claude-5:thinking"])
                    .to_owned(),
            },
            Kind::Provider => dimension(rng, &["openai", "azure", "anthropic"]),
            Kind::App => dimension(rng, &["Chat", "chat", "batch\tjob", "日本語"]),
            Kind::Mode => rng.pick(&["credits", "api-keys", "credits", ""]).to_owned(),
            Kind::Tokens => match rng.below(40) {
                0 => "999999999999999".to_owned(),
                1 => "1000000000000000".to_owned(),
                2 => "-9223372036854775808".to_owned(),
                3 => "-7".to_owned(),
                _ => rng.between(0, 20_000).to_string(),
            },
            Kind::FloatTokens | Kind::NumericTokens => match rng.below(30) {
                0 => "NaN".to_owned(),
                1 => rng.pick(&["Infinity", "-Infinity"]).to_owned(),
                2 => "1e15".to_owned(),
                3 => "-2.5".to_owned(),
                4 => "1.5".to_owned(),
                5 => "2.5".to_owned(),
                6 => "0.49999999999".to_owned(),
                7 => "1e40".to_owned(),
                _ => rng.between(0, 20_000).to_string(),
            },
            Kind::Millis => rng.between(-1, 60_000).to_string(),
            Kind::Money => money(rng),
            Kind::Real => match rng.below(30) {
                0 => "NaN".to_owned(),
                1 => rng.pick(&["Infinity", "-Infinity"]).to_owned(),
                2 => "1e15".to_owned(),
                3 => "9.999999e14".to_owned(),
                4 => "3.4e38".to_owned(),
                5 => "1.5e-7".to_owned(),
                6 => "1e-45".to_owned(),
                7 => "-0".to_owned(),
                8 => "1e-30".to_owned(),
                9 => format!("-{}.{:03}", rng.below(9), rng.below(1000)),
                _ => format!("0.{:07}", rng.below(10_000_000)),
            },
            Kind::Flag => rng.percent(25).to_string(),
            Kind::Status => rng.pick(&["200", "200", "200", "404", "429", "500", "503"]).to_owned(),
            Kind::CacheText => rng.pick(&["True", "False", "", "true"]).to_owned(),
            Kind::Finish => rng
                .pick(&[
                    "completed",
                    "completed",
                    "tool_calls",
                    "canceled",
                    "client_error",
                    "gateway_error",
                    "upstream_error",
                    "unknown",
                    "later_value",
                ])
                .to_owned(),
            Kind::Note => format!("note {}", rng.below(1000)),
            Kind::Id | Kind::TextId | Kind::At | Kind::Timestamp => unreachable!("handled above"),
        })
    }
}

fn dimension(rng: &mut Rng, common: &[&str]) -> String {
    match rng.below(30) {
        0 => String::new(),
        1 => format!("Long {} {}", rng.below(2), "é".repeat(400)),
        2 => format!("edge{}", "x".repeat(196)), // exactly 200 bytes: kept as it is
        _ => rng.pick(common).to_owned(),
    }
}

fn money(rng: &mut Rng) -> String {
    match rng.below(40) {
        0 => "NaN".to_owned(),
        1 => rng.pick(&["Infinity", "-Infinity"]).to_owned(),
        2 => "1000000000000000".to_owned(),
        3 => "-1e15".to_owned(),
        4 => "999999999999999.999999".to_owned(),
        5 => "-999999999999998.5".to_owned(),
        6 => format!("0.{}{}", "0".repeat(29), rng.below(10)),
        7 => format!("0.{}{}", "0".repeat(28), rng.below(100_000)), // beyond 30 decimals
        8 => format!("1e{}", rng.between(20, 200)),
        9 => format!("-{}.{:05}", rng.below(50), rng.below(100_000)),
        10 => "0.000".to_owned(),
        _ => format!("{}.{:012}", rng.below(3), rng.below(1_000_000_000_000)),
    }
}

/// Instants near daylight-saving changes, on and beside the quarters of an hour, and a few impossible ones.
fn instant(rng: &mut Rng) -> Option<String> {
    let day = 86_400_000_000_i64;
    let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).expect("constant").timestamp_micros();
    let base = match rng.below(100) {
        0 => return None,
        1 => return Some(rng.pick(&["infinity", "-infinity"]).to_owned()),
        2 => {
            return Some(
                rng.pick(&["0044-03-15 12:00:00 BC", "290000-01-01 00:00:00", "2000-01-01 00:00:00", "1969-12-31 23:59:59.999999"])
                    .to_owned(),
            );
        }
        3..=9 => at("2018-06-01T00:00:00Z") + rng.between(0, 8_000) * day,
        10..=29 => at("2025-11-01T00:00:00Z") + rng.between(0, 2) * day,
        30..=44 => at("2026-02-20T00:00:00Z") + rng.between(0, 45) * day,
        _ => at("2026-03-06T00:00:00Z") + rng.between(0, 3) * day,
    };
    let mut micros = base + rng.between(0, 95) * 900_000_000;
    match rng.below(4) {
        0 => micros -= 1,
        1 => micros += rng.between(0, 899_999_999),
        _ => {}
    }
    let when = chrono::DateTime::from_timestamp_micros(micros).expect("in range");
    Some(when.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
}

fn zoned(text: &str) -> String {
    match text.strip_suffix(" BC") {
        Some(rest) => format!("{rest}+00 BC"),
        None => format!("{text}+00"),
    }
}

/// A row's values in the order of [`Log::columns`].
pub fn row(log: Log, rng: &mut Rng, id: i64) -> Vec<Option<String>> {
    log.columns().iter().map(|(_, kind)| kind.value(rng, id)).collect()
}

/// A typed SQL literal.
pub fn literal(value: &Option<String>, kind: Kind) -> String {
    match value {
        None => format!("NULL::{}", kind.sql_type()),
        Some(text) => format!("{}::{}", quote(text), kind.sql_type()),
    }
}

pub fn tuple(log: Log, row: &[Option<String>]) -> String {
    let values: Vec<String> = row.iter().zip(log.columns()).map(|(value, (_, kind))| literal(value, *kind)).collect();
    format!("({})", values.join(", "))
}

pub fn names(log: Log, prefix: &str) -> String {
    let names: Vec<String> = log.columns().iter().map(|(name, _)| format!("{prefix}{name}")).collect();
    names.join(", ")
}

/// A line of COPY's text format.
pub fn copy_line(row: &[Option<String>]) -> String {
    let fields: Vec<String> = row
        .iter()
        .map(|value| match value {
            None => "\\N".to_owned(),
            Some(text) => text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n"),
        })
        .collect();
    fields.join("\t") + "\n"
}
