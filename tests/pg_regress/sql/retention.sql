-- What is final, what goes and what is erased: llm.seal, llm.set_retention, llm.forget.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA retention;
SET search_path = retention, public;
CREATE ROLE regress_retention;
CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text, cost numeric);
INSERT INTO log SELECT i, timestamptz '2026-01-01 00:20+00' + i * interval '10 hours', 'org', 'p1', 'k1', 'm', 1 FROM generate_series(1, 100) i;

-- seal
SELECT llm.seal(NULL, now());
SELECT llm.seal('log', now());
SELECT 1 AS attached FROM llm.attach_log('log');
SELECT llm.seal('log', NULL);
SELECT llm.seal('log', 'infinity');
SELECT llm.seal('log', '-infinity');
SELECT llm.seal('log', now() + interval '1 hour');
SELECT llm.seal('log', '2026-01-20');
CALL llm.backfill();
GRANT EXECUTE ON FUNCTION llm.seal(regclass, timestamptz), llm.set_retention(regclass, interval) TO regress_retention;
GRANT USAGE ON SCHEMA retention TO regress_retention;
SET ROLE regress_retention;
SELECT llm.seal('log', '2026-01-20');
SELECT llm.set_retention('log', '1 year');
RESET ROLE;
SELECT llm.seal('log', '2026-01-20 05:37+00');
SELECT llm.seal('log', '2026-01-10');
SELECT sealed_before FROM llm.status WHERE source IS NOT NULL;
-- what is sealed may go, in whatever way; its numbers stay, nothing brings them back, nothing counts them twice
ALTER TABLE log DISABLE TRIGGER ALL;
DELETE FROM log WHERE created_at < '2026-01-15';
ALTER TABLE log ENABLE TRIGGER ALL;
CALL llm.backfill();
SELECT sum(requests) AS still_100, (SELECT count(*) FROM log) AS rows FROM llm.usage;
SELECT llm.rebuild('-infinity', 'infinity', allow_loss => true) AS changed;
SELECT sum(requests) AS still_100 FROM llm.usage;
SELECT * FROM llm.verify();
-- late rows into what is sealed count, and so do corrections there
INSERT INTO log VALUES (101, '2026-01-03 10:00+00', 'org', 'p1', 'k1', 'm', 5);
UPDATE log SET cost = 7 WHERE id = 101;
SELECT sum(requests) AS requests_101, sum(cost) AS cost_107 FROM llm.usage;
SELECT llm.fold() > 0 AS folded;
SELECT llm.rebuild('-infinity', 'infinity') AS changed;
SELECT sum(requests) AS requests_101, sum(cost) AS cost_107 FROM llm.usage;
-- what is not sealed is still proved
ALTER TABLE log DISABLE TRIGGER ALL;
UPDATE log SET cost = 3 WHERE created_at > '2026-02-01';
ALTER TABLE log ENABLE TRIGGER ALL;
SELECT count(*) AS skipped_until_it_is_read_again FROM llm.verify();
CALL llm.backfill();
SELECT count(*) AS wrong FROM llm.verify();
SELECT sum(cost) - 107 - 2 * (SELECT count(*) FROM log WHERE created_at > '2026-02-01') AS zero FROM llm.usage;

-- retention: of logs that were made by us only
SELECT llm.set_retention('log', '1 year');
SELECT llm.set_retention(NULL, '1 year');
SELECT llm.detach_log('log');
DROP TABLE log;
SELECT llm.create_request_log('retention.made') AS made;
SELECT llm.set_retention('made', '23 hours');
SELECT llm.set_retention('made', '6 months');
SELECT retention FROM llm.status WHERE source = 'retention.made';
-- an old partition, as time makes them
CREATE FUNCTION month(ago int) RETURNS timestamptz LANGUAGE sql RETURN date_trunc('month', now()) - make_interval(months => ago);
DO $$ BEGIN
    EXECUTE format('CREATE TABLE made_old PARTITION OF made FOR VALUES FROM (%L) TO (%L)', month(9), month(7));
    EXECUTE format('CREATE TABLE made_kept PARTITION OF made FOR VALUES FROM (%L) TO (%L)', month(6), month(5));
END $$;
INSERT INTO made (created_at, organization_id, api_key_id, model, cost) SELECT month(9) + i * interval '1 day', 'org', 'k2', 'm', 2 FROM generate_series(0, 50) i;
INSERT INTO made (created_at, organization_id, api_key_id, model, cost) VALUES (month(6), 'org', 'k2', 'm', 2), (month(20), 'org', 'k2', 'm', 2), (now(), 'org', 'k2', 'm', 2);
CREATE TEMP TABLE before AS SELECT bucket, sum(requests) AS requests, sum(cost) AS cost FROM llm.usage WHERE api_key_id = 'k2' GROUP BY 1;
CALL llm.maintain();
SELECT relname FROM pg_class WHERE relname IN ('made_old', 'made_kept', 'made_default') AND relnamespace = 'retention'::regnamespace ORDER BY 1;
SELECT * FROM before EXCEPT SELECT bucket, sum(requests), sum(cost) FROM llm.usage WHERE api_key_id = 'k2' GROUP BY 1;
SELECT count(*) AS sealed FROM llm._seal x WHERE x."from" = month(9) AND x."to" = month(7);
SELECT * FROM llm.verify();
SELECT llm.rebuild('-infinity', 'infinity') AS changed;
-- a late row below the seal goes to the default partition and counts
INSERT INTO made (created_at, organization_id, api_key_id, model, cost) VALUES (month(8), 'org', 'k2', 'm', 2);
SELECT sum(requests) AS requests_55 FROM llm.usage WHERE api_key_id = 'k2';
-- partitions ahead of time, for the owner of the log, with triggers of their own; where rows are in the default partition they stay there
DO $$ BEGIN
    EXECUTE format('DROP TABLE %I', 'made' || to_char(month(-1), '"_"YYYY"_"MM'));
    EXECUTE format('DROP TABLE %I', 'made' || to_char(month(-2), '"_"YYYY"_"MM'));
END $$;
INSERT INTO made (created_at, organization_id, api_key_id, model, cost) VALUES (month(-2), 'org', 'k2', 'm', 2);
ALTER TABLE made OWNER TO regress_retention;
-- partitions are made with the rights of the owner
GRANT USAGE, CREATE ON SCHEMA retention TO regress_retention;
CALL llm.maintain();
SELECT count(*) FILTER (WHERE relname = 'made' || to_char(month(-1), '"_"YYYY"_"MM') AND pg_get_userbyid(relowner) = 'regress_retention') AS next,
       count(*) FILTER (WHERE relname = 'made' || to_char(month(-2), '"_"YYYY"_"MM')) AS after_next
FROM pg_class WHERE relnamespace = 'retention'::regnamespace AND relkind = 'r';
INSERT INTO made (created_at, organization_id, api_key_id, model, cost) VALUES (month(-1), 'org', 'k2', 'm', 2);
SELECT tableoid::regclass::text = 'made' || to_char(month(-1), '"_"YYYY"_"MM') AS in_it FROM made WHERE created_at = month(-1);
SELECT * FROM llm.verify();
SELECT sum(requests) AS requests_57 FROM llm.usage WHERE api_key_id = 'k2';

-- forget
INSERT INTO llm.organization (id, name) VALUES ('org', 'Org'), ('other', 'Other');
INSERT INTO llm.project (id, organization_id, name) VALUES ('p1', 'org', 'One'), ('p2', 'other', 'Two'), ('shared', 'other', 'Shared');
INSERT INTO llm.api_key (id, project_id, label) VALUES ('k1', 'p1', 'key one'), ('k2', 'p1', 'key two'), ('k3', 'p2', 'key three'), ('k4', 'shared', 'key four');
UPDATE llm.project SET name = name || '!';
UPDATE llm.api_key SET label = label || '!';
INSERT INTO made (created_at, organization_id, project_id, api_key_id, model, cost) VALUES (now(), 'other', 'shared', 'k4', 'm', 11), (now(), 'org', 'shared', 'k4', 'm', 12), (now(), 'other', NULL, 'k1', 'm', 13);
SELECT llm.forget(NULL);
SELECT llm.forget('org');
DELETE FROM made WHERE organization_id = 'org';
SELECT sum(requests) AS kept FROM llm.usage WHERE organization_id = 'org';
SELECT llm.forget('org') > 100 AS erased;
SELECT llm.forget('org') AS nothing_left, llm.forget('nobody') AS nothing;
SELECT organization_id, sum(requests) AS requests, sum(cost) AS cost FROM llm.usage GROUP BY 1;
SELECT (SELECT string_agg(organization_id, ' ') FROM llm._org) AS org, (SELECT count(*) FROM llm.series s WHERE NOT EXISTS (SELECT FROM llm._org o WHERE o.org = s.org)) AS series,
       (SELECT string_agg(id, ' ' ORDER BY id) FROM llm.organization) AS organizations, (SELECT string_agg(id, ' ' ORDER BY id) FROM llm.project) AS projects,
       (SELECT string_agg(id, ' ' ORDER BY id) FROM llm.api_key) AS keys, (SELECT string_agg(kind || ' ' || id, ', ' ORDER BY kind, id) FROM llm._remembered) AS remembered;
SELECT * FROM llm.verify();
SELECT llm.rebuild('-infinity', 'infinity') AS changed;
-- a name of an organization that is cut, and rows without one
INSERT INTO made (created_at, organization_id, api_key_id, model, cost) VALUES (now(), repeat('long', 100), 'k', 'm', 1), (now(), '', 'k', 'm', 1);
SELECT llm.forget(repeat('long', 100));
SELECT llm.forget('unknown');
DELETE FROM made WHERE organization_id <> 'other';
SELECT llm.forget(repeat('long', 100)) > 0 AS long, llm.forget('unknown') > 0 AS unknown, (SELECT count(*) FROM llm._org) AS left;

-- for monitoring
CREATE ROLE regress_monitor IN ROLE pg_monitor;
SET ROLE regress_monitor;
SELECT source, state, complete_from, sealed_before, retention, pending_rows > 0 AS pending, pending_bytes > 0 AS pending_bytes, lag < interval '1 hour' AS lag,
       last_fold_rows > 0 AS last_fold_rows, fold_rows_per_second > 0 AS speed, rollup_bytes > 0 AS rollup_bytes, log_bytes > 0 AS log_bytes, skipped_values, split_part(last_error, ':', 1) AS last_error
FROM llm.status ORDER BY source NULLS LAST, state;
RESET ROLE;

RESET search_path;
DROP SCHEMA retention CASCADE;
DROP ROLE regress_monitor;
DROP EXTENSION llm_analytics;
DROP ROLE regress_retention;
