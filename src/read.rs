//! Reading: cells of (local day, key) from the cheapest level that is exact, plus what is pending, in the caller's snapshot.

use crate::error::{Error, Result};
use crate::query::{self, See};
use crate::rollup::list;
use chrono::NaiveDate;
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::Overflow;
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::level::Level;
use llm_analytics_core::money::Money;
use llm_analytics_core::request::{DateRange, GroupBy, percent};
use pgrx::prelude::*;
use std::cmp::Ordering;

/// What is asked.
pub struct Question {
    pub organization: String,
    pub group_by: GroupBy,
    pub range: DateRange,
    /// The starts of the days and of the day after the last.
    pub starts: Vec<Micros>,
    pub project: Option<String>,
    pub api_key: Option<String>,
    pub user: Option<String>,
}

/// The measures `M` of the answers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub cost: Money,
    pub requests: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub total_tokens: i64,
    pub errors: i64,
    pub client_errors: i64,
    pub cache_hits: i64,
}

/// The columns of [`Totals`], in its order.
const COUNTS: [&str; 7] = ["requests", "input_tokens", "output_tokens", "total_tokens", "errors", "client_errors", "cache_hits"];

impl Totals {
    pub fn add(&mut self, other: &Totals) -> Result<()> {
        let out_of_range = || Error::from(Overflow);
        self.cost = self.cost.checked_add(other.cost).ok_or_else(out_of_range)?;
        for (sum, value) in self.counts_mut().into_iter().zip(other.counts()) {
            *sum = sum.checked_add(value).ok_or_else(out_of_range)?;
        }
        Ok(())
    }

    fn counts_mut(&mut self) -> [&mut i64; 7] {
        [
            &mut self.requests,
            &mut self.input_tokens,
            &mut self.output_tokens,
            &mut self.total_tokens,
            &mut self.errors,
            &mut self.client_errors,
            &mut self.cache_hits,
        ]
    }

    fn counts(&self) -> [i64; 7] {
        [self.requests, self.input_tokens, self.output_tokens, self.total_tokens, self.errors, self.client_errors, self.cache_hits]
    }

    pub fn is_zero(&self) -> bool {
        *self == Totals::default()
    }

    /// Percent of the requests that could fail for reasons of ours.
    pub fn error_rate(&self) -> String {
        percent(self.errors.into(), i128::from(self.requests) - i128::from(self.client_errors))
    }

    pub fn cache_rate(&self) -> String {
        percent(self.cache_hits.into(), self.requests.into())
    }
}

/// One line of a breakdown.
#[derive(Clone)]
pub struct Entry {
    /// None: usage without the dimension.
    pub key: Option<String>,
    pub label: String,
    pub kind: Kind,
    pub totals: Totals,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Named,
    Unattributed,
    Unknown,
    /// The rest below `top`.
    Other,
}

/// By cost descending, then label, then key.
pub fn order(a: &Entry, b: &Entry) -> Ordering {
    b.totals.cost.cmp(&a.totals.cost).then_with(|| a.label.cmp(&b.label)).then_with(|| a.key.cmp(&b.key))
}

/// One day of an answer.
pub struct Day {
    pub date: NaiveDate,
    pub totals: Totals,
    pub entries: Vec<Entry>,
}

/// All days of the range, an idle one without entries; entries are in order.
pub fn days(question: &Question) -> Result<Vec<Day>> {
    let mut days: Vec<Day> = question.range.dates().map(|date| Day { date, totals: Totals::default(), entries: Vec::new() }).collect();
    let starts: Vec<TimestampWithTimeZone> = question
        .starts
        .iter()
        .map(|at| TimestampWithTimeZone::try_from(*at))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::argument("date out of range", "Use dates of the common era."))?;
    let arguments = [
        question.organization.clone().into(),
        starts.into(),
        question.project.clone().into(),
        question.api_key.clone().into(),
        question.user.clone().into(),
    ];
    query::each(&cells(question), &arguments, See::Active, |row| {
        let at = row.get::<i32>(1).and_then(|day| usize::try_from(day - 1).ok());
        let Some(day) = at.and_then(|at| days.get_mut(at)) else { return Err(Error::internal("a cell lies outside the range")) };
        let cost = row.get::<String>(4).unwrap_or_default();
        let mut totals = Totals { cost: Money::parse_sum(&cost).ok_or(Overflow)?, ..Totals::default() };
        for (count, column) in totals.counts_mut().into_iter().zip(5..) {
            *count = row.get::<i64>(column).unwrap_or(0);
        }
        let key = row.get::<String>(2);
        let (kind, label) = match &key {
            Some(key) => (Kind::Named, row.get::<String>(3).unwrap_or_else(|| key.clone())),
            None if question.group_by.is_ownership() => (Kind::Unattributed, "Unattributed".to_string()),
            None => (Kind::Unknown, "unknown".to_string()),
        };
        day.totals.add(&totals)?;
        day.entries.push(Entry { key, label, kind, totals });
        Ok(())
    })?;
    for day in &mut days {
        day.entries.sort_by(order);
    }
    Ok(days)
}

/// The sum of all days and its entries, in order.
pub fn total(days: &[Day]) -> Result<(Totals, Vec<Entry>)> {
    let mut sum = Totals::default();
    let mut entries: std::collections::HashMap<Option<String>, Entry> = std::collections::HashMap::new();
    for day in days {
        sum.add(&day.totals)?;
        for entry in &day.entries {
            match entries.get_mut(&entry.key) {
                Some(known) => known.totals.add(&entry.totals)?,
                None => {
                    entries.insert(entry.key.clone(), entry.clone());
                }
            }
        }
    }
    let mut entries: Vec<Entry> = entries.into_values().filter(|entry| !entry.totals.is_zero()).collect();
    entries.sort_by(order);
    Ok((sum, entries))
}

/// The first local day of which every attached log is complete, None where all are.
pub fn incomplete_before(zone: &crate::zone::Zone, today: NaiveDate) -> Result<Option<NaiveDate>> {
    let sql = "SELECT max(complete_from) FROM llm.source WHERE state = 'attached' AND complete_from > '-infinity'";
    let from = query::one::<TimestampWithTimeZone>(sql, &[], See::Active)?;
    let tomorrow = today.succ_opt().unwrap_or(today);
    match from {
        None => Ok(None),
        Some(from) if from.is_infinity() => Ok(Some(tomorrow)),
        Some(from) => {
            let micros = pg_sys::TimestampTz::from(from);
            let day = zone.date_at(micros)?;
            Ok(Some(if zone.day_start(day)? < micros { day.succ_opt().unwrap_or(day) } else { day }))
        }
    }
}

/// The SQL for a question: $1 organization, $2 starts of the days and the end, $3 project, $4 API key, $5 user.
fn cells(question: &Question) -> String {
    let mut needed = question.group_by.dimensions().to_vec();
    let filters = [
        (&question.project, &[Dimension::Project][..], "x.project_id = $3"),
        (&question.api_key, &[Dimension::ApiKey], "x.api_key_id = $4"),
        (
            &question.user,
            &[Dimension::User, Dimension::ApiKey],
            "coalesce(nullif(x.user_id, ''), (SELECT k.user_id FROM llm.api_key k WHERE k.id = x.api_key_id)) = $5",
        ),
    ];
    let mut where_ = String::new();
    for (value, dimensions, condition) in filters {
        if value.is_some() {
            needed.extend_from_slice(dimensions);
            where_.push_str(" AND ");
            where_.push_str(condition);
        }
    }
    let level = Level::cheapest(&needed);
    let columns = |prefix: &str| list(question.group_by.dimensions(), ", ", |d| format!("{prefix}{}", d.column()));
    let counts = |f: &dyn Fn(&str) -> String| list(COUNTS, ", ", f);
    let (key, joins, label, label_join) = spelling(question.group_by);
    format!(
        "WITH ends AS (SELECT $2[1] AS low, $2[cardinality($2)] AS high),
         sums AS (
             SELECT width_bucket(r.bucket, $2) AS day, r.series, sum(r.cost) AS cost, {sum_counts}
             FROM {table} r
             WHERE r.org = (SELECT org FROM llm._org WHERE organization_id = $1)
               AND r.bucket >= (SELECT low FROM ends) AND r.bucket < (SELECT high FROM ends)
             GROUP BY 1, 2
         ), parts AS (
             SELECT r.day, {s_columns}, r.cost, {r_counts} FROM sums r JOIN llm.series x ON x.id = r.series WHERE true{where_}
             UNION ALL
             SELECT width_bucket(x.bucket, $2), {s_columns}, sum(x.cost), {pending_counts}
             FROM llm._pending x
             WHERE x.organization_id = $1 AND x.kind = 0 AND x.bucket >= (SELECT low FROM ends) AND x.bucket < (SELECT high FROM ends){where_}
             GROUP BY 1, {s_columns}
         ), keyed AS (
             SELECT p.day, nullif({key}, '') AS key, sum(p.cost) AS cost, {p_counts}
             FROM parts p {joins}
             GROUP BY 1, 2
             HAVING sum(p.cost) <> 0 OR {any}
         )
         SELECT c.day, c.key, {label}, c.cost::text, {c_counts} FROM keyed c {label_join}",
        sum_counts = counts(&|m| format!("sum(r.{m}) AS {m}")),
        table = level.table(),
        s_columns = columns("x."),
        r_counts = counts(&|m| format!("r.{m}")),
        pending_counts = counts(&|m| format!("sum(x.{m})")),
        p_counts = counts(&|m| format!("sum(p.{m}) AS {m}")),
        any = list(COUNTS, " OR ", |m| format!("sum(p.{m}) <> 0")),
        c_counts = counts(&|m| format!("c.{m}::bigint")),
    )
}

/// How a group is spelled: its key over `p`, the joins that needs, its label over `c`, and the join for that.
fn spelling(group_by: GroupBy) -> (&'static str, &'static str, &'static str, &'static str) {
    match group_by {
        GroupBy::Model => (
            "coalesce(a.canonical, llm.canonical_model(p.mapping))",
            "LEFT JOIN llm.model_alias a ON a.mapping = p.mapping",
            "l.label",
            "LEFT JOIN (SELECT canonical, min(label) AS label FROM llm.model_alias GROUP BY canonical) l ON l.canonical = c.key",
        ),
        GroupBy::Mapping => (
            "CASE WHEN p.mapping = '' OR p.provider = '' OR strpos(p.mapping, '/') > 0 THEN p.mapping ELSE p.provider || '/' || p.mapping END",
            "",
            "NULL::text",
            "",
        ),
        GroupBy::Provider => ("p.provider", "", "NULL::text", ""),
        GroupBy::Project => ("p.project_id", "", "l.name", "LEFT JOIN llm.project l ON l.id = c.key"),
        GroupBy::ApiKey => ("p.api_key_id", "", "l.label", "LEFT JOIN llm.api_key l ON l.id = c.key"),
        GroupBy::User => (
            "coalesce(nullif(p.user_id, ''), k.user_id)",
            "LEFT JOIN llm.api_key k ON k.id = p.api_key_id",
            "coalesce(l.name, l.email)",
            "LEFT JOIN llm.app_user l ON l.id = c.key",
        ),
        GroupBy::Application => ("p.application", "", "NULL::text", ""),
        GroupBy::Mode => ("p.mode", "", "NULL::text", ""),
    }
}
