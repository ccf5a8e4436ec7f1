-- Wrong, odd and extreme values for every argument of every function that everybody or an administrator calls: a clean error of the error
-- table, or an answer; never XX000, never a crash.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
DROP SCHEMA IF EXISTS malformed CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA malformed;
CREATE TABLE malformed.log (created_at timestamptz, organization_id text, project_id text, api_key_id text, model text, cost numeric);
SELECT llm.attach_log('malformed.log') ->> 'preset' AS preset;
INSERT INTO malformed.log VALUES ('2026-06-01 12:00+00', 'org', 'org', 'org', 'openai/m', 1);
DO $$
DECLARE
    function record;
    value text;
    arguments text[];
    call text; state text; message text;
    odd CONSTANT jsonb := jsonb_build_object(
        'text', ARRAY['NULL', '''''', 'repeat(''x'', 10485760)', 'E''\x01\n\t\\''', '''Ünï''', '''no such thing''', 'repeat(''é'', 150)', '''europe/BERLIN''', '''<+03>-3'''],
        'date', ARRAY['''infinity''', '''-infinity''', '''294276-12-31''', '''4713-01-01 BC''', '''5874897-12-31''', '''262142-12-31''', '''2018-01-01'''],
        'integer', ARRAY['0', '-1', '2147483647', '-2147483648'],
        'boolean', ARRAY['NULL', 'true'],
        'regclass', ARRAY['NULL', '0', '4294967295', '1', '''pg_class'''],
        'jsonb', ARRAY['''null''', '''{}''', '''[]''', '''"x"''', '''{"id":1}''', '''{"id":"\u0001"}''', '''{"id":"1/0"}''']);
BEGIN
    FOR function IN
        SELECT p.proname, p.pronargs, p.proargnames, (SELECT array_agg(t.type::regtype::text ORDER BY t.at) FROM unnest(p.proargtypes) WITH ORDINALITY t(type, at)) AS types
        FROM pg_proc p
        WHERE p.pronamespace = 'llm'::regnamespace AND (p.proname ~ '^analytics_' OR p.proname IN
            ('activity', 'members', 'access', 'act_as', 'bind_role', 'unbind_role', 'attach_directory', 'detach_directory', '_labels'))
        ORDER BY p.proname = 'act_as', p.proname -- then everybody else has asked
    LOOP
        FOR at IN 1..function.pronargs LOOP
            FOR value IN SELECT jsonb_array_elements_text(odd -> function.types[at]) LOOP
                SELECT array_agg(CASE WHEN n = at THEN value
                                      WHEN function.types[n] IN ('date', 'integer', 'jsonb') THEN 'NULL'
                                      WHEN function.types[n] = 'boolean' THEN 'false'
                                      WHEN function.types[n] = 'regclass' THEN '''malformed.log'''
                                      ELSE CASE function.proargnames[n] WHEN 'tz' THEN '''UTC''' WHEN 'group_by' THEN '''model'''
                                           WHEN 'model_view' THEN '''canonical''' WHEN 'kind' THEN '''project''' ELSE '''org''' END END ORDER BY n)
                    INTO arguments FROM generate_series(1, function.pronargs) n;
                call := format('SELECT pg_catalog.length(x::text) FROM llm.%I(%s) x', function.proname, array_to_string(arguments, ', '));
                BEGIN
                    EXECUTE call;
                EXCEPTION WHEN OTHERS THEN
                    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
                    IF state NOT IN ('22004', '22023', '28000', '42501', 'P0002', '42704', '0A000', '42P01', '42809', '55000', '42703') OR length(message) > 200 THEN
                        RAISE WARNING '% % %', state, left(message, 100), left(call, 200);
                    END IF;
                END;
            END LOOP;
        END LOOP;
    END LOOP;
END
$$;
DROP SCHEMA malformed CASCADE;
DROP EXTENSION llm_analytics;
