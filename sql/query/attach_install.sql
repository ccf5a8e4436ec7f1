-- Puts the triggers on every table of the tree and records its leaves. $1 root, $2 source, $3 whether rows that are already there count.
SELECT pg_catalog.count(*)
FROM llm.source s
CROSS JOIN LATERAL (
    SELECT llm._install_triggers(m.relation::pg_catalog.regclass, s.id, s.version, CASE WHEN m.relation = $1 THEN 'root' ELSE 'part' END, s.capture)
    -- The root last: the event trigger looks for tables without triggers below a root that has them.
    FROM (SELECT * FROM llm._tree($1::pg_catalog.regclass) t ORDER BY t.relation = $1 OFFSET 0) m
) installed
WHERE s.id = $2
