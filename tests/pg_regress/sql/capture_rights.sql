-- Expressions of the mapping run with the rights of the log's owner, not of whoever writes, folds, rebuilds or verifies, and
-- writing needs no right on the extension. Functions of the host are never run as a superuser.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA capture_rights;
SET search_path = capture_rights, public;

CREATE ROLE regress_capture_owner;
CREATE ROLE regress_capture_writer;
CREATE ROLE regress_capture_editor;
GRANT USAGE, CREATE ON SCHEMA capture_rights TO regress_capture_owner;
GRANT USAGE ON SCHEMA capture_rights TO regress_capture_writer, regress_capture_editor;
SET ROLE regress_capture_owner;
CREATE TABLE log (id int PRIMARY KEY, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text, input_tokens bigint, cost numeric, note text);
GRANT INSERT ON log TO regress_capture_writer;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON log TO regress_capture_editor;
-- "immutable" functions that look at whose rights they have; the second fails for anybody but the owner; the third has nothing but constants
CREATE FUNCTION who(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN current_user || ' for ' || x; END $$;
CREATE FUNCTION owner_only(x numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN IF current_user <> 'regress_capture_owner' THEN RAISE EXCEPTION 'runs as %', current_user; END IF; RETURN x; END $$;
CREATE FUNCTION const() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN IF current_user <> 'regress_capture_owner' THEN RAISE EXCEPTION 'runs as %', current_user; END IF; RETURN current_user; END $$;
RESET ROLE;
-- attached by a superuser
SELECT 1 AS attached FROM llm.attach_log('log', '{"created_at": "created_at", "organization_id": "organization_id", "project_id": "project_id", "api_key_id": "api_key_id", "model": "model",
    "input_tokens": "input_tokens", "cost": "capture_rights.owner_only(cost)", "application": "capture_rights.who(api_key_id)", "mode": "capture_rights.const()"}', backfill => false);
CREATE FUNCTION told() RETURNS TABLE (application text, mode text, requests numeric, cost numeric) LANGUAGE sql AS
    $$ SELECT application, mode, sum(requests), trim_scale(sum(cost)) FROM llm.usage GROUP BY 1, 2 HAVING sum(requests) <> 0 ORDER BY 1, 2 $$;

-- as the superuser
INSERT INTO log VALUES (1, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
-- as a role that may INSERT and nothing else
SET ROLE regress_capture_writer;
INSERT INTO log VALUES (2, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 1, 0.1);
COPY log (id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost) FROM stdin;
3	2026-01-07 10:00Z	org	p1	k2	openai/gpt-5	7	0.07
\.
-- it reads nothing of it
SELECT count(*) FROM llm._pending;
SELECT count(*) FROM llm.usage;
SELECT count(*) FROM log;
SELECT current_user;
SET ROLE regress_capture_editor;
UPDATE log SET cost = cost + 1 WHERE id = 1;
WITH d AS (DELETE FROM log WHERE id = 2 RETURNING *) INSERT INTO log SELECT 4, created_at, organization_id, project_id, 'k3', model, input_tokens, cost FROM d;
RESET ROLE;
SELECT * FROM told();
SELECT * FROM llm.verify();
SELECT llm.fold() > 0 AS folded;
SELECT llm.rebuild('2026-01-01', '2026-02-01') IS NOT NULL AS rebuilt;
SELECT * FROM told();
SELECT * FROM llm.verify();
SET ROLE regress_capture_editor;
TRUNCATE log;
RESET ROLE;
SELECT * FROM told();
SELECT * FROM llm.verify();

-- backfill, too
SELECT 1 AS detached FROM llm.detach_log('log');
INSERT INTO log VALUES (5, '2026-01-08', 'org', 'p1', 'k5', 'openai/gpt-5', 1, 0.1);
SELECT 1 AS attached FROM llm.attach_log('log', '{"created_at": "created_at", "organization_id": "organization_id", "project_id": "project_id", "api_key_id": "api_key_id", "model": "model",
    "input_tokens": "input_tokens", "cost": "capture_rights.owner_only(cost)", "application": "capture_rights.who(api_key_id)", "mode": "capture_rights.const()"}');
CALL llm.backfill();
SELECT * FROM told();
SELECT * FROM llm.verify();

-- the owner's ALTER TABLE fires an event trigger with more rights than the owner has, which reads the mapping again
SET ROLE regress_capture_owner;
ALTER TABLE log ADD COLUMN later int;
ALTER TABLE log RENAME COLUMN cost TO price;
RESET ROLE;
INSERT INTO log VALUES (50, '2026-01-08', 'org', 'p1', 'k5', 'openai/gpt-5', 1, 0.1);
SELECT * FROM told();

-- a security-restricted operation: the owner's function cannot give itself other rights for later, or become another role
SET ROLE regress_capture_owner;
CREATE OR REPLACE FUNCTION who(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM set_config('role', 'none', false); RETURN current_user; END $$;
RESET ROLE;
INSERT INTO log VALUES (6, '2026-01-08', 'org', 'p1', 'k6', 'openai/gpt-5', 1, 0.1);
SELECT llm.rebuild('2026-01-01', '2026-02-01');
SET ROLE regress_capture_owner;
CREATE OR REPLACE FUNCTION who(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN CREATE TEMP TABLE planted (); RETURN current_user; END $$;
RESET ROLE;
INSERT INTO log VALUES (6, '2026-01-08', 'org', 'p1', 'k6', 'openai/gpt-5', 1, 0.1);
SELECT to_regclass('planted') AS planted;
-- a function that fails, fails the statement: nothing is lost silently
SET ROLE regress_capture_owner;
CREATE OR REPLACE FUNCTION who(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'cannot say for %', x; END $$;
RESET ROLE;
INSERT INTO log VALUES (6, '2026-01-08', 'org', 'p1', 'k6', 'openai/gpt-5', 1, 0.1);
SELECT count(*) AS there FROM log WHERE id = 6;
-- the rights of the session are its own again after an error
SELECT current_user = session_user AS same;
SET ROLE regress_capture_owner;
CREATE OR REPLACE FUNCTION who(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN current_user || ' for ' || x; END $$;
RESET ROLE;
INSERT INTO log VALUES (6, '2026-01-08', 'org', 'p1', 'k6', 'openai/gpt-5', 1, 0.1);
SELECT * FROM told();
SELECT * FROM llm.verify();
-- a new owner, a new current_user
ALTER FUNCTION owner_only(numeric) OWNER TO regress_capture_editor;
CREATE OR REPLACE FUNCTION owner_only(x numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$ SELECT x $$;
CREATE OR REPLACE FUNCTION const() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 'same'; END $$;
ALTER TABLE log OWNER TO regress_capture_editor;
INSERT INTO log VALUES (7, '2026-01-08', 'org', 'p1', 'k7', 'openai/gpt-5', 1, 0.1);
SELECT application, mode FROM llm._pending p ORDER BY 1;
DROP TABLE log;
DROP OWNED BY regress_capture_owner, regress_capture_writer, regress_capture_editor;
DROP ROLE regress_capture_owner, regress_capture_writer, regress_capture_editor;

RESET search_path;
DROP SCHEMA capture_rights CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
