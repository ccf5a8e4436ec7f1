-- Writes the source: the one this log had before, if it was detached, else a new one. Its number and version are the triggers' arguments.
-- A log that was attached before is always read again: rows may have come and gone meanwhile.
INSERT INTO llm.source AS s (relation_schema, relation_name, columns, preset, on_delete, capture, complete_from)
VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $7 THEN '-infinity' ELSE 'infinity' END::pg_catalog.timestamptz)
ON CONFLICT (relation_schema, relation_name) WHERE state <> 'dropped' DO UPDATE
SET version = s.version + 1, columns = EXCLUDED.columns, preset = EXCLUDED.preset, on_delete = EXCLUDED.on_delete,
    capture = EXCLUDED.capture, state = 'attached', complete_from = 'infinity', counts_from = '-infinity', attached_at = pg_catalog.now()
RETURNING s.id, s.version
