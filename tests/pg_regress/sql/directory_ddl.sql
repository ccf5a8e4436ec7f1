-- What DDL on an attached directory does: renames are followed, what breaks the mapping is refused, a table that is dropped makes way for the
-- shipped one. Every check shows the name of project p as usage shows it.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
DROP SCHEMA IF EXISTS host, fn CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA host;
CREATE TABLE host.calls (at timestamptz, org text, project text, key text, model text, usd numeric);
SELECT llm.attach_log('host.calls', '{"created_at":"at","organization_id":"org","project_id":"project","api_key_id":"key","model":"model","cost":"usd"}') ->> 'relation' AS log;
INSERT INTO host.calls VALUES ('2026-06-01 12:00+00', 'o', 'p', 'k', 'm', 1);
CREATE TABLE host.projects (pk text PRIMARY KEY, org text, title text, note int);
CREATE SCHEMA fn;
CREATE FUNCTION fn.title(text) RETURNS text LANGUAGE sql IMMUTABLE RETURN initcap($1);
INSERT INTO host.projects VALUES ('p', 'o', 'first', 1), ('q', 'o', 'other', 2);
SELECT llm.attach_directory('project', 'host.projects', '{"id":"pk","organization_id":"org","name":"fn.title(title)"}');
CREATE VIEW host.shown AS SELECT DISTINCT project FROM llm.usage;
TABLE host.shown;

-- followed: columns, table, schema
ALTER TABLE host.projects RENAME COLUMN title TO "new title";
ALTER TABLE host.projects RENAME COLUMN pk TO id;
ALTER INDEX host.projects RENAME TO "Projects of ours";
ALTER SCHEMA host RENAME TO "ho st";
SELECT relation_schema, relation_name, columns FROM llm.directory;
TABLE "ho st".shown;
ALTER SCHEMA "ho st" RENAME TO host;
CREATE SCHEMA elsewhere;
ALTER TABLE host."Projects of ours" SET SCHEMA elsewhere;
SELECT relation_schema, relation_name FROM llm.directory;
UPDATE elsewhere."Projects of ours" SET "new title" = 'second' WHERE id = 'p';
TABLE host.shown;
SELECT kind, id, label, owner, parent FROM llm._remembered ORDER BY 1, 2;

-- refused, each with what to do
DO $$
DECLARE
    change text;
    state text; message text; detail text; hint text;
BEGIN
    FOREACH change IN ARRAY ARRAY[
        'ALTER TABLE elsewhere."Projects of ours" DROP COLUMN "new title"',
        'ALTER TABLE elsewhere."Projects of ours" DROP COLUMN id',
        'ALTER TABLE elsewhere."Projects of ours" ALTER COLUMN "new title" TYPE int USING 1',
        'ALTER TABLE elsewhere."Projects of ours" FORCE ROW LEVEL SECURITY',
        'DROP FUNCTION fn.title(text)',
        'ALTER FUNCTION fn.title(text) VOLATILE'
    ] LOOP
        BEGIN
            EXECUTE change;
            RAISE WARNING 'not refused: %', change;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
            RAISE WARNING '% -> % % | % | %', change, state, message, detail, hint;
        END;
    END LOOP;
END
$$;
-- not the mapping's business
ALTER TABLE elsewhere."Projects of ours" DROP COLUMN note, ADD COLUMN more text, ALTER COLUMN "new title" TYPE varchar(50);
ALTER TABLE elsewhere."Projects of ours" ENABLE ROW LEVEL SECURITY;
TABLE host.shown;

-- dropped: the name that was known last before (nothing can be read of a table that is gone: detach it first); then the shipped directory's
DROP TABLE elsewhere."Projects of ours";
SELECT count(*) AS attached FROM llm.directory;
TABLE host.shown;
INSERT INTO llm.project (id, organization_id, name) VALUES ('p', 'o', 'Shipped');
TABLE host.shown;
DELETE FROM llm.project;
TABLE host.shown;

-- A table that stands for two kinds; an error of its mapping does not show what the rows hold.
CREATE TABLE host.users (id text PRIMARY KEY, name text, email text, org text, secret text);
INSERT INTO host.users VALUES ('u', 'Ada', 'ada@x', 'o', 'not a number');
SELECT llm.attach_directory('user', 'host.users', '{"id":"id","name":"(secret::int)::text"}') ->> 'kind' AS kind;
UPDATE host.users SET secret = '1';
SELECT llm.attach_directory('user', 'host.users', '{"id":"id","name":"(secret::int)::text"}') ->> 'kind' AS kind;
SELECT llm.attach_directory('membership', 'host.users', '{"organization_id":"org","user_id":"id","role":"''owner''::text"}') ->> 'kind' AS kind;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'host.users'::regclass ORDER BY 1;
SELECT user_id, name, role, cost FROM llm.members('o', '2026-06-01', '2026-06-01');
INSERT INTO host.users VALUES ('v', 'Bob', 'bob@x', 'o', 'not a number either');
SELECT user_id, name, role, cost FROM llm.members('o', '2026-06-01', '2026-06-01');
SELECT llm.detach_directory('membership');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'host.users'::regclass ORDER BY 1;
SET client_min_messages = error;
DROP SCHEMA host, elsewhere, fn CASCADE;
SELECT count(*) AS attached FROM llm.directory;
DROP EXTENSION llm_analytics;
