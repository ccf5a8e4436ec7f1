-- Seals one bucket of a source and organization, growing a seal that ends or begins there.
WITH grown AS (
    UPDATE llm._seal x
    SET "from" = LEAST(x."from", $3), "to" = GREATEST(x."to", $4)
    WHERE x.ctid = (SELECT s.ctid FROM llm._seal s
                    WHERE s.source = $1 AND s.organization_id = $2 AND s.reason = 'rows gone' AND (s."to" = $3 OR s."from" = $4) LIMIT 1)
    RETURNING 1
)
INSERT INTO llm._seal (source, organization_id, "from", "to", reason)
SELECT $1, $2, $3, $4, 'rows gone' WHERE NOT EXISTS (SELECT FROM grown)
