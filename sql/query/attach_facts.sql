-- What attach_log decides by, of the relation $1 and the caller $2.
SELECT n.nspname::text AS schema_name,
       c.relname::text AS relation_name,
       c.relkind::text AS kind,
       c.relpersistence = 't' AS is_temporary,
       n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast')
           OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.objid = c.oid AND d.deptype = 'e') AS is_system,
       c.relispartition AS is_partition,
       r.rolsuper AS is_superuser,
       r.rolsuper OR pg_catalog.pg_has_role($2, c.relowner, 'USAGE') AS is_owner,
       (SELECT pg_catalog.string_agg(pg_catalog.format('%s (%I)', m.relation::pg_catalog.regclass, pg_catalog.pg_get_userbyid(f.relowner)), ', '
                                     ORDER BY m.relation)
        FROM llm._tree($1::pg_catalog.regclass) m JOIN pg_catalog.pg_class f ON f.oid = m.relation AND f.relowner <> c.relowner) AS others,
       EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE (i.inhrelid = c.oid AND NOT c.relispartition)
               OR (i.inhparent = c.oid AND c.relkind = 'r')) AS has_inheritance,
       EXISTS (SELECT FROM llm._tree($1::pg_catalog.regclass) m JOIN pg_catalog.pg_class f ON f.oid = m.relation AND f.relkind = 'f') AS has_foreign_leaf,
       EXISTS (SELECT FROM llm._tree($1::pg_catalog.regclass) m JOIN pg_catalog.pg_class f ON f.oid = m.relation AND f.relforcerowsecurity) AS forces_row_security,
       -- Of a tree whose root lost its trigger the partitions still have theirs: it is to be attached again.
       EXISTS (SELECT FROM llm._trigger t JOIN llm.source s ON s.id = t.source WHERE t.role = 'root' AND (t.relation = c.oid
               OR t.relation IN (SELECT m.relation FROM llm._tree($1::pg_catalog.regclass) m))) AS is_attached,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS column_names
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_roles r ON r.oid = $2
WHERE c.oid = $1
