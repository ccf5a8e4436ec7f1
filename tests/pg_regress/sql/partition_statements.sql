-- Statements on a partitioned log: on the root, on an intermediate table, on a leaf; rows that move between partitions.
-- Only the table named in a statement fires statement triggers, so every table of the tree is tried.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA partition_statements;
SET search_path = partition_statements, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text) PARTITION BY RANGE (created_at);
CREATE TABLE log_jan PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_feb PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (project_id);
CREATE TABLE log_feb_p1 PARTITION OF log_feb FOR VALUES IN ('p1');
CREATE TABLE log_feb_rest PARTITION OF log_feb DEFAULT;
CREATE TABLE log_default PARTITION OF log DEFAULT;
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
-- every table of the tree has the triggers, each depends on the extension
SELECT c.relname, count(*) > 0 AS has_triggers, bool_and(EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid
    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x')) AS depend
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'partition_statements'::regnamespace AND NOT tgisinternal AND tgparentid = 0 GROUP BY 1 ORDER BY 1;

-- INSERT
INSERT INTO log SELECT i, '2026-01-30 17:15Z'::timestamptz + i * interval '10 hours', 'org', 'p' || i % 3, 'k' || i % 2, 'openai/gpt-5', i, i / 100.0
    FROM generate_series(1, 100) i;
SELECT * FROM proof('insert root');
INSERT INTO log_feb SELECT i, '2026-02-03 02:29Z'::timestamptz + i * interval '1 minute', 'org', 'p' || i % 3, 'k' || i % 2, 'openai/gpt-5', i, i / 100.0
    FROM generate_series(101, 106) i;
SELECT * FROM proof('insert intermediate');
INSERT INTO log_jan VALUES (111, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
INSERT INTO log_feb_p1 VALUES (112, '2026-02-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1), (113, '2026-02-06', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
INSERT INTO log_feb_rest VALUES (114, '2026-02-05', 'org', 'p2', 'k1', 'openai/gpt-5', 1, 0.1);
INSERT INTO log_default VALUES (115, '2026-05-05', 'org', 'p2', 'k1', 'openai/gpt-5', 1, 0.1);
SELECT * FROM proof('insert leaf');

-- COPY
COPY log (id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost) FROM stdin;
121	2026-01-07 10:00Z	org	p1	k1	openai/gpt-5	7	0.07
122	2026-02-07 10:00Z	org	p1	k1	openai/gpt-5	7	0.07
123	2026-02-07 10:00Z	org	p2	k1	openai/gpt-5	7	0.07
124	2026-06-07 10:00Z	org	p2	k1	openai/gpt-5	7	0.07
\.
COPY log_feb (id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost) FROM stdin;
125	2026-02-08 10:00Z	org	p1	k1	openai/gpt-5	7	0.07
126	2026-02-08 10:00Z	org	p2	k1	openai/gpt-5	7	0.07
\.
COPY log_feb_rest (id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost) FROM stdin;
127	2026-02-09 10:00Z	org	p2	k1	openai/gpt-5	7	0.07
\.
SELECT * FROM proof('copy root, intermediate, leaf');

-- UPDATE that moves no row
UPDATE log SET cost = cost + 0.001, model = 'anthropic/claude' WHERE id % 5 = 0;
SELECT * FROM proof('update root');
UPDATE log_feb SET cost = cost * 2, api_key_id = 'k3' WHERE id % 7 = 0;
SELECT * FROM proof('update intermediate');
UPDATE log_feb_p1 SET cost = cost * 3, created_at = created_at + interval '1 hour' WHERE id % 3 = 0;
UPDATE log_default SET input_tokens = input_tokens + 1000;
SELECT * FROM proof('update leaf');

-- UPDATE that moves rows between partitions
UPDATE log SET created_at = created_at + interval '1 month' WHERE id % 4 = 0;
SELECT * FROM proof('move, root');
UPDATE log_feb SET project_id = CASE project_id WHEN 'p1' THEN 'p2' ELSE 'p1' END WHERE id % 2 = 0;
SELECT * FROM proof('move, intermediate');
UPDATE log SET created_at = created_at - interval '20 days', project_id = 'p1', cost = cost + 1 WHERE id BETWEEN 40 AND 60;
SELECT * FROM proof('move and change, root');

-- an UPDATE that changes no mapped value leaves no delta, on any table, also where the row moves
UPDATE log SET note = 'x';
UPDATE log_feb SET note = 'y';
UPDATE log_feb_rest SET note = 'z', cost = cost;
SELECT count(*) AS pending FROM llm._pending;

-- MERGE: counted where rows stay in their partition; refused where they would move, since no trigger is shown such rows
MERGE INTO log t USING (VALUES (41), (42), (500)) s (id) ON t.id = s.id
    WHEN MATCHED THEN UPDATE SET cost = cost * 2
    WHEN NOT MATCHED THEN INSERT VALUES (s.id, '2026-05-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.5);
SELECT * FROM proof('merge');
MERGE INTO log t USING (VALUES (41)) s (id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET created_at = '2026-05-05';
MERGE INTO log t USING (VALUES (41), (501)) s (id) ON t.id = s.id
    WHEN MATCHED THEN UPDATE SET created_at = '2026-05-05'
    WHEN NOT MATCHED THEN INSERT VALUES (s.id, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.5);
MERGE INTO log_feb t USING (VALUES ('p1')) s (p) ON t.project_id = s.p AND t.id % 7 = 0 WHEN MATCHED THEN UPDATE SET project_id = 'p2';
-- and nothing of the refusal is left behind for a statement after it
BEGIN;
SAVEPOINT s;
MERGE INTO log t USING (VALUES (41)) s (id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET created_at = '2026-05-05';
ROLLBACK TO s;
UPDATE log SET cost = cost + 1 WHERE id = 41;
UPDATE log SET created_at = '2026-05-05' WHERE id = 41;
COMMIT;
SELECT * FROM proof('after refused merges');

-- DELETE: kept
WITH d AS (DELETE FROM log WHERE id % 10 = 1 RETURNING *) INSERT INTO gone SELECT * FROM d;
SELECT * FROM proof('delete root');
WITH d AS (DELETE FROM log_feb WHERE id % 10 = 2 RETURNING *) INSERT INTO gone SELECT * FROM d;
SELECT * FROM proof('delete intermediate');
WITH d AS (DELETE FROM log_jan WHERE id % 10 = 3 RETURNING *) INSERT INTO gone SELECT * FROM d;
SELECT * FROM proof('delete leaf');

-- DELETE: subtracted
SET llm.on_delete = 'subtract';
DELETE FROM log WHERE id % 10 = 4;
SELECT * FROM proof('subtract root');
DELETE FROM log_feb WHERE id % 10 = 5;
DELETE FROM log_default WHERE id % 10 = 6;
SELECT * FROM proof('subtract intermediate, leaf');
-- rows moved by hand, as pg_partman does it
WITH d AS (DELETE FROM log_default WHERE created_at < '2026-04-01' RETURNING *) SELECT * INTO TEMP drained FROM d;
CREATE TABLE log_mar PARTITION OF log FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
INSERT INTO log TABLE drained;
RESET llm.on_delete;
SELECT * FROM proof('drained default');
-- the same log answers by label order, nothing else was touched
SELECT date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month, count(*), trim_scale(sum(cost)) AS cost FROM ever GROUP BY 1 ORDER BY 1;
SELECT date_trunc('month', bucket AT TIME ZONE 'UTC')::date AS month, sum(requests) AS count, trim_scale(sum(cost)) AS cost FROM llm.usage GROUP BY 1 HAVING sum(requests) <> 0 ORDER BY 1;

RESET search_path;
DROP SCHEMA partition_statements CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
