-- Takes at most $1 pending rows.
DELETE FROM llm._pending WHERE ctid = ANY (ARRAY(SELECT p.ctid FROM llm._pending p LIMIT $1)) RETURNING *
