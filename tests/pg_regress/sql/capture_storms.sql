-- Many small writes in odd ways: thousands of subtransactions, exception blocks, cursors, prepared transactions, deferred constraints.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA capture_storms;
SET search_path = capture_storms, public;
CREATE TABLE log (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, created_at timestamptz, organization_id text, project_id text, api_key_id text, model text, cost numeric);
SELECT 1 AS attached FROM llm.attach_log('log', on_delete => 'subtract');
CREATE FUNCTION proof(what text) RETURNS SETOF text LANGUAGE plpgsql SET jit = off AS $$
BEGIN
    RETURN QUERY SELECT format('%s: %s requests, cost %s', what, count(*), trim_scale(sum(cost))) FROM log;
    RETURN QUERY SELECT format('told %s requests, cost %s', sum(requests), trim_scale(sum(cost))) FROM llm.usage;
    RETURN QUERY SELECT 'wrong ' || v::text FROM llm.verify() v;
    PERFORM llm.fold();
    RETURN QUERY SELECT 'wrong after the fold ' || v::text FROM llm.verify() v;
    RETURN QUERY SELECT 'changed after the fold' FROM llm.usage HAVING sum(requests) <> (SELECT count(*) FROM log) OR sum(cost) <> (SELECT sum(cost) FROM log);
END $$;

-- 3000 exception blocks, every third of which fails after it wrote, nested ones among them
DO $$
BEGIN
    FOR i IN 1..3000 LOOP
        BEGIN
            INSERT INTO log VALUES (i, '2026-01-01'::timestamptz + i * interval '11 minutes', 'org', 'p' || i % 3, 'k' || i % 5, 'm', i);
            BEGIN
                UPDATE log SET cost = cost * 2 WHERE id = i;
                IF i % 4 = 0 THEN RAISE EXCEPTION 'inner'; END IF;
            EXCEPTION WHEN raise_exception THEN NULL;
            END;
            IF i % 3 = 0 THEN PERFORM 1 / 0; END IF;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
    END LOOP;
END $$;
SELECT * FROM proof('exception blocks');

-- savepoints that are released, rolled back to, and left open
SELECT string_agg(format('SAVEPOINT s%s; INSERT INTO log VALUES (%s, ''2026-02-01'', ''org'', ''p'', ''k'', ''m'', 1); %s', i, 10000 + i,
    CASE i % 3 WHEN 0 THEN 'ROLLBACK TO s' || i WHEN 1 THEN 'RELEASE s' || i ELSE 'UPDATE log SET cost = 3 WHERE id = ' || 10000 + i END), '; ' ORDER BY i) AS storm
FROM generate_series(1, 300) i \gset
BEGIN;
:storm;
COMMIT;
SELECT * FROM proof('savepoints');

-- cursors
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM log WHERE id < 20 ORDER BY id FOR UPDATE;
MOVE 3 IN c;
FETCH c;
UPDATE log SET cost = 1000, model = 'm2' WHERE CURRENT OF c;
FETCH c;
DELETE FROM log WHERE CURRENT OF c;
DECLARE h CURSOR WITH HOLD FOR SELECT sum(requests), sum(cost) FROM llm.usage;
COMMIT;
INSERT INTO log VALUES (20001, '2026-02-02', 'org', 'p', 'k', 'm', 1);
FETCH h;
CLOSE h;
SELECT * FROM proof('cursors');

-- a deferred constraint that fails at COMMIT takes the numbers with it
BEGIN;
INSERT INTO log VALUES (1, '2026-02-03', 'org', 'p', 'k', 'm', 77);
SELECT sum(cost) FILTER (WHERE bucket = '2026-02-03') AS seen_77 FROM llm.usage;
COMMIT;
SELECT * FROM proof('deferred constraint');

-- prepared transactions
BEGIN;
INSERT INTO log VALUES (30001, '2026-02-04', 'org', 'p', 'k', 'm', 5);
SAVEPOINT s;
DELETE FROM log WHERE id = 20001;
ROLLBACK TO s;
UPDATE log SET cost = 6 WHERE id = 30001;
PREPARE TRANSACTION 'capture_storms_1';
BEGIN;
INSERT INTO log VALUES (30002, '2026-02-04', 'org', 'p', 'k', 'm', 7);
PREPARE TRANSACTION 'capture_storms_2';
SELECT * FROM proof('prepared');
COMMIT PREPARED 'capture_storms_1';
ROLLBACK PREPARED 'capture_storms_2';
SELECT * FROM proof('one committed, one rolled back');

RESET search_path;
DROP SCHEMA capture_storms CASCADE;
DROP EXTENSION llm_analytics;
