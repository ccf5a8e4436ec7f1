-- 0.1.1: DDL on what is no log or directory does not look at logs and directories any more, which takes a lock on them.

CREATE FUNCTION llm._may_use(columns jsonb, object_type text, object_name text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- Expressions are kept deparsed, so what they use stands in their text; of a cast there is no name, and others may need quotes. Every
    -- table that is dropped drops its types, so without the name each DROP TABLE would look at every log with an expression.
    SELECT $2 IN ('function', 'type', 'operator', 'cast', 'collation') AND EXISTS (
        SELECT FROM jsonb_path_query($1, '$.*.expression') e(text)
        WHERE $2 = 'cast' OR $3 IS NULL OR $3 !~ '^[[:alnum:]_]+$' OR strpos(lower(e.text::text), lower($3)) > 0)
$$;
COMMENT ON FUNCTION llm._may_use(jsonb, text, text) IS 'whether an expression of a mapping may use a dropped object of this type (as pg_event_trigger_dropped_objects has it) and name; rather once too often';
REVOKE ALL ON FUNCTION llm._may_use(jsonb, text, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION llm._ddl_end() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- Runs after every DDL statement on tables, anybody's: leaves at once unless a relation with our triggers is touched.
DECLARE
    found int;
BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() c CROSS JOIN LATERAL pg_partition_ancestors(c.objid::regclass) a
               WHERE c.classid = 'pg_class'::regclass AND c.object_type = 'foreign table' AND a.relid <> c.objid AND llm._captured_by(a.relid) IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = 'an attached request log cannot have a foreign table as a partition',
            DETAIL = 'Rows written on its own server would not be seen.', HINT = 'SELECT llm.detach_log(..) first; the numbers stay.';
    END IF;
    -- Detached tables keep their names up to date: in a dump they are all that tells them.
    IF tg_tag IN ('ALTER TABLE', 'ALTER SCHEMA') THEN
        UPDATE llm._seal s SET leaf = llm._qualified(r.oid)
            FROM pg_event_trigger_ddl_commands() c JOIN pg_class r ON r.oid = c.objid OR r.relnamespace = c.objid
            WHERE s.leaf_oid = r.oid AND s.leaf <> llm._qualified(r.oid);
        UPDATE llm._left l SET leaf = llm._qualified(r.oid)
            FROM pg_event_trigger_ddl_commands() c JOIN pg_class r ON r.oid = c.objid OR r.relnamespace = c.objid
            WHERE l.leaf_oid = r.oid AND l.leaf <> llm._qualified(r.oid);
    END IF;
    -- ENABLE TRIGGER ALL
    PERFORM llm._enable_triggers(c.objid::regclass) FROM pg_event_trigger_ddl_commands() c
    WHERE c.classid = 'pg_class'::regclass AND c.object_type = 'table' AND c.command_tag = 'ALTER TABLE'
      AND EXISTS (SELECT FROM llm._trigger_state s WHERE s.relation = c.objid AND s.enabled NOT IN ('D', s.wanted));
    -- A parallel restore makes tables, partitions and triggers and loads our own tables in any order, and everything is as it was. Should it
    -- add a partition to a log that is in use, llm._heal sees to it.
    IF current_setting('application_name') = 'pg_restore' AND (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = session_user) THEN
        PERFORM llm._mark_gap(s.source, false) FROM (
            SELECT DISTINCT s.source FROM pg_event_trigger_ddl_commands() c JOIN llm._trigger_state s ON s.relation = c.objid
            WHERE c.classid = 'pg_class'::regclass AND s.enabled = 'D'
        ) s;
        RETURN;
    END IF;
    FOR found IN
        -- Apart, so that only these are looked at: to look at a table takes a lock, and other logs may be locked for long.
        WITH near AS MATERIALIZED (
            SELECT up.relid
            FROM pg_event_trigger_ddl_commands() c
            CROSS JOIN LATERAL (
                SELECT c.objid AS relid
                UNION SELECT a.relid::oid FROM pg_partition_ancestors(c.objid::regclass) a
                UNION SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.objid
            ) up
            WHERE c.classid = 'pg_class'::regclass AND c.object_type IN ('table', 'table column')
              -- of a leaf that stays what it is, as when a restore sets its triggers, only what is asked for here
              AND (c.command_tag <> 'ALTER TABLE' OR NOT llm._is_known_leaf(c.objid)
                   OR EXISTS (SELECT FROM llm._trigger_state s WHERE s.relation = c.objid AND s.enabled = 'D')
                   OR EXISTS (SELECT FROM pg_class l WHERE l.oid = c.objid AND l.relforcerowsecurity))
        )
        SELECT t.source FROM near n CROSS JOIN LATERAL (SELECT llm._captured_by(n.relid::regclass) AS source) t WHERE t.source IS NOT NULL
        UNION
        -- an attached log that became part of another tree
        SELECT t.source FROM llm._trigger t JOIN pg_class c ON c.oid = t.relation WHERE t.role = 'root' AND c.relispartition AND tg_tag = 'ALTER TABLE'
        UNION
        -- what expressions of mappings may call was changed
        SELECT s.id FROM llm.source s
        WHERE s.state = 'attached' AND s.columns::text LIKE '%"expression"%'
          AND EXISTS (SELECT FROM pg_event_trigger_ddl_commands() c WHERE c.classid NOT IN ('pg_class'::regclass, 'pg_namespace'::regclass))
        UNION
        SELECT t.source
        FROM pg_event_trigger_ddl_commands() c
        JOIN pg_class r ON r.relnamespace = c.objid
        JOIN llm._trigger t ON t.relation = r.oid
        WHERE c.classid = 'pg_namespace'::regclass
    LOOP
        PERFORM llm._sync_source(found);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION llm._dropped() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone record;
    src llm.source;
    leaf llm._leaf;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d WHERE NOT d.is_temporary AND d.object_type <> 'index') THEN
        RETURN;
    END IF;
    -- What expressions of mappings call, or a mapped column that went with its type. Other logs are left alone: to look at one takes a lock.
    FOR gone IN SELECT s.id, t.relation::regclass AS root FROM llm.source s JOIN llm._trigger t ON t.source = s.id AND t.role = 'root'
        WHERE s.state = 'attached' AND EXISTS (
            SELECT FROM pg_event_trigger_dropped_objects() d
            WHERE (d.object_type = 'table column' AND d.objid = t.relation)
               OR llm._may_use(s.columns, d.object_type, coalesce(d.object_name, d.address_names[2])))
    LOOP
        PERFORM llm._check_mapping(gone.id, gone.root);
    END LOOP;
    -- Capture triggers.
    PERFORM llm._mark_gap(g.source, true) FROM (
        SELECT DISTINCT t.source FROM pg_event_trigger_dropped_objects() d
        CROSS JOIN LATERAL (SELECT to_regclass(format('%I.%I', d.address_names[1], d.address_names[2])) AS relation) host
        JOIN llm._trigger t ON t.relation = host.relation OR t.relation IN (SELECT a.relid FROM pg_partition_ancestors(host.relation) a)
        WHERE d.object_type = 'trigger' AND d.original AND d.address_names[3] ^@ 'llm_capture_' AND t.role = 'root'
    ) g;
    -- A detached table that is dropped never comes back: another of its name holds other rows.
    UPDATE llm._seal s SET leaf = NULL, leaf_oid = NULL FROM pg_event_trigger_dropped_objects() d
        WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND s.leaf_oid = d.objid;
    DELETE FROM llm._left l USING pg_event_trigger_dropped_objects() d
        WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND l.leaf_oid = d.objid;
    FOR gone IN SELECT s AS src FROM pg_event_trigger_dropped_objects() d
        JOIN llm.source s ON s.relation_schema = d.schema_name AND s.relation_name = d.object_name AND s.state <> 'dropped'
        WHERE d.object_type = 'table' AND NOT d.is_temporary
    LOOP
        src := gone.src;
        DELETE FROM llm._left l WHERE l.source = src.id;
        DELETE FROM llm._leaf l WHERE l.source = src.id;
        DELETE FROM llm._seal s WHERE s.source = src.id;
        PERFORM llm._seal_range(src.id, NULL, '-infinity', 'infinity', 'dropped');
        UPDATE llm.source s SET state = 'dropped', complete_from = '-infinity' WHERE s.id = src.id;
    END LOOP;
    FOR gone IN SELECT s AS src, l AS leaf FROM pg_event_trigger_dropped_objects() d
        JOIN llm._leaf l ON l.leaf_schema = d.schema_name AND l.leaf_name = d.object_name
        JOIN llm.source s ON s.id = l.source AND s.state = 'attached'
        WHERE d.object_type = 'table' AND NOT d.is_temporary
    LOOP
        src := gone.src;
        leaf := gone.leaf;
        DELETE FROM llm._leaf l WHERE l.leaf_schema = leaf.leaf_schema AND l.leaf_name = leaf.leaf_name;
        PERFORM llm._leaf_dropped(src, leaf);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION llm._directory_dropped() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
BEGIN
    IF NOT EXISTS (SELECT FROM llm.directory) THEN
        RETURN;
    END IF;
    DELETE FROM llm.directory x USING pg_event_trigger_dropped_objects() d
        WHERE d.object_type = 'table' AND NOT d.is_temporary AND x.relation_schema = d.schema_name AND x.relation_name = d.object_name;
    -- What expressions of mappings call, or a mapped column that went with its type; no other directory is looked at, which takes a lock.
    FOR found IN SELECT t.kind, t.relation FROM llm._directory_trigger t JOIN llm.directory x ON x.kind = t.kind JOIN pg_class c ON c.oid = t.relation
        WHERE c.relnamespace <> 'llm'::regnamespace AND EXISTS (
            SELECT FROM pg_event_trigger_dropped_objects() d
            WHERE (d.object_type = 'table column' AND d.objid = t.relation)
               OR llm._may_use(x.columns, d.object_type, coalesce(d.object_name, d.address_names[2])))
    LOOP
        PERFORM llm._check_directory(found.kind, found.relation);
    END LOOP;
END
$$;
