//! The answers of the JSON functions as the design shapes them, written out from plain SQL over the ledger's rows (`o`):
//! every key in its place, every number with its exact text.

use crate::db::quote;
use crate::decimal::Decimal;
use crate::oracle::{M, MEASURES};
use postgres::Client;
use serde_json::Value;

/// Which organization, which local days.
#[derive(Clone, Debug)]
pub struct Ask {
    pub org: String,
    pub from: String,
    pub to: String,
    pub zone: String,
}

impl Ask {
    /// The arguments after the organization and what is asked for.
    pub fn range(&self) -> String {
        format!("'{}', '{}', '{}'", self.from, self.to, self.zone)
    }
}

/// A breakdown: the column of the ledger, the kind of its labels, and what usage without it is called.
#[derive(Clone, Copy, Debug)]
pub struct Dimension {
    pub column: &'static str,
    pub kind: &'static str,
    pub owned: bool,
}

const fn dimension(column: &'static str, kind: &'static str, owned: bool) -> Dimension {
    Dimension { column, kind, owned }
}

pub const MODEL: Dimension = dimension("canonical", "model", false);
pub const MAPPING: Dimension = dimension("shown_mapping", "", false);
pub const PROVIDER: Dimension = dimension("provider", "", false);
pub const PROJECT: Dimension = dimension("project", "project", true);
pub const API_KEY: Dimension = dimension("key", "api_key", true);
pub const USER: Dimension = dimension("usr", "user", true);
pub const APPLICATION: Dimension = dimension("app", "", false);
pub const MODE: Dimension = dimension("mode", "", false);

pub const GROUP_BY: [(&str, Dimension); 8] = [
    ("model", MODEL),
    ("mapping", MAPPING),
    ("provider", PROVIDER),
    ("project", PROJECT),
    ("apiKey", API_KEY),
    ("user", USER),
    ("application", APPLICATION),
    ("mode", MODE),
];

impl Dimension {
    /// SQL of the label of `k`.
    pub fn label(&self) -> String {
        format!(
            "CASE WHEN k IS NULL THEN '{}' ELSE ledger.label('{}', k) END",
            if self.owned { "Unattributed" } else { "unknown" },
            self.kind
        )
    }
}

pub type Measures = Vec<String>;

pub struct Entry {
    pub key: Option<String>,
    pub label: String,
    pub measures: Measures,
}

pub struct Day {
    date: String,
    measures: Measures,
    entries: Vec<Entry>,
}

pub struct Breakdown {
    pub total: Measures,
    pub entries: Vec<Entry>,
    pub days: Vec<Day>,
    owned: bool,
}

pub fn string(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

pub fn nullable(text: Option<&str>) -> String {
    text.map_or("null".to_owned(), string)
}

pub fn fields(measures: &Measures) -> String {
    let fields: Vec<String> = M.iter().zip(measures).map(|(name, value)| format!("\"{name}\":{value}")).collect();
    fields.join(",")
}

/// The rows of an organization in a range, with their local date as `d` and their key as `k`.
pub fn rows_of(ask: &Ask, column: &str, filter: &str) -> String {
    format!(
        "(SELECT * FROM (SELECT (at AT TIME ZONE '{}')::date AS d, {column} AS k, o.* FROM o WHERE org = {} AND ({filter})) inner_rows
          WHERE d BETWEEN '{}' AND '{}')",
        ask.zone,
        quote(&ask.org),
        ask.from,
        ask.to
    )
}

/// All cells, days, keys and the sum of a breakdown, in the order of the answers: cost descending, label, key.
pub fn breakdown(client: &mut Client, ask: &Ask, dimension: Dimension, filter: &str) -> Breakdown {
    let sql = format!(
        "SELECT all_days = 1, all_keys = 1, coalesce(d::text, ''), k, label, m
         FROM (SELECT g.*, {label} AS label FROM (SELECT grouping(d) AS all_days, grouping(k) AS all_keys, d, k, sum(cost) AS c, ARRAY[{MEASURES}] AS m
               FROM {rows} x GROUP BY GROUPING SETS ((d, k), (d), (k), ())) g) named
         ORDER BY c DESC NULLS LAST, label COLLATE \"C\", k COLLATE \"C\" NULLS FIRST",
        label = dimension.label(),
        rows = rows_of(ask, dimension.column, filter),
    );
    let zero = || -> Measures { vec!["0".to_owned(); M.len()] };
    let days =
        format!("SELECT d::date::text FROM generate_series('{}'::date, '{}'::date, interval '1 day') d ORDER BY 1", ask.from, ask.to);
    let day = |row: &postgres::Row| Day { date: row.get(0), measures: zero(), entries: Vec::new() };
    let days = client.query(&days, &[]).expect("days").iter().map(day).collect();
    let mut found = Breakdown { total: zero(), entries: Vec::new(), days, owned: dimension.owned };
    for row in client.query(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}")) {
        let (all_days, all_keys, date): (bool, bool, String) = (row.get(0), row.get(1), row.get(2));
        let measures: Measures = row.get(5);
        let day = found.days.iter_mut().find(|day| day.date == date);
        let entry = |measures| Entry { key: row.get(3), label: row.get(4), measures };
        match (all_days, all_keys) {
            (true, true) => found.total = measures,
            (true, false) => found.entries.push(entry(measures)),
            (false, true) => day.expect("a day of the range").measures = measures,
            (false, false) => day.expect("a day of the range").entries.push(entry(measures)),
        }
    }
    found
}

impl Breakdown {
    fn head(&self, entry: &Entry) -> String {
        let kind = if entry.key.is_none() && self.owned { "\"kind\":\"unattributed\"," } else { "" };
        format!("\"key\":{},\"label\":{},{kind}", nullable(entry.key.as_deref()), string(&entry.label))
    }

    /// `[entry]`, at most so many.
    pub fn list(&self, most: usize) -> String {
        let entries: Vec<String> = self.entries.iter().take(most).map(|e| format!("{{{}{}}}", self.head(e), fields(&e.measures))).collect();
        format!("[{}]", entries.join(","))
    }

    pub fn summary(&self) -> String {
        format!("{{{}}}", fields(&self.total))
    }

    /// `"activity"`: every day with its slim entries.
    pub fn activity(&self) -> String {
        let slim = |e: &Entry| {
            format!("{{{}\"cost\":{},\"requestCount\":{},\"totalTokens\":{}}}", self.head(e), e.measures[0], e.measures[1], e.measures[4])
        };
        let days: Vec<String> = self
            .days
            .iter()
            .map(|day| {
                let entries: Vec<String> = day.entries.iter().map(slim).collect();
                format!("{{\"date\":\"{}\",{},\"breakdown\":[{}]}}", day.date, fields(&day.measures), entries.join(","))
            })
            .collect();
        format!("[{}]", days.join(","))
    }
}

/// `"from".. "incompleteBefore"`, as all answers but drivers have it.
pub fn head(ask: &Ask) -> String {
    format!("\"from\":\"{}\",\"to\":\"{}\",\"timezone\":\"{}\",\"incompleteBefore\":null", ask.from, ask.to, ask.zone)
}

/// What an answer says, without white space; rates lose the trailing zeros that their rounding may leave.
pub fn said(answer: &Value) -> String {
    let mut answer = answer.clone();
    trim_rates(&mut answer);
    answer.to_string()
}

fn trim_rates(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(trim_rates),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Number(number) if name.ends_with("Rate") && number.to_string().contains('.') => {
                        let text = number.to_string();
                        let trimmed = text.trim_end_matches('0').trim_end_matches('.');
                        *value = serde_json::from_str(trimmed).expect("a number");
                    }
                    other => trim_rates(other),
                }
            }
        }
        _ => {}
    }
}

/// Shows where two long texts part.
pub fn same(said: &str, expected: &str, context: &str) {
    if said == expected {
        return;
    }
    let at = said.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.chars().skip(at.saturating_sub(160)).take(400).collect::<String>();
    panic!("{context}\nfirst difference at character {at}\nthe answer:  ..{}\nthe log says: ..{}", around(said), around(expected));
}

/// One number of an object of an answer.
pub fn number(value: &Value, name: &str) -> Decimal {
    match &value[name] {
        Value::Number(number) => Decimal::parse(&number.to_string()),
        other => panic!("{name} is {other}, not a number"),
    }
}

/// Cost and requests of a list of entries, added up.
pub fn sum<'a>(entries: impl IntoIterator<Item = &'a Value>) -> (Decimal, Decimal) {
    let zero = (Decimal::parse("0"), Decimal::parse("0"));
    entries.into_iter().fold(zero, |(cost, requests), e| (cost.plus(number(e, "cost")), requests.plus(number(e, "requestCount"))))
}
