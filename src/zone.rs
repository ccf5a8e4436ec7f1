//! Local days, from the server's own time zone data, so that they agree with `date_trunc(.., tz)` in any BI tool.

use crate::error::{Error, Result};
use chrono::NaiveDate;
use llm_analytics_core::bucket::{self, Micros};
use llm_analytics_core::request::DateRange;
use llm_analytics_core::zone;
use pgrx::prelude::*;
use std::ffi::CString;

/// Seconds between the Unix epoch and PostgreSQL's, 2000-01-01.
const EPOCH: i64 = 946_684_800;
const SECONDS_PER_DAY: i64 = 86_400;

/// A time zone the server knows.
pub struct Zone {
    pub name: &'static str,
    data: *mut pg_sys::pg_tz,
}

/// An offset from UTC (seconds east) and until when it holds.
struct Offset {
    seconds: i64,
    until: Option<i64>,
}

impl Zone {
    /// By IANA name, in any letter case.
    pub fn find(name: &str) -> Result<Zone> {
        let unknown = |shown: &str| {
            Error::argument(
                format!("unknown time zone \"{shown}\""),
                "Use an IANA name such as 'Europe/Berlin' or 'UTC'; abbreviations and POSIX strings are not accepted.",
            )
        };
        // Enough to recognise what was asked for, whatever its length.
        let shown: String = name.chars().take(60).collect();
        let known = zone::canonical_name(name).ok_or_else(|| unknown(&shown))?;
        let text = CString::new(known).map_err(|_| unknown(&shown))?;
        // SAFETY: a lookup by name; the data stays cached for the life of the backend.
        let data = unsafe { pg_sys::pg_tzset(text.as_ptr()) };
        if data.is_null() {
            Err(unknown(known).detail("The server's time zone data does not have it."))
        } else {
            Ok(Zone { name: known, data })
        }
    }

    fn offset(&self, at: i64) -> Result<Offset> {
        let (mut before, mut after) = (0, 0);
        let (mut before_dst, mut after_dst) = (0, 0);
        let mut boundary = 0;
        // SAFETY: all out parameters are valid, `data` comes from pg_tzset.
        let found = unsafe {
            pg_sys::pg_next_dst_boundary(&at, &mut before, &mut before_dst, &mut boundary, &mut after, &mut after_dst, self.data)
        };
        match found {
            -1 => Err(Error::internal(format!("time zone {} has no offset", self.name))),
            0 => Ok(Offset { seconds: before, until: None }),
            _ => Ok(Offset { seconds: before, until: Some(boundary) }),
        }
    }

    /// The local date at an instant.
    pub fn date_at(&self, at: Micros) -> Result<NaiveDate> {
        let seconds = at.div_euclid(1_000_000) + EPOCH;
        let local = seconds + self.offset(seconds)?.seconds;
        date_of_days(local.div_euclid(SECONDS_PER_DAY))
    }

    /// The least instant t with `(t AT TIME ZONE tz)::date >= day`. Some days have two midnights or none.
    pub fn day_start(&self, day: NaiveDate) -> Result<Micros> {
        let midnight = (day - NaiveDate::default()).num_days() * SECONDS_PER_DAY;
        // No offset is larger than 16 hours, so the local date two days before is an earlier one.
        let mut at = midnight - 2 * SECONDS_PER_DAY;
        loop {
            let offset = self.offset(at)?;
            let start = at.max(midnight - offset.seconds);
            match offset.until {
                Some(until) if start >= until => at = until,
                _ => return Ok((start - EPOCH) * 1_000_000),
            }
        }
    }

    /// The starts of all days of a range and of the day after it: sorted, each the start of a bucket.
    pub fn day_starts(&self, range: &DateRange) -> Result<Vec<Micros>> {
        let after = range
            .to
            .succ_opt()
            .ok_or_else(|| Error::argument("date out of range", "Use dates of the Gregorian calendar up to year 262142."))?;
        range
            .dates()
            .chain([after])
            .map(|day| {
                let start = self.day_start(day)?;
                if bucket::start(start) != start {
                    return Err(Error::new(
                        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                        format!("{day} in time zone {} starts within a bucket", self.name),
                    )
                    .detail("Rollups are kept by hours of UTC, cut where local days start off the hour since 2018-06-01.")
                    .hint("Ask for a range after that date, or in another time zone."));
                }
                Ok(start)
            })
            .collect()
    }
}

/// A date from days since 1970.
fn date_of_days(days: i64) -> Result<NaiveDate> {
    chrono::TimeDelta::try_days(days)
        .and_then(|delta| NaiveDate::default().checked_add_signed(delta))
        .ok_or_else(|| Error::argument("date out of range", "Use dates of the Gregorian calendar up to year 262142."))
}

/// A date argument; None for NULL, an error for infinity and for years no calendar has.
pub fn date_argument(name: &str, date: Option<pgrx::datum::Date>) -> Result<Option<NaiveDate>> {
    let Some(date) = date else { return Ok(None) };
    if date.is_infinity() || date.is_neg_infinity() {
        return Err(Error::argument(format!("\"{name}\" must not be infinite"), "Use a date such as '2026-06-24'."));
    }
    date_of_days(i64::from(date.to_unix_epoch_days())).map(Some)
}
