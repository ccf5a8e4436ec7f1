//! llm-dashboard against real databases: what it answers, whom it believes, what it withstands.

mod attacks;
mod connections;
mod endpoints;
mod harness;
mod load;
mod questions;
mod stalled;
mod start;
mod tokens;
