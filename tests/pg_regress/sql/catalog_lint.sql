-- Everything the extension owns, as the catalog has it: a slip (a function open to PUBLIC, a definer without a pinned path, a table without
-- row-level security, a missing comment) shows as a difference.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;

-- functions: volatility (i, s, v), strict, parallel (s, r, u), definer, whether search_path is pinned, who may execute besides the owner
SELECT p.oid::regprocedure AS function, p.provolatile AS v, p.proisstrict AS strict, p.proparallel AS p, p.prosecdef AS definer,
       EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c = 'search_path=pg_catalog, pg_temp') AS pinned,
       EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0) AS public,
       obj_description(p.oid, 'pg_proc') IS NOT NULL AS comment
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'llm_analytics'
ORDER BY p.oid::regprocedure::text COLLATE "C";

-- a definer without a pinned path, or anything of ours without a comment: none
SELECT p.oid::regprocedure AS definer_without_path FROM pg_proc p
WHERE p.pronamespace = 'llm'::regnamespace AND p.prosecdef AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false);

-- tables and views: row-level security, policies, dumped, PUBLIC's rights, comments (of all columns where it is for users)
SELECT c.relname AS relation, c.relkind AS kind, c.relrowsecurity AS rls,
       (SELECT count(*) FROM pg_policy y WHERE y.polrelid = c.oid) AS policies,
       coalesce(c.oid = ANY (e.extconfig), false) AS dumped,
       coalesce(array_to_string(c.reloptions, ' ') LIKE '%security_invoker=true%security_barrier=true%', false) AS invoker_barrier,
       (SELECT string_agg(a.privilege_type, ' ' ORDER BY a.privilege_type) FROM aclexplode(c.relacl) a WHERE a.grantee = 0) AS public,
       obj_description(c.oid, 'pg_class') IS NOT NULL AS comment,
       (SELECT string_agg(a.attname, ' ') FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relname !~ '^_'
        AND c.relkind <> 'S' AND col_description(c.oid, a.attnum) IS NULL) AS columns_without_comment
FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'llm_analytics'
WHERE c.relkind IN ('r', 'p', 'v', 'S')
ORDER BY c.relname COLLATE "C";

-- identities' sequences are dumped with their tables
SELECT c.relname AS sequence, c.oid = ANY (e.extconfig) AS dumped
FROM pg_class c, pg_extension e WHERE c.relkind = 'S' AND c.relnamespace = 'llm'::regnamespace AND e.extname = 'llm_analytics' ORDER BY 1;

-- event triggers are on, and settings are documented
SELECT evtname, evtevent, evtenabled FROM pg_event_trigger WHERE evtname LIKE 'llm%' ORDER BY 1;
SELECT name, boot_val, unit, context, min_val, max_val, short_desc <> '' AS described FROM pg_settings WHERE name LIKE 'llm.%' AND name <> 'llm.worker' ORDER BY 1;
SELECT nspacl IS NOT NULL AND NOT has_schema_privilege('public', 'llm', 'CREATE') AS nobody_creates_in_llm FROM pg_namespace WHERE nspname = 'llm';
