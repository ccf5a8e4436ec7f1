-- Whether the worker may act. While a dump is restored it may not: triggers come after all rows, so as long as sources are attached and
-- none of them has its root trigger, rows are still to come. A single source without one is its owner's trouble, not that of the others.
-- As long as pg_restore is connected, as somebody who may write our tables, a parallel restore loads and makes things in any order.
-- Without any source there is nothing to do. Deltas that are here before their source are not folded (src/fold.rs).
SELECT EXISTS (SELECT FROM llm.source) AND (
    NOT EXISTS (SELECT FROM llm.source s WHERE s.state = 'attached')
    OR EXISTS (SELECT FROM llm.source s JOIN llm._trigger t ON t.source = s.id WHERE s.state = 'attached' AND t.role = 'root')
) AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
    WHERE a.datname = pg_catalog.current_database() AND a.application_name = 'pg_restore'
      AND (r.rolsuper OR r.oid = (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = 'llm._pending'::pg_catalog.regclass))
)
