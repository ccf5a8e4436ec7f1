-- 0.1.2: nothing dangerous. Code of others runs with no more rights than theirs, who asks is the effective user, no log and no
-- organization stops the counting of another.

\echo Use "ALTER EXTENSION llm_analytics UPDATE TO '0.1.2'" to load this file. \quit

-- A binding counts for the role it was made for.
ALTER TABLE llm._binding ADD COLUMN role_oid oid NOT NULL DEFAULT 0;
UPDATE llm._binding b SET role_oid = r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = b.role;


-- Who asks is the effective user, whom SECURITY DEFINER functions cannot know.
ALTER FUNCTION llm.attach_log(regclass, jsonb, text, text, boolean) SECURITY INVOKER;
ALTER FUNCTION llm.detach_log(regclass) SECURITY INVOKER;
ALTER FUNCTION llm.analytics_activity(text, text, date, date, text, text, text, text, int) SECURITY INVOKER;
ALTER FUNCTION llm.activity(text, text, date, date, text, text, text, text) SECURITY INVOKER;
ALTER FUNCTION llm.seal(regclass, timestamptz) SECURITY INVOKER;
ALTER FUNCTION llm.set_retention(regclass, interval) SECURITY INVOKER;
ALTER FUNCTION llm.act_as(text) SECURITY INVOKER;
ALTER FUNCTION llm.current_user_id() SECURITY INVOKER;
ALTER FUNCTION llm._scope() SECURITY INVOKER;
ALTER FUNCTION llm._labels(text) SECURITY INVOKER;
ALTER FUNCTION llm.attach_directory(text, regclass, jsonb) SECURITY INVOKER;
ALTER FUNCTION llm.detach_directory(text) SECURITY INVOKER;
ALTER FUNCTION llm.analytics_project(text, text, date, date, text, text) SECURITY INVOKER;
ALTER FUNCTION llm.analytics_api_key(text, text, date, date, text, text) SECURITY INVOKER;
ALTER FUNCTION llm.analytics_members(text, date, date, text) SECURITY INVOKER;
ALTER FUNCTION llm.members(text, date, date, text) SECURITY INVOKER;
ALTER FUNCTION llm.analytics_member(text, text, date, date, text, text) SECURITY INVOKER;
ALTER FUNCTION llm.analytics_me(text, date, date, text, text) SECURITY INVOKER;
ALTER FUNCTION llm.analytics_drivers(text, date, date, text, date, date) SECURITY INVOKER;
ALTER FUNCTION llm.access(text) SECURITY INVOKER;
ALTER FUNCTION llm.analytics_organizations() SECURITY INVOKER;
ALTER FUNCTION llm.analytics_projects(text) SECURITY INVOKER;
ALTER FUNCTION llm.analytics_api_keys(text, text) SECURITY INVOKER;

CREATE TABLE llm._failure (
    step      text NOT NULL,
    source    int NOT NULL,
    failures  int NOT NULL,
    sqlstate  text NOT NULL,
    failed_at timestamptz NOT NULL,
    retry_at  timestamptz NOT NULL,
    PRIMARY KEY (step, source)
);

ALTER TABLE llm._failure ENABLE ROW LEVEL SECURITY;

COMMENT ON TABLE llm._failure IS
    'steps of llm.maintain and of the worker that fail: how often in a row, and when they are tried again; source 0: not of one log. The row goes when the step succeeds';

COMMENT ON COLUMN llm._binding.role_oid IS 'the role that the binding was made for: it does not count for another role of that name, which a restore, a rename or a new CREATE ROLE may bring. 0: not confirmed since it was restored';

CREATE FUNCTION llm._binding_is_new() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- Fires for the rows of a dump too. Another server may have given the number to another role of the same name, so llm.bind_role writes
-- it after the row.
BEGIN
    NEW.role_oid := 0;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION llm._binding_is_new() IS 'trigger of llm._binding: a row that comes in counts once llm.bind_role confirms it';

CREATE TRIGGER binding_is_new BEFORE INSERT ON llm._binding FOR EACH ROW EXECUTE FUNCTION llm._binding_is_new();

ALTER TABLE llm._binding ENABLE ALWAYS TRIGGER binding_is_new;

CREATE FUNCTION llm._measures_eq(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteaeq';

CREATE FUNCTION llm._measures_ne(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteane';

CREATE FUNCTION llm._measures_lt(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'bytealt';

CREATE FUNCTION llm._measures_le(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteale';

CREATE FUNCTION llm._measures_gt(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteagt';

CREATE FUNCTION llm._measures_ge(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteage';

CREATE FUNCTION llm._measures_cmp(llm.measures, llm.measures) RETURNS int
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteacmp';

CREATE FUNCTION llm._measures_hash(llm.measures) RETURNS int
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'hashvarlena';

CREATE FUNCTION llm._measures_hash(llm.measures, bigint) RETURNS bigint
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'hashvarlenaextended';

COMMENT ON FUNCTION llm._measures_eq(llm.measures, llm.measures) IS 'implementation of = operator';

COMMENT ON FUNCTION llm._measures_ne(llm.measures, llm.measures) IS 'implementation of <> operator';

COMMENT ON FUNCTION llm._measures_lt(llm.measures, llm.measures) IS 'implementation of < operator';

COMMENT ON FUNCTION llm._measures_le(llm.measures, llm.measures) IS 'implementation of <= operator';

COMMENT ON FUNCTION llm._measures_gt(llm.measures, llm.measures) IS 'implementation of > operator';

COMMENT ON FUNCTION llm._measures_ge(llm.measures, llm.measures) IS 'implementation of >= operator';

COMMENT ON FUNCTION llm._measures_cmp(llm.measures, llm.measures) IS 'order of llm.measures, without a meaning';

COMMENT ON FUNCTION llm._measures_hash(llm.measures) IS 'hash of llm.measures';

COMMENT ON FUNCTION llm._measures_hash(llm.measures, bigint) IS 'hash of llm.measures, with a seed';

CREATE OPERATOR llm.= (
    FUNCTION = llm._measures_eq, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.=), NEGATOR = OPERATOR(llm.<>),
    RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel, HASHES, MERGES
);

COMMENT ON OPERATOR llm.= (llm.measures, llm.measures) IS 'equals';

CREATE OPERATOR llm.<> (
    FUNCTION = llm._measures_ne, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.<>), NEGATOR = OPERATOR(llm.=),
    RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel
);

COMMENT ON OPERATOR llm.<> (llm.measures, llm.measures) IS 'does not equal';

CREATE OPERATOR llm.< (
    FUNCTION = llm._measures_lt, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.>), NEGATOR = OPERATOR(llm.>=),
    RESTRICT = pg_catalog.scalarltsel, JOIN = pg_catalog.scalarltjoinsel
);

COMMENT ON OPERATOR llm.< (llm.measures, llm.measures) IS 'is before';

CREATE OPERATOR llm.<= (
    FUNCTION = llm._measures_le, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.>=), NEGATOR = OPERATOR(llm.>),
    RESTRICT = pg_catalog.scalarlesel, JOIN = pg_catalog.scalarlejoinsel
);

COMMENT ON OPERATOR llm.<= (llm.measures, llm.measures) IS 'is before or equals';

CREATE OPERATOR llm.> (
    FUNCTION = llm._measures_gt, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.<), NEGATOR = OPERATOR(llm.<=),
    RESTRICT = pg_catalog.scalargtsel, JOIN = pg_catalog.scalargtjoinsel
);

COMMENT ON OPERATOR llm.> (llm.measures, llm.measures) IS 'is after';

CREATE OPERATOR llm.>= (
    FUNCTION = llm._measures_ge, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.<=), NEGATOR = OPERATOR(llm.<),
    RESTRICT = pg_catalog.scalargesel, JOIN = pg_catalog.scalargejoinsel
);

COMMENT ON OPERATOR llm.>= (llm.measures, llm.measures) IS 'is after or equals';

CREATE OPERATOR CLASS llm.measures_ops DEFAULT FOR TYPE llm.measures USING btree AS
    OPERATOR 1 llm.<, OPERATOR 2 llm.<=, OPERATOR 3 llm.=, OPERATOR 4 llm.>=, OPERATOR 5 llm.>,
    FUNCTION 1 llm._measures_cmp(llm.measures, llm.measures);

COMMENT ON OPERATOR CLASS llm.measures_ops USING btree IS 'order of llm.measures, without a meaning';

COMMENT ON OPERATOR FAMILY llm.measures_ops USING btree IS 'order of llm.measures, without a meaning';

CREATE OPERATOR CLASS llm.measures_ops DEFAULT FOR TYPE llm.measures USING hash AS
    OPERATOR 1 llm.=,
    FUNCTION 1 llm._measures_hash(llm.measures),
    FUNCTION 2 llm._measures_hash(llm.measures, bigint);

COMMENT ON OPERATOR CLASS llm.measures_ops USING hash IS 'hashing of llm.measures';

COMMENT ON OPERATOR FAMILY llm.measures_ops USING hash IS 'hashing of llm.measures';

COMMENT ON FUNCTION llm.attach_log(regclass, jsonb, text, text, boolean) IS
    'attaches a request log: from now on every change is counted, and existing rows are backfilled by the worker or CALL llm.backfill(). columns maps canonical fields to a column or an SQL expression; NULL recognises the table (canonical names, LLM Gateway, LiteLLM). on_delete: keep | subtract; capture: statement | row (also rows a replication worker applies). Returns what was understood. The caller owns the table, or is a superuser; a superuser alone attaches a tree whose partitions belong to several roles. Errors: 22023, 22004, 42703, 42804, 42809, 42P17, 42501, 42710, 55000, 55P03';

CREATE OR REPLACE FUNCTION llm.create_request_log(name text DEFAULT 'public.request_log') RETURNS regclass
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_create_request_log_wrapper';

COMMENT ON FUNCTION llm.create_request_log(text) IS
    'makes a request log with the canonical columns, an ordinary table partitioned by month (UTC) with a default partition, owned by the caller and made with the caller''s rights, and attaches it. Months are made ahead of time with the rights of its owner, who needs CREATE on the schema. Errors: 22004, 42501, 42602, 42P07, 3F000';

CREATE FUNCTION llm._run_as(role oid, command text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_run_as_wrapper';

COMMENT ON FUNCTION llm._run_as(oid, text) IS 'runs one command as a role, in a security-restricted operation';

CREATE FUNCTION llm._run_as_owner(relation regclass, command text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_run_as_owner_wrapper';

COMMENT ON FUNCTION llm._run_as_owner(regclass, text) IS
    'runs one command as the owner of a table of the host, in a security-restricted operation: what DDL makes PostgreSQL evaluate of the table gets no more rights than its owner has';

CREATE OR REPLACE FUNCTION llm._create_request_log(name text, owner oid) RETURNS regclass
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC'
AS $$
DECLARE
    parts text[] := parse_ident(name);
    log text;
BEGIN
    IF array_length(parts, 1) = 1 THEN
        parts := ARRAY['public'] || parts;
    ELSIF array_length(parts, 1) <> 2 THEN
        RAISE EXCEPTION USING ERRCODE = '42602', MESSAGE = 'invalid name for a request log', HINT = 'Use name or schema.name.';
    END IF;
    IF NOT has_schema_privilege(owner, parts[1], 'CREATE') THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('permission denied for schema %I', parts[1]),
            HINT = 'Name a schema in which you may create tables, or GRANT CREATE ON SCHEMA: next month''s partitions are made with the same rights.';
    END IF;
    IF octet_length(parts[2]) > 55 THEN
        RAISE EXCEPTION USING ERRCODE = '42602', MESSAGE = 'name of a request log is too long', HINT = 'Use at most 55 bytes: its partitions add _default or _YYYY_MM.';
    END IF;
    log := format('%I.%I', parts[1], parts[2]);
    PERFORM llm._run_as(owner, format($sql$
        CREATE TABLE %s (
            id                     uuid NOT NULL DEFAULT gen_random_uuid(),
            created_at             timestamptz NOT NULL DEFAULT now(),
            organization_id        text NOT NULL,
            project_id             text,
            api_key_id             text NOT NULL,
            user_id                text,
            model                  text NOT NULL,
            provider               text,
            application            text,
            mode                   text,
            input_tokens           bigint,
            output_tokens          bigint,
            total_tokens           bigint GENERATED ALWAYS AS (coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) STORED,
            reasoning_tokens       bigint,
            cached_tokens          bigint,
            cache_write_tokens     bigint,
            cost                   numeric NOT NULL DEFAULT 0,
            input_cost             numeric,
            output_cost            numeric,
            cached_input_cost      numeric,
            request_cost           numeric,
            is_error               boolean NOT NULL DEFAULT false,
            is_client_error        boolean NOT NULL DEFAULT false,
            is_cached              boolean NOT NULL DEFAULT false,
            is_streamed            boolean NOT NULL DEFAULT false,
            is_canceled            boolean NOT NULL DEFAULT false,
            duration_ms            bigint,
            time_to_first_token_ms bigint,
            PRIMARY KEY (created_at, id)
        ) PARTITION BY RANGE (created_at)$sql$, log));
    -- Whatever month a row is of, there is a place for it: an insert never fails for want of a partition.
    PERFORM llm._run_as(owner, format('CREATE TABLE %I.%I PARTITION OF %s DEFAULT', parts[1], parts[2] || '_default', log));
    PERFORM llm._create_month(log::regclass, date_trunc('month', now()) + make_interval(months => m)) FROM generate_series(-1, 2) AS m;
    RETURN log::regclass;
END
$$;

COMMENT ON FUNCTION llm._create_request_log(text, oid) IS 'the table behind llm.create_request_log, made with the rights of its owner';

CREATE FUNCTION llm._fold_step("from" bigint) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS 'MODULE_PATHNAME', 'llm_fold_from_wrapper';

COMMENT ON FUNCTION llm._fold_step(bigint) IS 'folds one batch, from a block of llm._pending on; the block where the next batch goes on, NULL where the table ends';

CREATE FUNCTION llm._drained_at() RETURNS timestamptz
    LANGUAGE c VOLATILE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_drained_at_wrapper';

COMMENT ON FUNCTION llm._drained_at() IS 'when a fold last found nothing pending, as shared memory has it; NULL where it does not';

CREATE FUNCTION llm._backfill_step(source int) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS 'MODULE_PATHNAME', 'llm_backfill_source_wrapper';

COMMENT ON FUNCTION llm._backfill_step(int) IS 'backfills a stretch of a log; says what was done, NULL when there is nothing to do';

CREATE FUNCTION llm._is_waiting(step text, source int) RETURNS boolean
    LANGUAGE sql VOLATILE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM llm._failure f WHERE f.step = $1 AND f.source = $2 AND f.retry_at > clock_timestamp())
$$;

COMMENT ON FUNCTION llm._is_waiting(text, int) IS 'whether a step failed for a log (0: for none in particular) so lately that it is not tried again yet';

CREATE FUNCTION llm._failed(step text, source int, state text, message text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- The text of a server's error can hold values of a row, so the server's log alone has it.
DECLARE
    what text := step || coalesce((SELECT format(' of %I.%I', s.relation_schema, s.relation_name) FROM llm.source s WHERE s.id = $2), '');
    pause interval := coalesce(current_setting('llm.fold_interval', true), '10s')::interval;
BEGIN
    INSERT INTO llm._failure AS f (step, source, failures, sqlstate, failed_at, retry_at)
    VALUES ($1, $2, 1, $3, clock_timestamp(), clock_timestamp() + 2 * pause)
    ON CONFLICT ON CONSTRAINT _failure_pkey DO UPDATE
    SET failures = f.failures + 1, sqlstate = EXCLUDED.sqlstate, failed_at = EXCLUDED.failed_at,
        retry_at = EXCLUDED.failed_at + 2 ^ least(f.failures + 1, 6) * pause;
    UPDATE llm._state SET last_error = format('%s: %s failed', state, what), last_error_at = clock_timestamp();
    RAISE WARNING USING ERRCODE = state, MESSAGE = format('llm_analytics: %s failed', what), DETAIL = 'The server''s log has more.';
    RAISE LOG USING ERRCODE = state, MESSAGE = format('llm_analytics: %s failed: %s', what, message);
END
$$;

COMMENT ON FUNCTION llm._failed(text, int, text, text) IS 'records that a step failed: it is tried again after a pause that doubles with each failure, up to 64 times llm.fold_interval';

CREATE FUNCTION llm._retry_now() RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE llm._failure f SET retry_at = clock_timestamp() WHERE f.retry_at > clock_timestamp()
$$;

COMMENT ON FUNCTION llm._retry_now() IS 'steps that failed need not wait any longer';

CREATE OR REPLACE FUNCTION llm._heal() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $$
-- A leaf without its triggers (restored, or made while event triggers were off) gets them, and its rows are counted. Only where the root
-- has its own: during a restore they come last.
DECLARE
    broken record;
    leaf regclass;
BEGIN
    FOR broken IN
        SELECT s AS source, g.root::regclass AS root, array_agg(g.relation::regclass ORDER BY g.relation) AS leaves
        FROM llm._capture_gap g JOIN llm.source s ON s.id = g.source
        WHERE g.triggers = 0 AND NOT llm._is_waiting('heal', s.id)
        GROUP BY s.id, g.root
    LOOP
        BEGIN
            FOREACH leaf IN ARRAY broken.leaves LOOP
                PERFORM llm._install_triggers(leaf, (broken.source).id, (broken.source).version, 'part', (broken.source).capture);
            END LOOP;
            PERFORM llm._record_leaves(broken.source, broken.root);
            -- What the leaves missed is not known, so the whole source is read again.
            UPDATE llm.source s SET complete_from = 'infinity' WHERE s.id = (broken.source).id;
        EXCEPTION
            WHEN OTHERS OR assert_failure THEN
                PERFORM llm._failed('heal', (broken.source).id, SQLSTATE, SQLERRM);
        END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION llm._heal() IS 'puts triggers on leaves that lost them and has their source read again; what fails for one log is recorded';

CREATE FUNCTION llm._backfill_any() RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $$
DECLARE
    log int;
    done text;
BEGIN
    FOR log IN SELECT s.id FROM llm.source s WHERE s.state = 'attached' AND s.complete_from > '-infinity' ORDER BY s.id LOOP
        IF NOT llm._is_waiting('backfill', log) THEN
            BEGIN
                done := llm._backfill_step(log);
                IF done IS NOT NULL THEN
                    DELETE FROM llm._failure f WHERE f.step = 'backfill' AND f.source = log;
                    RETURN done;
                END IF;
            EXCEPTION
                WHEN OTHERS OR assert_failure THEN
                    PERFORM llm._failed('backfill', log, SQLSTATE, SQLERRM);
            END;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION llm._backfill_any() IS 'backfills a stretch of the first log that has one left; what fails for one log is recorded and keeps no other from it';

CREATE FUNCTION llm._trim_pending() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
-- Every read looks at every block of llm._pending. So after a backlog autovacuum cuts its empty end off, and comes again as long as a row
-- is dead. Otherwise it must not: each cut takes an ACCESS EXCLUSIVE lock, which a standby replays against whoever reads there.
DECLARE
    blocks bigint := pg_relation_size('llm._pending') / current_setting('block_size')::int;
    is_off boolean := (SELECT 'vacuum_truncate=off' = ANY (c.reloptions) FROM pg_class c WHERE c.oid = 'llm._pending'::regclass);
BEGIN
    IF blocks >= 4096 AND is_off THEN
        ALTER TABLE llm._pending SET (vacuum_truncate = on, autovacuum_vacuum_threshold = 0);
    ELSIF blocks < 512 AND NOT is_off THEN
        ALTER TABLE llm._pending SET (vacuum_truncate = off, autovacuum_vacuum_threshold = 20000);
    END IF;
EXCEPTION
    WHEN lock_not_available THEN
        -- Autovacuum is at work. The next round is early enough.
        RETURN;
END
$$;

COMMENT ON FUNCTION llm._trim_pending() IS 'has autovacuum give back the space of llm._pending while that is large';

CREATE FUNCTION llm._attempt(step text, "from" bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- The caller commits after each call, so that no step waits for or undoes another.
DECLARE
    started timestamptz := clock_timestamp();
    goes_on bigint;
    done text;
BEGIN
    IF llm._is_waiting(step, 0) THEN
        RETURN NULL;
    END IF;
    BEGIN
        CASE step
            WHEN 'fold' THEN
                goes_on := llm._fold_step("from");
            WHEN 'heal' THEN
                PERFORM llm._heal();
            WHEN 'tend' THEN
                PERFORM llm._trim_pending();
                done := llm._tend();
                IF done IS NOT NULL THEN
                    RAISE LOG 'llm_analytics: %', done;
                    goes_on := 0;
                END IF;
            WHEN 'backfill' THEN
                goes_on := CASE WHEN llm._backfill_any() IS NOT NULL THEN 0 END;
        END CASE;
    EXCEPTION
        WHEN OTHERS OR assert_failure THEN
            PERFORM llm._failed(step, 0, SQLSTATE, SQLERRM);
            RETURN NULL;
    END;
    -- What was due and did not fail again is well, or is no more.
    DELETE FROM llm._failure f
    WHERE f.step = $1 AND f.failed_at < started AND f.retry_at <= started AND (f.source = 0 OR goes_on IS NULL);
    RETURN goes_on;
END
$$;

COMMENT ON FUNCTION llm._attempt(text, bigint) IS
    'fold, heal, tend or backfill: does a piece of it, from where the last one stopped (0: the beginning). Where to go on, NULL when nothing is left; an error is recorded in llm._failure and not raised';

CREATE OR REPLACE PROCEDURE llm.maintain() LANGUAGE plpgsql AS $$
-- As llm.backfill().
DECLARE
    step pg_catalog.text;
    goes_on pg_catalog.int8;
BEGIN
    COMMIT;
    -- Who calls this may just have mended what was wrong.
    PERFORM llm._retry_now();
    FOREACH step IN ARRAY ARRAY['fold', 'heal', 'tend', 'backfill'] LOOP
        goes_on := 0;
        WHILE goes_on IS NOT NULL LOOP
            COMMIT;
            goes_on := llm._attempt(step, goes_on);
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON PROCEDURE llm.maintain() IS
    'what the background worker does, for servers without shared_preload_libraries: folds, heals, makes and drops partitions of managed logs, backfills. From pg_cron or any scheduler. What fails is a WARNING and shown by llm.status, and the rest is done. Errors: 2D000 inside a transaction block';

CREATE OR REPLACE FUNCTION llm._create_month(log regclass, first timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC'
AS $$
-- Made on its own and attached: that lets writers of the other partitions go on, which CREATE TABLE .. PARTITION OF does not. As the
-- owner of the log, whose CHECKs, defaults and index expressions are evaluated on the way.
DECLARE
    part text := (SELECT format('%I.%I', n.nspname, c.relname || to_char(first, '"_"YYYY"_"MM'))
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = log);
BEGIN
    PERFORM llm._run_as_owner(log, format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)', part, log));
    PERFORM llm._run_as_owner(log, format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', log, part, first, first + interval '1 month'));
END
$$;

COMMENT ON FUNCTION llm._create_month(regclass, timestamptz) IS 'makes the partition of the month that begins at an instant (UTC), with the rights of the log''s owner';

CREATE OR REPLACE FUNCTION llm._tend() RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET lock_timeout = '500ms'
AS $$
-- One partition made or dropped a transaction: whoever waits behind our lock waits for that only.
DECLARE
    managed record;
    month timestamptz;
    old text;
BEGIN
    <<logs>>
    FOR managed IN
        SELECT s.id, t.relation::regclass AS log, s.retention, s.complete_from FROM llm.source s JOIN llm._trigger t ON t.source = s.id AND t.role = 'root'
        WHERE s.is_managed AND s.state = 'attached' AND NOT llm._is_waiting('tend', s.id) ORDER BY s.id
    LOOP
        BEGIN
            FOR month IN SELECT date_trunc('month', now()) + make_interval(months => m) FROM generate_series(0, 2) AS m LOOP
                -- A month whose rows are in the default partition already stays there.
                IF NOT EXISTS (SELECT FROM llm._leaf l WHERE l.source = managed.id AND l."from" < month + interval '1 month' AND l."to" > month)
                   AND NOT llm._has_rows(managed.id, month, month + interval '1 month') THEN
                    -- The worker and a scheduler may tend a log at the same time, and would wait for each other's locks.
                    PERFORM FROM llm.source s WHERE s.id = managed.id FOR UPDATE SKIP LOCKED;
                    CONTINUE logs WHEN NOT FOUND
                        OR EXISTS (SELECT FROM llm._leaf l WHERE l.source = managed.id AND l."from" < month + interval '1 month' AND l."to" > month);
                    PERFORM llm._create_month(managed.log, month);
                    DELETE FROM llm._failure f WHERE f.step = 'tend' AND f.source = managed.id;
                    RETURN format('partition of %s for %s made', managed.log, to_char(month, 'YYYY-MM'));
                END IF;
            END LOOP;
            IF managed.complete_from = '-infinity' THEN
                SELECT format('%I.%I', l.leaf_schema, l.leaf_name) INTO old FROM llm._leaf l
                WHERE l.source = managed.id AND isfinite(l."to") AND l."to" <= now() - managed.retention ORDER BY l."to" LIMIT 1;
                IF old IS NOT NULL THEN
                    PERFORM FROM llm.source s WHERE s.id = managed.id FOR UPDATE SKIP LOCKED;
                    CONTINUE logs WHEN NOT FOUND OR to_regclass(old) IS NULL;
                    -- What sees it go (llm._dropped) seals its range.
                    PERFORM llm._run_as_owner(managed.log, format('DROP TABLE %s', old));
                    DELETE FROM llm._failure f WHERE f.step = 'tend' AND f.source = managed.id;
                    RETURN format('partition %s sealed and dropped', old);
                END IF;
            END IF;
        EXCEPTION
            WHEN OTHERS OR assert_failure THEN
                PERFORM llm._failed('tend', managed.id, SQLSTATE, SQLERRM);
        END;
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION llm._tend() IS 'makes a partition of a managed log ahead of time (this month and two more), or seals and drops one that is past its retention; what was done, NULL when nothing is to be done. What fails for one log is recorded and keeps no other from it';

COMMENT ON FUNCTION llm.act_as(text) IS
    'for backends whose users share one role: until the end of this transaction the caller is this user of the host application. Undone with its savepoint; no setting. In a SECURITY DEFINER function it holds only where the owner of the function may call llm.act_as too. Grant EXECUTE to the backend''s role only. Errors: 22004, 22023 (empty), 42501 where another user was said before, the role is bound, or in a security-restricted operation (ANALYZE, REFRESH MATERIALIZED VIEW, ..)';

COMMENT ON FUNCTION llm.bind_role(text, text, boolean) IS
    'makes a database role (exactly it, not its members) this user of the host application, or, with all_organizations, a service that sees everything and does its own checks. At once, also in open connections. A binding counts for the role it was made for: after a restore, a rename or a new role of that name call it again. Errors: 22004, 22023 unless exactly one of both is given, 42704 (no such role)';

COMMENT ON FUNCTION llm.unbind_role(text) IS 'undoes llm.bind_role, also of a role that is gone. Errors: 22004, 42704 (not bound)';

COMMENT ON FUNCTION llm._scope() IS
    'what the caller may see, for the policies, in one row: organizations (llm._org) they belong to, those they see all of, both as ids, their own API keys and the series of these in levels detail and key, and whether they see everything (then without ids). Says nothing about anybody else. Errors: 28000 where the current user has no identity in a SECURITY DEFINER function or a security-restricted operation';

COMMENT ON FUNCTION llm._labels(text) IS
    'names (and owners of API keys) of the ids that occur in usage the caller may see, from the directory of that kind (organization, project, api_key, user), else as they were last known. Errors: 22004, 22023, and those of llm._scope';

COMMENT ON FUNCTION llm.access(text) IS
    'what the caller may open for an organization, and why not (no_identity, not_member, role_required, plan_required), as JSON; organization, plan and role are null for whoever is no member. Fails only where a directory of the host cannot be read';

COMMENT ON FUNCTION llm._capture_row() IS
    'row trigger of attached logs: what a replication worker applies, and rows that MERGE moves. For everyone, because until 0.1.1 PostgreSQL copied it to new partitions with their maker''s rights; on a table outside the recorded tree of the log that it names it counts nothing';

CREATE OR REPLACE VIEW llm._trigger AS
-- Arguments can be anybody's words: NULL where they are no numbers, so that the view never fails.
SELECT t.tgrelid AS relation,
       CASE WHEN a.arguments[1] OPERATOR(pg_catalog.~) '^[0-9]{1,9}$' THEN a.arguments[1]::int END AS source,
       CASE WHEN a.arguments[2] OPERATOR(pg_catalog.~) '^[0-9]{1,9}$' THEN a.arguments[2]::int END AS version,
       a.arguments[3] AS role
FROM pg_catalog.pg_trigger t
CROSS JOIN LATERAL (SELECT pg_catalog.string_to_array(pg_catalog.encode(t.tgargs, 'escape'), '\000') AS arguments) a
WHERE t.tgname = 'llm_capture_insert' AND t.tgfoid = 'llm._capture()'::pg_catalog.regprocedure;

CREATE OR REPLACE VIEW llm._trigger_state AS
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

CREATE OR REPLACE VIEW llm._capture_gap AS
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

CREATE OR REPLACE FUNCTION llm._install_triggers(relation regclass, source int, version int, role text, capture text) RETURNS void
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

CREATE OR REPLACE FUNCTION llm._sync_source(source_id int) RETURNS void
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

CREATE OR REPLACE FUNCTION llm._trigger_made() RETURNS event_trigger
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

CREATE OR REPLACE VIEW llm.usage WITH (security_invoker = true, security_barrier = true) AS
SELECT u.bucket,
       u.organization_id,
       coalesce(o.label, u.organization_id) AS organization,
       nullif(u.project_id, '') AS project_id,
       coalesce(p.label, nullif(u.project_id, ''), 'Unattributed') AS project,
       nullif(u.api_key_id, '') AS api_key_id,
       coalesce(k.label, nullif(u.api_key_id, ''), 'Unattributed') AS api_key,
       coalesce(nullif(u.user_id, ''), k.owner) AS user_id,
       coalesce(a.label, nullif(u.user_id, ''), k.owner, 'Unattributed') AS user_name,
       nullif(coalesce(m.canonical, llm.canonical_model(u.mapping)), '') AS model,
       nullif(u.mapping, '') AS mapping,
       nullif(u.provider, '') AS provider,
       nullif(u.application, '') AS application,
       nullif(u.mode, '') AS mode,
       llm._count(u.measures, 0) AS requests,
       llm._count(u.measures, 1) AS errors,
       llm._count(u.measures, 2) AS client_errors,
       llm._count(u.measures, 3) AS cache_hits,
       llm._count(u.measures, 4) AS streamed,
       llm._count(u.measures, 5) AS canceled,
       llm._count(u.measures, 6) AS input_tokens,
       llm._count(u.measures, 7) AS output_tokens,
       llm._count(u.measures, 8) AS total_tokens,
       llm._count(u.measures, 9) AS reasoning_tokens,
       llm._count(u.measures, 10) AS cached_tokens,
       llm._count(u.measures, 11) AS cache_write_tokens,
       llm._count(u.measures, 12) AS duration_ms,
       llm._count(u.measures, 13) AS duration_count,
       llm._count(u.measures, 14) AS time_to_first_token_ms,
       llm._count(u.measures, 15) AS time_to_first_token_count,
       llm._amount(u.measures, 0) AS cost,
       llm._amount(u.measures, 1) AS input_cost,
       llm._amount(u.measures, 2) AS output_cost,
       llm._amount(u.measures, 3) AS cached_input_cost,
       llm._amount(u.measures, 4) AS request_cost
FROM (
    SELECT r.bucket, g.organization_id, s.project_id, s.api_key_id, s.user_id, s.mapping, s.provider, s.application, s.mode, r.measures
    FROM llm._rollup_detail r
    JOIN llm.series s ON s.id = r.series
    JOIN llm._org g ON g.org = r.org
    WHERE ((SELECT c.everything FROM llm._scope() c) OR s.org = ANY ((SELECT c.whole FROM llm._scope() c)::int[])
           OR s.id = ANY ((SELECT c.series FROM llm._scope() c)::int[]))::int <> 0
    UNION ALL
    SELECT n.bucket, n.organization_id, n.project_id, n.api_key_id, n.user_id, n.mapping, n.provider, n.application, n.mode, n.measures
    FROM llm._pending n
    WHERE n.kind = 0
      AND ((SELECT c.everything FROM llm._scope() c) OR n.organization_id = ANY ((SELECT c.whole_ids FROM llm._scope() c)::text[])
           OR (n.organization_id = ANY ((SELECT c.org_ids FROM llm._scope() c)::text[])
               AND n.api_key_id = ANY ((SELECT c.keys FROM llm._scope() c)::text[])))::int <> 0
) u
-- Grouped, so that the planner knows each id occurs once and leaves out the joins whose columns are not asked for.
LEFT JOIN (SELECT l.id, pg_catalog.min(l.label) AS label FROM llm._labels('organization') l GROUP BY l.id) o ON o.id = u.organization_id
LEFT JOIN (SELECT l.id, pg_catalog.min(l.label) AS label FROM llm._labels('project') l GROUP BY l.id) p ON p.id = u.project_id
LEFT JOIN (SELECT l.id, pg_catalog.min(l.label) AS label, pg_catalog.min(l.owner) AS owner FROM llm._labels('api_key') l GROUP BY l.id) k ON k.id = u.api_key_id
LEFT JOIN (SELECT l.id, pg_catalog.min(l.label) AS label FROM llm._labels('user') l GROUP BY l.id) a ON a.id = coalesce(nullif(u.user_id, ''), k.owner)
LEFT JOIN llm.model_alias m ON m.mapping = u.mapping;

CREATE OR REPLACE VIEW llm.status AS
WITH pending AS (
    SELECT source, count(*) AS n, min(bucket) AS oldest FROM llm._pending GROUP BY source
)
SELECT pg_catalog.format('%I.%I', s.relation_schema, s.relation_name) AS source,
       CASE WHEN s.state = 'attached' AND NOT EXISTS (SELECT FROM llm._trigger t WHERE t.source = s.id AND t.role = 'root') THEN 'no triggers'
            WHEN s.state = 'attached' AND EXISTS (SELECT FROM llm._capture_gap g WHERE g.source = s.id) THEN 'capture off'
            WHEN s.state = 'attached' AND s.complete_from > '-infinity' THEN 'backfilling'
            ELSE s.state END AS state,
       nullif(s.complete_from, '-infinity') AS complete_from,
       (SELECT pg_catalog.max(x."to") FROM llm._seal x WHERE x.source = s.id AND x.organization_id IS NULL AND x."from" = '-infinity') AS sealed_before,
       s.retention,
       coalesce(p.n, 0) AS pending_rows,
       NULL::bigint AS pending_bytes,
       p.oldest AS oldest_pending,
       NULL::interval AS lag,
       NULL::timestamptz AS last_fold_at,
       NULL::bigint AS last_fold_rows,
       NULL::numeric AS fold_rows_per_second,
       NULL::bigint AS rollup_bytes,
       (SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(m.relation))::bigint
        FROM llm._trigger t CROSS JOIN LATERAL llm._tree(t.relation::pg_catalog.regclass) m WHERE t.source = s.id AND t.role = 'root') AS log_bytes,
       s.skipped_values + coalesce((SELECT pg_catalog.sum(llm._count(n.measures, 0))::bigint FROM llm._pending n WHERE n.source = s.id AND n.kind = 2), 0) AS skipped_values,
       nullif(pg_catalog.concat_ws(E'\n', f.last_error, o.cannot_create, o.others), '') COLLATE "default" AS last_error,
       f.last_error_at
FROM llm.source s
LEFT JOIN pending p ON p.source = s.id
LEFT JOIN (
    SELECT x.source,
           pg_catalog.string_agg(x.sqlstate || ': ' || x.step || ' failed', E'\n' ORDER BY x.failed_at DESC) AS last_error,
           pg_catalog.max(x.failed_at) AS last_error_at
    FROM llm._failure x
    GROUP BY x.source
) f ON f.source = s.id
LEFT JOIN LATERAL (
    SELECT pg_catalog.min(CASE WHEN s.is_managed AND NOT pg_catalog.has_schema_privilege(r.relowner, r.relnamespace, 'CREATE') THEN
               pg_catalog.format('42501: role %I lacks CREATE on schema %I, so partitions are not made ahead of time', pg_catalog.pg_get_userbyid(r.relowner), s.relation_schema) END) AS cannot_create,
           'partitions of other roles: '
               || pg_catalog.string_agg(pg_catalog.format('%I.%I (%I)', n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner)), ', ' ORDER BY n.nspname, c.relname)
                  FILTER (WHERE c.relowner <> r.relowner) AS others
    FROM llm._trigger t
    JOIN pg_catalog.pg_class r ON r.oid = t.relation
    CROSS JOIN LATERAL llm._tree(t.relation::pg_catalog.regclass) m
    JOIN pg_catalog.pg_class c ON c.oid = m.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE t.source = s.id AND t.role = 'root' AND s.state = 'attached'
) o ON true
UNION ALL
SELECT NULL,
       CASE WHEN EXISTS (SELECT FROM llm._binding b LEFT JOIN pg_catalog.pg_roles r ON r.rolname = b.role WHERE r.oid IS DISTINCT FROM b.role_oid)
            THEN 'unconfirmed bindings' ELSE 'database' END,
       NULL,
       NULL,
       NULL,
       (SELECT coalesce(pg_catalog.sum(n), 0)::bigint FROM pending),
       pg_catalog.pg_total_relation_size('llm._pending'),
       (SELECT pg_catalog.min(oldest) FROM pending),
       CASE WHEN EXISTS (SELECT FROM pending) THEN GREATEST(pg_catalog.clock_timestamp() - GREATEST(d.folded_at, llm._drained_at()), interval '0') ELSE interval '0' END,
       d.last_fold_at,
       d.last_fold_rows,
       pg_catalog.round(d.last_fold_rows * 1000.0 / greatest(d.last_fold_ms, 1)),
       (SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(m.relid))::bigint FROM pg_catalog.pg_partition_tree('llm.rollup') m),
       (SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(m.relation))::bigint
        FROM llm._trigger t CROSS JOIN LATERAL llm._tree(t.relation::pg_catalog.regclass) m WHERE t.role = 'root'),
       (SELECT coalesce(pg_catalog.sum(s.skipped_values), 0)::bigint FROM llm.source s)
           + coalesce((SELECT pg_catalog.sum(llm._count(n.measures, 0))::bigint FROM llm._pending n WHERE n.kind = 2), 0),
       coalesce(f.last_error, d.last_error),
       coalesce(f.last_error_at, d.last_error_at)
FROM llm._state d
CROSS JOIN (
    SELECT pg_catalog.string_agg(x.sqlstate || ': ' || x.step || CASE WHEN s.id IS NOT NULL THEN pg_catalog.format(' of %I.%I', s.relation_schema, s.relation_name) ELSE '' END || ' failed',
                                 E'\n' ORDER BY x.failed_at DESC) AS last_error,
           pg_catalog.max(x.failed_at) AS last_error_at
    FROM llm._failure x
    LEFT JOIN llm.source s ON s.id = x.source
) f;

COMMENT ON COLUMN llm.status.state IS 'attached, backfilling, capture off (a trigger of the log or of a partition is disabled or missing: changes are not seen), detached, dropped, no triggers (restored or dropped by hand: attach it again); of the database: database, or unconfirmed bindings (llm.bind_role was called for roles that are gone, or were made anew under that name: nobody is who it says until it is called again, or llm.unbind_role)';

COMMENT ON COLUMN llm.status.lag IS
    'how long ago a fold left nothing pending; 0 where nothing is now; NULL before the first fold. Until the first fold after a restart it may tell of an earlier one; without shared_preload_libraries it is known to within a minute. Readers do not lag: they add up what is pending';

COMMENT ON COLUMN llm.status.last_error IS
    'what the worker and llm.maintain() cannot do now, a line each: SQLSTATE, step and log; of the database, where nothing fails now, the last that did. Of a log also: that its owner may not make partitions, and which partitions belong to other roles';

COMMENT ON COLUMN llm.status.last_error_at IS 'when it failed last';

ALTER POLICY readers ON llm._pending USING (
    ((SELECT s.everything FROM llm._scope() s)::int = 1 OR organization_id = ANY ((SELECT s.org_ids FROM llm._scope() s)::text[]))
    AND ((SELECT s.everything FROM llm._scope() s) OR organization_id = ANY ((SELECT s.whole_ids FROM llm._scope() s)::text[])
         OR api_key_id = ANY ((SELECT s.keys FROM llm._scope() s)::text[]))::int <> 0);

DROP FUNCTION llm._fold_step();

-- Closed by default.
REVOKE ALL ON FUNCTION llm._binding_is_new() FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._measures_eq(llm.measures, llm.measures) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._measures_ne(llm.measures, llm.measures) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._measures_lt(llm.measures, llm.measures) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._measures_le(llm.measures, llm.measures) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._measures_gt(llm.measures, llm.measures) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._measures_ge(llm.measures, llm.measures) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._measures_cmp(llm.measures, llm.measures) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._measures_hash(llm.measures) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._measures_hash(llm.measures, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._run_as(oid, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._run_as_owner(regclass, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._fold_step(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._drained_at() FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._backfill_step(int) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._is_waiting(text, int) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._failed(text, int, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._retry_now() FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._backfill_any() FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._trim_pending() FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._attempt(text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._install_row_trigger(regclass, text, text, text, int, int, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._clip(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION llm._clip_ids() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION llm.bucket(timestamptz), llm.canonical_model(text), llm._clip(text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION
    llm._measures_eq(llm.measures, llm.measures), llm._measures_ne(llm.measures, llm.measures),
    llm._measures_lt(llm.measures, llm.measures), llm._measures_le(llm.measures, llm.measures),
    llm._measures_gt(llm.measures, llm.measures), llm._measures_ge(llm.measures, llm.measures),
    llm._measures_cmp(llm.measures, llm.measures),
    llm._measures_hash(llm.measures), llm._measures_hash(llm.measures, bigint)
TO PUBLIC;
GRANT EXECUTE ON FUNCTION llm._tree(regclass), llm._drained_at() TO pg_monitor;

-- Ids over 200 bytes are kept clipped, as they are in the numbers.
UPDATE llm.organization SET id = id WHERE pg_catalog.octet_length(id) > 200;
UPDATE llm.project SET id = id WHERE pg_catalog.octet_length(pg_catalog.concat(id, organization_id)) > 200;
UPDATE llm.api_key SET id = id WHERE pg_catalog.octet_length(pg_catalog.concat(id, project_id, user_id)) > 200;
UPDATE llm.app_user SET id = id WHERE pg_catalog.octet_length(id) > 200;
UPDATE llm.membership SET user_id = user_id WHERE pg_catalog.octet_length(pg_catalog.concat(organization_id, user_id)) > 200;
UPDATE llm.model_alias SET mapping = mapping WHERE pg_catalog.octet_length(mapping) > 200;
UPDATE llm._remembered SET id = llm._clip(id), owner = llm._clip(owner), parent = llm._clip(parent)
    WHERE pg_catalog.octet_length(pg_catalog.concat(id, owner, parent)) > 200;
UPDATE llm._binding SET user_id = llm._clip(user_id) WHERE pg_catalog.octet_length(user_id) > 200;

-- Materialized views that a superuser refreshed held every organization, whoever owned them. A WARNING, because NOTICEs of extension
-- scripts are not shown.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        -- Relations and functions of ours, and every view that uses one, through views of views.
        WITH RECURSIVE ours (class, object) AS (
            SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, c.oid FROM pg_catalog.pg_class c
                WHERE c.relnamespace = 'llm'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p', 'v')
            UNION ALL
            SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, p.oid FROM pg_catalog.pg_proc p
                WHERE p.pronamespace = 'llm'::pg_catalog.regnamespace
        ), uses (class, object) AS (
            SELECT o.class, o.object FROM ours o
            UNION
            SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, w.ev_class
                FROM uses u
                JOIN pg_catalog.pg_depend d ON d.refclassid = u.class AND d.refobjid = u.object
                    AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
                JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
        )
        SELECT DISTINCT c.oid::pg_catalog.regclass AS name, r.rolname AS owner
        FROM uses u
        JOIN pg_catalog.pg_class c ON c.oid = u.object AND c.relkind = 'm'
        JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
        WHERE NOT r.rolsuper AND NOT r.rolbypassrls
          AND r.oid <> (SELECT x.extowner FROM pg_catalog.pg_extension x WHERE x.extname = 'llm_analytics')
          AND NOT EXISTS (SELECT FROM llm._binding b WHERE b.role = r.rolname)
    LOOP
        RAISE WARNING USING MESSAGE = pg_catalog.format('materialized view %s cannot be refreshed any more', found.name),
            DETAIL = pg_catalog.format('It reads usage as its owner %I, who has no identity.', found.owner),
            HINT = 'Call llm.bind_role() for the owner.';
    END LOOP;
END
$$;
