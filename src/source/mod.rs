//! Sources: which table is a log, and how its rows are read.
//!
//! `mapping` is what is kept, `preset` recognises known tables, `expression` turns SQL text into something that can be evaluated,
//! `reading` is the one reading of a log row, `evaluation` reads one out of a slot, `others` scans partitions of other owners, `attach` puts it all in place,
//! `trigger` says when its triggers fire, `leaf` settles tables that come and go.

pub mod attach;
pub mod column;
pub mod evaluation;
pub mod expression;
pub mod leaf;
pub mod log;
pub mod mapping;
mod others;
pub mod preset;
pub mod reading;
pub mod trigger;
