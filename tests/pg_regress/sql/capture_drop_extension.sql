-- DROP EXTENSION needs no CASCADE and leaves the host's tables as they were: writable, without our triggers. Made again and attached again,
-- the history is counted again from the log.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA capture_drop_extension;
SET search_path = capture_drop_extension, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text) PARTITION BY RANGE (created_at);
CREATE TABLE log_jan PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_feb PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE plain (LIKE log);
CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER own AFTER INSERT ON log FOR EACH STATEMENT EXECUTE FUNCTION own();
CREATE VIEW ever AS TABLE log UNION ALL TABLE plain;
SELECT 1 AS attached FROM llm.attach_log('log');
SELECT 1 AS attached FROM llm.attach_log('plain', capture => 'row');
PREPARE ins (int) AS INSERT INTO log SELECT $1, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1;
EXECUTE ins (1);
INSERT INTO plain VALUES (2, '2026-02-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
SELECT sum(requests) AS requests FROM llm.usage;
DROP EXTENSION llm_analytics;
EXECUTE ins (3);
INSERT INTO plain VALUES (4, '2026-02-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
UPDATE log SET cost = 0.2, created_at = created_at + interval '1 month' WHERE id = 1;
DELETE FROM log_jan;
TRUNCATE log_jan;
CREATE TABLE log_mar PARTITION OF log FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
ALTER TABLE log DETACH PARTITION log_mar;
DROP TABLE log_mar;
SET session_replication_role = 'replica';
UPDATE plain SET cost = 0.3 WHERE id = 4;
RESET session_replication_role;
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'capture_drop_extension'::regnamespace AND NOT tgisinternal;
SELECT count(*) AS event_triggers_left FROM pg_event_trigger WHERE evtname LIKE 'llm%';
-- again, in the same session, whose plans and caches know the old one
CREATE EXTENSION llm_analytics;
EXECUTE ins (5);
SELECT 1 AS attached FROM llm.attach_log('log');
SELECT 1 AS attached FROM llm.attach_log('plain');
EXECUTE ins (6);
CALL llm.backfill();
EXECUTE ins (7);
INSERT INTO plain VALUES (8, '2026-02-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
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
SELECT * FROM proof('attached again');
-- in one transaction
BEGIN;
DROP EXTENSION llm_analytics;
EXECUTE ins (9);
ROLLBACK;
EXECUTE ins (10);
SELECT * FROM proof('drop rolled back');
DEALLOCATE ins;

RESET search_path;
DROP SCHEMA capture_drop_extension CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
