//! What navigation needs: the organizations, projects and API keys that the caller may open.

use crate::access::{self, Reach};
use crate::api::answer::json;
use crate::api::arguments::{bounded, required_id};
use crate::directory::Directories;
use crate::error::Result;
use crate::identity::{self, Asker, Caller};
use crate::query::{self, See};
use crate::read;
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::directory::Kind;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};

#[derive(Serialize)]
struct Organization {
    id: String,
    name: String,
    plan: Option<String>,
    role: Option<String>,
}

#[derive(Serialize)]
struct Organizations {
    organizations: Vec<Organization>,
}

#[derive(Serialize)]
struct Project {
    id: String,
    name: String,
    status: &'static str,
}

#[derive(Serialize)]
struct Projects {
    projects: Vec<Project>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiKey {
    id: String,
    label: String,
    project_id: Option<String>,
    project: Option<String>,
    created_by: Option<String>,
    created_by_name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiKeys {
    api_keys: Vec<ApiKey>,
}

/// The ids in a directory whose rows say so.
fn listed(directories: &Directories, kind: Kind, field: &str, values: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    directories.of(kind).rows(&["id"], &[(field, values)], |mut row| {
        found.extend(row.pop().flatten());
        Ok(())
    })?;
    Ok(found)
}

#[pg_extern(sql = false)]
fn llm_analytics_organizations() -> std::result::Result<Option<String>, ErrorReport> {
    Ok(Some(identity::asked(organizations)?))
}

fn organizations(asker: &Asker) -> Result<String> {
    let directories = Directories::load()?;
    let found: Vec<(String, Option<String>, Option<String>)> = match asker.identity()? {
        Caller::Nobody => return Err(asker.nobody()),
        Caller::User(user) => {
            directories.memberships(&user)?.into_iter().map(|(organization, role, facts)| (organization, facts.plan, Some(role))).collect()
        }
        Caller::Everything => {
            let mut ids: BTreeSet<String> = BTreeSet::new();
            directories.of(Kind::Organization).rows(&["id"], &[], |mut row| {
                ids.extend(row.pop().flatten());
                Ok(())
            })?;
            query::each("SELECT organization_id FROM llm._org", &[], See::Active, |row| {
                ids.extend(row.get::<String>(1));
                Ok(())
            })?;
            let ids: Vec<String> = ids.into_iter().collect();
            let mut facts = directories.organizations(&ids)?;
            ids.into_iter()
                .filter_map(|id| facts.remove(&id).filter(|facts| !facts.is_deleted).map(|facts| (id, facts.plan, None)))
                .collect()
        }
    };
    let ids: Vec<String> = found.iter().map(|(id, ..)| id.clone()).collect();
    let mut names = directories.labels(Kind::Organization, &ids)?;
    let mut organizations: Vec<Organization> = found
        .into_iter()
        .map(|(id, plan, role)| Organization { name: names.remove(&id).unwrap_or_else(|| id.clone()), id, plan, role })
        .collect();
    organizations.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    json(&Organizations { organizations })
}

#[pg_extern(sql = false)]
fn llm_analytics_projects(org: Option<String>) -> std::result::Result<Option<String>, ErrorReport> {
    Ok(Some(identity::asked(|asker| projects(asker, org))?))
}

fn projects(asker: &Asker, org: Option<String>) -> Result<String> {
    let org = required_id("org", org)?;
    let directories = Directories::load()?;
    let reach = access::require_member(asker, &directories, &org)?;
    let ids: BTreeSet<String> = match &reach {
        Reach::All => {
            let known = listed(&directories, Kind::Project, "organization_id", std::slice::from_ref(&org))?;
            known.into_iter().chain(read::used(&org, Dimension::Project)?).collect()
        }
        Reach::OwnKeys(user) => {
            let keys = directories.api_keys(&directories.keys_of(user)?)?;
            keys.into_values().filter_map(|key| key.project).collect()
        }
    };
    let ids: Vec<String> = ids.into_iter().collect();
    let mut known = directories.projects(&ids)?;
    let mut projects: Vec<Project> = ids
        .into_iter()
        .filter_map(|id| {
            let project = known.remove(&id).unwrap_or_default();
            // One's own keys may lie in projects of other organizations.
            let is_here = matches!(reach, Reach::All) || project.organization.as_ref() == Some(&org);
            let status = if project.is_deleted { "deleted" } else { "active" };
            is_here.then(|| Project { name: project.name.unwrap_or_else(|| id.clone()), id, status })
        })
        .collect();
    projects.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    json(&Projects { projects })
}

#[pg_extern(sql = false)]
fn llm_analytics_api_keys(org: Option<String>, project: Option<String>) -> std::result::Result<Option<String>, ErrorReport> {
    Ok(Some(identity::asked(|asker| api_keys(asker, org, project))?))
}

fn api_keys(asker: &Asker, org: Option<String>, project: Option<String>) -> Result<String> {
    let org = required_id("org", org)?;
    let directories = Directories::load()?;
    let project = project.map(bounded);
    let reach = access::require_member(asker, &directories, &org)?;
    let ids: BTreeSet<String> = match &reach {
        Reach::All => {
            let projects = listed(&directories, Kind::Project, "organization_id", std::slice::from_ref(&org))?;
            let known = listed(&directories, Kind::ApiKey, "project_id", &projects)?;
            known.into_iter().chain(read::used(&org, Dimension::ApiKey)?).collect()
        }
        Reach::OwnKeys(user) => directories.keys_of(user)?.into_iter().collect(),
    };
    let ids: Vec<String> = ids.into_iter().collect();
    let mut known = directories.api_keys(&ids)?;
    let of: BTreeSet<String> = known.values().filter_map(|key| key.project.clone()).collect();
    let projects = directories.projects(&of.into_iter().collect::<Vec<_>>())?;
    let owners: BTreeSet<String> = known.values().filter_map(|key| key.owner.clone()).collect();
    let names: HashMap<String, String> = directories.labels(Kind::User, &owners.into_iter().collect::<Vec<_>>())?;
    let mut api_keys: Vec<ApiKey> = ids
        .into_iter()
        .filter_map(|id| {
            let key = known.remove(&id).unwrap_or_default();
            let of = key.project.as_ref().and_then(|project| projects.get(project));
            let is_here = matches!(reach, Reach::All) || of.is_some_and(|project| project.organization.as_ref() == Some(&org));
            let is_asked = project.as_ref().is_none_or(|project| key.project.as_ref() == Some(project));
            (is_here && is_asked).then(|| ApiKey {
                label: key.label.unwrap_or_else(|| id.clone()),
                id,
                project: of.and_then(|project| project.name.clone()).or_else(|| key.project.clone()),
                project_id: key.project,
                created_by_name: key.owner.as_ref().map(|owner| names.get(owner).unwrap_or(owner).clone()),
                created_by: key.owner,
            })
        })
        .collect();
    api_keys.sort_by(|a, b| (&a.label, &a.id).cmp(&(&b.label, &b.id)));
    json(&ApiKeys { api_keys })
}
