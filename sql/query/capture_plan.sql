-- What the triggers of a relation ($2) with a source ($1) mean: columns, whether deleted rows go on counting, whether the relation still
-- lies under a root of that source, and before which instant the rows that were there at the attach do not count.
SELECT s.columns,
       s.on_delete = 'keep',
       EXISTS (SELECT FROM llm._trigger t
               WHERE t.source = $1 AND t.role = 'root'
                 AND (t.relation = $2 OR t.relation IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors($2::pg_catalog.regclass) a))),
       s.counts_from
FROM llm.source s
WHERE s.id = $1
