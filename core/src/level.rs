//! The levels of the rollup: which dimensions each keeps at which grain, and which one answers a question most cheaply.

use crate::bucket::{MICROS_PER_DAY, MICROS_PER_HOUR, Micros};
use crate::dimension::Dimension::{self, ApiKey, Mapping, Mode, Project, Provider, User};

/// How much time a row of a level holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grain {
    /// A bucket: of these a local day of any zone is put together.
    Bucket,
    /// A day of UTC: most of a local day; buckets make up for its ends.
    Day,
}

impl Grain {
    /// The most that a row holds.
    pub fn length(self) -> Micros {
        match self {
            Grain::Bucket => MICROS_PER_HOUR,
            Grain::Day => MICROS_PER_DAY,
        }
    }

    /// The start of the row that holds a bucket.
    pub fn start(self, bucket: Micros) -> Micros {
        match self {
            Grain::Bucket => bucket,
            Grain::Day => bucket - bucket.rem_euclid(MICROS_PER_DAY),
        }
    }
}

/// One level: a set of dimensions that its series keep, and a grain. Adding a level is one entry in [`Level::EVERY`] (and a partition in the
/// install script); fold, rebuild, verify and the readers follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// The number in `llm.rollup.level`.
    pub id: i16,
    pub name: &'static str,
    pub series: &'static Series,
    pub grain: Grain,
}

/// A set of dimensions by which series are interned.
#[derive(PartialEq, Eq, Debug)]
pub struct Series {
    /// The number in `llm.series.level`.
    pub id: i16,
    pub dimensions: &'static [Dimension],
    /// Whether series are kept apart by source.
    pub by_source: bool,
}

impl Series {
    pub fn keeps(&self, dimension: Dimension) -> bool {
        self.dimensions.contains(&dimension)
    }
}

static BY_ALL: Series = Series { id: 0, dimensions: &Dimension::ALL, by_source: true };
static BY_PROJECT_MODEL: Series = Series { id: 1, dimensions: &[Project, Mapping, Provider, Mode], by_source: false };
static BY_MODEL: Series = Series { id: 2, dimensions: &[Mapping, Provider, Mode], by_source: false };
static BY_KEY: Series = Series { id: 3, dimensions: &[Project, ApiKey, User, Mode], by_source: false };
static BY_PROJECT: Series = Series { id: 4, dimensions: &[Project, Mode], by_source: false };
static KEPT_SERIES: Series = Series { id: 5, dimensions: &Dimension::ALL, by_source: true };

pub const DETAIL: Level = Level { id: 0, name: "detail", series: &BY_ALL, grain: Grain::Bucket };
/// What was deleted in keep mode; read by verify and rebuild only.
pub const KEPT: Level = Level { id: 5, name: "kept", series: &KEPT_SERIES, grain: Grain::Bucket };
// By bucket no coarser series are worth their rows: a route or a project is used in most hours by somebody (docs/decisions.md has the measurement).
pub const DETAIL_DAY: Level = Level { id: 10, name: "detail_day", series: &BY_ALL, grain: Grain::Day };
pub const PROJECT_MODEL_DAY: Level = Level { id: 11, name: "project_model_day", series: &BY_PROJECT_MODEL, grain: Grain::Day };
pub const MODEL_DAY: Level = Level { id: 12, name: "model_day", series: &BY_MODEL, grain: Grain::Day };
pub const KEY_DAY: Level = Level { id: 13, name: "key_day", series: &BY_KEY, grain: Grain::Day };
pub const PROJECT_DAY: Level = Level { id: 14, name: "project_day", series: &BY_PROJECT, grain: Grain::Day };

impl Level {
    /// The levels that are derived from detail, the cheapest to read first.
    pub const COARSE: [Level; 5] = [PROJECT_DAY, MODEL_DAY, KEY_DAY, PROJECT_MODEL_DAY, DETAIL_DAY];
    /// All levels; those of the same series side by side.
    pub const EVERY: [Level; 7] = [DETAIL, DETAIL_DAY, PROJECT_MODEL_DAY, MODEL_DAY, KEY_DAY, PROJECT_DAY, KEPT];

    /// The cheapest level of days that keeps every dimension of `needed`; what days do not tell is in [`DETAIL`].
    pub fn cheapest(needed: &[Dimension]) -> Level {
        let keeps_all = |level: &Level| needed.iter().all(|dimension| level.series.keeps(*dimension));
        // The last keeps all.
        Level::COARSE.into_iter().find(keeps_all).unwrap_or(DETAIL_DAY)
    }

    /// The partition of `llm.rollup` that holds it.
    pub fn table(&self) -> String {
        format!("llm._rollup_{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_go_to_the_cheapest_level_that_is_exact() {
        for (needed, level) in [
            (&[][..], PROJECT_DAY),
            (&[Project], PROJECT_DAY),
            (&[Mode], PROJECT_DAY),
            (&[Mapping], MODEL_DAY),
            (&[Provider, Mapping], MODEL_DAY),
            (&[ApiKey], KEY_DAY),
            (&[User, ApiKey, Project], KEY_DAY),
            (&[Project, Mapping], PROJECT_MODEL_DAY),
            (&[ApiKey, Mapping], DETAIL_DAY),
            (&[Dimension::Application], DETAIL_DAY),
        ] {
            assert_eq!(Level::cheapest(needed), level, "{needed:?}");
        }
    }

    #[test]
    fn levels_of_the_same_series_lie_side_by_side() {
        let mut seen: Vec<i16> = Level::EVERY.iter().map(|level| level.series.id).collect();
        seen.dedup();
        let mut once = seen.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(seen.len(), once.len());
    }
}
