-- The mapping of a source ($1) and the table that is attached as its root: the one that has the recorded name, else, because a rename
-- has not been followed yet, the one that has root triggers. Triggers that came with a restored table may name the source too.
SELECT s.columns,
       (SELECT t.relation
        FROM llm._trigger t
        JOIN pg_catalog.pg_class c ON c.oid = t.relation
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE t.source = s.id AND t.role = 'root'
        ORDER BY (n.nspname::text, c.relname::text) <> (s.relation_schema, s.relation_name)
        LIMIT 1)
FROM llm.source s
WHERE s.id = $1
