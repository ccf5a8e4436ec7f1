//! The members table, the page of one member, and one's own.

use crate::access;
use crate::api::answer::{date, json, measures};
use crate::api::arguments::{Days, ModelView, required, required_id};
use crate::breakdown::{Breakdown, Day, Entry, total};
use crate::directory::Directories;
use crate::error::Result;
use crate::identity::{self, Asker};
use crate::read::{self, Asked, Filter, Owner, Totals};
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::request::GroupBy;
use pgrx::datum::{AnyNumeric, Date};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::collections::{BTreeSet, HashMap};

/// What the directories say of somebody in an organization.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Person {
    user_id: Option<String>,
    name: String,
    email: Option<String>,
    /// None: no member, or no member any more.
    role: Option<String>,
    api_key_count: i64,
}

struct Member {
    person: Person,
    totals: Totals,
}

impl Serialize for Member {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("userId", &self.person.user_id)?;
        map.serialize_entry("name", &self.person.name)?;
        map.serialize_entry("email", &self.person.email)?;
        map.serialize_entry("role", &self.person.role)?;
        map.serialize_entry("apiKeyCount", &self.person.api_key_count)?;
        measures(&mut map, &self.totals)?;
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    plan: Option<String>,
    from: String,
    to: String,
    timezone: &'static str,
    incomplete_before: Option<String>,
    summary: Totals,
    members: Vec<Member>,
}

/// Somebody whom nothing is known of is called by their id.
fn people(directories: &Directories, org: &str, roles: &HashMap<String, String>, ids: &[String]) -> Result<Vec<Person>> {
    let mut users = directories.users(ids)?;
    let counts = directories.key_counts(org, ids)?;
    let person = |id: &String| {
        let user = users.remove(id).unwrap_or_default();
        Person {
            user_id: Some(id.clone()),
            name: user.name.or_else(|| user.email.clone()).unwrap_or_else(|| id.clone()),
            email: user.email,
            role: roles.get(id).cloned(),
            api_key_count: counts.get(id).copied().unwrap_or(0),
        }
    };
    Ok(ids.iter().map(person).collect())
}

fn table(asker: &Asker, org: Option<String>, from: Option<Date>, to: Option<Date>, tz: Option<String>) -> Result<(Days, Table)> {
    let org = required_id("org", org)?;
    let tz = required("tz", tz)?;
    let days = Days::parse(from, to, &tz)?;
    let directories = Directories::load()?;
    access::require_organization(asker, &directories, &org)?;
    let starts = Days::ends(&days.zone, &days.range)?;
    let dimensions = GroupBy::User.dimensions();
    let groups = read::groups(&Asked { organization: &org, starts: &starts, filter: &Filter::default(), dimensions })?;
    let entries = Breakdown::new(&directories, &groups, dimensions, GroupBy::User)?.entries()?;
    let roles: HashMap<String, String> = directories.members(&org)?.into_iter().collect();
    let mut sums: HashMap<Option<String>, Totals> = entries.into_iter().map(|entry| (entry.name.key, entry.totals)).collect();
    let ids: BTreeSet<String> = roles.keys().cloned().chain(sums.keys().flatten().cloned()).collect();
    let ids: Vec<String> = ids.into_iter().collect();
    let mut members: Vec<Member> = people(&directories, &org, &roles, &ids)?
        .into_iter()
        .map(|person| Member { totals: sums.remove(&person.user_id).unwrap_or_default(), person })
        .collect();
    if let Some(totals) = sums.remove(&None) {
        let person = Person { user_id: None, name: "Unattributed".into(), email: None, role: None, api_key_count: 0 };
        members.push(Member { person, totals });
    }
    // Sorted by id already, what is nobody's last; the sort is stable.
    members.sort_by_key(|member| std::cmp::Reverse(member.totals.cost));
    let table = Table {
        plan: directories.organization(&org)?.plan,
        from: date(days.range.from),
        to: date(days.range.to),
        timezone: days.zone.name,
        incomplete_before: None,
        summary: total(&groups)?,
        members,
    };
    Ok((days, table))
}

#[pg_extern(sql = false)]
fn llm_analytics_members(
    org: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    tz: Option<String>,
) -> std::result::Result<Option<String>, ErrorReport> {
    let answer = identity::asked(|asker| {
        let (days, mut table) = table(asker, org, from, to, tz)?;
        table.incomplete_before = read::incomplete_before(&days.zone, days.today)?.map(date);
        json(&table)
    })?;
    Ok(Some(answer))
}

#[pg_extern(sql = false)]
fn llm_members(
    org: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    tz: Option<String>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(user_id, Option<String>),
            name!(name, Option<String>),
            name!(email, Option<String>),
            name!(role, Option<String>),
            name!(api_key_count, i64),
            name!(cost, AnyNumeric),
            name!(request_count, i64),
            name!(input_tokens, i64),
            name!(output_tokens, i64),
            name!(total_tokens, i64),
            name!(error_count, i64),
            name!(client_error_count, i64),
            name!(cache_count, i64),
        ),
    >,
    ErrorReport,
> {
    let (_, table) = identity::asked(|asker| table(asker, org, from, to, tz))?;
    let mut rows = Vec::with_capacity(table.members.len());
    for Member { person, totals } in table.members {
        let [requests, input_tokens, output_tokens, total_tokens, errors, client_errors, cache_hits] = totals.bigints()?;
        rows.push((
            person.user_id,
            Some(person.name),
            person.email,
            person.role,
            person.api_key_count,
            crate::measures::numeric(totals.cost)?,
            requests,
            input_tokens,
            output_tokens,
            total_tokens,
            errors,
            client_errors,
            cache_hits,
        ));
    }
    Ok(TableIterator::new(rows))
}

#[derive(Serialize)]
struct MostUsed {
    model: Option<String>,
    provider: Option<String>,
    application: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    member: Person,
    from: String,
    to: String,
    timezone: &'static str,
    incomplete_before: Option<String>,
    summary: Totals,
    most_used: MostUsed,
    cost_by_model: Vec<Entry>,
    top_providers: Vec<Entry>,
    top_applications: Vec<Entry>,
    activity: Vec<Day>,
}

/// Entries of the lists of top providers and applications.
const TOP: usize = 5;

fn page(directories: &Directories, org: &str, member: Person, filter: &Filter, days: &Days, view: ModelView) -> Result<String> {
    const DIMENSIONS: &[Dimension] = &[Dimension::Mapping, Dimension::Provider, Dimension::Application];
    let groups = read::groups(&Asked { organization: org, starts: &days.starts()?, filter, dimensions: DIMENSIONS })?;
    let by = |group_by| Breakdown::new(directories, &groups, DIMENSIONS, group_by);
    let models = by(view.group_by)?;
    let mut providers = by(GroupBy::Provider)?.entries()?;
    let mut applications = by(GroupBy::Application)?.entries()?;
    let first = |entries: &[Entry]| entries.first().map(|entry| entry.name.label.clone());
    let most_used =
        MostUsed { model: first(&by(GroupBy::Model)?.entries()?), provider: first(&providers), application: first(&applications) };
    providers.truncate(TOP);
    applications.truncate(TOP);
    json(&Page {
        member,
        from: date(days.range.from),
        to: date(days.range.to),
        timezone: days.zone.name,
        incomplete_before: read::incomplete_before(&days.zone, days.today)?.map(date),
        summary: total(&groups)?,
        most_used,
        cost_by_model: models.entries()?,
        top_providers: providers,
        top_applications: applications,
        activity: models.days(&days.range)?,
    })
}

fn person(directories: &Directories, org: &str, user: &str, role: Option<String>) -> Result<Person> {
    let roles = role.into_iter().map(|role| (user.to_string(), role)).collect();
    let found = people(directories, org, &roles, &[user.to_string()])?.pop();
    found.ok_or_else(|| crate::error::Error::internal("nobody"))
}

#[pg_extern(sql = false)]
fn llm_analytics_member(
    org: Option<String>,
    user_id: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    tz: Option<String>,
    model_view: Option<String>,
) -> std::result::Result<Option<String>, ErrorReport> {
    Ok(Some(identity::asked(|asker| member(asker, org, user_id, (from, to, tz), model_view))?))
}

/// The range of days as it comes: from, to, tz.
type Range = (Option<Date>, Option<Date>, Option<String>);

fn member(asker: &Asker, org: Option<String>, user_id: Option<String>, range: Range, model_view: Option<String>) -> Result<String> {
    let (from, to, tz) = range;
    let org = required_id("org", org)?;
    let user = required_id("user_id", user_id)?;
    let tz = required("tz", tz)?;
    let view = required("model_view", model_view)?;
    let days = Days::parse(from, to, &tz)?;
    let view = ModelView::parse(&view)?;
    let directories = Directories::load()?;
    access::require_organization(asker, &directories, &org)?;
    let role = directories.membership(&org, &user)?.map(|(role, _)| role);
    let owner = Owner { keys: directories.keys_of(&user)?, user: user.clone() };
    let filter = Filter { owner: Some(owner), ..Filter::default() };
    if user.is_empty() || role.is_none() && !read::is_used(&org, &filter)? {
        return Err(access::not_found("user"));
    }
    let member = person(&directories, &org, &user, role)?;
    page(&directories, &org, member, &filter, &days, view)
}

#[pg_extern(sql = false)]
fn llm_analytics_me(
    org: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    tz: Option<String>,
    model_view: Option<String>,
) -> std::result::Result<Option<String>, ErrorReport> {
    Ok(Some(identity::asked(|asker| me(asker, org, (from, to, tz), model_view))?))
}

fn me(asker: &Asker, org: Option<String>, range: Range, model_view: Option<String>) -> Result<String> {
    let (from, to, tz) = range;
    let org = required_id("org", org)?;
    let tz = required("tz", tz)?;
    let view = required("model_view", model_view)?;
    let days = Days::parse(from, to, &tz)?;
    let view = ModelView::parse(&view)?;
    let directories = Directories::load()?;
    let me = access::require_self(asker, &directories, &org)?;
    let filter = Filter { keys: Some(directories.keys_of(&me.user)?), ..Filter::default() };
    let member = person(&directories, &org, &me.user, Some(me.role))?;
    page(&directories, &org, member, &filter, &days, view)
}
