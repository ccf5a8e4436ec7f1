-- Seals everything of a source before $2, or leaves the seal that reaches further.
WITH grown AS (
    UPDATE llm._seal x SET "to" = GREATEST(x."to", $2) WHERE x.source = $1 AND x.reason = 'sealed' RETURNING x."to"
), made AS (
    INSERT INTO llm._seal (source, "from", "to", reason) SELECT $1, '-infinity', $2, 'sealed' WHERE NOT EXISTS (SELECT FROM grown) RETURNING "to"
)
SELECT "to" FROM grown UNION ALL SELECT "to" FROM made
