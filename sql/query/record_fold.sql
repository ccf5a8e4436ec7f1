UPDATE llm._state SET last_fold_at = pg_catalog.clock_timestamp(), last_fold_rows = $1, last_fold_ms = $2
