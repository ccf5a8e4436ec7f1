//! Tables of exactly the reference shapes: rows in, and the numbers the mapping tables say out.

use llm_analytics_tests::db::{Db, Role, refused, rows, run, text};
use llm_analytics_tests::hosts;
use postgres::Client;

fn activity(client: &mut Client, org: &str, group: &str) -> Vec<String> {
    let sql = format!(
        "SELECT concat_ws('|', date, coalesce(key, '-'), label, trim_scale(cost), request_count, input_tokens, output_tokens, total_tokens, error_count, client_error_count, cache_count)
         FROM llm.activity('{org}', '{group}', '2026-06-01', '2026-06-02') WHERE label IS NOT NULL ORDER BY 1"
    );
    rows(client, &sql).into_iter().map(|mut row| row.remove(0)).collect()
}

fn usage(client: &mut Client, columns: &str) -> Vec<String> {
    let sums: Vec<String> = columns.split(", ").map(|c| format!("trim_scale(sum({c}))")).collect();
    rows(client, &format!("SELECT {} FROM llm.usage", sums.join(", "))).remove(0)
}

/// Everything is asked while the rows are pending, and again once they are folded.
fn twice(client: &mut Client, check: impl Fn(&mut Client)) {
    check(client);
    run(client, "SELECT llm.fold()");
    check(client);
    assert!(rows(client, "SELECT v::text FROM llm.verify() v").is_empty(), "llm.verify");
}

#[test]
fn llm_gateway_of_2026() {
    let db = Db::new("gateway");
    let mut client = db.connect();
    run(&mut client, hosts::GATEWAY);
    run(&mut client, "SELECT llm.attach_log('public.log')");
    assert_eq!(text(&mut client, "SELECT preset FROM llm.source"), "llmgateway");
    run(
        &mut client,
        "INSERT INTO public.log (id, created_at, organization_id, project_id, api_key_id, duration, time_to_first_token, used_model, used_provider, source, used_mode, mode,
            unified_finish_reason, has_error, canceled, streamed, cached, prompt_tokens, completion_tokens, total_tokens, reasoning_tokens, cached_tokens, cache_write_tokens,
            cost, input_cost, output_cost, cached_input_cost, request_cost)
         VALUES
         -- has_error counts only where there is no unified reason
         ('1', '2026-06-01 23:59:59.999999', 'o', 'p', 'k', 100, 20, 'openai/gpt-5.5', 'openai', 'app', 'credits', 'hybrid', 'completed', true, false, true, false, 10, 5, 15, 3, 2, 1, 0.1, 0.04, 0.05, 0.006, 0.004),
         ('2', '2026-06-02 00:00:00', 'o', 'p', 'k', 50, NULL, 'gpt-5.5', 'openai', 'app', 'api-keys', 'hybrid', NULL, true, false, false, true, 1.5, 2.4, NULL, NULL, NULL, NULL, 0.2, NULL, NULL, NULL, NULL),
         ('3', '2026-06-02 00:00:00', 'o', 'p', 'k', NULL, NULL, 'gpt-5.5', 'openai', NULL, 'credits', 'hybrid', 'gateway_error', false, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
         ('4', '2026-06-02 00:00:00', 'o', 'p', 'k', 1, NULL, 'gpt-5.5', 'openai', NULL, 'credits', 'hybrid', 'upstream_error', true, false, NULL, NULL, 0, 0, 0, 0, 0, 0, 1e-7, 0, 0, 0, 0),
         ('5', '2026-06-02 00:00:00', 'o', 'p', 'k', 1, NULL, 'gpt-5.5', 'openai', NULL, 'credits', 'hybrid', 'client_error', true, false, NULL, NULL, 0, 0, 0, 0, 0, 0, -0.3, 0, 0, 0, 0),
         ('6', '2026-06-02 00:00:00', 'o', NULL, 'k', 1, NULL, NULL, NULL, '', NULL, 'hybrid', NULL, NULL, true, NULL, NULL, 0, 0, 0, 0, 0, 0, 'NaN', 'Infinity', 0, 0, 0),
         ('7', '2026-06-02 00:00:00', NULL, 'p', 'k', 1, NULL, 'm', 'q', 's', 'credits', 'hybrid', 'completed', NULL, true, NULL, NULL, 7, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0)",
    );
    twice(&mut client, |client| {
        assert_eq!(
            activity(client, "o", "mapping"),
            [
                "2026-06-01|openai/gpt-5.5|openai/gpt-5.5|0.1|1|10|5|15|0|0|0",
                "2026-06-02|-|unknown|0|1|0|0|0|0|0|0",
                "2026-06-02|openai/gpt-5.5|openai/gpt-5.5|-0.0999999|4|2|2|0|3|1|1",
            ]
        );
        assert_eq!(activity(client, "o", "model")[2], "2026-06-02|gpt-5.5|gpt-5.5|-0.0999999|4|2|2|0|3|1|1");
        assert_eq!(activity(client, "o", "project")[1], "2026-06-02|-|Unattributed|0|1|0|0|0|0|0|0");
        assert_eq!(
            activity(client, "o", "application")[1..],
            ["2026-06-02|-|unknown|-0.2999999|4|0|0|0|2|1|0", "2026-06-02|app|app|0.2|1|2|2|0|1|0|1",]
        );
        assert_eq!(activity(client, "o", "mode").len(), 4, "{:?}", activity(client, "o", "mode"));
        assert_eq!(activity(client, "unknown", "provider"), ["2026-06-02|q|q|1|1|7|0|7|0|0|0"]);
        assert_eq!(
            usage(
                client,
                "requests, errors, client_errors, cache_hits, streamed, canceled, duration_ms, duration_count, time_to_first_token_ms, time_to_first_token_count"
            ),
            ["7", "3", "1", "1", "1", "2", "154", "6", "20", "1"]
        );
        assert_eq!(
            usage(
                client,
                "reasoning_tokens, cached_tokens, cache_write_tokens, cost, input_cost, output_cost, cached_input_cost, request_cost"
            ),
            ["3", "2", "1", "1.0000001", "0.04", "0.05", "0.006", "0.004"]
        );
        let rate = "SELECT llm.analytics_activity('o', 'model', '2026-06-02', '2026-06-02')->'summary'->>";
        assert_eq!(text(client, &format!("{rate}'errorRate'")), "75", "3 of 5 - 1 requests");
        assert_eq!(text(client, &format!("{rate}'cacheRate'")), "20");
        assert_eq!(text(client, &format!("{rate}'cost'")), "-0.0999999");
    });
}

#[test]
fn llm_gateway_of_june_2025() {
    let db = Db::new("gateway25");
    let mut client = db.connect();
    run(&mut client, hosts::GATEWAY_2025);
    // Rows from before the attach, in two orders of magnitude of cost.
    run(
        &mut client,
        "INSERT INTO public.log (id, created_at, organization_id, project_id, api_key_id, duration, used_model, used_provider, used_mode, unified_finish_reason, has_error, streamed, cached, prompt_tokens, completion_tokens, total_tokens, cost)
         SELECT i::text, '2026-06-01 12:00', 'o', 'p', 'k', 10, 'openai/gpt-4', 'openai', 'credits', CASE WHEN i % 4 = 0 THEN 'upstream_error' ELSE 'completed' END, i % 2 = 0, true, i % 5 = 0, 10, 1, 11, 0.001
         FROM generate_series(1, 20) i",
    );
    run(&mut client, "SELECT llm.attach_log('public.log')");
    assert_eq!(text(&mut client, "SELECT preset FROM llm.source"), "llmgateway");
    run(&mut client, "CALL llm.backfill()");
    twice(&mut client, |client| {
        assert_eq!(activity(client, "o", "apiKey"), ["2026-06-01|k|k|0.02|20|200|20|220|5|0|4"]);
        assert_eq!(activity(client, "o", "application"), ["2026-06-01|-|unknown|0.02|20|200|20|220|5|0|4"]);
        assert_eq!(usage(client, "time_to_first_token_count, cached_tokens, streamed, duration_ms"), ["0", "0", "20", "200"]);
    });
}

#[test]
fn litellm() {
    let db = Db::new("litellm");
    let mut client = db.connect();
    run(&mut client, hosts::LITELLM);
    run(&mut client, r#"SELECT llm.attach_log('public."LiteLLM_SpendLogs"')"#);
    assert_eq!(text(&mut client, "SELECT preset FROM llm.source"), "litellm");
    run(
        &mut client,
        r#"INSERT INTO public."LiteLLM_SpendLogs" (request_id, api_key, spend, total_tokens, prompt_tokens, completion_tokens, "startTime", "endTime", request_duration_ms, model, custom_llm_provider, "user", cache_hit, team_id, organization_id, status)
           VALUES ('1', 'hash', 0.1, 30, 10, 20, '2026-06-01 23:59:59.999', '2026-06-02 00:00:01.499', NULL, 'gpt-4', 'openai', 'ada', 'True', 'team', NULL, 'success'),
                  ('2', 'hash', 0.30000000000000004, 3, 1, 2, '2026-06-01 10:00', '2026-06-01 10:00:09', 77, 'gpt-4', 'openai', 'ada', 'False', 'team', NULL, 'failure'),
                  ('3', '', 1e-20, 3, 1, 2, '2026-06-01 10:00', NULL, NULL, 'vertex_ai/gemini:x', NULL, NULL, '', NULL, NULL, NULL),
                  ('4', 'hash', 5, 3, 1, 2, '2026-06-01 10:00', '2026-06-01 10:00:00', NULL, 'gpt-4', 'openai', 'bob', 'True', 'team', 'acme', 'success')"#,
    );
    twice(&mut client, |client| {
        assert_eq!(
            activity(client, "default", "user"),
            ["2026-06-01|-|Unattributed|0.00000000000000000001|1|1|2|3|0|0|0", "2026-06-01|ada|ada|0.40000000000000004|2|11|22|33|1|0|1",]
        );
        assert_eq!(activity(client, "default", "apiKey")[0], "2026-06-01|-|Unattributed|0.00000000000000000001|1|1|2|3|0|0|0");
        assert_eq!(activity(client, "default", "model")[0], "2026-06-01|gemini|gemini|0.00000000000000000001|1|1|2|3|0|0|0");
        assert_eq!(activity(client, "acme", "project"), ["2026-06-01|team|team|5|1|1|2|3|0|0|1"]);
        assert_eq!(activity(client, "acme", "mapping")[0].split('|').nth(1), Some("openai/gpt-4"));
        // 1.5 s from the timestamps, 77 ms as logged, 0 ms; the third has no end
        assert_eq!(usage(client, "requests, duration_ms, duration_count"), ["4", "1577", "3"]);
    });
}

#[test]
fn long_names_are_cut_and_stay_apart() {
    let db = Db::new("long");
    let mut client = db.connect();
    run(&mut client, hosts::CANONICAL);
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    run(
        &mut client,
        "INSERT INTO public.requests (id, created_at, organization_id, project_id, api_key_id, model, cost)
         SELECT i, '2026-06-01', 'o', repeat('é', 500) || i % 3, repeat('x', 200), 'm', 0.1 FROM generate_series(1, 9) i",
    );
    twice(&mut client, |client| {
        let projects = activity(client, "o", "project");
        assert_eq!(projects.len(), 3, "{projects:?}");
        for project in &projects {
            let fields: Vec<&str> = project.split('|').collect();
            assert!(fields[1].len() < 300 && fields[1].starts_with("éééé"), "{project}");
            assert_eq!(fields[4], "3", "{project}");
        }
        assert_eq!(activity(client, "o", "apiKey")[0].split('|').nth(1), Some("x".repeat(200).as_str()), "200 bytes are kept as they are");
        // the long name, as the log has it, finds its usage
        let sql = "SELECT sum(request_count) FROM llm.activity('o', 'model', '2026-06-01', '2026-06-01', project => repeat('é', 500) || 1)";
        assert_eq!(text(client, sql), "3");
    });
}

/// Expressions of the mapping run with the rights of the log's owner, whoever writes.
#[test]
fn expressions_run_as_the_owner() {
    let db = Db::new("owner");
    let (owner, writer) = (Role::new(&db.server, "owner"), Role::new(&db.server, "writer"));
    let mut client = db.connect();
    run(
        &mut client,
        &format!(
            "CREATE SCHEMA app AUTHORIZATION {o}; GRANT USAGE ON SCHEMA app TO {w}; SET ROLE {o};
             CREATE TABLE app.calls (id int, at timestamptz, org text, key text, model text, spend numeric);
             CREATE FUNCTION app.who() RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN current_user; END';
             GRANT INSERT ON app.calls TO {w}; RESET ROLE;
             SELECT llm.attach_log('app.calls', '{{\"created_at\":\"at\",\"organization_id\":\"org\",\"api_key_id\":\"key\",\"model\":\"model\",\"cost\":\"spend\",\"application\":\"app.who() || left(model, 0)\"}}')",
            o = owner.name,
            w = writer.name
        ),
    );
    let insert = "INSERT INTO app.calls VALUES (1, '2026-06-01', 'o', 'k', 'm', 1)";
    run(&mut db.connect_as(&writer.name), insert);
    run(&mut client, insert);
    assert_eq!(activity(&mut client, "o", "application"), [format!("2026-06-01|{o}|{o}|2|2|0|0|0|0|0|0", o = owner.name)]);
    // What runs there cannot leave anything behind for a session with more rights.
    run(
        &mut client,
        "CREATE OR REPLACE FUNCTION app.who() RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN EXECUTE ''SET ROLE postgres''; RETURN current_user; END'",
    );
    let refusal = refused(&mut client, insert);
    assert!(["42501", "0A000"].contains(&refusal.state.as_str()), "{refusal:?}");
    // What cannot be counted is not written either.
    run(&mut client, "CREATE OR REPLACE FUNCTION app.who() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT (1 / 0)::text'");
    let refusal = refused(&mut client, insert);
    assert_eq!(refusal.state, "22012", "{refusal:?}");
    assert_eq!(text(&mut client, "SELECT count(*) FROM app.calls"), "2");
    run(&mut client, "DROP EXTENSION llm_analytics; DROP SCHEMA app CASCADE");
}
