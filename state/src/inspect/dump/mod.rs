//! `state dump`. In: what both services answer, or what their databases hold. Out: a table for people, JSON for programs.

mod table;
mod components;
mod batch_table;
mod batch_line;
mod overview;
mod batch;
mod load;

pub use batch::{BatchDump, Event, Happening};
pub(crate) use batch_line::BatchLine;
pub(crate) use components::{describe, under_way};
pub(crate) use load::refused;
pub(crate) use overview::read_loads;
pub use overview::{Dump, Pending, ask_ingester, ask_producer};
pub(crate) use table::held_back;
