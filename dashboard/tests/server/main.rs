//! llm-dashboard against real databases: what it answers, whom it believes, what it withstands.

mod attacks;
mod endpoints;
mod harness;
mod load;
mod start;
mod tokens;
