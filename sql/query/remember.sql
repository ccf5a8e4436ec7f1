-- What ids of a kind ($1) were called ($3), whose they were ($4) and what they belonged to ($5).
INSERT INTO llm._remembered AS r (kind, id, label, owner, parent)
SELECT $1, k.id, k.label, k.owner, k.parent
FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[])) AS k(id, label, owner, parent)
ON CONFLICT (kind, id) DO UPDATE
SET label = coalesce(EXCLUDED.label, r.label), owner = coalesce(EXCLUDED.owner, r.owner), parent = coalesce(EXCLUDED.parent, r.parent)
