-- Dimensions of any type and expressions over several columns.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA capture_types;
SET search_path = capture_types, public;

CREATE TYPE tier AS ENUM ('free', 'Pro plan');
CREATE DOMAIN org_name AS text CHECK (VALUE <> 'bad');
CREATE DOMAIN amount AS numeric(20,6);
CREATE TABLE log (org org_name, project uuid, key_no int, member bigint, vendor varchar(20), name text, tier tier, region char(4), at timestamptz, day date,
    tin int, tout smallint, price amount, factor real, status text, ended timestamptz, meta jsonb, ip inet);
-- two columns in an expression, a CASE, json, a cast, an enum and a uuid as they are, a host function, quoting
CREATE FUNCTION host_label(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1 || '@' || $2 $$;
SELECT 1 AS attached FROM llm.attach_log('log', jsonb_build_object('created_at', 'at', 'organization_id', 'org', 'project_id', 'project', 'api_key_id', 'key_no', 'user_id', 'member',
    'model', $$vendor || '/' || name$$, 'provider', 'region', 'application', $$capture_types.host_label(meta ->> 'app', coalesce(host(ip), ''))$$, 'mode', 'tier',
    'input_tokens', 'tin', 'output_tokens', 'tout', 'cost', 'price * 2', 'input_cost', '(price + 1) / 2', 'is_error', $$status = 'failure' OR status LIKE '5%'$$,
    'duration_ms', 'extract(epoch FROM ended - at) * 1000'));
INSERT INTO log VALUES
    ('Acme "Inc"', '00000000-0000-0000-0000-0000000000ab', 7, 42, 'openai', 'gpt-5', 'Pro plan', 'eu', '2026-01-05 10:00Z', '2026-01-05', 10, 5, 0.123456, 0.1, 'failure', '2026-01-05 10:00:01.5Z', '{"app": "chat"}', '10.0.0.1/8'),
    ('Acme "Inc"', '00000000-0000-0000-0000-0000000000ab', 7, 42, 'openai', 'gpt-5', 'Pro plan', 'eu  ', '2026-01-05 10:10Z', '2026-01-05', 1, 2, 1, 0.1, '503', NULL, '{"app": "chat"}', '10.0.0.1'),
    ('Acme "Inc"', NULL, NULL, NULL, NULL, 'gpt-5', 'free', 'us', '2026-01-05 10:20Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    ('Zoë''s', NULL, -1, 9223372036854775807, 'a', 'b:c', NULL, '', '2026-01-05 10:20Z', NULL, 1, -1, -0.000001, 0, 'success', '2026-01-05 10:20Z', '{"app": ""}', '::1');
SELECT organization_id, project_id, api_key_id, user_id, mapping, model, provider, application, mode FROM llm.usage ORDER BY organization_id COLLATE "C", project_id NULLS LAST;
SELECT organization_id, requests, errors, input_tokens, output_tokens, total_tokens, trim_scale(cost) AS cost, trim_scale(input_cost) AS input_cost, duration_ms, duration_count
    FROM llm.usage ORDER BY organization_id COLLATE "C", requests;
SELECT * FROM llm.verify();
SELECT llm.fold() AS folded;
SELECT * FROM llm.verify();
UPDATE log SET price = price + 1, tier = 'free', region = 'ap' WHERE key_no = 7;
UPDATE log SET vendor = 'x', ip = '10.0.0.9' WHERE key_no = -1;
SELECT * FROM llm.verify();
SELECT llm.rebuild('2026-01-01', '2026-02-01') IS NOT NULL AS rebuilt;
SELECT * FROM llm.verify();
SELECT mapping, provider, application, mode, sum(requests) AS requests, trim_scale(sum(cost)) AS cost FROM llm.usage GROUP BY 1, 2, 3, 4 HAVING sum(requests) <> 0 ORDER BY mapping COLLATE "C", application COLLATE "C";
-- a mapping whose columns are all alike: one column for two fields, a constant for a third
CREATE TABLE small (at timestamptz, who text, price numeric);
SELECT 1 AS attached FROM llm.attach_log('small', $${"created_at": "at", "organization_id": "'one'", "project_id": "who", "api_key_id": "who", "model": "'m'", "cost": "price", "input_tokens": "1"}$$);
INSERT INTO small VALUES ('2026-01-05', 'a', 1), ('2026-01-05', 'a', 2), ('2026-01-05', 'b', 3);
SELECT organization_id, project_id, api_key_id, mapping, requests, input_tokens, cost FROM llm.usage WHERE organization_id = 'one' ORDER BY 2;
SELECT * FROM llm.verify();
-- columns that come, go and are renamed beside the mapped ones
ALTER TABLE small ADD COLUMN first int, ADD COLUMN second text DEFAULT 'x';
INSERT INTO small VALUES ('2026-01-06', 'c', 4, 1, 'y');
ALTER TABLE small DROP COLUMN first;
ALTER TABLE small RENAME COLUMN price TO amount;
ALTER TABLE small RENAME TO smaller;
INSERT INTO smaller VALUES ('2026-01-06', 'c', 4, 'y');
UPDATE smaller SET amount = amount * 10 WHERE who = 'c';
UPDATE smaller SET second = 'z';
SELECT * FROM llm.verify();
SELECT project_id, sum(requests) AS requests, sum(cost) AS cost FROM llm.usage WHERE organization_id = 'one' GROUP BY 1 ORDER BY 1;

RESET search_path;
DROP SCHEMA capture_types CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
