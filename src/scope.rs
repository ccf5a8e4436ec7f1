//! What plain SELECTs may see: the one row the policies compare with, and the names beside the ids in `llm.usage`.

use crate::directory::Directories;
use crate::directory::lookup::is_admin;
use crate::error::Result;
use crate::identity::{self, Asker, Caller};
use crate::query::{self, See};
use crate::rights::{self, ActingAs};
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::directory::Kind;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

#[derive(Default)]
pub struct Scope {
    /// Numbers (`llm._org`) of the organizations the caller belongs to, and of those they see all of.
    pub orgs: Vec<i32>,
    pub whole: Vec<i32>,
    /// The same as ids: an organization may have pending usage only. Empty for whoever sees everything.
    pub org_ids: Vec<String>,
    pub whole_ids: Vec<String>,
    /// The caller's own API keys, and their series in the levels that tell keys apart, in the other organizations.
    pub keys: Vec<String>,
    pub series: Vec<i32>,
    pub everything: bool,
}

/// All that a scope depends on: who asks, and the state of the database that a snapshot shows at one point of a transaction.
#[derive(PartialEq, Eq)]
struct Moment {
    asker: Asker,
    acting: Option<String>,
    statement: pg_sys::TimestampTz,
    transaction: pg_sys::TimestampTz,
    subtransaction: pg_sys::SubTransactionId,
    snapshot: (pg_sys::TransactionId, pg_sys::TransactionId, u32, i32, pg_sys::CommandId, u64),
}

thread_local! {
    /// A query asks once for each comparison of each policy: the last answer is kept.
    static LAST: RefCell<Option<(Moment, Rc<Scope>)>> = const { RefCell::new(None) };
}

fn moment(asker: &Asker) -> Moment {
    // SAFETY: within a statement, which has an active snapshot.
    unsafe {
        let snapshot = &*pg_sys::GetActiveSnapshot();
        Moment {
            asker: *asker,
            acting: identity::acting(),
            statement: pg_sys::GetCurrentStatementStartTimestamp(),
            transaction: pg_sys::GetCurrentTransactionStartTimestamp(),
            subtransaction: pg_sys::GetCurrentSubTransactionId(),
            snapshot: (snapshot.xmin, snapshot.xmax, snapshot.xcnt, snapshot.subxcnt, snapshot.curcid, snapshot.snapXactCompletionCount),
        }
    }
}

/// What the asker may see. 28000 where they are nobody in somebody else's session, where no rows would pass for an answer.
pub fn scope(asker: &Asker) -> Result<Rc<Scope>> {
    let now = moment(asker);
    let known = LAST.with(|last| last.borrow().as_ref().filter(|(moment, _)| *moment == now).map(|(_, scope)| scope.clone()));
    if let Some(known) = known {
        return Ok(known);
    }
    let _rights = ActingAs::extension_owner()?;
    let scope = Rc::new(match asker.identity()? {
        Caller::Nobody if asker.is_indirect() => return Err(asker.nobody()),
        Caller::Nobody => Scope::default(),
        Caller::Everything => everything()?,
        Caller::User(user) => of_user(&user)?,
    });
    LAST.with(|last| *last.borrow_mut() = Some((now, scope.clone())));
    Ok(scope)
}

/// No ids: an organization may have pending usage only, and to look for those would be a scan of all that is pending. The policies of an
/// older catalog compare with them nevertheless.
fn everything() -> Result<Scope> {
    let mut scope = Scope { everything: true, ..Scope::default() };
    query::each("SELECT o.org FROM llm._org o", &[], See::Active, |row| {
        scope.orgs.extend(row.get::<i32>(1));
        Ok(())
    })?;
    scope.whole = scope.orgs.clone();
    if rights::functions_are_definers() {
        let sql = "SELECT o.organization_id FROM llm._org o UNION SELECT p.organization_id FROM llm._pending p";
        query::each(sql, &[], See::Active, |row| {
            scope.org_ids.extend(row.get::<String>(1));
            Ok(())
        })?;
        scope.whole_ids = scope.org_ids.clone();
    }
    Ok(scope)
}

fn of_user(user: &str) -> Result<Scope> {
    let directories = Directories::load()?;
    let mut scope = Scope::default();
    for (organization, role, facts) in directories.memberships(user)? {
        if is_admin(&role) && facts.is_enterprise {
            scope.whole_ids.push(organization.clone());
        }
        scope.org_ids.push(organization);
    }
    let numbers = numbers(&scope.org_ids)?;
    let number = |ids: &[String]| ids.iter().filter_map(|id| numbers.get(id).copied()).collect::<Vec<i32>>();
    (scope.orgs, scope.whole) = (number(&scope.org_ids), number(&scope.whole_ids));
    if scope.whole_ids.len() < scope.org_ids.len() {
        scope.keys = directories.keys_of(user)?;
        let others: Vec<i32> = scope.orgs.iter().filter(|org| !scope.whole.contains(org)).copied().collect();
        let sql = "SELECT s.id FROM llm.series s WHERE s.org = ANY ($1) AND s.level IN (0, 3) AND s.api_key_id = ANY ($2) ORDER BY s.id";
        query::each(sql, &[others.into(), scope.keys.clone().into()], See::Active, |row| {
            scope.series.extend(row.get::<i32>(1));
            Ok(())
        })?;
    }
    Ok(scope)
}

fn numbers(ids: &[String]) -> Result<HashMap<String, i32>> {
    let mut found = HashMap::new();
    let sql = "SELECT o.organization_id, o.org FROM llm._org o WHERE o.organization_id = ANY ($1)";
    query::each(sql, &[ids.to_vec().into()], See::Active, |row| {
        if let (Some(id), Some(org)) = (row.get::<String>(1), row.get::<i32>(2)) {
            found.insert(id, org);
        }
        Ok(())
    })?;
    Ok(found)
}

impl Scope {
    /// The distinct values of a column in usage the caller may see; '' left out.
    fn seen(&self, series: &str, pending: &str) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT {series} FROM llm.series s JOIN llm._org g ON g.org = s.org
             WHERE s.level = 0 AND ($6 OR (s.org = ANY ($1) AND (s.org = ANY ($2) OR s.api_key_id = ANY ($5))))
             UNION
             SELECT p.{pending} FROM llm._pending p
             WHERE p.kind = 0 AND ($6 OR (p.organization_id = ANY ($3) AND (p.organization_id = ANY ($4) OR p.api_key_id = ANY ($5))))"
        );
        let arguments = [
            self.orgs.clone().into(),
            self.whole.clone().into(),
            self.org_ids.clone().into(),
            self.whole_ids.clone().into(),
            self.keys.clone().into(),
            self.everything.into(),
        ];
        let mut found = Vec::new();
        query::each(&sql, &arguments, See::Active, |row| {
            found.extend(row.get::<String>(1).filter(|id| !id.is_empty()));
            Ok(())
        })?;
        Ok(found)
    }

    fn column(&self, dimension: Dimension) -> Result<Vec<String>> {
        self.seen(&format!("s.{}", dimension.column()), dimension.column())
    }
}

/// Id, label, owner.
pub type Label = (String, Option<String>, Option<String>);

/// Of what occurs in usage the asker may see. Runs with the rights of the extension's owner.
pub fn labels(asker: &Asker, kind: Kind) -> Result<Vec<Label>> {
    let scope = scope(asker)?;
    let directories = Directories::load()?;
    let ids = match kind {
        Kind::Organization => scope.seen("g.organization_id", "organization_id")?,
        Kind::Project => scope.column(Dimension::Project)?,
        Kind::ApiKey => scope.column(Dimension::ApiKey)?,
        Kind::User => {
            let mut users: BTreeSet<String> = scope.column(Dimension::User)?.into_iter().collect();
            users.extend(directories.owners(&scope.column(Dimension::ApiKey)?)?.into_values());
            users.into_iter().collect()
        }
        Kind::Membership => Vec::new(),
    };
    if kind == Kind::ApiKey {
        let mut keys = directories.api_keys(&ids)?;
        return Ok(ids
            .into_iter()
            .map(|id| {
                let key = keys.remove(&id).unwrap_or_default();
                (id, key.label, key.owner)
            })
            .collect());
    }
    let mut labels = directories.labels(kind, &ids)?;
    Ok(ids
        .into_iter()
        .map(|id| {
            let label = labels.remove(&id);
            (id, label, None)
        })
        .collect())
}
