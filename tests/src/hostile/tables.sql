-- What the role m owns: a hostile function in every place where PostgreSQL evaluates something of a
-- table. m.e says in the server's log where it runs and as whom, which no rollback takes back. Then
-- it tries to become superuser: at once, as the role behind the one it runs as, and by a trigger
-- that is deferred until after whoever switched to m has switched back.
CREATE TABLE m.trap (place text);
CREATE FUNCTION m.e(place text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    was text := current_user;
BEGIN
    RAISE LOG 'hostile|%|%|%', place, current_user,
        (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user);
    BEGIN EXECUTE 'ALTER ROLE m SUPERUSER'; EXCEPTION WHEN OTHERS THEN END;
    BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN END;
    BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN END;
    IF current_user <> was THEN
        PERFORM m.e(place || ', after RESET ROLE');
    END IF;
    IF place NOT LIKE 'deferred%' THEN
        BEGIN INSERT INTO m.trap VALUES (place); EXCEPTION WHEN OTHERS THEN END;
    END IF;
END $$;
CREATE FUNCTION m.sprung() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM m.e('deferred trigger of ' || NEW.place); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER sprung AFTER INSERT ON m.trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION m.sprung();
GRANT INSERT ON m.trap TO PUBLIC;
GRANT USAGE ON SCHEMA m TO PUBLIC;

-- PostgreSQL wants IMMUTABLE functions in most places, and believes whoever says so.
CREATE FUNCTION m.f(place text, x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM m.e(place); RETURN x; END $$;
CREATE FUNCTION m.n(place text, x numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM m.e(place); RETURN x; END $$;
CREATE FUNCTION m.at(place text, x timestamptz) RETURNS timestamptz LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM m.e(place); RETURN x; END $$;
CREATE FUNCTION m.d(x text, y text DEFAULT m.f('default of a function', 'y')) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN x; END $$;
CREATE FUNCTION m.fires() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM m.e(TG_ARGV[0]); RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END $$;


-- Types with code: a domain, an enum and a composite type with casts of their own.
CREATE DOMAIN m.org AS text DEFAULT m.f('domain default', 'org') CHECK (m.f('domain', VALUE) <> 'never') CHECK (m.f('domain of a constant', 'x') = 'x');
CREATE TYPE m.model AS ENUM ('a', 'b');
CREATE FUNCTION m.model_text(m.model) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM m.e('implicit cast'); RETURN 'a'; END $$;
CREATE CAST (m.model AS text) WITH FUNCTION m.model_text(m.model) AS IMPLICIT;
CREATE TYPE m.money AS (v numeric);
CREATE FUNCTION m.money_numeric(m.money) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM m.e('assignment cast'); RETURN ($1).v; END $$;
CREATE CAST (m.money AS numeric) WITH FUNCTION m.money_numeric(m.money) AS ASSIGNMENT;

-- An ordinary table.
CREATE TABLE m.parent (id text PRIMARY KEY, CHECK (m.f('check of a referenced table', id) <> 'never'));
INSERT INTO m.parent VALUES ('p'), ('q');
CREATE TRIGGER parent_trigger AFTER UPDATE ON m.parent FOR EACH ROW EXECUTE FUNCTION m.fires('trigger of a referenced table');
CREATE TABLE m.plain (
    id int DEFAULT m.n('default', 0)::int, created_at timestamptz DEFAULT '2026-06-01Z', organization_id m.org,
    project_id text DEFAULT m.f('foreign key, SET DEFAULT', 'p') REFERENCES m.parent ON UPDATE CASCADE ON DELETE SET DEFAULT,
    api_key_id text, model m.model, cost numeric, price m.money, app text,
    made text GENERATED ALWAYS AS (m.f('generated column', app)) STORED,
    CHECK (m.f('check of a constant', 'x') = 'x'), CHECK (m.f('check', app) <> 'never'));
ALTER TABLE m.plain ADD CHECK (m.f('check not valid', app) <> 'never') NOT VALID;
CREATE INDEX ON m.plain (created_at);
CREATE INDEX ON m.plain (m.f('index', app));
CREATE INDEX ON m.plain ((m.f('index of a constant', 'x') || app), created_at);
CREATE INDEX ON m.plain (id) WHERE m.f('index predicate', app) <> 'never';
CREATE INDEX ON m.plain (id) WHERE m.f('index predicate of a constant', 'x') = 'x';
CREATE STATISTICS m.of_plain ON (m.f('statistics', app)), (m.f('statistics of a constant', 'x') || api_key_id) FROM m.plain;
CREATE RULE r AS ON INSERT TO m.plain DO ALSO SELECT m.f('rule', 'x');
ALTER TABLE m.plain ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON m.plain USING (m.f('policy', app) <> 'never' AND m.f('policy of a constant', 'x') = 'x') WITH CHECK (m.f('policy check', app) <> 'never');
CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON m.plain FOR EACH ROW EXECUTE FUNCTION m.fires('row trigger');
CREATE TRIGGER s AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON m.plain FOR EACH STATEMENT EXECUTE FUNCTION m.fires('statement trigger');
CREATE TRIGGER w AFTER INSERT ON m.plain FOR EACH ROW WHEN (m.f('trigger condition', NEW.app) <> 'never') EXECUTE FUNCTION m.fires('trigger with a condition');
INSERT INTO m.plain (api_key_id, model, cost, price, app) SELECT 'k', 'a', 1, row(2)::m.money, 'app' FROM generate_series(1, 20);

-- Partitioned by a list of an expression, a default partition partitioned once more.
CREATE TABLE m.listed (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric, app text DEFAULT m.f('default of a root', 'app'),
    CHECK (m.f('check of a root', app) <> 'never')) PARTITION BY LIST ((m.f('list key of a constant', 'x') || m.f('list key', model)));
CREATE TABLE m.listed_a PARTITION OF m.listed FOR VALUES IN (m.f('list bound', 'xa'));
CREATE TABLE m.listed_rest PARTITION OF m.listed DEFAULT PARTITION BY RANGE (created_at, (m.f('key of a subtree, of a constant', 'x') || m.f('key of a subtree', model)));
CREATE TABLE m.listed_rest_all PARTITION OF m.listed_rest DEFAULT;
ALTER TABLE m.listed_a ADD CHECK (m.f('check of a leaf', app) <> 'never');
CREATE INDEX ON m.listed_a ((m.f('index of a leaf, of a constant', 'x') || app));
CREATE INDEX ON m.listed (m.f('index of a root', app));
CREATE STATISTICS m.of_leaf ON (m.f('statistics of a leaf', app)), api_key_id FROM m.listed_a;
INSERT INTO m.listed (created_at, organization_id, api_key_id, model, cost) SELECT '2026-06-01Z', 'org', 'k', m, 1 FROM unnest('{a,b}'::text[]) m;

-- Partitioned by ranges of expressions, the default partition by the hash of one.
CREATE TABLE m.ranged (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric, app text) PARTITION BY RANGE (m.at('range key', created_at), (m.f('range key of a constant', 'x') || model));
CREATE TABLE m.ranged_6 PARTITION OF m.ranged FOR VALUES FROM (m.at('range bound', '2026-06-01Z'), MINVALUE) TO ('2026-07-01Z', MINVALUE);
CREATE TABLE m.ranged_rest PARTITION OF m.ranged DEFAULT PARTITION BY HASH ((m.f('hash key of a constant', 'x') || model));
CREATE TABLE m.ranged_rest_0 PARTITION OF m.ranged_rest FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE m.ranged_5 (LIKE m.ranged INCLUDING ALL);
ALTER TABLE m.ranged_5 ADD CHECK (m.f('check of what is attached', app) <> 'never');
CREATE INDEX ON m.ranged_5 ((m.f('index of what is attached', 'x') || app));
INSERT INTO m.ranged_5 VALUES ('2026-05-02Z', 'org', 'k', 'm', 1, 'app');
INSERT INTO m.ranged VALUES ('2026-06-02Z', 'org', 'k', 'm', 1, 'app'), ('2026-08-02Z', 'org', 'k', 'm', 1, 'app');

-- Nothing hostile but its mapping, so that a superuser can write to it: as a session does, and as an apply worker does.
CREATE TABLE m.mapped (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric);
CREATE TABLE m.applied (LIKE m.mapped);

-- Directories.
CREATE TABLE m.people (id text PRIMARY KEY, name text, email text, CHECK (m.f('check of a directory', name) <> 'never'));
CREATE INDEX ON m.people ((m.f('index of a directory', 'x') || name));
CREATE INDEX ON m.people ((m.f('directory id', id)));
CREATE TRIGGER t AFTER INSERT OR UPDATE ON m.people FOR EACH ROW EXECUTE FUNCTION m.fires('trigger of a directory');
ALTER TABLE m.people ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON m.people USING (m.f('policy of a directory', name) <> 'never');
INSERT INTO m.people VALUES ('u', 'Ada', 'ada@example.com'), ('v', 'Bob', 'bob@example.com');
CREATE TABLE m.keys (id text, name text, creator text);
INSERT INTO m.keys VALUES ('k', 'laptop', 'u');
CREATE TABLE m.members (org m.org, usr text, role text);
INSERT INTO m.members VALUES ('org', 'u', 'owner');
GRANT ALL ON ALL TABLES IN SCHEMA m TO g;
