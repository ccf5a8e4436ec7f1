-- The owner of a log became superuser: attach_log opened the partition key, and maintenance made next month's partition, as the
-- extension's owner, and PostgreSQL folds the constants of such expressions by calling the functions in them.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SET TimeZone = 'UTC';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE ROLE regress_hostile;
CREATE ROLE regress_neighbour;
CREATE SCHEMA hostile AUTHORIZATION regress_hostile;
GRANT EXECUTE ON FUNCTION llm.attach_log(regclass, jsonb, text, text, boolean), llm.create_request_log(text), llm.set_retention(regclass, interval) TO regress_hostile;
CREATE FUNCTION hostile.is_superuser() RETURNS boolean LANGUAGE sql AS $$ SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_hostile' $$;
SET ROLE regress_hostile;
SET search_path = hostile;
CREATE SEQUENCE tried;
CREATE FUNCTION escalate() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('hostile.tried');
    EXECUTE 'ALTER ROLE regress_hostile SUPERUSER';
EXCEPTION WHEN insufficient_privilege THEN
END
$$;
CREATE FUNCTION try(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM hostile.escalate();
    IF current_user <> 'regress_hostile' THEN
        RAISE EXCEPTION 'runs as %', current_user;
    END IF;
    RETURN x;
END
$$;

-- the partition key, attached by its owner and by a superuser
CREATE TABLE by_list (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric) PARTITION BY LIST ((hostile.try('x') || model));
CREATE TABLE by_list_rest PARTITION OF by_list DEFAULT;
CREATE TABLE by_range (LIKE by_list) PARTITION BY RANGE ((hostile.try('x') || model), created_at);
CREATE TABLE by_range_rest PARTITION OF by_range DEFAULT;
SELECT 1 AS attached FROM llm.attach_log('by_list');
RESET ROLE;
-- nothing of it is in this session's cache
\c -
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET search_path = hostile;
SELECT 1 AS attached FROM llm.attach_log('by_range', capture => 'row');
SET ROLE regress_hostile;
INSERT INTO by_list VALUES ('2026-03-01', 'org', 'k', 'm', 1), ('2026-03-02', 'org', 'k', 'm', 1);
INSERT INTO by_range VALUES ('2026-03-01', 'org', 'k', 'm', 1);
DELETE FROM by_list WHERE created_at = '2026-03-02';
CREATE TABLE by_range_a PARTITION OF by_range FOR VALUES FROM ('xa', MINVALUE) TO ('xb', MINVALUE);
ALTER TABLE by_range DETACH PARTITION by_range_rest;
RESET ROLE;
SELECT llm.fold() > 0 AS folded;
SELECT llm.rebuild('2026-01-01', '2027-01-01') IS NOT NULL AS rebuilt;
CALL llm.backfill();
SELECT * FROM llm.verify();
SELECT sum(requests) AS requests FROM llm.usage;
SELECT llm.detach_log('by_list');
SELECT llm.detach_log('by_range');
SELECT hostile.is_superuser(), (SELECT last_value > 1 FROM tried) AS tried;

-- next month's partition
SET ROLE regress_hostile;
SELECT llm.create_request_log('hostile.made');
ALTER TABLE made ADD CHECK (hostile.try('x') = 'x');
ALTER TABLE made ADD COLUMN note text DEFAULT hostile.try('x');
CREATE INDEX ON made (hostile.try(model));
CREATE INDEX ON made (model) WHERE hostile.try('x') = 'x';
SELECT llm.set_retention('made', '1 day');
DO $$ BEGIN EXECUTE format('DROP TABLE hostile.made_%s', to_char(now() + interval '1 month', 'YYYY_MM')); END $$;
RESET ROLE;
CALL llm.maintain();
SELECT hostile.is_superuser(), count(*) AS made_again FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'made'::regclass AND c.relname = 'made_' || to_char(now() + interval '1 month', 'YYYY_MM') AND c.relowner = 'regress_hostile'::regrole;
SELECT * FROM llm.verify();

-- a tree whose partitions belong to several roles
SET ROLE regress_hostile;
CREATE TABLE mixed (LIKE by_list) PARTITION BY RANGE (created_at);
CREATE TABLE mixed_3 PARTITION OF mixed FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
CREATE TABLE mixed_4 PARTITION OF mixed FOR VALUES FROM ('2026-04-01') TO ('2026-05-01');
INSERT INTO mixed VALUES ('2026-03-01', 'mixed', 'k', 'm', 1), ('2026-04-01', 'mixed', 'k', 'm', 2);
RESET ROLE;
GRANT USAGE ON SCHEMA hostile TO regress_neighbour;
ALTER TABLE mixed_4 OWNER TO regress_neighbour;
SET ROLE regress_hostile;
SELECT 1 AS attached FROM llm.attach_log('mixed');
RESET ROLE;
SELECT 1 AS attached FROM llm.attach_log('mixed', capture => 'row');
CALL llm.backfill();
SET ROLE regress_neighbour;
INSERT INTO mixed_4 VALUES ('2026-04-02', 'mixed', 'k', 'm', 4);
RESET ROLE;
GRANT ALL ON mixed_4 TO regress_hostile;
SET ROLE regress_hostile;
INSERT INTO mixed VALUES ('2026-03-02', 'mixed', 'k', 'm', 8), ('2026-04-03', 'mixed', 'k', 'm', 16);
UPDATE mixed SET created_at = '2026-04-04' WHERE cost = 8;
RESET ROLE;
SELECT sum(requests) AS requests_5, sum(cost) AS cost_31 FROM llm.usage WHERE organization_id = 'mixed';
SELECT llm.rebuild('-infinity', 'infinity', 'mixed') AS changed;
SELECT * FROM llm.verify();
SELECT 1 AS detached FROM llm.detach_log('mixed');

-- the mapping is the log's owner's: of partitions of a superuser's, which come later, it runs with the owner's rights too
SET ROLE regress_hostile;
CREATE TABLE mapped (LIKE by_list) PARTITION BY RANGE (created_at);
CREATE TABLE mapped_3 PARTITION OF mapped FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
INSERT INTO mapped VALUES ('2026-03-01', 'mapped', 'k', 'm', 1);
SELECT 1 AS attached FROM llm.attach_log('mapped', '{"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "api_key_id", "model": "hostile.try(model)", "cost": "cost"}');
RESET ROLE;
CREATE TABLE mapped_4 PARTITION OF mapped FOR VALUES FROM ('2026-04-01') TO ('2026-05-01');
CREATE TABLE mapped_5 (LIKE mapped);
INSERT INTO mapped_5 VALUES ('2026-05-01', 'mapped', 'k', 'm', 2), ('2026-05-02', 'mapped', 'k', 'm', 4);
ALTER TABLE mapped ATTACH PARTITION mapped_5 FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
INSERT INTO mapped_4 VALUES ('2026-04-01', 'mapped', 'k', 'm', 8);
DELETE FROM mapped_5 WHERE cost = 4;
CALL llm.backfill();
UPDATE llm.source SET complete_from = 'infinity' WHERE relation_name = 'mapped';
CALL llm.backfill();
SELECT llm.rebuild('-infinity', 'infinity', 'mapped') >= 0 AS rebuilt;
SELECT * FROM llm.verify();
SELECT sum(requests) AS requests_4, sum(cost) AS cost_15 FROM llm.usage WHERE organization_id = 'mapped';
SELECT hostile.is_superuser(), last_error FROM llm.status WHERE source = 'hostile.mapped';
SELECT llm.forget('mapped');
TRUNCATE mapped;
SELECT llm.forget('mapped') > 0 AS forgotten;
SELECT 1 AS detached FROM llm.detach_log('mapped');
DROP TABLE mapped;

-- a trigger of one's own on a table of one's own counts nothing, and evaluates nothing of the log it names
SET ROLE regress_hostile;
CREATE TABLE outside (LIKE by_list);
DO $$ BEGIN EXECUTE format('CREATE TRIGGER llm_capture_row AFTER INSERT ON hostile.outside FOR EACH ROW EXECUTE FUNCTION llm._capture_row(%L, %L, %L)', 1, 1, 'root'); END $$;
CREATE TRIGGER mine AFTER INSERT ON outside FOR EACH STATEMENT EXECUTE FUNCTION llm._capture('1', '1', 'root');
RESET ROLE;

-- whose rights count: those of the effective user, here of the function's owner
CREATE FUNCTION public.regress_attach() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM llm.attach_log('hostile.by_list') $$;
ALTER FUNCTION public.regress_attach() OWNER TO regress_hostile;
GRANT EXECUTE ON FUNCTION llm.attach_log(regclass, jsonb, text, text, boolean) TO regress_neighbour;
GRANT USAGE ON SCHEMA hostile TO regress_neighbour;
SET ROLE regress_neighbour;
SELECT 1 AS attached FROM llm.attach_log('hostile.by_list');
SELECT public.regress_attach() AS attached;
RESET ROLE;

DROP FUNCTION public.regress_attach();
DROP OWNED BY regress_hostile CASCADE;
DROP OWNED BY regress_neighbour CASCADE;
DROP SCHEMA IF EXISTS hostile CASCADE;
DROP ROLE regress_hostile, regress_neighbour;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
