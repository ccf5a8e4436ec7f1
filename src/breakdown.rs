//! Cells into breakdowns: which key a cell counts for, what the key is called, and the order of an answer.

use crate::directory::Directories;
use crate::error::{Error, Result};
use crate::query::{self, See};
use crate::read::{Cell, Totals};
use chrono::NaiveDate;
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::directory::Kind as DirectoryKind;
use llm_analytics_core::request::{DateRange, GroupBy};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

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

/// `llm.model_alias`: mapping -> canonical name, canonical name -> label.
#[derive(Default)]
struct Aliases {
    canonical: HashMap<String, String>,
    labels: HashMap<String, String>,
}

impl Aliases {
    fn load() -> Result<Aliases> {
        let mut aliases = Aliases::default();
        query::each("SELECT a.mapping, a.canonical, a.label FROM llm.model_alias a ORDER BY a.label", &[], See::Active, |row| {
            if let (Some(mapping), Some(canonical)) = (row.get::<String>(1), row.get::<String>(2)) {
                if let Some(label) = row.get::<String>(3) {
                    aliases.labels.entry(canonical.clone()).or_insert(label);
                }
                aliases.canonical.insert(mapping, canonical);
            }
            Ok(())
        })?;
        Ok(aliases)
    }

    /// As `llm.canonical_model`, where no alias says otherwise.
    fn canonical(&self, mapping: &str) -> String {
        self.canonical.get(mapping).cloned().unwrap_or_else(|| {
            let model = mapping.split_once('/').map_or(mapping, |(_, model)| model);
            model.split_once(':').map_or(model, |(model, _)| model).to_string()
        })
    }
}

/// Cells with the key each counts for, and what the keys are called.
pub struct Breakdown<'c> {
    cells: &'c [Cell],
    keys: Vec<Option<String>>,
    labels: HashMap<String, String>,
    group_by: GroupBy,
}

impl<'c> Breakdown<'c> {
    /// `dimensions` are those of the cells; they hold those of the group.
    pub fn new(directories: &Directories, cells: &'c [Cell], dimensions: &[Dimension], group_by: GroupBy) -> Result<Breakdown<'c>> {
        let at = group_by
            .dimensions()
            .iter()
            .map(|wanted| dimensions.iter().position(|known| known == wanted).ok_or_else(|| Error::internal("a dimension was not read")))
            .collect::<Result<Vec<usize>>>()?;
        let aliases = if group_by == GroupBy::Model { Aliases::load()? } else { Aliases::default() };
        let owners = if group_by == GroupBy::User {
            let keys: HashSet<&String> =
                cells.iter().filter(|cell| cell.values[at[0]].is_empty()).map(|cell| &cell.values[at[1]]).collect();
            directories.owners(&keys.into_iter().filter(|key| !key.is_empty()).cloned().collect::<Vec<_>>())?
        } else {
            HashMap::new()
        };
        let key = |cell: &Cell| {
            let first = &cell.values[at[0]];
            match group_by {
                GroupBy::Model => aliases.canonical(first),
                GroupBy::Mapping => {
                    let provider = &cell.values[at[1]];
                    if first.is_empty() || provider.is_empty() || first.contains('/') {
                        first.clone()
                    } else {
                        format!("{provider}/{first}")
                    }
                }
                GroupBy::User if first.is_empty() => owners.get(&cell.values[at[1]]).cloned().unwrap_or_default(),
                _ => first.clone(),
            }
        };
        let keys: Vec<Option<String>> = cells.iter().map(|cell| Some(key(cell)).filter(|key| !key.is_empty())).collect();
        let ids = || keys.iter().flatten().collect::<HashSet<_>>().into_iter().cloned().collect::<Vec<String>>();
        let labels = match group_by {
            GroupBy::Model => aliases.labels,
            GroupBy::Project => directories.labels(DirectoryKind::Project, &ids())?,
            GroupBy::ApiKey => directories.labels(DirectoryKind::ApiKey, &ids())?,
            GroupBy::User => directories.labels(DirectoryKind::User, &ids())?,
            GroupBy::Mapping | GroupBy::Provider | GroupBy::Application | GroupBy::Mode => HashMap::new(),
        };
        Ok(Breakdown { cells, keys, labels, group_by })
    }

    fn entry(&self, key: Option<&String>, totals: Totals) -> Entry {
        let (kind, label) = match key {
            Some(key) => (Kind::Named, self.labels.get(key).unwrap_or(key).clone()),
            None if self.group_by.is_ownership() => (Kind::Unattributed, "Unattributed".to_string()),
            None => (Kind::Unknown, "unknown".to_string()),
        };
        Entry { key: key.cloned(), label, kind, totals }
    }

    fn sum<'a>(&'a self, mut group: impl FnMut(&'a Cell) -> usize) -> Result<HashMap<(usize, Option<&'a String>), Totals>> {
        let mut sums: HashMap<(usize, Option<&String>), Totals> = HashMap::new();
        for (cell, key) in self.cells.iter().zip(&self.keys) {
            sums.entry((group(cell), key.as_ref())).or_default().add(&cell.totals)?;
        }
        sums.retain(|_, totals| !totals.is_zero());
        Ok(sums)
    }

    /// The sum over all days: its entries, in order.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let sums = self.sum(|_| 0)?;
        let mut entries: Vec<Entry> = sums.into_iter().map(|((_, key), totals)| self.entry(key, totals)).collect();
        entries.sort_by(order);
        Ok(entries)
    }

    /// All days of the range, an idle one without entries; entries are in order.
    pub fn days(&self, range: &DateRange) -> Result<Vec<Day>> {
        let mut days: Vec<Day> = range.dates().map(|date| Day { date, totals: Totals::default(), entries: Vec::new() }).collect();
        for ((day, key), totals) in self.sum(|cell| cell.day)? {
            let Some(day) = days.get_mut(day) else { return Err(Error::internal("a cell lies outside the range")) };
            day.totals.add(&totals)?;
            day.entries.push(self.entry(key, totals));
        }
        for day in &mut days {
            day.entries.sort_by(order);
        }
        Ok(days)
    }
}

/// The sum of everything.
pub fn total(cells: &[Cell]) -> Result<Totals> {
    let mut sum = Totals::default();
    for cell in cells {
        sum.add(&cell.totals)?;
    }
    Ok(sum)
}
