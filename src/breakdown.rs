//! Groups of usage into breakdowns: which key a group counts for, what the key is called, and the order of an answer.

use crate::directory::Directories;
use crate::error::{Error, Result};
use crate::query::{self, See};
use crate::read::{Group, Totals, merge};
use chrono::NaiveDate;
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::directory::Kind as DirectoryKind;
use llm_analytics_core::request::{DateRange, GroupBy};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// What usage is broken down by, and what it is called.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub label: String,
    /// None: usage without the dimension.
    pub key: Option<String>,
    pub kind: Kind,
}

/// One line of a breakdown.
pub struct Entry {
    pub name: Name,
    pub totals: Totals,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Named,
    Unattributed,
    Unknown,
    /// The rest below `top`.
    Other,
}

/// One day of an answer.
pub struct Day {
    pub date: NaiveDate,
    pub totals: Totals,
    pub names: Rc<Vec<Name>>,
    /// By position in `names`.
    pub entries: Vec<(usize, Totals)>,
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

/// Usage by key.
pub struct Breakdown {
    /// In order, what stands for the rest last.
    names: Rc<Vec<Name>>,
    /// Of each name: days, counted from 0, and what was used on them; in order, each at most once.
    days: Vec<Vec<(usize, Totals)>>,
}

impl Breakdown {
    /// `dimensions` are those of the groups; they hold those of `group_by`.
    pub fn new(directories: &Directories, groups: &[Group], dimensions: &[Dimension], group_by: GroupBy) -> Result<Breakdown> {
        let at = group_by
            .dimensions()
            .iter()
            .map(|wanted| dimensions.iter().position(|known| known == wanted).ok_or_else(|| Error::internal("a dimension was not read")))
            .collect::<Result<Vec<usize>>>()?;
        let aliases = if group_by == GroupBy::Model { Aliases::load()? } else { Aliases::default() };
        let owners = if group_by == GroupBy::User {
            let keys: HashSet<&String> =
                groups.iter().filter(|group| group.values[at[0]].is_empty()).map(|group| &group.values[at[1]]).collect();
            directories.owners(&keys.into_iter().filter(|key| !key.is_empty()).cloned().collect::<Vec<_>>())?
        } else {
            HashMap::new()
        };
        let key = |group: &Group| {
            let first = &group.values[at[0]];
            match group_by {
                GroupBy::Model => aliases.canonical(first),
                GroupBy::Mapping => {
                    let provider = &group.values[at[1]];
                    if first.is_empty() || provider.is_empty() || first.contains('/') {
                        first.clone()
                    } else {
                        format!("{provider}/{first}")
                    }
                }
                GroupBy::User if first.is_empty() => owners.get(&group.values[at[1]]).cloned().unwrap_or_default(),
                _ => first.clone(),
            }
        };
        let mut by_key: HashMap<Option<String>, Vec<&Group>> = HashMap::new();
        for group in groups {
            by_key.entry(Some(key(group)).filter(|key| !key.is_empty())).or_default().push(group);
        }
        let ids = || by_key.keys().flatten().cloned().collect::<Vec<String>>();
        let labels = match group_by {
            GroupBy::Model => aliases.labels,
            GroupBy::Project => directories.labels(DirectoryKind::Project, &ids())?,
            GroupBy::ApiKey => directories.labels(DirectoryKind::ApiKey, &ids())?,
            GroupBy::User => directories.labels(DirectoryKind::User, &ids())?,
            GroupBy::Mapping | GroupBy::Provider | GroupBy::Application | GroupBy::Mode => HashMap::new(),
        };
        let mut named: Vec<(Name, Vec<&Group>)> = by_key.into_iter().map(|(key, groups)| (name(key, &labels, group_by), groups)).collect();
        named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut breakdown = Breakdown { names: Rc::default(), days: Vec::with_capacity(named.len()) };
        let mut names = Vec::with_capacity(named.len());
        for (name, groups) in named {
            let mut days: Vec<(usize, Totals)> = groups.iter().flat_map(|group| group.days.iter().cloned()).collect();
            if groups.len() > 1 {
                merge(&mut days)?;
            }
            names.push(name);
            breakdown.days.push(days);
        }
        breakdown.names = Rc::new(names);
        Ok(breakdown)
    }

    fn sums(&self) -> Result<Vec<(usize, Totals)>> {
        let mut sums = Vec::with_capacity(self.days.len());
        for (at, days) in self.days.iter().enumerate() {
            let mut sum = Totals::default();
            for (_, totals) in days {
                sum.add(totals)?;
            }
            if !sum.is_zero() {
                sums.push((at, sum));
            }
        }
        self.sort(&mut sums);
        Ok(sums)
    }

    /// By cost descending, then label, then key; what stands for the rest last.
    fn sort(&self, entries: &mut [(usize, Totals)]) {
        entries.sort_unstable_by_key(|(at, totals)| (self.names[*at].kind == Kind::Other, Reverse(totals.cost), *at));
    }

    /// The sum over all days: its entries, in order.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        Ok(self.sums()?.into_iter().map(|(at, totals)| Entry { name: self.names[at].clone(), totals }).collect())
    }

    /// Folds all but the first `top` entries into one that stands for the rest.
    pub fn keep(&mut self, top: usize) -> Result<()> {
        let kept: HashSet<usize> = self.sums()?.into_iter().take(top).map(|(at, _)| at).collect();
        if kept.len() == self.names.len() {
            return Ok(());
        }
        let (mut names, mut days, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for (at, of_name) in std::mem::take(&mut self.days).into_iter().enumerate() {
            if kept.contains(&at) {
                names.push(self.names[at].clone());
                days.push(of_name);
            } else {
                rest.extend(of_name);
            }
        }
        merge(&mut rest)?;
        names.push(Name { label: "Other".into(), key: None, kind: Kind::Other });
        days.push(rest);
        (self.names, self.days) = (Rc::new(names), days);
        Ok(())
    }

    /// All days of the range, an idle one without entries; entries are in order.
    pub fn days(&self, range: &DateRange) -> Result<Vec<Day>> {
        let day = |date| Day { date, totals: Totals::default(), names: self.names.clone(), entries: Vec::new() };
        let mut days: Vec<Day> = range.dates().map(day).collect();
        for (at, of_name) in self.days.iter().enumerate() {
            for (day, totals) in of_name.iter().filter(|(_, totals)| !totals.is_zero()) {
                let Some(day) = days.get_mut(*day) else { return Err(Error::internal("usage lies outside the range")) };
                day.totals.add(totals)?;
                day.entries.push((at, totals.clone()));
            }
        }
        for day in &mut days {
            self.sort(&mut day.entries);
        }
        Ok(days)
    }
}

fn name(key: Option<String>, labels: &HashMap<String, String>, group_by: GroupBy) -> Name {
    let (kind, label) = match &key {
        Some(key) => (Kind::Named, labels.get(key).unwrap_or(key).clone()),
        None if group_by.is_ownership() => (Kind::Unattributed, "Unattributed".to_string()),
        None => (Kind::Unknown, "unknown".to_string()),
    };
    Name { label, key, kind }
}

/// The sum of everything.
pub fn total(groups: &[Group]) -> Result<Totals> {
    let mut sum = Totals::default();
    for (_, totals) in groups.iter().flat_map(|group| &group.days) {
        sum.add(totals)?;
    }
    Ok(sum)
}
