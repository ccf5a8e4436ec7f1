-- A fold of $1 pending rows took $2 ms; $3: nothing is left of what was pending when it began.
UPDATE llm._state
SET last_fold_at = CASE WHEN $1 > 0 THEN pg_catalog.clock_timestamp() ELSE last_fold_at END,
    last_fold_rows = CASE WHEN $1 > 0 THEN $1 ELSE last_fold_rows END,
    last_fold_ms = CASE WHEN $1 > 0 THEN $2 ELSE last_fold_ms END,
    folded_at = CASE WHEN $3 THEN pg_catalog.clock_timestamp() - $2 * interval '1 millisecond' ELSE folded_at END
WHERE $1 > 0 OR ($3 AND coalesce(folded_at < pg_catalog.clock_timestamp() - interval '1 minute', true))
