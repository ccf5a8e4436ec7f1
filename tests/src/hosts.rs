//! Host tables of exactly the reference shapes.

/// LLM Gateway's request log, mid-2026.
pub const GATEWAY: &str = "CREATE TABLE public.log (
    id text PRIMARY KEY, request_id text, created_at timestamp, updated_at timestamp, organization_id text, project_id text,
    api_key_id text, duration int, time_to_first_token int, requested_model text, requested_provider text,
    used_model text, used_model_mapping text, used_provider text, response_size int, content text, messages json,
    finish_reason text, unified_finish_reason text, prompt_tokens numeric, completion_tokens numeric, total_tokens numeric,
    reasoning_tokens numeric, cached_tokens numeric, cache_write_tokens numeric, cost real, input_cost real, output_cost real,
    cached_input_cost real, request_cost real, discount real, has_error bool DEFAULT false, canceled bool, streamed bool,
    cached bool DEFAULT false, mode text, used_mode text, source text, custom_headers json)";

/// LLM Gateway's request log of June 2025: the newer nullable columns are not there yet.
pub const GATEWAY_2025: &str = "CREATE TABLE public.log (
    id text PRIMARY KEY, request_id text, created_at timestamp, updated_at timestamp, organization_id text, project_id text,
    api_key_id text, duration int, requested_model text, requested_provider text, used_model text, used_provider text,
    response_size int, content text, messages json, finish_reason text, unified_finish_reason text, prompt_tokens numeric,
    completion_tokens numeric, total_tokens numeric, reasoning_tokens numeric, cost real, input_cost real, output_cost real,
    has_error bool DEFAULT false, canceled bool, streamed bool, cached bool DEFAULT false, mode text, used_mode text)";

/// LiteLLM's spend log.
pub const LITELLM: &str = r#"CREATE TABLE public."LiteLLM_SpendLogs" (
    request_id text PRIMARY KEY, call_type text, api_key text, spend double precision, total_tokens int, prompt_tokens int,
    completion_tokens int, "startTime" timestamp(3), "endTime" timestamp(3), "completionStartTime" timestamp(3),
    request_duration_ms int, model text, model_group text, custom_llm_provider text, "user" text, metadata jsonb,
    cache_hit text, request_tags jsonb, team_id text, organization_id text, end_user text, status text, session_id text,
    messages jsonb, response jsonb)"#;

/// A log with the canonical column names.
pub const CANONICAL: &str = "CREATE TABLE public.requests (
    id bigint PRIMARY KEY, created_at timestamptz, organization_id text, project_id text, api_key_id text, user_id text,
    model text, provider text, application text, mode text, input_tokens bigint, output_tokens bigint,
    reasoning_tokens bigint, cached_tokens bigint, cache_write_tokens bigint, cost numeric, input_cost numeric,
    output_cost numeric, cached_input_cost numeric, request_cost numeric, is_error boolean, is_client_error boolean,
    is_cached boolean, is_streamed boolean, is_canceled boolean, duration_ms bigint, time_to_first_token_ms bigint, note text)";

/// Monthly partitions with a default; March 2026 is split once more by hash, so that an intermediate table exists.
/// Its mapping uses other column names and expressions, and its tokens are floats.
pub const PARTITIONED: &str = "CREATE TABLE public.calls (
    id bigint, at timestamptz, org text, project_id text, key text, member text, model text, provider text, app text,
    mode text, tin double precision, tout double precision, tall double precision, spend numeric, price numeric,
    status int, cache text, ms int, note text) PARTITION BY RANGE (at);
    CREATE TABLE public.calls_2025_11 PARTITION OF public.calls FOR VALUES FROM ('2025-11-01 00:00+00') TO ('2025-12-01 00:00+00');
    CREATE TABLE public.calls_2026_02 PARTITION OF public.calls FOR VALUES FROM ('2026-02-01 00:00+00') TO ('2026-03-01 00:00+00');
    CREATE TABLE public.calls_2026_03 PARTITION OF public.calls FOR VALUES FROM ('2026-03-01 00:00+00') TO ('2026-04-01 00:00+00')
        PARTITION BY HASH (id);
    CREATE TABLE public.calls_2026_03_a PARTITION OF public.calls_2026_03 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE public.calls_2026_03_b PARTITION OF public.calls_2026_03 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE public.calls_rest PARTITION OF public.calls DEFAULT;
    CREATE UNIQUE INDEX ON public.calls (id, at)";

pub const PARTITIONED_COLUMNS: &str = r#"{"created_at":"at","organization_id":"org","project_id":"project_id",
    "api_key_id":"key","user_id":"member","model":"model","provider":"provider","application":"lower(app)","mode":"mode",
    "input_tokens":"tin","output_tokens":"tout","total_tokens":"tall","cost":"spend","input_cost":"price / 2",
    "is_error":"status >= 500","is_client_error":"status BETWEEN 400 AND 499","is_cached":"cache = 'True'",
    "duration_ms":"ms"}"#;

/// LLM Gateway's directories.
pub const GATEWAY_DIRECTORIES: &str = r#"
    CREATE TABLE public.organization (id text PRIMARY KEY, name text NOT NULL, plan text NOT NULL DEFAULT 'free', status text DEFAULT 'active');
    CREATE TABLE public."user" (id text PRIMARY KEY, name text, email text NOT NULL UNIQUE);
    CREATE TABLE public.user_organization (user_id text NOT NULL, organization_id text NOT NULL, role text NOT NULL DEFAULT 'developer',
        PRIMARY KEY (user_id, organization_id));
    CREATE TABLE public.project (id text PRIMARY KEY, name text NOT NULL, organization_id text NOT NULL, status text DEFAULT 'active');
    CREATE TABLE public.api_key (id text PRIMARY KEY, description text, project_id text NOT NULL, status text DEFAULT 'active', created_by text);
    CREATE INDEX ON public.user_organization (organization_id); CREATE INDEX ON public.project (organization_id);
    CREATE INDEX ON public.api_key (project_id); CREATE INDEX ON public.api_key (created_by)"#;

pub const ATTACH_GATEWAY_DIRECTORIES: &str = r#"
    SELECT llm.attach_directory('organization', 'public.organization'), llm.attach_directory('user', 'public."user"'),
        llm.attach_directory('membership', 'public.user_organization'), llm.attach_directory('project', 'public.project'),
        llm.attach_directory('api_key', 'public.api_key')"#;

/// LiteLLM's directories.
pub const LITELLM_DIRECTORIES: &str = r#"
    CREATE TABLE public."LiteLLM_OrganizationTable" (organization_id text PRIMARY KEY, organization_alias text);
    CREATE TABLE public."LiteLLM_TeamTable" (team_id text PRIMARY KEY, team_alias text, organization_id text);
    CREATE TABLE public."LiteLLM_VerificationToken" (token text PRIMARY KEY, key_alias text, key_name text, team_id text, user_id text);
    CREATE TABLE public."LiteLLM_UserTable" (user_id text PRIMARY KEY, user_alias text, user_email text, user_role text);
    CREATE TABLE public."LiteLLM_OrganizationMembership" (user_id text NOT NULL, organization_id text NOT NULL, user_role text,
        PRIMARY KEY (user_id, organization_id))"#;

pub const ATTACH_LITELLM_DIRECTORIES: &str = r#"
    SELECT llm.attach_directory('organization', 'public."LiteLLM_OrganizationTable"'), llm.attach_directory('project', 'public."LiteLLM_TeamTable"'),
        llm.attach_directory('api_key', 'public."LiteLLM_VerificationToken"'), llm.attach_directory('user', 'public."LiteLLM_UserTable"'),
        llm.attach_directory('membership', 'public."LiteLLM_OrganizationMembership"')"#;
