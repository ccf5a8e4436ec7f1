//! A request as the caller spells it: what is grouped by, and which days.

use crate::dimension::Dimension;
use chrono::{Days, NaiveDate};
use std::fmt;

/// What a breakdown is by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupBy {
    Model,
    Mapping,
    Provider,
    Project,
    ApiKey,
    User,
    Application,
    Mode,
}

impl GroupBy {
    pub const ALL: [GroupBy; 8] = [
        GroupBy::Model,
        GroupBy::Mapping,
        GroupBy::Provider,
        GroupBy::Project,
        GroupBy::ApiKey,
        GroupBy::User,
        GroupBy::Application,
        GroupBy::Mode,
    ];
    /// For hints.
    pub const ALLOWED: &'static str = "model, mapping, provider, project, apiKey (or api_key), user, application, mode";

    /// Any letter case; `api_key` is `apiKey`.
    pub fn parse(text: &str) -> Option<GroupBy> {
        let text = if text.eq_ignore_ascii_case("api_key") { "apiKey" } else { text };
        GroupBy::ALL.into_iter().find(|g| g.name().eq_ignore_ascii_case(text))
    }

    /// As it is spelled in answers.
    pub fn name(self) -> &'static str {
        match self {
            GroupBy::Model => "model",
            GroupBy::Mapping => "mapping",
            GroupBy::Provider => "provider",
            GroupBy::Project => "project",
            GroupBy::ApiKey => "apiKey",
            GroupBy::User => "user",
            GroupBy::Application => "application",
            GroupBy::Mode => "mode",
        }
    }

    /// The dimensions it is computed from.
    pub fn dimensions(self) -> &'static [Dimension] {
        match self {
            GroupBy::Model => &[Dimension::Mapping],
            GroupBy::Mapping => &[Dimension::Mapping, Dimension::Provider],
            GroupBy::Provider => &[Dimension::Provider],
            GroupBy::Project => &[Dimension::Project],
            GroupBy::ApiKey => &[Dimension::ApiKey],
            // The log's user where it has one, else the creator of the key.
            GroupBy::User => &[Dimension::User, Dimension::ApiKey],
            GroupBy::Application => &[Dimension::Application],
            GroupBy::Mode => &[Dimension::Mode],
        }
    }

    /// Usage without this dimension is "Unattributed" where somebody could own it, "unknown" where it is a property of the request.
    pub fn is_ownership(self) -> bool {
        matches!(self, GroupBy::Project | GroupBy::ApiKey | GroupBy::User)
    }
}

/// At most this many days are answered at once.
pub const MAX_DAYS: i64 = 3_700;

/// The local days of an answer, both inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DateRange {
    pub from: NaiveDate,
    pub to: NaiveDate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadRange {
    FromAfterTo,
    TooLong(i64),
    OutOfCalendar,
}

impl fmt::Display for BadRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadRange::FromAfterTo => write!(f, "\"from\" must not be after \"to\""),
            BadRange::TooLong(days) => write!(f, "the range has {days} days"),
            BadRange::OutOfCalendar => write!(f, "date out of range"),
        }
    }
}

impl DateRange {
    /// Neither: the last 7 days, today included. Only `from`: to today. Only `to`: 7 days ending there.
    pub fn resolve(from: Option<NaiveDate>, to: Option<NaiveDate>, today: NaiveDate) -> Result<DateRange, BadRange> {
        let to = to.unwrap_or(today);
        let from = match from {
            Some(from) => from,
            None => to.checked_sub_days(Days::new(6)).ok_or(BadRange::OutOfCalendar)?,
        };
        let range = DateRange { from, to };
        if from > to {
            return Err(BadRange::FromAfterTo);
        }
        match range.days() {
            days if days > MAX_DAYS => Err(BadRange::TooLong(days)),
            _ => Ok(range),
        }
    }

    pub fn days(&self) -> i64 {
        (self.to - self.from).num_days() + 1
    }

    pub fn dates(&self) -> impl Iterator<Item = NaiveDate> + use<> {
        let count = usize::try_from(self.days()).unwrap_or(0);
        self.from.iter_days().take(count)
    }
}

/// `numerator / denominator * 100`, rounded to 4 decimals half away from zero, without trailing zeros; 0 where the divisor is 0.
pub fn percent(numerator: i128, denominator: i128) -> String {
    if denominator == 0 {
        return "0".into();
    }
    let negative = (numerator < 0) != (denominator < 0);
    let (n, d) = (numerator.unsigned_abs(), denominator.unsigned_abs());
    let scaled = (n * 2_000_000 + d) / (2 * d);
    let text = format!("{}.{:04}", scaled / 10_000, scaled % 10_000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if negative && scaled != 0 { format!("-{text}") } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn group_by_in_any_case() {
        for group in GroupBy::ALL {
            assert_eq!(GroupBy::parse(&group.name().to_uppercase()), Some(group));
        }
        assert_eq!(GroupBy::parse("API_KEY"), Some(GroupBy::ApiKey));
        assert_eq!(GroupBy::parse("keys"), None);
    }

    #[test]
    fn ranges() {
        let today = day("2026-06-24");
        let range = |from: Option<&str>, to: Option<&str>| DateRange::resolve(from.map(day), to.map(day), today);
        assert_eq!(range(None, None), Ok(DateRange { from: day("2026-06-18"), to: today }));
        assert_eq!(range(Some("2026-06-01"), None).unwrap().days(), 24);
        assert_eq!(range(None, Some("2026-03-07")), Ok(DateRange { from: day("2026-03-01"), to: day("2026-03-07") }));
        assert_eq!(range(Some("2026-06-02"), Some("2026-06-01")), Err(BadRange::FromAfterTo));
        assert_eq!(range(Some("2016-01-01"), None), Err(BadRange::TooLong(3828)));
        assert_eq!(range(Some("2016-05-09"), None).unwrap().days(), 3_699);
    }

    #[test]
    fn percent_is_rounded_exactly() {
        for (n, d, text) in [
            (1, 3, "33.3333"),
            (2, 3, "66.6667"),
            (1, 1, "100"),
            (0, 5, "0"),
            (1, 0, "0"),
            (1, 8, "12.5"),
            (1, 2_000_000, "0.0001"),
            (-1, 3, "-33.3333"),
        ] {
            assert_eq!(percent(n, d), text);
        }
    }
}
