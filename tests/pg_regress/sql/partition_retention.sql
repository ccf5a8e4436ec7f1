-- Leaves that go away: DETACH, DETACH CONCURRENTLY, DROP, TRUNCATE are retention in keep mode. The numbers stay, rebuild and verify
-- leave the sealed ranges alone, late rows into them still count.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA partition_retention;
SET search_path = partition_retention, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text) PARTITION BY RANGE (created_at);
CREATE TABLE log_jan PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_feb PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE log_mar PARTITION OF log FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
CREATE TABLE log_apr PARTITION OF log FOR VALUES FROM ('2026-04-01') TO ('2026-05-01');
CREATE TABLE log_may PARTITION OF log FOR VALUES FROM ('2026-05-01') TO ('2026-06-01') PARTITION BY LIST (project_id);
CREATE TABLE log_may_p1 PARTITION OF log_may FOR VALUES IN ('p1');
CREATE TABLE log_may_rest PARTITION OF log_may DEFAULT;
CREATE TABLE log_jun PARTITION OF log FOR VALUES FROM ('2026-06-01') TO ('2026-07-01');
CREATE TABLE log_jul PARTITION OF log FOR VALUES FROM ('2026-07-01') TO (MAXVALUE);
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
SELECT 1 AS attached FROM llm.attach_log('log');
INSERT INTO log SELECT i, '2026-01-01 05:20Z'::timestamptz + i * interval '29 hours', 'org', 'p' || i % 3, 'k' || i % 2, 'openai/gpt-5', i, i / 100.0
    FROM generate_series(0, 190) i;
SELECT * FROM proof('filled');

-- DETACH: its rows stay counted; what happens to the table later is nothing to us
INSERT INTO log_jan VALUES (201, '2026-01-31 23:59Z', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
INSERT INTO gone TABLE log_jan;
ALTER TABLE log DETACH PARTITION log_jan;
SELECT * FROM proof('detached');
INSERT INTO log_jan VALUES (202, '2026-01-31', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
UPDATE log_jan SET cost = 9;
DELETE FROM log_jan WHERE id < 4;
TRUNCATE log_jan;
SELECT count(*) AS triggers_left FROM pg_trigger WHERE tgrelid = 'log_jan'::regclass AND NOT tgisinternal;
SELECT * FROM proof('detached, written, truncated');
DROP TABLE log_jan;
SELECT * FROM proof('detached, dropped');

-- late rows into the sealed range
CREATE TABLE log_jan2 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
INSERT INTO log VALUES (203, '2026-01-31 23:58Z', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1), (204, '2026-01-02', 'org', 'p2', 'k1', 'openai/gpt-5', 1, 0.1);
UPDATE log SET cost = cost + 1 WHERE id = 204;
SELECT * FROM proof('late rows');

-- DETACH CONCURRENTLY
INSERT INTO gone TABLE log_feb;
ALTER TABLE log DETACH PARTITION log_feb CONCURRENTLY;
INSERT INTO log_feb VALUES (205, '2026-02-28', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
TRUNCATE log_feb;
SELECT * FROM proof('detached concurrently');

-- DROP, with deltas that are not folded yet
UPDATE log_mar SET cost = cost + 2 WHERE id % 2 = 0;
INSERT INTO gone TABLE log_mar;
DROP TABLE log_mar;
SELECT * FROM proof('dropped');
-- rolled back
BEGIN;
DROP TABLE log_apr;
ROLLBACK;
BEGIN;
ALTER TABLE log DETACH PARTITION log_apr;
INSERT INTO log_apr VALUES (206, '2026-04-28', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
ROLLBACK;
INSERT INTO log_apr VALUES (207, '2026-04-28', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
UPDATE log SET cost = cost + 1 WHERE id = 207;
SELECT * FROM proof('drop and detach rolled back');

-- TRUNCATE of a leaf, then it is used again
INSERT INTO gone TABLE log_apr;
TRUNCATE log_apr;
SELECT * FROM proof('truncated leaf');
INSERT INTO log VALUES (208, '2026-04-28', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
SELECT * FROM proof('truncated leaf used again');
-- subtracted: its rows leave the numbers
BEGIN;
SET LOCAL llm.on_delete = 'subtract';
TRUNCATE log_jun;
COMMIT;
SELECT * FROM proof('truncated leaf, subtract');

-- an intermediate table goes, with all below it
INSERT INTO log_may_p1 VALUES (209, '2026-05-28', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
INSERT INTO gone TABLE log_may;
ALTER TABLE log DETACH PARTITION log_may;
INSERT INTO log_may_p1 VALUES (210, '2026-05-28', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
TRUNCATE log_may;
SELECT * FROM proof('detached intermediate');
DROP TABLE log_may;

-- TRUNCATE of the root counts every leaf once
INSERT INTO log VALUES (211, '2026-07-28', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
INSERT INTO gone TABLE log;
TRUNCATE log;
SELECT * FROM proof('truncated root');
INSERT INTO log SELECT i, '2026-07-01 05:20Z'::timestamptz + i * interval '1 hour', 'org', 'p' || i % 3, 'k' || i % 2, 'openai/gpt-5', i, i / 100.0
    FROM generate_series(0, 9) i;
SELECT * FROM proof('used again');
BEGIN;
SET LOCAL llm.on_delete = 'subtract';
TRUNCATE log;
COMMIT;
SELECT * FROM proof('truncated root, subtract');

-- the whole log goes: its numbers stay
INSERT INTO log VALUES (212, '2026-07-28', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
INSERT INTO gone TABLE log;
CREATE OR REPLACE VIEW ever AS TABLE gone;
DROP TABLE log;
SELECT * FROM proof('log dropped');

RESET search_path;
DROP SCHEMA partition_retention CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
