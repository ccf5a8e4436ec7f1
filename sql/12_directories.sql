-- The last of the shipped directories; which of the host's tables stand in their place; what was known of ids that are gone; and which
-- roles are whom.

CREATE TABLE llm.membership (
    organization_id text COLLATE "C",
    user_id         text COLLATE "C",
    role            text NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX membership_user ON llm.membership (user_id);
COMMENT ON TABLE llm.membership IS 'directory of memberships: who belongs to which organization, in which role';
COMMENT ON COLUMN llm.membership.organization_id IS 'the organization';
COMMENT ON COLUMN llm.membership.user_id IS 'the user';
COMMENT ON COLUMN llm.membership.role IS 'role in the organization; llm.admin_roles says which ones see all of it';

CREATE INDEX project_organization ON llm.project (organization_id);
CREATE INDEX api_key_user ON llm.api_key (user_id);
CREATE INDEX api_key_project ON llm.api_key (project_id);

CREATE TABLE llm.directory (
    kind            text PRIMARY KEY CHECK (kind IN ('organization', 'project', 'api_key', 'user', 'membership')),
    relation_schema text NOT NULL,
    relation_name   text NOT NULL,
    columns         jsonb NOT NULL,
    preset          text,
    attached_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE llm.directory IS 'the host''s own tables that are attached as directories; a kind that is not here is read from the shipped table';
COMMENT ON COLUMN llm.directory.kind IS 'organization, project, api_key, user or membership';
COMMENT ON COLUMN llm.directory.relation_schema IS 'schema of the table; follows a rename';
COMMENT ON COLUMN llm.directory.relation_name IS 'name of the table; follows a rename';
COMMENT ON COLUMN llm.directory.columns IS 'field -> {"column", "attnum"} or {"expression"} (deparsed, qualified)';
COMMENT ON COLUMN llm.directory.preset IS 'the preset that recognised the table, or NULL for an explicit mapping';
COMMENT ON COLUMN llm.directory.attached_at IS 'when it was attached';

CREATE TABLE llm._remembered (
    kind   text NOT NULL,
    id     text COLLATE "C" NOT NULL,
    label  text,
    owner  text COLLATE "C",
    parent text COLLATE "C",
    PRIMARY KEY (kind, id)
);
CREATE INDEX _remembered_owner ON llm._remembered (owner) WHERE owner IS NOT NULL;
COMMENT ON TABLE llm._remembered IS 'what ids were called last, whose they were (of API keys: the user) and what they belonged to (of projects: the organization, of API keys: the project), as the directories had it before it was changed or deleted';

CREATE TABLE llm._binding (
    role              text PRIMARY KEY,
    user_id           text COLLATE "C",
    all_organizations boolean NOT NULL DEFAULT false,
    CHECK ((user_id IS NOT NULL) <> all_organizations),
    role_oid          oid NOT NULL DEFAULT 0
);
COMMENT ON COLUMN llm._binding.role_oid IS 'the role that the binding was made for: it does not count for another role of that name, which a restore, a rename or a new CREATE ROLE may bring. 0: not confirmed since it was restored';
COMMENT ON TABLE llm._binding IS 'database roles that are a user of the host application, or a service that sees all organizations';

CREATE FUNCTION llm._binding_is_new() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- Fires for the rows of a dump too. Another server may have given the number to another role of the same name, so llm.bind_role writes
-- it after the row.
BEGIN
    NEW.role_oid := 0;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION llm._binding_is_new() IS 'trigger of llm._binding: a row that comes in counts once llm.bind_role confirms it';
CREATE TRIGGER binding_is_new BEFORE INSERT ON llm._binding FOR EACH ROW EXECUTE FUNCTION llm._binding_is_new();
ALTER TABLE llm._binding ENABLE ALWAYS TRIGGER binding_is_new;
