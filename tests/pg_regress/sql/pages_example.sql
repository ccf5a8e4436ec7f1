-- One call of every function, on the small example of docs/functions.md.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS llm_analytics CASCADE;
DROP TABLE IF EXISTS public.requests;
CREATE EXTENSION llm_analytics;
CREATE TABLE public.requests (created_at timestamptz, organization_id text, project_id text, api_key_id text, model text, provider text, application text, cost numeric, input_tokens bigint, output_tokens bigint, is_error boolean);
SELECT llm.attach_log('public.requests') ->> 'preset' AS preset;
INSERT INTO llm.organization VALUES ('org_acme','Acme','enterprise','active');
INSERT INTO llm.project VALUES ('prj_api','org_acme','Production API','active'),('prj_lab','org_acme','Lab','active');
INSERT INTO llm.api_key VALUES ('key_1','prj_api','server','ada','active'),('key_2','prj_lab','laptop','bob','active');
INSERT INTO llm.app_user VALUES ('ada','Ada','ada@acme.example'),('bob','Bob','bob@acme.example');
INSERT INTO llm.membership VALUES ('org_acme','ada','owner'),('org_acme','bob','developer');
INSERT INTO public.requests VALUES
('2026-06-23 10:00+00','org_acme','prj_api','key_1','openai/gpt-5.5','openai','Chat',2.5,1000,200,false),
('2026-06-24 10:00+00','org_acme','prj_api','key_1','openai/gpt-5.5','openai','Chat',4.25,1800,300,false),
('2026-06-24 11:00+00','org_acme','prj_api','key_1','openai/gpt-5.5','openai','Chat',0.75,200,50,true),
('2026-06-24 12:00+00','org_acme','prj_lab','key_2','anthropic/claude-5','anthropic','IDE',1.5,900,100,false);
\pset format unaligned
SELECT llm.analytics_activity('org_acme', 'project', '2026-06-24', '2026-06-24', 'Europe/Berlin');
SELECT llm.analytics_project('org_acme', 'prj_api', '2026-06-24', '2026-06-24');
SELECT llm.analytics_api_key('org_acme', 'key_2', '2026-06-24', '2026-06-24');
SELECT llm.analytics_members('org_acme', '2026-06-24', '2026-06-24');
SELECT llm.analytics_member('org_acme', 'ada', '2026-06-24', '2026-06-24');
SELECT llm.analytics_drivers('org_acme', '2026-06-24', '2026-06-24');
SELECT * FROM llm.activity('org_acme', 'user', '2026-06-23', '2026-06-25');
SELECT * FROM llm.members('org_acme', '2026-06-24', '2026-06-24');
BEGIN;
SELECT llm.act_as('bob');
SELECT llm.analytics_me('org_acme', '2026-06-24', '2026-06-24');
SELECT llm.access('org_acme');
SELECT llm.current_user_id();
SELECT llm.analytics_organizations();
SELECT llm.analytics_projects('org_acme');
SELECT llm.analytics_api_keys('org_acme');
COMMIT;
SELECT llm.analytics_projects('org_acme');
SELECT llm.analytics_api_keys('org_acme', 'prj_api');
SELECT llm.access('org_acme');
-- the queries of docs/bi.md
SELECT date_trunc('day', bucket, 'Europe/Berlin') AS day, project, sum(cost) AS cost FROM llm.usage GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2;
SELECT api_key, user_name, sum(cost) AS cost, sum(requests) AS requests FROM llm.usage GROUP BY 1, 2 ORDER BY 3 DESC, 1 LIMIT 20;
SELECT provider, round(100.0 * sum(errors) / nullif(sum(requests) - sum(client_errors), 0), 2) AS error_rate, sum(requests) AS requests FROM llm.usage GROUP BY 1 ORDER BY 2 DESC NULLS LAST, 1;
DROP TABLE public.requests;
DROP EXTENSION llm_analytics;
