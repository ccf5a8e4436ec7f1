-- The host's table: LLM Gateway's request log. Timestamps are WITHOUT time zone and hold UTC, money is real, tokens are numeric.
-- Its indexes are made after the history is loaded (history.sql).
CREATE TABLE public.log (
    id                   text NOT NULL,
    request_id           text NOT NULL,
    created_at           timestamp NOT NULL DEFAULT now(),
    updated_at           timestamp NOT NULL DEFAULT now(),
    organization_id      text NOT NULL,
    project_id           text NOT NULL,
    api_key_id           text NOT NULL,
    duration             int NOT NULL,
    time_to_first_token  int,
    requested_model      text NOT NULL,
    requested_provider   text,
    used_model           text NOT NULL,
    used_model_mapping   text,
    used_provider        text NOT NULL,
    response_size        int NOT NULL,
    content              text,
    messages             json,
    finish_reason        text,
    unified_finish_reason text,
    prompt_tokens        numeric,
    completion_tokens    numeric,
    total_tokens         numeric,
    reasoning_tokens     numeric,
    cached_tokens        numeric,
    cache_write_tokens   numeric,
    cost                 real,
    input_cost           real,
    output_cost          real,
    cached_input_cost    real,
    request_cost         real,
    discount             real,
    has_error            boolean DEFAULT false,
    canceled             boolean NOT NULL DEFAULT false,
    streamed             boolean NOT NULL DEFAULT false,
    cached               boolean DEFAULT false,
    mode                 text NOT NULL,
    used_mode            text NOT NULL,
    source               text,
    custom_headers       json
);

-- Everything else of the demo.
CREATE SCHEMA demo;

-- US dollars per million tokens: the providers' public list prices of November 2025, standard tier, prompts up to 200,000 tokens.
-- A model without a price of its own for cached input is charged the input price.
CREATE TABLE demo.model (
    slot      int PRIMARY KEY,
    mapping   text NOT NULL,
    provider  text NOT NULL,
    input     float8 NOT NULL,
    output    float8 NOT NULL,
    cached    float8 NOT NULL,
    reasoning float8 NOT NULL        -- share of the output that is reasoning
);
INSERT INTO demo.model VALUES
    ( 1, 'openai/gpt-5',                      'openai',     1.25, 10.00, 0.125, 0.6),
    ( 2, 'openai/gpt-5-mini',                 'openai',     0.25,  2.00, 0.025, 0.4),
    ( 3, 'openai/gpt-4.1',                    'openai',     2.00,  8.00, 0.50,  0),
    ( 4, 'openai/gpt-4o-mini',                'openai',     0.15,  0.60, 0.075, 0),
    ( 5, 'anthropic/claude-opus-4-5',         'anthropic',  5.00, 25.00, 0.50,  0),
    ( 6, 'anthropic/claude-sonnet-4-5',       'anthropic',  3.00, 15.00, 0.30,  0),
    ( 7, 'anthropic/claude-haiku-4-5',        'anthropic',  1.00,  5.00, 0.10,  0),
    ( 8, 'google-ai-studio/gemini-2.5-pro',   'google-ai-studio', 1.25, 10.00, 0.125, 0.5),
    ( 9, 'google-ai-studio/gemini-2.5-flash', 'google-ai-studio', 0.30,  2.50, 0.03,  0.3),
    (10, 'deepseek/deepseek-chat',            'deepseek',   0.28,  0.42, 0.028, 0),
    (11, 'mistral/mistral-medium-latest',     'mistral',    0.40,  2.00, 0.40,  0),
    (12, 'groq/llama-3.3-70b-versatile',      'groq',       0.59,  0.79, 0.59,  0);

-- When a workload is busy: 24 weights by local hour, and the weight of a Saturday or Sunday.
CREATE TABLE demo.profile (
    name    text PRIMARY KEY,
    hours   float8[] NOT NULL CHECK (cardinality(hours) = 24),
    weekend float8 NOT NULL
);
INSERT INTO demo.profile VALUES
    --            0   1   2   3   4   5   6   7   8    9    10   11   12   13   14   15   16   17   18   19   20   21   22   23
    ('office',   '{.2, .1, .1, .1, .1, .2, .5, 1.5,5,   9,   10,  10,  7,   9,   10,  10,  9,   7,   5,   2,   1.2, .8,  .5,  .3}', 0.10),
    ('consumer', '{1.5,1,  .7, .5, .5, .7, 1.5,3,  5,   8,   9,   9,   9,   9,   9,   9,   9,   9,   8.5, 7,   7,   6,   4,   2.5}', 0.55),
    ('nightly',  '{0,  0,  60, 35, 5,  0,  0,  0,  0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0}',   0.80),
    ('always',   '{4,  4,  4,  4,  4,  4,  4,  4,  4,   4,   4,   4,   4,   4,   4,   4,   4,   4,   4,   4,   4,   4,   4,   4}',   1.00);

-- The directories that give the ids their names.
INSERT INTO llm.organization (id, name, plan) VALUES
    ('org_acme',    'Acme Robotics',    'enterprise'),
    ('org_globex',  'Globex Bank',      'enterprise'),
    ('org_initech', 'Initech Software', 'free');
INSERT INTO llm.project (id, organization_id, name, status) VALUES
    ('prj_acme_api',       'org_acme',    'Production API',      'active'),
    ('prj_acme_support',   'org_acme',    'Support assistant',   'active'),
    ('prj_acme_code',      'org_acme',    'Engineering copilot', 'active'),
    ('prj_acme_docs',      'org_acme',    'Document pipeline',   'active'),
    ('prj_acme_lab',       'org_acme',    'Lab',                 'active'),
    ('prj_acme_bot',       'org_acme',    'Old website bot',     'deleted'),
    ('prj_globex_risk',    'org_globex',  'Risk reports',        'active'),
    ('prj_globex_advisor', 'org_globex',  'Advisor desk',        'active'),
    ('prj_globex_it',      'org_globex',  'IT helpdesk',         'active'),
    ('prj_initech_app',    'org_initech', 'Invoice app',         'active'),
    ('prj_initech_dev',    'org_initech', 'Developers',          'active');
INSERT INTO llm.app_user (id, name, email) VALUES
    ('usr_ana',    'Ana Torres',     'ana@acme.example'),
    ('usr_ben',    'Ben Fischer',    'ben@acme.example'),
    ('usr_chioma', 'Chioma Obi',     'chioma@acme.example'),
    ('usr_dmitri', 'Dmitri Ivanov',  'dmitri@acme.example'),
    ('usr_emma',   'Emma Lindqvist', 'emma@acme.example'),
    ('usr_frank',  'Frank Moore',    'frank@globex.example'),
    ('usr_grace',  'Grace Kim',      'grace@globex.example'),
    ('usr_hugo',   'Hugo Martins',   'hugo@globex.example'),
    ('usr_indira', 'Indira Nair',    'indira@initech.example'),
    ('usr_jay',    NULL,             'jay@initech.example');
INSERT INTO llm.membership (organization_id, user_id, role) VALUES
    ('org_acme',    'usr_ana',    'owner'),
    ('org_acme',    'usr_ben',    'admin'),
    ('org_acme',    'usr_chioma', 'developer'),
    ('org_acme',    'usr_dmitri', 'developer'),
    ('org_acme',    'usr_emma',   'developer'),
    ('org_globex',  'usr_frank',  'owner'),
    ('org_globex',  'usr_grace',  'developer'),
    ('org_globex',  'usr_ana',    'developer'),
    ('org_initech', 'usr_indira', 'owner'),
    ('org_initech', 'usr_jay',    'developer');

-- Who llm-dashboard is in the database: it may say for whom it asks, and nothing else.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'llm_dashboard') THEN
        CREATE ROLE llm_dashboard LOGIN;
    END IF;
END
$$;
GRANT EXECUTE ON FUNCTION llm.act_as TO llm_dashboard;

-- A workload is one application using one API key. share: requests relative to the others; mix: 16 model slots, one is drawn per
-- request; prompt, completion: median tokens; reuse: share of requests with a cached prompt prefix; hit: share answered from the gateway's
-- own cache; starts, ends: days before the last one between which it runs.
CREATE TABLE demo.workload (
    id           int PRIMARY KEY,
    organization text NOT NULL,
    zone         text NOT NULL,
    project      text NOT NULL,
    api_key      text NOT NULL,
    label        text NOT NULL,
    owner        text NOT NULL,
    application  text,
    mode         text NOT NULL,
    profile      text NOT NULL,
    share        float8 NOT NULL,
    growth       float8 NOT NULL,
    mix          int[] NOT NULL CHECK (cardinality(mix) = 16),
    prompt       float8 NOT NULL,
    completion   float8 NOT NULL,
    reuse        float8 NOT NULL,
    hit          float8 NOT NULL,
    streamed     float8 NOT NULL,
    starts       int NOT NULL DEFAULT 366,
    ends         int NOT NULL DEFAULT -1
);
INSERT INTO demo.workload VALUES
    -- org_acme
    ( 1, 'org_acme', 'Europe/Berlin', 'prj_acme_api', 'key_acme_live', 'live', 'usr_ana', 'web-app', 'credits', 'consumer', 30, 0.9,
        '{2,2,2,2,2,2,2,2,4,4,4,4,1,1,9,9}', 1600, 320, .5, .12, .9),
    ( 2, 'org_acme', 'Europe/Berlin', 'prj_acme_api', 'key_acme_live', 'live', 'usr_ana', 'mobile-app', 'credits', 'consumer', 14, 1.6,
        '{2,2,2,2,2,2,2,2,2,2,2,2,9,9,9,9}', 700, 160, .5, .10, .9),
    ( 3, 'org_acme', 'Europe/Berlin', 'prj_acme_api', 'key_acme_nightly', 'nightly batch', 'usr_ben', 'catalog-enrichment', 'credits', 'nightly', 5, 0.3,
        '{4,4,4,4,4,4,4,4,4,4,4,4,4,10,10,10}', 1800, 350, .2, 0, 0),
    ( 4, 'org_acme', 'Europe/Berlin', 'prj_acme_api', 'key_acme_monitor', 'synthetic checks', 'usr_ben', NULL, 'api-keys', 'always', 1.2, 0,
        '{4,4,4,4,2,2,2,2,7,7,7,7,9,9,12,12}', 40, 8, 0, .6, 0),
    ( 5, 'org_acme', 'Europe/Berlin', 'prj_acme_support', 'key_acme_helpdesk', 'helpdesk', 'usr_chioma', 'helpdesk', 'credits', 'consumer', 10, 0.7,
        '{7,7,7,7,7,7,7,7,7,7,6,6,6,2,2,2}', 4200, 380, .7, .05, .8),
    ( 6, 'org_acme', 'Europe/Berlin', 'prj_acme_support', 'key_acme_agent', 'refund agent', 'usr_chioma', 'refund-agent', 'credits', 'office', 3, 0,
        '{5,5,5,5,5,5,5,5,5,5,5,5,5,5,6,6}', 9000, 700, .6, 0, .2),
    ( 7, 'org_acme', 'Europe/Berlin', 'prj_acme_code', 'key_acme_dmitri', 'dmitri', 'usr_dmitri', 'vscode', 'api-keys', 'office', 6, 1.2,
        '{6,6,6,6,6,6,6,6,6,6,1,1,1,8,8,5}', 18000, 620, .8, 0, 1),
    ( 8, 'org_acme', 'Europe/Berlin', 'prj_acme_code', 'key_acme_emma', 'emma', 'usr_emma', 'vscode', 'api-keys', 'office', 3, 1.0,
        '{6,6,6,6,6,6,6,6,8,8,8,8,1,1,1,1}', 16000, 560, .8, 0, 1),
    ( 9, 'org_acme', 'Europe/Berlin', 'prj_acme_code', 'key_acme_ci', 'ci review', 'usr_dmitri', 'ci-review', 'credits', 'office', 2.5, 0.8,
        '{1,1,1,1,1,1,1,1,6,6,6,6,3,3,3,3}', 12000, 700, .4, 0, 0),
    (10, 'org_acme', 'Europe/Berlin', 'prj_acme_docs', 'key_acme_docs', 'extraction', 'usr_ben', 'doc-extract', 'credits', 'nightly', 3, 0.8,
        '{9,9,9,9,9,9,9,9,9,9,9,9,8,8,11,11}', 3800, 600, .1, .02, 0),
    (11, 'org_acme', 'Europe/Berlin', 'prj_acme_docs', 'key_acme_docs', 'extraction', 'usr_ben', 'doc-search', 'credits', 'office', 3, 0.6,
        '{9,9,9,9,9,9,9,9,2,2,2,2,2,2,11,11}', 1500, 180, .3, .15, .6),
    (12, 'org_acme', 'Europe/Berlin', 'prj_acme_lab', 'key_acme_lab_emma', 'emma lab', 'usr_emma', 'notebook', 'api-keys', 'office', 1.2, 0.2,
        '{5,5,6,6,1,1,8,8,10,10,12,12,11,11,3,3}', 2200, 700, .2, 0, .5),
    (13, 'org_acme', 'Europe/Berlin', 'prj_acme_lab', 'key_acme_lab_ana', 'ana lab', 'usr_ana', 'notebook', 'api-keys', 'office', 0.7, 0.2,
        '{5,6,6,6,1,1,1,8,10,10,12,12,12,12,3,3}', 1800, 600, .2, 0, .5),
    (14, 'org_acme', 'Europe/Berlin', 'prj_acme_bot', 'key_acme_bot', 'website', 'usr_chioma', 'website-bot', 'credits', 'consumer', 5, -0.6,
        '{4,4,4,4,4,4,4,4,4,4,4,4,4,4,3,3}', 800, 150, .4, .2, .7),
    -- org_globex
    (15, 'org_globex', 'America/New_York', 'prj_globex_advisor', 'key_globex_advisor', 'advisor desk', 'usr_frank', 'advisor-chat', 'api-keys', 'office', 14, 0.8,
        '{6,6,6,6,6,6,6,6,3,3,3,3,7,7,7,7}', 2100, 320, .6, .03, .9),
    (16, 'org_globex', 'America/New_York', 'prj_globex_advisor', 'key_globex_voice', 'voice', 'usr_grace', 'voice-notes', 'api-keys', 'office', 6, 1.4,
        '{9,9,9,9,9,9,9,9,9,9,9,9,4,4,4,4}', 1100, 200, .3, 0, .9),
    (17, 'org_globex', 'America/New_York', 'prj_globex_risk', 'key_globex_risk', 'risk batch', 'usr_hugo', 'risk-report', 'api-keys', 'nightly', 5, 0.5,
        '{1,1,1,1,1,1,1,1,1,1,1,1,3,3,3,3}', 5400, 900, .5, 0, 0),
    (18, 'org_globex', 'America/New_York', 'prj_globex_it', 'key_globex_it', 'it helpdesk', 'usr_grace', 'teams-bot', 'credits', 'office', 4, 0.4,
        '{2,2,2,2,2,2,2,2,2,2,2,2,4,4,4,4}', 950, 210, .4, .15, .8),
    (19, 'org_globex', 'America/New_York', 'prj_globex_it', 'key_globex_logs', 'log triage', 'usr_hugo', 'log-triage', 'credits', 'always', 2.5, 0.5,
        '{12,12,12,12,12,12,12,12,10,10,10,10,4,4,4,4}', 1600, 90, .2, .2, 0),
    (20, 'org_globex', 'America/New_York', 'prj_globex_it', 'key_globex_old', 'grace test', 'usr_grace', NULL, 'credits', 'office', 0.4, 0,
        '{3,3,3,3,3,3,3,3,4,4,4,4,4,4,4,4}', 500, 150, 0, 0, .3),
    -- org_initech
    (21, 'org_initech', 'Asia/Kolkata', 'prj_initech_app', 'key_initech_app', 'invoice app', 'usr_indira', 'invoice-app', 'credits', 'consumer', 8, 1.1,
        '{4,4,4,4,4,4,9,9,9,9,9,9,10,10,10,10}', 1300, 240, .3, .08, .4),
    (22, 'org_initech', 'Asia/Kolkata', 'prj_initech_app', 'key_initech_ocr', 'scanner', 'usr_indira', 'scanner', 'credits', 'office', 3.5, 0.9,
        '{9,9,9,9,9,9,9,9,9,9,9,9,8,8,8,8}', 2900, 310, .1, .04, 0),
    (23, 'org_initech', 'Asia/Kolkata', 'prj_initech_dev', 'key_initech_jay', 'jay', 'usr_jay', 'cli', 'api-keys', 'office', 1.8, 0.7,
        '{6,6,6,6,6,6,6,6,6,6,10,10,10,10,1,1}', 12000, 500, .7, 0, 1),
    (24, 'org_initech', 'Asia/Kolkata', 'prj_initech_dev', 'key_initech_eval', 'weekly evals', 'usr_jay', 'evals', 'api-keys', 'nightly', 1, 0.4,
        '{1,2,3,4,5,6,7,8,9,10,11,12,6,6,1,1}', 1500, 500, 0, .3, 0);

-- The jump to look for: in the last 30 days a new agent works with the dearest model.
UPDATE demo.workload SET starts = 29 WHERE application = 'refund-agent';
UPDATE demo.workload SET starts = 250 WHERE application = 'voice-notes';
UPDATE demo.workload SET ends = 140 WHERE application = 'website-bot';
UPDATE demo.workload SET ends = 200 WHERE label = 'grace test';

INSERT INTO llm.api_key (id, project_id, label, user_id)
SELECT DISTINCT api_key, project, label, owner FROM demo.workload;
