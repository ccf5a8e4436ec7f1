-- The host's own triggers: BEFORE triggers that change or drop rows, AFTER triggers that read the same transition tables or write the log
-- again, deferred ones; stored generated columns.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA capture_host_triggers;
SET search_path = capture_host_triggers, public;

CREATE TABLE log (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text,
    input_tokens bigint, cost numeric, note text);
ALTER TABLE log ADD PRIMARY KEY (id), ADD COLUMN tax numeric GENERATED ALWAYS AS (cost * 0.1) STORED;
CREATE TABLE gone (id int, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text, input_tokens bigint, cost numeric);
CREATE VIEW ever AS SELECT id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost + tax AS cost FROM log UNION ALL TABLE gone;
-- wrong(): what the extension says and what a plain query over "ever" says, EXCEPT ALL both ways, and llm.verify().
-- proof(): one line of plain totals, then whatever is wrong before a fold, after it and after a rebuild of everything.
CREATE FUNCTION wrong() RETURNS TABLE (said_by text, view text, at text, key text, n numeric, tokens numeric, cost numeric)
LANGUAGE sql SET jit = off AS $$
    WITH told (view, at, key, n, tokens, cost) AS (
        SELECT 'usage', bucket::text, concat_ws(' ', organization_id, project_id, api_key_id, mapping), sum(requests), sum(input_tokens), sum(cost)
        FROM llm.usage GROUP BY 2, 3 HAVING sum(requests) <> 0 OR sum(input_tokens) <> 0 OR sum(cost) <> 0
        UNION ALL
        SELECT g, date::text, key, sum(request_count), sum(input_tokens), sum(cost)
        FROM unnest(ARRAY['project', 'apiKey', 'mapping']) g, llm.activity('org', g, '2025-12-01', '2026-12-31', 'Asia/Kolkata') a
        WHERE request_count <> 0 OR a.input_tokens <> 0 OR a.cost <> 0 GROUP BY 1, 2, 3
    ), plain (view, at, key, n, tokens, cost) AS (
        SELECT 'usage', llm.bucket(created_at)::text, concat_ws(' ', organization_id, project_id, api_key_id, model), count(*), sum(input_tokens), sum(cost)
        FROM ever GROUP BY 2, 3
        UNION ALL
        SELECT g, (created_at AT TIME ZONE 'Asia/Kolkata')::date::text, k, count(*), sum(input_tokens), sum(cost)
        FROM ever, LATERAL (VALUES ('project', project_id), ('apiKey', api_key_id), ('mapping', model)) v (g, k) GROUP BY 1, 2, 3
    )
    SELECT 'llm', * FROM (TABLE told EXCEPT ALL TABLE plain) x
    UNION ALL SELECT 'log', * FROM (TABLE plain EXCEPT ALL TABLE told) y
    UNION ALL SELECT 'verify', level || ' ' || measure, bucket::text, series::text, expected, actual, NULL FROM llm.verify()
$$;
CREATE FUNCTION proof(what text) RETURNS SETOF text LANGUAGE plpgsql SET jit = off AS $$
BEGIN
    RETURN QUERY SELECT format('%s: %s requests, %s tokens, cost %s', what, count(*), sum(input_tokens), trim_scale(sum(cost))) FROM ever;
    RETURN QUERY SELECT 'wrong before the fold ' || w::text FROM wrong() w ORDER BY 1;
    PERFORM llm.fold();
    RETURN QUERY SELECT 'wrong after the fold ' || w::text FROM wrong() w ORDER BY 1;
    PERFORM llm.rebuild('2025-12-01', '2027-01-01');
    RETURN QUERY SELECT 'wrong after the rebuild ' || w::text FROM wrong() w ORDER BY 1;
END $$;
-- a stored generated column is a column like any other
SELECT 1 AS attached FROM llm.attach_log('log', '{"created_at": "created_at", "organization_id": "organization_id", "project_id": "project_id", "api_key_id": "api_key_id", "model": "model",
    "input_tokens": "input_tokens", "cost": "cost + tax"}');

CREATE FUNCTION fix() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'DELETE' THEN RETURN CASE WHEN OLD.note = 'stay' THEN NULL ELSE OLD END; END IF;
    IF NEW.note = 'drop' THEN RETURN NULL; END IF;
    NEW.project_id := upper(NEW.project_id);
    IF NEW.cost < 0.05 THEN NEW.cost := 0.05; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER a_fix BEFORE INSERT OR UPDATE OR DELETE ON log FOR EACH ROW EXECUTE FUNCTION fix();
INSERT INTO log VALUES (1, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 10, 0.1, NULL), (2, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 10, 0.01, NULL), (3, '2026-01-05', 'org', 'p1', 'k1', 'openai/gpt-5', 10, 0.1, 'drop');
UPDATE log SET cost = 0.01, project_id = 'p2';
UPDATE log SET note = 'stay' WHERE id = 2;
BEGIN;
SET LOCAL llm.on_delete = 'subtract';
DELETE FROM log;
COMMIT;
SELECT id, project_id, cost FROM log;
SELECT * FROM proof('before triggers');

-- statement triggers of the host that read the transition tables before and after ours (they fire in order of name)
CREATE TABLE seen (op text, n bigint, cost numeric);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN
    IF TG_OP = 'INSERT' THEN FOR r IN SELECT * FROM n LOOP EXIT; END LOOP; INSERT INTO seen SELECT TG_NAME || ' ' || TG_OP, count(*), sum(cost) FROM n;
    ELSIF TG_OP = 'UPDATE' THEN INSERT INTO seen SELECT TG_NAME || ' ' || TG_OP, count(*), sum(n.cost - o.cost) FROM n JOIN o USING (id);
    ELSE INSERT INTO seen SELECT TG_NAME || ' ' || TG_OP, count(*), sum(cost) FROM o; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER a_look_i AFTER INSERT ON log REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION look();
CREATE TRIGGER z_look_i AFTER INSERT ON log REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION look();
CREATE TRIGGER a_look_u AFTER UPDATE ON log REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION look();
CREATE TRIGGER z_look_u AFTER UPDATE ON log REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION look();
CREATE TRIGGER a_look_d AFTER DELETE ON log REFERENCING OLD TABLE AS o FOR EACH STATEMENT EXECUTE FUNCTION look();
CREATE TRIGGER z_look_d AFTER DELETE ON log REFERENCING OLD TABLE AS o FOR EACH STATEMENT EXECUTE FUNCTION look();
INSERT INTO log SELECT i, '2026-01-06', 'org', 'p1', 'k' || i % 3, 'openai/gpt-5', i, 1 FROM generate_series(10, 19) i;
UPDATE log SET cost = cost + 1 WHERE id >= 10;
INSERT INTO gone SELECT id, created_at, organization_id, project_id, api_key_id, model, input_tokens, cost + tax FROM log WHERE id IN (10, 11);
DELETE FROM log WHERE id IN (10, 11);
SELECT * FROM seen ORDER BY 1;
SELECT * FROM proof('transition tables shared');

-- a trigger that writes the log again, from within the statement
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log SELECT id + 1000, created_at, organization_id, 'fee', api_key_id, model, 0, 0.5 FROM n WHERE id < 1000;
    UPDATE log SET input_tokens = 1 WHERE id IN (SELECT id + 1000 FROM n WHERE id < 1000);
    RETURN NULL;
END $$;
CREATE TRIGGER m_again AFTER INSERT ON log REFERENCING NEW TABLE AS n FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION again();
INSERT INTO log SELECT i, '2026-01-07', 'org', 'p1', 'k' || i % 3, 'openai/gpt-5', i, 1 FROM generate_series(20, 24) i;
SELECT * FROM proof('written again by a trigger');
DROP TRIGGER m_again ON log;

-- a deferred constraint trigger that writes at COMMIT; a row trigger that updates the row it was fired for
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.id < 1000 THEN INSERT INTO log SELECT NEW.id + 2000, NEW.created_at, 'org', 'late', 'k1', 'openai/gpt-5', 1, 0.25; UPDATE log SET cost = cost + 1 WHERE id = NEW.id; END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
BEGIN;
INSERT INTO log SELECT i, '2026-01-08', 'org', 'p1', 'k' || i % 3, 'openai/gpt-5', i, 1 FROM generate_series(30, 34) i;
SAVEPOINT s;
INSERT INTO log SELECT i, '2026-01-08', 'org', 'p1', 'k' || i % 3, 'openai/gpt-5', i, 1 FROM generate_series(35, 39) i;
ROLLBACK TO s;
SELECT count(*) AS before_commit FROM log WHERE id >= 30;
COMMIT;
SELECT count(*) AS after_commit FROM log WHERE id >= 30;
SELECT * FROM proof('deferred');

RESET search_path;
DROP SCHEMA capture_host_triggers CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
