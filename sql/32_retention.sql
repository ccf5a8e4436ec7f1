-- What is final, what goes and what is erased; partitions of the logs that llm.create_request_log makes.

CREATE FUNCTION llm.seal(relation regclass, before timestamptz) RETURNS timestamptz
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_seal_wrapper';
COMMENT ON FUNCTION llm.seal(regclass, timestamptz) IS
    'declares the numbers of an attached log final for everything created before an instant (exclusive, lowered to a bucket border), so that its rows may be dropped: no rebuild touches them, llm.verify skips them, rows that come in later still count. Returns the end of the sealed range; a seal never shrinks. Waits for a rebuild. Errors: 22004, 22023 (infinite or in the future), 42501 (not the owner), 55000 (not attached, or history not counted yet)';

CREATE FUNCTION llm.set_retention(relation regclass, keep interval) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_set_retention_wrapper';
COMMENT ON FUNCTION llm.set_retention(regclass, interval) IS
    'how long the monthly partitions of a log made by llm.create_request_log are kept after their last instant; NULL: for ever. The worker or CALL llm.maintain() seals and drops whole partitions, never single rows, never what is not counted yet; the numbers stay. Errors: 22004, 22023 (less than a day), 42501 (not the owner), 55000 (not attached, or not made by llm.create_request_log)';

CREATE FUNCTION llm.forget(organization text) RETURNS bigint
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_forget_wrapper';
COMMENT ON FUNCTION llm.forget(text) IS
    'erases one organization: its numbers in every level and source, pending or not, its shipped directory rows and what is remembered of its projects and API keys; users stay, they may belong to others. Returns how many rows of numbers went. Tables of the host are not touched: an attached log must not have rows of it any more. One transaction; waits for folds and rebuilds. Errors: 22004, 55000';

CREATE FUNCTION llm._erase(organization text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    number int := (SELECT o.org FROM llm._org o WHERE o.organization_id = organization);
    projects text[] := ARRAY(SELECT p.id FROM llm.project p WHERE p.organization_id = organization
                             UNION SELECT r.id FROM llm._remembered r WHERE r.kind = 'project' AND r.parent = organization
                             UNION SELECT s.project_id FROM llm.series s WHERE s.org = number);
    keys text[] := ARRAY(SELECT k.id FROM llm.api_key k WHERE k.project_id = ANY (projects)
                         UNION SELECT r.id FROM llm._remembered r WHERE r.kind = 'api_key' AND r.parent = ANY (projects)
                         UNION SELECT s.api_key_id FROM llm.series s WHERE s.org = number);
    erased bigint := 0;
    gone bigint;
BEGIN
    DELETE FROM llm.rollup r WHERE r.org = number;
    GET DIAGNOSTICS erased = ROW_COUNT;
    DELETE FROM llm._pending p WHERE p.organization_id = organization;
    GET DIAGNOSTICS gone = ROW_COUNT;
    erased := erased + gone;
    DELETE FROM llm._left l WHERE l.organization_id = organization;
    DELETE FROM llm.series s WHERE s.org = number;
    DELETE FROM llm._org o WHERE o.org = number;
    DELETE FROM llm._seal s WHERE s.organization_id = organization;
    -- Ids that another organization uses as well are not only this one's.
    projects := ARRAY(SELECT x FROM unnest(projects) x WHERE x <> '' AND NOT EXISTS (SELECT FROM llm.series s WHERE s.project_id = x)
                      AND NOT EXISTS (SELECT FROM llm._pending p WHERE p.project_id = x)
                      AND NOT EXISTS (SELECT FROM llm.project p WHERE p.id = x AND p.organization_id <> organization));
    keys := ARRAY(SELECT x FROM unnest(keys) x WHERE x <> '' AND NOT EXISTS (SELECT FROM llm.series s WHERE s.api_key_id = x)
                  AND NOT EXISTS (SELECT FROM llm._pending p WHERE p.api_key_id = x)
                  AND NOT EXISTS (SELECT FROM llm.api_key k WHERE k.id = x AND k.project_id <> ALL (projects)));
    DELETE FROM llm.membership m WHERE m.organization_id = organization;
    DELETE FROM llm.api_key k WHERE k.id = ANY (keys);
    DELETE FROM llm.project p WHERE p.id = ANY (projects);
    DELETE FROM llm.organization o WHERE o.id = organization;
    -- Last, because deleting from a directory remembers.
    DELETE FROM llm._remembered r
    WHERE (r.kind = 'organization' AND r.id = organization) OR (r.kind = 'project' AND r.id = ANY (projects)) OR (r.kind = 'api_key' AND r.id = ANY (keys));
    RETURN erased;
END
$$;
COMMENT ON FUNCTION llm._erase(text) IS 'deletes what there is of an organization; how many rows of numbers';

CREATE FUNCTION llm._has_rows(source int, "from" timestamptz, "to" timestamptz) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_has_rows_wrapper';
COMMENT ON FUNCTION llm._has_rows(int, timestamptz, timestamptz) IS 'whether a log has rows in a half-open range';

CREATE FUNCTION llm._create_month(log regclass, first timestamptz) RETURNS void
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

CREATE FUNCTION llm._tend() RETURNS text
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
