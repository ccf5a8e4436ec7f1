-- Leaves whose columns are not those of the root: another order, dropped columns, other columns' numbers after an ALTER of the root.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA partition_columns;
SET search_path = partition_columns, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text) PARTITION BY RANGE (created_at);
ALTER TABLE log DROP COLUMN note;
CREATE TABLE log_jan PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_feb (cost numeric, junk int, model text, api_key_id text, created_at timestamptz, junk2 text, input_tokens bigint, organization_id text, id int, project_id text);
ALTER TABLE log_feb DROP COLUMN junk, DROP COLUMN junk2;
INSERT INTO log_feb (id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost)
    SELECT i, '2026-02-05', 'org', 'p1', 'k' || i, 'openai/gpt-5', i, 0.5 FROM generate_series(1, 5) i;
ALTER TABLE log ATTACH PARTITION log_feb FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE gone (LIKE log);
CREATE VIEW ever AS SELECT id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost FROM log UNION ALL TABLE gone;
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
-- the mapping holds an expression over two columns, too
SELECT 1 AS attached FROM llm.attach_log('log', '{"created_at": "created_at", "organization_id": "organization_id", "project_id": "project_id", "api_key_id": "api_key_id",
    "model": "model", "input_tokens": "input_tokens", "cost": "cost", "application": "project_id || ''-'' || api_key_id"}');
CALL llm.backfill();
SELECT * FROM proof('history');
INSERT INTO log SELECT i, '2026-01-20'::timestamptz + i * interval '1 day', 'org', 'p2', 'k' || i % 3, 'anthropic/claude', i, 0.25 FROM generate_series(6, 25) i;
SELECT * FROM proof('insert root');
INSERT INTO log_feb (created_at, id, cost, organization_id, api_key_id, model, input_tokens, project_id) VALUES ('2026-02-10', 30, 0.3, 'org', 'k9', 'openai/gpt-5', 3, 'p3');
UPDATE log_feb SET cost = cost * 2, api_key_id = 'k8' WHERE id < 3;
SELECT * FROM proof('leaf');
UPDATE log SET cost = cost + 1, created_at = created_at + interval '10 days' WHERE id BETWEEN 6 AND 14;
SELECT * FROM proof('move to a leaf of other order');
UPDATE log SET created_at = created_at - interval '30 days' WHERE created_at >= '2026-02-12';
SELECT * FROM proof('and back');
WITH d AS (DELETE FROM log_feb WHERE id % 2 = 0 RETURNING id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost) INSERT INTO gone SELECT * FROM d;
SELECT * FROM proof('delete in the leaf');

-- columns come and go on the root
ALTER TABLE log ADD COLUMN region text DEFAULT 'eu';
ALTER TABLE log ADD COLUMN extra numeric;
INSERT INTO log VALUES (40, '2026-01-09', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.4, 'us', 7), (41, '2026-02-09', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.4, 'us', 7);
UPDATE log SET region = 'ap', extra = 1;
SELECT count(*) AS pending FROM llm._pending;
ALTER TABLE log DROP COLUMN region;
INSERT INTO log_feb (created_at, id, cost, organization_id, api_key_id, model, input_tokens, project_id, extra) VALUES ('2026-02-10', 42, 0.3, 'org', 'k9', 'openai/gpt-5', 3, 'p3', 1);
UPDATE log SET cost = cost + 1 WHERE id >= 40;
SELECT * FROM proof('columns added and dropped');

-- a leaf of another order attached later, with rows
CREATE TABLE log_mar (extra numeric, cost numeric, model text, gone int, api_key_id text, created_at timestamptz, input_tokens bigint, organization_id text, id int, project_id text);
ALTER TABLE log_mar DROP COLUMN gone;
INSERT INTO log_mar SELECT 9, 0.5, 'openai/gpt-5', 'k' || i, '2026-03-05', i, 'org', i, 'p1' FROM generate_series(50, 55) i;
ALTER TABLE log ATTACH PARTITION log_mar FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
UPDATE log SET cost = cost + 1, created_at = created_at + interval '1 month' WHERE id IN (40, 41);
UPDATE log_mar SET input_tokens = 100 WHERE id = 50;
SELECT * FROM proof('attached later');
-- the expression followed every order
SELECT count(*) AS wrong_application FROM llm.usage WHERE requests <> 0 AND application IS DISTINCT FROM project_id || '-' || api_key_id;

RESET search_path;
DROP SCHEMA partition_columns CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
