-- Attaching again unseals what detaching sealed, and with backfill ($3) what an attach without history did; the leaves are recorded anew.
WITH unsealed AS (
    DELETE FROM llm._seal x WHERE x.source = $1 AND (x.reason = 'detached' OR (x.reason = 'no history' AND $3))
)
SELECT llm._record_leaves(s, $2::pg_catalog.regclass) FROM llm.source s WHERE s.id = $1
