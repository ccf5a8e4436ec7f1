-- Takes off the triggers, the root's first, that came with a dump of the host's tables alone: no source here is theirs. $1 root.
SELECT pg_catalog.count(*)
FROM (SELECT * FROM llm._tree($1::pg_catalog.regclass) t ORDER BY t.relation <> $1 OFFSET 0) m
CROSS JOIN LATERAL (SELECT llm._remove_triggers(m.relation::pg_catalog.regclass)) removed
