//! Questions to the directories, always by id: what things are called, whose they are, who belongs where.

use crate::directory::{Directories, long_too, texts};
use crate::error::Result;
use crate::guc::{self, ADMIN_ROLES, ENTERPRISE_PLANS};
use crate::query::{self, See};
use llm_analytics_core::dimension;
use llm_analytics_core::directory::Kind;
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Clone, Default)]
pub struct Organization {
    pub plan: Option<String>,
    pub is_enterprise: bool,
    pub is_deleted: bool,
    pub is_known: bool,
}

#[derive(Clone, Default)]
pub struct Project {
    pub name: Option<String>,
    pub organization: Option<String>,
    pub is_deleted: bool,
}

#[derive(Clone, Default)]
pub struct ApiKey {
    pub label: Option<String>,
    pub owner: Option<String>,
    pub project: Option<String>,
}

#[derive(Clone, Default)]
pub struct User {
    pub name: Option<String>,
    pub email: Option<String>,
}

/// What is known of an id whatever became of it: `llm._remembered`.
#[derive(Clone, Default)]
struct Remembered {
    label: Option<String>,
    owner: Option<String>,
    parent: Option<String>,
}

/// Whether a role is among `llm.admin_roles`.
pub fn is_admin(role: &str) -> bool {
    guc::lists(&ADMIN_ROLES, role)
}

fn take(texts: &mut [Option<String>], at: usize) -> Option<String> {
    texts.get_mut(at).and_then(Option::take)
}

impl Directories {
    /// Those asked for, and what they are: without a row in a directory that has plans an organization has none.
    pub fn organizations(&self, ids: &[String]) -> Result<HashMap<String, Organization>> {
        let directory = self.of(Kind::Organization);
        let plans = directory.maps("plan");
        let without =
            Organization { plan: (!plans).then(|| "enterprise".to_string()), is_enterprise: !plans, is_deleted: false, is_known: false };
        let mut found: HashMap<String, Organization> = ids.iter().map(|id| (id.clone(), without.clone())).collect();
        directory.rows(&["id", "plan", "status"], &[("id", ids)], |mut row| {
            let (id, plan, status) = (take(&mut row, 0), take(&mut row, 1), take(&mut row, 2));
            if let Some(known) = id.and_then(|id| found.get_mut(&id)) {
                known.is_known = true;
                known.is_deleted |= status.as_deref() == Some("deleted");
                if plans {
                    known.is_enterprise = plan.as_deref().is_some_and(|plan| guc::lists(&ENTERPRISE_PLANS, plan));
                    known.plan = plan;
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    pub fn organization(&self, id: &str) -> Result<Organization> {
        Ok(self.organizations(&[id.to_string()])?.remove(id).unwrap_or_default())
    }

    /// (organization, user) -> role: from the memberships, and from users that say themselves where they belong.
    fn roles(&self, organization: Option<&str>, user: Option<&str>) -> Result<BTreeMap<(String, String), String>> {
        let mut found: BTreeMap<(String, String), String> = BTreeMap::new();
        let sources = [(Kind::Membership, "user_id"), (Kind::User, "id")];
        for (kind, id) in sources {
            let directory = self.of(kind);
            if !directory.maps("organization_id") || !directory.maps("role") {
                continue;
            }
            let (organizations, users) = (organization.map(|o| vec![o.to_string()]), user.map(|u| vec![u.to_string()]));
            let mut wanted: Vec<(&str, &[String])> = Vec::new();
            wanted.extend(organizations.as_deref().map(|list| ("organization_id", list)));
            wanted.extend(users.as_deref().map(|list| (id, list)));
            directory.rows(&["organization_id", id, "role"], &wanted, |mut row| {
                let (Some(of), Some(who)) = (take(&mut row, 0), take(&mut row, 1)) else { return Ok(()) };
                // The host's collation may call other ids equal; only the very id counts.
                if organization.is_some_and(|organization| organization != of) || user.is_some_and(|user| user != who) {
                    return Ok(());
                }
                let role = take(&mut row, 2).unwrap_or_default();
                let known = found.entry((of, who)).or_insert_with(|| role.clone());
                if !is_admin(known) && is_admin(&role) {
                    *known = role;
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// The organizations somebody belongs to, with role and facts; deleted organizations have no members.
    pub fn memberships(&self, user: &str) -> Result<Vec<(String, String, Organization)>> {
        let roles = self.roles(None, Some(user))?;
        let ids: Vec<String> = roles.keys().map(|(organization, _)| organization.clone()).collect();
        let facts = self.organizations(&ids)?;
        let member = roles.into_iter().filter_map(|((organization, _), role)| {
            let facts = facts.get(&organization)?.clone();
            (!facts.is_deleted).then_some((organization, role, facts))
        });
        Ok(member.collect())
    }

    /// Somebody's role in an organization and its facts; None for whoever is no member.
    pub fn membership(&self, organization: &str, user: &str) -> Result<Option<(String, Organization)>> {
        let Some((_, role)) = self.roles(Some(organization), Some(user))?.pop_first() else { return Ok(None) };
        let facts = self.organization(organization)?;
        Ok((!facts.is_deleted).then_some((role, facts)))
    }

    /// User -> role, of all current members.
    pub fn members(&self, organization: &str) -> Result<BTreeMap<String, String>> {
        if self.organization(organization)?.is_deleted {
            return Ok(BTreeMap::new());
        }
        Ok(self.roles(Some(organization), None)?.into_iter().map(|((_, user), role)| (user, role)).collect())
    }

    fn remembered(&self, kind: Kind, ids: &[String]) -> Result<HashMap<String, Remembered>> {
        let mut found = HashMap::new();
        if ids.is_empty() {
            return Ok(found);
        }
        let sql = format!(
            "SELECT r.id, r.label, r.owner, r.parent FROM llm._remembered r WHERE r.kind = $1 AND (r.id = ANY ($2){})",
            if ids.iter().any(|id| dimension::is_clipped(id)) { long_too("r.id") } else { String::new() }
        );
        query::each(&sql, &[kind.name().into(), ids.to_vec().into()], See::Active, |row| {
            let mut row = texts(row, &["id", "label", "owner_id", "parent_id"]);
            if let Some(id) = take(&mut row, 0).filter(|id| ids.contains(id)) {
                found.insert(id, Remembered { label: take(&mut row, 1), owner: take(&mut row, 2), parent: take(&mut row, 3) });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// API keys: as the directory has them, else as they were last known. None is missing where both know nothing.
    pub fn api_keys(&self, ids: &[String]) -> Result<HashMap<String, ApiKey>> {
        let mut found: HashMap<String, ApiKey> = HashMap::new();
        self.of(Kind::ApiKey).rows(&["id", "label", "user_id", "project_id"], &[("id", ids)], |mut row| {
            if let Some(id) = take(&mut row, 0) {
                found.insert(id, ApiKey { label: take(&mut row, 1), owner: take(&mut row, 2), project: take(&mut row, 3) });
            }
            Ok(())
        })?;
        for (id, last) in self.remembered(Kind::ApiKey, ids)? {
            let key = found.entry(id).or_default();
            key.label = key.label.take().or(last.label);
            key.owner = key.owner.take().or(last.owner);
            key.project = key.project.take().or(last.parent);
        }
        Ok(found)
    }

    /// Projects, likewise.
    pub fn projects(&self, ids: &[String]) -> Result<HashMap<String, Project>> {
        let mut found: HashMap<String, Project> = HashMap::new();
        self.of(Kind::Project).rows(&["id", "name", "organization_id", "status"], &[("id", ids)], |mut row| {
            if let Some(id) = take(&mut row, 0) {
                let is_deleted = take(&mut row, 3).as_deref() == Some("deleted");
                found.insert(id, Project { name: take(&mut row, 1), organization: take(&mut row, 2), is_deleted });
            }
            Ok(())
        })?;
        for (id, last) in self.remembered(Kind::Project, ids)? {
            let project = found.entry(id).or_insert_with(|| Project { is_deleted: true, ..Project::default() });
            project.name = project.name.take().or(last.label);
            project.organization = project.organization.take().or(last.parent);
        }
        Ok(found)
    }

    /// Users, likewise: of one who is gone the last known label is the name.
    pub fn users(&self, ids: &[String]) -> Result<HashMap<String, User>> {
        let mut found: HashMap<String, User> = HashMap::new();
        self.of(Kind::User).rows(&["id", "name", "email"], &[("id", ids)], |mut row| {
            if let Some(id) = take(&mut row, 0) {
                found.insert(id, User { name: take(&mut row, 1), email: take(&mut row, 2) });
            }
            Ok(())
        })?;
        for (id, last) in self.remembered(Kind::User, ids)? {
            let user = found.entry(id).or_default();
            if user.name.is_none() && user.email.is_none() {
                user.name = last.label;
            }
        }
        Ok(found)
    }

    /// Key -> whose it is.
    pub fn owners(&self, keys: &[String]) -> Result<HashMap<String, String>> {
        Ok(self.api_keys(keys)?.into_iter().filter_map(|(id, key)| Some((id, key.owner?))).collect())
    }

    /// Id -> what it is called; an id that is called nothing is missing.
    pub fn labels(&self, kind: Kind, ids: &[String]) -> Result<HashMap<String, String>> {
        let pairs: Vec<(String, Option<String>)> = match kind {
            Kind::Project => self.projects(ids)?.into_iter().map(|(id, project)| (id, project.name)).collect(),
            Kind::ApiKey => self.api_keys(ids)?.into_iter().map(|(id, key)| (id, key.label)).collect(),
            Kind::User => self.users(ids)?.into_iter().map(|(id, user)| (id, user.name.or(user.email))).collect(),
            Kind::Organization => {
                let mut pairs = Vec::new();
                self.of(kind).rows(&["id", "name"], &[("id", ids)], |mut row| {
                    pairs.extend(take(&mut row, 0).map(|id| (id, take(&mut row, 1))));
                    Ok(())
                })?;
                let known: HashSet<String> = pairs.iter().filter(|(_, name)| name.is_some()).map(|(id, _)| id.clone()).collect();
                let last = self.remembered(kind, ids)?.into_iter().filter(|(id, _)| !known.contains(id));
                pairs.extend(last.map(|(id, last)| (id, last.label)));
                pairs
            }
            Kind::Membership => Vec::new(),
        };
        Ok(pairs.into_iter().filter_map(|(id, label)| Some((id, label?))).collect())
    }

    /// The keys that are somebody's: those the directory says they created, and those last known as theirs that it gives to nobody else.
    pub fn keys_of(&self, user: &str) -> Result<Vec<String>> {
        let mut keys: HashSet<String> = HashSet::new();
        self.of(Kind::ApiKey).rows(&["id", "user_id"], &[("user_id", &[user.to_string()])], |mut row| {
            if row.get(1).and_then(Option::as_deref) == Some(user) {
                keys.extend(take(&mut row, 0));
            }
            Ok(())
        })?;
        let mut last_known: Vec<String> = Vec::new();
        let long = if dimension::is_clipped(user) { long_too("r.owner") } else { String::new() };
        let sql = format!("SELECT r.id, r.owner FROM llm._remembered r WHERE r.kind = 'api_key' AND (r.owner = $1{long})");
        query::each(&sql, &[user.into()], See::Active, |row| {
            last_known.extend(take(&mut texts(row, &["id", "owner_id"]), 0));
            Ok(())
        })?;
        let owners = self.owners(&last_known)?;
        keys.extend(last_known.into_iter().filter(|key| owners.get(key).is_some_and(|owner| owner == user)));
        let mut keys: Vec<String> = keys.into_iter().collect();
        keys.sort();
        Ok(keys)
    }

    /// User -> how many keys they created in projects of the organization that are not deleted, whatever the keys' status.
    pub fn key_counts(&self, organization: &str, users: &[String]) -> Result<HashMap<String, i64>> {
        let mut created: Vec<(String, String)> = Vec::new();
        self.of(Kind::ApiKey).rows(&["user_id", "project_id"], &[("user_id", users)], |mut row| {
            if let (Some(user), Some(project)) = (take(&mut row, 0), take(&mut row, 1)) {
                created.push((user, project));
            }
            Ok(())
        })?;
        let ids: HashSet<String> = created.iter().map(|(_, project)| project.clone()).collect();
        let projects = self.projects(&ids.into_iter().collect::<Vec<_>>())?;
        let counts = |project: &String| {
            projects.get(project).is_some_and(|project| !project.is_deleted && project.organization.as_deref() == Some(organization))
        };
        let mut found: HashMap<String, i64> = HashMap::new();
        for (user, _) in created.into_iter().filter(|(_, project)| counts(project)) {
            *found.entry(user).or_default() += 1;
        }
        Ok(found)
    }
}
