//! Every function SQL can call: parse, check, call, answer. Their declarations are in sql/, where volatility, rights and comments are
//! written out.

mod access;
mod activity;
mod answer;
mod arguments;
mod bucket;
mod directory;
mod drivers;
mod lists;
mod members;
pub mod operate;
mod page;
mod retention;
mod source;
