//! Arguments as they come, checked in the order of the design: NULLs, then values; who asks comes after.

use crate::error::{Error, Result};
use crate::zone::{Zone, date_argument};
use chrono::NaiveDate;
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::dimension;
use llm_analytics_core::request::{BadRange, DateRange, GroupBy, MAX_DAYS};
use pgrx::datum::Date;
use pgrx::prelude::*;

/// 22004 for NULL.
pub fn required<T>(argument: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::null(argument))
}

/// Enough of a wrong value to recognise it, whatever its length.
fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

/// An id as the log's dimensions are read: long ones are clipped. Every id that comes in goes
/// through here, or is read from a directory, which does the same.
pub fn bounded(id: String) -> String {
    dimension::bounded(&id).into_owned()
}

/// An id that must be there: 22004 for NULL.
pub fn required_id(argument: &str, id: Option<String>) -> Result<String> {
    required(argument, id).map(bounded)
}

pub fn group_by(text: &str) -> Result<GroupBy> {
    GroupBy::parse(text)
        .ok_or_else(|| Error::argument(format!("unknown group_by \"{}\"", shown(text)), format!("Allowed: {}.", GroupBy::ALLOWED)))
}

/// How models are shown on a page.
#[derive(Clone, Copy)]
pub struct ModelView {
    pub name: &'static str,
    pub group_by: GroupBy,
}

impl ModelView {
    pub fn parse(text: &str) -> Result<ModelView> {
        [ModelView { name: "canonical", group_by: GroupBy::Model }, ModelView { name: "mappings", group_by: GroupBy::Mapping }]
            .into_iter()
            .find(|view| view.name.eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::argument(format!("unknown model_view \"{}\"", shown(text)), "Allowed: canonical, mappings."))
    }
}

/// Which local days are asked for.
pub struct Days {
    pub range: DateRange,
    pub zone: Zone,
    pub today: NaiveDate,
}

pub fn bad_range(bad: BadRange) -> Error {
    let hint = match bad {
        BadRange::FromAfterTo => "Both dates are inclusive; without dates the last 7 days are shown.".to_string(),
        BadRange::TooLong(_) => format!("At most {MAX_DAYS} days are answered at once."),
        BadRange::OutOfCalendar => "Use a date such as '2026-06-24'.".to_string(),
    };
    Error::argument(bad.to_string(), hint)
}

impl Days {
    pub fn parse(from: Option<Date>, to: Option<Date>, tz: &str) -> Result<Days> {
        let zone = Zone::find(tz)?;
        // SAFETY: reads the start of the transaction, as now() does.
        let today = zone.date_at(unsafe { pg_sys::GetCurrentTransactionStartTimestamp() })?;
        let range = DateRange::resolve(date_argument("from", from)?, date_argument("to", to)?, today).map_err(bad_range)?;
        Ok(Days { range, zone, today })
    }

    /// The starts of the days and of the day after the last. After the caller is known to be allowed.
    pub fn starts(&self) -> Result<Vec<Micros>> {
        self.zone.day_starts(&self.range)
    }

    /// Only where the range begins and ends: for what is not shown by day.
    pub fn ends(zone: &Zone, range: &DateRange) -> Result<Vec<Micros>> {
        let first = zone.day_starts(&DateRange { from: range.from, to: range.from })?;
        let last = zone.day_starts(&DateRange { from: range.to, to: range.to })?;
        Ok(vec![first[0], last[1]])
    }
}
