-- What is attached in the catalog: the triggers themselves say which source a relation belongs to, so that a restored dump, a renamed
-- table and a partition tree in flux need no other record.

CREATE FUNCTION llm._capture() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_capture';
COMMENT ON FUNCTION llm._capture() IS 'trigger of attached logs: adds what a statement changed to llm._pending. Arguments: source, version, root, part or moved';

CREATE FUNCTION llm._capture_row() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_capture_row';
COMMENT ON FUNCTION llm._capture_row() IS
    'row trigger of attached logs: what a replication worker applies, and rows that MERGE moves. For everyone, because until 0.1.1 PostgreSQL copied it to new partitions with their maker''s rights; on a table outside the recorded tree of the log that it names it counts nothing';

CREATE FUNCTION llm._read_log(source int, relation regclass, "from" timestamptz, "to" timestamptz, organization text)
    RETURNS SETOF llm._pending
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 100000 AS 'MODULE_PATHNAME', 'llm_read_log';
COMMENT ON FUNCTION llm._read_log(int, regclass, timestamptz, timestamptz, text) IS
    'the rows of a log (relation NULL: all of it; else one table of its tree) read and aggregated as capture does, in the caller''s snapshot, with the log owner''s rights; half-open, organization NULL is all';

CREATE VIEW llm._trigger AS
-- Arguments can be anybody's words: NULL where they are no numbers, so that the view never fails.
SELECT t.tgrelid AS relation,
       CASE WHEN a.arguments[1] OPERATOR(pg_catalog.~) '^[0-9]{1,9}$' THEN a.arguments[1]::int END AS source,
       CASE WHEN a.arguments[2] OPERATOR(pg_catalog.~) '^[0-9]{1,9}$' THEN a.arguments[2]::int END AS version,
       a.arguments[3] AS role
FROM pg_catalog.pg_trigger t
CROSS JOIN LATERAL (SELECT pg_catalog.string_to_array(pg_catalog.encode(t.tgargs, 'escape'), '\000') AS arguments) a
WHERE t.tgname = 'llm_capture_insert' AND t.tgfoid = 'llm._capture()'::pg_catalog.regprocedure;
COMMENT ON VIEW llm._trigger IS 'relations that carry the capture triggers, and the source their arguments name';

CREATE FUNCTION llm._captured_by(relation regclass) RETURNS int
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_captured_by_wrapper';
COMMENT ON FUNCTION llm._captured_by(regclass) IS
    'the source that the capture triggers of a table name, NULL where it has none; as of now, which a REPEATABLE READ transaction''s snapshot may not show';

CREATE FUNCTION llm._tree(root regclass) RETURNS TABLE (relation oid, is_leaf boolean)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT relid::oid, isleaf FROM pg_partition_tree(root)
    UNION
    SELECT c.oid, c.relkind <> 'p' FROM pg_class c WHERE c.oid = root
$$;
COMMENT ON FUNCTION llm._tree(regclass) IS 'the tables of a partition tree, its root included';

CREATE FUNCTION llm._leaf_bounds(leaf regclass, created_at name, OUT "from" timestamptz, OUT "to" timestamptz)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO'
AS $$
-- The bounds of a leaf in created_at. NULL, NULL unless every table above it is range-partitioned on the bare column.
DECLARE
    step record;
    bounds text[];
BEGIN
    "from" := '-infinity';
    "to" := 'infinity';
    FOR step IN
        SELECT pg_get_expr(c.relpartbound, c.oid) AS bound, p.partstrat, p.partnatts, a.attname
        FROM pg_partition_ancestors(leaf) WITH ORDINALITY AS up(relid, depth)
        JOIN pg_class c ON c.oid = up.relid AND c.relispartition
        JOIN pg_inherits i ON i.inhrelid = c.oid
        JOIN pg_partitioned_table p ON p.partrelid = i.inhparent
        LEFT JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
    LOOP
        bounds := regexp_match(step.bound, '^FOR VALUES FROM [(](?:''([^'']+)''|(MINVALUE))[)] TO [(](?:''([^'']+)''|(MAXVALUE))[)]$');
        IF step.partstrat <> 'r' OR step.partnatts <> 1 OR step.attname IS DISTINCT FROM created_at OR bounds IS NULL THEN
            "from" := NULL;
            "to" := NULL;
            RETURN;
        END IF;
        "from" := greatest("from", coalesce(bounds[1]::timestamptz, '-infinity'));
        "to" := least("to", coalesce(bounds[3]::timestamptz, 'infinity'));
    END LOOP;
    IF NOT (SELECT relispartition FROM pg_class WHERE oid = leaf) THEN
        "from" := NULL;
        "to" := NULL;
    END IF;
END
$$;
COMMENT ON FUNCTION llm._leaf_bounds(regclass, name) IS 'bounds of a leaf in created_at, NULL where its tree is not range-partitioned on the bare column';

CREATE VIEW llm._trigger_state AS
SELECT t.tgrelid AS relation,
       t.tgname AS name,
       t.tgenabled AS enabled,
       CASE WHEN t.tgname = 'llm_capture_row' THEN 'R'
            WHEN t.tgname = 'llm_capture_truncate' OR (s.capture = 'statement' AND t.tgname IN ('llm_capture_insert', 'llm_capture_update', 'llm_capture_delete')) THEN 'A'
            ELSE 'O' END::"char" AS wanted,
       s.id AS source
FROM pg_catalog.pg_trigger t
CROSS JOIN LATERAL (SELECT pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), '\000', 1) AS source) a
-- Anybody may make a row trigger with any argument on a table of their own.
JOIN llm.source s ON s.id = CASE WHEN a.source OPERATOR(pg_catalog.~) '^[0-9]{1,9}$' THEN a.source::int END
WHERE t.tgfoid IN ('llm._capture()'::pg_catalog.regprocedure, 'llm._capture_row()'::pg_catalog.regprocedure) AND t.tgname ^@ 'llm_capture_' AND t.tgnargs = 3;
COMMENT ON VIEW llm._trigger_state IS
    'the capture triggers and when they should fire: A (ALWAYS) also in sessions with session_replication_role = replica; R (REPLICA) for the rows that a replication worker applies, for which statement triggers do not fire except for TRUNCATE; with ALWAYS there as well, the initial copy of a subscription would count twice';

CREATE FUNCTION llm._fire_trigger(relation regclass, name name, fires "char") RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_fire_trigger_wrapper';
COMMENT ON FUNCTION llm._fire_trigger(regclass, name, "char") IS 'ALTER TABLE .. ENABLE [ALWAYS | REPLICA] TRIGGER, which no event trigger sees: O, A or R';

CREATE FUNCTION llm._enable_triggers(relation regclass) RETURNS void
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- Not those that were disabled: that was somebody's decision.
    SELECT llm._fire_trigger($1, s.name, s.wanted) FROM llm._trigger_state s WHERE s.relation = $1::oid AND s.enabled NOT IN ('D', s.wanted)
$$;
COMMENT ON FUNCTION llm._enable_triggers(regclass) IS 'has the capture triggers of one table fire when they should';

CREATE VIEW llm._capture_gap AS
-- Not by llm._tree(), which waits for a lock on each table: a log that is locked must not keep the others from being healed.
WITH RECURSIVE member (source, root, relation) AS (
    SELECT r.source, r.relation, r.relation FROM llm._trigger r WHERE r.role = 'root'
    UNION
    SELECT m.source, m.root, i.inhrelid FROM member m JOIN pg_catalog.pg_inherits i ON i.inhparent = m.relation AND NOT i.inhdetachpending
)
SELECT m.source, m.root, m.relation, pg_catalog.count(g.relation) AS triggers
FROM member m
LEFT JOIN llm._trigger_state g ON g.relation = m.relation AND g.source = m.source
    AND g.name IN ('llm_capture_insert', 'llm_capture_update', 'llm_capture_delete', 'llm_capture_truncate')
GROUP BY m.source, m.root, m.relation
HAVING pg_catalog.count(g.relation) < 4 OR pg_catalog.bool_or(g.enabled = 'D')
    OR EXISTS (SELECT FROM llm._trigger_state x WHERE x.relation = m.relation AND x.name = 'llm_capture_row' AND x.enabled = 'D');
COMMENT ON VIEW llm._capture_gap IS 'tables of attached logs whose changes are not seen: of the 4 capture triggers some are missing or disabled';

CREATE FUNCTION llm._install_row_trigger(relation regclass, name text, fires text, condition text, source int, version int, role text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Until 0.1.1 the root had them, and PostgreSQL copies them to partitions that are made below it.
    IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgname = $2) THEN
        EXECUTE format('CREATE TRIGGER %I %s ON %s FOR EACH ROW %s EXECUTE FUNCTION llm._capture_row(%L, %L, %L)',
                       $2, fires, relation, condition, source, version, role);
    END IF;
END
$$;
COMMENT ON FUNCTION llm._install_row_trigger(regclass, text, text, text, int, int, text) IS 'puts one row trigger on a table that holds rows of a log';

CREATE FUNCTION llm._install_triggers(relation regclass, source int, version int, role text, capture text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- Made by the extension's owner, since only it may use llm._capture(). Nothing of the table's is evaluated, because statement triggers
-- have no WHEN and row triggers are on each leaf by itself: on a partitioned table PostgreSQL would open the partition key.
DECLARE
    name text;
    call text := format('EXECUTE FUNCTION llm._capture(%L, %L, %L)', source, version, role);
    is_leaf boolean;
    is_partition boolean;
BEGIN
    SELECT c.relkind <> 'p', c.relispartition INTO is_leaf, is_partition FROM pg_class c WHERE c.oid = relation;
    EXECUTE format('CREATE TRIGGER llm_capture_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS llm_new FOR EACH STATEMENT %s', relation, call);
    EXECUTE format('CREATE TRIGGER llm_capture_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS llm_old NEW TABLE AS llm_new FOR EACH STATEMENT %s', relation, call);
    EXECUTE format('CREATE TRIGGER llm_capture_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS llm_old FOR EACH STATEMENT %s', relation, call);
    EXECUTE format('CREATE TRIGGER llm_capture_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT %s', relation, call);
    IF is_leaf AND capture = 'row' THEN
        PERFORM llm._install_row_trigger(relation, 'llm_capture_row', 'AFTER INSERT OR UPDATE OR DELETE', '', source, version, role);
    END IF;
    IF is_leaf AND is_partition THEN
        -- Says so where a MERGE moves rows to another partition (src/moved.rs).
        PERFORM llm._install_row_trigger(relation, 'llm_capture_moved', 'AFTER DELETE', '', source, version, 'moved');
        -- Never called. PostgreSQL 16 and later show the row that a MERGE inserted last in place of each row it updates after that
        -- (ModifyTable's tcs_original_insert_tuple is not taken back), unless the partition has a BEFORE INSERT row trigger.
        PERFORM llm._install_row_trigger(relation, 'llm_capture_merge', 'BEFORE INSERT', 'WHEN (false)', source, version, 'merge');
    END IF;
    PERFORM llm._enable_triggers(relation);
    -- So that DROP EXTENSION needs no CASCADE and leaves the host's table working.
    FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = relation AND tgfoid IN ('llm._capture()'::regprocedure, 'llm._capture_row()'::regprocedure) AND tgparentid = 0 LOOP
        EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION llm_analytics', name, relation);
    END LOOP;
END
$$;
COMMENT ON FUNCTION llm._install_triggers(regclass, int, int, text, text) IS 'puts the capture triggers on one table of a log''s tree';

CREATE FUNCTION llm._remove_triggers(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text;
BEGIN
    -- That of INSERT first: it makes the table one of a log's (llm._trigger).
    FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = relation AND tgfoid IN ('llm._capture()'::regprocedure, 'llm._capture_row()'::regprocedure) AND tgparentid = 0
        ORDER BY tgname <> 'llm_capture_insert' LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', name, relation);
    END LOOP;
END
$$;
COMMENT ON FUNCTION llm._remove_triggers(regclass) IS 'takes the capture triggers off one table';

CREATE FUNCTION llm._qualified(relation regclass) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation $$;
COMMENT ON FUNCTION llm._qualified(regclass) IS 'schema.name of a table, quoted where needed';

CREATE FUNCTION llm._seal_range(source int, organization text, "from" timestamptz, "to" timestamptz, reason text, leaf regclass DEFAULT NULL) RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO llm._seal (source, organization_id, "from", "to", reason, leaf, leaf_oid)
    SELECT $1, $2, low, high, $5, llm._qualified($6), $6
    FROM (SELECT llm.bucket($3) AS low, CASE WHEN llm.bucket($4) = $4 THEN $4 ELSE llm._next_bucket(llm.bucket($4)) END AS high) widened
    WHERE low < high
$$;
COMMENT ON FUNCTION llm._seal_range(int, text, timestamptz, timestamptz, text, regclass) IS 'declares a range final, widened to buckets';

CREATE FUNCTION llm._leaf_here() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- Fires for the rows of a dump too, whose OIDs are those of another database: which table it is here, the name says; 0 where there is none.
BEGIN
    NEW.leaf_oid := coalesce(to_regclass(NEW.leaf)::oid, 0);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION llm._leaf_here() IS 'trigger of llm._seal and llm._left: the OID of a detached table is the one that its name has in this database';
CREATE TRIGGER leaf_here BEFORE INSERT ON llm._seal FOR EACH ROW WHEN (NEW.leaf IS NOT NULL) EXECUTE FUNCTION llm._leaf_here();
CREATE TRIGGER leaf_here BEFORE INSERT ON llm._left FOR EACH ROW EXECUTE FUNCTION llm._leaf_here();
ALTER TABLE llm._seal ENABLE ALWAYS TRIGGER leaf_here;
ALTER TABLE llm._left ENABLE ALWAYS TRIGGER leaf_here;

CREATE FUNCTION llm._leaf_entered(source llm.source, leaf regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- A table joined the tree. Its rows count from now on, unless it is one that left before: then its range was sealed, or its rows were taken
-- into the kept ones, with these very rows, and comparing them settles what it still holds.
DECLARE
    sealed record;
BEGIN
    WITH unsealed AS (
        DELETE FROM llm._seal s WHERE s.source = ($1).id AND (s.leaf_oid = $2 OR (s.leaf_oid = 0 AND s.leaf = llm._qualified($2))) RETURNING s."from", s."to"
    )
    SELECT min("from") AS "from", max("to") AS "to" INTO sealed FROM unsealed;
    IF sealed."from" IS NOT NULL THEN
        PERFORM llm._rebuild_leaf(($1).id, leaf, sealed."from", sealed."to");
    ELSE
        PERFORM llm._take_entered(($1).id, leaf);
    END IF;
END
$$;
COMMENT ON FUNCTION llm._leaf_entered(llm.source, regclass) IS 'takes in the rows of a table that was attached to a log''s tree';

CREATE FUNCTION llm._leaf_left(source llm.source, leaf regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- A table left the tree by DETACH; its rows are still there to be read.
DECLARE
    known llm._leaf;
    is_leaf boolean := (SELECT relkind <> 'p' FROM pg_class WHERE oid = leaf);
BEGIN
    PERFORM llm._remove_triggers(leaf);
    IF NOT is_leaf THEN
        RETURN;
    END IF;
    SELECT l.* INTO known FROM llm._leaf l JOIN pg_class c ON c.relname = l.leaf_name
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = l.leaf_schema
        WHERE c.oid = leaf AND l.source = ($1).id;
    IF llm._effective_on_delete(($1).on_delete) = 'subtract' THEN
        PERFORM llm._take(($1).id, leaf, 0::smallint, -1);
    ELSIF known."from" IS NOT NULL AND ($1).complete_from <= known."from" THEN
        PERFORM llm._seal_range(($1).id, NULL, known."from", known."to", 'detached leaf', leaf);
    ELSE
        PERFORM llm._take_left(($1).id, leaf);
    END IF;
END
$$;
COMMENT ON FUNCTION llm._leaf_left(llm.source, regclass) IS 'settles the numbers of a table that was detached from a log''s tree';

CREATE FUNCTION llm._leaf_dropped(source llm.source, leaf llm._leaf) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- A table of the tree was dropped; nothing is left to be read.
BEGIN
    IF leaf."from" IS NOT NULL THEN
        PERFORM llm._seal_range(($1).id, NULL, leaf."from", leaf."to", 'dropped leaf');
        RETURN;
    END IF;
    RAISE WARNING USING MESSAGE = format('the numbers of all organizations of log %I.%I are final from now on', ($1).relation_schema, ($1).relation_name),
        DETAIL = format('%I.%I was dropped and held rows that no bound on created_at tells.', leaf.leaf_schema, leaf.leaf_name),
        HINT = 'DETACH a partition before it is dropped: then its rows are counted first.';
    PERFORM llm._seal_range(($1).id, held.organization_id, min(held.bucket), max(llm._next_bucket(held.bucket)), 'dropped')
    FROM (SELECT o.organization_id, r.bucket
          FROM llm._rollup_detail r JOIN llm.series s ON s.id = r.series JOIN llm._org o ON o.org = r.org
          WHERE s.source = ($1).id
          UNION ALL
          SELECT p.organization_id, p.bucket FROM llm._pending p WHERE p.source = ($1).id) held
    GROUP BY held.organization_id;
END
$$;
COMMENT ON FUNCTION llm._leaf_dropped(llm.source, llm._leaf) IS 'seals what a dropped table of a log''s tree held';

CREATE FUNCTION llm._is_known_leaf(relation oid) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN llm._leaf l ON l.leaf_schema = n.nspname AND l.leaf_name = c.relname
        WHERE c.oid = relation AND c.relispartition
    )
$$;
COMMENT ON FUNCTION llm._is_known_leaf(oid) IS 'whether a table is a partition and recorded as one that holds rows of an attached log';

CREATE FUNCTION llm._mark_gap(source_id int, missing boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gap text := (SELECT string_agg(g.relation::regclass::text, ', ' ORDER BY g.relation) FROM llm._capture_gap g WHERE g.source = source_id AND (missing OR g.triggers = 4));
BEGIN
    IF gap IS NOT NULL THEN
        UPDATE llm.source s SET complete_from = 'infinity' WHERE s.id = source_id AND s.state = 'attached' AND s.complete_from <> 'infinity';
        RAISE WARNING USING MESSAGE = format('what changes in %s is not counted from now on', gap),
            DETAIL = 'Capture triggers are disabled or gone.',
            HINT = 'Enable them, or detach and attach the log: then it is read again by the background worker or CALL llm.backfill().';
    END IF;
END
$$;
COMMENT ON FUNCTION llm._mark_gap(int, boolean) IS 'warns where changes of a log are not seen, and has all of it read again once they are; missing: also where triggers are missing, as they are while a dump is restored';

CREATE FUNCTION llm._sync_source(source_id int) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- Brings the record of one source in step with the catalog after a DDL statement: names, columns, and which tables the tree has.
DECLARE
    -- Triggers that came with a restored table may name the source too.
    root regclass := (SELECT t.relation FROM llm._trigger t JOIN llm.source s ON s.id = t.source
                      JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
                      WHERE t.source = source_id AND t.role = 'root'
                      ORDER BY (n.nspname::text, c.relname::text) <> (s.relation_schema, s.relation_name) LIMIT 1);
    src llm.source;
    member record;
BEGIN
    -- A parallel restore may make the triggers before it loads llm.source, and they may have come with the host's tables alone.
    IF root IS NULL OR NOT EXISTS (SELECT FROM llm.source s WHERE s.id = source_id) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = root AND c.relispartition)
       OR EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent WHERE (i.inhrelid = root AND NOT c.relkind = 'p') OR (i.inhparent = root AND c.relkind = 'r')) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('%s is attached as a request log', root),
            DETAIL = 'As a partition, or with inheritance, rows would reach it through another table, where they are not seen.',
            HINT = format('SELECT llm.detach_log(%L) first, then attach the root of the new tree; the numbers stay.', root);
    END IF;
    IF EXISTS (SELECT FROM llm._tree(root) m WHERE llm._captured_by(m.relation::regclass) <> source_id) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('a partition of %s is attached as a request log of its own', root),
            HINT = 'SELECT llm.detach_log(..) of that table first; the numbers stay.';
    END IF;
    -- A detached log that had this name before is not followed; it gives way.
    UPDATE llm.source s SET state = 'dropped' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = root AND s.id <> source_id AND s.state = 'detached' AND s.relation_schema = n.nspname AND s.relation_name = c.relname;
    UPDATE llm.source s SET relation_schema = n.nspname, relation_name = c.relname
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = root AND s.id = source_id AND (s.relation_schema, s.relation_name) IS DISTINCT FROM (n.nspname::text, c.relname::text);
    PERFORM llm._check_mapping(source_id, root);
    SELECT * INTO src FROM llm.source s WHERE s.id = source_id;
    FOR member IN
        SELECT t.relation::regclass AS relation FROM llm._trigger t
        WHERE t.source = source_id AND t.relation <> root AND NOT EXISTS (SELECT FROM llm._tree(root) m WHERE m.relation = t.relation)
    LOOP
        PERFORM llm._leaf_left(src, member.relation);
    END LOOP;
    -- Not those that are known: a restore makes their triggers yet, and nobody has seen what else took them off (llm._heal).
    FOR member IN
        SELECT m.relation::regclass AS relation, m.is_leaf FROM llm._tree(root) m
        WHERE CASE WHEN llm._captured_by(m.relation::regclass) IS NULL
                   THEN NOT EXISTS (SELECT FROM llm._tree(m.relation::regclass) below WHERE llm._is_known_leaf(below.relation)) END
        ORDER BY m.relation
    LOOP
        PERFORM llm._install_triggers(member.relation, source_id, src.version, 'part', src.capture);
        IF member.is_leaf THEN
            PERFORM llm._leaf_entered(src, member.relation);
        END IF;
    END LOOP;
    PERFORM llm._record_leaves(src, root);
    PERFORM llm._mark_gap(source_id, false);
END
$$;
COMMENT ON FUNCTION llm._sync_source(int) IS 'brings the record of a source in step with the catalog';

CREATE FUNCTION llm._record_leaves(source llm.source, root regclass) RETURNS void
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH found AS (
        SELECT n.nspname::text AS leaf_schema, c.relname::text AS leaf_name, b."from", b."to"
        FROM llm._tree(root) m
        JOIN pg_class c ON c.oid = m.relation
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN LATERAL llm._leaf_bounds(m.relation::regclass, ($1).columns -> 'created_at' ->> 'column') b ON true
        WHERE m.is_leaf
    ), gone AS (
        DELETE FROM llm._leaf l WHERE l.source = ($1).id AND NOT EXISTS (SELECT FROM found f WHERE f.leaf_schema = l.leaf_schema AND f.leaf_name = l.leaf_name)
    )
    INSERT INTO llm._leaf AS l (source, leaf_schema, leaf_name, "from", "to")
    SELECT ($1).id, f.leaf_schema, f.leaf_name, f."from", f."to" FROM found f
    ON CONFLICT (leaf_schema, leaf_name) DO UPDATE SET source = EXCLUDED.source, "from" = EXCLUDED."from", "to" = EXCLUDED."to"
    WHERE (l.source, l."from", l."to") IS DISTINCT FROM (EXCLUDED.source, EXCLUDED."from", EXCLUDED."to")
$$;
COMMENT ON FUNCTION llm._record_leaves(llm.source, regclass) IS 'writes the leaves of a log and their bounds to llm._leaf';

CREATE FUNCTION llm._ddl_end() RETURNS event_trigger
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
COMMENT ON FUNCTION llm._ddl_end() IS 'event trigger: follows renames, refuses ALTERs that break a mapping, takes partitions in and settles those that leave';

CREATE FUNCTION llm._trigger_made() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- A dump of the host's tables alone has our triggers, whose number is another log's here: with them two tables would count as one.
-- The number of none at all is let in: a parallel restore may load llm.source after the triggers.
DECLARE
    made record;
BEGIN
    SELECT t.tgname AS name, t.tgrelid::regclass AS relation, format('%I.%I', s.relation_schema, s.relation_name) AS log INTO made
    FROM pg_event_trigger_ddl_commands() c
    JOIN pg_trigger t ON t.oid = c.objid AND t.tgnargs = 3
    CROSS JOIN LATERAL (SELECT split_part(encode(t.tgargs, 'escape'), chr(92) || '000', 1) AS source) a
    JOIN llm.source s ON s.id = CASE WHEN a.source ~ '^[0-9]{1,9}$' THEN a.source::int END
    WHERE c.classid = 'pg_trigger'::regclass AND t.tgfoid IN ('llm._capture()'::regprocedure, 'llm._capture_row()'::regprocedure)
      AND NOT EXISTS (SELECT FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
                      WHERE (r.oid = t.tgrelid OR r.oid IN (SELECT a.relid FROM pg_partition_ancestors(t.tgrelid) a))
                        AND (n.nspname, r.relname) = (s.relation_schema, s.relation_name));
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('trigger %I of %s names the request log %s', made.name, made.relation, made.log),
            DETAIL = 'Such triggers are made by llm.attach_log alone, or restored with the whole database.',
            HINT = format('SELECT llm.attach_log(%L) makes those of this table.', made.relation);
    END IF;
END
$$;
COMMENT ON FUNCTION llm._trigger_made() IS 'event trigger: refuses a capture trigger that names another log (55000)';

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

CREATE FUNCTION llm._dropped() RETURNS event_trigger
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
COMMENT ON FUNCTION llm._dropped() IS 'event trigger: seals what a dropped log or a dropped table of its tree held';

CREATE EVENT TRIGGER llm_analytics_ddl ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'ALTER TABLE', 'ALTER INDEX', 'ALTER VIEW', 'ALTER SCHEMA', 'CREATE SCHEMA', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE',
                 'IMPORT FOREIGN SCHEMA', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER TYPE', 'ALTER DOMAIN', 'ALTER OPERATOR')
    EXECUTE FUNCTION llm._ddl_end();
CREATE EVENT TRIGGER llm_analytics_trigger ON ddl_command_end
    WHEN TAG IN ('CREATE TRIGGER')
    EXECUTE FUNCTION llm._trigger_made();
CREATE EVENT TRIGGER llm_analytics_drop ON sql_drop
    EXECUTE FUNCTION llm._dropped();
-- In sessions with session_replication_role = replica too.
ALTER EVENT TRIGGER llm_analytics_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER llm_analytics_trigger ENABLE ALWAYS;
ALTER EVENT TRIGGER llm_analytics_drop ENABLE ALWAYS;
