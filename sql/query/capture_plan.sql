-- What the triggers of a relation ($2) with a source ($1) mean: columns, whether deleted rows go on counting, and whether the relation
-- still lies under a root of that source.
SELECT s.columns,
       s.on_delete = 'keep',
       EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors($2::pg_catalog.regclass) a
               JOIN llm._trigger t ON t.relation = a.relid
               WHERE t.source = $1 AND t.role = 'root')
FROM llm.source s
WHERE s.id = $1
