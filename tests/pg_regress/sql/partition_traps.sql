-- Ways in which tables come, go and change that are easily counted twice or not at all, or that would make the gateway's next INSERT fail.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA partition_traps;
SET search_path = partition_traps, public;
CREATE FUNCTION counted(what text) RETURNS TABLE (what text, requests numeric, cost numeric, wrong bigint) LANGUAGE sql AS $$
    SELECT $1, sum(requests), trim_scale(sum(cost)), (SELECT count(*) FROM llm.verify()) FROM llm.usage
$$;

-- a leaf whose bounds do not tell its rows leaves and comes back: with the same rows, fewer, more
CREATE TABLE log (id int, created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric) PARTITION BY LIST (api_key_id);
CREATE TABLE log_a PARTITION OF log FOR VALUES IN ('a');
CREATE TABLE log_b PARTITION OF log FOR VALUES IN ('b');
SELECT 1 AS attached FROM llm.attach_log('log');
INSERT INTO log SELECT i, '2026-01-01'::timestamptz + i * interval '7 hours', 'org', CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, 'm', i FROM generate_series(1, 10) i;
SELECT * FROM counted('10 rows');
ALTER TABLE log DETACH PARTITION log_a;
SELECT * FROM counted('a is gone, its rows are kept');
ALTER TABLE log ATTACH PARTITION log_a FOR VALUES IN ('a');
SELECT * FROM counted('a is back');
ALTER TABLE log DETACH PARTITION log_a;
ALTER TABLE log_a RENAME TO log_a2;
INSERT INTO log_a2 VALUES (20, '2026-01-09', 'org', 'a', 'm', 20);
ALTER TABLE log ATTACH PARTITION log_a2 FOR VALUES IN ('a');
SELECT * FROM counted('back under another name, with one more');
ALTER TABLE log DETACH PARTITION log_a2;
DELETE FROM log_a2 WHERE id = 20;
ALTER TABLE log ATTACH PARTITION log_a2 FOR VALUES IN ('a');
SELECT * FROM counted('a row that went meanwhile stays kept');
SELECT llm.fold() > 0 AS folded, llm.rebuild('2026-01-01', '2026-02-01') AS rewritten;
SELECT * FROM counted('after a fold and a rebuild');
SELECT count(*) AS remembered FROM llm._left;
DROP TABLE log;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;

-- a sealed leaf comes back under another name, and with wider bounds and a row outside its old ones
CREATE TABLE log (id int, created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric) PARTITION BY RANGE (created_at);
CREATE TABLE log_feb PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE log_mar PARTITION OF log FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
SELECT 1 AS attached FROM llm.attach_log('log');
INSERT INTO log SELECT i, '2026-02-20'::timestamptz + i * interval '1 day', 'org', 'k', 'm', i FROM generate_series(1, 20) i;
ALTER TABLE log DETACH PARTITION log_feb;
ALTER TABLE log_feb RENAME TO log_archive;
SELECT * FROM counted('sealed');
INSERT INTO log_archive VALUES (21, '2026-01-15', 'org', 'k', 'm', 21);
ALTER TABLE log ATTACH PARTITION log_archive FOR VALUES FROM ('2026-01-01') TO ('2026-03-01');
SELECT * FROM counted('back, renamed, with a row of January');
-- from a session that reads strings another way, bounds are still bounds
SET standard_conforming_strings = off;
SET escape_string_warning = off;
CREATE TABLE log_apr PARTITION OF log FOR VALUES FROM ('2026-04-01') TO ('2026-05-01');
RESET standard_conforming_strings;
SELECT leaf_name, "from", "to" FROM llm._leaf ORDER BY 1;

-- what would hide rows is refused
CREATE FOREIGN DATA WRAPPER regress_nothing;
CREATE SERVER regress_nowhere FOREIGN DATA WRAPPER regress_nothing;
CREATE FOREIGN TABLE log_far PARTITION OF log FOR VALUES FROM ('2027-01-01') TO ('2028-01-01') SERVER regress_nowhere;
CREATE TABLE log_may PARTITION OF log FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
DROP FOREIGN DATA WRAPPER regress_nothing CASCADE;
CREATE TABLE old (LIKE log);
SELECT 1 AS attached FROM llm.attach_log('old');
ALTER TABLE log ATTACH PARTITION old FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE new (LIKE old) PARTITION BY RANGE (created_at);
ALTER TABLE new ATTACH PARTITION old FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE child () INHERITS (old);
-- a name that a detached log had is free for another
SELECT llm.detach_log('old');
ALTER TABLE old RENAME TO older;
CREATE TABLE other (LIKE log);
SELECT 1 AS attached FROM llm.attach_log('other');
ALTER TABLE other RENAME TO old;
INSERT INTO old VALUES (1, '2026-01-01', 'elsewhere', 'k', 'm', 1);
SELECT relation_name, state FROM llm.source ORDER BY id;
DROP TABLE log, new, old, older;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;

-- what a mapping calls cannot be taken away, also not with a type, nor attached without the right to call it
CREATE TYPE odd AS ENUM ('x', 'y');
CREATE FUNCTION usd(numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 * 2; END';
CREATE TABLE log (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric, mode odd);
CREATE ROLE regress_traps_owner;
ALTER TABLE log OWNER TO regress_traps_owner;
REVOKE EXECUTE ON FUNCTION usd(numeric) FROM PUBLIC;
\set mapping '{"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "api_key_id", "model": "model", "mode": "mode", "cost": "partition_traps.usd(cost)"}'
SELECT 1 AS attached FROM llm.attach_log('log', :'mapping');
GRANT USAGE ON SCHEMA partition_traps TO PUBLIC;
GRANT EXECUTE ON FUNCTION usd(numeric) TO PUBLIC;
SELECT 1 AS attached FROM llm.attach_log('log', :'mapping');
DROP FUNCTION usd(numeric);
ALTER FUNCTION usd(numeric) RENAME TO eur;
DROP TYPE odd CASCADE;
INSERT INTO log VALUES ('2026-01-01', 'org', 'k', 'm', 1.234, 'x');
SELECT * FROM counted('twice 1.234');
-- another type, other values: all of it is read again
ALTER TABLE log ALTER COLUMN model TYPE varchar(40);
SELECT complete_from FROM llm.source;
CALL llm.backfill();
SELECT llm.detach_log('log');
SELECT 1 AS attached FROM llm.attach_log('log', '{"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "api_key_id", "model": "model", "cost": "cost"}');
CALL llm.backfill();
ALTER TABLE log ALTER COLUMN cost TYPE numeric(10, 2);
CALL llm.backfill();
SELECT * FROM counted('1.23 after the column became numeric(10, 2)');
DROP FUNCTION usd(numeric);
DROP TYPE odd CASCADE;
DROP TABLE log;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;

-- a typed table goes with its type
CREATE TYPE shape AS (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric);
CREATE TABLE log OF shape;
SELECT 1 AS attached FROM llm.attach_log('log');
DROP TYPE shape CASCADE;
SELECT relation_name, state FROM llm.source;

-- attached without its history: what was there neither counts nor takes away
CREATE TABLE log (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric);
INSERT INTO log SELECT now() - interval '1 hour', 'org', 'k', 'm', i FROM generate_series(1, 5) i;
SELECT 1 AS attached FROM llm.attach_log('log', on_delete => 'subtract', backfill => false);
UPDATE log SET model = 'm2' WHERE cost = 1;
DELETE FROM log WHERE cost = 2;
INSERT INTO log VALUES (now() + interval '1 second', 'org', 'k', 'm', 10), (now() + interval '1 second', 'org', 'k', 'm', 20);
UPDATE log SET cost = 11 WHERE cost = 10;
DELETE FROM log WHERE cost = 20;
SELECT key, sum(request_count), sum(cost) FROM llm.activity('org', 'model', current_date - 3, current_date + 3) WHERE key IS NOT NULL GROUP BY 1;
TRUNCATE log;
SELECT sum(requests) AS requests FROM llm.usage;
DROP TABLE log;

-- MERGE: rows updated after one was inserted, in one partition and in another
CREATE TABLE log (id int, created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric) PARTITION BY RANGE (created_at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_2 (cost numeric, model text, api_key_id text, organization_id text, created_at timestamptz NOT NULL, id int);
SELECT 1 AS attached FROM llm.attach_log('log');
ALTER TABLE log ATTACH PARTITION log_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO log SELECT i, '2026-01-01 12:00+00'::timestamptz + i * interval '15 days', 'org', 'k', 'before', i FROM generate_series(1, 3) i;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
MERGE INTO log t USING (VALUES (9, timestamptz '2026-01-09 12:00+00'), (1, NULL), (2, NULL), (3, NULL)) s (id, at) ON t.id = s.id
    WHEN MATCHED THEN UPDATE SET model = 'after', cost = t.cost * 10
    WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.at, 'org', 'k', 'inserted', 0.5);
RESET enable_hashjoin;
RESET enable_mergejoin;
SELECT * FROM llm.verify();
SELECT mapping, sum(requests) AS requests, sum(cost) AS cost FROM llm.usage WHERE organization_id = 'org' GROUP BY 1 HAVING sum(requests) <> 0 ORDER BY 1;
DROP TABLE log;

-- the type of a column that an expression reads: rewritten values are read again
CREATE TABLE log (id int, created_at timestamptz, organization_id text, api_key_id text, model text, price numeric);
SELECT 1 AS attached FROM llm.attach_log('log', '{"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "api_key_id", "model": "model", "cost": "price * 2"}');
INSERT INTO log SELECT i, '2026-01-01 12:00+00', 'rounded', 'k', 'm', 0.26 FROM generate_series(1, 3) i;
SELECT llm.fold() > 0 AS folded;
ALTER TABLE log ALTER COLUMN price TYPE numeric(10, 1);
SELECT state FROM llm.status WHERE source = 'partition_traps.log' AND state <> 'dropped';
CALL llm.backfill();
SELECT sum(requests) AS requests, sum(cost) AS cost FROM llm.usage WHERE organization_id = 'rounded';
SELECT * FROM llm.verify();
DROP TABLE log;

-- a role whose name needs quotes makes a log
CREATE ROLE "Regress Traps" SUPERUSER;
SET ROLE "Regress Traps";
SELECT llm.create_request_log('partition_traps.fresh') IS NOT NULL AS made;
RESET ROLE;
SELECT pg_get_userbyid(relowner) AS owner, count(*) > 3 AS partitions FROM pg_class WHERE relname LIKE 'fresh%' AND relkind = 'r' GROUP BY 1;

RESET search_path;
DROP SCHEMA partition_traps CASCADE;
DROP ROLE "Regress Traps", regress_traps_owner;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
