-- The host's tables that are attached as directories, where they are still ordinary tables.
SELECT d.kind, d.columns, c.oid
FROM llm.directory d
JOIN pg_catalog.pg_namespace n ON n.nspname = d.relation_schema::pg_catalog.name
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = d.relation_name::pg_catalog.name AND c.relkind = 'r'
