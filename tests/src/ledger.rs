//! Random traffic of a few organizations, with the host's own directories, and the plain SQL that says what every row of
//! it means: whose it is, what it is called, what it cost. Shares nothing with the extension but `llm.model_alias`.

use crate::db::{quote, run, text};
use crate::hosts;
use crate::rng::Rng;
use postgres::Client;

/// org_a has rows in both logs, org_b only in the gateway's, org_c only in the canonical one.
pub const ORGANIZATIONS: [&str; 3] = ["org_a", "org_b", "org_c"];

/// The same users everywhere; u5 is a member and does nothing, u6 is no member (any more) and has usage.
const DIRECTORIES: &str = r#"
    INSERT INTO public.organization (id, name, plan) VALUES ('org_a', 'Org A', 'enterprise'), ('org_b', 'Org B', 'enterprise'), ('org_c', 'Org C', 'pro');
    INSERT INTO public."user" (id, name, email) VALUES ('u1', 'Ada', 'ada@example.com'), ('u2', 'Bob "B" O''Neil', 'bob@example.com'),
        ('u3', NULL, 'three@example.com'), ('u4', 'Ada', 'ada2@example.com'), ('u5', 'Idle', 'idle@example.com'), ('u6', 'Former', 'former@example.com');
    INSERT INTO public.user_organization (user_id, organization_id, role)
        SELECT u, o.id, r FROM public.organization o, unnest('{u1,u2,u3,u4,u5}'::text[], '{owner,admin,developer,developer,developer}'::text[]) m(u, r);
    INSERT INTO public.project (id, name, organization_id) SELECT o.id || '_' || p, n, o.id FROM public.organization o,
        (VALUES ('p1', 'Production API'), ('p2', 'Production API'), ('p3', 'Another'), ('p4', E'Quo"ted \\ \t日本')) v(p, n);
    INSERT INTO public.api_key (id, description, project_id, created_by) SELECT o.id || '_' || k, d, o.id || '_' || p, u FROM public.organization o,
        (VALUES ('k1', 'laptop', 'p1', 'u1'), ('k2', 'laptop', 'p2', 'u2'), ('k3', 'CI', 'p3', 'u3'), ('k4', 'ci', 'p4', 'u4'), ('k5', 'old', 'p1', 'u6'),
            ('k6', 'nobody''s', 'p2', NULL), ('k7', NULL, 'p3', 'u1'), ('k8', 'batch', 'p4', 'u2'), ('k9', 'never used', 'p1', 'u5')) v(k, d, p, u);
    INSERT INTO llm.model_alias (mapping, canonical, label) VALUES ('vertex/gemini-3', 'gemini', 'Gemini (all)'), ('google/gemini-3:fast', 'gemini', 'Gemini (all)')"#;

const READING: &str = r#"
    CREATE SCHEMA ledger;
    -- what is not in the directories any more, as it was
    CREATE TABLE ledger.gone (kind text, id text, label text, owner text, PRIMARY KEY (kind, id));
    CREATE FUNCTION ledger.owner(text) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT coalesce((SELECT created_by FROM public.api_key WHERE id = $1), (SELECT owner FROM ledger.gone WHERE kind = 'api_key' AND id = $1)) $$;
    CREATE FUNCTION ledger.label(text, text) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT coalesce(CASE $1 WHEN 'project' THEN (SELECT name FROM public.project WHERE id = $2)
                                WHEN 'api_key' THEN (SELECT description FROM public.api_key WHERE id = $2)
                                WHEN 'user' THEN (SELECT coalesce(name, email) FROM public."user" WHERE id = $2)
                                WHEN 'model' THEN (SELECT max(label) FROM llm.model_alias WHERE canonical = $2) END,
                        (SELECT label FROM ledger.gone WHERE kind = $1 AND id = $2), $2) $$;
    CREATE VIEW ledger.rows AS
    SELECT r.at, coalesce(nullif(r.org, ''), 'unknown') AS org, nullif(r.project, '') AS project, nullif(r.key, '') AS key,
        coalesce(nullif(r.usr, ''), ledger.owner(r.key)) AS usr,
        coalesce((SELECT canonical FROM llm.model_alias a WHERE a.mapping = r.mapping),
            nullif(split_part(substr(r.mapping, strpos(r.mapping, '/') + 1), ':', 1), '')) AS canonical,
        CASE WHEN r.mapping LIKE '%/%' THEN r.mapping ELSE coalesce(nullif(r.provider, '') || '/', '') || nullif(r.mapping, '') END AS shown_mapping,
        nullif(r.provider, '') AS provider, nullif(r.app, '') AS app, nullif(r.mode, '') AS mode, coalesce(r.cost, 0) AS cost,
        coalesce(r.tin, 0) AS tin, coalesce(r.tout, 0) AS tout, coalesce(r.tall, 0) AS tall,
        coalesce(r.error, false) AS error, coalesce(r.client_error, false) AS client_error, coalesce(r.cached, false) AS cached
    FROM (
        SELECT created_at AT TIME ZONE 'UTC' AS at, organization_id AS org, project_id AS project, api_key_id AS key, NULL::text AS usr, used_model AS mapping,
            used_provider AS provider, source AS app, used_mode AS mode, cost::text::numeric AS cost, prompt_tokens AS tin, completion_tokens AS tout,
            total_tokens AS tall, CASE WHEN unified_finish_reason IS NULL THEN has_error ELSE unified_finish_reason IN ('gateway_error', 'upstream_error') END AS error,
            unified_finish_reason = 'client_error' AS client_error, cached
        FROM public.log
        UNION ALL
        SELECT created_at, organization_id, project_id, api_key_id, user_id, model, provider, application, mode, cost, input_tokens, output_tokens,
            coalesce(input_tokens, 0) + coalesce(output_tokens, 0), is_error AND is_client_error IS NOT TRUE, is_client_error, is_cached
        FROM public.requests) r"#;

pub struct Ledger {
    rng: Rng,
    next_id: u64,
}

fn or_null(rng: &mut Rng, value: String) -> String {
    match rng.below(20) {
        0 => "NULL".to_owned(),
        1 => "''".to_owned(),
        _ => quote(&value),
    }
}

impl Ledger {
    /// Both logs and all directories attached; the first rows were there before.
    pub fn new(client: &mut Client, seed: u64) -> Ledger {
        for sql in [hosts::GATEWAY, hosts::CANONICAL, hosts::GATEWAY_DIRECTORIES, DIRECTORIES, READING] {
            run(client, sql);
        }
        let mut ledger = Ledger { rng: Rng::new(seed), next_id: 0 };
        ledger.write(client, 300);
        run(client, hosts::ATTACH_GATEWAY_DIRECTORIES);
        run(client, "SELECT llm.attach_log('public.log'), llm.attach_log('public.requests')");
        run(client, "CALL llm.backfill()");
        ledger
    }

    /// That many rows in each log.
    pub fn write(&mut self, client: &mut Client, count: usize) {
        let gateway: Vec<String> = (0..count).map(|_| self.gateway_row()).collect();
        run(
            client,
            &format!(
                "INSERT INTO public.log (created_at, organization_id, project_id, api_key_id, used_model, used_provider, source, used_mode, id,
                    unified_finish_reason, has_error, cached, prompt_tokens, completion_tokens, total_tokens, cost) VALUES {}",
                gateway.join(", ")
            ),
        );
        let canonical: Vec<String> = (0..count).map(|_| self.canonical_row()).collect();
        run(
            client,
            &format!(
                "INSERT INTO public.requests (created_at, organization_id, project_id, api_key_id, model, provider, application, mode, id, user_id,
                    is_error, is_client_error, is_cached, input_tokens, output_tokens, cost) VALUES {}",
                canonical.join(", ")
            ),
        );
    }

    pub fn pick(&mut self, count: usize) -> usize {
        self.rng.below(count as u64) as usize
    }

    /// Near daylight-saving changes, on and beside the quarters of an hour; UTC.
    fn instant(&mut self) -> String {
        let base = self.rng.pick(&["2025-10-30", "2025-10-30", "2026-03-05", "2026-03-05", "2026-01-15"]);
        let micros = self.rng.between(0, 96 * 7) * 900_000_000 + [0, -1, 0, 423_000_111][self.rng.below(4) as usize];
        format!("timestamp '{base}' + interval '{micros} microseconds'")
    }

    /// What both logs have: time, organization, project, key, model, provider, application, mode, id.
    fn common(&mut self, organizations: &[&str], zone: &str) -> String {
        let rng = &mut self.rng;
        let org = rng.pick(organizations).to_owned();
        let project = format!("{org}_{}", rng.pick(&["p1", "p2", "p3", "p4", "px"]));
        let key = format!("{org}_{}", rng.pick(&["k1", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "kx"]));
        let model = rng.pick(&[
            "openai/gpt-5.5",
            "openai/gpt-5.5:free",
            "azure/gpt-5.5",
            "gpt-5.5",
            "anthropic/claude-5:thinking",
            "claude-5",
            "vertex/gemini-3",
            "google/gemini-3:fast",
            "a/b/c:x:y",
        ]);
        let provider = rng.pick(&["openai", "azure", "anthropic", "vertex", "google", "groq", "mistral"]);
        let app = rng.pick(&["Chat", "chat", "batch\tjob", "日本語", "IDE", "Agent", "\"q\\"]);
        let mode = rng.pick(&["credits", "api-keys"]);
        let [project, key] = [project, key].map(|value| or_null(rng, value));
        let [model, provider, app, mode] = [model, provider, app, mode].map(|value| or_null(rng, value.to_owned()));
        self.next_id += 1;
        format!("({}){zone}, '{org}', {project}, {key}, {model}, {provider}, {app}, {mode}, {}", self.instant(), self.next_id)
    }

    fn gateway_row(&mut self) -> String {
        let common = self.common(&["org_a", "org_b"], "");
        let rng = &mut self.rng;
        let reason =
            rng.pick(&["NULL", "'completed'", "'completed'", "'client_error'", "'gateway_error'", "'upstream_error'", "'canceled'"]);
        let cost = format!("{}0.{:07}", if rng.percent(5) { "-" } else { "" }, rng.below(10_000_000));
        let (input, output) = (rng.between(0, 5_000), rng.between(0, 900));
        let (error, cached) = (rng.percent(20), rng.percent(20));
        format!("({common}, {reason}, {error}, {cached}, {input}, {output}, {}, {cost}::real)", input + output + rng.between(0, 3))
    }

    fn canonical_row(&mut self) -> String {
        let common = self.common(&["org_a", "org_c"], " AT TIME ZONE 'UTC'");
        let rng = &mut self.rng;
        let user = rng.pick(&["u1", "u2", "u3", "u4", "u6", "ux"]).to_owned();
        let user = or_null(rng, user);
        let cost = format!("{}{}.{:012}", if rng.percent(5) { "-" } else { "" }, rng.below(3), rng.below(1_000_000_000_000));
        let flags: Vec<String> = (0..3).map(|_| rng.percent(20).to_string()).collect();
        format!("({common}, {user}, {}, {}, {}, {cost})", flags.join(", "), rng.between(0, 5_000), rng.between(0, 900))
    }

    /// `o`: all rows as they are read now.
    pub fn snapshot(&self, client: &mut Client) {
        run(client, "DROP TABLE IF EXISTS o; CREATE TEMP TABLE o AS SELECT * FROM ledger.rows; ANALYZE o");
    }
}

/// Deletes a row of a directory; the ledger keeps what it was called and whose it was.
pub fn delete(client: &mut Client, kind: &str, id: &str) {
    let (table, label, owner) = match kind {
        "project" => ("public.project", "name", "NULL"),
        "api_key" => ("public.api_key", "description", "created_by"),
        _ => (r#"public."user""#, "coalesce(name, email)", "NULL"),
    };
    let id = quote(id);
    assert_eq!(text(client, &format!("SELECT count(*) FROM {table} WHERE id = {id}")), "1", "{kind} {id} is there to be deleted");
    run(
        client,
        &format!(
            "INSERT INTO ledger.gone SELECT '{kind}', id, {label}, {owner} FROM {table} WHERE id = {id}
             ON CONFLICT (kind, id) DO UPDATE SET label = excluded.label, owner = coalesce(excluded.owner, gone.owner);
             DELETE FROM {table} WHERE id = {id}"
        ),
    );
}

/// A key that has no owner any more; its usage stays with the last one.
pub fn disown(client: &mut Client, key: &str) {
    let key = quote(key);
    run(
        client,
        &format!(
            "INSERT INTO ledger.gone SELECT 'api_key', id, NULL, created_by FROM public.api_key WHERE id = {key};
             UPDATE public.api_key SET created_by = NULL WHERE id = {key}"
        ),
    );
}
