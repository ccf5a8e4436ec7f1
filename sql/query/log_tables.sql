-- The tables of attached logs, of one source ($1) or all. Not by pg_partition_tree(), which waits for a lock on each and keeps it.
WITH RECURSIVE tree (relation) AS (
    SELECT t.relation FROM llm._trigger t WHERE t.role = 'root' AND ($1 IS NULL OR t.source = $1)
    UNION
    SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.relation
)
SELECT relation FROM tree
