UPDATE llm._state SET last_error = $1, last_error_at = pg_catalog.clock_timestamp()
