-- What the triggers of a relation ($2) with a source ($1) mean: columns, whether deleted rows go on counting, the root of the recorded
-- tree of that source if the relation lies in it, and before which instant the rows that were there at the attach do not count. The root of
-- the tree is the table that has the recorded name. Where no table with root triggers has it, because a rename has not been followed
-- yet, the root is the one table that has them.
WITH root AS (
    SELECT t.relation, (n.nspname::text, c.relname::text) = (s.relation_schema, s.relation_name) AS is_named
    FROM llm.source s
    JOIN llm._trigger t ON t.source = s.id AND t.role = 'root'
    JOIN pg_catalog.pg_class c ON c.oid = t.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE s.id = $1
)
SELECT s.columns,
       s.on_delete = 'keep',
       (SELECT r.relation FROM root r
        WHERE (r.is_named OR (SELECT pg_catalog.count(*) FROM root) = 1)
          AND (r.relation = $2 OR r.relation IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors($2::pg_catalog.regclass) a))
        LIMIT 1),
       s.counts_from
FROM llm.source s
WHERE s.id = $1
