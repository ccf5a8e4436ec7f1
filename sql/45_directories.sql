-- Directories remember: what a row was called before it is changed or deleted, whether or not anything was folded.

CREATE FUNCTION llm._remember() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_remember';
COMMENT ON FUNCTION llm._remember() IS 'trigger of directories: writes what changed or deleted rows said to llm._remembered. Argument: the kind of directory';

CREATE VIEW llm._directory_trigger AS
SELECT t.tgrelid AS relation, pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), '\000', 1) AS kind
FROM pg_catalog.pg_trigger t
WHERE t.tgfoid = 'llm._remember()'::pg_catalog.regprocedure AND t.tgname ~ '^llm_remember_.*_delete$';
COMMENT ON VIEW llm._directory_trigger IS 'tables that carry the triggers of a directory, and its kind';

CREATE FUNCTION llm._install_directory_triggers(relation regclass, kind text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    call text := format('FOR EACH STATEMENT EXECUTE FUNCTION llm._remember(%L)', kind);
    event text;
BEGIN
    -- They may have come with a dump of the host's tables alone.
    IF EXISTS (SELECT FROM llm._directory_trigger t WHERE t.relation = $1 AND t.kind = $2) THEN
        PERFORM llm._remove_directory_triggers(relation, kind);
    END IF;
    EXECUTE format('CREATE TRIGGER llm_remember_%s_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS llm_old NEW TABLE AS llm_new %s', kind, relation, call);
    EXECUTE format('CREATE TRIGGER llm_remember_%s_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS llm_old %s', kind, relation, call);
    EXECUTE format('CREATE TRIGGER llm_remember_%s_truncate BEFORE TRUNCATE ON %s %s', kind, relation, call);
    -- So that DROP EXTENSION needs no CASCADE and leaves the host's table working.
    IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = relation AND c.relnamespace = 'llm'::regnamespace) THEN
        FOREACH event IN ARRAY '{update,delete,truncate}'::text[] LOOP
            EXECUTE format('ALTER TRIGGER llm_remember_%s_%s ON %s DEPENDS ON EXTENSION llm_analytics', kind, event, relation);
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION llm._install_directory_triggers(regclass, text) IS 'puts the triggers of a directory on its table';

CREATE FUNCTION llm._remove_directory_triggers(relation regclass, kind text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    event text;
BEGIN
    FOREACH event IN ARRAY '{update,delete,truncate}'::text[] LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS llm_remember_%s_%s ON %s', kind, event, relation);
    END LOOP;
END
$$;
COMMENT ON FUNCTION llm._remove_directory_triggers(regclass, text) IS 'takes the triggers of a directory off its table';

SELECT llm._install_directory_triggers(shipped.relation::regclass, shipped.kind)
FROM (VALUES ('llm.organization', 'organization'), ('llm.project', 'project'), ('llm.api_key', 'api_key'), ('llm.app_user', 'user')) shipped(relation, kind);

CREATE FUNCTION llm._clip(id text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_clip_wrapper';
COMMENT ON FUNCTION llm._clip(text) IS
    'an id as the numbers have it: of more than 200 bytes the first ones, # and a hash of all';

CREATE FUNCTION llm._clip_ids() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- Ids of the shipped tables are compared with those of the numbers: by policies, by llm.usage and by llm.forget.
BEGIN
    RETURN jsonb_populate_record(NEW, (SELECT jsonb_object_agg(c.key, llm._clip(c.value)) FROM jsonb_each_text(to_jsonb(NEW)) c
                                       WHERE c.key IN ('id', 'mapping') OR c.key LIKE '%!_id' ESCAPE '!'));
END
$$;
COMMENT ON FUNCTION llm._clip_ids() IS 'trigger of the shipped directories: ids of more than 200 bytes are clipped as those of the numbers';

CREATE TRIGGER clip_ids BEFORE INSERT OR UPDATE ON llm.organization FOR EACH ROW
    WHEN (pg_catalog.octet_length(NEW.id) OPERATOR(pg_catalog.>) 200) EXECUTE FUNCTION llm._clip_ids();
CREATE TRIGGER clip_ids BEFORE INSERT OR UPDATE ON llm.project FOR EACH ROW
    WHEN (pg_catalog.octet_length(pg_catalog.concat(NEW.id, NEW.organization_id)) OPERATOR(pg_catalog.>) 200)
    EXECUTE FUNCTION llm._clip_ids();
CREATE TRIGGER clip_ids BEFORE INSERT OR UPDATE ON llm.api_key FOR EACH ROW
    WHEN (pg_catalog.octet_length(pg_catalog.concat(NEW.id, NEW.project_id, NEW.user_id)) OPERATOR(pg_catalog.>) 200)
    EXECUTE FUNCTION llm._clip_ids();
CREATE TRIGGER clip_ids BEFORE INSERT OR UPDATE ON llm.app_user FOR EACH ROW
    WHEN (pg_catalog.octet_length(NEW.id) OPERATOR(pg_catalog.>) 200) EXECUTE FUNCTION llm._clip_ids();
CREATE TRIGGER clip_ids BEFORE INSERT OR UPDATE ON llm.membership FOR EACH ROW
    WHEN (pg_catalog.octet_length(pg_catalog.concat(NEW.organization_id, NEW.user_id)) OPERATOR(pg_catalog.>) 200)
    EXECUTE FUNCTION llm._clip_ids();
CREATE TRIGGER clip_ids BEFORE INSERT OR UPDATE ON llm.model_alias FOR EACH ROW
    WHEN (pg_catalog.octet_length(NEW.mapping) OPERATOR(pg_catalog.>) 200) EXECUTE FUNCTION llm._clip_ids();

CREATE FUNCTION llm._directory_ddl() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- Runs after DDL statements on tables, anybody's: leaves at once unless an attached directory is touched.
DECLARE
    found record;
BEGIN
    IF NOT EXISTS (SELECT FROM llm.directory) THEN
        RETURN;
    END IF;
    FOR found IN
        SELECT t.relation, t.kind, n.nspname, r.relname
        FROM llm._directory_trigger t
        JOIN pg_class r ON r.oid = t.relation
        JOIN pg_namespace n ON n.oid = r.relnamespace
        WHERE n.nspname <> 'llm' AND EXISTS (
            SELECT FROM pg_event_trigger_ddl_commands() c
            WHERE (c.classid = 'pg_class'::regclass AND c.objid = r.oid) OR (c.classid = 'pg_namespace'::regclass AND c.objid = n.oid)
               -- what expressions of mappings may call was changed
               OR c.classid NOT IN ('pg_class'::regclass, 'pg_namespace'::regclass))
    LOOP
        UPDATE llm.directory d SET relation_schema = found.nspname, relation_name = found.relname
            WHERE d.kind = found.kind AND (d.relation_schema, d.relation_name) IS DISTINCT FROM (found.nspname::text, found.relname::text);
        PERFORM llm._check_directory(found.kind, found.relation);
    END LOOP;
END
$$;
COMMENT ON FUNCTION llm._directory_ddl() IS 'event trigger: follows renames of attached directories and refuses ALTERs that break their mapping';

CREATE FUNCTION llm._directory_dropped() RETURNS event_trigger
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
COMMENT ON FUNCTION llm._directory_dropped() IS 'event trigger: a kind whose table was dropped is read from the shipped table again; refuses to drop what a mapping calls';

CREATE EVENT TRIGGER llm_analytics_directory_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'ALTER INDEX', 'ALTER VIEW', 'ALTER SCHEMA', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER TYPE', 'ALTER DOMAIN', 'ALTER OPERATOR')
    EXECUTE FUNCTION llm._directory_ddl();
CREATE EVENT TRIGGER llm_analytics_directory_drop ON sql_drop
    EXECUTE FUNCTION llm._directory_dropped();
ALTER EVENT TRIGGER llm_analytics_directory_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER llm_analytics_directory_drop ENABLE ALWAYS;
