-- The tables of attached logs, of one source ($1) or all, parents before their partitions.
SELECT m.relation
FROM llm._trigger t
CROSS JOIN LATERAL llm._tree(t.relation::pg_catalog.regclass) m
WHERE t.role = 'root' AND ($1 IS NULL OR t.source = $1)
ORDER BY t.source, m.is_leaf, m.relation
