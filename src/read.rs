//! Reading: sums by day and raw dimension values from the cheapest level that is exact, plus what is pending, in the caller's snapshot.
//! What keys are called is `breakdown`'s business.

use crate::error::{Error, Result};
use crate::query::{self, See};
use crate::rollup::list;
use chrono::NaiveDate;
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::Overflow;
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::level::Level;
use llm_analytics_core::money::Money;
use llm_analytics_core::request::percent;
use pgrx::prelude::*;

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

/// Which usage of an organization: everything that is asked for must hold.
#[derive(Default)]
pub struct Filter {
    pub project: Option<String>,
    /// Of one of these keys.
    pub keys: Option<Vec<String>>,
    pub owner: Option<Owner>,
}

/// Usage that is somebody's: the log's user where it has one, else the creator of the key.
pub struct Owner {
    pub user: String,
    pub keys: Vec<String>,
}

pub struct Asked<'a> {
    pub organization: &'a str,
    /// The starts of the days and of the day after the last.
    pub starts: &'a [Micros],
    pub filter: &'a Filter,
    pub dimensions: &'a [Dimension],
}

/// The sum of one day and one combination of dimensions.
pub struct Cell {
    /// From 0.
    pub day: usize,
    /// In the order of the dimensions asked for; '' where the usage has none.
    pub values: Vec<String>,
    pub totals: Totals,
}

pub fn cells(asked: &Asked<'_>) -> Result<Vec<Cell>> {
    let starts: Vec<TimestampWithTimeZone> = asked
        .starts
        .iter()
        .map(|at| TimestampWithTimeZone::try_from(*at))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::argument("date out of range", "Use dates of the common era."))?;
    let (owner, owned) = asked.filter.owner.as_ref().map_or((None, None), |owner| (Some(owner.user.clone()), Some(owner.keys.clone())));
    let arguments = [
        asked.organization.into(),
        starts.into(),
        asked.filter.project.clone().into(),
        asked.filter.keys.clone().into(),
        owner.into(),
        owned.into(),
    ];
    let width = asked.dimensions.len() as i32;
    let mut found = Vec::new();
    query::each(&statement(asked), &arguments, See::Active, |row| {
        let day = row.get::<i32>(1).and_then(|day| usize::try_from(day - 1).ok()).filter(|day| *day + 1 < asked.starts.len());
        let day = day.ok_or_else(|| Error::internal("a cell lies outside the range"))?;
        let values = (2..2 + width).map(|at| row.get::<String>(at).unwrap_or_default()).collect();
        let cost = row.get::<String>(2 + width).unwrap_or_default();
        let mut totals = Totals { cost: Money::parse_sum(&cost).ok_or(Overflow)?, ..Totals::default() };
        for (count, column) in totals.counts_mut().into_iter().zip(3 + width..) {
            *count = row.get::<i64>(column).unwrap_or(0);
        }
        found.push(Cell { day, values, totals });
        Ok(())
    })?;
    Ok(found)
}

/// $1 organization, $2 starts of the days and the end, $3 project, $4 API keys, $5 user, $6 their keys.
fn statement(asked: &Asked<'_>) -> String {
    let (needed, where_) = conditions(asked);
    let level = Level::cheapest(&needed);
    let columns = |prefix: &str| list(asked.dimensions, "", |d| format!(", {prefix}{}", d.column()));
    let counts = |f: &dyn Fn(&str) -> String| list(COUNTS, ", ", f);
    let series = if where_.is_empty() {
        String::new()
    } else {
        // Rows of other series are not added up at all.
        format!(
            " AND r.series IN (SELECT x.id FROM llm.series x WHERE x.org = (SELECT org FROM llm._org WHERE organization_id = $1) AND x.level = {}{where_})",
            level.id
        )
    };
    format!(
        "WITH ends AS (SELECT $2[1] AS low, $2[cardinality($2)] AS high),
         sums AS (
             SELECT width_bucket(r.bucket, $2) AS day, r.series, sum(r.cost) AS cost, {sum_counts}
             FROM {table} r
             WHERE r.org = (SELECT org FROM llm._org WHERE organization_id = $1)
               AND r.bucket >= (SELECT low FROM ends) AND r.bucket < (SELECT high FROM ends){series}
             GROUP BY 1, 2
         ), parts AS (
             SELECT r.day{x_columns}, r.cost, {r_counts} FROM sums r JOIN llm.series x ON x.id = r.series
             UNION ALL
             SELECT width_bucket(x.bucket, $2){x_columns}, sum(x.cost), {pending_counts}
             FROM llm._pending x
             WHERE x.organization_id = $1 AND x.kind = 0 AND x.bucket >= (SELECT low FROM ends) AND x.bucket < (SELECT high FROM ends){where_}
             GROUP BY 1{x_columns}
         )
         SELECT p.day{p_columns}, sum(p.cost)::text, {p_counts} FROM parts p GROUP BY p.day{p_columns}",
        sum_counts = counts(&|m| format!("sum(r.{m}) AS {m}")),
        table = level.table(),
        x_columns = columns("x."),
        p_columns = columns("p."),
        r_counts = counts(&|m| format!("r.{m}")),
        pending_counts = counts(&|m| format!("sum(x.{m})")),
        p_counts = counts(&|m| format!("sum(p.{m})::bigint")),
    )
}

/// The dimensions a level must have, and the conditions on `x`, each with its AND.
fn conditions(asked: &Asked<'_>) -> (Vec<Dimension>, String) {
    let filter = asked.filter;
    let mut needed = asked.dimensions.to_vec();
    let mut where_ = String::new();
    for (is_asked, dimensions, condition) in [
        (filter.project.is_some(), &[Dimension::Project][..], "x.project_id = $3"),
        (filter.keys.is_some(), &[Dimension::ApiKey], "x.api_key_id = ANY ($4)"),
        (filter.owner.is_some(), &[Dimension::User, Dimension::ApiKey], "(x.user_id = $5 OR (x.user_id = '' AND x.api_key_id = ANY ($6)))"),
    ] {
        if is_asked {
            needed.extend_from_slice(dimensions);
            where_.push_str(" AND ");
            where_.push_str(condition);
        }
    }
    (needed, where_)
}

/// Whether an organization has any usage with this filter, at any time.
pub fn is_used(organization: &str, filter: &Filter) -> Result<bool> {
    let asked = Asked { organization, starts: &[], filter, dimensions: &[] };
    let (_, where_) = conditions(&asked);
    let sql = format!(
        "SELECT EXISTS (SELECT FROM llm.series x WHERE x.org = (SELECT org FROM llm._org WHERE organization_id = $1) AND x.level = 3{where_})
             OR EXISTS (SELECT FROM llm._pending x WHERE x.organization_id = $1 AND x.kind = 0{where_})"
    );
    let (owner, owned) = filter.owner.as_ref().map_or((None, None), |owner| (Some(owner.user.clone()), Some(owner.keys.clone())));
    let arguments =
        [organization.into(), None::<String>.into(), filter.project.clone().into(), filter.keys.clone().into(), owner.into(), owned.into()];
    Ok(query::one::<bool>(&sql, &arguments, See::Active)?.unwrap_or(false))
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
