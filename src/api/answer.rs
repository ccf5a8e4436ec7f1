//! Answers as JSON: keys in the order of the design, numbers exact.

use crate::breakdown::{Day, Entry, Kind, Name};
use crate::error::{Error, Result};
use crate::read::Totals;
use chrono::NaiveDate;
use llm_analytics_core::money::Money;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Number;
use std::str::FromStr;

/// Decimal text as a JSON number with just these digits (serde_json's arbitrary precision).
pub struct Exact(pub String);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Number::from_str(&self.0).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

pub fn exact(money: Money) -> Exact {
    Exact(money.to_string())
}

/// The measures `M`.
pub fn measures<M: SerializeMap>(map: &mut M, totals: &Totals) -> std::result::Result<(), M::Error> {
    map.serialize_entry("cost", &exact(totals.cost))?;
    map.serialize_entry("requestCount", &totals.requests)?;
    map.serialize_entry("inputTokens", &totals.input_tokens)?;
    map.serialize_entry("outputTokens", &totals.output_tokens)?;
    map.serialize_entry("totalTokens", &totals.total_tokens)?;
    map.serialize_entry("errorCount", &totals.errors)?;
    map.serialize_entry("clientErrorCount", &totals.client_errors)?;
    map.serialize_entry("errorRate", &Exact(totals.error_rate()))?;
    map.serialize_entry("cacheCount", &totals.cache_hits)?;
    map.serialize_entry("cacheRate", &Exact(totals.cache_rate()))
}

fn head<M: SerializeMap>(map: &mut M, entry: &Name) -> std::result::Result<(), M::Error> {
    map.serialize_entry("key", &entry.key)?;
    map.serialize_entry("label", &entry.label)?;
    match entry.kind {
        Kind::Unattributed => map.serialize_entry("kind", "unattributed"),
        Kind::Other => map.serialize_entry("kind", "other"),
        Kind::Named | Kind::Unknown => Ok(()),
    }
}

impl Serialize for Totals {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        measures(&mut map, self)?;
        map.end()
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        head(&mut map, &self.name)?;
        measures(&mut map, &self.totals)?;
        map.end()
    }
}

/// An entry of one day.
struct Slim<'a>(&'a Name, &'a Totals);

impl Serialize for Slim<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        head(&mut map, self.0)?;
        map.serialize_entry("cost", &exact(self.1.cost))?;
        map.serialize_entry("requestCount", &self.1.requests)?;
        map.serialize_entry("totalTokens", &self.1.total_tokens)?;
        map.end()
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("date", &date(self.date))?;
        measures(&mut map, &self.totals)?;
        map.serialize_entry("breakdown", &self.entries.iter().map(|(at, totals)| Slim(&self.names[*at], totals)).collect::<Vec<_>>())?;
        map.end()
    }
}

pub fn json<T: Serialize>(answer: &T) -> Result<String> {
    serde_json::to_string(answer).map_err(|error| Error::internal(error.to_string()))
}

pub fn date(date: NaiveDate) -> String {
    date.format("%Y-%m-%d").to_string()
}

/// The answer of `llm.analytics_activity`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    pub group_by: &'static str,
    pub from: String,
    pub to: String,
    pub timezone: &'static str,
    pub incomplete_before: Option<String>,
    pub summary: Totals,
    pub breakdown: Vec<Entry>,
    pub activity: Vec<Day>,
}
