-- Rows that are there already do not count: their range ($2: the newest of them) is final, later rows count.
WITH bound AS (
    UPDATE llm.source SET counts_from = coalesce($2 + interval '1 microsecond', '-infinity') WHERE id = $1
)
SELECT llm._seal_range($1, NULL, '-infinity', GREATEST(pg_catalog.now(), $2), 'no history')
