-- The tree grows after the attach: CREATE TABLE .. PARTITION OF, ATTACH PARTITION of a table and of a whole subtree with rows,
-- each in the same transaction as its triggers; rolled back, none of it happened.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA partition_grow;
SET search_path = partition_grow, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text) PARTITION BY RANGE (created_at);
CREATE TABLE log_jan PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
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
SELECT 1 AS attached FROM llm.attach_log('log');
INSERT INTO log VALUES (1, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);

-- a new leaf
CREATE TABLE log_feb PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO log VALUES (2, '2026-02-05', 'org', 'p1', 'k1', 'openai/gpt-5', 2, 0.2);
INSERT INTO log_feb VALUES (3, '2026-02-06', 'org', 'p1', 'k1', 'openai/gpt-5', 3, 0.3);
UPDATE log SET created_at = created_at + interval '1 month' WHERE id = 1;
SELECT * FROM proof('new leaf');

-- a new leaf and its first rows in one transaction
BEGIN;
CREATE TABLE log_mar PARTITION OF log FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
INSERT INTO log_mar VALUES (4, '2026-03-06', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.4);
INSERT INTO log VALUES (5, '2026-03-06', 'org', 'p1', 'k1', 'openai/gpt-5', 5, 0.5);
COMMIT;
SELECT * FROM proof('new leaf, same transaction');

-- a new intermediate table, then its leaves
CREATE TABLE log_apr PARTITION OF log FOR VALUES FROM ('2026-04-01') TO ('2026-05-01') PARTITION BY HASH (api_key_id);
CREATE TABLE log_apr_0 PARTITION OF log_apr FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE log_apr_1 PARTITION OF log_apr FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO log SELECT i, '2026-04-06', 'org', 'p1', 'k' || i, 'openai/gpt-5', i, 0.1 FROM generate_series(10, 15) i;
INSERT INTO log_apr SELECT i, '2026-04-06', 'org', 'p1', 'k' || i, 'openai/gpt-5', i, 0.1 FROM generate_series(16, 19) i;
UPDATE log_apr_0 SET cost = cost + 1;
UPDATE log_apr SET api_key_id = api_key_id || 'x';
SELECT * FROM proof('new intermediate');

-- ATTACH PARTITION with rows takes them in
CREATE TABLE log_may (LIKE log);
INSERT INTO log_may SELECT i, '2026-05-01'::timestamptz + i * interval '7 hours', 'org', 'p' || i % 2, 'k1', 'openai/gpt-5', i, 0.01 FROM generate_series(20, 40) i;
SELECT * FROM proof('before the attach');
ALTER TABLE log ATTACH PARTITION log_may FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
SELECT * FROM proof('attached with rows');
INSERT INTO log_may VALUES (41, '2026-05-30', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.4);
UPDATE log SET cost = cost + 1 WHERE id IN (20, 41);
SELECT * FROM proof('written after it');

-- rows written and attached in one transaction
BEGIN;
CREATE TABLE log_jun (LIKE log);
INSERT INTO log_jun VALUES (50, '2026-06-05', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.4);
ALTER TABLE log ATTACH PARTITION log_jun FOR VALUES FROM ('2026-06-01') TO ('2026-07-01');
INSERT INTO log_jun VALUES (51, '2026-06-05', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.4);
UPDATE log SET cost = cost + 1 WHERE id = 50;
COMMIT;
SELECT * FROM proof('made, filled and attached at once');

-- rolled back
BEGIN;
CREATE TABLE log_jul (LIKE log);
INSERT INTO log_jul VALUES (60, '2026-07-05', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.4);
SAVEPOINT s;
ALTER TABLE log ATTACH PARTITION log_jul FOR VALUES FROM ('2026-07-01') TO ('2026-08-01');
INSERT INTO log_jul VALUES (61, '2026-07-05', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.4);
ROLLBACK TO s;
INSERT INTO log_jul VALUES (62, '2026-07-05', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.4);
COMMIT;
SELECT count(*) AS standing_alone FROM log_jul;
SELECT * FROM proof('attach rolled back');

-- a whole subtree with rows
CREATE TABLE log_aug (LIKE log) PARTITION BY LIST (project_id);
CREATE TABLE log_aug_p1 PARTITION OF log_aug FOR VALUES IN ('p1');
CREATE TABLE log_aug_rest PARTITION OF log_aug DEFAULT;
INSERT INTO log_aug SELECT i, '2026-08-10', 'org', 'p' || i % 3, 'k1', 'openai/gpt-5', i, 0.01 FROM generate_series(70, 80) i;
ALTER TABLE log ATTACH PARTITION log_aug FOR VALUES FROM ('2026-08-01') TO ('2026-09-01');
SELECT * FROM proof('subtree attached with rows');
INSERT INTO log_aug_p1 VALUES (81, '2026-08-11', 'org', 'p1', 'k1', 'openai/gpt-5', 4, 0.4);
INSERT INTO log_aug VALUES (82, '2026-08-11', 'org', 'p7', 'k1', 'openai/gpt-5', 4, 0.4);
UPDATE log_aug SET project_id = 'p1' WHERE id % 2 = 0;
SELECT * FROM proof('subtree written');

-- a leaf attached with rows below an intermediate table
ALTER TABLE log ATTACH PARTITION log_jul FOR VALUES FROM ('2026-07-01') TO ('2026-08-01');
CREATE TABLE log_aug_p9 (LIKE log);
INSERT INTO log_aug_p9 VALUES (90, '2026-08-12', 'org', 'p9', 'k1', 'openai/gpt-5', 4, 0.4);
ALTER TABLE log_aug ATTACH PARTITION log_aug_p9 FOR VALUES IN ('p9');
SELECT * FROM proof('leaf attached below');

-- CREATE TABLE .. (LIKE INCLUDING ALL) does not copy triggers; a default partition attached with rows
CREATE TABLE log_default (LIKE log INCLUDING ALL);
INSERT INTO log_default VALUES (95, '2026-12-12', 'org', 'p9', 'k1', 'openai/gpt-5', 4, 0.4);
ALTER TABLE log ATTACH PARTITION log_default DEFAULT;
INSERT INTO log VALUES (96, '2026-11-12', 'org', 'p9', 'k1', 'openai/gpt-5', 4, 0.4);
SELECT * FROM proof('default attached');

-- an ordinary role that owns the log grows it: no rights on the extension are needed
CREATE ROLE regress_partition_owner;
GRANT ALL ON SCHEMA partition_grow TO regress_partition_owner;
DO $$ DECLARE t regclass; BEGIN
    FOR t IN SELECT relid FROM pg_partition_tree('log') LOOP EXECUTE format('ALTER TABLE %s OWNER TO regress_partition_owner', t); END LOOP;
END $$;
SET ROLE regress_partition_owner;
CREATE TABLE log_sep PARTITION OF log FOR VALUES FROM ('2026-09-01') TO ('2026-10-01');
INSERT INTO log VALUES (100, '2026-09-12', 'org', 'p9', 'k1', 'openai/gpt-5', 4, 0.4);
CREATE TABLE log_oct (LIKE log);
INSERT INTO log_oct VALUES (101, '2026-10-12', 'org', 'p9', 'k1', 'openai/gpt-5', 4, 0.4);
ALTER TABLE log ATTACH PARTITION log_oct FOR VALUES FROM ('2026-10-01') TO ('2026-11-01');
INSERT INTO log_oct VALUES (102, '2026-10-12', 'org', 'p9', 'k1', 'openai/gpt-5', 4, 0.4);
RESET ROLE;
SELECT * FROM proof('grown by an ordinary owner');
DROP VIEW ever;
DROP TABLE log;
DROP OWNED BY regress_partition_owner;
DROP ROLE regress_partition_owner;

RESET search_path;
DROP SCHEMA partition_grow CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
