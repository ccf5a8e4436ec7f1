-- Two real traces (columns TIMESTAMP, ContextTokens, GeneratedTokens) as an organization. They say nothing of models and prices, so the
-- model is called unknown and the cost is NULL.
INSERT INTO llm.organization (id, name, plan) VALUES ('azure_trace', 'Azure LLM inference trace 2023', 'enterprise');
INSERT INTO llm.membership (organization_id, user_id, role) VALUES ('azure_trace', 'usr_ana', 'owner');
INSERT INTO llm.project (id, organization_id, name) VALUES ('code', 'azure_trace', 'code'), ('conv', 'azure_trace', 'conv');
INSERT INTO llm.api_key (id, project_id, label) VALUES ('azure_code', 'code', 'code'), ('azure_conv', 'conv', 'conv');
INSERT INTO public.log (id, request_id, created_at, updated_at, organization_id, project_id, api_key_id, duration, requested_model, used_model,
                        used_provider, response_size, prompt_tokens, completion_tokens, total_tokens, mode, used_mode)
SELECT 'trace_' || project || row_number, 'trace_' || project || row_number, at, at, 'azure_trace', project, 'azure_' || project, 0,
       'unknown-model', 'azure/unknown-model', 'azure', 0, input, output, input + output, 'api-keys', 'api-keys'
FROM (SELECT *, row_number() OVER (ORDER BY project, at) FROM demo.trace) t;
