-- Remembers what a table ($2) of a source ($1) holds, as it leaves.
INSERT INTO llm._left
SELECT llm._qualified($2::pg_catalog.oid::pg_catalog.regclass), $2, l.*
FROM llm._read_log($1, $2::pg_catalog.oid::pg_catalog.regclass, NULL, NULL, NULL) l
WHERE l.kind = 0
