//! Helpers shared by the tests that run against a real server: a database per test, the host tables of
//! the reference shapes, a seeded random source, and the oracle that computes every number from the log alone.

pub mod answers;
pub mod cluster;
pub mod db;
pub mod decimal;
pub mod hostile;
pub mod hosts;
pub mod ledger;
pub mod model;
pub mod ops;
pub mod oracle;
pub mod rng;
pub mod world;
