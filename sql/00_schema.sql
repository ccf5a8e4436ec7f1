-- The schema is fixed. A role that made it before us could have planted functions or operators in it, or drop ours later, so only a
-- superuser's schema without any function, operator or type is adopted (pg_restore makes the schema before the extension).
DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = 'llm_analytics needs a database with encoding UTF8',
            HINT = 'Create the database with ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
               WHERE n.nspname = 'llm' AND NOT r.rolsuper) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'schema "llm" belongs to an ordinary role',
            DETAIL = 'Its owner could replace what the extension puts there.',
            HINT = 'Drop or rename the schema, or give it to a superuser with ALTER SCHEMA llm OWNER TO.';
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = 'llm'::pg_catalog.regnamespace)
       OR EXISTS (SELECT FROM pg_catalog.pg_operator WHERE oprnamespace = 'llm'::pg_catalog.regnamespace) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'schema "llm" already holds functions or operators',
            HINT = 'Drop or move them, then create the extension again.';
    END IF;
END
$$;
REVOKE CREATE ON SCHEMA llm FROM PUBLIC;
GRANT USAGE ON SCHEMA llm TO PUBLIC;
COMMENT ON SCHEMA llm IS 'llm_analytics: exact cost analytics over an LLM gateway''s request log';
