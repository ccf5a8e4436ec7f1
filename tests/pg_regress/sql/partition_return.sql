-- A leaf that was detached and is attached again is the same rows, counted once; another table in the place of one that went away is other
-- rows, and both count.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA partition_return;
SET search_path = partition_return, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text) PARTITION BY RANGE (created_at);
CREATE TABLE log_jan PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_feb PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (project_id);
CREATE TABLE log_feb_p1 PARTITION OF log_feb FOR VALUES IN ('p1');
CREATE TABLE log_feb_rest PARTITION OF log_feb DEFAULT;
CREATE TABLE log_mar PARTITION OF log FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
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
INSERT INTO log SELECT i, '2026-01-10 05:20Z'::timestamptz + i * interval '1 day', 'org', 'p' || i % 3, 'k' || i % 2, 'openai/gpt-5', i, i / 100.0
    FROM generate_series(0, 70) i;
SELECT * FROM proof('filled');

-- the same leaf, not folded yet and folded
INSERT INTO log VALUES (100, '2026-01-05 10:00Z', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
ALTER TABLE log DETACH PARTITION log_jan;
ALTER TABLE log ATTACH PARTITION log_jan FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
SELECT * FROM proof('came back');
ALTER TABLE log DETACH PARTITION log_jan;
ALTER TABLE log ATTACH PARTITION log_jan FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
UPDATE log_jan SET cost = cost + 1 WHERE id = 1;
INSERT INTO log VALUES (101, '2026-01-05 10:00Z', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
SELECT * FROM proof('came back, written');
-- what was written to it meanwhile is the log's again
ALTER TABLE log DETACH PARTITION log_jan;
INSERT INTO log_jan VALUES (102, '2026-01-06 10:00Z', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
UPDATE log_jan SET cost = cost + 1 WHERE id = 2;
ALTER TABLE log ATTACH PARTITION log_jan FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
SELECT * FROM proof('came back, changed');
-- in one transaction, and rolled back
BEGIN;
ALTER TABLE log DETACH PARTITION log_jan;
ALTER TABLE log ATTACH PARTITION log_jan FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
COMMIT;
BEGIN;
ALTER TABLE log DETACH PARTITION log_jan;
ALTER TABLE log ATTACH PARTITION log_jan FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
ROLLBACK;
SELECT * FROM proof('at once');
-- a detach that is a correction
SET llm.on_delete = 'subtract';
ALTER TABLE log DETACH PARTITION log_jan;
RESET llm.on_delete;
SELECT * FROM proof('subtracted');
ALTER TABLE log ATTACH PARTITION log_jan FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
SELECT * FROM proof('and back');

-- another table of other rows, in the same buckets, in the place of one that was detached
INSERT INTO gone TABLE log_mar;
ALTER TABLE log DETACH PARTITION log_mar;
CREATE TABLE log_mar_new (LIKE log);
INSERT INTO log_mar_new SELECT id + 1000 * n, created_at, 'org', 'p7', 'k7', 'openai/gpt-5', 1, 1 FROM gone, generate_series(1, 2) n;
ALTER TABLE log ATTACH PARTITION log_mar_new FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
SELECT * FROM proof('other rows after a detach');
-- and of one that was dropped
INSERT INTO gone TABLE log_jan;
DROP TABLE log_jan;
CREATE TABLE log_jan (LIKE log);
INSERT INTO log_jan SELECT id + 1000 * n, created_at, 'org', 'p7', 'k7', 'openai/gpt-5', 1, 1 FROM gone, generate_series(1, 2) n WHERE created_at < '2026-02-01';
ALTER TABLE log ATTACH PARTITION log_jan FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
SELECT * FROM proof('other rows after a drop');

RESET search_path;
DROP SCHEMA partition_return CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
