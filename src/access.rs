//! Who may see what: roles and plans of the directories, checked in the order of the design. Closed by default.

use crate::directory::Directories;
use crate::directory::lookup::is_admin;
use crate::error::{Error, Result};
use crate::identity::{Asker, Caller};
use pgrx::prelude::*;

/// What the caller is to one organization.
pub enum Standing {
    Everything,
    Nobody,
    Stranger,
    Member(Member),
}

pub struct Member {
    pub user: String,
    pub role: String,
    pub plan: Option<String>,
    pub is_admin: bool,
    pub is_enterprise: bool,
}

/// Whose usage a page shows.
pub enum Reach {
    All,
    OwnKeys(String),
}

/// Why something is not allowed, as answers and errors name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    NoIdentity,
    NotMember,
    RoleRequired,
    PlanRequired,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::NoIdentity => "no_identity",
            Reason::NotMember => "not_member",
            Reason::RoleRequired => "role_required",
            Reason::PlanRequired => "plan_required",
        }
    }

    pub fn error(self, asker: &Asker) -> Error {
        let (message, hint) = match self {
            Reason::NoIdentity => return asker.nobody(),
            Reason::NotMember => {
                ("not a member of the organization", "Members are those the membership directory has; deleted organizations have none.")
            }
            Reason::RoleRequired => (
                "the role in the organization does not allow this",
                "Roles that see all of an organization are those in llm.admin_roles; llm.analytics_me() shows one's own usage.",
            ),
            Reason::PlanRequired => {
                ("the plan of the organization does not include this", "Plans that include it are those in llm.enterprise_plans.")
            }
        };
        Error::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message).detail(format!("reason={}", self.name())).hint(hint)
    }
}

/// Runs with the extension owner's rights.
pub fn standing(asker: &Asker, directories: &Directories, organization: &str) -> Result<Standing> {
    let user = match asker.identity()? {
        Caller::Everything => return Ok(Standing::Everything),
        Caller::Nobody => return Ok(Standing::Nobody),
        Caller::User(user) => user,
    };
    let Some((role, facts)) = directories.membership(organization, &user)? else { return Ok(Standing::Stranger) };
    let is_admin = is_admin(&role);
    Ok(Standing::Member(Member { user, role, plan: facts.plan, is_admin, is_enterprise: facts.is_enterprise }))
}

impl Standing {
    /// For pages that any member has; None where it is allowed.
    pub fn refuses_member(&self) -> Option<Reason> {
        match self {
            Standing::Everything | Standing::Member(_) => None,
            Standing::Nobody => Some(Reason::NoIdentity),
            Standing::Stranger => Some(Reason::NotMember),
        }
    }

    /// For pages of the whole organization.
    pub fn refuses_organization(&self) -> Option<Reason> {
        match self {
            Standing::Member(member) if !member.is_admin => Some(Reason::RoleRequired),
            Standing::Member(member) if !member.is_enterprise => Some(Reason::PlanRequired),
            _ => self.refuses_member(),
        }
    }

    /// For what is somebody's own: whoever sees everything is nobody in particular.
    pub fn refuses_own(&self) -> Option<Reason> {
        match self {
            Standing::Everything => Some(Reason::NoIdentity),
            _ => self.refuses_member(),
        }
    }
}

fn check(asker: &Asker, refused: Option<Reason>) -> Result<()> {
    refused.map_or(Ok(()), |reason| Err(reason.error(asker)))
}

/// Whether the caller may see all of an organization.
pub fn require_organization(asker: &Asker, directories: &Directories, organization: &str) -> Result<()> {
    check(asker, standing(asker, directories, organization)?.refuses_organization())
}

/// What a member may see of a project or a key.
pub fn require_member(asker: &Asker, directories: &Directories, organization: &str) -> Result<Reach> {
    let standing = standing(asker, directories, organization)?;
    check(asker, standing.refuses_member())?;
    Ok(match standing {
        Standing::Member(member) if !member.is_admin => Reach::OwnKeys(member.user),
        _ => Reach::All,
    })
}

/// The caller as a member.
pub fn require_self(asker: &Asker, directories: &Directories, organization: &str) -> Result<Member> {
    let standing = standing(asker, directories, organization)?;
    check(asker, standing.refuses_own())?;
    match standing {
        Standing::Member(member) => Ok(member),
        _ => Err(Reason::NotMember.error(asker)),
    }
}

/// Says the same of a key that exists and of one that does not.
pub fn not_your_key() -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, "not your API key")
        .detail("reason=not_your_key")
        .hint("Owners and admins see all keys of an organization, other members those they created.")
}

pub fn not_found(what: &str) -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_NO_DATA_FOUND, format!("no such {what} in the organization"))
        .detail("reason=not_found")
        .hint(format!("Neither the directory nor the usage of the organization knows the {what}."))
}
