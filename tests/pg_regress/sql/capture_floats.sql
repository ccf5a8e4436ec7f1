-- Floats are read by their shortest decimal text, whatever extra_float_digits says, and a timestamp without time zone is UTC,
-- whatever TimeZone says; so do the settings of the session not matter for any other type that is shown as text.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
CREATE EXTENSION llm_analytics;
CREATE SCHEMA capture_floats;
SET search_path = capture_floats, public;

CREATE TABLE log (id int PRIMARY KEY, created_at timestamp, organization_id text, api_key_id text, model text, input_tokens real, cost real, input_cost double precision,
    day date, ratio double precision, bytes bytea, span interval);
SET TimeZone = 'America/New_York';
SET extra_float_digits = -15;
SET DateStyle = 'German, DMY';
SET bytea_output = 'escape';
SET IntervalStyle = 'sql_standard';
-- dimensions of types whose text depends on settings
SELECT 1 AS attached FROM llm.attach_log('log', '{"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "api_key_id", "model": "model", "input_tokens": "input_tokens",
    "cost": "cost", "input_cost": "input_cost", "project_id": "day", "user_id": "ratio", "provider": "bytes", "application": "span"}');
INSERT INTO log SELECT n, '2026-03-08 02:30', 'org', 'k' || n, 'm', n + 0.25, c::real, c::double precision, '2026-02-03', 0.1, '\x00ff', '1 day 2 hours'
    FROM unnest(ARRAY['0.1', '0.30000001', '1e-7', '16777216', '123456.789', '-0.0', '1e14', '3.3333333333333335', '1e-30', '1.5e-31']) WITH ORDINALITY u (c, n);
UPDATE log SET input_cost = 0.1::double precision + 0.2::double precision WHERE id = 1;
RESET extra_float_digits;
SET DateStyle = 'ISO, YMD';
SET TimeZone = 'UTC';
SELECT u.api_key_id, u.cost = round(l.cost::text::numeric, 30) AS cost_right, u.input_cost = round(l.input_cost::text::numeric, 30) AS input_cost_right, u.cost, u.input_cost
    FROM (SELECT api_key_id, trim_scale(sum(cost)) AS cost, trim_scale(sum(input_cost)) AS input_cost FROM llm.usage GROUP BY 1) u JOIN log l USING (api_key_id) ORDER BY id;
SELECT sum(cost) = (SELECT sum(round(cost::text::numeric, 30)) FROM log) AS total_right FROM llm.usage;
-- read as UTC: 02:30 does not exist in New York on that day
SELECT DISTINCT bucket FROM llm.usage;
-- verified, folded and rebuilt under other settings, then written under yet others: the same text each time
SELECT * FROM llm.verify();
SELECT llm.fold() > 0 AS folded;
SET extra_float_digits = 0;
SET DateStyle = 'SQL, MDY';
SELECT * FROM llm.verify();
SELECT llm.rebuild('2026-03-01', '2026-04-01') IS NOT NULL AS rebuilt;
SET TimeZone = 'Asia/Kolkata';
SET bytea_output = 'hex';
SET IntervalStyle = 'iso_8601';
SET llm.on_delete = 'subtract';
UPDATE log SET cost = cost * 2 WHERE id % 2 = 0;
DELETE FROM log WHERE id % 2 = 1;
SELECT * FROM llm.verify();
RESET ALL;
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET search_path = capture_floats, public;
SELECT project_id, user_id, provider, application, sum(requests) AS requests FROM llm.usage GROUP BY 1, 2, 3, 4 HAVING sum(requests) <> 0;
SELECT sum(cost) = (SELECT sum(round(cost::text::numeric, 30)) FROM log) AS total_right FROM llm.usage;

RESET search_path;
DROP SCHEMA capture_floats CASCADE;
DROP EXTENSION llm_analytics;
CREATE EXTENSION llm_analytics;
