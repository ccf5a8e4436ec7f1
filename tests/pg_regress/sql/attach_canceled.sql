-- A statement that is canceled, or a lock that is not had, while a mapping is checked was reported as a mapping that cannot be used.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA attach_canceled;
SET search_path = attach_canceled;
CREATE TABLE log (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric);
CREATE FUNCTION slow(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(600); RETURN x; END $$;
CREATE FUNCTION locked(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE lock_not_available USING MESSAGE = 'not had'; END $$;
CREATE FUNCTION wrong(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'wrong'; END $$;
SET statement_timeout = '300ms';
\set VERBOSITY sqlstate
SELECT llm.attach_log('log', '{"created_at": "created_at", "organization_id": "attach_canceled.slow(''x'')", "api_key_id": "api_key_id", "model": "model", "cost": "cost"}');
SET statement_timeout = 0;
SELECT llm.attach_log('log', '{"created_at": "created_at", "organization_id": "attach_canceled.locked(''x'')", "api_key_id": "api_key_id", "model": "model", "cost": "cost"}');
\set VERBOSITY default
SELECT llm.attach_log('log', '{"created_at": "created_at", "organization_id": "attach_canceled.wrong(''x'')", "api_key_id": "api_key_id", "model": "model", "cost": "cost"}');
SELECT count(*) FROM llm.source;
-- at an ALTER, which would be refused with 55000 otherwise
CREATE FUNCTION sometimes(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN x; END $$;
SELECT 1 AS attached FROM llm.attach_log('log', '{"created_at": "created_at", "organization_id": "attach_canceled.sometimes(''x'')", "api_key_id": "api_key_id", "model": "model", "cost": "cost"}');
CREATE OR REPLACE FUNCTION sometimes(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(600); RETURN x; END $$;
SET statement_timeout = '300ms';
\set VERBOSITY sqlstate
ALTER TABLE log ADD COLUMN note text;
\set VERBOSITY default
SET statement_timeout = 0;
CREATE OR REPLACE FUNCTION sometimes(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'wrong'; END $$;
ALTER TABLE log ADD COLUMN note text;
DROP TABLE log;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA attach_canceled CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
