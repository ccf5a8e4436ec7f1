//! Directories that are recognised by the columns they have.

use llm_analytics_core::directory::Kind;

struct Preset {
    name: &'static str,
    kind: Kind,
    /// The columns that tell the table from others, and those that tell it is another one.
    has: &'static [&'static str],
    has_not: &'static [&'static str],
    /// Empty: the columns that are named as the fields.
    fields: &'static [(&'static str, &'static str)],
}

const fn canonical(kind: Kind, has: &'static [&'static str], has_not: &'static [&'static str]) -> Preset {
    Preset { name: "canonical", kind, has, has_not, fields: &[] }
}

const fn litellm(
    kind: Kind,
    has: &'static [&'static str],
    has_not: &'static [&'static str],
    fields: &'static [(&'static str, &'static str)],
) -> Preset {
    Preset { name: "litellm", kind, has, has_not, fields }
}

/// LiteLLM's roles, where those who administer an organization or the proxy are admins.
const LITELLM_ROLE: &str = "CASE WHEN user_role IN ('org_admin', 'proxy_admin') THEN 'admin' ELSE user_role END";

/// LLM Gateway's tables have the canonical names, but for the API keys'. In order: the first that knows the table is taken.
const PRESETS: &[Preset] = &[
    Preset {
        name: "llmgateway",
        kind: Kind::ApiKey,
        has: &["id", "description", "project_id", "created_by"],
        has_not: &[],
        fields: &[("id", "id"), ("project_id", "project_id"), ("label", "description"), ("user_id", "created_by"), ("status", "status")],
    },
    litellm(
        Kind::Organization,
        &["organization_id", "organization_alias"],
        &["team_id"],
        &[("id", "organization_id"), ("name", "organization_alias")],
    ),
    litellm(
        Kind::Project,
        &["team_id", "team_alias", "organization_id"],
        &["token"],
        &[("id", "team_id"), ("organization_id", "coalesce(nullif(organization_id, ''), 'default')"), ("name", "team_alias")],
    ),
    litellm(
        Kind::ApiKey,
        &["token", "key_alias", "key_name", "team_id", "user_id"],
        &[],
        &[("id", "token"), ("project_id", "team_id"), ("label", "coalesce(nullif(key_alias, ''), key_name)"), ("user_id", "user_id")],
    ),
    // Requests without an organization are those of 'default': every user is a member of it.
    litellm(
        Kind::User,
        &["user_id", "user_alias", "user_email", "user_role"],
        &[],
        &[
            ("id", "user_id"),
            ("name", "user_alias"),
            ("email", "user_email"),
            ("organization_id", "'default'::text"),
            ("role", LITELLM_ROLE),
        ],
    ),
    // Without roles they are members of nothing.
    litellm(
        Kind::User,
        &["user_id", "user_alias", "user_email"],
        &["user_role"],
        &[("id", "user_id"), ("name", "user_alias"), ("email", "user_email")],
    ),
    litellm(
        Kind::Membership,
        &["user_id", "organization_id", "user_role"],
        &["user_email"],
        &[("organization_id", "organization_id"), ("user_id", "user_id"), ("role", LITELLM_ROLE)],
    ),
    canonical(Kind::Organization, &["id", "name"], &["organization_id", "project_id", "email"]),
    canonical(Kind::Project, &["id", "organization_id", "name"], &["project_id", "email"]),
    canonical(Kind::ApiKey, &["id", "project_id", "label"], &[]),
    canonical(Kind::User, &["id", "email"], &["organization_id", "project_id"]),
    canonical(Kind::Membership, &["organization_id", "user_id", "role"], &[]),
];

/// A field and the SQL it is read by.
pub type Spelled = Vec<(String, String)>;

/// The first preset of the kind that knows a table with these columns, with the SQL of each field whose column exists.
pub fn recognise(kind: Kind, columns: &[String]) -> Option<(&'static str, Spelled)> {
    let has = |name: &str| columns.iter().any(|column| column == name);
    let preset = PRESETS
        .iter()
        .find(|preset| preset.kind == kind && preset.has.iter().all(|name| has(name)) && !preset.has_not.iter().any(|name| has(name)))?;
    let spelled = if preset.fields.is_empty() {
        kind.shipped_fields().filter(|name| has(name)).map(|name| (name.to_string(), name.to_string())).collect()
    } else {
        let is_name = |sql: &str| sql.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let known = preset.fields.iter().filter(|(_, sql)| !is_name(sql) || has(sql));
        known.map(|(field, sql)| (field.to_string(), sql.to_string())).collect()
    };
    Some((preset.name, spelled))
}
