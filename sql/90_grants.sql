-- Closed by default: nothing is callable or readable unless it is opened here.

DO $$
DECLARE
    object record;
BEGIN
    FOR object IN SELECT p.oid::pg_catalog.regprocedure AS name, p.prokind FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'llm'::pg_catalog.regnamespace LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', object.name);
    END LOOP;
    -- Row-level security everywhere: without a policy only superusers, BYPASSRLS roles and the owner see rows.
    FOR object IN SELECT c.oid::pg_catalog.regclass AS name FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'llm'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p') LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', object.name);
    END LOOP;
END
$$;

-- Definitions of the buckets and of the canonical name: facts about no one.
GRANT EXECUTE ON FUNCTION llm.bucket(timestamptz), llm.canonical_model(text), llm._clip(text) TO PUBLIC;
-- Checks where it runs.
GRANT EXECUTE ON FUNCTION llm._capture_row() TO PUBLIC;
-- They check who asks.
GRANT EXECUTE ON FUNCTION
    llm.analytics_activity(text, text, date, date, text, text, text, text, int),
    llm.activity(text, text, date, date, text, text, text, text),
    llm.analytics_project(text, text, date, date, text, text),
    llm.analytics_api_key(text, text, date, date, text, text),
    llm.analytics_members(text, date, date, text),
    llm.members(text, date, date, text),
    llm.analytics_member(text, text, date, date, text, text),
    llm.analytics_me(text, date, date, text, text),
    llm.analytics_drivers(text, date, date, text, date, date),
    llm.access(text),
    llm.analytics_organizations(),
    llm.analytics_projects(text),
    llm.analytics_api_keys(text, text),
    llm.current_user_id()
TO PUBLIC;
-- Of the policies and of llm.usage: they answer with what the caller may see anyway.
GRANT EXECUTE ON FUNCTION llm._scope(), llm._labels(text), llm._count(llm.measures, int), llm._amount(llm.measures, int) TO PUBLIC;
-- Of the operators of llm.measures: they compare what their caller has.
GRANT EXECUTE ON FUNCTION
    llm._measures_eq(llm.measures, llm.measures), llm._measures_ne(llm.measures, llm.measures),
    llm._measures_lt(llm.measures, llm.measures), llm._measures_le(llm.measures, llm.measures),
    llm._measures_gt(llm.measures, llm.measures), llm._measures_ge(llm.measures, llm.measures),
    llm._measures_cmp(llm.measures, llm.measures),
    llm._measures_hash(llm.measures), llm._measures_hash(llm.measures, bigint)
TO PUBLIC;
-- llm.usage runs with its reader's rights, so it needs the tables beneath; row-level security guards them.
GRANT SELECT ON llm.usage, llm.rollup, llm._rollup_detail, llm.series, llm._org, llm._pending,
    llm.organization, llm.project, llm.api_key, llm.app_user, llm.membership, llm.model_alias
TO PUBLIC;
GRANT SELECT ON llm.status TO pg_monitor;
-- A view does not lend the right to call what it calls.
GRANT EXECUTE ON FUNCTION llm._tree(regclass), llm._drained_at() TO pg_monitor;

-- Everything but the fold lock outlives the logs, so it is dumped.
DO $$
DECLARE
    dumped regclass;
BEGIN
    FOR dumped IN
        SELECT m.relid FROM pg_catalog.pg_partition_tree('llm.rollup') m WHERE m.isleaf
        UNION ALL SELECT pg_catalog.unnest(ARRAY[
            'llm.source', 'llm._leaf', 'llm._seal', 'llm._pending', 'llm._left', 'llm._org', 'llm.series',
            'llm.organization', 'llm.project', 'llm.api_key', 'llm.app_user', 'llm.membership', 'llm.model_alias',
            'llm.directory', 'llm._remembered', 'llm._binding',
            'llm.source_id_seq', 'llm._org_org_seq', 'llm.series_id_seq'
        ]::regclass[])
    LOOP
        PERFORM pg_catalog.pg_extension_config_dump(dumped, '');
    END LOOP;
END
$$;
