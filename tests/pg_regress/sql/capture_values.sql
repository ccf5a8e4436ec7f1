-- One reading of a log row: what counts as nothing, as zero, as unknown. The same reading serves capture, rebuild and verify.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA capture_values;
SET search_path = capture_values, public;

CREATE TABLE log (id int PRIMARY KEY, created_at timestamptz, organization_id text, project_id text, api_key_id text, user_id text, model text, provider text,
    application text, mode text, input_tokens numeric, output_tokens bigint, reasoning_tokens double precision, cost numeric, input_cost numeric,
    is_error boolean, is_client_error boolean, is_cached boolean, is_streamed boolean, is_canceled boolean, duration_ms int, time_to_first_token_ms numeric);
SELECT 1 AS attached FROM llm.attach_log('log');

-- what is proved after each step: nothing wrong in the log's own terms, before and after a fold, and after a rebuild
CREATE FUNCTION proved() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT 'before the fold ' || v::text FROM llm.verify() v;
    PERFORM llm.fold();
    RETURN QUERY SELECT 'after the fold ' || v::text FROM llm.verify() v;
    PERFORM llm.rebuild('2025-01-01', '2027-01-01');
    RETURN QUERY SELECT 'after the rebuild ' || v::text FROM llm.verify() v;
END $$;

-- '' and NULL are the same: no value
INSERT INTO log (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, '2026-01-01', NULL, NULL, NULL, NULL);
INSERT INTO log (id, created_at, organization_id, project_id, api_key_id, user_id, model, provider, application, mode, cost) VALUES (2, '2026-01-01', '', '', '', '', '', '', '', '', 0);
INSERT INTO log (id, created_at, organization_id, project_id, api_key_id, user_id, model, provider, application, mode, cost) VALUES (3, '2026-01-01', 'org', ' ', 'k', 'u', 'm', 'p', 'a', 'credits', 1);
SELECT proved();
SELECT organization_id, project_id, api_key_id, user_id, model, mapping, provider, application, mode, requests, input_tokens, trim_scale(cost) AS cost
    FROM llm.usage ORDER BY organization_id COLLATE "C";
-- NULL became '': no mapped value changed
UPDATE log SET project_id = '', mode = '' WHERE id = 1;
SELECT count(*) AS pending FROM llm._pending;

-- long texts are cut, and two that begin alike stay two; letters of several bytes are not torn
INSERT INTO log (id, created_at, organization_id, api_key_id, model, cost)
    SELECT 10 + i, '2026-01-02', 'long', repeat('k', 200), CASE WHEN i < 2 THEN repeat('m', 300) || i ELSE repeat('€', 66 + i) END, 1 FROM generate_series(0, 3) i;
INSERT INTO log (id, created_at, organization_id, api_key_id, model, cost) VALUES (14, '2026-01-02', repeat('o', 100000), 'k', 'm', 1);
SELECT proved();
SELECT left(mapping, 3) AS model, char_length(mapping), octet_length(mapping), octet_length(api_key_id) AS key, requests
    FROM llm.usage WHERE organization_id = 'long' ORDER BY mapping COLLATE "C";
SELECT octet_length(organization_id) AS org, requests FROM llm.usage WHERE organization_id LIKE 'oo%';
DELETE FROM log WHERE id >= 10;

-- money: finite, |x| < 1e15, 30 decimals; a refund counts
SELECT skipped_values AS skipped FROM llm.status WHERE source = 'capture_values.log';
INSERT INTO log (id, created_at, organization_id, api_key_id, model, cost, input_cost)
    SELECT 20 + n, '2026-01-03', 'money', n || ': ' || left(c, 36), 'm', c::numeric, 1
    FROM unnest(ARRAY['NaN', 'Infinity', '-Infinity', '1e15', '-1e15', '999999999999999.999999999999999999999999999999', '-12.5', '1e-30', '4e-31', '5e-31', '0.10', '1e200']) WITH ORDINALITY u (c, n);
SELECT proved();
SELECT api_key_id, requests, trim_scale(cost) AS cost, trim_scale(input_cost) AS input_cost FROM llm.usage WHERE organization_id = 'money' ORDER BY split_part(api_key_id, ':', 1)::int;
-- reported once in llm.status: 6 of them
SELECT skipped_values AS skipped FROM llm.status WHERE source = 'capture_values.log';
UPDATE log SET cost = 1 WHERE api_key_id LIKE '1:%';
UPDATE log SET model = 'n' WHERE api_key_id LIKE '2:%';
SELECT proved();
SELECT api_key_id, mapping, requests, trim_scale(cost) AS cost FROM llm.usage WHERE organization_id = 'money' AND api_key_id < '3' AND requests <> 0 ORDER BY 1;

-- tokens: rounded as a cast to bigint does, |x| < 1e15; NULL is 0; the total is input + output where it is not mapped
INSERT INTO log (id, created_at, organization_id, api_key_id, model, cost, input_tokens, output_tokens, reasoning_tokens)
    SELECT 40 + n, '2026-01-04', 'tokens', n || ': ' || i, 'm', 0, i::numeric, o, r
    FROM (VALUES (1, '1.5', 10, 1.5), (2, '2.5', NULL, 2.5), (3, '-2.5', 0, -2.5), (4, '0.4999', 1, 0.4999), (5, 'NaN', 1, 'NaN'), (6, 'Infinity', 1, '-Infinity'),
        (7, '1e15', 1000000000000000, 1e15), (8, '999999999999999', -5, 999999999999999), (9, '999999999999999.5', 1, 1e300), (10, '-999999999999999', 9223372036854775807, 0.5)) t (n, i, o, r);
SELECT proved();
SELECT api_key_id, requests, input_tokens, output_tokens, reasoning_tokens, total_tokens FROM llm.usage WHERE organization_id = 'tokens' ORDER BY split_part(api_key_id, ':', 1)::int;
-- what PostgreSQL itself rounds to
SELECT i::numeric::bigint AS from_numeric, i::float8::bigint AS from_float FROM unnest(ARRAY['1.5', '2.5', '-2.5', '0.4999']) i;

-- flags and durations: NULL is false, and is no duration; a client error is not an error
INSERT INTO log (id, created_at, organization_id, api_key_id, model, cost, is_error, is_client_error, is_cached, is_streamed, is_canceled, duration_ms, time_to_first_token_ms) VALUES
    (60, '2026-01-05', 'flags', 'k', 'm', 0, true, NULL, true, true, true, 100, 10.5),
    (61, '2026-01-05', 'flags', 'k', 'm', 0, true, true, NULL, false, NULL, 0, NULL),
    (62, '2026-01-05', 'flags', 'k', 'm', 0, NULL, false, false, NULL, NULL, NULL, 'NaN');
SELECT proved();
SELECT requests, errors, client_errors, cache_hits, streamed, canceled, duration_ms, duration_count, time_to_first_token_ms AS ttft_ms, time_to_first_token_count AS ttft_count
    FROM llm.usage WHERE organization_id = 'flags';
UPDATE log SET duration_ms = NULL, is_error = false WHERE id = 60;
SELECT proved();
SELECT requests, errors, client_errors, duration_ms, duration_count FROM llm.usage WHERE organization_id = 'flags';

-- created_at: NULL and infinite lie in no date range; the far ends of time do
INSERT INTO log (id, created_at, organization_id, api_key_id, model, cost) VALUES (70, NULL, 'time', 'k', 'm', 1), (71, 'infinity', 'time', 'k', 'm', 1), (72, '-infinity', 'time', 'k', 'm', 1);
SELECT count(*) AS pending FROM llm._pending;
INSERT INTO log (id, created_at, organization_id, api_key_id, model, cost) VALUES (73, '0001-01-01 00:59Z', 'time', 'k', 'm', 1), (74, '9999-12-31 23:59:59.999999Z', 'time', 'k', 'm', 1),
    (75, '1969-12-31 23:59:59.999999Z', 'time', 'k', 'm', 1);
UPDATE log SET created_at = '2026-01-06 20:29:59Z' WHERE id = 70;
UPDATE log SET created_at = 'infinity' WHERE id = 75;
SELECT proved();
SELECT bucket, requests FROM llm.usage WHERE organization_id = 'time' AND requests <> 0 ORDER BY 1;
DELETE FROM log WHERE id IN (71, 72);

-- all of it comes out of one reading: take everything away again
SET llm.on_delete = 'subtract';
DELETE FROM log;
SELECT proved();
-- (but for what was deleted above, in keep mode)
SELECT left(organization_id, 9) AS organization_id, sum(requests) AS requests, trim_scale(sum(cost)) AS cost FROM llm.usage GROUP BY 1 HAVING sum(requests) <> 0 OR sum(cost) <> 0 ORDER BY 1;

RESET search_path;
DROP SCHEMA capture_values CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
