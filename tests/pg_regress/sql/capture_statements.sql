-- Every way a row gets into a log, changes and leaves counts exactly once.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA capture_statements;
SET search_path = capture_statements, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text);
ALTER TABLE log ADD PRIMARY KEY (id);
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

INSERT INTO log VALUES (1, '2026-01-05 10:00Z', 'org', 'p1', 'k1', 'openai/gpt-5', 10, 0.1);
INSERT INTO log VALUES (2, '2026-01-05 10:05Z', 'org', 'p1', 'k1', 'openai/gpt-5', 20, 0.2), (3, '2026-01-05 18:29:59.999999Z', 'org', 'p2', 'k2', 'openai/gpt-5', 30, 0.3),
    (4, '2026-01-05 18:30Z', 'org', 'p2', 'k2', 'openai/gpt-5', 40, 0.4);
INSERT INTO log SELECT i, '2026-01-06 00:10Z'::timestamptz + i * interval '10 minutes', 'org', 'p' || i % 7, 'k' || i % 5, 'anthropic/claude-' || i % 3, i, i / 1000.0
    FROM generate_series(5, 600) i;
SELECT * FROM proof('insert');
COPY log (id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost) FROM stdin;
3001	2026-01-07 10:00Z	org	p1	k1	openai/gpt-5	7	0.07
3002	2026-02-07 10:00Z	org	p1	k1	openai/gpt-5	7	0.07
\.
COPY log (id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost) FROM stdin WHERE id > 3003;
3003	2026-01-07 10:00Z	org	p1	k1	openai/gpt-5	7	0.07
3004	2026-02-07 10:00Z	org	p1	k1	openai/gpt-5	7	0.07
\.
SELECT * FROM proof('copy');

UPDATE log SET cost = cost + 0.001 WHERE id <= 10;
UPDATE log SET project_id = 'p9', api_key_id = 'k9', model = 'openai/gpt-5', created_at = created_at + interval '90 minutes' WHERE id % 3 = 0;
UPDATE log SET organization_id = 'org', input_tokens = input_tokens * 2 FROM generate_series(1, 50) i WHERE id = i;
SELECT * FROM proof('update');
-- no mapped value changes: nothing is pending; neither where no row is touched
UPDATE log SET note = 'noted';
UPDATE log SET cost = cost, project_id = project_id || '';
UPDATE log SET cost = 5 WHERE id < 0;
DELETE FROM log WHERE id < 0;
INSERT INTO log SELECT * FROM log WHERE id < 0;
SELECT count(*) AS pending FROM llm._pending;

-- upsert
INSERT INTO log VALUES (1, '2026-01-05 10:00Z', 'org', 'p1', 'k1', 'openai/gpt-5', 11, 0.11), (4001, '2026-01-08 10:00Z', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.01)
    ON CONFLICT (id) DO UPDATE SET input_tokens = excluded.input_tokens, cost = log.cost + excluded.cost;
INSERT INTO log VALUES (1, '2026-01-05 10:00Z', 'org', 'p1', 'k1', 'openai/gpt-5', 99, 99), (4002, '2026-01-08 10:00Z', 'org', 'p1', 'k1', 'openai/gpt-5', 2, 0.02)
    ON CONFLICT DO NOTHING;
SELECT * FROM proof('upsert');

-- MERGE: all three actions in one statement
WITH d AS (SELECT * FROM log WHERE id = 12) INSERT INTO gone SELECT * FROM d;
MERGE INTO log USING (SELECT i FROM generate_series(11, 13) i UNION ALL SELECT 4003) s ON id = i
    WHEN MATCHED AND id = 11 THEN UPDATE SET cost = cost + 1, project_id = 'p8'
    WHEN MATCHED AND id = 12 THEN DELETE
    WHEN MATCHED THEN DO NOTHING
    WHEN NOT MATCHED THEN INSERT (id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost)
        VALUES (i, '2026-01-09', 'org', 'p1', 'k1', 'openai/gpt-5', 3, 0.03);
SELECT * FROM proof('merge');

-- writable CTEs: several statements on the log in one
WITH a AS (INSERT INTO log VALUES (4004, '2026-01-09', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.04) RETURNING id),
     b AS (UPDATE log SET cost = cost + 2 WHERE id BETWEEN 20 AND 25 RETURNING id),
     c AS (DELETE FROM log WHERE id BETWEEN 30 AND 35 RETURNING *),
     d AS (INSERT INTO gone SELECT * FROM c RETURNING id)
INSERT INTO log SELECT 4005, '2026-01-09', 'org', 'p1', 'k1', 'openai/gpt-5', count(*), 0.05 FROM b;
SELECT * FROM proof('writable CTE');

-- a cursor, an updatable view, a rule, a function
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM log WHERE id IN (40, 41) FOR UPDATE;
MOVE 1 FROM c;
UPDATE log SET cost = cost + 3 WHERE CURRENT OF c;
COMMIT;
CREATE VIEW recent AS SELECT * FROM log WHERE created_at >= '2026-01-10';
UPDATE recent SET cost = cost + 0.5 WHERE id % 100 = 0;
INSERT INTO recent VALUES (4006, '2026-01-12', 'org', 'p1', 'k1', 'openai/gpt-5', 6, 0.06);
CREATE VIEW inbox AS SELECT 1 AS n;
CREATE RULE take AS ON INSERT TO inbox DO INSTEAD INSERT INTO log VALUES (4100 + new.n, '2026-01-12', 'org', 'p1', 'k1', 'openai/gpt-5', new.n, 0.06);
INSERT INTO inbox SELECT generate_series(1, 3);
DO $$ BEGIN FOR i IN 1..20 LOOP INSERT INTO log VALUES (4200 + i, '2026-01-13', 'org', 'p1', 'k1', 'openai/gpt-5', i, 0.001); UPDATE log SET cost = cost + 1 WHERE id = 4200 + i; END LOOP; END $$;
SELECT * FROM proof('cursor, view, rule, function');

-- rolled back: transaction, savepoint, exception block, failing statement
BEGIN;
INSERT INTO log VALUES (5001, '2026-01-13', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.001);
ROLLBACK;
BEGIN;
INSERT INTO log VALUES (5002, '2026-01-13', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.001);
SAVEPOINT s;
UPDATE log SET cost = 100;
ROLLBACK TO s;
UPDATE log SET cost = cost + 1 WHERE id = 5002;
COMMIT;
DO $$ BEGIN
    BEGIN
        INSERT INTO log VALUES (5003, '2026-01-13', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.001);
        INSERT INTO log VALUES (5003, '2026-01-13', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.001);
    EXCEPTION WHEN unique_violation THEN
        INSERT INTO log VALUES (5004, '2026-01-13', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.001);
    END;
END $$;
SELECT * FROM proof('rolled back');

-- foreign keys: cascade of a delete and of an update
CREATE TABLE key (id text PRIMARY KEY);
INSERT INTO key SELECT DISTINCT api_key_id FROM log;
ALTER TABLE log ADD FOREIGN KEY (api_key_id) REFERENCES key ON DELETE CASCADE ON UPDATE CASCADE;
UPDATE key SET id = 'k100' WHERE id = 'k1';
SELECT * FROM proof('cascaded update');
INSERT INTO gone SELECT * FROM log WHERE api_key_id = 'k2';
DELETE FROM key WHERE id = 'k2';
SELECT * FROM proof('cascaded delete, kept');
BEGIN;
SET LOCAL llm.on_delete = 'subtract';
DELETE FROM key WHERE id = 'k3';
COMMIT;
SELECT * FROM proof('cascaded delete, subtracted');

-- DELETE, kept and subtracted; kept also where it is said explicitly
WITH d AS (DELETE FROM log WHERE id % 11 = 0 RETURNING *) INSERT INTO gone SELECT * FROM d;
SET llm.on_delete = 'keep';
WITH d AS (DELETE FROM log WHERE id % 13 = 0 RETURNING *) INSERT INTO gone SELECT * FROM d;
SET llm.on_delete = 'subtract';
DELETE FROM log WHERE id % 17 = 0;
RESET llm.on_delete;
SELECT * FROM proof('delete');
-- a row that was inserted, changed and deleted in one transaction
BEGIN;
INSERT INTO log VALUES (6001, '2026-01-14', 'org', 'p1', 'k100', 'openai/gpt-5', 1, 0.001);
UPDATE log SET cost = 7 WHERE id = 6001;
WITH d AS (DELETE FROM log WHERE id = 6001 RETURNING *) INSERT INTO gone SELECT * FROM d;
INSERT INTO log VALUES (6002, '2026-01-14', 'org', 'p1', 'k100', 'openai/gpt-5', 1, 0.001);
SET LOCAL llm.on_delete = 'subtract';
DELETE FROM log WHERE id = 6002;
COMMIT;
SELECT * FROM proof('came and went');

-- TRUNCATE, kept, subtracted, by cascade, rolled back
BEGIN;
TRUNCATE log;
ROLLBACK;
SELECT * FROM proof('truncate rolled back');
INSERT INTO gone TABLE log;
TRUNCATE key CASCADE;
SELECT * FROM proof('truncate by cascade, kept');
INSERT INTO key VALUES ('k1');
INSERT INTO log SELECT i, '2026-01-15', 'org', 'p1', 'k1', 'openai/gpt-5', i, 0.001 FROM generate_series(7001, 7010) i;
BEGIN;
UPDATE log SET cost = 1 WHERE id = 7001;
SET LOCAL llm.on_delete = 'subtract';
TRUNCATE log RESTART IDENTITY;
INSERT INTO log SELECT i, '2026-01-15', 'org', 'p1', 'k1', 'openai/gpt-5', i, 0.001 FROM generate_series(7011, 7015) i;
COMMIT;
SELECT * FROM proof('truncate, subtracted');

-- on_delete => 'subtract' at the attach; one delete kept by the session
CREATE TABLE log2 (LIKE log INCLUDING ALL);
SELECT 1 AS attached FROM llm.attach_log('log2', on_delete => 'subtract');
CREATE OR REPLACE VIEW ever AS TABLE log UNION ALL TABLE gone UNION ALL TABLE log2;
INSERT INTO log2 SELECT i, '2026-01-16', 'org', 'p1', 'k1', 'openai/gpt-5', i, 0.001 FROM generate_series(1, 20) i;
DELETE FROM log2 WHERE id < 5;
SELECT * FROM proof('a log that subtracts');
SET llm.on_delete = 'keep';
WITH d AS (DELETE FROM log2 WHERE id < 10 RETURNING *) INSERT INTO gone SELECT * FROM d;
RESET llm.on_delete;
SELECT * FROM proof('kept by the session');
TRUNCATE log2;
SELECT * FROM proof('truncate of a log that subtracts');
SET llm.on_delete = 'nonsense';

RESET search_path;
DROP SCHEMA capture_statements CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
