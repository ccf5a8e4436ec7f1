-- Takes the triggers off every table of the source, the root's first, and declares its numbers final.
WITH removed AS MATERIALIZED (
    SELECT llm._remove_triggers(t.relation::pg_catalog.regclass)
    FROM (SELECT t.relation FROM llm._trigger t WHERE t.source = $1 ORDER BY t.role <> 'root' OFFSET 0) t
), leaves AS (
    DELETE FROM llm._leaf l WHERE l.source = $1
)
SELECT llm._seal_range($1, NULL, '-infinity', 'infinity', 'detached'), (SELECT count(*) FROM removed)
