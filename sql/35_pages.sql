-- Identity, directories, and the functions behind the pages. Who may call what is decided in src/access.rs by the caller's identity.

-- Identity. ROWS of llm._labels is high so that names are joined by hash, never row by row.

CREATE FUNCTION llm.act_as(user_id text) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_act_as_wrapper';
COMMENT ON FUNCTION llm.act_as(text) IS
    'for backends whose users share one role: until the end of this transaction the caller is this user of the host application. Undone with its savepoint; no setting. In a SECURITY DEFINER function it holds only where the owner of the function may call llm.act_as too. Grant EXECUTE to the backend''s role only. Errors: 22004, 22023 (empty), 42501 where another user was said before, the role is bound, or in a security-restricted operation (ANALYZE, REFRESH MATERIALIZED VIEW, ..)';

CREATE FUNCTION llm.bind_role(role text, user_id text DEFAULT NULL, all_organizations boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_bind_role_wrapper';
COMMENT ON FUNCTION llm.bind_role(text, text, boolean) IS
    'makes a database role (exactly it, not its members) this user of the host application, or, with all_organizations, a service that sees everything and does its own checks. At once, also in open connections. A binding counts for the role it was made for: after a restore, a rename or a new role of that name call it again. Errors: 22004, 22023 unless exactly one of both is given, 42704 (no such role)';

CREATE FUNCTION llm.unbind_role(role text) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_unbind_role_wrapper';
COMMENT ON FUNCTION llm.unbind_role(text) IS 'undoes llm.bind_role, also of a role that is gone. Errors: 22004, 42704 (not bound)';

CREATE FUNCTION llm.current_user_id() RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_current_user_id_wrapper';
COMMENT ON FUNCTION llm.current_user_id() IS
    'the user of the host application that the caller is: by llm.act_as in this transaction, else by llm.bind_role; NULL for nobody and for those who see everything';

CREATE FUNCTION llm._scope()
    RETURNS TABLE (orgs int[], whole int[], org_ids text[], whole_ids text[], keys text[], series int[], everything boolean)
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_scope_wrapper';
COMMENT ON FUNCTION llm._scope() IS
    'what the caller may see, for the policies, in one row: organizations (llm._org) they belong to, those they see all of, both as ids, their own API keys and the series of these in levels detail and key, and whether they see everything (then without ids). Says nothing about anybody else. Errors: 28000 where the current user has no identity in a SECURITY DEFINER function or a security-restricted operation';

CREATE FUNCTION llm._labels(kind text) RETURNS TABLE (id text, label text, owner text)
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED ROWS 10000 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_labels_wrapper';
COMMENT ON FUNCTION llm._labels(text) IS
    'names (and owners of API keys) of the ids that occur in usage the caller may see, from the directory of that kind (organization, project, api_key, user), else as they were last known. Errors: 22004, 22023, and those of llm._scope';

-- Directories

CREATE FUNCTION llm.attach_directory(kind text, relation regclass, columns jsonb DEFAULT NULL) RETURNS jsonb
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_attach_directory_wrapper';
COMMENT ON FUNCTION llm.attach_directory(text, regclass, jsonb) IS
    'reads organization | project | api_key | user | membership from the host''s own table from now on; nothing is copied. columns maps fields to a column or an SQL expression; NULL recognises the table (canonical names, LLM Gateway, LiteLLM). Triggers remember last known names and owners. Returns what was understood. Errors: 22004, 22023, 42703, 42809, 42P17, 42501, 55000 (already attached), 55P03';

CREATE FUNCTION llm.detach_directory(kind text) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_detach_directory_wrapper';
COMMENT ON FUNCTION llm.detach_directory(text) IS
    'reads the shipped table again; what the host''s table knew stays as last known names and owners. Errors: 22004, 22023, 42501, 55000 (not attached), 55P03';

CREATE FUNCTION llm._check_directory(kind text, relation regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'llm_check_directory_wrapper';
COMMENT ON FUNCTION llm._check_directory(text, regclass) IS 'follows renamed columns of an attached directory; 55000 where a change breaks its mapping';

-- Pages

CREATE FUNCTION llm.analytics_project(org text, project text, "from" date DEFAULT NULL, "to" date DEFAULT NULL, tz text DEFAULT 'UTC', model_view text DEFAULT 'mappings')
    RETURNS json
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_analytics_project_wrapper';
COMMENT ON FUNCTION llm.analytics_project(text, text, date, date, text, text) IS
    'the page of one project: totals, cost by model, and every local day by model, as JSON. Owners and admins see all of it, any other member the usage of their own keys. from and to: inclusive local dates in tz (default: the last 7 days); model_view: mappings | canonical. Errors: 22004, 22023, 28000, 42501 with reason, P0002, 0A000';

CREATE FUNCTION llm.analytics_api_key(org text, api_key text, "from" date DEFAULT NULL, "to" date DEFAULT NULL, tz text DEFAULT 'UTC', model_view text DEFAULT 'mappings')
    RETURNS json
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_analytics_api_key_wrapper';
COMMENT ON FUNCTION llm.analytics_api_key(text, text, date, date, text, text) IS
    'the page of one API key, as llm.analytics_project. Owners and admins: any key of the organization; any other member: the keys they created. Errors: 22004, 22023, 28000, 42501 with reason, P0002, 0A000';

CREATE FUNCTION llm.analytics_members(org text, "from" date DEFAULT NULL, "to" date DEFAULT NULL, tz text DEFAULT 'UTC')
    RETURNS json
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_analytics_members_wrapper';
COMMENT ON FUNCTION llm.analytics_members(text, date, date, text) IS
    'the members table as JSON: every current member, former members with usage (role null), and one row "Unattributed" for what is nobody''s; by cost descending. The rows add up to the organization. Owners and admins, enterprise plans. Errors: 22004, 22023, 28000, 42501 with reason, 0A000';

CREATE FUNCTION llm.members(org text, "from" date DEFAULT NULL, "to" date DEFAULT NULL, tz text DEFAULT 'UTC')
    RETURNS TABLE (user_id text, name text, email text, role text, api_key_count bigint, cost numeric, request_count bigint, input_tokens bigint, output_tokens bigint,
                   total_tokens bigint, error_count bigint, client_error_count bigint, cache_count bigint)
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED ROWS 100 SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_members_wrapper';
COMMENT ON FUNCTION llm.members(text, date, date, text) IS 'the rows of llm.analytics_members. Arguments and errors as there';

CREATE FUNCTION llm.analytics_member(org text, user_id text, "from" date DEFAULT NULL, "to" date DEFAULT NULL, tz text DEFAULT 'UTC', model_view text DEFAULT 'canonical')
    RETURNS json
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_analytics_member_wrapper';
COMMENT ON FUNCTION llm.analytics_member(text, text, date, date, text, text) IS
    'the page of one member: totals, what they use most, cost by model, top providers and applications, and every local day by model, as JSON. Owners and admins, enterprise plans. Errors: 22004, 22023, 28000, 42501 with reason, P0002, 0A000';

CREATE FUNCTION llm.analytics_me(org text, "from" date DEFAULT NULL, "to" date DEFAULT NULL, tz text DEFAULT 'UTC', model_view text DEFAULT 'canonical')
    RETURNS json
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_analytics_me_wrapper';
COMMENT ON FUNCTION llm.analytics_me(text, date, date, text, text) IS
    'as llm.analytics_member for the caller''s own API keys; for any member, on any plan. Errors: 22004, 22023, 28000, 42501 with reason, 0A000';

CREATE FUNCTION llm.analytics_drivers(org text, "from" date DEFAULT NULL, "to" date DEFAULT NULL, tz text DEFAULT 'UTC', compare_from date DEFAULT NULL, compare_to date DEFAULT NULL)
    RETURNS json
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_analytics_drivers_wrapper';
COMMENT ON FUNCTION llm.analytics_drivers(text, date, date, text, date, date) IS
    'why the bill changed, as JSON: by model, project, apiKey, user, provider and application what changed against the range before (the same number of days, unless compare_from and compare_to say otherwise), split exactly into volume (more or fewer requests) and price (each costs more or less), the largest change first. Owners and admins, enterprise plans. Errors: 22004, 22023, 28000, 42501 with reason, 0A000';

CREATE FUNCTION llm.access(org text) RETURNS json
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'llm_access_wrapper';
COMMENT ON FUNCTION llm.access(text) IS
    'what the caller may open for an organization, and why not (no_identity, not_member, role_required, plan_required), as JSON; organization, plan and role are null for whoever is no member. Fails only where a directory of the host cannot be read';

-- Lists, for navigation: what the caller may open.

CREATE FUNCTION llm.analytics_organizations() RETURNS json
    LANGUAGE c STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_analytics_organizations_wrapper';
COMMENT ON FUNCTION llm.analytics_organizations() IS
    'the organizations the caller belongs to, by name, as JSON: {"organizations":[{"id","name","plan","role"}]}; whoever sees everything gets all, role null. Errors: 28000';

CREATE FUNCTION llm.analytics_projects(org text) RETURNS json
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_analytics_projects_wrapper';
COMMENT ON FUNCTION llm.analytics_projects(text) IS
    'the projects of an organization that the caller may open, by name, as JSON: {"projects":[{"id","name","status"}]}, status active or deleted. Owners and admins: those of the directory and those that were used; any other member: those of their own keys. Errors: 22004, 28000, 42501 with reason';

CREATE FUNCTION llm.analytics_api_keys(org text, project text DEFAULT NULL) RETURNS json
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
    AS 'MODULE_PATHNAME', 'llm_analytics_api_keys_wrapper';
COMMENT ON FUNCTION llm.analytics_api_keys(text, text) IS
    'the API keys of an organization, or of one of its projects, that the caller may open, by label, as JSON: {"apiKeys":[{"id","label","projectId","project","createdBy","createdByName"}]}. Owners and admins: those of the directory and those that were used; any other member: their own. Errors: 22004, 28000, 42501 with reason';
