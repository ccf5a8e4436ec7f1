//! Reading: sums by day and raw dimension values from the cheapest levels that are exact, plus what is pending, in the caller's snapshot.
//! What keys are called is `breakdown`'s business.

use crate::directory::Directories;
use crate::error::{Error, Result};
use crate::measures;
use crate::pending::{self, Record};
use crate::query::{self, See};
use crate::rollup::list;
use crate::rollup::scan::{Row, Table};
use crate::varlena;
use chrono::NaiveDate;
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::{Kind, Measures, Overflow};
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::level::{DETAIL, Level};
use llm_analytics_core::measure::{CACHE_HITS, CLIENT_ERRORS, ERRORS, INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS, TOTAL_TOKENS};
use llm_analytics_core::money::Money;
use llm_analytics_core::request::percent;
use llm_analytics_core::window::Window;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use rustc_hash::FxHashMap;

/// The measures `M` of the answers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub cost: Money,
    pub requests: i128,
    pub input_tokens: i128,
    pub output_tokens: i128,
    pub total_tokens: i128,
    pub errors: i128,
    pub client_errors: i128,
    pub cache_hits: i128,
}

/// The counts of [`Totals`], in its order, and the columns that show them.
const COUNTS: [usize; 7] = [REQUESTS, INPUT_TOKENS, OUTPUT_TOKENS, TOTAL_TOKENS, ERRORS, CLIENT_ERRORS, CACHE_HITS];

const COLUMNS: [&str; 7] =
    ["request_count", "input_tokens", "output_tokens", "total_tokens", "error_count", "client_error_count", "cache_count"];

impl Totals {
    /// The counts as columns of type bigint; 22003 where one does not fit.
    pub fn bigints(&self) -> Result<[i64; 7]> {
        let mut counts = [0; 7];
        for ((bigint, name), count) in counts.iter_mut().zip(COLUMNS).zip(self.counts()) {
            *bigint = measures::bigint(name, count)?;
        }
        Ok(counts)
    }

    pub fn add(&mut self, other: &Totals) -> Result<()> {
        self.cost = self.cost.checked_add(other.cost).ok_or(Overflow)?;
        for (sum, value) in self.counts_mut().into_iter().zip(other.counts()) {
            *sum = sum.checked_add(value).ok_or(Overflow)?;
        }
        Ok(())
    }

    fn subtract(&mut self, other: &Totals) -> Result<()> {
        self.cost = self.cost.checked_add(-other.cost).ok_or(Overflow)?;
        for (sum, value) in self.counts_mut().into_iter().zip(other.counts()) {
            *sum = sum.checked_sub(value).ok_or(Overflow)?;
        }
        Ok(())
    }

    fn add_measures(&mut self, measures: &Measures) -> Result<()> {
        self.cost = self.cost.checked_add(measures.amounts[0]).ok_or(Overflow)?;
        for (sum, at) in self.counts_mut().into_iter().zip(COUNTS) {
            *sum = sum.checked_add(measures.counts[at]).ok_or(Overflow)?;
        }
        Ok(())
    }

    fn counts_mut(&mut self) -> [&mut i128; 7] {
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

    fn counts(&self) -> [i128; 7] {
        [self.requests, self.input_tokens, self.output_tokens, self.total_tokens, self.errors, self.client_errors, self.cache_hits]
    }

    pub fn is_zero(&self) -> bool {
        *self == Totals::default()
    }

    /// Percent of the requests that could fail for reasons of ours.
    pub fn error_rate(&self) -> String {
        percent(self.errors, self.requests - self.client_errors)
    }

    pub fn cache_rate(&self) -> String {
        percent(self.cache_hits, self.requests)
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
    /// '' is nobody: then only usage without a user, with one of the keys.
    pub user: String,
    pub keys: Vec<String>,
}

impl Owner {
    /// Of usage that is nobody's: it has no user, and its key, if it has one, no known creator.
    pub fn nobody(directories: &Directories, organization: &str) -> Result<Owner> {
        let mut keys = used(organization, Dimension::ApiKey)?;
        let owned = directories.owners(&keys)?;
        keys.retain(|key| !owned.contains_key(key));
        keys.push(String::new());
        Ok(Owner { user: String::new(), keys })
    }
}

impl Filter {
    /// Whether pending usage of these dimensions is asked for; of series the database is asked ([`conditions`]).
    fn admits(&self, usage: &Record<'_>) -> bool {
        let of = |dimension| usage.dimension(dimension);
        let is_one_of = |keys: &[String]| keys.iter().any(|key| key.as_bytes() == of(Dimension::ApiKey));
        self.project.as_ref().is_none_or(|project| project.as_bytes() == of(Dimension::Project))
            && self.keys.as_ref().is_none_or(|keys| is_one_of(keys))
            && self.owner.as_ref().is_none_or(|owner| {
                let user = of(Dimension::User);
                if user.is_empty() { is_one_of(&owner.keys) } else { owner.user.as_bytes() == user }
            })
    }
}

pub struct Asked<'a> {
    pub organization: &'a str,
    /// The starts of the days and of the day after the last.
    pub starts: &'a [Micros],
    pub filter: &'a Filter,
    pub dimensions: &'a [Dimension],
}

/// The usage of one combination of dimensions.
pub struct Group {
    /// In the order of the dimensions asked for; '' where the usage has none.
    pub values: Vec<String>,
    /// Days, counted from 0, and what was used on them; in order, each at most once.
    pub days: Vec<(usize, Totals)>,
}

pub fn groups(asked: &Asked<'_>) -> Result<Vec<Group>> {
    let window = Window::new(asked.starts);
    let mut sums = Sums { asked, groups: Vec::new(), known: FxHashMap::default(), key: Vec::new() };
    sums.add_rollups(&window)?;
    sums.add_pending()?;
    let mut groups = sums.groups;
    for group in &mut groups {
        merge(&mut group.days)?;
    }
    Ok(groups)
}

/// Puts days in order, each once.
pub fn merge(days: &mut Vec<(usize, Totals)>) -> Result<()> {
    days.sort_by_key(|(day, _)| *day);
    let mut merged: Vec<(usize, Totals)> = Vec::with_capacity(days.len());
    for (day, totals) in days.drain(..) {
        match merged.last_mut().filter(|(last, _)| *last == day) {
            Some((_, sum)) => sum.add(&totals)?,
            None => merged.push((day, totals)),
        }
    }
    *days = merged;
    Ok(())
}

/// Sums as they are read.
struct Sums<'a> {
    asked: &'a Asked<'a>,
    groups: Vec<Group>,
    /// The values, each followed by NUL -> position in `groups`.
    known: FxHashMap<Vec<u8>, usize>,
    key: Vec<u8>,
}

impl Sums<'_> {
    fn group<'v>(&mut self, values: impl Iterator<Item = &'v [u8]> + Clone) -> Result<usize> {
        self.key.clear();
        for value in values.clone() {
            self.key.extend_from_slice(value);
            self.key.push(0);
        }
        if let Some(group) = self.known.get(&self.key) {
            return Ok(*group);
        }
        let values = values.map(|value| pending::text(value).map(String::from)).collect::<Result<_>>()?;
        self.groups.push(Group { values, days: Vec::new() });
        self.known.insert(self.key.clone(), self.groups.len() - 1);
        Ok(self.groups.len() - 1)
    }

    /// The sum of a day, to be added to.
    fn day(&mut self, group: usize, day: usize) -> Result<&mut Totals> {
        let days = &mut self.groups[group].days;
        // Rows come in order of time, so mostly it is the day that was last.
        if days.last().is_none_or(|(last, _)| *last != day) {
            days.push((day, Totals::default()));
        }
        days.last_mut().map(|(_, sum)| sum).ok_or_else(|| Error::internal("no day"))
    }

    fn add_rollups(&mut self, window: &Window) -> Result<()> {
        let org = "SELECT org FROM llm._org WHERE organization_id = $1";
        let Some(org) = query::one::<i32>(org, &[self.asked.organization.into()], See::Active)? else { return Ok(()) };
        let (needed, _) = conditions(self.asked);
        let days = Level::cheapest(&needed);
        let series_of_days = self.series(org, days)?;
        if window.days.0 < window.days.1 {
            let table = Table::of_level(&days, pg_sys::AccessShareLock)?;
            scan(&table, org, &series_of_days, window.days, |group, row, measures| {
                self.day(group, window.day(row.bucket))?.add_measures(measures)
            })?;
        }
        if window.parts.is_empty() {
            return Ok(());
        }
        let others = if days.series == DETAIL.series { None } else { Some(self.series(org, DETAIL)?) };
        let series = others.as_ref().unwrap_or(&series_of_days);
        let table = Table::of_level(&DETAIL, pg_sys::AccessShareLock)?;
        // Of one part, by group; then what a part moves from one day to another is added and taken away once, not row by row.
        let mut moved: Vec<Option<Totals>> = vec![None; self.groups.len()];
        let mut in_part = Vec::new();
        for part in &window.parts {
            scan(&table, org, series, (part.from, part.to), |group, _, measures| {
                let totals = moved[group].get_or_insert_with(|| {
                    in_part.push(group);
                    Totals::default()
                });
                totals.add_measures(measures)
            })?;
            for group in in_part.drain(..) {
                let Some(totals) = moved[group].take() else { continue };
                self.day(group, part.day)?.add(&totals)?;
                if let Some(day) = part.taken_from {
                    self.day(group, day)?.subtract(&totals)?;
                }
            }
        }
        Ok(())
    }

    /// The series of an organization that are asked for, by number, and the group of each.
    fn series(&mut self, org: i32, level: Level) -> Result<FxHashMap<i32, usize>> {
        let (_, where_) = conditions(self.asked);
        let dimensions = self.asked.dimensions;
        let columns = list(dimensions, "", |d| format!(", x.{}", d.column()));
        let sql = format!("SELECT x.id{columns} FROM llm.series x WHERE x.org = $5 AND x.level = {}{where_}", level.series.id);
        let mut arguments = arguments(self.asked.filter);
        arguments.push(org.into());
        let mut found = FxHashMap::default();
        query::each(&sql, &arguments, See::Active, |row| {
            let values: Vec<String> = (0..dimensions.len()).map(|at| row.get::<String>(at as i32 + 2).unwrap_or_default()).collect();
            let id = row.get::<i32>(1).ok_or_else(|| Error::internal("series without a number"))?;
            found.insert(id, self.group(values.iter().map(String::as_bytes))?);
            Ok(())
        })?;
        Ok(found)
    }

    fn add_pending(&mut self) -> Result<()> {
        let (Some(first), Some(last)) = (self.asked.starts.first(), self.asked.starts.last()) else { return Ok(()) };
        let asked = self.asked;
        let mut measures = Measures::default();
        // The day that was last, and its bounds: what waits is mostly of one day.
        let (mut day, mut begin, mut end) = (0, Micros::MAX, Micros::MIN);
        pending::of_organization(asked.organization, |record| {
            if record.kind != Kind::Detail as i16 || record.bucket < *first || record.bucket >= *last {
                return Ok(());
            }
            if !asked.filter.admits(record) {
                return Ok(());
            }
            let group = self.group(asked.dimensions.iter().map(|dimension| record.dimension(*dimension)))?;
            if record.bucket < begin || record.bucket >= end {
                day = asked.starts.partition_point(|start| *start <= record.bucket) - 1;
                (begin, end) = (asked.starts[day], asked.starts[day + 1]);
            }
            measures::read(record.measures, &mut measures)?;
            self.day(group, day)?.add_measures(&measures)
        })
    }
}

/// Calls `f` with the rows of a range that are of one of the series, in order of bucket, and with the series' group.
fn scan(
    table: &Table,
    org: i32,
    series: &FxHashMap<i32, usize>,
    range: (Micros, Micros),
    mut f: impl FnMut(usize, &Row, &Measures) -> Result<()>,
) -> Result<()> {
    let mut measures = Measures::default();
    table.range(org, range.0, range.1, |row: &Row| {
        let Some(group) = series.get(&row.series) else { return Ok(()) };
        // SAFETY: the row's own value.
        measures::read(unsafe { varlena::bytes(row.measures) }, &mut measures)?;
        f(*group, row, &measures)
    })
}

/// The dimensions a level must have, and the conditions on `x`, each with its AND: $1 project, $2 API keys, $3 user, $4 their keys.
fn conditions(asked: &Asked<'_>) -> (Vec<Dimension>, String) {
    let filter = asked.filter;
    let mut needed = asked.dimensions.to_vec();
    let mut where_ = String::new();
    for (is_asked, dimensions, condition) in [
        (filter.project.is_some(), &[Dimension::Project][..], "x.project_id = $1"),
        (filter.keys.is_some(), &[Dimension::ApiKey], "x.api_key_id = ANY ($2)"),
        (
            filter.owner.is_some(),
            &[Dimension::User, Dimension::ApiKey],
            "CASE x.user_id WHEN '' THEN x.api_key_id = ANY ($4) ELSE x.user_id = $3 END",
        ),
    ] {
        if is_asked {
            needed.extend_from_slice(dimensions);
            where_.push_str(" AND ");
            where_.push_str(condition);
        }
    }
    (needed, where_)
}

/// Those that [`conditions`] name.
fn arguments(filter: &Filter) -> Vec<DatumWithOid<'static>> {
    let (owner, owned) = filter.owner.as_ref().map_or((None, None), |owner| (Some(owner.user.clone()), Some(owner.keys.clone())));
    vec![filter.project.clone().into(), filter.keys.clone().into(), owner.into(), owned.into()]
}

/// Whether an organization has any usage with this filter, at any time.
pub fn is_used(organization: &str, filter: &Filter) -> Result<bool> {
    let asked = Asked { organization, starts: &[], filter, dimensions: &[] };
    let (_, where_) = conditions(&asked);
    let sql = format!(
        "SELECT EXISTS (SELECT FROM llm.series x WHERE x.org = (SELECT org FROM llm._org WHERE organization_id = $5) AND x.level = 3{where_})
             OR EXISTS (SELECT FROM llm._pending x WHERE x.organization_id = $5 AND x.kind = 0{where_})"
    );
    let mut arguments = arguments(filter);
    arguments.push(organization.into());
    Ok(query::one::<bool>(&sql, &arguments, See::Active)?.unwrap_or(false))
}

/// The values of a dimension that occur in usage of an organization.
pub fn used(organization: &str, dimension: Dimension) -> Result<Vec<String>> {
    let column = dimension.column();
    let sql = format!(
        "SELECT s.{column} FROM llm.series s WHERE s.org = (SELECT o.org FROM llm._org o WHERE o.organization_id = $1) AND s.level = 0 AND s.{column} <> ''
         UNION
         SELECT p.{column} FROM llm._pending p WHERE p.organization_id = $1 AND p.kind = 0 AND p.{column} <> ''"
    );
    let mut found = Vec::new();
    query::each(&sql, &[organization.into()], See::Active, |row| {
        found.extend(row.get::<String>(1));
        Ok(())
    })?;
    Ok(found)
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
