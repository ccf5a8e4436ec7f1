-- A log ($1, NULL: the first) that is not complete: its number, where its complete part begins, its name.
SELECT s.id, s.complete_from, pg_catalog.quote_ident(s.relation_schema) || '.' || pg_catalog.quote_ident(s.relation_name)
FROM llm.source s
WHERE ($1::int IS NULL OR s.id = $1) AND s.state = 'attached' AND s.complete_from > '-infinity'
  AND EXISTS (SELECT FROM llm._trigger t WHERE t.source = s.id AND t.role = 'root')
  AND NOT EXISTS (SELECT FROM llm._capture_gap g WHERE g.source = s.id)
ORDER BY s.id
LIMIT 1
