-- capture => 'row': a row trigger that fires for what a replication worker applies (here: session_replication_role = replica, empty
-- search_path) beside the statement triggers, which fire for everybody else. Never both.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA capture_row;
SET search_path = capture_row, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text) PARTITION BY RANGE (created_at);
CREATE TABLE log_jan PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE gone (LIKE log);
CREATE VIEW ever AS TABLE log UNION ALL TABLE gone;
-- wrong(): what the extension says and what a plain query over "ever" says, EXCEPT ALL both ways, and llm.verify().
-- proof(): one line of plain totals, then whatever is wrong before a fold, after it and after a rebuild of everything.
CREATE FUNCTION wrong() RETURNS TABLE (said_by text, view text, at text, key text, n numeric, tokens numeric, cost numeric)
LANGUAGE sql SET jit = off AS $$
    WITH told (view, at, key, n, tokens, cost) AS (
        SELECT 'usage', bucket::text, concat_ws(' ', organization_id, project_id, api_key_id, mapping), sum(requests), sum(input_tokens), sum(cost)
        FROM llm.usage GROUP BY 2, 3 HAVING sum(requests) <> 0 OR sum(input_tokens) <> 0 OR sum(cost) <> 0
        UNION ALL
        SELECT g, date::text, key, sum(request_count), sum(input_tokens), sum(cost)
        FROM unnest(ARRAY['project', 'apiKey', 'mapping']) g, llm.activity('org', g, '2025-12-01', '2026-12-31', 'Asia/Kolkata') a
        WHERE request_count <> 0 OR a.input_tokens <> 0 OR a.cost <> 0 GROUP BY 1, 2, 3
    ), plain (view, at, key, n, tokens, cost) AS (
        SELECT 'usage', llm.bucket(created_at)::text, concat_ws(' ', organization_id, project_id, api_key_id, model), count(*), sum(input_tokens), sum(cost)
        FROM ever GROUP BY 2, 3
        UNION ALL
        SELECT g, (created_at AT TIME ZONE 'Asia/Kolkata')::date::text, k, count(*), sum(input_tokens), sum(cost)
        FROM ever, LATERAL (VALUES ('project', project_id), ('apiKey', api_key_id), ('mapping', model)) v (g, k) GROUP BY 1, 2, 3
    )
    SELECT 'llm', * FROM (TABLE told EXCEPT ALL TABLE plain) x
    UNION ALL SELECT 'log', * FROM (TABLE plain EXCEPT ALL TABLE told) y
    UNION ALL SELECT 'verify', level || ' ' || measure, bucket::text, series::text, expected, actual, NULL FROM llm.verify()
$$;
CREATE FUNCTION proof(what text) RETURNS SETOF text LANGUAGE plpgsql SET jit = off AS $$
BEGIN
    RETURN QUERY SELECT format('%s: %s requests, %s tokens, cost %s', what, count(*), sum(input_tokens), trim_scale(sum(cost))) FROM ever;
    RETURN QUERY SELECT 'wrong before the fold ' || w::text FROM wrong() w ORDER BY 1;
    PERFORM llm.fold();
    RETURN QUERY SELECT 'wrong after the fold ' || w::text FROM wrong() w ORDER BY 1;
    PERFORM llm.rebuild('2025-12-01', '2027-01-01');
    RETURN QUERY SELECT 'wrong after the rebuild ' || w::text FROM wrong() w ORDER BY 1;
END $$;
SELECT 1 AS attached FROM llm.attach_log('log', capture => 'row');
CREATE TABLE log_feb PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO log SELECT i, '2026-01-20'::timestamptz + i * interval '1 day', 'org', 'p' || i % 2, 'k1', 'openai/gpt-5', i, 0.1 FROM generate_series(1, 20) i;
UPDATE log SET cost = cost + 1 WHERE id = 1;
SELECT * FROM proof('ordinary writer');
SET session_replication_role = 'replica';
SET search_path = '';
INSERT INTO capture_row.log SELECT i, '2026-01-20'::timestamptz + i * interval '1 day', 'org', 'p' || i % 2, 'k1', 'openai/gpt-5', i, 0.1 FROM generate_series(21, 40) i WHERE i < 30;
INSERT INTO capture_row.log_feb VALUES (50, '2026-02-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
UPDATE capture_row.log SET cost = cost + 2 WHERE id % 5 = 0;
-- a row that moves to another partition comes as a DELETE and an INSERT: the delete must be said to count
BEGIN;
SET LOCAL llm.on_delete = 'subtract';
UPDATE capture_row.log SET created_at = created_at + interval '25 days' WHERE id IN (2, 3);
COMMIT;
UPDATE capture_row.log SET note = 'x';
WITH d AS (DELETE FROM capture_row.log WHERE id IN (7, 25) RETURNING *) INSERT INTO capture_row.gone SELECT * FROM d;
SET llm.on_delete = 'subtract';
DELETE FROM capture_row.log_feb WHERE id IN (20, 26);
RESET llm.on_delete;
RESET session_replication_role;
SET search_path = capture_row, public;
SELECT * FROM proof('replication worker');
-- capture => 'statement' counts what such a session writes itself, TRUNCATE included; replicated rows come without statements
SELECT 1 AS detached FROM llm.detach_log('log');
SELECT 1 AS attached FROM llm.attach_log('log');
CALL llm.backfill();
SELECT * FROM proof('attached again by statement');
SET session_replication_role = 'replica';
INSERT INTO log VALUES (60, '2026-02-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
UPDATE log SET cost = 0.7, created_at = created_at + interval '9 days' WHERE id IN (4, 60);
INSERT INTO gone SELECT * FROM log_feb;
TRUNCATE log_feb;
RESET session_replication_role;
SELECT * FROM proof('session_replication_role');

-- triggers that somebody disables: a warning, the log's state says so, and once they are enabled again it is read again
ALTER TABLE log DISABLE TRIGGER ALL;
SELECT source, state FROM llm.status WHERE source IS NOT NULL;
INSERT INTO log VALUES (61, '2026-02-06', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
CALL llm.backfill();
SELECT state, (SELECT count(*) FROM llm._pending) AS pending FROM llm.status WHERE source IS NOT NULL;
ALTER TABLE log ENABLE TRIGGER ALL;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'log'::regclass AND NOT tgisinternal ORDER BY 1;
SELECT state FROM llm.status WHERE source IS NOT NULL;
CALL llm.backfill();
SELECT * FROM proof('enabled again');
-- of a row-captured log, one that is dropped, and that of a partition
SELECT 1 AS detached FROM llm.detach_log('log');
SELECT 1 AS attached FROM llm.attach_log('log', capture => 'row');
CALL llm.backfill();
ALTER TABLE log ENABLE TRIGGER ALL;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'log'::regclass AND NOT tgisinternal ORDER BY 1;
SELECT DISTINCT tgenabled FROM pg_trigger WHERE tgrelid = 'log_feb'::regclass AND tgname = 'llm_capture_row';
ALTER TABLE log_feb DISABLE TRIGGER llm_capture_delete;
ALTER TABLE log_feb ENABLE TRIGGER llm_capture_delete;
DROP TRIGGER llm_capture_update ON log;
SELECT state FROM llm.status WHERE source IS NOT NULL;
SELECT 1 AS detached FROM llm.detach_log('log');
SELECT 1 AS attached FROM llm.attach_log('log');
CALL llm.backfill();
SELECT * FROM proof('attached once more');

RESET search_path;
DROP SCHEMA capture_row CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
