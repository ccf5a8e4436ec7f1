//! `llm.analytics_activity` and its rows, `llm.activity`.

use crate::access;
use crate::api::answer::{Activity, date, json};
use crate::api::arguments::{Days, bounded, group_by, required, required_id};
use crate::breakdown::{Breakdown, Day, Entry, total};
use crate::directory::Directories;
use crate::error::{Error, Result};
use crate::identity::{self, Asker};
use crate::read::{self, Asked, Filter, Owner, Totals};
use llm_analytics_core::request::GroupBy;
use pgrx::datum::{AnyNumeric, Date};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// The arguments both functions share, as they come.
struct Arguments {
    org: Option<String>,
    group_by: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    tz: Option<String>,
    project: Option<String>,
    api_key: Option<String>,
    user_id: Option<String>,
    top: Option<i32>,
}

struct Answer {
    group_by: GroupBy,
    asked: Days,
    summary: Totals,
    breakdown: Vec<Entry>,
    days: Vec<Day>,
}

fn answer(asker: &Asker, arguments: Arguments) -> Result<Answer> {
    let org = required_id("org", arguments.org)?;
    let group_text = required("group_by", arguments.group_by)?;
    let tz = required("tz", arguments.tz)?;
    let group_by = group_by(&group_text)?;
    let asked = Days::parse(arguments.from, arguments.to, &tz)?;
    if arguments.top.is_some_and(|top| top < 1) {
        return Err(Error::argument("\"top\" must be at least 1", "Leave it out, or NULL, for all entries."));
    }
    let directories = Directories::load()?;
    access::require_organization(asker, &directories, &org)?;
    let owner = match arguments.user_id.map(bounded) {
        Some(user) if user.is_empty() => Some(Owner::nobody(&directories, &org)?),
        Some(user) => Some(Owner { keys: directories.keys_of(&user)?, user }),
        None => None,
    };
    // '' is what the numbers have where the usage is without one.
    let filter = Filter { project: arguments.project.map(bounded), keys: arguments.api_key.map(|key| vec![bounded(key)]), owner };
    let dimensions = group_by.dimensions();
    let groups = read::groups(&Asked { organization: &org, starts: &asked.starts()?, filter: &filter, dimensions })?;
    let mut found = Breakdown::new(&directories, &groups, dimensions, group_by)?;
    if let Some(top) = arguments.top.and_then(|top| usize::try_from(top).ok()) {
        found.keep(top)?;
    }
    let (breakdown, days) = (found.entries()?, found.days(&asked.range)?);
    Ok(Answer { group_by, summary: total(&groups)?, breakdown, days, asked })
}

#[pg_extern(sql = false)]
fn llm_analytics_activity(
    org: Option<String>,
    group_by: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    tz: Option<String>,
    project: Option<String>,
    api_key: Option<String>,
    user_id: Option<String>,
    top: Option<i32>,
) -> std::result::Result<Option<String>, ErrorReport> {
    let arguments = Arguments { org, group_by, from, to, tz, project, api_key, user_id, top };
    Ok(Some(identity::asked(|asker| shown(answer(asker, arguments)?))?))
}

fn shown(answer: Answer) -> Result<String> {
    let asked = &answer.asked;
    json(&Activity {
        group_by: answer.group_by.name(),
        from: date(asked.range.from),
        to: date(asked.range.to),
        timezone: asked.zone.name,
        incomplete_before: read::incomplete_before(&asked.zone, asked.today)?.map(date),
        summary: answer.summary,
        breakdown: answer.breakdown,
        activity: answer.days,
    })
}

type Cell = (
    name!(date, Date),
    name!(key, Option<String>),
    name!(label, Option<String>),
    name!(cost, AnyNumeric),
    name!(request_count, i64),
    name!(input_tokens, i64),
    name!(output_tokens, i64),
    name!(total_tokens, i64),
    name!(error_count, i64),
    name!(client_error_count, i64),
    name!(cache_count, i64),
);

#[pg_extern(sql = false)]
fn llm_activity(
    org: Option<String>,
    group_by: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    tz: Option<String>,
    project: Option<String>,
    api_key: Option<String>,
    user_id: Option<String>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(date, Date),
            name!(key, Option<String>),
            name!(label, Option<String>),
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
    let arguments = Arguments { org, group_by, from, to, tz, project, api_key, user_id, top: None };
    let answer = identity::asked(|asker| answer(asker, arguments))?;
    let mut cells = Vec::new();
    for day in answer.days {
        let days = (day.date - chrono::NaiveDate::default()).num_days();
        // Date counts from 2000-01-01.
        let date = i32::try_from(days - 10_957)
            .ok()
            .and_then(|days| Date::try_from(days).ok())
            .ok_or_else(|| Error::internal("date out of range"))?;
        if day.entries.is_empty() {
            cells.push(cell(date, None, None, &Totals::default())?);
        }
        for (at, totals) in &day.entries {
            let name = &day.names[*at];
            cells.push(cell(date, name.key.clone(), Some(name.label.clone()), totals)?);
        }
    }
    Ok(TableIterator::new(cells))
}

fn cell(date: Date, key: Option<String>, label: Option<String>, totals: &Totals) -> Result<Cell> {
    let cost = crate::measures::numeric(totals.cost)?;
    let [requests, input_tokens, output_tokens, total_tokens, errors, client_errors, cache_hits] = totals.bigints()?;
    Ok((date, key, label, cost, requests, input_tokens, output_tokens, total_tokens, errors, client_errors, cache_hits))
}
