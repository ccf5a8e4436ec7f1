-- Whether every attached source has its root trigger and every delta its source: while a dump is restored, neither is so. A parallel restore
-- loads and makes things in any order, so as long as one is connected, as whoever may write our tables, nothing is ready. Without any source
-- there is nothing to do, but a restore may begin while the round goes on.
SELECT EXISTS (SELECT FROM llm.source) AND NOT EXISTS (
    SELECT FROM llm.source s
    WHERE s.state = 'attached' AND NOT EXISTS (SELECT FROM llm._trigger t WHERE t.source = s.id AND t.role = 'root')
) AND NOT EXISTS (
    SELECT FROM llm._pending p WHERE NOT EXISTS (SELECT FROM llm.source s WHERE s.id = p.source)
) AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
    WHERE a.datname = pg_catalog.current_database() AND a.application_name = 'pg_restore'
      AND (r.rolsuper OR r.oid = (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = 'llm._pending'::pg_catalog.regclass))
)
