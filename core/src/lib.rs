//! The parts of llm_analytics that need no PostgreSQL: what a bucket is, what is measured, how money adds up, which level answers
//! which question, and how a request is spelled. Nothing here imports pgrx, so all of it is tested with plain `cargo test`.

pub mod bucket;
pub mod delta;
pub mod dimension;
pub mod directory;
pub mod field;
pub mod level;
pub mod measure;
pub mod money;
pub mod packed;
pub mod request;
pub mod window;
pub mod zone;
