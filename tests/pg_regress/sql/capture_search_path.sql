-- A session whose search_path puts a schema of its own before pg_catalog, full of functions, operators, types and tables that lie,
-- changes nothing, neither for what is captured nor for who is asked.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA capture_search_path;
SET search_path = capture_search_path, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text);
CREATE VIEW ever AS TABLE log;
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
SELECT 1 AS attached FROM llm.attach_log('log', '{"created_at": "created_at", "organization_id": "lower(organization_id)", "project_id": "coalesce(project_id, ''none'')", "api_key_id": "btrim(api_key_id)",
    "model": "model", "input_tokens": "input_tokens + 0", "cost": "CASE WHEN cost > 0 THEN abs(cost) ELSE cost END"}');
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'stolen' $$;
CREATE FUNCTION hostile.abs(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$ SELECT 666 $$;
CREATE FUNCTION hostile.sum_up(bigint, int) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 666::bigint $$;
CREATE FUNCTION hostile.greater(numeric, numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT false $$;
CREATE FUNCTION hostile.same(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
CREATE FUNCTION hostile.same(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT false $$;
CREATE FUNCTION hostile.same(bigint, bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT false $$;
CREATE FUNCTION hostile.plus(numeric, numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$ SELECT 666::numeric $$;
CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT 'infinity'::timestamptz $$;
CREATE FUNCTION hostile.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'DROP TABLE log' $$;
CREATE AGGREGATE hostile.sum(bigint) (SFUNC = int8pl, STYPE = bigint, INITCOND = '666');
CREATE AGGREGATE hostile.sum(numeric) (SFUNC = hostile.plus, STYPE = numeric, INITCOND = '666');
CREATE OPERATOR hostile.+ (LEFTARG = bigint, RIGHTARG = int, FUNCTION = hostile.sum_up);
CREATE OPERATOR hostile.+ (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = hostile.plus);
CREATE OPERATOR hostile.> (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = hostile.greater);
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.same);
CREATE OPERATOR hostile.= (LEFTARG = int, RIGHTARG = int, FUNCTION = hostile.same);
CREATE OPERATOR hostile.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.same);
CREATE DOMAIN hostile.text AS pg_catalog.int4;
CREATE DOMAIN hostile.numeric AS pg_catalog.text;
CREATE TABLE hostile.source (id pg_catalog.int4);
CREATE TABLE hostile._pending (id pg_catalog.int4);
CREATE TABLE hostile.pg_class (oid oid, relname name);
CREATE TABLE hostile.pg_trigger (oid oid);
CREATE TABLE hostile.rollup (id pg_catalog.int4);
-- written, folded, rebuilt, partitioned and asked under it
SET search_path = hostile, pg_catalog, capture_search_path;
INSERT INTO capture_search_path.log VALUES (1, '2026-01-05', 'ORG', 'p1', 'k1', 'openai/gpt-5', 10, 0.1), (2, '2026-01-06', 'org', NULL, 'k1', 'openai/gpt-5', 20, 0.2);
UPDATE capture_search_path.log SET cost = 0.5 WHERE id OPERATOR(pg_catalog.=) 2;
CREATE TABLE capture_search_path.other (LIKE capture_search_path.log) PARTITION BY RANGE (created_at);
SELECT 1 AS attached FROM llm.attach_log('capture_search_path.other');
CREATE TABLE capture_search_path.other_1 PARTITION OF capture_search_path.other FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
INSERT INTO capture_search_path.other VALUES (3, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 30, 0.3);
SELECT llm.fold() IS NOT NULL AS folded;
INSERT INTO capture_search_path.other_1 VALUES (4, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 40, 0.4);
SELECT * FROM llm.verify();
SELECT llm.rebuild('2026-01-01', '2026-02-01') IS NOT NULL AS rebuilt;
SELECT * FROM llm.verify();
SELECT llm.analytics_activity('org', 'project', '2026-01-05', '2026-01-06')->'breakdown' AS breakdown;
SELECT date, key, request_count, cost FROM llm.activity('org', 'project', '2026-01-05', '2026-01-06') ORDER BY 1, 2;
ALTER TABLE capture_search_path.other DETACH PARTITION capture_search_path.other_1;
SELECT 1 AS detached FROM llm.detach_log('capture_search_path.other');
CREATE TABLE capture_search_path.third (LIKE capture_search_path.log);
INSERT INTO capture_search_path.third VALUES (5, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 50, 0.5);
SELECT 1 AS attached FROM llm.attach_log('capture_search_path.third');
CALL llm.backfill();
CALL llm.maintain();
-- and under none at all
SET search_path = '';
INSERT INTO capture_search_path.third VALUES (6, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 60, 0.6);
SELECT llm.fold() IS NOT NULL AS folded;
SET search_path = capture_search_path, public;
CREATE OR REPLACE VIEW ever AS SELECT id, created_at, lower(organization_id) AS organization_id, coalesce(project_id, 'none') AS project_id, api_key_id, model, input_tokens, cost, note FROM log
    UNION ALL TABLE other_1 UNION ALL TABLE third;
SELECT * FROM proof('all of it');
DROP SCHEMA hostile CASCADE;

RESET search_path;
DROP SCHEMA capture_search_path CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
