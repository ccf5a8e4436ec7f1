//! Every function SQL can call: parse, check, call, answer. Their declarations are in sql/, where volatility, rights and comments are
//! written out.

mod activity;
mod answer;
mod bucket;
pub mod operate;
mod source;
