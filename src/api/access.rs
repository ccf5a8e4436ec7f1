//! Identity, what a caller may open, and what the policies and `llm.usage` ask.

use crate::access::{self, Reason, Standing};
use crate::api::answer::json;
use crate::api::arguments::{bounded, required, required_id};
use crate::directory::{Directories, attach};
use crate::error::{Error, Result};
use crate::identity::{self, Asker, Caller};
use crate::rights;
use crate::scope;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde::Serialize;

#[pg_extern(sql = false)]
fn llm_act_as(user_id: Option<String>) -> std::result::Result<(), ErrorReport> {
    Ok(identity::asked(|asker| identity::act_as(asker, required_id("user_id", user_id)?))?)
}

#[pg_extern(sql = false)]
fn llm_bind_role(role: Option<String>, user_id: Option<String>, all_organizations: Option<bool>) -> std::result::Result<(), ErrorReport> {
    rights::writes(c"llm.bind_role()");
    let role = required("role", role)?;
    let all_organizations = required("all_organizations", all_organizations)?;
    if user_id.is_none() && !all_organizations {
        return Err(Error::null("user_id").into());
    }
    Ok(identity::bind(&role, user_id.map(bounded), all_organizations)?)
}

#[pg_extern(sql = false)]
fn llm_unbind_role(role: Option<String>) -> std::result::Result<(), ErrorReport> {
    rights::writes(c"llm.unbind_role()");
    Ok(identity::unbind(&required("role", role)?)?)
}

#[pg_extern(sql = false)]
fn llm_current_user_id() -> std::result::Result<Option<String>, ErrorReport> {
    Ok(match identity::asked(Asker::identity)? {
        Caller::User(user) => Some(user),
        Caller::Everything | Caller::Nobody => None,
    })
}

#[derive(Serialize)]
struct Capability {
    allowed: bool,
    reason: Option<&'static str>,
}

impl From<Option<Reason>> for Capability {
    fn from(refused: Option<Reason>) -> Capability {
        Capability { allowed: refused.is_none(), reason: refused.map(Reason::name) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    project_analytics: Capability,
    api_key_statistics: Capability,
    own_usage: Capability,
    organization_analytics: Capability,
    member_analytics: Capability,
}

#[derive(Serialize)]
struct Access {
    organization: Option<String>,
    plan: Option<String>,
    role: Option<String>,
    capabilities: Capabilities,
}

#[pg_extern(sql = false)]
fn llm_access(org: Option<String>) -> std::result::Result<Option<String>, ErrorReport> {
    Ok(Some(identity::asked(|asker| what_is_open(asker, org))?))
}

fn what_is_open(asker: &Asker, org: Option<String>) -> Result<String> {
    let org = org.map(bounded);
    let directories = Directories::load()?;
    let standing = match &org {
        Some(org) => access::standing(asker, &directories, org)?,
        // No organization: the same as one that the caller does not belong to.
        None => match asker.identity()? {
            Caller::Nobody => Standing::Nobody,
            Caller::Everything => Standing::Everything,
            Caller::User(_) => Standing::Stranger,
        },
    };
    let (mut organization, mut plan, mut role) = (None, None, None);
    let capabilities = Capabilities {
        project_analytics: standing.refuses_member().into(),
        api_key_statistics: standing.refuses_member().into(),
        own_usage: standing.refuses_own().into(),
        organization_analytics: standing.refuses_organization().into(),
        member_analytics: standing.refuses_organization().into(),
    };
    match standing {
        Standing::Member(member) => (organization, plan, role) = (org, member.plan, Some(member.role)),
        Standing::Everything => {
            if let Some(org) = org {
                let known = directories.organization(&org)?;
                if known.is_known {
                    (organization, plan) = (Some(org), known.plan);
                }
            }
        }
        Standing::Nobody | Standing::Stranger => {}
    }
    json(&Access { organization, plan, role, capabilities })
}

#[pg_extern(sql = false)]
fn llm_scope() -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(orgs, Vec<i32>),
            name!(whole, Vec<i32>),
            name!(org_ids, Vec<String>),
            name!(whole_ids, Vec<String>),
            name!(keys, Vec<String>),
            name!(series, Vec<i32>),
            name!(everything, bool),
        ),
    >,
    ErrorReport,
> {
    let scope = scope::scope(&Asker::now())?;
    Ok(TableIterator::once((
        scope.orgs.clone(),
        scope.whole.clone(),
        scope.org_ids.clone(),
        scope.whole_ids.clone(),
        scope.keys.clone(),
        scope.series.clone(),
        scope.everything,
    )))
}

#[pg_extern(sql = false)]
fn llm_labels(
    kind: Option<String>,
) -> std::result::Result<TableIterator<'static, (name!(id, String), name!(label, Option<String>), name!(owner, Option<String>))>, ErrorReport>
{
    let labels = identity::asked(|asker| scope::labels(asker, attach::kind(&required("kind", kind)?)?))?;
    Ok(TableIterator::new(labels))
}
