-- Functions. JIT is off where a statement names every measure many times: it would be compiled for longer than it runs. Everything that reads or writes our tables for somebody else runs with the extension owner's rights and a pinned
-- search_path; who may call what is decided in sql/90_grants.sql and, for the answers, in src/access.rs. Functions that ask who is asking
-- are not SECURITY DEFINER: they would not see the caller's current user. They get their rights in src/identity.rs, after they asked.

CREATE FUNCTION llm.bucket(at timestamptz) RETURNS timestamptz
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_bucket_wrapper';
COMMENT ON FUNCTION llm.bucket(timestamptz) IS
    'start of the bucket that holds an instant: an hour of UTC, cut once more where local days start off the hour (37 buckets a day); infinity is its own bucket';

CREATE FUNCTION llm._next_bucket(bucket timestamptz) RETURNS timestamptz
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_next_bucket_wrapper';
COMMENT ON FUNCTION llm._next_bucket(timestamptz) IS 'start of the bucket after the one that holds an instant';

CREATE FUNCTION llm.canonical_model(mapping text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN pg_catalog.split_part(pg_catalog.substr(mapping, pg_catalog.strpos(mapping, '/') OPERATOR(pg_catalog.+) 1), ':', 1);
COMMENT ON FUNCTION llm.canonical_model(text) IS
    'canonical name of a model as routed: through the first "/" and from the first ":" is stripped; llm.model_alias overrides it in answers';

-- Attaching

CREATE FUNCTION llm.attach_log(relation regclass, columns jsonb DEFAULT NULL, on_delete text DEFAULT 'keep', capture text DEFAULT 'statement', backfill boolean DEFAULT true)
    RETURNS jsonb
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_attach_log_wrapper';
COMMENT ON FUNCTION llm.attach_log(regclass, jsonb, text, text, boolean) IS
    'attaches a request log: from now on every change is counted, and existing rows are backfilled by the worker or CALL llm.backfill(). columns maps canonical fields to a column or an SQL expression; NULL recognises the table (canonical names, LLM Gateway, LiteLLM). on_delete: keep | subtract; capture: statement | row (also rows a replication worker applies). Returns what was understood. The caller owns the table, or is a superuser; a superuser alone attaches a tree whose partitions belong to several roles. Errors: 22023, 22004, 42703, 42804, 42809, 42P17, 42501, 42710, 55000, 55P03';

CREATE FUNCTION llm.detach_log(relation regclass) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_detach_log_wrapper';
COMMENT ON FUNCTION llm.detach_log(regclass) IS
    'detaches a request log: its rows are not counted any more, the numbers stay and are sealed; attaching again unseals them. Errors: 22004, 42501, 55000 (not attached), 55P03';

CREATE FUNCTION llm.create_request_log(name text DEFAULT 'public.request_log') RETURNS regclass
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_create_request_log_wrapper';
COMMENT ON FUNCTION llm.create_request_log(text) IS
    'makes a request log with the canonical columns, an ordinary table partitioned by month (UTC) with a default partition, owned by the caller and made with the caller''s rights, and attaches it. Months are made ahead of time with the rights of its owner, who needs CREATE on the schema. Errors: 22004, 42501, 42602, 42P07, 3F000';

CREATE FUNCTION llm._check_mapping(source int, relation regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_check_mapping_wrapper';
COMMENT ON FUNCTION llm._check_mapping(int, regclass) IS 'follows renamed columns of an attached log; 55000 where a change breaks the mapping';

CREATE FUNCTION llm._take(source int, relation regclass, kind smallint, sign int) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_take_wrapper';
COMMENT ON FUNCTION llm._take(int, regclass, smallint, int) IS 'adds all rows of one table to llm._pending, as kind 0 shown or 1 kept, with a sign; not those that were there when the log was attached without its history';

CREATE FUNCTION llm._take_entered(source int, relation regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_take_entered_wrapper';
COMMENT ON FUNCTION llm._take_entered(int, regclass) IS 'counts the rows of a table that joined a log''s tree; what llm._left has of it counts already';

CREATE FUNCTION llm._take_left(source int, relation regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_take_left_wrapper';
COMMENT ON FUNCTION llm._take_left(int, regclass) IS 'takes the rows of a table that left a log''s tree into the kept ones, and remembers them in llm._left';

CREATE FUNCTION llm._rebuild_leaf(source int, relation regclass, "from" timestamptz, "to" timestamptz) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off AS 'MODULE_PATHNAME', 'llm_rebuild_leaf_wrapper';
COMMENT ON FUNCTION llm._rebuild_leaf(int, regclass, timestamptz, timestamptz) IS 'rebuilds a range of a source, and beyond it whatever else a table that came back holds; where rows are gone the numbers stay and are sealed';

CREATE FUNCTION llm._run_as(role oid, command text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_run_as_wrapper';
COMMENT ON FUNCTION llm._run_as(oid, text) IS 'runs one command as a role, in a security-restricted operation';

CREATE FUNCTION llm._run_as_owner(relation regclass, command text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_run_as_owner_wrapper';
COMMENT ON FUNCTION llm._run_as_owner(regclass, text) IS
    'runs one command as the owner of a table of the host, in a security-restricted operation: what DDL makes PostgreSQL evaluate of the table gets no more rights than its owner has';

CREATE FUNCTION llm._effective_on_delete(of_source text) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_effective_on_delete_wrapper';
COMMENT ON FUNCTION llm._effective_on_delete(text) IS 'llm.on_delete where it is set, else what the source says';

CREATE FUNCTION llm._create_request_log(name text, owner oid) RETURNS regclass
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

-- Operating

CREATE FUNCTION llm.fold() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS 'MODULE_PATHNAME', 'llm_fold_wrapper';
COMMENT ON FUNCTION llm.fold() IS
    'adds everything that is pending to the rollups, in one transaction; returns the number of pending rows folded. Changes no number. Waits for another fold or rebuild';

CREATE FUNCTION llm.rebuild("from" timestamptz, "to" timestamptz, organization text DEFAULT NULL, allow_loss boolean DEFAULT false) RETURNS bigint
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS 'MODULE_PATHNAME', 'llm_rebuild_wrapper';
COMMENT ON FUNCTION llm.rebuild(timestamptz, timestamptz, text, boolean) IS
    'makes the rollups of a range what the attached logs and the kept rows give; returns the number of rollup rows written. Half-open, widened to buckets; organization NULL is all; sealed ranges are never touched. Errors: 22004, 22023, 55000 where requests of a source, organization and bucket would fall, unless allow_loss';

CREATE FUNCTION llm.verify("from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL, organization text DEFAULT NULL)
    RETURNS TABLE (source text, organization_id text, bucket timestamptz, level text, series jsonb, measure text, expected numeric, actual numeric)
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS 'MODULE_PATHNAME', 'llm_verify_wrapper';
COMMENT ON FUNCTION llm.verify(timestamptz, timestamptz, text) IS
    'compares rollups and pending rows with the logs, in one snapshot; no rows = proved. Half-open, widened to buckets, NULL is unbounded; sealed ranges and what is not backfilled yet are skipped. source is NULL for levels that are derived from detail. Errors: 22023';

CREATE FUNCTION llm._fold_step("from" bigint) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS 'MODULE_PATHNAME', 'llm_fold_from_wrapper';
COMMENT ON FUNCTION llm._fold_step(bigint) IS 'folds one batch, from a block of llm._pending on; the block where the next batch goes on, NULL where the table ends';

CREATE FUNCTION llm._drained_at() RETURNS timestamptz
    LANGUAGE c VOLATILE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_drained_at_wrapper';
COMMENT ON FUNCTION llm._drained_at() IS 'when a fold last found nothing pending, as shared memory has it; NULL where it does not';

CREATE FUNCTION llm._backfill_step() RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS 'MODULE_PATHNAME', 'llm_backfill_step_wrapper';
COMMENT ON FUNCTION llm._backfill_step() IS 'backfills a stretch of one log; says what was done, NULL when every log is complete';

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

CREATE FUNCTION llm._heal() RETURNS void
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

CREATE PROCEDURE llm.backfill() LANGUAGE plpgsql AS $$
-- No SECURITY DEFINER and no SET: COMMIT would fail. The steps have the rights.
DECLARE
    done pg_catalog.text;
BEGIN
    COMMIT;
    LOOP
        done := llm._backfill_step();
        EXIT WHEN done IS NULL;
        RAISE NOTICE '%', done;
        COMMIT;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE llm.backfill() IS
    'counts the rows that were in attached logs before, newest days first, each step in its own transaction; can be stopped and goes on where it was. Progress as NOTICE. Errors: 2D000 inside a transaction block';

CREATE PROCEDURE llm.maintain() LANGUAGE plpgsql AS $$
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

-- Reading

CREATE FUNCTION llm.analytics_activity(org text, group_by text DEFAULT 'model', "from" date DEFAULT NULL, "to" date DEFAULT NULL, tz text DEFAULT 'UTC',
                                       project text DEFAULT NULL, api_key text DEFAULT NULL, user_id text DEFAULT NULL, top int DEFAULT NULL)
    RETURNS json
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_analytics_activity_wrapper';
COMMENT ON FUNCTION llm.analytics_activity(text, text, date, date, text, text, text, text, int) IS
    'cost, requests and tokens of an organization per local day, and by model | mapping | provider | project | apiKey | user | application | mode, as JSON. from and to: inclusive local dates in tz (default: the last 7 days, today included); tz: an IANA name; project, api_key, user_id: only theirs; top: the rest becomes one entry "Other". Errors: 22004, 22023, 28000, 0A000 where a local day starts within a bucket';

CREATE FUNCTION llm.activity(org text, group_by text DEFAULT 'model', "from" date DEFAULT NULL, "to" date DEFAULT NULL, tz text DEFAULT 'UTC',
                             project text DEFAULT NULL, api_key text DEFAULT NULL, user_id text DEFAULT NULL)
    RETURNS TABLE (date date, key text, label text, cost numeric, request_count bigint, input_tokens bigint, output_tokens bigint,
                   total_tokens bigint, error_count bigint, client_error_count bigint, cache_count bigint)
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED ROWS 1000 SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_activity_wrapper';
COMMENT ON FUNCTION llm.activity(text, text, date, date, text, text, text, text) IS
    'the cells of llm.analytics_activity as rows; an idle day is one row with key and label NULL and zeros. Arguments and errors as there';
