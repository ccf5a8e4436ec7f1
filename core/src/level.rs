//! The levels of the rollup: which dimensions each keeps, and which one answers a question most cheaply.

use crate::dimension::Dimension::{self, ApiKey, Mapping, Mode, Project, Provider, User};

/// One level: a set of dimensions that its series keep. Adding a level is one entry in [`Level::READ`] (and a partition in the
/// install script); fold, rebuild, verify and the readers follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// The number in `llm.rollup.level` and `llm.series.level`.
    pub id: i16,
    pub name: &'static str,
    pub dimensions: &'static [Dimension],
    /// Whether series are kept apart by source.
    pub by_source: bool,
}

const ALL: &[Dimension] = &Dimension::ALL;

pub const DETAIL: Level = Level { id: 0, name: "detail", dimensions: ALL, by_source: true };
/// What was deleted in keep mode; read by verify and rebuild only.
pub const KEPT: Level = Level { id: 5, name: "kept", dimensions: ALL, by_source: true };
pub const PROJECT_MODEL: Level = Level { id: 1, name: "project_model", dimensions: &[Project, Mapping, Provider, Mode], by_source: false };
pub const MODEL: Level = Level { id: 2, name: "model", dimensions: &[Mapping, Provider, Mode], by_source: false };
pub const KEY: Level = Level { id: 3, name: "key", dimensions: &[Project, ApiKey, User, Mode], by_source: false };
pub const PROJECT: Level = Level { id: 4, name: "project", dimensions: &[Project, Mode], by_source: false };

impl Level {
    /// The levels that answer questions, the cheapest first.
    pub const READ: [Level; 5] = [PROJECT, MODEL, KEY, PROJECT_MODEL, DETAIL];
    /// The levels that are derived from detail.
    pub const COARSE: [Level; 4] = [PROJECT, MODEL, KEY, PROJECT_MODEL];
    /// All levels.
    pub const EVERY: [Level; 6] = [DETAIL, PROJECT_MODEL, MODEL, KEY, PROJECT, KEPT];

    /// The cheapest level that keeps every dimension of `needed`.
    pub fn cheapest(needed: &[Dimension]) -> Level {
        Level::READ.into_iter().find(|level| needed.iter().all(|d| level.dimensions.contains(d))).unwrap_or(DETAIL)
    }

    pub fn keeps(&self, dimension: Dimension) -> bool {
        self.dimensions.contains(&dimension)
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
            (&[][..], PROJECT),
            (&[Project], PROJECT),
            (&[Mode], PROJECT),
            (&[Mapping], MODEL),
            (&[Provider, Mapping], MODEL),
            (&[ApiKey], KEY),
            (&[User, ApiKey, Project], KEY),
            (&[Project, Mapping], PROJECT_MODEL),
            (&[ApiKey, Mapping], DETAIL),
            (&[Dimension::Application], DETAIL),
        ] {
            assert_eq!(Level::cheapest(needed), level, "{needed:?}");
        }
    }
}
