//! Tables that are recognised by the columns they have.

use llm_analytics_core::field;

/// How a field of a known table is read: a column, or an expression that needs the listed columns.
pub enum Known {
    Column(&'static str),
    Expression(&'static [&'static str], &'static str),
}

use Known::{Column, Expression};

pub struct Preset {
    pub name: &'static str,
    /// The columns that tell the table from others.
    pub recognised_by: &'static [&'static str],
    /// For each field the ways to read it, the best first; the first whose columns exist is taken, none is no fault unless the field
    /// is required.
    pub fields: &'static [(&'static str, &'static [Known])],
}

/// LLM Gateway's `log`. Older versions lack nullable columns, so every optional one may be missing.
const LLMGATEWAY: Preset = Preset {
    name: "llmgateway",
    recognised_by: &["created_at", "organization_id", "project_id", "api_key_id", "used_model", "used_provider", "cost", "has_error"],
    fields: &[
        ("created_at", &[Column("created_at")]),
        ("organization_id", &[Column("organization_id")]),
        ("project_id", &[Column("project_id")]),
        ("api_key_id", &[Column("api_key_id")]),
        ("model", &[Column("used_model")]),
        ("provider", &[Column("used_provider")]),
        ("application", &[Column("source")]),
        ("mode", &[Column("used_mode")]),
        ("input_tokens", &[Column("prompt_tokens")]),
        ("output_tokens", &[Column("completion_tokens")]),
        ("total_tokens", &[Column("total_tokens")]),
        ("reasoning_tokens", &[Column("reasoning_tokens")]),
        ("cached_tokens", &[Column("cached_tokens")]),
        ("cache_write_tokens", &[Column("cache_write_tokens")]),
        ("cost", &[Column("cost")]),
        ("input_cost", &[Column("input_cost")]),
        ("output_cost", &[Column("output_cost")]),
        ("cached_input_cost", &[Column("cached_input_cost")]),
        ("request_cost", &[Column("request_cost")]),
        (
            "is_error",
            &[
                Expression(
                    &["unified_finish_reason", "has_error"],
                    "CASE WHEN unified_finish_reason IS NULL THEN has_error ELSE unified_finish_reason IN ('gateway_error', 'upstream_error') END",
                ),
                Column("has_error"),
            ],
        ),
        ("is_client_error", &[Expression(&["unified_finish_reason"], "unified_finish_reason = 'client_error'")]),
        ("is_cached", &[Column("cached")]),
        ("is_streamed", &[Column("streamed")]),
        ("is_canceled", &[Column("canceled")]),
        ("duration_ms", &[Column("duration")]),
        ("time_to_first_token_ms", &[Column("time_to_first_token")]),
    ],
};

/// LiteLLM's `"LiteLLM_SpendLogs"`.
const LITELLM: Preset = Preset {
    name: "litellm",
    recognised_by: &["startTime", "endTime", "api_key", "spend", "model"],
    fields: &[
        ("created_at", &[Column("startTime")]),
        (
            "organization_id",
            &[Expression(&["organization_id"], "coalesce(nullif(organization_id, ''), 'default')"), Expression(&[], "'default'::text")],
        ),
        ("project_id", &[Column("team_id")]),
        ("api_key_id", &[Column("api_key")]),
        ("user_id", &[Column("user")]),
        ("model", &[Column("model")]),
        ("provider", &[Column("custom_llm_provider")]),
        ("input_tokens", &[Column("prompt_tokens")]),
        ("output_tokens", &[Column("completion_tokens")]),
        ("total_tokens", &[Column("total_tokens")]),
        ("cost", &[Column("spend")]),
        ("is_error", &[Expression(&["status"], "status = 'failure'")]),
        ("is_cached", &[Expression(&["cache_hit"], "cache_hit = 'True'")]),
        (
            "duration_ms",
            &[
                Expression(
                    &["request_duration_ms", "startTime", "endTime"],
                    r#"coalesce(request_duration_ms::numeric, extract(epoch FROM "endTime" - "startTime") * 1000)"#,
                ),
                Expression(&["startTime", "endTime"], r#"extract(epoch FROM "endTime" - "startTime") * 1000"#),
            ],
        ),
    ],
};

pub const CANONICAL: &str = "canonical";

/// A field and the SQL it is read by.
pub type Spelled = Vec<(String, String)>;

/// The first preset that knows a table with these columns, with the SQL of each field.
pub fn recognise(columns: &[String]) -> Option<(&'static str, Spelled)> {
    let has = |name: &str| columns.iter().any(|column| column == name);
    if field::FIELDS.into_iter().filter(|known| known.required).all(|known| has(known.name)) {
        let fields = field::FIELDS.into_iter().filter(|known| has(known.name)).map(|known| (known.name.into(), known.name.into()));
        return Some((CANONICAL, fields.collect()));
    }
    let preset = [LLMGATEWAY, LITELLM].into_iter().find(|preset| preset.recognised_by.iter().all(|name| has(name)))?;
    let fields = preset.fields.iter().filter_map(|(field, ways)| {
        ways.iter().find_map(|way| match way {
            Column(column) => has(column).then(|| (field.to_string(), column.to_string())),
            Expression(needs, sql) => needs.iter().all(|name| has(name)).then(|| (field.to_string(), sql.to_string())),
        })
    });
    Some((preset.name, fields.collect()))
}
