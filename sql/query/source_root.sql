-- The mapping of a source and the table that is attached as its root.
SELECT s.columns, (SELECT t.relation FROM llm._trigger t WHERE t.source = s.id AND t.role = 'root')
FROM llm.source s
WHERE s.id = $1
