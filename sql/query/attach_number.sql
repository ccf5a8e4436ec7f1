-- Triggers that came with a dump of the host's tables alone name sources that are not here; their numbers are not given to others.
SELECT pg_catalog.setval('llm.source_id_seq', pg_catalog.max(t.source))
FROM llm._trigger t
HAVING pg_catalog.max(t.source) > (SELECT q.last_value FROM llm.source_id_seq q)
