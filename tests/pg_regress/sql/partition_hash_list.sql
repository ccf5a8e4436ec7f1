-- Logs that are not partitioned on their timestamp: hash and list leaves hold no range of time, so what a DETACH or TRUNCATE takes
-- away goes into the kept level first, and a DROP seals what the leaf held, with a warning.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA partition_hash_list;
SET search_path = partition_hash_list, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text) PARTITION BY HASH (organization_id, id);
CREATE TABLE log_0 PARTITION OF log FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE log_1 PARTITION OF log FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE log_2 PARTITION OF log FOR VALUES WITH (MODULUS 3, REMAINDER 2);
CREATE TABLE list (LIKE log) PARTITION BY LIST (project_id);
CREATE TABLE list_p1 PARTITION OF list FOR VALUES IN ('p1');
CREATE TABLE list_p2 PARTITION OF list FOR VALUES IN ('p2');
CREATE TABLE list_rest PARTITION OF list DEFAULT;
CREATE TABLE gone (LIKE log);
CREATE VIEW ever AS TABLE log UNION ALL TABLE list UNION ALL TABLE gone;
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
SELECT 1 AS attached FROM llm.attach_log('list');
INSERT INTO log SELECT i, '2026-01-01 05:20Z'::timestamptz + i * interval '5 hours', 'org', 'p' || i % 3, 'k' || i % 2, 'openai/gpt-5', i, i / 100.0
    FROM generate_series(0, 60) i;
INSERT INTO list SELECT i, '2026-02-01 05:20Z'::timestamptz + i * interval '5 hours', 'org', 'p' || i % 5, 'k' || i % 2, 'openai/gpt-5', i, i / 100.0
    FROM generate_series(0, 60) i;
SELECT * FROM proof('filled');
INSERT INTO list_p1 VALUES (101, '2026-02-03', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
UPDATE list SET project_id = 'p1' WHERE id % 7 = 0;
UPDATE log SET id = id + 1000, cost = cost + 1 WHERE id % 9 = 0;
UPDATE log_1 SET cost = cost + 1;
SELECT * FROM proof('written, moved');

-- TRUNCATE and DETACH: kept, row by row, so that rebuild and verify can still prove the same range
INSERT INTO gone TABLE log_0;
TRUNCATE log_0;
SELECT * FROM proof('hash leaf truncated');
INSERT INTO log SELECT i, '2026-01-03', 'org', 'p1', 'k1', 'openai/gpt-5', i, 0.5 FROM generate_series(200, 210) i;
SELECT * FROM proof('used again');
INSERT INTO gone TABLE list_p1;
ALTER TABLE list DETACH PARTITION list_p1;
SELECT * FROM proof('list leaf detached');
TRUNCATE list_p1;
INSERT INTO list_p1 VALUES (102, '2026-02-03', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
SELECT * FROM proof('detached leaf is nothing to us');
INSERT INTO list VALUES (103, '2026-02-03', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
INSERT INTO gone TABLE list_rest;
TRUNCATE list_rest;
SELECT * FROM proof('default truncated');
BEGIN;
INSERT INTO log VALUES (301, '2026-01-04', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
INSERT INTO gone TABLE log;
TRUNCATE log;
INSERT INTO log VALUES (302, '2026-01-04', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
COMMIT;
SELECT * FROM proof('root truncated');
-- nothing was sealed so far: all of it is still provable
SELECT count(*) AS seals FROM llm._seal;

-- DROP: too late to read its rows
INSERT INTO gone TABLE list_p2;
DROP TABLE list_p2;
SELECT count(*) > 0 AS sealed FROM llm._seal;
SELECT * FROM proof('list leaf dropped');
CREATE TABLE list_p2 PARTITION OF list FOR VALUES IN ('p2');
INSERT INTO list VALUES (104, '2026-02-03', 'org', 'p2', 'k1', 'openai/gpt-5', 1, 0.1);
SELECT * FROM proof('late row into what was sealed');

-- subtracted
SET llm.on_delete = 'subtract';
TRUNCATE list_p2;
DELETE FROM log WHERE id = 302;
RESET llm.on_delete;
SELECT * FROM proof('subtracted');

RESET search_path;
DROP SCHEMA partition_hash_list CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
