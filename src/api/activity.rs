//! `llm.analytics_activity` and its rows, `llm.activity`.

use crate::access;
use crate::api::answer::{Activity, date};
use crate::error::{Error, Result};
use crate::read::{self, Entry, Kind, Question, Totals};
use crate::zone::{Zone, date_argument};
use llm_analytics_core::dimension;
use llm_analytics_core::request::{BadRange, DateRange, GroupBy, MAX_DAYS};
use pgrx::datum::{AnyNumeric, Date};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::collections::HashSet;

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
}

struct Asked {
    question: Question,
    zone: Zone,
    today: chrono::NaiveDate,
}

/// Checks in the order of the design: NULLs, then values, then who asks.
fn asked(arguments: Arguments) -> Result<Asked> {
    let organization = arguments.org.ok_or_else(|| Error::null("org"))?;
    let group_by = arguments.group_by.ok_or_else(|| Error::null("group_by"))?;
    let tz = arguments.tz.ok_or_else(|| Error::null("tz"))?;
    let group_by = GroupBy::parse(&group_by).ok_or_else(|| {
        let shown: String = group_by.chars().take(60).collect();
        Error::argument(format!("unknown group_by \"{shown}\""), format!("Allowed: {}.", GroupBy::ALLOWED))
    })?;
    let zone = Zone::find(&tz)?;
    // SAFETY: reads the start of the transaction, as now() does.
    let today = zone.date_at(unsafe { pg_sys::GetCurrentTransactionStartTimestamp() })?;
    let range = DateRange::resolve(date_argument("from", arguments.from)?, date_argument("to", arguments.to)?, today).map_err(|bad| {
        let hint = match bad {
            BadRange::FromAfterTo => "Both dates are inclusive; without dates the last 7 days are shown.".to_string(),
            BadRange::TooLong(_) => format!("At most {MAX_DAYS} days are answered at once."),
            BadRange::OutOfCalendar => "Use a date such as '2026-06-24'.".to_string(),
        };
        Error::argument(bad.to_string(), hint)
    })?;
    access::require_all()?;
    let starts = zone.day_starts(&range)?;
    // Read as the log's dimensions are.
    let bounded = |text: String| dimension::bounded(&text).into_owned();
    let question = Question {
        organization: bounded(organization),
        group_by,
        range,
        starts,
        project: arguments.project.map(bounded),
        api_key: arguments.api_key.map(bounded),
        user: arguments.user_id.map(bounded),
    };
    Ok(Asked { question, zone, today })
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
    if top.is_some_and(|top| top < 1) {
        return Err(Error::argument("\"top\" must be at least 1", "Leave it out, or NULL, for all entries.").into());
    }
    let Asked { question, zone, today } = asked(Arguments { org, group_by, from, to, tz, project, api_key, user_id })?;
    let mut days = read::days(&question)?;
    let (summary, mut breakdown) = read::total(&days)?;
    if let Some(top) = top.and_then(|top| usize::try_from(top).ok()) {
        let kept: HashSet<Option<String>> = breakdown.iter().take(top).map(|entry| entry.key.clone()).collect();
        breakdown = fold_rest(breakdown, &kept)?;
        for day in &mut days {
            day.entries = fold_rest(std::mem::take(&mut day.entries), &kept)?;
        }
    }
    let answer = Activity {
        group_by: question.group_by.name(),
        from: date(question.range.from),
        to: date(question.range.to),
        timezone: zone.name,
        incomplete_before: read::incomplete_before(&zone, today)?.map(date),
        summary,
        breakdown,
        activity: days,
    };
    Ok(Some(serde_json::to_string(&answer).map_err(|error| Error::internal(error.to_string()))?))
}

/// The entries that are kept, and one that stands for the rest.
fn fold_rest(entries: Vec<Entry>, kept: &HashSet<Option<String>>) -> Result<Vec<Entry>> {
    let (mut named, rest): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| kept.contains(&entry.key));
    if !rest.is_empty() {
        let mut totals = Totals::default();
        for entry in &rest {
            totals.add(&entry.totals)?;
        }
        named.push(Entry { key: None, label: "Other".into(), kind: Kind::Other, totals });
    }
    Ok(named)
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
    let Asked { question, .. } = asked(Arguments { org, group_by, from, to, tz, project, api_key, user_id })?;
    let mut cells = Vec::new();
    for day in read::days(&question)? {
        let days = (day.date - chrono::NaiveDate::default()).num_days();
        // Date counts from 2000-01-01.
        let date = i32::try_from(days - 10_957)
            .ok()
            .and_then(|days| Date::try_from(days).ok())
            .ok_or_else(|| Error::internal("date out of range"))?;
        if day.entries.is_empty() {
            cells.push(cell(date, None, None, &Totals::default())?);
        }
        for entry in day.entries {
            cells.push(cell(date, entry.key, Some(entry.label), &entry.totals)?);
        }
    }
    Ok(TableIterator::new(cells))
}

fn cell(date: Date, key: Option<String>, label: Option<String>, totals: &Totals) -> Result<Cell> {
    let cost = crate::rollup::numeric(totals.cost)?;
    Ok((
        date,
        key,
        label,
        cost,
        totals.requests,
        totals.input_tokens,
        totals.output_tokens,
        totals.total_tokens,
        totals.errors,
        totals.client_errors,
        totals.cache_hits,
    ))
}
