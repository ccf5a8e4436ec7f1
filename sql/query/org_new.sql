-- Under REPEATABLE READ an organization that another transaction has made since is 40001, by ON CONFLICT, and not 23505.
INSERT INTO llm._org (organization_id)
SELECT n FROM pg_catalog.unnest($1::text[]) AS n
WHERE NOT EXISTS (SELECT FROM llm._org o WHERE o.organization_id = n)
ON CONFLICT DO NOTHING
