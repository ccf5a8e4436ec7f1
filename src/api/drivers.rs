//! `llm.analytics_drivers`: why the bill changed.

use crate::access;
use crate::api::answer::{Exact, date, exact, json};
use crate::api::arguments::{Days, bad_range, required, required_id};
use crate::breakdown::{Breakdown, Entry, Kind, total};
use crate::directory::Directories;
use crate::error::{Error, Result};
use crate::identity;
use crate::query::{self, See};
use crate::read::{self, Asked, Filter, Group, Totals};
use crate::zone::{Zone, date_argument};
use chrono::Days as Span;
use llm_analytics_core::delta::Overflow;
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::money::Money;
use llm_analytics_core::request::{BadRange, DateRange, GroupBy};
use pgrx::datum::Date;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde::Serialize;
use std::collections::HashMap;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    cost: Exact,
    request_count: i128,
    percent: Option<Exact>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    key: Option<String>,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    cost_before: Exact,
    cost_after: Exact,
    change: Exact,
    share: Option<Exact>,
    requests_before: i128,
    requests_after: i128,
    volume: Exact,
    price: Exact,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Drivers {
    model: Vec<Driver>,
    project: Vec<Driver>,
    api_key: Vec<Driver>,
    user: Vec<Driver>,
    provider: Vec<Driver>,
    application: Vec<Driver>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    from: String,
    to: String,
    compare_from: String,
    compare_to: String,
    timezone: &'static str,
    before: Totals,
    after: Totals,
    change: Change,
    drivers: Drivers,
}

/// The range that is compared with: the one before of the same length, unless the caller says otherwise.
fn compared(range: &DateRange, from: Option<Date>, to: Option<Date>) -> Result<DateRange> {
    let (from, to) = (date_argument("compare_from", from)?, date_argument("compare_to", to)?);
    let length = Span::new(u64::try_from(range.days() - 1).unwrap_or(0));
    let out = || bad_range(BadRange::OutOfCalendar);
    let compared = match (from, to) {
        (Some(from), Some(to)) => DateRange { from, to },
        (Some(from), None) => DateRange { from, to: from.checked_add_days(length).ok_or_else(out)? },
        (None, Some(to)) => DateRange { from: to.checked_sub_days(length).ok_or_else(out)?, to },
        (None, None) => {
            let to = range.from.pred_opt().ok_or_else(out)?;
            DateRange { from: to.checked_sub_days(length).ok_or_else(out)?, to }
        }
    };
    // The same bounds as for any range.
    DateRange::resolve(Some(compared.from), Some(compared.to), compared.to).map_err(bad_range)
}

/// The sums of both ranges at one level, each read by itself: they may overlap, or lie far apart.
struct Pair {
    before: Vec<Group>,
    after: Vec<Group>,
}

struct Question<'a> {
    directories: &'a Directories,
    organization: String,
    before: Vec<i64>,
    after: Vec<i64>,
}

/// What one key cost and how often it was used.
#[derive(Default)]
struct Sides {
    entry: Option<Entry>,
    before: Totals,
    after: Totals,
}

impl Question<'_> {
    fn read(&self, dimensions: &[Dimension]) -> Result<Pair> {
        let filter = Filter::default();
        let groups = |starts| read::groups(&Asked { organization: &self.organization, starts, filter: &filter, dimensions });
        Ok(Pair { before: groups(&self.before)?, after: groups(&self.after)? })
    }

    fn drivers(&self, pair: &Pair, dimensions: &[Dimension], group_by: GroupBy, total: Money) -> Result<Vec<Driver>> {
        let mut sides: HashMap<Option<String>, Sides> = HashMap::new();
        for (groups, is_after) in [(&pair.before, false), (&pair.after, true)] {
            for entry in Breakdown::new(self.directories, groups, dimensions, group_by)?.entries()? {
                let known = sides.entry(entry.name.key.clone()).or_default();
                if is_after {
                    known.after = entry.totals.clone();
                } else {
                    known.before = entry.totals.clone();
                }
                known.entry = Some(entry);
            }
        }
        let mut ranked = Vec::with_capacity(sides.len());
        for side in sides.into_values() {
            let change = minus(side.after.cost, side.before.cost)?;
            ranked.push((change, side));
        }
        let size = |change: Money| if change < Money::ZERO { -change } else { change };
        let name = |side: &Sides| side.entry.as_ref().map(|entry| entry.name.clone());
        ranked.sort_by(|(a, left), (b, right)| size(*b).cmp(&size(*a)).then_with(|| name(left).cmp(&name(right))));
        let parts = parts(&ranked, total)?;
        ranked.into_iter().zip(parts).map(|((change, side), (volume, share))| driver(change, side, volume, share)).collect()
    }
}

fn minus(a: Money, b: Money) -> Result<Money> {
    a.checked_add(-b).ok_or_else(|| Overflow.into())
}

fn driver(change: Money, side: Sides, volume: Money, share: Option<String>) -> Result<Driver> {
    let entry = side.entry.ok_or_else(|| Error::internal("a driver without a name"))?;
    Ok(Driver {
        key: entry.name.key,
        label: entry.name.label,
        kind: (entry.name.kind == Kind::Unattributed).then_some("unattributed"),
        cost_before: exact(side.before.cost),
        cost_after: exact(side.after.cost),
        change: exact(change),
        share: share.map(Exact),
        requests_before: side.before.requests,
        requests_after: side.after.requests,
        volume: exact(volume),
        price: exact(minus(change, volume)?),
    })
}

/// Volume and share of each, by PostgreSQL's exact numeric.
fn parts(ranked: &[(Money, Sides)], total: Money) -> Result<Vec<(Money, Option<String>)>> {
    let text = |f: fn(&(Money, Sides)) -> String| ranked.iter().map(f).collect::<Vec<String>>();
    let arguments = [
        text(|(_, side)| side.before.cost.to_string()).into(),
        text(|(change, _)| change.to_string()).into(),
        text(|(_, side)| side.before.requests.to_string()).into(),
        text(|(_, side)| side.after.requests.to_string()).into(),
        total.to_string().into(),
    ];
    let mut found = Vec::with_capacity(ranked.len());
    query::each(include_str!("../../sql/query/drivers.sql"), &arguments, See::Active, |row| {
        let volume = row.get::<String>(1).and_then(|text| Money::parse_sum(&text)).ok_or(Overflow)?;
        found.push((volume, row.get::<String>(2)));
        Ok(())
    })?;
    Ok(found)
}

/// The change in percent of what was before; None where that was nothing.
fn percent(change: Money, before: Money) -> Result<Option<String>> {
    const SQL: &str = "SELECT pg_catalog.trim_scale(pg_catalog.sign(c) * pg_catalog.sign(b)
                           * pg_catalog.div(2 * pg_catalog.abs(c) * 1000000 + pg_catalog.abs(b), nullif(2 * pg_catalog.abs(b), 0)) * 0.0001)::text
                       FROM (SELECT $1::numeric AS c, $2::numeric AS b) x";
    query::one(SQL, &[change.to_string().into(), before.to_string().into()], See::Active)
}

#[pg_extern(sql = false)]
fn llm_analytics_drivers(
    org: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    tz: Option<String>,
    compare_from: Option<Date>,
    compare_to: Option<Date>,
) -> std::result::Result<Option<String>, ErrorReport> {
    let answer = identity::asked(|asker| {
        let org = required_id("org", org)?;
        let tz = required("tz", tz)?;
        let days = Days::parse(from, to, &tz)?;
        let compared = compared(&days.range, compare_from, compare_to)?;
        let directories = Directories::load()?;
        access::require_organization(asker, &directories, &org)?;
        json(&answer(&directories, &org, &days.zone, &days.range, &compared)?)
    })?;
    Ok(Some(answer))
}

fn answer(directories: &Directories, org: &str, zone: &Zone, range: &DateRange, compared: &DateRange) -> Result<Answer> {
    let question =
        Question { directories, organization: org.to_string(), before: Days::ends(zone, compared)?, after: Days::ends(zone, range)? };
    const MODELS: &[Dimension] = &[Dimension::Mapping, Dimension::Provider];
    const KEYS: &[Dimension] = &[Dimension::Project, Dimension::ApiKey, Dimension::User];
    const APPLICATIONS: &[Dimension] = &[Dimension::Application];
    let (models, keys, applications) = (question.read(MODELS)?, question.read(KEYS)?, question.read(APPLICATIONS)?);
    let (before, after) = (total(&models.before)?, total(&models.after)?);
    let change = minus(after.cost, before.cost)?;
    let drivers = Drivers {
        model: question.drivers(&models, MODELS, GroupBy::Model, change)?,
        project: question.drivers(&keys, KEYS, GroupBy::Project, change)?,
        api_key: question.drivers(&keys, KEYS, GroupBy::ApiKey, change)?,
        user: question.drivers(&keys, KEYS, GroupBy::User, change)?,
        provider: question.drivers(&models, MODELS, GroupBy::Provider, change)?,
        application: question.drivers(&applications, APPLICATIONS, GroupBy::Application, change)?,
    };
    Ok(Answer {
        from: date(range.from),
        to: date(range.to),
        compare_from: date(compared.from),
        compare_to: date(compared.to),
        timezone: zone.name,
        change: Change {
            cost: exact(change),
            request_count: after.requests - before.requests,
            percent: percent(change, before.cost)?.map(Exact),
        },
        before,
        after,
        drivers,
    })
}
